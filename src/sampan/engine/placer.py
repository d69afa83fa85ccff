"""The files of a tar stream put into a directory that others may change meanwhile: what `cp` writes.

docker's rules: a directory that is there stays, with the archive's mode; a file, link or pipe that is there is replaced
by another of these; a directory in the place of a file, or the reverse, is an error. The directory itself is not
changed.

SECURITY: both sides may be hostile: the archive is a container's where the directory is the person's, and a container
may run in the root that the directory is in. So nothing that is there is ever opened to be written: a file is made
anew, exclusively, and gets owner, mode and times by its descriptor. Directories are resolved by the kernel within
`root_fd`: on the person's side through no link at all, in a container through those that stay in its root. Who copies
to another owner takes the set-id bits and capabilities away.
"""

import errno
import os
import stat

from sampan.errors import Conflict, Corrupt, Unsupported
from sampan.kernel import syscalls
from sampan.runtime import target
from sampan.storage import tape as tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.storage.tape import Entry, Tape

_MAX_WARNINGS = 20
_CAPABILITY = b"security.capability"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSETTABLE = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)


class Rules:
    """How entries are placed.

    `owner` None keeps the archive's ids, else all become that; `gives` is false where nothing can be, or shall be,
    given to another; `follows` lets links lead to parents; `attributes` are kept where that is true. `rename` is (old,
    new): what the archive calls `old`, and all in it, becomes `new`; an empty `old` is all of it.
    """

    __slots__ = ("attributes", "follows", "gives", "owner", "rename")

    def __init__(
        self,
        *,
        owner: tuple[int, int] | None = None,
        gives: bool = True,
        follows: bool = False,
        attributes: bool = False,
        rename: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.owner = owner
        self.gives = gives
        self.follows = follows
        self.attributes = attributes
        self.rename = rename

    @property
    def keeps_owners(self) -> bool:
        """Tell whether each file is still whose it was."""
        return self.gives and self.owner is None


class Placer:
    """Places one archive into `directory`, a path within `root_fd`."""

    __slots__ = ("_directory", "_parent", "_root_fd", "_rules", "_tape", "_times", "warnings")

    def __init__(self, tape: "Tape", root_fd: int, directory: str, rules: Rules) -> None:
        """Read `tape`; the descriptor stays the caller's."""
        self._tape = tape
        self._root_fd = root_fd
        self._directory = directory
        self._rules = rules
        # The directory that was written to last, as (path in the archive, descriptor): mostly it is the next too.
        self._parent: tuple[bytes, int] | None = None
        # Times of directories are set last: every file made inside would change them.
        self._times: dict[bytes, int] = {}
        self.warnings: list[str] = []

    def run(self) -> None:
        """Place all. Raises Conflict, Corrupt, Exhausted, Unsupported, OSError."""
        try:
            while entry := self._tape.next():
                path = self._renamed(self._tape.relative(entry.name))
                if path:
                    self._place(path, entry)
            for path, mtime_ns in reversed(self._times.items()):
                self._set_time(path, mtime_ns)
            self._tape.drain()
        finally:
            self._leave()

    def _renamed(self, path: bytes) -> bytes:
        if self._rules.rename is None:
            return path
        old, new = self._rules.rename
        if not old:
            return new + b"/" + path if path else new
        if path == old or path.startswith(old + b"/"):
            return new + path[len(old) :]
        return path

    def _place(self, path: bytes, entry: "Entry") -> None:
        parent, name = self._enter(path.rpartition(b"/")[0]), path.rpartition(b"/")[2]
        if entry.kind == tar.DIRECTORY:
            self._make_directory(parent, name, path, entry)
            return
        if entry.kind in {tar.CHARACTER, tar.BLOCK_DEVICE}:
            if len(self.warnings) < _MAX_WARNINGS:
                self.warnings.append(f"`{_shown(path)}` is a device, and was left out")
            return
        if entry.kind not in {tar.FILE, tar.SYMLINK, tar.LINK, tar.FIFO}:
            raise Corrupt(f"the archive has an entry of the unknown type `{entry.kind.decode('latin-1')}`")
        if entry.kind == tar.LINK:
            self._link(parent, name, path, entry)
            return
        _clear(parent, name, path)
        if entry.kind == tar.FILE:
            self._file(parent, name, entry)
        elif entry.kind == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
            self._give(name, entry, parent)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        else:
            os.mkfifo(name, entry.mode & 0o777, dir_fd=parent)
            self._give(name, entry, parent)

    def _file(self, parent: int, name: bytes, entry: "Entry") -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            for piece in self._tape.contents():
                rest = piece
                while rest:
                    rest = rest[os.write(fd, rest) :]
            self._adorn(fd, entry, entry.mode if self._rules.keeps_owners else entry.mode & 0o1777)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _make_directory(self, parent: int, name: bytes, path: bytes, entry: "Entry") -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                raise _cannot_replace(path, "a file", "a directory") from None
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._adorn(fd, entry, entry.mode)
        finally:
            os.close(fd)
        self._times.pop(path, None)
        self._times[path] = entry.mtime_ns

    def _link(self, parent: int, name: bytes, path: bytes, entry: "Entry") -> None:
        """Make a further name of a file that the archive has brought."""
        old = self._renamed(self._tape.relative(entry.link))
        if old == path:
            return
        _clear(parent, name, path)
        there = self._open(old.rpartition(b"/")[0])
        try:
            os.link(old.rpartition(b"/")[2], name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(there)

    def _adorn(self, fd: int, entry: "Entry", mode: int) -> None:
        self._give(fd, entry)
        os.fchmod(fd, mode)  # after chown(2), which takes set-id bits away
        if not self._rules.attributes:
            return
        for name, value in entry.xattrs.items():
            if name.startswith(b"user.") or (name == _CAPABILITY and self._rules.keeps_owners):
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    if error.errno not in _UNSETTABLE:
                        raise

    def _give(self, what: "bytes | int", entry: "Entry", parent: int | None = None) -> None:
        """Give what was just made to its owner."""
        if not self._rules.gives:
            return
        uid, gid = self._rules.owner or (entry.uid, entry.gid)
        try:
            if isinstance(what, int):
                os.fchown(what, uid, gid)
            else:
                os.chown(what, uid, gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EINVAL:  # chown(2): the id has no mapping in this user namespace
                raise
            raise Unsupported(
                f"`{_shown(entry.name)}` belongs to {uid}:{gid}, beyond the ids that are mapped here",
                hints=("without `-a` files become root's",),
            ) from error

    def _enter(self, path: bytes) -> int:
        """Return a descriptor of a directory of the archive, which stays ours; it is made where it is not there."""
        if self._parent is None or self._parent[0] != path:
            self._leave()
            self._parent = (path, self._open(path))
        return self._parent[1]

    def _leave(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _open(self, path: bytes) -> int:
        resolve = 0 if self._rules.follows else syscalls.RESOLVE_NO_SYMLINKS
        place = f"{self._directory}/{os.fsdecode(path)}" if path else self._directory
        return target.find_or_make(self._root_fd, place, is_directory=True, resolve=resolve)

    def _set_time(self, path: bytes, mtime_ns: int) -> None:
        """Set a directory's time; one that somebody has taken away meanwhile needs none."""
        try:
            parent = self._enter(path.rpartition(b"/")[0])
            name = path.rpartition(b"/")[2]
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return


def _clear(parent: int, name: bytes, path: bytes) -> None:
    """Remove what is there, unless it is a directory."""
    try:
        status = os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise _cannot_replace(path, "a directory", "a file")
    try:
        os.unlink(name, dir_fd=parent)
    except OSError as error:
        error.filename = _shown(path)
        raise


def _cannot_replace(path: bytes, there: str, brought: str) -> Conflict:
    return Conflict(f"`{_shown(path)}` is {there}, which {brought} cannot replace")


def _shown(name: bytes) -> str:
    return name[:200].decode("utf-8", "replace")
