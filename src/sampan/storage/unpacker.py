"""Making a directory tree of tar entries: the half of `apply` that runs in a child, with the target as its root.

The chroot is what keeps an entry inside: whatever links the archive made before, the kernel resolves them within it. On
top of that names are normalised (`..` stops at the root) and nothing is ever opened through a link at its last
component. The tree is one layer, to be stacked by overlayfs: `.wh.NAME` becomes the character device 0:0,
`.wh..wh..opq` the opaque attribute (layer.md#whiteouts; overlayfs.rst). A whiteout hides what lies below, never what
the same layer brings. Directories that the archive did not name are made as the layers below have them: mode, owner,
attributes.
"""

import errno
import os
import stat

from sampan.errors import Corrupt, Unsupported
from sampan.storage import tape as tar
from sampan.storage.tape import Entry, Tape
from sampan.storage.trash import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
_CAPABILITY = b"security.capability"
# SECURITY: `overlay.redirect` and `overlay.metacopy` would make overlayfs show files that the layer does not hold.
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_ACL = b"system.posix_acl_"
_KEPT = (b"user.", _ACL, _CAPABILITY)
_MAX_WARNINGS = 20
# linux/capability.h: revisions of struct vfs_cap_data.
_CAP_REVISION_2, _CAP_REVISION_3, _CAP_REVISION_MASK = 0x02000000, 0x03000000, 0xFF000000
_RANGE = 65536


class Rules:
    """How ids and attributes reach this file system.

    `shift` is added to every id; `single_id`: nothing can be given to another owner, so nobody is; `userxattr`:
    overlayfs reads its marks from `user.` (a mount inside a user namespace).
    """

    __slots__ = ("shift", "single_id", "userxattr")

    def __init__(self, *, shift: int = 0, single_id: bool = False, userxattr: bool = False) -> None:
        self.shift = shift
        self.single_id = single_id
        self.userxattr = userxattr


class Unpacker:
    """Unpacks one archive into the current directory, which is the root directory."""

    __slots__ = (
        "_below",
        "_directories",
        "_known",
        "_opaque",
        "_rules",
        "_tape",
        "entries",
        "size_bytes",
        "subject",
        "warnings",
    )

    def __init__(self, tape: Tape, rules: Rules, below: "Sequence[int]") -> None:
        """Read `tape`; `below` are descriptors of the roots of the layers below, topmost first."""
        self._tape = tape
        self._rules = rules
        self._below = below
        self._opaque = "user.overlay.opaque" if rules.userxattr else "trusted.overlay.opaque"
        self._known = {b""}
        # Times of directories are set last: every file made inside would change them.
        self._directories: dict[bytes, int] = {}
        self.subject = b""
        self.entries = 0
        self.size_bytes = 0
        self.warnings: list[str] = []

    def run(self) -> None:
        """Unpack all; `subject` is the name of the entry at hand, for whoever reports an error."""
        os.umask(0)
        self._inherit(b".", b"")
        while entry := self._tape.next():
            self.entries += 1
            self.subject = entry.name
            path = self._tape.relative(entry.name)
            self._make(path, entry)
        for path, mtime_ns in reversed(self._directories.items()):
            self.subject = path
            _set_times(path or b".", mtime_ns)
        self._tape.drain()

    def _make(self, path: bytes, entry: Entry) -> None:
        directory, _, name = path.rpartition(b"/")
        if not path:
            if entry.kind != tar.DIRECTORY:
                raise Corrupt("the archive wants to replace the root directory")
            self._adorn_directory(b"", entry)
            return
        self._make_parents(directory)
        if name.startswith(_WHITEOUT):
            self._white_out(directory, name)
            return
        match entry.kind:
            case tar.FILE:
                self._file(path, entry)
            case tar.DIRECTORY:
                self._directory(path, entry)
            case tar.SYMLINK:
                self._replacing(path, lambda: os.symlink(entry.link, path))
                self._adorn(path, entry)
            case tar.LINK:
                self._link(path, entry)
            case tar.FIFO:
                self._replacing(path, lambda: os.mkfifo(path, 0o600))
                self._adorn(path, entry)
            case tar.CHARACTER | tar.BLOCK_DEVICE:
                # SECURITY: a container with a user namespace has no device program, so a node on a disk that its image
                # brings with mode 0666 would open the machine's disk. Containers get their nodes in /dev, a tmpfs.
                self._warn(f"the device node `{_shown(path)}` was left out")
            case _:
                raise Corrupt(f"the archive has an entry of the unknown type `{entry.kind.decode('ascii', 'replace')}`")

    def _file(self, path: bytes, entry: Entry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = self._replacing(path, lambda: os.open(path, flags, 0o600))
        try:
            for piece in self._tape.contents():
                rest = piece
                while rest:
                    rest = rest[os.write(fd, rest) :]
            self.size_bytes += entry.size_bytes
            self._give(fd, entry)
            os.fchmod(fd, entry.mode)
            # After chown(2), which takes set-id bits and capabilities away.
            self._set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _directory(self, path: bytes, entry: Entry) -> None:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode):
                self._discard(path)
                os.mkdir(path, 0o700)
                if _is_whiteout(found):
                    self._set_opaque(path)
        self._known.add(path)
        self._adorn_directory(path, entry)

    def _link(self, path: bytes, entry: Entry) -> None:
        target = self._tape.relative(entry.link)
        if target == path:
            return
        try:
            found = os.lstat(target or b".")
            if _is_whiteout(found) or stat.S_ISDIR(found.st_mode):
                raise Corrupt(f"the hard link `{_shown(path)}` in the archive has no file as its target")
            self._replacing(path, lambda: os.link(target, path, follow_symlinks=False))
        except FileNotFoundError as error:
            raise Corrupt(f"the hard link `{_shown(path)}` has a target that is not in the layer") from error

    def _white_out(self, directory: bytes, name: bytes) -> None:
        if name == _OPAQUE:
            self._set_opaque(directory or b".")
            return
        if name.startswith(_AUFS):
            return  # aufs's own bookkeeping, in layers of the first years
        name = name.removeprefix(_WHITEOUT)
        if name in {b"", b".", b".."}:
            raise Corrupt("the archive has a whiteout without a name")
        path = directory + b"/" + name if directory else name
        try:
            os.mknod(path, stat.S_IFCHR | 0o000, os.makedev(0, 0))
        except FileExistsError:
            # The layer itself brings this name: only the content of a directory below must vanish.
            if stat.S_ISDIR(os.lstat(path).st_mode):
                self._set_opaque(path)

    def _make_parents(self, directory: bytes) -> None:
        """Make the directories of `directory` that are not there yet."""
        if directory in self._known:
            return
        self._make_parents(directory.rpartition(b"/")[0])
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            # Through a link, as every other unpacker does it; the chroot keeps it inside.
            found = os.lstat(directory)
            if _is_whiteout(found):
                os.unlink(directory)
                os.mkdir(directory, 0o755)
                self._inherit(directory, directory)
                self._set_opaque(directory)
            elif not stat.S_ISDIR(found.st_mode):
                self._make_behind_link(directory)
        else:
            self._inherit(directory, directory)
        self._known.add(directory)

    def _make_behind_link(self, directory: bytes) -> None:
        """Make the target of a link that stands where a directory is needed: it may exist only in a layer below."""
        target = os.path.realpath(b"/" + directory)[1:]
        if target != directory and not os.path.lexists(target):
            self._make_parents(target)
        if not os.path.isdir(directory):
            raise Corrupt(f"`{_shown(directory)}` in the archive is a directory and something else")

    def _inherit(self, path: bytes, name: bytes) -> None:
        """Give a directory that no entry describes the mode and owner that it has below; else root's and 0755."""
        below = self._find_below(name)
        mode, uid, gid = 0o755, self._rules.shift, self._rules.shift
        if below is not None:
            mode, uid, gid = stat.S_IMODE(below.st_mode), below.st_uid, below.st_gid
        if not self._rules.single_id:
            os.chown(path, uid, gid, follow_symlinks=False)
        os.chmod(path, mode)
        self._directories.setdefault(name, below.st_mtime_ns if below is not None else 0)

    def _find_below(self, name: bytes) -> os.stat_result | None:
        """Look for a directory in the layers below, following no links; the topmost that has the name counts."""
        for root in self._below:
            found = _lookup(root, name)
            if found is not None:
                return found if stat.S_ISDIR(found.st_mode) else None
        return None

    def _adorn_directory(self, path: bytes, entry: Entry) -> None:
        self._adorn(path or b".", entry)
        self._directories.pop(path, None)
        self._directories[path] = entry.mtime_ns

    def _adorn(self, path: bytes, entry: Entry) -> None:
        """Set owner, mode, attributes and times of what was just made, which is never reached through a link."""
        self._give(path, entry)
        if entry.kind != tar.SYMLINK:
            os.chmod(path, entry.mode)
        self._set_xattrs(path, entry)
        _set_times(path, entry.mtime_ns)

    def _give(self, target: "bytes | int", entry: Entry) -> None:
        """Give what was made to its owner. An id that cannot be had is an error naming the file and the id."""
        if self._rules.single_id:
            return
        shift = self._rules.shift
        if shift and max(entry.uid, entry.gid) >= _RANGE:
            raise _beyond(entry)
        try:
            if isinstance(target, int):
                os.fchown(target, entry.uid + shift, entry.gid + shift)
            else:
                os.chown(target, entry.uid + shift, entry.gid + shift, follow_symlinks=False)
        except OSError as error:
            # chown(2): the id has no mapping in this user namespace.
            if error.errno == errno.EINVAL:
                raise _beyond(entry) from error
            raise

    def _set_xattrs(self, target: "bytes | int", entry: Entry) -> None:
        for name, value in entry.xattrs.items():
            # An access control list names ids, which a shift would have to change as well.
            is_shifted_list = bool(self._rules.shift) and name.startswith(_ACL)
            if name.startswith(_OVERLAY) or not name.startswith(_KEPT) or is_shifted_list:
                self._warn(f"the extended attribute `{_shown(name)}` of `{_shown(entry.name)}` was left out")
                continue
            stored = self._capability(value) if name == _CAPABILITY else value
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, stored)
                else:
                    os.setxattr(target, name, stored, follow_symlinks=False)
            except OSError as error:
                # user. is refused on links and devices, ACLs and capabilities where the file system or the ids lack
                # them.
                if error.errno not in {errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL}:
                    raise
                self._warn(f"the extended attribute `{_shown(name)}` of `{_shown(entry.name)}` cannot be set here")

    def _capability(self, value: bytes) -> bytes:
        """Name the shifted root in a file capability, else it would be the host's root's."""
        magic = int.from_bytes(value[:4], "little")
        if not self._rules.shift or len(value) < 20 or magic & _CAP_REVISION_MASK != _CAP_REVISION_2:
            return value
        magic = magic & ~_CAP_REVISION_MASK | _CAP_REVISION_3
        return magic.to_bytes(4, "little") + value[4:20] + self._rules.shift.to_bytes(4, "little")

    def _set_opaque(self, path: bytes) -> None:
        os.setxattr(path, self._opaque, b"y", follow_symlinks=False)

    def _replacing(self, path: bytes, make: "Callable[[], T]") -> "T":
        """Make something at `path`; what the archive itself put there before goes."""
        try:
            return make()
        except FileExistsError:
            self._discard(path)
            return make()

    def _discard(self, path: bytes) -> None:
        """Remove `path`, which this archive made, whatever it is."""
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        # A later entry takes the place of a tree: forget what was known to stand in it.
        self._known = {b""}
        inside = path + b"/"
        for name in [name for name in self._directories if name == path or name.startswith(inside)]:
            del self._directories[name]
        remove_tree(path)

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(text)


def _lookup(root: int, name: bytes) -> os.stat_result | None:
    """Return what `name` is below the directory `root`, following no links; None where it is not there."""
    fd = root
    try:
        for part in name.split(b"/")[:-1]:
            deeper = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            if fd != root:
                os.close(fd)
            fd = deeper
        return os.lstat(name.rpartition(b"/")[2], dir_fd=fd) if name else os.fstat(root)
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        if fd != root:
            os.close(fd)


def _set_times(path: bytes, mtime_ns: int) -> None:
    os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _beyond(entry: Entry) -> Unsupported:
    owner = f"{entry.uid}:{entry.gid}"
    return Unsupported(
        f"`{_shown(entry.name)}` in the layer belongs to {owner}, beyond the ids that are mapped here",
        hints=("as a normal user, more ids come from /etc/subuid and /etc/subgid, with `newuidmap` installed",),
    )


def _shown(name: bytes) -> str:
    return name[:200].decode("utf-8", "replace")
