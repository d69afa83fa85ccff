"""A tree of files as a tar stream: what `cp` and `export` read.

SECURITY: the tree may be a running container's. It is walked by descriptors that follow no link; a file is opened only
as a file and gives exactly the bytes that it had when its header was written, whatever becomes of it. Depth, entries
and bytes end at bounds.
"""

import os
import stat

from sampan.errors import Exhausted
from sampan.storage.diff import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from sampan.storage.diff import Writable

    class Owner(TypedDict):
        """What every entry has."""

        uid: int
        gid: int
        mtime: int


DEPTH = 200  # one descriptor each
ENTRIES = 2_000_000
BYTES = 256 * 1024**3
_MAX_WARNINGS = 20
_NOTHING = bytes(64 * 1024)
_CAPABILITY = "security.capability"
_MOST_XATTRS, _XATTR_BYTES = 64, 65536
_NO_FOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Packer:
    """Writes entries to one archive; `finish` ends it. `warnings` say what was left out."""

    __slots__ = ("_bytes", "_entries", "_links", "_writer", "warnings")

    def __init__(self, file: "Writable") -> None:
        """Write to `file`, which stays the caller's."""
        self._writer = TarWriter(file)
        self._entries = 0
        self._bytes = 0
        # (device, inode) of a file with several names -> the path that the archive has it under.
        self._links: dict[tuple[int, int], str] = {}
        self.warnings: list[str] = []

    def add(self, parent: int, name: str, path: str, depth: int = 0) -> None:
        """Add what is called `name` in the open directory `parent`, with all that is in it, as `path`."""
        self._entries += 1
        if self._entries > ENTRIES:
            raise Exhausted(f"there are more than {ENTRIES} files, too many for one archive")
        status = os.lstat(name, dir_fd=parent)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            self._directory(parent, name, path, depth)
        elif self._is_linked(path, status):
            return
        elif stat.S_ISREG(mode):
            self._file(parent, name, path)
        elif stat.S_ISLNK(mode):
            self._writer.add_symlink(path, os.readlink(name, dir_fd=parent), **_owner(status))
        elif stat.S_ISFIFO(mode):
            self._writer.add_fifo(path, mode=stat.S_IMODE(mode), **_owner(status))
        else:
            self._warn(path, "a socket" if stat.S_ISSOCK(mode) else "a device")

    def finish(self) -> None:
        """Write the end of the archive."""
        self._writer.finish()

    def _directory(self, parent: int, name: str, path: str, depth: int) -> None:
        if depth > DEPTH:
            raise Exhausted(f"`{path[:200]}…` is more than {DEPTH} directories deep")
        fd = os.open(name, _NO_FOLLOW | os.O_DIRECTORY, dir_fd=parent)
        try:
            status = os.fstat(fd)
            mode = stat.S_IMODE(status.st_mode)
            self._writer.add_directory(path, mode=mode, xattrs=_xattrs(fd), **_owner(status))
            for child in sorted(os.listdir(fd), key=os.fsencode):
                try:
                    self.add(fd, child, f"{path}/{child}", depth + 1)
                except FileNotFoundError:
                    continue  # a container that runs has removed it meanwhile
        finally:
            os.close(fd)

    def _file(self, parent: int, name: str, path: str) -> None:
        # O_NONBLOCK: whatever it turned into, nothing waits.
        fd = os.open(name, _NO_FOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=parent)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                self._warn(path, "no file any more")
                return
            self._bytes += status.st_size
            if self._bytes > BYTES:
                raise Exhausted(f"the files are larger than {BYTES} bytes, too large for one archive")
            content = _Exactly(fd, status.st_size)
            self._writer.add_file(
                path,
                content,
                size_bytes=status.st_size,
                mode=stat.S_IMODE(status.st_mode),
                xattrs=_xattrs(fd),
                **_owner(status),
            )
            if content.is_padded:
                self._warn(path, "shorter now than it was, and is filled up with zeros")
        finally:
            os.close(fd)

    def _is_linked(self, path: str, status: os.stat_result) -> bool:
        """Write a further name of what is in the archive already; tell whether that was so."""
        if status.st_nlink < 2 or not stat.S_ISREG(status.st_mode):
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        self._writer.add_link(path, first, mode=stat.S_IMODE(status.st_mode), **_owner(status))
        return True

    def _warn(self, path: str, what: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            left_out = "" if what.startswith("shorter") else ", and was left out"
            self.warnings.append(f"`{path[:200]}` is {what}{left_out}")


class _Exactly:
    """Reads `size` bytes of a file: what has grown is cut, what has shrunk is filled up with zeros, as GNU tar does."""

    __slots__ = ("_fd", "_left", "is_padded")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._left = size
        self.is_padded = False

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none once all were given."""
        wanted = min(size, self._left)
        data = os.read(self._fd, wanted) if wanted and not self.is_padded else b""
        if wanted and not data:
            self.is_padded = True
            data = _NOTHING[:wanted]
        self._left -= len(data)
        return data


def _owner(status: os.stat_result) -> "Owner":
    return {"uid": status.st_uid, "gid": status.st_gid, "mtime": status.st_mtime_ns // 1_000_000_000}


def _xattrs(fd: int) -> dict[str, bytes]:
    """Return what is worth keeping of an open file's attributes: its capability, and a person's own."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}  # a file system without any
    found = {}
    for name in names[:_MOST_XATTRS]:
        if name == _CAPABILITY or (name.startswith("user.") and not name.startswith("user.overlay.")):
            try:
                value = os.getxattr(fd, name)
            except OSError:
                continue  # it has gone, or it is not for us
            if len(value) <= _XATTR_BYTES:
                found[name] = value
    return found
