r"""Text to tokens, as text/template's lexer parts them: text outside of `{{ }}`, words inside.

`{{- ` takes the white space before it away, ` -}}` that after it. With `escapes` a literal `\t` or `\n` in the text is
a tab or a new line: docker's rule for listings, since shells make them hard to type.
"""

import re

from sampan.cli.template import fault

TEXT, BEGIN, END, FIELD, DOT, VARIABLE, NAME, NUMBER, STRING, SIGN, SPACE = (
    "text", "begin", "end", "field", "dot", "variable", "name", "number", "string", "sign", "space",
)  # fmt: skip
SIZE_AT_MOST = 64 * 1024
KEYWORDS = frozenset("if else end range with break continue define template block nil true false".split())

_WHITE = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]+")
_FIELD = re.compile(r"\.([^\W\d]\w*)")
_VARIABLE = re.compile(r"\$\w*")
_NAME = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)"
)
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_RAW = re.compile(r"`([^`]*)`")
_CHARACTER = re.compile(r"'((?:[^'\\\n]|\\.)+)'")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_INT64 = 1 << 63


class Token:
    """A word of a template: its kind, what it says, and where it begins."""

    __slots__ = ("at", "kind", "value")

    def __init__(self, kind: str, value: str | float, at: int) -> None:
        self.kind = kind
        self.value = value
        self.at = at


def tokens(text: str, *, escapes: bool = False) -> list[Token]:
    """Part a template into its words; raises Malformed."""
    if len(text) > SIZE_AT_MOST:
        raise fault.malformed(text, 0, f"the template is longer than {SIZE_AT_MOST // 1024} KiB")
    found: list[Token] = []
    at, trims = 0, False
    while at < len(text):
        opening = text.find("{{", at)
        piece = text[at:] if opening < 0 else text[at:opening]
        begins = len(text) if opening < 0 else opening + 2
        marked = text[begins : begins + 1] == "-" and text[begins + 1 : begins + 2] in _WHITE and begins + 1 < len(text)
        piece = piece.lstrip(_WHITE) if trims else piece
        piece = piece.rstrip(_WHITE) if marked else piece
        if escapes:
            piece = piece.replace("\\t", "\t").replace("\\n", "\n")
        if piece:
            found.append(Token(TEXT, piece, at))
        if opening < 0:
            break
        at, trims = _action(text, begins + 2 * marked, found, opening)
    return found


def _action(text: str, at: int, found: list[Token], opening: int) -> tuple[int, bool]:
    """Read one `{{ }}` from `at` on; return where it ends, and whether it takes the white space after it."""
    inside = at + len(text[at:]) - len(text[at:].lstrip(_WHITE))
    if text.startswith("/*", inside if text[opening : opening + 3] == "{{-" else at):
        return _comment(text, at, opening)
    found.append(Token(BEGIN, "{{", opening))
    while True:
        if text.startswith("}}", at):
            found.append(Token(END, "}}", at))
            return at + 2, False
        if at >= len(text):
            raise fault.malformed(text, opening, "`{{` is never closed", "close it with `}}`")
        space = _SPACE.match(text, at)
        if space:
            if text.startswith("-}}", space.end()):
                found.append(Token(END, "}}", at))
                return space.end() + 3, True
            found.append(Token(SPACE, " ", at))
            at = space.end()
            continue
        at = _word(text, at, found)


def _comment(text: str, at: int, opening: int) -> tuple[int, bool]:
    ending = text.find("*/", at)
    if ending < 0:
        raise fault.malformed(text, opening, "a comment is never closed", "close it with `*/}}`")
    rest = text[ending + 2 :]
    if rest.startswith("}}"):
        return ending + 4, False
    white = len(rest) - len(rest.lstrip(_WHITE))
    if white and rest.startswith("-}}", white):
        return ending + 2 + white + 3, True
    raise fault.malformed(text, ending, "a comment is not alone in its `{{ }}`", "end it with `*/}}`")


def _word(text: str, at: int, found: list[Token]) -> int:
    """Read one word inside of `{{ }}` and return where it ends."""
    after_operand = bool(found) and found[-1].kind in {FIELD, VARIABLE, NAME, NUMBER, STRING}
    match text[at]:
        case '"' | "`" | "'":
            value, end = _quoted(text, at)
            token = Token(STRING, value, at) if isinstance(value, str) else Token(NUMBER, value, at)
        case "." if field := _FIELD.match(text, at):
            token, end = Token(FIELD, field[1], at), field.end()
            after_operand = False
        case "." if not (text[at + 1 : at + 2].isdecimal()):
            token, end = Token(DOT, ".", at), at + 1
        case "$" if variable := _VARIABLE.match(text, at):
            token, end = Token(VARIABLE, variable[0], at), variable.end()
        case "(" | ")" | "|" | "," | "=":
            token, end = Token(SIGN, text[at], at), at + 1
            after_operand = False
        case ":" if text.startswith(":=", at):
            token, end = Token(SIGN, ":=", at), at + 2
            after_operand = False
        case _ if number := _NUMBER.match(text, at):
            token, end = Token(NUMBER, _number(text, at, number[0]), at), number.end()
        case _ if name := _NAME.match(text, at):
            token, end = Token(NAME, name[0], at), name.end()
        case other:
            raise fault.malformed(text, at, f"`{other}` has no meaning in a template")
    if after_operand:
        raise fault.malformed(text, at, f"a space is missing before `{text[at:end][:40]}`")
    found.append(token)
    return end


def _quoted(text: str, at: int) -> tuple[str | int, int]:
    """Read a string, a raw string or a character, which is a number."""
    pattern = {'"': _STRING, "`": _RAW, "'": _CHARACTER}[text[at]]
    matched = pattern.match(text, at)
    if matched is None:
        raise fault.malformed(text, at, f"{text[at]} is never closed", "a shell may have taken the other one away")
    if text[at] == "`":
        return matched[1], matched.end()
    value = _ESCAPE.sub(lambda escape: _unescape(text, at + escape.start(), escape[1]), matched[1])
    if text[at] == '"':
        return value, matched.end()
    if len(value) != 1:
        raise fault.malformed(text, at, f"{matched[0][:40]} is not one character", 'write a string in `"`')
    return ord(value), matched.end()


def _unescape(text: str, at: int, word: str) -> str:
    if word in _ESCAPED:
        return _ESCAPED[word]
    if word in {"\\", '"', "'"}:
        return word
    if len(word) > 1:
        code = int(word, 8) if word[0] in "01234567" else int(word[1:], 16)
        if code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
            return chr(code)
    raise fault.malformed(
        text, at, f"`\\{word}` is not an escape", "write a backslash as `\\\\`, or a raw string in backquotes"
    )


def _number(text: str, at: int, word: str) -> int | float:
    digits = word.replace("_", "").lower()
    try:
        octal = digits.lstrip("+-")
        if octal.isdecimal() and octal.startswith("0") and octal.strip("0"):
            value: int | float = int(digits, 8)
        else:
            value = int(digits, 0) if not set(octal) & set(".e") or octal.startswith("0x") else float(digits)
    except ValueError as error:
        raise fault.malformed(text, at, f"`{word[:40]}` is not a number") from error
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise fault.malformed(text, at, f"the number `{word[:40]}` does not fit 64 bits")
    return value
