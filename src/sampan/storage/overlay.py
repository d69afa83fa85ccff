"""The paths that make a container's root: layers below, a directory for its changes, and overlayfs's own beside it."""

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Paths:
    """What overlayfs stacks: `lowers` topmost first.

    `upper` and `work` lie in one directory, which one clone can map.
    """

    __slots__ = ("lowers", "upper", "work")

    def __init__(self, lowers: tuple[str, ...], upper: str, work: str) -> None:
        self.lowers = lowers
        self.upper = upper
        self.work = work


def root_source(lowers: "Sequence[str]", container_directory: str) -> Paths:
    """Make `upper` and `work` in `container_directory` where they are not there, and return the paths. Idempotent.

    The upper directory is the root directory that the container sees: it gets mode and owner of the topmost layer's.
    """
    upper, work = f"{container_directory}/upper", f"{container_directory}/work"
    try:
        os.mkdir(upper, 0o755)
    except FileExistsError:
        pass
    else:
        _imitate(upper, lowers[0])
    try:
        os.mkdir(work, 0o755)
    except FileExistsError:
        return Paths(tuple(lowers), upper, work)
    # overlayfs copies up through it: with a shifted owner only that owner may (overlayfs.rst, permission model).
    found = os.stat(upper)
    if found.st_uid != os.stat(work).st_uid:
        os.chown(work, found.st_uid, found.st_gid)
    return Paths(tuple(lowers), upper, work)


def _imitate(upper: str, lower: str) -> None:
    found = os.stat(lower)
    made = os.stat(upper)
    if (found.st_uid, found.st_gid) != (made.st_uid, made.st_gid):
        os.chown(upper, found.st_uid, found.st_gid)
    os.chmod(upper, stat.S_IMODE(found.st_mode))
