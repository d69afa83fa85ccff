"""`sampan.lock`: what a project's image is made of, pinned, beside the project. Hot: read on every build.

One JSON document for people to keep under version control. For each platform it has the wheels (name, version, file
name, sha256) and the base's packages, each part with a digest of what it was resolved from: while that digest holds,
the part is used as it is. No host name is in it: two machines with different mirrors write and read the same lock.
"""

import os

from sampan.document import Malformed, parse
from sampan.errors import Conflict, Corrupt, InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

NAME = "sampan.lock"
_MAX_BYTES = 16 * 1024 * 1024
_MAX_ENTRIES = 10_000
_VERSION = 1
ANEW_HINT = "make it anew with `sampan build --upgrade`"


class Wheel:
    """One pinned wheel; several `hashes` where an index offers several files that fit."""

    __slots__ = ("file", "hashes", "name", "version")

    def __init__(self, name: str, version: str, file: str, hashes: tuple[str, ...]) -> None:
        self.name = name
        self.version = version
        self.file = file
        self.hashes = hashes

    def document(self) -> "Document":
        """Return what the lock records."""
        return {"name": self.name, "version": self.version, "file": self.file, "sha256": list(self.hashes)}


class Lock:
    """The lock file as it stands: parts by platform (`linux/amd64`) and name (`wheels`, `base`)."""

    __slots__ = ("_changed", "_document", "path")

    def __init__(self, path: str, document: "Document") -> None:
        self.path = path
        self._document = document
        self._changed = False

    def part(self, platform: str, name: str, inputs: str) -> "Document | None":
        """Return a part if it was resolved from these `inputs`."""
        part = self._part(platform, name)
        return part if part is not None and part.get("inputs") == inputs else None

    def set_part(self, platform: str, name: str, inputs: str, part: "Document") -> None:
        """Put a part in; `write` makes it last."""
        self._document.setdefault("platforms", {}).setdefault(platform, {})[name] = {"inputs": inputs, **part}
        self._changed = True

    def write(self) -> None:
        """Write the lock if something in it changed: whole, synced, renamed. Raises OSError."""
        if not self._changed:
            return
        import json

        text = json.dumps(self._document, indent=1, sort_keys=True) + "\n"
        temporary = f"{self.path}.{os.getpid()}"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        self._changed = False

    def _part(self, platform: str, name: str) -> "Document | None":
        try:
            part = self._document["platforms"][platform][name]
        except (KeyError, TypeError):
            return None
        return part if isinstance(part, dict) else None


def read(directory: str) -> Lock:
    """Read the lock of the project in `directory`; an empty one where there is none.

    Raises Corrupt, and Conflict where another version of Sampan wrote it.
    """
    path = f"{directory}/{NAME}"
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return Lock(path, {"version": _VERSION})
    except UnicodeDecodeError as error:
        raise Corrupt(f"`{NAME}` is not a lock of Sampan's", hints=(ANEW_HINT,), at=Place(path)) from error
    try:
        document = parse(text)
    except Malformed as error:
        hint = (f"settle the merge conflict, or remove it with `rm {path}`",)
        raise Corrupt(f"`{NAME}` is not a JSON document", hints=hint, at=Place(path)) from error
    if document.get("version") != _VERSION:
        hints = ("upgrade with `pip install --upgrade sampan`", f"or remove it with `rm {path}`")
        raise Conflict(f"`{NAME}` was written by another version of Sampan", hints=hints, at=Place(path))
    return Lock(path, document)


def parse_wheels(part: "Document") -> tuple[Wheel, ...]:
    """Read the wheels of a part; raises Corrupt. What is here goes into arguments and paths, so it is checked."""
    try:
        items = part["wheels"]
        if len(items) > _MAX_ENTRIES:
            raise Corrupt(f"`{NAME}` has more than {_MAX_ENTRIES} wheels")
        wheels = tuple(Wheel(item["name"], item["version"], item["file"], tuple(item["sha256"])) for item in items)
    except (KeyError, TypeError) as error:
        raise Corrupt(f"`{NAME}` has a malformed list of wheels", hints=(ANEW_HINT,)) from error
    for wheel in wheels:
        if not all(_is_plain(text) for text in (wheel.name, wheel.version, wheel.file)) or not all(
            map(_is_hash, wheel.hashes)
        ):
            raise Corrupt(f"`{NAME}` has a malformed wheel", hints=(ANEW_HINT,))
    return wheels


def missing(part: str, project: str) -> InvalidArgument:
    """Return the error for `--locked` where the lock does not match."""
    hints = (f"write it with `sampan build {project}`, and commit it",)
    return InvalidArgument(
        f"`{NAME}` has no {part} that match this project and platform, and `--locked` was given", hints=hints
    )


def _is_plain(text: object) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) < 512
        and text.isprintable()
        and not set(text) & set(" /\\'\";#")
        and text[0] != "-"
    )


def _is_hash(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and not text.strip("0123456789abcdef")
