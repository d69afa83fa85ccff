"""One file, directory or link of a layer that is being made. Hot: every rebuild makes some."""

import os

from sampan.errors import Conflict
from sampan.oci.digest import new_hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

DIRECTORY, FILE, LINK = "directory", "file", "link"
# 2000-01-01: zip files can hold no time before 1980.
_FIRST_SECOND = 946_684_800
_SPAN_SECONDS = 1 << 28


class Source:
    """A file's content that is read when the layer is written, and must still be what its hash says. A readable."""

    __slots__ = ("_file", "_hash", "_hasher", "_path", "size_bytes")

    def __init__(self, path: str, size_bytes: int, hash: str) -> None:
        self._path = path
        self._hash = hash
        self._hasher = new_hasher()
        self._file: BinaryIO | None = None
        self.size_bytes = size_bytes

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end; raises Conflict there if the content is not what it was."""
        if self._file is None:
            self._file = open(self._path, "rb", opener=_opener)  # noqa: SIM115 -- closed at its end
        piece = self._file.read(size)
        self._hasher.update(piece)
        if not piece:
            self._file.close()
            if self._hasher.hexdigest() != self._hash:
                raise Conflict(f"`{self._path}` changed while the image was being built", hints=("build again",))
        return piece


class Entry:
    """What a tar entry says: `path` relative to the root, and by `kind` the `content` or the `target` of a link."""

    __slots__ = ("content", "gid", "kind", "mode", "mtime", "path", "target", "uid")

    def __init__(
        self,
        path: str,
        kind: str,
        *,
        mode: int = 0o644,
        content: "bytes | Source" = b"",
        target: str = "",
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
    ) -> None:
        self.path = path
        self.kind = kind
        self.mode = mode
        self.content = content
        self.target = target
        self.uid = uid
        self.gid = gid
        self.mtime = mtime

    @property
    def size_bytes(self) -> int:
        """The size of the content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size_bytes

    @property
    def data(self) -> bytes:
        """The content where it is in memory; nothing of a large file."""
        return self.content if isinstance(self.content, bytes) else b""


def directory(path: str, mode: int = 0o755, owner: int = 0) -> Entry:
    """Return a directory."""
    return Entry(path, DIRECTORY, mode=mode, uid=owner, gid=owner)


def file(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return a regular file of root's."""
    return Entry(path, FILE, mode=mode, content=content)


def link(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path, LINK, mode=0o777, target=target)


def stamped(path: str, content: "bytes | Source", digest: str, mode: int = 0o644) -> Entry:
    """Return a regular file whose time, between 2000 and 2008, follows from the hexadecimal `digest` of its content.

    Servers make ETags of a file's time and size. With one fixed time for all, a changed file of equal size would keep
    its ETag, and browsers the old file; with the real time, the same content would not give the same layer.
    """
    time = _FIRST_SECOND + int(digest[:16], 16) % _SPAN_SECONDS
    return Entry(path, FILE, mode=mode, content=content, mtime=time)


def parents(paths: "list[str]") -> list[str]:
    """Return every directory above `paths`, sorted, the root itself not among them."""
    found = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return sorted(found)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
