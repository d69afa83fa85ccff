"""Units as people write them: sizes, durations, processor shares, times. Pure; the words are docker's (go-units)."""

from sampan.errors import InvalidArgument

KIB = 1024
_SIZE = {"": 1, "b": 1, "k": KIB, "m": KIB**2, "g": KIB**3, "t": KIB**4, "p": KIB**5}
_SUFFIXES = ("", "b", *(letter + tail for letter in "kmgtp" for tail in ("", "b", "ib")))
# The latter two are a micro sign and a Greek letter, as Go takes both.
_DURATION = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_HINT = "write it like `1m30s`, `300ms` or `10s`"
_DIGITS = "0123456789."


def parse_size(text: str) -> int:
    """Return the bytes that `text` (`64m`, `1.5g`, `512k`, `10b`, `1073741824`, `2GiB`) means.

    Raises InvalidArgument. Multiples are of 1024 whatever the suffix's spelling, as docker's are.
    """
    number, unit = _split(text.strip().lower())
    factor = _SIZE.get(unit[:1]) if unit in _SUFFIXES else None
    if number is None or factor is None:
        raise InvalidArgument(f"`{text}` is not a size", hints=("write a number and a unit: `64m`, `1.5g`, `512k`",))
    return int(number * factor)


def parse_duration(text: str) -> float:
    """Return the seconds that `text` (`1m30s`, `300ms`, `1.5h`) mean; raises InvalidArgument."""
    rest, total = text.strip().lower().removeprefix("+"), 0.0
    if rest == "0":
        return 0.0
    if not rest:
        raise InvalidArgument("a duration is empty", hints=(_DURATION_HINT,))
    while rest:
        head = len(rest) - len(rest.lstrip(_DIGITS))
        tail = head + len(rest[head:]) - len(rest[head:].lstrip("nusmh\u00b5\u03bc"))
        number, unit = _split(rest[:tail])
        if number is None or unit not in _DURATION:
            raise InvalidArgument(f"`{text}` is not a duration", hints=(_DURATION_HINT,))
        total += number * _DURATION[unit]
        rest = rest[tail:]
    return total


def parse_cpus(text: str) -> int:
    """Return the CPU time in microseconds for each 100 ms that `text` (`0.5`, `2`) processors mean."""
    number, unit = _split(text.strip())
    if number is None or unit or number < 0.01:
        raise InvalidArgument(f"`{text}` is not a number of CPUs", hints=("write it like `0.5` or `2`; at least 0.01",))
    return round(number * 100_000)


def human_size(size_bytes: int, digits: int = 4) -> str:
    """Print a size with a decimal unit and so many digits, as docker images does: `1.23GB`, `45.6MB`, `912B`."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.{digits}g}{unit}" if unit != "B" else f"{size_bytes}B"
        size /= 1000
    return f"{size_bytes}B"


def binary_size(size_bytes: int) -> str:
    """Print a size with a binary unit, as docker stats does memory: `1.234MiB`, `912B`."""
    return _scaled(size_bytes, KIB, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"), 4)


def decimal_size(size_bytes: int) -> str:
    """Print a size with a decimal unit and three digits, as docker stats does traffic: `1.23kB`, `912B`."""
    return _scaled(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB", "PB"), 3)


def _scaled(size_bytes: int, step: int, names: tuple[str, ...], digits: int) -> str:
    size, unit = float(size_bytes), 0
    while size >= step and unit < len(names) - 1:
        size, unit = size / step, unit + 1
    return f"{size:.{digits}g}{names[unit]}"


def human_duration(seconds: float) -> str:
    """Print an age as docker ps does: `Less than a second`, `5 seconds`, `About an hour`, `3 days`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return f"{whole} second{'s' * (whole != 1)}"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = round(whole / 3600)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    for count, unit, until in ((days, "days", 14), (days // 7, "weeks", 9), (days // 30, "months", 24)):
        if count < until:
            return f"{count} {unit}"
    return f"{days // 365} years"


def _split(text: str) -> tuple[float | None, str]:
    """Part a leading decimal number from the rest; None where there is none."""
    rest = text.lstrip(_DIGITS)
    try:
        return float(text[: len(text) - len(rest)]), rest.strip()
    except ValueError:
        return None, rest
