"""docker system prune: what nothing uses any more goes - stopped containers, networks, volumes, images, build cache."""

from sampan.database import connection
from sampan.engine import container, inspection, label, network, volume
from sampan.errors import Conflict, NotFound
from sampan.image import removal
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

_STOPPED = ("created", "exited")
_BILLION = 1_000_000_000


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


def containers(settings: "Settings", chosen: label.Selection = label.EVERYTHING) -> list[str]:
    """Remove every container that does not run and is taken, its anonymous volumes left; return their ids."""
    gone = []
    for row in inspection.summaries(settings, all=True):
        if row["State"] in _STOPPED and chosen.takes(row["Labels"] or {}, row["Created"] * _BILLION):
            try:
                container.remove(settings, row["Id"])
            except (NotFound, Conflict):
                continue  # somebody else has removed or started it
            gone.append(row["Id"])
    return gone


def everything(
    settings: "Settings",
    *,
    every_image: bool = False,
    volumes: bool = False,
    chosen: label.Selection = label.EVERYTHING,
) -> Pruned:
    """Do it all, in the order in which one thing lets go of the next, as far as `chosen` takes it.

    Builds have no labels: where those are asked for, they stay.
    """
    done = Pruned()
    done.containers = containers(settings, chosen)
    done.networks = network.prune(settings, chosen=chosen)
    if volumes:
        done.volumes = volume.prune(settings, chosen=chosen)
    with connection.open(settings) as database:
        if not chosen.asks_for_labels:
            done.builds = removal.forget_builds(database, every=every_image, until=chosen.until)
        removed = removal.prune(database, every=every_image, takes=chosen.takes)
        trash.empty(settings.root)
    done.untagged, done.images = removed.untagged, removed.deleted
    return done
