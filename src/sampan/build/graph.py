"""What a build consists of: vertices, each named by a digest of what it does and of what it is made from. Pure, hot.

A vertex knows no executor: `kind` names the one that makes it, `options` is all that it may depend on besides its
inputs. Two vertices with one digest are one piece of work, in whatever project, on whatever day.
"""

from sampan.document import render
from sampan.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.document import Document

# Part of every digest: a change in how vertices are made into layers changes it.
VERSION = 1


class Vertex:
    """One step. `subject` is for people and not part of the digest; `options` is what `document.render` can print."""

    __slots__ = ("digest", "inputs", "kind", "options", "subject")

    def __init__(self, kind: str, subject: str, options: "Document", inputs: "tuple[Vertex, ...]" = ()) -> None:
        self.kind = kind
        self.subject = subject
        self.options = options
        self.inputs = inputs
        parts: Document = {
            "version": VERSION,
            "kind": kind,
            "options": options,
            "inputs": [item.digest.hex for item in inputs],
        }
        self.digest: Digest = Digest.of(render(parts).encode())


def ordered(targets: "Sequence[Vertex]") -> "Iterator[Vertex]":
    """Yield every vertex that `targets` need, inputs before what is made from them, each once."""
    seen = set()
    stack = [(vertex, False) for vertex in reversed(targets)]
    while stack:
        vertex, is_ready = stack.pop()
        if is_ready:
            yield vertex
        elif vertex.digest not in seen:
            seen.add(vertex.digest)
            stack.append((vertex, True))
            stack += [(item, False) for item in reversed(vertex.inputs)]
