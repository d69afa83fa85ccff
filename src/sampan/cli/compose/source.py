"""Who makes a project's images: the builder for `build:`, a registry for the rest."""

import os
from typing import TYPE_CHECKING

from sampan.database import connection
from sampan.errors import InvalidArgument, NotFound, Unavailable, Unsupported

if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.compose.model.project import Service
    from sampan.settings.configuration import Settings

# What `sampan bootstrap` can make where no registry can be reached.
BOOTSTRAPPED = ("python", "debian", "nginx", "redis", "mysql")


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
        """Build a service's image from its context."""
        # Only where something is built.
        from sampan.build import builder
        from sampan.cli import image
        from sampan.cli.progress import Listener

        told = service.build or {}
        directory = told["context"]
        if "://" in directory or directory.startswith("git@"):
            raise InvalidArgument(
                "a build context at an address is not there yet", hints=("clone it and name its directory",)
            )
        if not os.path.isdir(directory):
            raise NotFound(f"there is no directory `{directory}` to build `{service.name}` from")
        _refuse(service)
        tags = [image.parse_name(word) for word in (name, *told.get("tags", ()))]
        no_cache = self._no_cache or told.get("no_cache", False)
        with Listener(self._printer, quiet=self._quiet) as sink, connection.open(self._settings) as database:
            builder.build(
                self._settings, database, os.path.realpath(directory), tags=tags, no_cache=no_cache, sink=sink
            )

    def pull(self, service: "Service", name: str) -> None:
        """Fetch an image; as there are no registries yet, say how it can be had."""
        base = name.partition("@")[0].partition(":")[0].rpartition("/")[2]
        hints = ["`sampan load` and `sampan import` bring images from files"]
        if base in BOOTSTRAPPED:
            hints.insert(0, f"`sampan bootstrap {name}` makes a stand-in from signed Debian packages")
        raise Unavailable(
            f"the image `{name}` of the service `{service.name}` is not here, and there are no registries yet",
            hints=tuple(hints),
        )


def _refuse(service: "Service") -> None:
    """Refuse what only a Dockerfile's build has a meaning for."""
    told = service.build or {}
    given = [key for key in ("args", "labels", "target") if told.get(key)]
    if told["dockerfile"] != "Dockerfile":
        given.append("dockerfile")
    if given:
        raise Unsupported(
            f"`build.{given[0]}` of the service `{service.name}` is not there yet", hints=("take it out",)
        )
