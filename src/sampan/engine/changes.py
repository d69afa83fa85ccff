"""docker diff: what a container has changed in its root, read from the upper directory of its overlay.

Theory. The upper holds what differs from the image: whole files, a character device 0:0 for a name that is gone, a
directory wherever something in it differs. Both trees are walked side by side, names in the order of their bytes, a
directory before what is in it. What a start makes as places for its own mounts is no change of the container's, nor
is the time of the directory around it; docker hides the same in a layer of its own.

SECURITY: the upper is a container's, which may run: the walk goes by descriptors that follow no link, to a bounded
depth, and through at most ENTRIES names.
"""

import os
import stat

from sampan.database import connection
from sampan.engine import preparation, record, rootless, state, sweep
from sampan.errors import Exhausted
from sampan.image.store import Images
from sampan.kernel import mount
from sampan.runtime import idmap, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

ADDED, CHANGED, DELETED = "A", "C", "D"
DEPTH = 200
ENTRIES = 2_000_000
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
STUBS = ("/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def find(settings: "Settings", name: str) -> list[tuple[str, str]]:
    """Return (kind, path) of every change, `A`, `C` or `D`; raises NotFound."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        container = record.by_name(database, name)
        upper = f"{state.directory(settings, container.id)}/upper"
        if not os.path.isdir(upper):
            return []  # it has never run
        features = idmap.features(settings)
        image = Images(database).find(container.image_id)
        ground = preparation.Ground.of(features)
        lowers = preparation.lowers(database, settings, container.options, image, ground)
    image_fd = open_image(lowers, features, userxattr=settings.uid != 0)
    try:
        upper_fd = os.open(upper, _DIRECTORY)
        try:
            return _Walk().run(upper_fd, image_fd)
        finally:
            os.close(upper_fd)
    finally:
        os.close(image_fd)


def open_image(lowers: tuple[str, ...], features: idmap.Features, *, userxattr: bool) -> int:
    """Return a detached mount of the image's layers."""
    if len(lowers) == 1:
        fd = mount.clone(lowers[0], mount.Options(("ro", "nodev")))
    else:
        source = rootfs.RootSource(lowers, is_idmapped=False)
        fd = rootfs.open_root(source, None, features, userxattr=userxattr)
    try:
        return os.open(".", _DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)


class _Walk:
    """One walk through an upper and the image below it."""

    __slots__ = ("_entries", "_found")

    def __init__(self) -> None:
        self._entries = 0
        self._found: list[tuple[str, str]] = []

    def run(self, upper_fd: int, image_fd: int) -> list[tuple[str, str]]:
        self._children(upper_fd, image_fd, "", 0)
        return self._found

    def _children(self, upper: int, image: int | None, prefix: str, depth: int) -> bool:
        """Walk one directory; tell whether a place for a mount was made in it. `image` is None where it is new."""
        if depth > DEPTH:
            raise Exhausted(f"`{prefix[:200]}…` is more than {DEPTH} directories deep")
        has_stub = False
        for name in sorted(os.listdir(upper), key=os.fsencode):
            self._entries += 1
            if self._entries > ENTRIES:
                raise Exhausted(f"the container has changed more than {ENTRIES} files")
            try:
                has_stub |= self._one(upper, image, name, f"{prefix}/{name}", depth)
            except FileNotFoundError:
                continue  # it runs, and has removed it meanwhile
        return has_stub

    def _one(self, upper: int, image: int | None, name: str, path: str, depth: int) -> bool:
        status, below = os.lstat(name, dir_fd=upper), _status(image, name)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            if below is not None:
                self._found.append((DELETED, path))
        elif stat.S_ISDIR(status.st_mode):
            return self._directory(upper, image, name, path, depth)
        elif path in STUBS and below is None and status.st_size == 0:
            return True
        else:
            self._found.append((ADDED if below is None else CHANGED, path))
        return False

    def _directory(self, parent: int, image: int | None, name: str, path: str, depth: int) -> bool:
        """Walk into a directory; it is put down before what is in it, once it is known to be a change."""
        fd, below_fd, at = os.open(name, _DIRECTORY, dir_fd=parent), _open_below(image, name), len(self._found)
        try:
            status = os.fstat(fd)
            below = None if below_fd is None else os.fstat(below_fd)
            has_stub = self._children(fd, None if _is_opaque(fd) else below_fd, path, depth + 1)
            if below is None:
                if path in STUBS and len(self._found) == at:
                    return True
                self._found.insert(at, (ADDED if _status(image, name) is None else CHANGED, path))
            elif len(self._found) > at or _differ(status, below, has_stub=has_stub):
                self._found.insert(at, (CHANGED, path))
        finally:
            os.close(fd)
            if below_fd is not None:
                os.close(below_fd)
        return False


def _status(directory: int | None, name: str) -> os.stat_result | None:
    try:
        return None if directory is None else os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _open_below(directory: int | None, name: str) -> int | None:
    """Open the directory that the image has at the same place; None where it has none."""
    try:
        return None if directory is None else os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:
        return None


def _is_opaque(fd: int) -> bool:
    """Tell whether a directory of the upper hides what the image has in it."""
    return any(name in _OPAQUE for name in os.listxattr(fd))


def _differ(status: os.stat_result, below: os.stat_result, *, has_stub: bool) -> bool:
    if (status.st_mode, status.st_uid, status.st_gid) != (below.st_mode, below.st_uid, below.st_gid):
        return True
    return not has_stub and status.st_mtime_ns != below.st_mtime_ns
