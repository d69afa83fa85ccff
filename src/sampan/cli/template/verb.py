"""fmt's `printf`: the verbs that templates use, with flags, width and precision; what does not fit, said as Go does."""

import re

from sampan.cli.template.fault import Misuse
from sampan.cli.template.value import NOTHING, Struct, Value, encoded, text, type_name

WIDTH_AT_MOST = 10_000
_INDEX, _NUMBER = r"(?:\[(\d{1,9})\])?", r"(\*|\d*)"
_DIRECTIVE = re.compile(rf"%([-+# 0]*){_INDEX}{_NUMBER}(?:\.{_INDEX}{_NUMBER})?{_INDEX}(.?)", re.DOTALL)
_QUOTED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def printf(form: str, arguments: tuple[Value, ...]) -> str:
    """Fill a format string; raises Misuse for a width out of bounds."""
    waiting = _Arguments(arguments)

    def fill(directive: re.Match[str]) -> str:
        waiting.is_lost = False
        flags, width_index, width_word, precision_index, precision_word, index, verb = directive.groups()
        width = waiting.number(width_index, width_word or "0")
        precision = None if precision_word is None else waiting.number(precision_index, precision_word or "0")
        waiting.go_to(index)
        if max(abs(width or 0), precision or 0) > WIDTH_AT_MOST:
            raise Misuse(f"a width in `printf` is more than {WIDTH_AT_MOST}")
        bad = ("%!(BADWIDTH)" if width is None else "") + (
            "%!(BADPREC)" if precision_word is not None and precision is None else ""
        )
        if verb == "%":
            return "%"
        if not verb:
            return "%!(NOVERB)"
        if waiting.is_lost:
            return f"%!{verb}(BADINDEX)"
        if waiting.is_over:
            return f"%!{verb}(MISSING)"
        if width is not None and width < 0:
            flags, width = f"{flags}-", -width
        return bad + _pad(_one(verb, flags, precision, waiting.next()), flags, width or 0, verb)

    return _DIRECTIVE.sub(fill, form) + waiting.extra()


class _Arguments:
    """What a format string is filled with, in order, or as its indexes say (`%[2]s`)."""

    def __init__(self, values: tuple[Value, ...]) -> None:
        self._values = values
        self._at = 0
        self._is_reordered = False
        # An index named nothing.
        self.is_lost = False

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._values)

    def next(self) -> Value:
        self._at += 1
        return self._values[self._at - 1]

    def go_to(self, index: str | None) -> None:
        """Go on from the argument that an index names, from 1 on."""
        if index is not None:
            self._is_reordered = True
            self.is_lost = not 1 <= int(index) <= len(self._values)
            self._at = self._at if self.is_lost else int(index) - 1

    def number(self, index: str | None, word: str) -> int | None:
        """Return a width or precision, `*` from the arguments; None where that is no number."""
        self.go_to(index)
        if word != "*":
            return int(word[:6])
        value = None if self.is_over else self.next()
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def extra(self) -> str:
        """Say what nothing was done with."""
        if self._is_reordered or self.is_over:
            return ""
        rest = ", ".join(f"{type_name(one)}={text(one)}" for one in self._values[self._at :])
        return f"%!(EXTRA {rest})"


def quote(word: str) -> str:
    """Quote a string as strconv.Quote does."""
    return f'"{"".join(_QUOTED.get(c) or (c if c.isprintable() else _escape(c)) for c in word)}"'


def _one(verb: str, flags: str, precision: int | None, value: Value) -> str:
    """Print one argument without its width; lists and maps element by element."""
    if verb == "v" and "#" in flags and isinstance(value, str):
        return quote(value)
    if verb in "vT":
        return type_name(value) if verb == "T" else _cut(text(value), precision if isinstance(value, str) else None)
    match value:
        case list():
            return f"[{' '.join(_one(verb, flags, precision, one) for one in value)}]"
        case dict():
            inside = (
                f"{_one(verb, flags, None, k)}:{_one(verb, flags, precision, v)}" for k, v in sorted(value.items())
            )
            return f"map[{' '.join(inside)}]"
        case Struct():
            return f"{{{' '.join(_one(verb, flags, precision, one) for one in value.fields.values())}}}"
        case _:
            printed = _scalar(verb, flags, precision, value)
    if printed is not None:
        return printed
    return f"%!{verb}(<nil>)" if value is None or value is NOTHING else f"%!{verb}({type_name(value)}={text(value)})"


def _scalar(verb: str, flags: str, precision: int | None, value: Value) -> str | None:
    """Print one string, number or truth; None where the verb is not for it."""
    match value:
        case bool():
            return text(value) if verb == "t" else None
        case str():
            return _string(verb, flags, precision, value)
        case int():
            return _int(verb, flags, precision, value)
        case float() if verb in "eEfFgG":
            digits = 6 if precision is None else precision
            printed = text(value) if verb in "gG" and precision is None else f"{value:.{digits}{verb}}"
            return f"+{printed}" if "+" in flags and not printed.startswith("-") else printed
        case _:
            return None


def _string(verb: str, flags: str, precision: int | None, value: str) -> str | None:
    match verb:
        case "s":
            return _cut(value, precision)
        case "q":
            cut = _cut(value, precision)
            return f"`{cut}`" if "#" in flags and "`" not in cut and cut.isprintable() else quote(cut)
        case "x" | "X":
            printed = encoded(value).hex(" ") if " " in flags else encoded(value).hex()
            return printed.upper() if verb == "X" else printed
        case _:
            return None


def _int(verb: str, flags: str, precision: int | None, value: int) -> str | None:
    sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    match verb:
        case "d" | "b" | "o" | "x" | "X":
            prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in flags else ""
            return f"{sign}{prefix}{f'{abs(value):{verb}}'.rjust(precision or 0, '0')}"
        case "c" | "q" | "U" if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000:
            character = chr(value)
            if verb == "U":
                return f"U+{value:04X}"
            inside = "\\'" if character == "'" else character if character == '"' else quote(character)[1:-1]
            return character if verb == "c" else f"'{inside}'"
        case _:
            return None


def _pad(printed: str, flags: str, width: int, verb: str) -> str:
    if "-" in flags:
        return printed.ljust(width)
    if "0" in flags and verb not in "sqvT":
        sign = printed[:1] if printed[:1] in {"+", "-", " "} else ""
        return sign + printed[len(sign) :].rjust(width - len(sign), "0")
    return printed.rjust(width)


def _cut(word: str, precision: int | None) -> str:
    return word if precision is None else word[:precision]


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
