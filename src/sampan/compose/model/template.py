"""Variables in a string: `$NAME`, `${NAME}` and its forms with a default, an error or a replacement. Pure.

    ${NAME:-word}  ${NAME-word}      word where NAME is empty or unset; where it is unset
    ${NAME:?word}  ${NAME?word}      an error that says word
    ${NAME:+word}  ${NAME+word}      word where NAME is set and not empty; where it is set
    $$                               a dollar

A word may hold variables itself (Compose specification, interpolation). A text is parsed once into parts, so that what
it would ask for is known without asking (`variables`).
"""

from collections.abc import Callable, Iterator

from sampan.errors import InvalidArgument
from sampan.frozen import frozen

DEPTH = 16
BYTES = 1 << 20
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_REST = _FIRST | frozenset("0123456789")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")

Lookup = Callable[[str], str | None]


class Malformed(ValueError):
    """The text is no template; the message says why in a clause."""


@frozen
class Variable:
    """One use of a variable; `operator` is empty where it has no word."""

    name: str
    operator: str = ""
    word: "Template" = ()


Template = tuple[str | Variable, ...]


def parse(text: str) -> Template:
    """Return the parts of a text; raises Malformed."""
    parts, _ = _parts(text, 0, closing=False, depth=0)
    return parts


def variables(template: Template) -> Iterator[Variable]:
    """Yield every variable of a template, those within words too."""
    for part in template:
        if isinstance(part, Variable):
            yield part
            yield from variables(part.word)


def expand(template: Template, lookup: Lookup, on_unset: Callable[[str], None]) -> str:
    """Return the text with its variables filled in; an unset one without a default is told to `on_unset` and empty.

    Raises InvalidArgument for `${NAME:?…}`, and where the result grows beyond BYTES.
    """
    pieces, size = [], 0
    for part in template:
        piece = part if isinstance(part, str) else _value(part, lookup, on_unset)
        size += len(piece)
        if size > BYTES:
            raise InvalidArgument(f"a text grows beyond {BYTES} characters once its variables are filled in")
        pieces.append(piece)
    return "".join(pieces)


def _value(variable: Variable, lookup: Lookup, on_unset: Callable[[str], None]) -> str:
    value = lookup(variable.name)
    # A colon counts an empty value as none.
    is_set = bool(value) if variable.operator.startswith(":") else value is not None
    match variable.operator[-1:]:
        case "-":
            return value or "" if is_set else expand(variable.word, lookup, on_unset)
        case "+":
            return expand(variable.word, lookup, on_unset) if is_set else ""
        case "?" if not is_set:
            said = expand(variable.word, lookup, on_unset)
            state = "is not set" if value is None else "is empty"
            raise InvalidArgument(
                f"the variable `{variable.name}` {state}" + (f": {said}" if said else ""),
                hints=(f"set it in the shell, or with a line `{variable.name}=…` in `.env`",),
            )
        case _:
            if value is None:
                on_unset(variable.name)
            return value or ""


def _parts(text: str, start: int, *, closing: bool, depth: int) -> tuple[Template, int]:
    """Read parts from `start` on, up to the end or (`closing`) the brace that closes; return them and where that is."""
    if depth > DEPTH:
        raise Malformed(f"variables are nested deeper than {DEPTH} levels")
    parts: list[str | Variable] = []
    at = start
    while at < len(text):
        dollar = text.find("$", at)
        brace = text.find("}", at) if closing else -1
        if brace >= 0 and (dollar < 0 or brace < dollar):
            return (*parts, text[at:brace]), brace
        if dollar < 0:
            break
        if dollar > at:
            parts.append(text[at:dollar])
        part, at = _after_dollar(text, dollar + 1, depth)
        parts.append(part)
    if closing:
        raise Malformed("a `${` is not closed")
    if at < len(text):
        parts.append(text[at:])
    return tuple(parts), len(text)


def _after_dollar(text: str, at: int, depth: int) -> tuple[str | Variable, int]:
    following = text[at : at + 1]
    if following == "$":
        return "$", at + 1
    if following in _FIRST and following:
        end = _name_end(text, at)
        return Variable(text[at:end]), end
    if following != "{":
        raise Malformed("a `$` stands for itself only as `$$`")
    end = _name_end(text, at + 1)
    name = text[at + 1 : end]
    if not name or name[0] not in _FIRST:
        raise Malformed("no name of a variable follows `${`")
    if text[end : end + 1] == "}":
        return Variable(name), end + 1
    operator = next((word for word in _OPERATORS if text.startswith(word, end)), "")
    if not operator:
        raise Malformed(f"`${{{name}` is neither closed nor followed by `:-`, `:?` or `:+`")
    word, closed = _parts(text, end + len(operator), closing=True, depth=depth + 1)
    return Variable(name, operator, word), closed + 1


def _name_end(text: str, at: int) -> int:
    while at < len(text) and text[at] in _REST:
        at += 1
    return at
