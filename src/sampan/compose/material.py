"""Secrets and configs: what they hold, and where a container finds it.

One that comes from a file is bound as it is, read-only. One whose content stands in the compose file or the environment
is written to SAMPAN_ROOT/compose/PROJECT, which only its owner can enter, and bound from there; `down` removes it.
"""

import hashlib
import os

from sampan.compose import files
from sampan.engine.run_options import VolumeMount
from sampan.errors import InvalidArgument, NotFound
from sampan.storage import durable, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.compose.model.project import Project, Resource, Service, Values
    from sampan.settings.configuration import Settings

BYTES = 1 << 20
SECRETS = "/run/secrets"
_MODE = 0o444


def mounts(settings: "Settings", project: "Project", service: "Service") -> list[VolumeMount]:
    """Return the mounts of a service's secrets and configs, with their files made."""
    found = []
    for kind, grant, resource in _grants(project, service):
        target = grant.get("target") or resource.key
        if not target.startswith("/"):
            target = f"{SECRETS}/{target}" if kind == "secrets" else f"/{target}"
        source = resource.values.get("file") or _written(settings, project, kind, resource, grant.get("mode", _MODE))
        if not os.path.exists(source):
            raise NotFound(f"the file `{source}` of `{kind}.{resource.key}` does not exist", at=resource.place)
        found.append(VolumeMount("bind", source, os.path.normpath(target), read_only=True))
    return found


def digests(project: "Project", service: "Service") -> list[str]:
    """Return the digests of what a service's secrets and configs hold."""
    return [hashlib.sha256(_content(project, resource)).hexdigest() for _, _, resource in _grants(project, service)]


def forget(settings: "Settings", project_name: str) -> None:
    """Remove what was written for a project."""
    trash.discard(settings.root, _directory(settings, project_name))


def _grants(project: "Project", service: "Service") -> "Iterator[tuple[str, Values, Resource]]":
    for kind, resources in (("secrets", project.secrets), ("configs", project.configs)):
        for grant in service.values.get(kind, ()):
            yield kind, grant, resources[grant["source"]]


def _content(project: "Project", resource: "Resource") -> bytes:
    told = resource.values
    if "file" in told:
        try:
            return files.read(told["file"], BYTES)
        except NotFound as error:
            raise NotFound(error.what, at=resource.place) from error
    if "content" in told:
        return str(told["content"]).encode()
    if (name := told.get("environment", "")) not in project.environment:
        raise InvalidArgument(
            f"`{resource.key}` comes from the variable `{name}`, which is not set" if name
            else f"`{resource.key}` has neither `file` nor `environment`",
            at=resource.place,
        )  # fmt: skip
    return project.environment[name].encode()


def _directory(settings: "Settings", project_name: str) -> str:
    return f"{settings.root}/compose/{project_name}"


def _written(settings: "Settings", project: "Project", kind: str, resource: "Resource", mode: int) -> str:
    """Write what is no file of the person's; return its path."""
    directory = _directory(settings, project.name)
    os.makedirs(directory, 0o700, exist_ok=True)
    path = f"{directory}/{kind}-{resource.key}"
    fresh = f"{path}.{os.getpid()}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o400), "wb") as file:
        file.write(_content(project, resource))
        os.fchmod(file.fileno(), mode & 0o555)
        os.fsync(file.fileno())
    os.rename(fresh, path)
    durable.sync_directory(directory)
    return path
