"""The root of a container: an overlay of layers, as a detached mount that the host's mount table never shows.

Theory: ids on disk are the image's. With a user namespace each layer is cloned and the clone is idmapped, so that an
image's id 0 appears as the first id of the container's range. `upper` and `work` lie in one directory and come through
one such clone. Two recipes make the overlay, by kernel:

    detached (6.15+)  the clones stay detached and are given to fsconfig(2) as descriptors
    attached          a child in a mount namespace of its own attaches the clones under short names, mounts the overlay
                      from there and sends its descriptor back; overlayfs keeps its own references to the clones

INVARIANT: whoever mounts has the range's first id for its file system ids. Otherwise overlayfs cannot write in `work`,
says nothing, and the root is silently read-only.
"""

import os

from sampan.errors import InvalidArgument, Unsupported
from sampan.kernel import capability, mount, syscalls
from sampan.runtime import channel, recipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType
    from typing import Self

# fsconfig(2) takes strings of at most 255 bytes: names of one or two digits and their colons, for this many layers.
_MAX_LOWERS = 88
_MAX_DETACHED_LOWERS = 490  # OVL_MAX_STACK of fs/overlayfs/params.h is 500


class RootSource:
    """What storage emits: `lowers` (topmost first), `upper` and `work`, as host paths.

    `upper` and `work` are in the same directory; both are empty for a root that is read-only. `is_idmapped` is false
    where the ids on disk are already the container's (a shifted snapshot, or no user namespace). `is_volatile` leaves
    out the sync of the whole file system at the end, for an upper that is thrown away after and never mounted again.
    `is_whole`: a changed file is whole in the upper, and a renamed directory too, so that it can be read as a layer.
    `shown` are those of the lowers that show the container's ids already.
    """

    __slots__ = ("is_idmapped", "is_volatile", "is_whole", "lowers", "shown", "upper", "work")

    def __init__(
        self,
        lowers: "tuple[str, ...]",
        upper: str = "",
        work: str = "",
        *,
        is_idmapped: bool = True,
        is_volatile: bool = False,
        is_whole: bool = False,
        shown: "Collection[str]" = (),
    ) -> None:
        self.shown = shown
        self.lowers = lowers
        self.upper = upper
        self.work = work
        self.is_idmapped = is_idmapped
        self.is_volatile = is_volatile
        self.is_whole = is_whole


def open_root(
    source: RootSource,
    userns_fd: int | None,
    features: recipe.Features,
    *,
    userxattr: bool = False,
) -> int:
    """Return a detached mount of the overlay; with `userns_fd` its ids are those of that user namespace.

    The caller closes it. Raises OSError where the kernel refuses, Unsupported where the file system cannot be idmapped.
    """
    if os.path.dirname(source.upper) != os.path.dirname(source.work):
        raise InvalidArgument(f"`{source.upper}` and `{source.work}` are not in one directory")
    mapped_fd = userns_fd if source.is_idmapped else None
    if mapped_fd is not None and features.overlay_recipe == recipe.NONE:
        raise cannot_be_idmapped(source.upper or source.lowers[0])
    is_detached = features.has_detached_overlay if mapped_fd is None else features.overlay_recipe == recipe.DETACHED
    with _Clones(source, mapped_fd) as clones, _FileSystemIds(clones.upper if mapped_fd is not None else None):
        flags = ("userxattr",) * userxattr + ("volatile",) * (source.is_volatile and bool(source.upper))
        if source.is_whole and not userxattr:
            # The kernel may be built with both on (overlayfs.rst); where a user namespace mounts they are always off.
            flags += ("redirect_dir=off", "metacopy=off")
        fd = _open_detached(clones, flags) if is_detached else _open_attached(clones, flags)
    if userns_fd is not None:
        # SECURITY: no device program watches a container with a user namespace, and a node opens by its mode.
        syscalls.mount_setattr(fd, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_NODEV)
    return fd


def cannot_be_idmapped(path: str) -> Unsupported:
    """Return the error for a path whose file system cannot show shifted ids."""
    return Unsupported(
        f"the file system of `{path}` ({mount.type_of(path)}) cannot be idmapped",
        hints=("run without a user namespace: `--userns=host`",),
    )


class _Clones:
    """Detached, idmapped clones of all layers and of the directory that holds upper and work."""

    __slots__ = ("has_upper", "lowers", "upper", "upper_name", "work_name")

    def __init__(self, source: RootSource, userns_fd: int | None) -> None:
        self.lowers: list[int] = []
        self.upper: int | None = None
        self.upper_name = os.path.basename(source.upper)
        self.work_name = os.path.basename(source.work)
        if len(source.lowers) > _MAX_DETACHED_LOWERS:
            raise Unsupported(f"the image has {len(source.lowers)} layers, more than {_MAX_DETACHED_LOWERS}")
        options = mount.Options(())
        try:
            for path in source.lowers:
                mapped_fd = None if path in source.shown else userns_fd
                self.lowers.append(mount.clone(path, options, userns_fd=mapped_fd))
            if source.upper:
                self.upper = mount.clone(os.path.dirname(source.upper), options, userns_fd=userns_fd)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: object, error: object, trace: "TracebackType | None") -> None:
        self._close()

    def _close(self) -> None:
        for fd in self.lowers:
            os.close(fd)
        if self.upper is not None:
            os.close(self.upper)


class _FileSystemIds:
    """Within the block, this thread's file system ids are the owner's of `fd`, a clone of a directory that we made.

    On disk that directory is id 0's, so an idmapped clone shows the first ids of the map. setfsuid(2) to an id but 0
    takes away the capabilities about files; they are raised again.
    """

    __slots__ = ("_gid", "_uid")

    def __init__(self, fd: int | None) -> None:
        self._uid = self._gid = 0
        if fd is not None:
            status = os.fstat(fd)
            self._uid, self._gid = status.st_uid, status.st_gid

    def __enter__(self) -> None:
        if self._uid or self._gid:
            syscalls.setfsgid(self._gid)
            syscalls.setfsuid(self._uid)
            capability.raise_effective()

    def __exit__(self, kind: object, error: object, trace: "TracebackType | None") -> None:
        if self._uid or self._gid:
            syscalls.setfsuid(os.geteuid())
            syscalls.setfsgid(os.getegid())


def _open_detached(clones: _Clones, flags: "tuple[str, ...]") -> int:
    """Give the clones to fsconfig(2) as descriptors; upper and work by way of /proc/self/fd."""
    context = syscalls.fsopen("overlay")
    upper_fd = work_fd = -1
    try:
        for fd in clones.lowers:
            syscalls.fsconfig_fd(context, "lowerdir+", fd)
        if clones.upper is not None:
            upper_fd = os.open(clones.upper_name, os.O_PATH | os.O_CLOEXEC, dir_fd=clones.upper)
            work_fd = os.open(clones.work_name, os.O_PATH | os.O_CLOEXEC, dir_fd=clones.upper)
            syscalls.fsconfig_fd(context, "upperdir", upper_fd)
            syscalls.fsconfig_fd(context, "workdir", work_fd)
        return _make(context, flags)
    finally:
        for fd in (context, upper_fd, work_fd):
            if fd >= 0:
                os.close(fd)


def _make(context: int, flags: "tuple[str, ...]") -> int:
    for flag in flags:
        key, equals, value = flag.partition("=")
        if equals:
            syscalls.fsconfig_string(context, key, value)
        else:
            syscalls.fsconfig_flag(context, key)
    syscalls.fsconfig_string(context, "source", "sampan")
    syscalls.fsconfig_create(context)
    return syscalls.fsmount(context)


def _open_attached(clones: _Clones, flags: "tuple[str, ...]") -> int:
    """Have a child with a mount namespace of its own make the overlay and send its descriptor."""
    if len(clones.lowers) > _MAX_LOWERS:
        raise Unsupported(f"the image has {len(clones.lowers)} layers, more than {_MAX_LOWERS} on this kernel")
    ours, theirs = channel.pair()
    pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWNS)
    if pid == 0:
        _serve_attached(clones, theirs, flags)
    theirs.close()
    os.close(pidfd)
    try:
        (fd,) = ours.expect(channel.READY)
    except channel.Failure as failure:
        raise OSError(failure.errno, os.strerror(failure.errno), failure.subject) from failure
    else:
        return fd
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _serve_attached(clones: _Clones, theirs: channel.Channel, flags: "tuple[str, ...]") -> None:
    """Make the overlay, send it, end: the whole life of the child of `_open_attached`."""
    try:
        theirs.send(channel.READY, fds=(_make_attached(clones, flags),))
    except OSError as error:
        theirs.send_failure("mount the overlay", error.errno or 0, str(error.filename or ""))
    finally:
        os._exit(0)


def _make_attached(clones: _Clones, flags: "tuple[str, ...]") -> int:
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    names = [str(number) for number in range(len(clones.lowers))]
    place = mount.filesystem("tmpfs", ("mode=0755",))
    # Any directory does: this mount namespace is ours alone and short-lived.
    syscalls.move_mount(place, "", syscalls.AT_FDCWD, "/proc", syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    os.fchdir(place)
    pairs = list(zip(names, clones.lowers, strict=True))
    if clones.upper is not None:
        pairs.append(("u", clones.upper))
    for name, fd in pairs:
        os.mkdir(name, 0o755)
        syscalls.move_mount(fd, "", syscalls.AT_FDCWD, name, syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    return _make_by_name(clones, ":".join(names), flags)


def _make_by_name(clones: _Clones, lowerdir: str, flags: "tuple[str, ...]") -> int:
    context = syscalls.fsopen("overlay")
    syscalls.fsconfig_string(context, "lowerdir", lowerdir)
    if clones.upper is not None:
        syscalls.fsconfig_string(context, "upperdir", f"u/{clones.upper_name}")
        syscalls.fsconfig_string(context, "workdir", f"u/{clones.work_name}")
    return _make(context, flags)
