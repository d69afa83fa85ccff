"""The front door: a directory becomes an image in the store, by its Dockerfile where it has one, else as Python. Hot.

Each front-end is a module of its own (`stages`, `project`); what they share is decided here: for which processor, and
by which clock.
"""

import os
import time

from sampan.errors import InvalidArgument, Unsupported
from sampan.events import ignore
from sampan.oci.architecture import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.build.python.plan import Plan
    from sampan.build.stages import Options
    from sampan.database.connection import Database
    from sampan.events import Sink
    from sampan.image.store import Image
    from sampan.oci.reference import Reference
    from sampan.settings.configuration import Settings


class BuildResult:
    """What was built: the `image` as it is stored, its id, the `port` it listens at, the `plan` of a Python build."""

    __slots__ = ("image", "image_id", "plan", "port")

    def __init__(self, image: "Image", port: int | None, plan: "Plan | None" = None) -> None:
        self.image = image
        self.image_id = image.id
        self.port = port
        self.plan = plan


def build(
    settings: "Settings",
    database: "Database",
    directory: str,
    *,
    tags: "Sequence[Reference]" = (),
    locked: bool = False,
    upgrade: bool = False,
    no_cache: bool = False,
    sink: "Sink" = ignore,
    clock: "Callable[[], float]" = time.time,  # noqa: TID251 -- the default of the parameter
) -> BuildResult:
    """Build what is in `directory`, name the image by `tags`, and return what was built."""
    from sampan.build import stages
    from sampan.build.dockerfile.lower import Request

    if stages.find(directory):
        if locked or upgrade:
            flag = "--locked" if locked else "--upgrade"
            hints = ("a Dockerfile says itself what it installs",)
            raise InvalidArgument(f"`{flag}` is for Python projects without a Dockerfile", hints=hints)
        request = Request(architecture=architecture(), epoch=epoch(settings))
        options = stages.Options(request, tags=tags, no_cache=no_cache)
        return build_dockerfile(settings, database, directory, options, sink=sink, clock=clock)
    return build_project(
        settings,
        database,
        directory,
        tags=tags,
        locked=locked,
        upgrade=upgrade,
        no_cache=no_cache,
        sink=sink,
        clock=clock,
    )


def build_dockerfile(
    settings: "Settings",
    database: "Database",
    directory: str,
    options: "Options",
    *,
    sink: "Sink" = ignore,
    clock: "Callable[[], float]" = time.time,  # noqa: TID251 -- the default of the parameter
) -> BuildResult:
    """Build by a Dockerfile."""
    from sampan.build import stages

    image = stages.build(settings, database, directory, options, sink=sink, clock=clock)
    ports = (image.config.get("config") or {}).get("ExposedPorts") or {}
    first = next((port for port in ports if port.endswith("/tcp")), "")
    return BuildResult(image, int(first.partition("/")[0]) if first else None)


def build_project(
    settings: "Settings",
    database: "Database",
    directory: str,
    *,
    tags: "Sequence[Reference]" = (),
    locked: bool = False,
    upgrade: bool = False,
    no_cache: bool = False,
    sink: "Sink" = ignore,
    clock: "Callable[[], float]" = time.time,  # noqa: TID251 -- the default of the parameter
) -> BuildResult:
    """Build as a Python project."""
    from sampan.build import project
    from sampan.build.options import Options

    if locked and upgrade:
        raise InvalidArgument("`--locked` and `--upgrade` exclude each other", hints=("give one of them",))
    options = Options(locked=locked, upgrade=upgrade, no_cache=no_cache, architecture=architecture())
    image, plan = project.build(
        settings, database, directory, tags=tags, options=options, epoch=epoch(settings), sink=sink, clock=clock
    )
    return BuildResult(image, plan.port, plan)


def architecture() -> str:
    """Return this machine's processor in GOARCH's words; raises Unsupported."""
    machine = os.uname().machine
    if machine not in NAMES:
        raise Unsupported(
            f"there is no base for the processor `{machine}`", hints=("Sampan runs on x86_64 and aarch64",)
        )
    return NAMES[machine]


def epoch(settings: "Settings", text: str = "") -> int | None:
    """Return SOURCE_DATE_EPOCH (reproducible-builds.org), or what was given for it; None where there is none."""
    text = text or settings.environment.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdigit() or len(text) > 11:
        raise InvalidArgument(f"SOURCE_DATE_EPOCH is `{text[:40]}`, which is no number of seconds")
    return int(text)
