"""JSON documents on the hot path: the C halves of `json`, without the 6 ms that importing `json` costs.

`json` spends that time on `re` and its pure Python fall-backs; the scanner and encoder in C need neither. Output is
deterministic: keys sorted, no spaces, ASCII only, so equal documents have equal bytes. For files that Sampan wrote;
content from outside goes through `json` where the parse error's position is worth its import.
"""

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # A JSON object. Any, since whoever takes a value out narrows it at once.
    Document = dict[str, Any]


class Malformed(ValueError):
    """The text is not one JSON object."""


class _Rules:
    """What `make_scanner` reads its rules from: the attributes of json.decoder.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


_scan = make_scanner(_Rules())  # type: ignore[arg-type]  # typeshed types the context as the scanner itself


def parse(text: str) -> "Document":
    """Parse `text`, one JSON object with no white space before it; raise `Malformed` for anything else."""
    try:
        value, end = _scan(text, 0)
    # NOTE(json.decoder not imported): the C scanner then raises SystemError where it would raise JSONDecodeError.
    except (StopIteration, SystemError, ValueError, RecursionError) as error:
        msg = "not a JSON document"
        raise Malformed(msg) from error
    if not isinstance(value, dict) or text[end:].strip():
        msg = "not one JSON object"
        raise Malformed(msg)
    return value


def parse_list(text: str) -> "list[Any]":
    """Parse `text`, one JSON array with no white space before it; raise `Malformed` for anything else."""
    try:
        value, end = _scan(text, 0)
    except (StopIteration, SystemError, ValueError, RecursionError) as error:
        msg = "not a JSON array"
        raise Malformed(msg) from error
    if not isinstance(value, list) or text[end:].strip():
        msg = "not one JSON array"
        raise Malformed(msg)
    return value


def escape(text: str) -> str:
    """Print a string as JSON, quotes included."""
    return encode_basestring_ascii(text)


def render(value: object) -> str:
    """Print `value` (dicts with string keys, lists, strings, numbers, booleans, None) as one line of JSON."""
    return "".join(make_encoder({}, _refuse, encode_basestring_ascii, None, ":", ",", True, False, False)(value, 0))


def _refuse(value: object) -> object:
    msg = f"{type(value).__name__} has no JSON form"
    raise TypeError(msg)
