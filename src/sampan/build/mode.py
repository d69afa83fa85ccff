"""`--chmod`: octal, or symbolic as chmod(1) has it. Pure."""

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.errors import Place

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "X": 0o111, "s": 0o6000, "t": 0o1000}


def check(text: str, at: "Place") -> None:
    """Raise InvalidArgument unless `text` is a mode."""
    try:
        changed(text, 0o644, is_directory=False)
    except ValueError as error:
        hints = ("write it like `--chmod=755` or `--chmod=u=rwX,go=rX`",)
        raise InvalidArgument(f"`--chmod={text[:40]}` is no mode", hints=hints, at=at) from error


def changed(text: str, mode: int, *, is_directory: bool) -> int:
    """Return what becomes of `mode`; raises ValueError."""
    if text[:1].isdigit():
        number = int(text, 8)
        if number > 0o7777:
            raise ValueError(text)
        return number
    for clause in text.split(","):
        mode = _clause(clause, mode, is_directory=is_directory)
    return mode


def _clause(clause: str, mode: int, *, is_directory: bool) -> int:
    rest = clause.lstrip("ugoa")
    who = 0
    for letter in clause[: len(clause) - len(rest)] or "a":
        who |= _WHO[letter]
    if rest[:1] not in {"+", "-", "="} or not rest:
        raise ValueError(clause)
    bits = 0
    for letter in rest[1:]:
        if letter not in _BITS:
            raise ValueError(clause)
        if letter != "X" or is_directory or mode & 0o111:
            bits |= _BITS[letter]
    bits &= who
    match rest[0]:
        case "+":
            return mode | bits
        case "-":
            return mode & ~bits
        case _:
            return mode & ~(who & 0o777) | bits
