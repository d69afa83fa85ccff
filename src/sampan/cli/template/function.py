"""What templates may call: text/template's functions and docker's. Each returns a value or raises Misuse."""

from collections.abc import Callable

from sampan.cli.template import verb
from sampan.cli.template.fault import Misuse
from sampan.cli.template.value import NOTHING, Value, as_json, decoded, encoded, is_true, text, type_name

# Evaluated argument by argument, by the evaluator: they end at the first one that decides.
LAZY = ("and", "or")
PAD_AT_MOST = 10_000


def _not(value: Value) -> Value:
    return not is_true(value)


def _eq(first: Value, *others: Value) -> Value:
    return any(_same(first, other) for other in others)


def _ne(first: Value, second: Value) -> Value:
    return not _same(first, second)


def _lt(first: Value, second: Value) -> Value:
    _check_order(first, second)
    return first < second


def _le(first: Value, second: Value) -> Value:
    return _lt(first, second) or _same(first, second)


def _gt(first: Value, second: Value) -> Value:
    return not _le(first, second)


def _ge(first: Value, second: Value) -> Value:
    return not _lt(first, second)


def _same(first: Value, second: Value) -> bool:
    """Compare as Go does: of different kinds is an error, except with nil."""
    if first in (None, NOTHING) or second in (None, NOTHING):
        return first in (None, NOTHING) and second in (None, NOTHING)
    kinds = type_name(first), type_name(second)
    if kinds[0] != kinds[1] or kinds[0] in {"list", "map", "struct"}:
        raise Misuse(f"{kinds[0]} and {kinds[1]} cannot be compared")
    return bool(first == second)


def _check_order(first: Value, second: Value) -> None:
    kinds = type_name(first), type_name(second)
    if kinds[0] != kinds[1] or kinds[0] not in {"int", "float64", "string"}:
        raise Misuse(f"{kinds[0]} and {kinds[1]} have no order")


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        match value:
            case dict():
                value = value[_string(key)] if _string(key) in value else _zero(value)
            case str() | list():
                sequence = encoded(value) if isinstance(value, str) else value
                number = _int(key)
                if not 0 <= number < len(sequence):
                    raise Misuse(f"the index {number} is out of range, there are {len(sequence)}")
                value = sequence[number]
            case _:
                raise Misuse(f"{_a(value)} cannot be indexed")
    return value


def _zero(values: dict[str, Value]) -> Value:
    """Return what Go's maps give for a key that they have not: the zero of what is in them, as far as that shows."""
    kinds = {type_name(one) for one in values.values() if one is not None}
    return {frozenset({"list"}): [], frozenset({"struct"}): None, frozenset({"map"}): {}}.get(frozenset(kinds), "")


def _slice(value: Value, *bounds: Value) -> Value:
    if not isinstance(value, str | list):
        raise Misuse(f"{_a(value)} cannot be sliced")
    sequence = encoded(value) if isinstance(value, str) else value
    first, last = [*map(_int, bounds[:2]), *(0, len(sequence))[len(bounds[:2]) :]]
    if len(bounds) == 3 and isinstance(value, str):
        raise Misuse("a string is sliced by two numbers at most")
    if not 0 <= first <= last <= len(sequence) or (len(bounds) == 3 and not last <= _int(bounds[2]) <= len(sequence)):
        raise Misuse(f"the slice {first}:{last} is out of range, there are {len(sequence)}")
    return decoded(sequence[first:last]) if isinstance(sequence, bytes) else sequence[first:last]


def _len(value: Value) -> Value:
    if isinstance(value, str):
        return len(encoded(value))
    if isinstance(value, list | dict):
        return len(value)
    raise Misuse(f"{_a(value)} has no length")


def _print(*values: Value) -> Value:
    """Join as fmt.Sprint does: a space between two values where neither is a string."""
    printed = ""
    for i, value in enumerate(values):
        is_apart = i > 0 and not isinstance(values[i - 1], str) and not isinstance(value, str)
        printed += (" " if is_apart else "") + text(value)
    return printed


def _println(*values: Value) -> Value:
    return " ".join(map(text, values)) + "\n"


def _printf(form: Value, *values: Value) -> Value:
    return verb.printf(_string(form), values)


def _split(value: Value, separator: Value) -> Value:
    word, between = _string(value), _string(separator)
    return word.split(between) if between else list(word)


def _join(values: Value, separator: Value) -> Value:
    if not isinstance(values, list):
        raise Misuse(f"`join` takes a list of strings, not {_a(values)}")
    return _string(separator).join(map(_string, values))


def _title(value: Value) -> Value:
    word = _string(value)
    return "".join(c.upper() if not _is_inside(word[i - 1 : i]) else c for i, c in enumerate(word))


def _is_inside(before: str) -> bool:
    """Return whether a letter after `before` is inside of a word (strings.Title)."""
    return bool(before) and (before.isalnum() or before == "_" or (ord(before) > 127 and not before.isspace()))


def _lower(value: Value) -> Value:
    return _string(value).lower()


def _upper(value: Value) -> Value:
    return _string(value).upper()


def _pad(value: Value, before: Value, after: Value) -> Value:
    if not (0 <= _int(before) <= PAD_AT_MOST and 0 <= _int(after) <= PAD_AT_MOST):
        raise Misuse(f"`pad` takes numbers from 0 to {PAD_AT_MOST}")
    return _string(value) and " " * before + _string(value) + " " * after


def _truncate(value: Value, length: Value) -> Value:
    if _int(length) < 0:
        raise Misuse("`truncate` takes no negative length")
    return decoded(encoded(_string(value))[:length])


# text/template's htmlEscaper, and what its jsEscaper spells.
_HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _html(*values: Value) -> Value:
    return "".join(_HTML.get(c, c) for c in _words(values))


def _js(*values: Value) -> Value:
    return "".join(_JS.get(c) or (c if c.isprintable() else f"\\u{ord(c):04X}") for c in _words(values))


def _urlquery(*values: Value) -> Value:
    from urllib.parse import quote_plus  # few ask for it

    return quote_plus(encoded(_words(values)), safe="")


def _words(values: tuple[Value, ...]) -> str:
    """Return the arguments as `print` prints them."""
    printed = _print(*values)
    return _string(printed)


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise Misuse(f"a string is wanted, not {_a(value)}")
    return value


def _int(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Misuse(f"a whole number is wanted, not {_a(value)}")
    return value


def _a(value: Value) -> str:
    name = type_name(value)
    return name if name == "nil" else f"{'an' if name == 'int' else 'a'} {name}"


def _unchanged(value: Value, *_rest: Value) -> Value:
    return value


# Name -> function, fewest and most arguments (None: any number).
Entry = tuple[Callable[..., Value], int, int | None]
FUNCTIONS: dict[str, Entry] = {
    "not": (_not, 1, 1),
    "eq": (_eq, 2, None),
    "ne": (_ne, 2, 2),
    "lt": (_lt, 2, 2),
    "le": (_le, 2, 2),
    "gt": (_gt, 2, 2),
    "ge": (_ge, 2, 2),
    "index": (_index, 1, None),
    "slice": (_slice, 1, 4),
    "len": (_len, 1, 1),
    "print": (_print, 0, None),
    "println": (_println, 0, None),
    "printf": (_printf, 1, None),
    "json": (as_json, 1, 1),
    "split": (_split, 2, 2),
    "join": (_join, 2, 2),
    "title": (_title, 1, 1),
    "lower": (_lower, 1, 1),
    "upper": (_upper, 1, 1),
    "pad": (_pad, 3, 3),
    "truncate": (_truncate, 2, 2),
    "html": (_html, 0, None),
    "js": (_js, 0, None),
    "urlquery": (_urlquery, 0, None),
}
# In a table's first line a column is called by its name, whatever is done to its values.
HEADERS: dict[str, Entry] = FUNCTIONS | {
    name: (_unchanged, *FUNCTIONS[name][1:])
    for name in ("json", "split", "join", "title", "lower", "upper", "truncate")
}
