"""What a step changed, as a layer: the upper directory of its overlay, read when nothing runs in it any more.

Theory of operation. overlayfs keeps in the upper what differs from the layers below: whole files, a character device
0:0 for a name that is gone, an attribute on a directory that hides what is below it. They become layer.md's whiteouts
(`.wh.NAME`, `.wh..wh..opq`). The order is that of the names' bytes, a directory before what is in it, so equal uppers
give equal tars. What the step's own mounts needed (`Stubs`) is left out: places that were made for them, and the
directories around, if nothing but their time changed. Sockets are left out too, as every other tool does.

SECURITY: the tree is hostile. It is walked by descriptors that follow no link, to a bounded depth, and every name is
taken as the bytes it is.
"""

import errno
import os
import stat

from sampan.build import layer
from sampan.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.build.cache import Result
    from sampan.document import Document
    from sampan.image.content import Content
    from sampan.storage.diff import TarWriter

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_OVERLAY = ("trusted.overlay.", "user.overlay.")
# overlayfs.rst: the file would be only partly in the upper. `rootfs` mounts so that there are none.
_PARTIAL = ("redirect", "metacopy")
_CAPABILITY = "security.capability"
_KEPT = ("user.", "system.posix_acl_")
# linux/capability.h: a file capability of a user namespace has that namespace's root in its last four bytes.
_CAP_REVISION_2, _CAP_REVISION_3, _CAP_REVISION_MASK = 0x02000000, 0x03000000, 0xFF000000
_MAX_DEPTH = 200


class Stubs:
    """What mounts of the step's own left in the upper.

    `made` are the paths that were made for them, `touched` the directories in which that was, with (mode, uid, gid).
    """

    __slots__ = ("made", "touched")

    def __init__(self, made: "frozenset[str]", touched: "Mapping[str, tuple[int, int, int]]") -> None:
        self.made = made
        self.touched = touched


def write(content: "Content", upper: str, stubs: Stubs, *, shift: int = 0, epoch: int | None = None) -> "Result":
    """Store the layer of what is in `upper`.

    `shift` is what the ids on disk are moved by; no time is later than `epoch` where there is one. Raises Unsupported
    for what a layer cannot say.
    """
    return layer.write_tar(content, lambda writer: _Walk(writer, stubs, shift, epoch).run(upper))


class _Walk:
    """One walk through an upper."""

    __slots__ = ("_epoch", "_links", "_pending", "_shift", "_stubs", "_writer", "count")

    def __init__(self, writer: "TarWriter", stubs: Stubs, shift: int, epoch: int | None) -> None:
        self._writer = writer
        self._stubs = stubs
        self._shift = shift
        self._epoch = epoch
        # Inode -> the path that the archive has it under.
        self._links: dict[int, str] = {}
        # Directories that are written only if something in them is: (path, status, attributes).
        self._pending: list[tuple[str, os.stat_result, dict[str, bytes]]] = []
        self.count = 0

    def run(self, upper: str) -> "Document":
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._children(fd, "", 0)
        finally:
            os.close(fd)
        return {"entries": self.count}

    def _children(self, directory: int, prefix: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise Unsupported(f"`/{prefix[:200]}…` is more than {_MAX_DEPTH} directories deep")
        for name in sorted(os.listdir(directory), key=os.fsencode):
            self._one(directory, name, prefix + name, depth)

    def _one(self, directory: int, name: str, path: str, depth: int) -> None:
        if name.startswith(".wh."):
            raise Unsupported(f"`/{path[:200]}` has a name that means a whiteout in a layer")
        status = os.lstat(name, dir_fd=directory)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            self._directory(directory, name, path, depth)
        elif stat.S_ISCHR(mode) and status.st_rdev == 0:
            self._white_out(path)
        elif (path in self._stubs.made and status.st_size == 0) or self._is_linked(path, status):
            return
        elif stat.S_ISREG(mode):
            self._file(directory, name, path)
        elif stat.S_ISLNK(mode):
            target = os.readlink(name, dir_fd=directory)
            self._flush(1)
            self._writer.add_symlink(path, target, **self._owner(status))
        elif stat.S_ISFIFO(mode):
            self._flush(1)
            self._writer.add_fifo(path, mode=stat.S_IMODE(mode), **self._owner(status))
        elif not stat.S_ISSOCK(mode):
            raise Unsupported(f"`/{path[:200]}` is a device, which a layer of a build does not hold")

    def _directory(self, parent: int, name: str, path: str, depth: int) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            status = os.fstat(fd)
            attributes, is_opaque = self._attributes(fd, path)
            self._pending.append((path, status, attributes))
            if is_opaque:
                self._flush(1)
                self._writer.add_file(f"{path}/.wh..wh..opq", b"", mode=0o600)
            elif not self._is_stub(path, status):
                self._flush()
            waiting = len(self._pending)
            self._children(fd, path + "/", depth + 1)
            # Still there where nothing in it was written: then it is not.
            del self._pending[waiting - 1 if waiting else 0 :]
        finally:
            os.close(fd)

    def _is_stub(self, path: str, status: os.stat_result) -> bool:
        found = (stat.S_IMODE(status.st_mode), status.st_uid - self._shift, status.st_gid - self._shift)
        return path in self._stubs.made or self._stubs.touched.get(path) == found

    def _file(self, directory: int, name: str, path: str) -> None:
        # O_NONBLOCK: whatever it turned into, nothing waits.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=directory), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            attributes, _ = self._attributes(file.fileno(), path)
            self._flush(1)
            mode, size = stat.S_IMODE(status.st_mode), status.st_size
            self._writer.add_file(path, file, size_bytes=size, mode=mode, xattrs=attributes, **self._owner(status))

    def _is_linked(self, path: str, status: os.stat_result) -> bool:
        """Write a further name of what is in the archive already; tell whether that was so."""
        if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
            return False
        first = self._links.setdefault(status.st_ino, path)
        if first == path:
            return False
        self._flush(1)
        self._writer.add_link(path, first, mode=stat.S_IMODE(status.st_mode), **self._owner(status))
        return True

    def _white_out(self, path: str) -> None:
        above, slash, name = path.rpartition("/")
        self._flush(1)
        self._writer.add_file(f"{above}{slash}.wh.{name}", b"", mode=0o600)

    def _flush(self, more: int = 0) -> None:
        """Write the directories that wait, before `more` entries that are in them."""
        self.count += more
        for path, status, attributes in self._pending:
            self.count += 1
            mode = stat.S_IMODE(status.st_mode)
            self._writer.add_directory(path, mode=mode, xattrs=attributes, **self._owner(status))
        self._pending.clear()

    def _owner(self, status: os.stat_result) -> dict[str, int]:
        """Return owner and time as the writer's words."""
        mtime = status.st_mtime_ns // 1_000_000_000
        return {
            "uid": status.st_uid - self._shift,
            "gid": status.st_gid - self._shift,
            "mtime": mtime if self._epoch is None else min(mtime, self._epoch),
        }

    def _attributes(self, fd: int, path: str) -> tuple[dict[str, bytes], bool]:
        """Return the extended attributes that a layer keeps, and whether overlayfs marked the directory opaque."""
        found: dict[str, bytes] = {}
        is_opaque = False
        try:
            names = os.listxattr(fd)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return found, is_opaque
        for name in names:
            if name.startswith(_OVERLAY):
                if name.rpartition(".")[2] in _PARTIAL:
                    raise Unsupported(f"overlayfs keeps `/{path[:200]}` partly in the layers below")
                is_opaque = is_opaque or (name in _OPAQUE and os.getxattr(fd, name) == b"y")
            elif name == _CAPABILITY:
                found[name] = _capability(os.getxattr(fd, name))
            elif name.startswith(_KEPT) and not (self._shift and name.startswith("system.")):
                found[name] = os.getxattr(fd, name)
        return found, is_opaque


def _capability(value: bytes) -> bytes:
    """Return a file capability that holds for whatever root the layer will have."""
    magic = int.from_bytes(value[:4], "little")
    if len(value) < 24 or magic & _CAP_REVISION_MASK != _CAP_REVISION_3:
        return value
    return (magic & ~_CAP_REVISION_MASK | _CAP_REVISION_2).to_bytes(4, "little") + value[4:20]
