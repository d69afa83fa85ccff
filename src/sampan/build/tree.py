"""Trees of files that COPY reads: a build's context, and the layers of a stage as they are stacked. Hot.

Paths are relative to the tree's root, without a leading slash, `""` for the root itself; `resolve` follows links as if
the root were `/`. A `Directory` belongs to a person and may change while it is read, so it is gone through by
descriptors that follow no link. `Layers` are snapshots, which nobody changes; what overlayfs would show of them is
worked out here, so that nothing has to be mounted (overlayfs.rst: whiteouts and opaque directories).
"""

import errno
import os
import stat

from sampan.errors import Exhausted, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO, Protocol

    class Tree(Protocol):
        """What can be copied from."""

        def find(self, path: str) -> "Node | None":
            """Return what is at `path`, none of whose parents is a link; None where nothing is."""

        def children(self, path: str) -> "list[tuple[str, Node]]":
            """Return what is in the directory `path`, sorted by name."""

        def open(self, path: str) -> BinaryIO:
            """Open a regular file."""

        def xattrs(self, path: str) -> dict[str, bytes]:
            """Return the extended attributes that a layer keeps."""


_MAX_PARTS = 256  # tape.Bounds.depth: no layer holds a deeper path
_MAX_LINKS = 40  # MAXSYMLINKS of linux/namei.h
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_KEPT = ("security.capability", "user.", "system.posix_acl_")
_OVERLAY = "user.overlay."
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Node:
    """What stat(2) says of a file, directory or link; `target` is a link's, `inode` what its other names share."""

    __slots__ = ("gid", "inode", "mode", "mtime", "size_bytes", "target", "uid")

    def __init__(self, status: os.stat_result, target: str = "") -> None:
        self.mode = status.st_mode
        self.uid = status.st_uid
        self.gid = status.st_gid
        self.inode = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
        self.size_bytes = status.st_size
        self.mtime = max(0, status.st_mtime_ns // 1_000_000_000)
        self.target = target

    @property
    def is_directory(self) -> bool:
        """Tell whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Tell whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        """Tell whether it is a regular file."""
        return stat.S_ISREG(self.mode)


def resolve(tree: "Tree", path: str) -> str:
    """Return where `path` leads when every link is followed within the root; what is not there stays as it is written.

    Raises InvalidArgument for links that go in circles.
    """
    done: list[str] = []
    waiting = [part for part in reversed(path.split("/")) if part not in {"", "."}]
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del done[-1:]
            continue
        node = tree.find("/".join([*done, part]))
        if node is None or not node.is_link:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidArgument(f"the links at `{path[:200]}` go in circles")
        if node.target.startswith("/"):
            done = []
        waiting += [item for item in reversed(node.target.split("/")) if item not in {"", "."}]
    return "/".join(done)


class Directory:
    """A directory of the machine. It holds a descriptor until it is closed."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def find(self, path: str) -> Node | None:
        """Return what is at `path`; see `Tree`."""
        above, _, name = path.rpartition("/")
        try:
            fd = self._enter(above)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return _node(name or ".", fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(fd)

    def children(self, path: str) -> "list[tuple[str, Node]]":
        """Return what is in a directory; see `Tree`. Raises PermissionError."""
        fd = self._enter(path)
        try:
            return [(name, _node(name, fd)) for name in sorted(os.listdir(fd))]
        finally:
            os.close(fd)

    def open(self, path: str) -> "BinaryIO":
        """Open a regular file; see `Tree`."""
        above, _, name = path.rpartition("/")
        fd = self._enter(above)
        try:
            return open(os.open(name, os.O_RDONLY | _FLAGS, dir_fd=fd), "rb", buffering=0)
        finally:
            os.close(fd)

    def xattrs(self, path: str) -> dict[str, bytes]:  # noqa: ARG002 -- a tree's
        """Return none: what a person's file system notes down beside files is no part of an image."""
        return {}

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def _enter(self, path: str) -> int:
        """Open a directory, none of whose parents is a link."""
        fd = os.dup(self._fd)
        try:
            for part in path.split("/") if path else ():
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=fd)
                os.close(fd)
                fd = inner
        except OSError as error:
            os.close(fd)
            if error.errno == errno.ELOOP:  # open(2): a link, with O_NOFOLLOW and O_DIRECTORY too
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from error
            raise
        return fd


class Layers:
    """The snapshots of a stage, topmost first, as overlayfs would show them."""

    __slots__ = ("_merged", "_roots")

    def __init__(self, roots: "Sequence[str]") -> None:
        self._roots = tuple(roots)
        # Directory -> the directories that it is merged of, topmost first.
        self._merged: dict[str, tuple[str, ...]] = {"": self._roots}

    def find(self, path: str) -> Node | None:
        """Return what is at `path`; see `Tree`."""
        found = self._places(path)
        return _node(found[0], None) if found else None

    def children(self, path: str) -> "list[tuple[str, Node]]":
        """Return what is in a directory; see `Tree`."""
        names = {name for place in self._places(path) for name in os.listdir(place)}
        prefix = f"{path}/" if path else ""
        found = [(name, self.find(prefix + name)) for name in sorted(names)]
        return [(name, node) for name, node in found if node is not None]

    def open(self, path: str) -> "BinaryIO":
        """Open a regular file; see `Tree`."""
        found = self._places(path)
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return open(os.open(found[0], os.O_RDONLY | _FLAGS), "rb", buffering=0)

    def xattrs(self, path: str) -> dict[str, bytes]:
        """Return what a layer keeps; see `Tree`."""
        place = self._places(path)[0]
        names = [name for name in os.listxattr(place, follow_symlinks=False) if name.startswith(_KEPT)]
        kept = [name for name in names if not name.startswith(_OVERLAY)]
        return {name: os.getxattr(place, name, follow_symlinks=False) for name in kept}

    def _places(self, path: str) -> tuple[str, ...]:
        """Return where `path` is kept: the directories that are merged there, or the one place of anything else."""
        if path in self._merged:
            return self._merged[path]
        above, _, name = path.rpartition("/")
        if path.count("/") > _MAX_PARTS:
            raise Exhausted(f"`{path[:100]}…` is too deep")
        found: list[str] = []
        for parent in self._places(above):
            place = f"{parent}/{name}"
            try:
                status = os.lstat(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                break
            if not stat.S_ISDIR(status.st_mode):
                # A file below a directory is hidden by it.
                found = found or [place]
                break
            found.append(place)
            if _is_opaque(place):
                break
        self._merged[path] = tuple(found)
        return self._merged[path]


def _node(name: str, dir_fd: int | None) -> Node:
    status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    return Node(status, os.readlink(name, dir_fd=dir_fd) if stat.S_ISLNK(status.st_mode) else "")


def _is_opaque(place: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(place, name, follow_symlinks=False) == b"y":
                return True
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM}:
                raise
    return False
