"""The project's volumes: made under the project's name before anything mounts them, and removed by `down -v`."""

from typing import TYPE_CHECKING

from sampan.compose import wish
from sampan.database import connection
from sampan.engine import record, rootless, volume
from sampan.errors import Conflict, NotFound
from sampan.storage import trash

if TYPE_CHECKING:
    from sampan.compose.crew import Say
    from sampan.compose.model.project import Project, Resource
    from sampan.settings.configuration import Settings


def ensure(settings: "Settings", project: "Project", resource: "Resource", say: "Say") -> None:
    """See that a volume is there, labelled as the project's; raises NotFound for an external one that is not."""
    if is_there(settings, resource.name):
        return
    if resource.is_external:
        raise NotFound(
            f"the volume `{resource.name}`, declared as external, does not exist", at=resource.place,
            hints=(f"make it with `sampan volume create {resource.name}`",),
        )  # fmt: skip
    own = {key: value or "" for key, value in resource.values.get("labels", {}).items()}
    volume.create(settings, resource.name, labels=own | {wish.PROJECT: project.name, wish.VOLUME: resource.key})
    say(f"Volume {resource.name}", "Created")


def is_there(settings: "Settings", name: str) -> bool:
    """Return whether a volume is there."""
    with connection.open(settings) as database:
        return database.row("SELECT 1 FROM volumes WHERE name = ?", (name,)) is not None


def remove(settings: "Settings", name: str) -> None:
    """Remove a volume; raises NotFound, and Conflict where a container has it."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        with database.transaction():
            if database.row("SELECT 1 FROM volumes WHERE name = ?", (name,)) is None:
                raise NotFound(f"there is no volume `{name}`")
            for container in record.every(database):
                if any(mount.kind == "volume" and mount.source == name for mount in container.volumes):
                    raise Conflict(f"the volume `{name}` is used by the container `{container.name}`")
            database.execute("DELETE FROM volumes WHERE name = ?", (name,))
            trash.discard(settings.root, f"{settings.root}/volumes/{name}")
        trash.empty(settings.root)
