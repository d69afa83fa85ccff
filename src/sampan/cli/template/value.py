"""The values of templates, and what Go's fmt prints of them.

Theory: JSON's values with distinctions that Go has and JSON has not. A `Struct` has a fixed set of fields, so that one
that is not there is a mistake; a dict is a map, in which any key may be missing. What a map does not have is `NOTHING`,
printed `<no value>`, while a pointer to nothing is None, printed `<nil>`. A list or map may be nil: empty, but `null`
in JSON.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

# Any, since a template's value is whatever JSON has.
Value = Any
_SECOND = 1_000_000_000


class Nothing:
    """What is not there."""


NOTHING = Nothing()


class NilList(list[Value]):
    """A list that is null in JSON."""


class NilMap(dict[str, Value]):
    """A map that is null in JSON."""


class Duration(int):
    """Nanoseconds that print as time.Duration does: `1m30s`, `500ms`, `0s`."""

    def spelled(self) -> str:
        """Return Go's word."""
        rest = abs(self)
        if rest < _SECOND:
            unit, name = next((u, n) for u, n in ((10**6, "ms"), (10**3, "µs"), (1, "ns")) if rest >= u or u == 1)
            printed = "0s" if rest == 0 else f"{_decimal(rest, unit)}{name}"
        else:
            minutes, seconds = divmod(rest, 60 * _SECOND)
            hours, minutes = divmod(minutes, 60)
            whole = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "")
            printed = f"{whole}{_decimal(seconds, _SECOND)}s"
        return f"-{printed}" if self < 0 else printed


def _decimal(count: int, unit: int) -> str:
    whole, part = divmod(count, unit)
    digits = f"{part:0{len(str(unit)) - 1}}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


class Struct:
    """Named fields in docker's order; `absent` ones are there but not shown, `methods` take arguments."""

    __slots__ = ("absent", "fields", "methods")

    def __init__(
        self,
        fields: Mapping[str, Value],
        *,
        methods: Mapping[str, Callable[..., Value]] | None = None,
        absent: Mapping[str, Value] | None = None,
    ) -> None:
        self.fields = fields
        self.methods = methods or {}
        self.absent = absent or {}

    def names(self) -> list[str]:
        """Return every name that may follow a dot."""
        return [*self.fields, *self.absent, *self.methods]


def encoded(text: str) -> bytes:
    """Return the bytes of a text; a half of a surrogate pair, which JSON may hold, becomes U+FFFD as in Go."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text).encode()


def decoded(data: bytes) -> str:
    """Return the text of bytes, which may end within a character."""
    return data.decode("utf-8", "surrogateescape")


def type_name(value: Value) -> str:
    """Return what Go calls the type."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case Duration():
            return "time.Duration"
        case int():
            return "int"
        case float():
            return "float64"
        case list():
            return "list"
        case dict():
            return "map"
        case Struct():
            return "struct"
        case _:
            return "nil"


def is_true(value: Value) -> bool:
    """Return what `if` makes of a value: empty and zero are false, a struct is true."""
    return not isinstance(value, Nothing) and bool(value)


def text(value: Value) -> str:
    """Print a value as an action does: fmt's `%v`."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case Duration():
            return value.spelled()
        case int():
            return str(value)
        case float():
            return _float(value)
        case list():
            return f"[{' '.join(map(text, value))}]"
        case dict():
            return f"map[{' '.join(f'{key}:{text(one)}' for key, one in sorted(value.items()))}]"
        case Struct():
            return f"{{{' '.join(map(text, value.fields.values()))}}}"
        case Nothing():
            return "<no value>"
        case _:
            return "<nil>"


def as_json(value: Value) -> str:
    """Print a value as encoding/json does: a map's keys are sorted, a struct's are not."""
    import json  # 6 ms, and most templates print none

    printed = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    # encoding/json spells these two, which end a line in JavaScript.
    return printed.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Value) -> Value:
    match value:
        case NilList() | NilMap() | Nothing():
            return None
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {key: _plain(one) for key, one in sorted(value.items())}
        case Struct():
            return {key: _plain(one) for key, one in value.fields.items()}
        case float() if value.is_integer() and abs(value) < 1e21:
            return int(value)
        case _:
            return value


def _float(value: float) -> str:
    """Print a float as strconv's shortest form: an exponent only below 1e-4 and from 1e21 on."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
