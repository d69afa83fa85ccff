"""Which Python an image gets: what the project asks for, of what Debian's releases have. Pure.

Facts of Debian: bullseye has 3.9, bookworm 3.11, trixie 3.13. 3.10, 3.12 and 3.14 are in no release.
"""

from sampan.errors import InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Release:
    """A Python of a Debian release: `version` with its least micro number, `suite`, and glibc's minor number."""

    __slots__ = ("debian", "glibc", "python", "suite", "version")

    def __init__(self, python: str, version: tuple[int, int, int], suite: str, debian: int, glibc: int) -> None:
        self.python = python
        self.version = version
        self.suite = suite
        self.debian = debian
        self.glibc = glibc


# The first is the default. glibc is the number for wheels' manylinux tags: trixie's is 41, and 40 is the newest tag of
# uv.
RELEASES = (
    Release("3.13", (3, 13, 5), "trixie", 13, 40),
    Release("3.11", (3, 11, 2), "bookworm", 12, 36),
    Release("3.9", (3, 9, 2), "bullseye", 11, 31),
)
_OPERATORS = ("~=", "===", "==", "!=", "<=", ">=", "<", ">")


def choose(wanted: "Mapping[str, tuple[str, Place]]") -> tuple[Release, str, Place | None]:
    """Return the release to take, why, and where that was asked for.

    `wanted` has `exact` (`3.11`, of [tool.sampan] or .python-version) or `range` (requires-python), each with its
    place; exact wins. Raises InvalidArgument where no release has it.
    """
    if "exact" in wanted:
        text, place = wanted["exact"]
        numbers = _numbers(text.strip().removeprefix("python-").removeprefix("cpython-"))
        for release in RELEASES:
            if numbers[:2] == release.version[:2]:
                return release, f"`{place.path}` says {text.strip()}", place
        raise _absent(f"no base has Python {text.strip()[:40]}", place)
    if "range" in wanted:
        text, place = wanted["range"]
        for release in RELEASES:
            if allows(text, release.version, place):
                return release, f"the newest that requires-python (`{text}`) allows", place
        raise _absent(f"no base has a Python that requires-python (`{text[:60]}`) allows", place)
    return RELEASES[0], "the newest of Debian's stable release; the project asks for none", None


def allows(specifier: str, version: tuple[int, int, int], place: Place) -> bool:
    """Tell whether the PEP 440 `specifier` of requires-python allows `version`."""
    return all(_clause(clause.strip(), version, place) for clause in specifier.split(",") if clause.strip())


def _clause(clause: str, version: tuple[int, int, int], place: Place) -> bool:
    operator = next((op for op in _OPERATORS if clause.startswith(op)), None)
    text = clause.removeprefix(operator or "").strip()
    is_prefix = text.endswith(".*")
    numbers = _numbers(text.removesuffix(".*"))
    if operator is None or not numbers:
        raise InvalidArgument(f"`{clause}` is not a version specifier", hints=("write it like `>=3.11`",), at=place)
    if operator == "~=":
        return version >= _padded(numbers) and version[: len(numbers) - 1] == numbers[:-1]
    if operator in {"==", "===", "!="}:
        # `==3.11` is meant as `==3.11.*` by everyone who writes it for requires-python.
        same = version[: len(numbers)] == numbers if is_prefix or len(numbers) < 3 else version == _padded(numbers)
        return same is (operator != "!=")
    bound = _padded(numbers)
    if operator in {"<=", ">"} and len(numbers) < 3:
        # `<=3.12` allows no 3.12.1, PEP 440 says; people mean the whole of 3.12.
        return version[:2] <= bound[:2] if operator == "<=" else version > bound
    return {"<=": version <= bound, ">=": version >= bound, "<": version < bound, ">": version > bound}[operator]


def _numbers(text: str) -> tuple[int, ...]:
    parts = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 4:
            break
        parts.append(int(digits))
    return tuple(parts[:3])


def _padded(numbers: tuple[int, ...]) -> tuple[int, int, int]:
    filled = (*numbers, 0, 0, 0)
    return filled[0], filled[1], filled[2]


def _absent(what: str, place: Place) -> InvalidArgument:
    have = ", ".join(release.python for release in RELEASES)
    return InvalidArgument(what, hints=(f"Debian's releases have {have}: ask for one of these",), at=place)
