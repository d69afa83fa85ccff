"""What may stand where, and what it is read as: the Compose specification's schema as a table. Pure.

Theory: a check takes a node and its path and returns a plain value (str, int, float, bool, None, list, dict), in the
form that `compose config` prints; it raises InvalidArgument with file and line. Words of a type that a variable may
have filled in are cast: `"true"` is a boolean, `"8"` a number. What the specification has and Sampan cannot do is never
silent: `later` refuses it, `idle` warns that it has no effect.
"""

import math
from collections.abc import Callable, Iterable

from sampan import units
from sampan.compose.model import slip
from sampan.compose.model.node import Mapping, Node, Scalar, Sequence, kind
from sampan.errors import InvalidArgument, SampanError, Unsupported

Check = Callable[[Node, str, "Report"], object]
_TRUE = ("true", "yes", "y", "on", "1")
_FALSE = ("false", "no", "n", "off", "0")
_EXTENSION = "x-"


class Report:
    """What is said besides errors."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Add a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)


def anything(node: Node, _path: str, _report: Report) -> object:
    """Whatever stands there."""
    return plain(node)


def plain(node: Node) -> object:
    """Return a tree's values as they are."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case _:
            return {key: plain(value) for key, value in node.entries.items()}


def string(node: Node, path: str, _report: Report) -> object:
    """A string; a number without quotes is taken for one, since that is what was meant."""
    if isinstance(node, Scalar) and node.value is not None and not isinstance(node.value, bool):
        return node.text
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        raise InvalidArgument(
            f"`{path}` must be a string, not {kind(node)}", at=node.place, hints=(f'write `"{node.text}"` in quotes',)
        )
    raise _wrong(node, path, "a string")


def word(node: Node, path: str, _report: Report) -> object:
    """Any single value, as it was written."""
    if isinstance(node, Scalar):
        return None if node.value is None else node.text if isinstance(node.value, float) else _written(node)
    raise _wrong(node, path, "a single value")


def _written(node: Scalar) -> str:
    return str(node.value).lower() if isinstance(node.value, bool) else node.text


def boolean(node: Node, path: str, _report: Report) -> object:
    """True or false, perhaps as a word."""
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        return node.value
    if isinstance(node, Scalar) and node.text.lower() in (*_TRUE, *_FALSE):
        return node.text.lower() in _TRUE
    raise _wrong(node, path, "`true` or `false`")


def integer(node: Node, path: str, _report: Report) -> object:
    """A whole number, perhaps as a word."""
    if isinstance(node, Scalar) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    try:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return int(node.value)
    except ValueError:
        pass
    raise _wrong(node, path, "a whole number")


def number(node: Node, path: str, _report: Report) -> object:
    """A number, perhaps as a word."""
    if isinstance(node, Scalar) and not isinstance(node.value, bool) and node.value is not None:
        try:
            value = float(node.value)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return int(value) if value.is_integer() else value
    raise _wrong(node, path, "a number")


def size(node: Node, path: str, _report: Report) -> object:
    """A number of bytes, as `512m`; -1 is no limit. Compose prints it as a string."""
    if isinstance(node, Scalar) and node.value is not None:
        return "-1" if node.text == "-1" else str(_parsed(node, path, units.parse_size))
    raise _wrong(node, path, "a size like `512m`")


def duration(node: Node, path: str, _report: Report) -> object:
    """A time span, as `1m30s`."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        _parsed(node, path, units.parse_duration)
        return node.value
    if isinstance(node, Scalar) and node.value == 0:
        return "0s"
    raise InvalidArgument(
        f"`{path}` must be a time span, not {kind(node)}",
        at=node.place,
        hints=(f"write `{node.text}s`",) if isinstance(node, Scalar) and node.text else ("write it like `1m30s`",),
    )


def _parsed(node: Scalar, path: str, parse: Callable[[str], float]) -> float:
    try:
        return parse(node.text)
    except SampanError as error:
        raise InvalidArgument(f"in `{path}` {error.what}", at=node.place, hints=error.hints) from error


def nothing_or(check: Check) -> Check:
    """The same, or nothing at all."""
    return lambda node, path, report: (
        None if isinstance(node, Scalar) and node.value is None else check(node, path, report)
    )


def either(*checks: Check) -> Check:
    """The first that the node's kind fits: a scalar, a list, a mapping."""

    def check(node: Node, path: str, report: Report) -> object:
        error: InvalidArgument | None = None
        for one in checks:
            try:
                return one(node, path, report)
            except InvalidArgument as raised:
                error = error or raised
        if error is None:
            raise _wrong(node, path, "something else")
        raise error

    return check


def one_of(*words: str) -> Check:
    """One of these words."""

    def check(node: Node, path: str, _report: Report) -> object:
        text = node.text if isinstance(node, Scalar) else ""
        if text not in words:
            near = _near(text, words)
            hint = f"did you mean `{near}`?" if near else f"there are {', '.join(f'`{w}`' for w in words)}"
            raise InvalidArgument(f"`{path}` cannot be `{text}`", at=node.place, hints=(hint,))
        return text

    return check


def list_of(check: Check) -> Check:
    """A list; each item of the same kind."""

    def read(node: Node, path: str, report: Report) -> object:
        if not isinstance(node, Sequence):
            raise _wrong(node, path, "a list")
        return [check(item, f"{path}.{number}", report) for number, item in enumerate(node.items)]

    return read


def map_of(check: Check) -> Check:
    """A mapping of any keys; each value of the same kind."""

    def read(node: Node, path: str, report: Report) -> object:
        if not isinstance(node, Mapping):
            raise slip.not_a_mapping(node, f"`{path}`")
        return {key: check(value, f"{path}.{key}", report) for key, value in node.entries.items()}

    return read


def keys(table: dict[str, Check], *, required: Iterable[str] = ()) -> Check:
    """A mapping of these keys, and of extensions."""

    def read(node: Node, path: str, report: Report) -> object:
        if not isinstance(node, Mapping):
            raise slip.not_a_mapping(node, f"`{path}`" if path else "the file")
        for key in required:
            if key not in node.entries:
                raise InvalidArgument(f"`{path}` has no `{key}`", at=node.place)
        values = {}
        for key, value in node.entries.items():
            inner = f"{path}.{key}".lstrip(".")
            if key.startswith(_EXTENSION):
                values[key] = plain(value)
            elif key in table:
                values[key] = table[key](value, inner, report)
            else:
                raise _unknown(node, key, path, table)
        return values

    return read


def later(check: Check) -> Check:
    """What Sampan cannot do: refused, unless it says no more than nothing."""

    def read(node: Node, path: str, report: Report) -> object:
        value = check(node, path, report)
        if value in (None, False, "", [], {}):
            return value
        raise Unsupported(
            f"`{path}` is not there yet", at=node.place, hints=("take it out, or comment it with `#`, to go on",)
        )

    return read


def idle(check: Check) -> Check:
    """What has no effect here, and does no harm: a warning names it."""

    def read(node: Node, path: str, report: Report) -> object:
        value = check(node, path, report)
        if value not in (None, False, "", [], {}):
            report.warn(f"`{path}` has no effect here")
        return value

    return read


def only(check: Check, *known: object, hint: str) -> Check:
    """A value of which Sampan has these; another is refused."""

    def read(node: Node, path: str, report: Report) -> object:
        value = check(node, path, report)
        if value in known:
            return value
        raise Unsupported(f"`{path}: {value}` is not there", at=node.place, hints=(hint,))

    return read


def _wrong(node: Node, path: str, wanted: str) -> InvalidArgument:
    hints = ("write each item in a line of its own, as `- VALUE`",) if wanted == "a list" else ()
    return InvalidArgument(f"`{path}` must be {wanted}, not {kind(node)}", at=node.place, hints=hints)


def _unknown(node: Mapping, key: str, path: str, table: dict[str, Check]) -> InvalidArgument:
    near = _near(key, table)
    where = f" in `{path}`" if path else ""
    hint = f"did you mean `{near}`?" if near else "a key of your own begins with `x-`"
    return InvalidArgument(f"the key `{key}`{where} is unknown", at=node.place_of(key), hints=(hint,))


def _near(text: str, known: Iterable[str]) -> str:
    import difflib  # only after a mistake

    return next(iter(difflib.get_close_matches(text.replace("-", "_"), list(known), 1, 0.6)), "")
