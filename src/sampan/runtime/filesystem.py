"""The container's mounts, made and attached by its first process: file systems, binds, masked and read-only paths.

Theory: what must belong to the container's namespaces (proc, sysfs, devpts, mqueue, cgroup, tmpfs) is made by the
child, detached, while the machine's own mounts are still there, for the kernel lets a user namespace mount proc and
sysfs only beside whole ones. Binds come from the creator as detached clones, since the child may not see their sources.
All are attached to descriptors that were resolved inside the new root, and only then does the child leave the old one.
"""

import errno
import os

from sampan.kernel import mount, syscalls
from sampan.runtime import target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import Mount, Spec

# SECURITY: an image that makes one of these a link would have the kernel's files appear where no mask is.
_NO_LINKS = ("/proc", "/sys", "/dev")
_READ_ONLY = mount.Options(("ro", "rbind"))
# File system -> the namespace that it shows, and where the machine's own is. Whoever joins a network namespace of
# another user namespace sees the machine's devices, as with podman; there is nothing secret in those.
_SHOWN = {"proc": ("pid", "/proc"), "mqueue": ("ipc", "/dev/mqueue"), "sysfs": ("-", "/sys")}
_EMPTY_DIRECTORY = ("size=0", "nr_inodes=2", "mode=0755")


def is_bind(entry: "Mount") -> bool:
    """Tell whether `entry` shows something that exists rather than a new file system."""
    return entry.type == "bind" or "bind" in entry.options or "rbind" in entry.options


def make_all(spec: "Spec") -> "dict[int, int]":
    """Return, by number, detached mounts of the file systems that belong to the child's namespaces."""
    made = {}
    for number, entry in enumerate(spec.mounts):
        if not is_bind(entry) and not is_dev(entry):
            made[number] = make(entry, spec.namespaces)
    return made


def is_dev(entry: "Mount") -> bool:
    """Tell whether `entry` is the container's /dev, which `device` makes."""
    return entry.type == "tmpfs" and entry.destination == "/dev"


def make(entry: "Mount", joined: "dict[str, str]") -> int:
    """Return a detached mount of a new file system; raises OSError with the destination as its path."""
    options = mount.Options(entry.options)
    try:
        if entry.type == "cgroup":
            return _make_cgroup(options)
        return mount.filesystem(entry.type, options.data, options.attributes_set, entry.source)
    except OSError as error:
        fallback = _fall_back(entry, options, joined, error)
        if fallback is None:
            error.filename = entry.destination
            raise
        return fallback


def _fall_back(
    entry: "Mount",
    options: mount.Options,
    joined: "dict[str, str]",
    error: OSError,
) -> int | None:
    # The group that owns terminals is not in a map of a single id.
    if entry.type == "devpts" and error.errno == errno.EINVAL:
        data = tuple(word for word in options.data if not word.startswith("gid="))
        return mount.filesystem("devpts", data, options.attributes_set, entry.source)
    # Another user namespace owns the network or pid namespace that we share: show the machine's own, as podman does.
    # SECURITY: not where the pid namespace is another container's, since that would show the machine's processes.
    namespace, place = _SHOWN.get(entry.type, ("", ""))
    if place and namespace not in joined and error.errno == errno.EPERM:
        words = tuple(word for word in entry.options if word not in options.data)
        return _machines_own(place, mount.Options((*words, "rbind")))
    return None


def _machines_own(place: str, options: mount.Options) -> int:
    """Return a clone of the machine's mount at `place`; an empty directory where it has no message queues."""
    try:
        return mount.clone(place, options)
    except FileNotFoundError:
        if place != "/dev/mqueue":
            raise
        return mount.filesystem("tmpfs", _EMPTY_DIRECTORY, syscalls.MOUNT_ATTR_RDONLY)


def _make_cgroup(options: mount.Options) -> int:
    """Make cgroup2, or, on a machine with hierarchies of version 1, the tmpfs that will hold one mount for each."""
    if hierarchies():
        return mount.filesystem(
            "tmpfs", ("mode=0755", "size=64k"), options.attributes_set & ~syscalls.MOUNT_ATTR_RDONLY
        )
    try:
        return mount.filesystem("cgroup2", (), options.attributes_set)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EBUSY):
            raise
        return mount.clone("/sys/fs/cgroup", mount.Options(("ro", "nosuid", "nodev", "noexec", "rbind")))


def hierarchies() -> "tuple[str, ...]":
    """Return the controllers of each cgroup v1 hierarchy, as `cpu,cpuacct` or `name=systemd`; none on a v2 machine."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        names = [line.split(":", 2)[1] for line in file]
    return tuple(name for name in names if name)


def attach_all(root_fd: int, spec: "Spec", mounts: "dict[int, int]") -> None:
    """Attach every mount, in the spec's order, and close its descriptor."""
    for number, entry in enumerate(spec.mounts):
        fd = mounts.pop(number)
        try:
            attach(root_fd, entry, fd)
        except OSError as error:
            error.filename = entry.destination
            raise
        finally:
            os.close(fd)


def attach(root_fd: int, entry: "Mount", fd: int) -> None:
    """Attach the detached mount `fd` where `entry` says, making the place where nothing is there."""
    is_own = entry.type in ("proc", "sysfs") or os.path.normpath(entry.destination) in _NO_LINKS
    resolve = syscalls.RESOLVE_NO_SYMLINKS if is_own else 0
    place = target.find_or_make(root_fd, entry.destination, is_directory=target.is_directory(fd), resolve=resolve)
    try:
        _check_kinds(fd, place)
        mount.attach(fd, place)
    finally:
        os.close(place)
    if entry.type == "cgroup" and hierarchies():
        _fill_cgroup(fd, mount.Options(entry.options))


def _check_kinds(fd: int, place: int) -> None:
    """Refuse a file on a directory and a directory on a file, for which the kernel says EINVAL only."""
    is_onto_directory = target.is_directory(place)
    if target.is_directory(fd) != is_onto_directory:
        number = errno.EISDIR if is_onto_directory else errno.ENOTDIR
        raise OSError(number, os.strerror(number))


def _fill_cgroup(directory_fd: int, options: mount.Options) -> None:
    """Mount each hierarchy of cgroup v1 in the attached tmpfs `directory_fd`, with links for joint controllers."""
    for name in hierarchies():
        directory = name.removeprefix("name=")
        os.mkdir(directory, 0o755, dir_fd=directory_fd)
        try:
            fd = mount.filesystem("cgroup", tuple(name.split(",")), options.attributes_set, "cgroup")
        except OSError as error:
            # A hierarchy that another user namespace's options hide; the container does without it, as under runc.
            if error.errno not in (errno.EPERM, errno.EBUSY, errno.EINVAL, errno.ENOENT):
                raise
            continue
        place = os.open(directory, os.O_PATH | os.O_CLOEXEC, dir_fd=directory_fd)
        mount.attach(fd, place)
        os.close(place)
        os.close(fd)
        for controller in directory.split(",") if "," in directory else ():
            os.symlink(directory, controller, dir_fd=directory_fd)
    flags = options.attributes_set & syscalls.MOUNT_ATTR_RDONLY
    if flags:
        syscalls.mount_setattr(directory_fd, "", syscalls.AT_EMPTY_PATH, flags)


def protect(root_fd: int, spec: "Spec") -> None:
    """Cover the masked paths and make the read-only ones so; those that are not there need nothing."""
    for path in spec.readonly_paths:
        _each_existing(root_fd, path, _make_read_only)
    for path in spec.masked_paths:
        _each_existing(root_fd, path, _mask)


def _each_existing(root_fd: int, path: str, action: "Callable[[int], None]") -> None:
    try:
        fd = target.find(root_fd, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    try:
        action(fd)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def _make_read_only(fd: int) -> None:
    cover = mount.clone("", _READ_ONLY, dirfd=fd)
    mount.attach(cover, fd)
    os.close(cover)


def _mask(fd: int) -> None:
    if target.is_directory(fd):
        cover = mount.filesystem("tmpfs", _EMPTY_DIRECTORY, syscalls.MOUNT_ATTR_RDONLY)
    else:
        cover = mount.clone("/dev/null", mount.Options(()))
    mount.attach(cover, fd)
    os.close(cover)


def write_sysctl(root_fd: int, name: str, value: str) -> None:
    """Set the kernel parameter `name` of the child's namespaces through the container's own /proc."""
    path = f"/proc/sys/{name.replace('.', '/')}"
    resolve = syscalls.RESOLVE_NO_SYMLINKS
    fd = target.find(root_fd, path, os.O_WRONLY, resolve=resolve)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
