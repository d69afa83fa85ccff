"""What a project depends on: requirements.txt (pip's format) and pyproject.toml's [project] dependencies. Pure.

Only requirements by name are taken: a path, a VCS address or an sdist would run its build script, and that never
happens on the host. Files named by `-r` and `-c` are followed inside the project and nowhere else.
"""

from sampan.errors import InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_DEPTH = 8
_MAX_REQUIREMENTS = 5000
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
# Options of a requirements file that say where packages come from: the machine's own settings say that to uv.
_INDEX_OPTIONS = (
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--no-index",
    "--trusted-host",
    "--pre",
    "--prefer-binary",
    "--only-binary",
    "--no-binary",
    "--require-hashes",
    "--use-feature",
)
_ITSELF = (".", "./", "file:.", "file:./")


class Requirement:
    """One requirement line: `text` as it stands, the normalised `name`, its place."""

    __slots__ = ("name", "place", "text")

    def __init__(self, text: str, name: str, place: Place) -> None:
        self.text = text
        self.name = name
        self.place = place


class Requirements:
    """All of a project's requirements: `items`, `constraints` (of -c files), index `options`, the file they are in."""

    __slots__ = ("constraints", "items", "options", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.items: list[Requirement] = []
        self.constraints: list[Requirement] = []
        self.options: list[str] = []

    def names(self) -> set[str]:
        """Return the normalised names that are asked for."""
        return {item.name for item in self.items}


def normalise(name: str) -> str:
    """Return `name` as indexes compare it (PEP 503)."""
    out = "".join("-" if character in "-_." else character for character in name.lower())
    while "--" in out:
        out = out.replace("--", "-")
    return out


def name_of(text: str) -> str:
    """Return the distribution name that a requirement begins with, normalised; empty where there is none."""
    end = 0
    while end < len(text) and text[end] in _NAME_CHARACTERS:
        end += 1
    return normalise(text[:end])


def parse_file(path: str, files: "Mapping[str, bytes]") -> Requirements:
    """Read the requirements file `path` of `files` and what it includes; raises InvalidArgument with its place."""
    found = Requirements(path)
    _follow(path, files, found, found.items, depth=0)
    return found


def from_project(dependencies: "list[str]", source: bytes, path: str = "pyproject.toml") -> Requirements:
    """Take [project] dependencies, each with the line of `source` that it stands in."""
    lines = source.decode(errors="replace").splitlines()
    found = Requirements(path)
    for text in dependencies:
        line = next((number for number, content in enumerate(lines, 1) if text in content), None)
        _take(text.strip(), Place(path, line, lines[line - 1].strip() if line else text), found.items)
    return found


def _follow(
    path: str, files: "Mapping[str, bytes]", found: Requirements, into: "list[Requirement]", *, depth: int
) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidArgument(f"requirement files include each other more than {_MAX_DEPTH} deep", at=Place(path))
    for number, line in _joined(files[path].decode("utf-8-sig", errors="replace")):
        place = Place(path, number, line)
        if line.startswith("-"):
            _option(line, place, files, found, depth=depth)
        else:
            _take(line, place, into)
        if len(into) > _MAX_REQUIREMENTS:
            raise InvalidArgument(f"`{path}` has more than {_MAX_REQUIREMENTS} requirements", at=place)


def _option(line: str, place: Place, files: "Mapping[str, bytes]", found: Requirements, *, depth: int) -> None:
    """Act on an option line."""
    word, _, value = line.replace("=", " ", 1).partition(" ")
    # pip also takes `-rother.txt`
    if word[:2] in {"-r", "-c", "-e"} and len(word) > 2 and word[1] != "-":
        word, value = word[:2], word[2:]
    value = value.strip()
    if word in {"-r", "--requirement", "-c", "--constraint"}:
        target = _relative(place.path, value)
        if target is None or target not in files:
            raise InvalidArgument(f"`{place.path}` includes `{value}`, which is not a file of this project", at=place)
        into = found.items if word in {"-r", "--requirement"} else found.constraints
        _follow(target, files, found, into, depth=depth + 1)
    elif word in {"-e", "--editable"}:
        if value not in _ITSELF:
            _refuse(line, place)
    elif word in _INDEX_OPTIONS:
        found.options.append(line)
    else:
        raise InvalidArgument(f"`{word}` is not an option that a requirements file may have here", at=place)


def _take(text: str, place: Place, into: "list[Requirement]") -> None:
    """Take a requirement by name, pass over the project itself, refuse the rest."""
    if text in _ITSELF:
        return
    name = name_of(text)
    rest = text[len(name) :].lstrip() if name else text
    if "://" in text or "/" in text.partition(";")[0].partition("--hash")[0] or rest.startswith("@"):
        _refuse(text, place)
    if not name or (rest and rest[0] not in "[=<>!~;(-,"):
        raise InvalidArgument(f"`{text[:100]}` is not a requirement", at=place)
    into.append(Requirement(text, name, place))


def _refuse(text: str, place: Place) -> None:
    hints = (
        "name a released version instead, as in `flask==3.1.0`",
        "or put the code itself into the project's directory",
    )
    raise InvalidArgument(
        f"`{text[:100]}` would have to be built, and no build script is run on the host", hints=hints, at=place
    )


def _joined(text: str) -> "list[tuple[int, str]]":
    """Return (first line number, text) of each requirement: comments gone, continued lines joined (pip's rules)."""
    found = []
    start, parts = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            parts += line[:-1] + " "
            continue
        parts += line
        content = _without_comment(parts).strip()
        if content:
            found.append((start, " ".join(content.split())))
        start, parts = 0, ""
    if parts.strip():
        found.append((start, " ".join(parts.split())))
    return found


def _without_comment(line: str) -> str:
    if line.lstrip().startswith("#"):
        return ""
    return line.partition(" #")[0].partition("\t#")[0]


def _relative(path: str, value: str) -> str | None:
    """Resolve `value` against the directory of `path`; None where it leaves the project."""
    parts = path.split("/")[:-1]
    for part in value.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return None if value.startswith("/") else "/".join(parts)
