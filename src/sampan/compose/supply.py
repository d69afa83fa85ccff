"""The images of a project: which are here, and who is asked for the others.

How an image is built or fetched is not this room's business: `up` is given both as functions.
"""

from collections.abc import Iterable, Mapping

from sampan.compose import wish
from sampan.database import connection
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.image.store import Images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from sampan.compose.model.project import Project, Service
    from sampan.settings.configuration import Settings

    class Source(Protocol):
        """Who makes images."""

        def build(self, service: "Service", name: str) -> None:
            """Build a service's image, and name it."""

        def pull(self, service: "Service", name: str) -> None:
            """Fetch an image."""

        def init(self) -> None:
            """See that there is an init for `init: true`."""


POLICIES = ("always", "never", "missing", "if_not_present", "build")


def ensure(
    settings: "Settings",
    project: "Project",
    services: Iterable["Service"],
    source: "Source",
    *,
    builds: bool | None = None,
    pulls: str = "",
) -> dict[str, str]:
    """Return the id of each service's image, built or fetched where it is missing.

    `builds` True builds what can be built, False nothing. `pulls` is --pull's word.
    """
    found: dict[str, str] = {}
    made: dict[str, None] = {}
    for service in services:
        if service.values.get("init"):
            source.init()
        name = wish.image_name(project, service)
        policy = _policy(service, pulls)
        is_here = name in made or find(settings, name) is not None
        try:
            if service.build is not None and name not in made and _is_built(builds, policy, is_here=is_here):
                source.build(service, name)
            elif name not in made and service.build is None and (policy == "always" or not is_here):
                _fetch(service, name, source, policy)
        except SampanError as error:
            error.at = error.at or service.place("build" if service.build else "image")
            raise
        made[name] = None
        image = find(settings, name)
        if image is None:
            raise _missing(service, name)
        found[service.name] = image
    return found


def find(settings: "Settings", name: str) -> str | None:
    """Return the id of the image called `name`, None where it is not here."""
    with connection.open(settings) as database:
        try:
            return Images(database).identify(name)[0]
        except NotFound:
            return None


def _policy(service: "Service", pulls: str) -> str:
    policy = pulls or str(service.values.get("pull_policy", ""))
    if policy and policy not in POLICIES:
        raise InvalidArgument(
            f"the pull policy `{policy}` is not there", at=service.place("pull_policy"),
            hints=(f"there are {', '.join(f'`{word}`' for word in POLICIES)}",),
        )  # fmt: skip
    return policy


def _is_built(builds: bool | None, policy: str, *, is_here: bool) -> bool:  # noqa: FBT001  None is a third answer
    if builds is False:
        return False
    return bool(builds) or policy == "build" or not is_here


def _fetch(service: "Service", name: str, source: "Source", policy: str) -> None:
    if policy == "never":
        raise _missing(service, name)
    source.pull(service, name)


def _missing(service: "Service", name: str) -> NotFound:
    hint = "leave `--no-build` out" if service.build is not None else "`pull_policy: never` keeps it from being fetched"
    return NotFound(f"the image `{name}` of the service `{service.name}` is not here", hints=(hint,))


def names(project: "Project", services: Mapping[str, "Service"]) -> dict[str, str]:
    """Return the image of each service by name."""
    return {name: wish.image_name(project, service) for name, service in services.items()}
