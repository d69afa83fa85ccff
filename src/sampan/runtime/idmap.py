"""Id maps: ranges of host ids, user namespaces that carry a map, and what each file system can do with them.

A container's ids on disk are the image's own; its processes have ids of a `Range`. The bridge between both is an
idmapped mount, which takes its map from a user namespace. Which recipe makes an overlay of idmapped layers depends on
the kernel, and whether a layer can be idmapped on the file system: both are tried once and the answer is cached.
"""

import errno
import os

from sampan import document
from sampan.errors import Unsupported
from sampan.kernel import mount, syscalls
from sampan.oci.runtime import IdMapping
from sampan.runtime import namespaces, recipe, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

DETACHED, ATTACHED, NONE = recipe.DETACHED, recipe.ATTACHED, recipe.NONE
Features = recipe.Features
RANGE_SIZE = 65536


class Range:
    """`size` host ids from `start` on, which belong to one container."""

    __slots__ = ("size", "start")

    def __init__(self, start: int, size: int = RANGE_SIZE) -> None:
        self.start = start
        self.size = size

    def mappings(self) -> "tuple[IdMapping, ...]":
        """Map container id 0 and up to this range."""
        return (IdMapping(0, self.start, self.size),)


def host_id(mappings: "tuple[IdMapping, ...]", container_id: int) -> int | None:
    """Return what `container_id` is outside, or None where nothing maps it; without mappings ids are the same."""
    if not mappings:
        return container_id
    for mapping in mappings:
        if mapping.container_id <= container_id < mapping.container_id + mapping.size:
            return mapping.host_id + container_id - mapping.container_id
    return None


def write_maps(pid: int, uid_mappings: "tuple[IdMapping, ...]", gid_mappings: "tuple[IdMapping, ...]") -> None:
    """Give the new user namespace of process `pid` its maps. user_namespaces(7)."""
    for name, mappings in (("uid_map", uid_mappings), ("gid_map", gid_mappings)):
        text = "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in _split(mappings, _extents(name)))
        # One write(2): the kernel takes a map whole or not at all.
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _extents(name: str) -> "list[tuple[int, int]]":
    """Return (first, size) of each line of our own map, in our own ids."""
    with open(f"/proc/self/{name}", "rb") as file:
        lines = [line.split() for line in file]
    return [(int(first), int(size)) for first, _, size in lines]


def _split(mappings: "tuple[IdMapping, ...]", extents: "list[tuple[int, int]]") -> "list[IdMapping]":
    """Cut `mappings` where our own map has a seam: the kernel refuses (EPERM) a line that crosses one."""
    parts = []
    for mapping in mappings:
        end = mapping.host_id + mapping.size
        for first, size in extents:
            low, high = max(mapping.host_id, first), min(end, first + size)
            if low < high:
                parts.append(IdMapping(mapping.container_id + low - mapping.host_id, low, high - low))
    return parts


def inherited(name: str, own: int) -> "tuple[IdMapping, ...]":
    """Return a map (`uid_map`, `gid_map`) of all ids that this user namespace has, as they are.

    For a normal user's container: a single id becomes `own`, the one that its process has.
    """
    with open(f"/proc/self/{name}", encoding="utf-8") as file:
        spans = [tuple(map(int, line.split())) for line in file]
    if sum(size for _, _, size in spans) == 1:
        return (IdMapping(own, 0, 1),)
    return tuple(IdMapping(inside, inside, size) for inside, _, size in spans)


def own_id(name: str) -> int:
    """Return the id (`uid_map`, `gid_map`) that a normal user has outside, where it is 0 from within."""
    with open(f"/proc/self/{name}", encoding="utf-8") as file:
        return next(int(outside) for inside, outside, _ in map(str.split, file) if inside == "0")


def kept(name: str) -> "tuple[IdMapping, ...]":
    """Return a map of all ids that this user namespace has in which the user's own is what it is outside.

    The others follow in order, so that 0 is there too where there is more than one.
    """
    own, size = own_id(name), sum(size for _, size in _extents(name))
    below = min(own, size - 1)
    first = (IdMapping(0, 1, below),) if below else ()
    above = size - 1 - below
    return (*first, IdMapping(own, 0, 1), *((IdMapping(own + 1, below + 1, above),) if above else ()))


def create_userns(uid_mappings: "tuple[IdMapping, ...]", gid_mappings: "tuple[IdMapping, ...]") -> int:
    """Return a descriptor of a new user namespace with these maps, which no process is in; the caller closes it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER)
    except OSError as error:
        os.close(reading)
        os.close(writing)
        namespaces.explain(error, syscalls.CLONE_NEWUSER)
        raise
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        write_maps(pid, uid_mappings, gid_mappings)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writing)
        os.close(pidfd)
        os.waitpid(pid, 0)


def features(settings: "Settings") -> Features:
    """Return what the file system of SAMPAN_ROOT can do: tried once, then read from SAMPAN_RUN."""
    os.makedirs(settings.run, 0o700, exist_ok=True)
    os.makedirs(settings.root, 0o700, exist_ok=True)
    forced = NONE if settings.idmap == "shift" else "auto"
    return probe(settings.root, f"{settings.run}/features.json", forced=forced)


def probe(root_directory: str, cache: str, *, forced: str = "auto") -> Features:
    """Return the features of the file system of `root_directory`, tried once for each kernel and recorded in `cache`.

    The directory is written to for a moment. `forced` (`detached`, `attached` or `none`) overrides the answer.
    """
    if forced in (DETACHED, ATTACHED, NONE):
        return Features(forced, has_detached_overlay=forced == DETACHED, has_idmapped_tmpfs=forced == DETACHED)
    key = f"{os.uname().release}:{os.stat(root_directory).st_dev}:{os.stat('/proc/self/ns/user').st_ino}"
    known = _read_cache(cache)
    try:
        return Features(**known[key])
    except (KeyError, TypeError):  # not tried yet, or by another version
        pass
    try:
        found = _try(root_directory)
    except Unsupported:  # without user namespaces there is nothing to map; not recorded, since a sysctl can change it
        return Features(NONE, has_detached_overlay=False, has_idmapped_tmpfs=False)
    known[key] = {name: getattr(found, name) for name in Features.__slots__}
    _write_cache(cache, known)
    return found


def _read_cache(cache: str) -> "document.Document":
    try:
        with open(cache, encoding="utf-8") as file:
            return document.parse(file.read(65536))
    except (FileNotFoundError, document.Malformed):
        return {}


def _write_cache(cache: str, known: "document.Document") -> None:
    """Replace the cache atomically; not synced, since it is only ever a saving of time."""
    temporary = f"{cache}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(document.render(known))
    os.rename(temporary, cache)


def _try(root_directory: str) -> Features:
    """Try every recipe in a directory of our own below `root_directory`."""
    directory = f"{root_directory}/.probe-{os.getpid()}"
    os.mkdir(directory, 0o700)
    try:
        has_detached = _works(f"{directory}/plain", None, DETACHED)
        userns_fd = _probe_userns()
        if userns_fd is None:
            return Features(NONE, has_detached_overlay=has_detached, has_idmapped_tmpfs=False)
        try:
            recipes = (name for name in (DETACHED, ATTACHED) if _works(f"{directory}/{name}", userns_fd, name))
            found, has_tmpfs = next(recipes, NONE), _has_idmapped_tmpfs(userns_fd)
        finally:
            os.close(userns_fd)
        return Features(found, has_detached_overlay=has_detached, has_idmapped_tmpfs=has_tmpfs)
    finally:
        _remove(directory)


def _works(directory: str, userns_fd: int | None, name: str) -> bool:
    """Tell whether the recipe `name` makes an overlay in `directory`, which it creates."""
    for path in (directory, *(f"{directory}/{part}" for part in ("lower", "upper", "work"))):
        os.mkdir(path, 0o700)
    # Volatile, since the end of an overlay that is not syncs the whole file system: up to half a second for nothing.
    layout = (f"{directory}/lower",), f"{directory}/upper", f"{directory}/work"
    source = rootfs.RootSource(*layout, is_idmapped=userns_fd is not None, is_volatile=True)
    tried = Features(name, has_detached_overlay=name == DETACHED, has_idmapped_tmpfs=False)
    try:
        os.close(rootfs.open_root(source, userns_fd, tried, userxattr=not _is_initial_userns()))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EPERM, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise
    return True


def _is_initial_userns() -> bool:
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return file.read().split() == ["0", "0", "4294967295"]


def _probe_userns() -> int | None:
    """Return a user namespace for the trial; None where idmapping is impossible since we are not in the initial one."""
    if not _is_initial_userns():
        return None
    mappings = Range(0x6000_0000).mappings()
    return create_userns(mappings, mappings)


def _has_idmapped_tmpfs(userns_fd: int) -> bool:
    fd = mount.filesystem("tmpfs")
    try:
        syscalls.mount_setattr(fd, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_IDMAP, userns_fd=userns_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    finally:
        os.close(fd)
    return True


def _remove(directory: str) -> None:
    """Remove the trial's directories with those that overlayfs left in them."""
    for path, _, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
