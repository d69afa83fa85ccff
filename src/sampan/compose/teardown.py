"""Stop, kill, remove, down: what depends goes before what it depends on, everything else at once.

`down` needs the compose file only for what has no container: without one it goes by the labels alone.
"""

from collections.abc import Callable, Iterable, Mapping

from sampan.compose import label, material, reconcile
from sampan.compose.crew import HANDS, Crew, Say, Task, TaskFailed
from sampan.compose.model import order
from sampan.engine import container, network, volume
from sampan.errors import Conflict, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.compose.crew import Watch
    from sampan.compose.model.project import Service
    from sampan.compose.sight import Seen
    from sampan.settings.configuration import Settings


def each(
    services: Mapping[str, "Service"],
    seen: Iterable["Seen"],
    act: Callable[["Seen", Say], None],
    say: Say,
    *,
    parallel: int = HANDS,
    watch: "Watch | None" = None,
) -> None:
    """Do `act` to containers, those of a service after those of the services that wait for it."""
    by_service: dict[str, list[Seen]] = {}
    for one in seen:
        by_service.setdefault(one.service, []).append(one)

    def task(name: str, one: "Seen") -> Task:
        needs = [other for service in order.dependents(services, name) for other in by_service.get(service, ())]
        return Task(name=one.id, act=lambda say, _wait: act(one, say), needs=tuple(other.id for other in needs))

    tasks = [task(name, one) for name, members in by_service.items() for one in members]
    try:
        Crew(say, limit=parallel, watch=watch).work(tasks)
    except TaskFailed as failed:
        raise failed.error from failed.error.__cause__


def stop(settings: "Settings", timeout_seconds: int | None) -> Callable[["Seen", Say], None]:
    """Return what stops one container."""

    def act(one: "Seen", say: Say) -> None:
        if one.is_running:
            say(f"Container {one.name}", "Stopping")
            container.stop(settings, one.id, timeout_seconds)
        say(f"Container {one.name}", "Stopped")

    return act


def kill(settings: "Settings", signal: str) -> Callable[["Seen", Say], None]:
    """Return what sends a signal to one container."""

    def act(one: "Seen", say: Say) -> None:
        if not one.is_running:
            return
        say(f"Container {one.name}", "Killing")
        try:
            container.kill(settings, one.id, signal)
        except Conflict:
            pass  # it has ended meanwhile
        say(f"Container {one.name}", "Killed")

    return act


def remove(settings: "Settings", timeout_seconds: int | None, *, volumes: bool) -> Callable[["Seen", Say], None]:
    """Return what stops and removes one container."""
    return lambda one, say: reconcile.remove(settings, one, timeout_seconds, say, volumes=volumes)


def networks(settings: "Settings", project_name: str, say: Say) -> None:
    """Remove the project's networks; one that somebody else is on stays, and that is said."""
    for found in network.every(settings):
        if found.labels.get(label.PROJECT) != project_name:
            continue
        say(f"Network {found.name}", "Removing")
        try:
            network.remove(settings, found.name)
        except Conflict:
            say(f"Network {found.name}", "Resource is still in use")
            continue
        except NotFound:
            pass  # somebody else was quicker
        say(f"Network {found.name}", "Removed")


def volumes(settings: "Settings", project_name: str, say: Say) -> None:
    """Remove the volumes that were made for the project; external ones were not."""
    for found in volume.every(settings):
        if (found["Labels"] or {}).get(label.PROJECT) != project_name:
            continue
        subject = f"Volume {found['Name']}"
        say(subject, "Removing")
        try:
            volume.remove(settings, found["Name"])
        except Conflict:
            say(subject, "Resource is still in use")
            continue
        except NotFound:
            pass  # somebody else was quicker
        say(subject, "Removed")


def forget(settings: "Settings", project_name: str) -> None:
    """Remove what was written for the project's secrets and configs."""
    material.forget(settings, project_name)
