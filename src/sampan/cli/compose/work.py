"""What `up`, `create` and `run` have in common: what was asked for, and the steps that lead there."""

from sampan.cli.compose.progress import Telling
from sampan.cli.compose.source import ImageSource
from sampan.cli.flags import Parsed, UsageError
from sampan.compose import reconcile, sight, supply, teardown
from sampan.compose.crew import HANDS
from sampan.compose.model import order
from sampan.compose.reconcile import Choice
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from sampan.cli.render import Printer
    from sampan.compose.crew import Watch
    from sampan.compose.model.project import Project, Service
    from sampan.compose.sight import Seen
    from sampan.settings.configuration import Settings

    class Following(Watch, Protocol):
        """A watch that wants to know what has been started."""

        def on_started(self, service: str, containers: object) -> None:
            """Hear that a service's containers run."""


class Work:
    """One `up` or `create`: what was asked for, and the steps that lead there."""

    def __init__(
        self, parsed: Parsed, settings: "Settings", printer: "Printer", project: "Project", *, is_started: bool = True
    ) -> None:
        self.parsed = parsed
        self.settings = settings
        self.printer = printer
        self.project = project
        self.say = Telling(printer, parsed)
        self.choice = Choice(
            recreates_all=parsed.is_set("force-recreate"),
            recreates_none=parsed.is_set("no-recreate"),
            renews_volumes=parsed.is_set("renew-anon-volumes"),
            is_started=is_started and not parsed.is_set("no-start"),
            waits_for_dependencies=not parsed.is_set("no-deps"),
            scale=_scale(parsed, project),
            timeout_seconds=parsed.number("timeout"),
            parallel=parallel(parsed, settings),
        )

    def chosen(self, names: "Iterable[str]", *, with_dependencies: bool) -> "list[Service]":
        """Return the services that are named, or all."""
        services = self.project.services
        names = list(names) or list(services)
        found = order.with_dependencies(services, names) if with_dependencies else names
        return [services[name] for name in found]

    def scale_of(self, service: "Service") -> int:
        """Return how many containers a service shall have."""
        return self.choice.scale.get(service.name, service.scale)

    def images(self, services: "Iterable[Service]") -> dict[str, str]:
        """See that every image is here."""
        parsed = self.parsed
        builds = True if parsed.is_set("build") else False if parsed.is_set("no-build") else None
        source = ImageSource(self.settings, self.printer, quiet=parsed.is_set("quiet-build"))
        return supply.ensure(self.settings, self.project, services, source, builds=builds, pulls=parsed.text("pull"))

    def converge(
        self,
        services: "list[Service]",
        images: dict[str, str],
        watch: "Following | None" = None,
    ) -> dict[str, list[str]]:
        """Make networks, volumes and containers; return the containers' names by service."""
        settings, project = self.settings, self.project
        seen = sight.containers(settings, project.name)
        orphans(self.parsed, project, settings, seen, self.say)
        reconcile.resources(settings, project, services, self.say)
        actions = {
            service.name: reconcile.plan(project, service, seen, images[service.name], self.choice)
            for service in services
        }
        on_started = watch.on_started if watch else (lambda _name, _containers: None)
        return self._up(images).converge(actions, self.say, watch=watch, on_started=on_started)

    def resources(self, services: "list[Service]") -> None:
        """Make the networks and volumes that these services use."""
        reconcile.resources(self.settings, self.project, services, self.say)

    def wait_for(self, service: "Service") -> None:
        """Wait until what a service waits for is ready."""
        if not self.parsed.is_set("no-deps"):
            self._up({}).await_dependencies(service, {}, self.say)

    def _up(self, images: dict[str, str]) -> reconcile.Up:
        return reconcile.Up(settings=self.settings, project=self.project, choice=self.choice, images=images)


def _scale(parsed: Parsed, project: "Project") -> dict[str, int]:
    """Read the `--scale SERVICE=N` words."""
    found = {}
    for word in parsed.words("scale"):
        name, _, count = word.partition("=")
        if name not in project.services or not count.isdecimal():
            raise UsageError(f"`--scale` cannot be `{word}`", hints=("write it like `--scale web=3`",))
        if int(count) > 1 and "container_name" in project.services[name].values:
            raise InvalidArgument(
                f"`{name}` has a `container_name`, so there can be only one",
                at=project.services[name].place("container_name"),
            )
        found[name] = int(count)
    return found


def parallel(parsed: Parsed, settings: "Settings") -> int:
    """Return how many containers are worked on at once."""
    told = parsed.outer.number("parallel") if parsed.outer else None
    if told is None:
        word = settings.environment.get("COMPOSE_PARALLEL_LIMIT", "")
        told = int(word) if word.lstrip("-").isdecimal() else -1
    return HANDS if told < 1 else min(told, HANDS)


def orphans(parsed: Parsed, project: "Project", settings: "Settings", seen: "list[Seen]", say: Telling) -> None:
    """Remove the containers of services that the files do not have any more, or say that they are there."""
    known = project.services | project.disabled
    left = [one for one in seen if one.service not in known and not one.is_one_off]
    environment = project.environment
    if not left or environment.get("COMPOSE_IGNORE_ORPHANS", "").lower() in {"1", "true"}:
        return
    if parsed.is_set("remove-orphans") or environment.get("COMPOSE_REMOVE_ORPHANS", "").lower() in {"1", "true"}:
        teardown.each({}, left, teardown.remove(settings, parsed.number("timeout"), volumes=False), say)
        return
    names = ", ".join(one.name for one in left)
    say.warn(f"orphan containers ({names}) of this project: `--remove-orphans` removes them")
