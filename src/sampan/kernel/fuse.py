"""A directory shown through FUSE, which notes what of it is asked for. linux/fuse.h; fuse(4).

Theory of operation. The kernel keeps what it was told for ever: names, what is absent, attributes, content, links. So
each question comes once, the first time that anybody in the mount wants to know, and costs some 15 us. What is noted
is the least that an answer gives away, since nothing asks again for what came along with it:

    a look at a name   whether it is there, and all its attributes: statx(2) answers from them with no further request
    an open            all of a file's content
    a listing          all names of a directory

The directory must not change while it is shown, and none of its parts is followed if it is a link; so a path is as good
as a descriptor. Nothing can be written. One thread, no locks; who serves is a process of its own.
"""

import errno
import os
import stat
import struct

from sampan.kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # Gives the owner that is shown (uid, gid) for the one on disk.
    Owners = Callable[[int, int], tuple[int, int]]

DEVICE = "/dev/fuse"
_NUMBER = os.makedev(10, 229)  # Documentation/admin-guide/devices.txt
_VERSION = (7, 31)
_ROOT = 1
# FUSE_MIN_READ_BUFFER of linux/fuse.h, with room for the headers; nothing is ever written, so no request is larger.
_REQUEST_BYTES = 64 << 10
_MAX_WRITE_BYTES = 4096
_MAX_PAGES = 256
_FUSE_ASYNC_READ, _FUSE_MAX_PAGES, _FUSE_CACHE_SYMLINKS = 1 << 0, 1 << 22, 1 << 23
_FOPEN_KEEP_CACHE = 1 << 1
_FOREVER_SECONDS = 365 * 86400

_IN = struct.Struct("=IIQQIIII")  # fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, padding
_OUT = struct.Struct("=IiQ")  # fuse_out_header: len, error, unique
_INIT_OUT = struct.Struct("=IIIIHHIIHHII24x")
_ENTRY_OUT = struct.Struct("=QQQQII")  # nodeid, generation, entry_valid, attr_valid, and their nanoseconds
_ATTR_OUT = struct.Struct("=QII")
_ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
_OPEN_OUT = struct.Struct("=QII")
_READ_IN = struct.Struct("=QQI")
_XATTR_IN = struct.Struct("=II")
_XATTR_OUT = struct.Struct("=II")
_STATFS_OUT = struct.Struct("=QQQQQIIII24x")
_DIRENT = struct.Struct("=QQII")

_LOOKUP, _FORGET, _GETATTR, _READLINK, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 5, 14, 15, 17, 18
_GETXATTR, _LISTXATTR, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _DESTROY = 22, 23, 26, 27, 28, 29, 36, 38
_BATCH_FORGET = 42
_UNANSWERED = (_FORGET, _BATCH_FORGET, _INTERRUPT)


def mount(directory: str) -> tuple[int, int]:
    """Return the device of a new file system and a detached mount of it; raises OSError where there is no FUSE.

    Whoever looks into the mount waits until a `Mirror` of the device serves. Where /dev lacks the node, as in
    containers, one is made in `directory`, which is the caller's alone.
    """
    device = _open_device(directory)
    context = -1
    try:
        context = syscalls.fsopen("fuse")
        told = {"source": "sampan", "fd": str(device), "rootmode": "40000", "user_id": "0", "group_id": "0"}
        for key, value in told.items():
            syscalls.fsconfig_string(context, key, value)
        for flag in ("ro", "default_permissions", "allow_other"):
            syscalls.fsconfig_flag(context, flag)
        syscalls.fsconfig_create(context)
        return device, syscalls.fsmount(context)
    except BaseException:
        os.close(device)
        raise
    finally:
        if context >= 0:
            os.close(context)


def _open_device(directory: str) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(DEVICE, flags)
    except FileNotFoundError:
        node = f"{directory}/fuse"
        os.mknod(node, 0o600 | stat.S_IFCHR, _NUMBER)
        try:
            return os.open(node, flags)
        finally:
            os.unlink(node)


class Mirror:
    """Shows `root` on a device; `owners` gives the ids to show. Paths are relative to the root, which is `""`.

    `seen` are the paths that somebody looked at, in that order, each after the directories it is in, whether they are
    there or not; `read` the files that were opened, `listed` the directories whose names were read. After `limit` paths
    that are not there `is_over` says that there were more.
    """

    __slots__ = (
        "_absent",
        "_device",
        "_handlers",
        "_limit",
        "_listed",
        "_listings",
        "_nodes",
        "_owners",
        "_root",
        "is_over",
        "listed",
        "read",
        "seen",
    )

    def __init__(self, device: int, root: str, owners: "Owners", *, limit: int) -> None:
        self._limit = limit
        self._absent = self._listed = 0
        self.is_over = False
        self._device = device
        self._root = root
        self._owners = owners
        # Node number -> path. FUSE forgets numbers; the directory is small enough to keep them all.
        self._nodes = ["", ""]
        self._listings: dict[int, list[tuple[int, int, bytes]]] = {}
        self.seen: dict[str, int] = {"": _ROOT}
        self.read: dict[str, None] = {}
        self.listed: dict[str, None] = {}
        self._handlers: dict[int, Callable[[str, bytes], bytes]] = {
            _LOOKUP: self._look_up,
            _GETATTR: self._get_attributes,
            _READLINK: self._read_link,
            _OPEN: self._open,
            _READ: self._read,
            _RELEASE: self._release,
            _STATFS: self._statfs,
            _GETXATTR: self._get_xattr,
            _LISTXATTR: self._list_xattrs,
            _INIT: self._initialise,
            _OPENDIR: self._open_directory,
            _READDIR: self._read_directory,
            _RELEASEDIR: self._release_directory,
            _DESTROY: lambda _path, _body: b"",
        }

    def fileno(self) -> int:
        """Return the device, for poll(2)."""
        return self._device

    def serve(self) -> bool:
        """Answer one request, waiting for it; tell whether there may be more."""
        try:
            request = os.read(self._device, _REQUEST_BYTES)
        except OSError as error:
            # ENOENT: who asked has given up. ENODEV: nothing shows the mount any more.
            return error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN)
        _, code, unique, node, *_ = _IN.unpack_from(request)
        if code in _UNANSWERED:
            return True
        try:
            handler = self._handlers.get(code)
            # ENOSYS: the kernel does what it can without, and does not ask again.
            answer, failure = (b"", errno.ENOSYS) if handler is None else (handler(self._nodes[node], request[40:]), 0)
        except OSError as error:
            answer, failure = b"", error.errno or errno.EIO
        try:
            os.write(self._device, _OUT.pack(_OUT.size + len(answer), -failure, unique) + answer)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        return True

    def _initialise(self, _path: str, body: bytes) -> bytes:
        """Agree on version and features: of all that the kernel offers, what a read-only directory has use for."""
        _, _, readahead, offered = struct.unpack_from("=IIII", body)
        flags = offered & (_FUSE_ASYNC_READ | _FUSE_MAX_PAGES | _FUSE_CACHE_SYMLINKS)
        return _INIT_OUT.pack(*_VERSION, readahead, flags, 16, 12, _MAX_WRITE_BYTES, 1, _MAX_PAGES, 0, 0, 0)

    def _look_up(self, above: str, body: bytes) -> bytes:
        name = os.fsdecode(body[:-1])
        path = f"{above}/{name}" if above else name
        try:
            status = os.lstat(f"{self._root}/{path}")
        except FileNotFoundError:
            self._note_absent(path)
            return _ENTRY_OUT.pack(0, 0, _FOREVER_SECONDS, 0, 0, 0) + bytes(_ATTR.size)
        node = self.seen.get(path, 0)
        if not node:
            node = self.seen[path] = len(self._nodes)
            self._nodes.append(path)
        head = _ENTRY_OUT.pack(node, 0, _FOREVER_SECONDS, _FOREVER_SECONDS, 0, 0)
        return head + self._attributes(status)

    def _note_absent(self, path: str) -> None:
        """Note a name that is not there; a step can think of any number of these."""
        if path not in self.seen:
            self._absent += 1
            self.is_over = self._absent > self._limit
            if not self.is_over:
                self.seen[path] = 0

    def _get_attributes(self, path: str, _body: bytes) -> bytes:
        return _ATTR_OUT.pack(_FOREVER_SECONDS, 0, 0) + self._attributes(os.lstat(f"{self._root}/{path}"))

    def _attributes(self, status: os.stat_result) -> bytes:
        """Return a fuse_attr. The three times are one: when layers are unpacked is nobody's business."""
        seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
        uid, gid = self._owners(status.st_uid, status.st_gid)
        times = (seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds)
        tail = (status.st_mode, status.st_nlink, uid, gid, status.st_rdev, 4096, 0)
        return _ATTR.pack(status.st_ino, status.st_size, status.st_blocks, *times, *tail)

    def _read_link(self, path: str, _body: bytes) -> bytes:
        return os.fsencode(os.readlink(f"{self._root}/{path}"))

    def _open(self, path: str, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("=I", body)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        self.read[path] = None
        fd = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return _OPEN_OUT.pack(fd, _FOPEN_KEEP_CACHE, 0)

    def _read(self, _path: str, body: bytes) -> bytes:
        fd, offset, size = _READ_IN.unpack_from(body)
        return os.pread(fd, size, offset)

    def _release(self, _path: str, body: bytes) -> bytes:
        os.close(struct.unpack_from("=Q", body)[0])
        return b""

    def _statfs(self, _path: str, _body: bytes) -> bytes:
        return _STATFS_OUT.pack(0, 0, 0, 0, 0, 4096, 255, 4096, 0)

    def _get_xattr(self, path: str, body: bytes) -> bytes:
        size, _ = _XATTR_IN.unpack_from(body)
        name = body[_XATTR_IN.size : body.index(b"\0", _XATTR_IN.size)]
        return _sized(os.getxattr(f"{self._root}/{path}", name, follow_symlinks=False), size)

    def _list_xattrs(self, path: str, body: bytes) -> bytes:
        size, _ = _XATTR_IN.unpack_from(body)
        names = os.listxattr(f"{self._root}/{path}", follow_symlinks=False)
        return _sized(b"".join(os.fsencode(name) + b"\0" for name in names), size)

    def _open_directory(self, path: str, _body: bytes) -> bytes:
        self.listed[path] = None
        place = f"{self._root}/{path}"
        found = [(entry.inode(), _kind(entry), os.fsencode(entry.name)) for entry in os.scandir(place)]
        own = os.lstat(place).st_ino
        self._listed += 1
        self._listings[self._listed] = [(own, stat.S_IFDIR >> 12, b"."), (own, stat.S_IFDIR >> 12, b".."), *found]
        return _OPEN_OUT.pack(self._listed, 0, 0)

    def _read_directory(self, _path: str, body: bytes) -> bytes:
        number, offset, size = _READ_IN.unpack_from(body)
        found = self._listings[number]
        answer = bytearray()
        for position in range(offset, len(found)):
            inode, kind, name = found[position]
            record = _DIRENT.pack(inode, position + 1, len(name), kind) + name
            record += bytes(-len(record) % 8)
            if len(answer) + len(record) > size:
                break
            answer += record
        return bytes(answer)

    def _release_directory(self, _path: str, body: bytes) -> bytes:
        del self._listings[struct.unpack_from("=Q", body)[0]]
        return b""


def _kind(entry: "os.DirEntry[str]") -> int:
    """Return the DT_* of an entry (readdir(3)): its file type without the permissions' bits."""
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) >> 12


def _sized(value: bytes, size: int) -> bytes:
    """Answer a question for an extended attribute: first how large it is, then what it is."""
    if not size:
        return _XATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value
