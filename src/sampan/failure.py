"""An error as a document, so that one process can tell another what went wrong, causes and all. Hot path."""

from sampan import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

_MAX_CHAIN = 8
_MAX_TEXT = 1000


def describe(error: BaseException) -> "list[Document]":
    """Return `error` and its chain of causes, for `rebuild`."""
    chain: list[Document] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _MAX_CHAIN:
        chain.append(_described(current))
        current = current.__cause__
    return chain


def rebuild(chain: "list[Document]", otherwise: str) -> errors.SampanError:
    """Return the error that `describe` described, to be raised; its causes hang on it as they did.

    What was none of ours is wrapped in an Internal that says `otherwise`. Raises KeyError and TypeError for a chain
    that `describe` did not make.
    """
    rebuilt = [_rebuilt(link) for link in chain]
    for position in range(1, len(rebuilt)):
        rebuilt[position - 1].__cause__ = rebuilt[position]
    first = rebuilt[0]
    if isinstance(first, errors.SampanError):
        return first
    wrapped = errors.Internal(otherwise)
    wrapped.__cause__ = first
    return wrapped


def _described(error: BaseException) -> "Document":
    if isinstance(error, errors.SampanError):
        return {"kind": type(error).__name__, "what": error.what, "hints": list(error.hints)}
    if isinstance(error, OSError):
        path = error.filename if isinstance(error.filename, str) else None
        return {"kind": "OSError", "what": error.strerror or "", "errno": error.errno, "path": path}
    return {"kind": "Exception", "what": f"{type(error).__name__}: {error}"[:_MAX_TEXT]}


def _rebuilt(link: "Document") -> BaseException:
    kind = link["kind"]
    if kind == "OSError":
        return OSError(link["errno"], link["what"], link["path"])
    leaf = getattr(errors, kind, None)
    if isinstance(leaf, type) and issubclass(leaf, errors.SampanError):
        return leaf(link["what"], hints=tuple(link["hints"]))
    return RuntimeError(link["what"])
