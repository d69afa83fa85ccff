"""Filling a volume with what the image has at its place: docker's copy-up, owners, modes and times included.

SECURITY: the image is hostile: its files are reached through descriptors, links are never followed, and what is copied
ends at FILES files and BYTES bytes.
"""

import os
import stat

from sampan.errors import Exhausted
from sampan.runtime import target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FILES = 1_000_000
BYTES = 64 * 1024**3
DEPTH = 200
_CHUNK_BYTES = 1024 * 1024


def fill(open_root: "Callable[[], int]", path: str, directory: str) -> bool:
    """Copy what the image has at `path`; False where that is no directory."""
    root_fd = open_root()
    try:
        source = target.find(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    finally:
        os.close(root_fd)
    destination = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy = _Copy()
        copy.tree(source, destination, 0)
    finally:
        os.close(source)
        os.close(destination)
    return True


class _Copy:
    """One copy, and how much of it is done."""

    __slots__ = ("_bytes", "_files")

    def __init__(self) -> None:
        self._files = 0
        self._bytes = 0

    def tree(self, source: int, destination: int, depth: int) -> None:
        """Copy the content of one open directory to another, then its attributes."""
        if depth > DEPTH:
            raise Exhausted(f"the image's directory is nested deeper than {DEPTH}, too deep to fill a volume from")
        for name in os.listdir(source):
            self._files += 1
            if self._files > FILES:
                raise Exhausted(f"the image's directory has more than {FILES} files, too many to fill a volume from")
            self._entry(source, destination, name, depth)
        _copy_attributes(os.fstat(source), destination)
        for attribute in os.listxattr(source):
            _copy_xattr(source, destination, attribute)

    def _entry(self, source: int, destination: int, name: str, depth: int) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=destination)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=destination)
            try:
                self.tree(below, made, depth + 1)
            finally:
                os.close(below)
                os.close(made)
        elif stat.S_ISREG(status.st_mode):
            self._file(source, destination, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(name, stat.S_IMODE(status.st_mode), dir_fd=destination)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
        # Devices and sockets have no business in a volume.

    def _file(self, source: int, destination: int, name: str) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        reading = os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=source)
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=destination)
        try:
            while data := os.read(reading, _CHUNK_BYTES):
                self._bytes += len(data)
                if self._bytes > BYTES:
                    raise Exhausted(
                        f"the image's directory is larger than {BYTES} bytes, too large to fill a volume from"
                    )
                view = memoryview(data)
                while view:
                    view = view[os.write(writing, view) :]
            _copy_attributes(os.fstat(reading), writing)
            for attribute in os.listxattr(reading):
                _copy_xattr(reading, writing, attribute)
        finally:
            os.close(reading)
            os.close(writing)


def _copy_attributes(status: os.stat_result, fd: int) -> None:
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))  # after chown, which takes set-id bits away
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_xattr(source: int, destination: int, name: str) -> None:
    # The overlay's own bookkeeping stays behind.
    if not name.startswith(("trusted.overlay.", "user.overlay.")):
        os.setxattr(destination, name, os.getxattr(source, name))
