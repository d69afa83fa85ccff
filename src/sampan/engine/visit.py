"""A process of ours in a container's root, which reads or writes files there for the command that forked it.

Theory of operation. The command forks a visitor, which opens the root, goes in, and does one piece of work; bytes (a
tar stream) go by one pipe, documents (what was found, what came of it, or the error) by another. What the root is:

    running   the mounts that the container's own processes see, or (`bare`) a clone of its root without what is
              mounted in it; the visitor is in the container's mount namespace, and root in its user namespace, so ids
              are the container's, and it may do what the container's root may
    stopped   its overlay and volumes, mounted in the visitor's own mount namespace, with the ids that are on disk: the
              image's. The container's lock is held until the visitor ends, so nobody starts or removes it meanwhile

SECURITY: a container that runs may be hostile. The visitor is not dumpable, so nothing of the container's can look into
it; it forgets how to import, keeps no descriptor but the pipes, the root and the lock, and few capabilities; paths are
resolved by openat2(2) within the root (`spot`), and chroot(2) is the second wall behind that. It dies with the command.
INVARIANT: fork needs a single-threaded caller without an open database.
"""

import errno
import os
import signal
import sys
import time

from sampan import document, failure
from sampan.database import connection
from sampan.engine import assembly, liveness, preparation, record, rootless, state, sweep, volume
from sampan.errors import Conflict, Internal, SampanError
from sampan.image.store import Images
from sampan.kernel import capability, mount, syscalls
from sampan.oci.runtime import Mount
from sampan.runtime import idmap, idrange, namespaces, process, target
from sampan.runtime.holder import is_single_id
from sampan.storage import overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Self

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.engine.run_options import VolumeMount
    from sampan.settings.configuration import Settings

    Work = Callable[["Guest"], Document]

_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.002
_DOCUMENT_BYTES = 256 * 1024
_SUBJECT_BYTES = 1000
# What reads and writes files of other people needs, and no more.
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP")


class Root:
    """The root of one container, open for a visit; use it in a `with`."""

    __slots__ = ("_fds", "is_single_id", "lock_fd", "overlay", "pid", "pidfd", "range_start", "read_only", "volumes")

    def __init__(self, *, pid: int = 0, pidfd: int = -1, lock_fd: int = -1, is_single_id: bool = False) -> None:
        # Of one that runs.
        self.pid = pid
        self.pidfd = pidfd
        # Of one that is stopped: assembly's root, the volumes with paths, the first id where files are shifted on disk.
        self.lock_fd = lock_fd
        self.overlay: Document = {}
        self.volumes: tuple[VolumeMount, ...] = ()
        self.range_start = 0
        self.read_only = False
        self.is_single_id = is_single_id
        self._fds = [fd for fd in (pidfd, lock_fd) if fd >= 0]

    @property
    def is_running(self) -> bool:
        """Tell whether it is a running container's."""
        return self.pidfd >= 0

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of the process, or of the lock: a visitor that still lives has its own hold on it."""
        while self._fds:
            os.close(self._fds.pop())


class Guest:
    """What the work has: the root's descriptor, and the pipes to the command."""

    __slots__ = ("_result_fd", "data_fd", "root_fd")

    def __init__(self, root_fd: int, data_fd: int, result_fd: int) -> None:
        self.root_fd = root_fd
        self.data_fd = data_fd
        self._result_fd = result_fd

    def tell(self, told: "Document") -> None:
        """Send the command a document."""
        rest = memoryview(document.render(told).encode() + b"\n")
        while rest:
            rest = rest[os.write(self._result_fd, rest) :]


class Visit:
    """The command's side: `data_fd` is its end of the stream. Use it in a `with`: at its end nobody is left."""

    __slots__ = ("_heard", "_pid", "_result_fd", "data_fd")

    def __init__(self, pid: int, data_fd: int, result_fd: int) -> None:
        self._pid = pid
        self._result_fd = result_fd
        self._heard = b""
        self.data_fd = data_fd

    def hear(self) -> "Document":
        """Return the visitor's next document; raises the error that it met."""
        while b"\n" not in self._heard:
            data = os.read(self._result_fd, 65536)
            self._heard += data
            if not data or len(self._heard) > _DOCUMENT_BYTES:
                raise Internal("the process that was in the container's root ended without a word")
        line, _, self._heard = self._heard.partition(b"\n")
        told = document.parse(line.decode())
        if "chain" in told:
            raise failure.rebuild(told["chain"], "the process that was in the container's root failed") from None
        return told

    def end_data(self) -> None:
        """Close the stream: its end."""
        if self.data_fd >= 0:
            os.close(self.data_fd)
            self.data_fd = -1

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close all, and end the visitor where it has not ended."""
        self.end_data()
        os.close(self._result_fd)
        if exception[0] is not None:
            # Killed even where it has ended: a zombie cannot be, and its pid is ours until we wait.
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def open_root(settings: "Settings", name: str) -> Root:
    """Return the root of a container that runs or is stopped; raises NotFound, Conflict where it is between the two."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        container = record.by_name(database, name)
        found = _hold(database, settings, container)
        if not found.is_running:
            try:
                _describe(database, settings, container, found)
            except BaseException:
                found.__exit__()
                raise
        return found


def _hold(database: "Database", settings: "Settings", container: "Container") -> Root:
    """Take hold of the process of one that runs, or of the lock of one that does not."""
    directory = state.directory(settings, container.id)
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        with database.transaction():
            sweep.fold(database, settings)
            record.by_name(database, container.id)  # it may just have been removed
            lock_fd = state.take_lock(directory)
        if lock_fd is not None:
            return Root(lock_fd=lock_fd, is_single_id=settings.uid != 0 and is_single_id())
        told = state.read(directory)
        pidfd = liveness.open_process(told) if told.status == state.RUNNING else -1
        if pidfd >= 0:
            sizes = [mapping["size"] for mapping in told.uid_mappings]
            return Root(pid=told.pid, pidfd=pidfd, is_single_id=sum(sizes) == 1)
        if time.monotonic() > deadline:
            raise Conflict(f"the container `{container.name}` is being started or taken down by another process")
        time.sleep(_POLL_SECONDS)


def _describe(database: "Database", settings: "Settings", container: "Container", root: Root) -> None:
    """Find what the root of a stopped container is made of, as `start` does."""
    features = assembly.features(settings)
    ground = preparation.Ground.of(features)
    image = Images(database).find(container.image_id)
    layers = preparation.lowers(database, settings, container.options, image, ground)
    paths = overlay.root_source(layers, state.directory(settings, container.id))
    root.overlay = {
        "lowers": list(paths.lowers),
        "upper": paths.upper,
        "work": paths.work,
        "is_idmapped": False,
        "userxattr": settings.uid != 0,
        "features": ground.features,
    }
    root.volumes = volume.prepare(database, settings, container, lambda: assembly.open_root_to_read(root.overlay))
    if not ground.is_idmappable and settings.uid == 0 and preparation.has_userns(settings, container.options):
        root.range_start = idrange.shared()
    root.read_only = container.options.read_only


def begin(root: Root, work: "Work", *, sends: bool, writes: bool, bare: bool = False) -> Visit:
    """Fork a visitor that does `work`, whose result is its last document.

    With `sends` the stream goes from it to us, else to it. Without `writes` a stopped root is mounted read-only. `bare`
    is without volumes and all else that is mounted in the root.
    """
    data, result = os.pipe(), os.pipe()
    ours, theirs = data if sends else (data[1], data[0])
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _visit(root, work, (theirs, result[1]), writes=writes, bare=bare)
    os.close(theirs)
    os.close(result[1])
    return Visit(pid, ours, result[0])


def _visit(root: Root, work: "Work", pipes: tuple[int, int], *, writes: bool, bare: bool) -> "NoReturn":
    """Be the visitor; never returns."""
    # INVARIANT: whatever happens here, nothing of the parent's clean-up runs twice.
    guest = Guest(-1, *pipes)
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            guest.root_fd = _enter(root, pipes, writes=writes, bare=bare)
            told = work(guest)
        except BaseException as error:  # noqa: BLE001 - the process's boundary: it crosses the pipe, whatever it is
            if isinstance(error, OSError) and isinstance(error.filename, bytes):
                error.filename = error.filename[:_SUBJECT_BYTES].decode("utf-8", "replace")
            told = {"chain": failure.describe(error)}
        guest.tell(told)
        status = 0
    finally:
        os._exit(status)


def _enter(root: Root, keep: tuple[int, int], *, writes: bool, bare: bool) -> int:
    """Go into the root; return its descriptor."""
    # SECURITY: the container's processes must not look into this one, which still has the command's memory.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    root_fd = _enter_running(root, bare=bare) if root.is_running else _enter_stopped(root, writes=writes, bare=bare)
    os.fchdir(root_fd)
    os.chroot(".")
    os.umask(0)
    syscalls.close_others((*keep, root_fd, *((root.lock_fd,) if root.lock_fd >= 0 else ())))
    capability.limit(capability.bits(_CAPABILITIES))
    # After the change of ids and capabilities, which clears it.
    capability.set_parent_death_signal()
    return root_fd


def _enter_running(root: Root, *, bare: bool) -> int:
    root_fd = os.open(f"/proc/{root.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The path is the container's only if the process is there still.
        syscalls.pidfd_send_signal(root.pidfd, 0)
    except ProcessLookupError as error:
        raise Conflict("the container ended just now", hints=("try again",)) from error
    # The mount namespace too: from another one, unlink(2) of what something is mounted on would take the mount away.
    flags = namespaces.differing_flags(root.pid) & (syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    _forget_imports()
    if flags:
        syscalls.setns(root.pidfd, flags)
    if flags & syscalls.CLONE_NEWUSER:
        namespaces.become_root()
    if not bare:
        return root_fd
    os.close(root_fd)
    # setns(2) has made the root of its mount namespace ours.
    return mount.clone("/", mount.Options(("ro", "nodev", "nosuid")))


def _enter_stopped(root: Root, *, writes: bool, bare: bool) -> int:
    userns_fd = -1
    if root.range_start:
        mappings = idmap.Range(root.range_start).mappings()
        userns_fd = idmap.create_userns(mappings, mappings)
    root_fd = _mount(root, userns_fd, writes=writes, bare=bare)
    _forget_imports()
    if userns_fd >= 0:
        syscalls.setns(userns_fd, syscalls.CLONE_NEWUSER)
        namespaces.become_root()
    return root_fd


def _forget_imports() -> None:
    """Make every further import fail: in there it would run the container's files as us."""
    sys.path, sys.meta_path, sys.path_hooks, sys.path_importer_cache = [], [], [], {}


def _mount(root: Root, userns_fd: int, *, writes: bool, bare: bool) -> int:
    """Mount a stopped container's root and volumes in a mount namespace of our own; return the root."""
    binds = [_bind(each, userns_fd) for each in root.volumes if each.kind != "tmpfs" and not bare]
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    root_fd = assembly.open_root(root.overlay, None) if writes else assembly.open_root_to_read(root.overlay)
    # SECURITY: nodes in an image's layers are nobody's to open.
    syscalls.mount_setattr(root_fd, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOSUID)
    syscalls.move_mount(root_fd, "", syscalls.AT_FDCWD, "/", syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    for entry, fd in sorted(binds, key=lambda bind: bind[0].destination.count("/")):
        _attach(root_fd, entry, fd, writes=writes)
    if root.read_only:
        syscalls.mount_setattr(root_fd, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_RDONLY)
    return root_fd


def _bind(each: "VolumeMount", userns_fd: int) -> tuple[Mount, int]:
    words = ("rbind", "rprivate", "ro" if each.read_only else "rw", *(("idmap",) if userns_fd >= 0 else ()))
    words += (f"{mount.SUBPATH}{each.subpath}",) if each.subpath else ()
    entry = Mount(each.destination, "bind", each.source, words)
    return entry, process.open_bind(entry, userns_fd if userns_fd >= 0 else None)


def _attach(root_fd: int, entry: Mount, fd: int, *, writes: bool) -> None:
    """Attach a volume where it belongs; in a root that is only read, where there is a place for it."""
    try:
        if writes:
            place = target.find_or_make(root_fd, entry.destination, is_directory=target.is_directory(fd))
        else:
            place = target.find(root_fd, entry.destination)
        try:
            mount.attach(fd, place)
        finally:
            os.close(place)
    except OSError as error:
        if writes or error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise SampanError(f"cannot mount the volume at `{entry.destination}`") from error
    finally:
        os.close(fd)
