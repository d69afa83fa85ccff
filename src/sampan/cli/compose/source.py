"""Who makes a project's images: the builder for `build:`, a registry for the rest."""

import os

from sampan.database import connection
from sampan.errors import InvalidArgument, NotFound
from sampan.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.build.stages import Options
    from sampan.cli.render import Printer
    from sampan.compose.model.project import Service
    from sampan.settings.configuration import Settings

# Keys of `build` that have no meaning without a Dockerfile.
_OF_DOCKERFILES = ("args", "dockerfile_inline", "labels", "network", "pull", "target")


class ImageSource:
    """`supply.Source`, with its progress on the person's terminal."""

    def __init__(
        self, settings: "Settings", printer: "Printer", *, quiet: bool = False, no_cache: bool = False
    ) -> None:
        self._settings = settings
        self._printer = printer
        self._quiet = quiet
        self._no_cache = no_cache

    def build(self, service: "Service", name: str) -> None:
        """Build a service's image from its context, by its Dockerfile where there is one."""
        # Only where something is built.
        from sampan.build import builder, stages
        from sampan.cli.progress import Listener

        told = service.build or {}
        directory = _context(service, told["context"])
        tags = [Reference.parse(word) for word in (name, *told.get("tags", ()))]
        no_cache = self._no_cache or told.get("no_cache", False)
        with Listener(self._printer, quiet=self._quiet) as sink, connection.open(self._settings) as database:
            if told["dockerfile"] != stages.NAMES[0] or "dockerfile_inline" in told or stages.find(directory):
                options = self._options(told, directory, tags, no_cache=no_cache)
                builder.build_dockerfile(self._settings, database, directory, options, sink=sink)
                return
            _refuse(service, told)
            builder.build_project(self._settings, database, directory, tags=tags, no_cache=no_cache, sink=sink)

    def _options(
        self, told: "Mapping[str, object]", directory: str, tags: list[Reference], *, no_cache: bool
    ) -> "Options":
        from sampan.build import builder, stages
        from sampan.build.dockerfile.lower import Request

        arguments = {key: self._argument(key, value) for key, value in _pairs(told, "args").items()}
        given = {key: value for key, value in arguments.items() if value is not None}
        request = Request(
            architecture=builder.architecture(),
            target=str(told.get("target") or ""),
            arguments=given,
            labels={key: value or "" for key, value in _pairs(told, "labels").items()},
            network=str(told.get("network") or "default"),
            epoch=builder.epoch(self._settings, given.get("SOURCE_DATE_EPOCH", "")),
        )
        inline = told.get("dockerfile_inline")
        file = str(told["dockerfile"])
        return stages.Options(
            request,
            file="" if file == stages.NAMES[0] else os.path.join(directory, file),
            content=None if inline is None else str(inline).encode(),
            tags=tags,
            no_cache=no_cache,
            is_fresh=told.get("pull") is True,
        )

    def _argument(self, name: str, value: str | None) -> str | None:
        """Return a build argument's value; one without a value has the environment's."""
        return self._settings.environment.get(name) if value is None else value

    def init(self) -> None:
        """Have the init of `init: true` fetched where this machine has none."""
        from sampan.cli import reaper

        reaper.ensure(self._settings, self._printer, quiet=self._quiet)

    def pull(self, service: "Service", name: str) -> None:
        """Fetch an image."""
        from sampan.cli.progress import Listener
        from sampan.image import transfer

        del service
        with Listener(self._printer, quiet=self._quiet) as sink, connection.open(self._settings) as database:
            transfer.pull(self._settings, database, Reference.parse(name), sink=sink)


def _context(service: "Service", directory: str) -> str:
    if "://" in directory or directory.startswith("git@"):
        raise InvalidArgument(
            "a build context at an address is not there yet", hints=("clone it and name its directory",)
        )
    if not os.path.isdir(directory):
        raise NotFound(
            f"there is no directory `{directory}` to build `{service.name}` from",
            hints=("a path in `build:` begins where the compose file is: `.` is that directory",),
        )
    return os.path.realpath(directory)


def _pairs(told: "Mapping[str, object]", key: str) -> "dict[str, str | None]":
    found = told.get(key)
    return dict(found) if isinstance(found, dict) else {}


def _refuse(service: "Service", told: "Mapping[str, object]") -> None:
    """Refuse what only a Dockerfile's build has a meaning for."""
    given = next((key for key in _OF_DOCKERFILES if told.get(key)), "")
    if given:
        raise InvalidArgument(
            f"`build.{given}` of the service `{service.name}` needs a Dockerfile, and there is none in its context",
            hints=("take it out, and the project is built as a Python project",),
        )
