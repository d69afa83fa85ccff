"""docker system prune: what nothing uses any more goes - stopped containers, networks, volumes, images, build cache."""

from sampan.database import connection
from sampan.engine import container, inspection, network, volume
from sampan.errors import Conflict, NotFound
from sampan.image import removal
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

_STOPPED = ("created", "exited")


class Pruned:
    """What went, by name or id."""

    __slots__ = ("builds", "containers", "images", "networks", "untagged", "volumes")

    def __init__(self) -> None:
        self.containers: list[str] = []
        self.networks: list[str] = []
        self.volumes: list[str] = []
        self.untagged: tuple[str, ...] = ()
        self.images: tuple[str, ...] = ()
        self.builds: tuple[str, ...] = ()


def containers(settings: "Settings") -> list[str]:
    """Remove every container that does not run, with its anonymous volumes left; return their ids."""
    gone = []
    for row in inspection.summaries(settings, all=True):
        if row["State"] in _STOPPED:
            try:
                container.remove(settings, row["Id"])
            except (NotFound, Conflict):
                continue  # somebody else has removed or started it
            gone.append(row["Id"])
    return gone


def everything(settings: "Settings", *, every_image: bool = False, volumes: bool = False) -> Pruned:
    """Do it all, in the order in which one thing lets go of the next."""
    done = Pruned()
    done.containers = containers(settings)
    done.networks = network.prune(settings)
    if volumes:
        done.volumes = volume.prune(settings)
    with connection.open(settings) as database:
        done.builds = removal.forget_builds(database, every=every_image)
        removed = removal.prune(database, every=every_image)
        trash.empty(settings.root)
    done.untagged, done.images = removed.untagged, removed.deleted
    return done
