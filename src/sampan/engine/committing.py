"""docker commit, the container's half: its upper directory, held still while somebody makes a layer of it.

A stopped container is held by its lock, one that runs by its cgroup's freezer. SECURITY: a child thaws it when the pipe
from the command closes, so a command that is killed leaves no container frozen.
"""

import os

from sampan.database import connection
from sampan.engine import changes, preparation, record, rootless, state, sweep, visit
from sampan.errors import Unsupported
from sampan.image.store import Images
from sampan.kernel import syscalls
from sampan.runtime import cgroup, idmap, idrange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from sampan.engine.record import Container
    from sampan.settings.configuration import Settings


class Held:
    """A container that holds still; use it in a `with`.

    `upper` holds its changes, with ids that are moved by `shift`; `made` are the places of its mounts in there, and
    `touched` the directories around them as the image has them: (mode, uid, gid).
    """

    __slots__ = ("_guard", "_root", "container", "made", "shift", "touched", "upper")

    def __init__(self, container: "Container", root: visit.Root, upper: str) -> None:
        self.container = container
        self.upper = upper
        self.shift = 0
        self.made = frozenset(path[1:] for path in changes.STUBS)
        self.touched: dict[str, tuple[int, int, int]] = {}
        self._root = root
        self._guard: tuple[int, int] | None = None

    def pause(self, group: "cgroup.Cgroup") -> None:
        """Freeze it, and have a child thaw it when this process lets go of it, or ends."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()  # Ctrl-C is not for it
                syscalls.close_others((reading,))
                os.read(reading, 1)
                group.thaw()
            finally:
                os._exit(0)
        os.close(reading)
        self._guard = (pid, writing)
        group.freeze()

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Let it go on; returns when it does."""
        if self._guard is not None:
            pid, writing = self._guard
            os.close(writing)
            os.waitpid(pid, 0)
        self._root.__exit__()


def hold(settings: "Settings", name: str, *, pause: bool) -> Held:
    """Hold a container; one that runs is paused if that is asked for and possible here. Raises NotFound, Conflict."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        container = record.by_name(database, name)
        features = idmap.features(settings)
        ground = preparation.Ground.of(features)
        image = Images(database).find(container.image_id)
        lowers = preparation.lowers(database, settings, container.options, image, ground)
    # With its own connection, which is closed before anybody forks.
    root = visit.open_root(settings, container.id)
    held = Held(container, root, f"{state.directory(settings, container.id)}/upper")
    try:
        if not ground.is_idmappable and settings.uid == 0 and preparation.has_userns(settings, container.options):
            held.shift = idrange.shared()
        held.touched = _touched(lowers, features, shift=held.shift, userxattr=settings.uid != 0)
        if root.is_running and pause:
            _pause(held, state.read(state.directory(settings, container.id)))
    except BaseException:
        held.__exit__()
        raise
    return held


def _pause(held: Held, told: state.State) -> None:
    # What somebody paused stays so.
    if told.cgroup is None or state.is_paused(told):
        return
    try:
        held.pause(cgroup.parse(told.cgroup))
    except (Unsupported, OSError):
        pass  # a normal user's container on cgroup v1 has no freezer


def _touched(
    lowers: tuple[str, ...], features: idmap.Features, *, shift: int, userxattr: bool
) -> dict[str, tuple[int, int, int]]:
    """Return what the image has where places for mounts are made."""
    image_fd = changes.open_image(lowers, features, userxattr=userxattr)
    try:
        status = os.lstat("etc", dir_fd=image_fd)
    except FileNotFoundError:
        return {}
    finally:
        os.close(image_fd)
    return {"etc": (status.st_mode & 0o7777, status.st_uid - shift, status.st_gid - shift)}
