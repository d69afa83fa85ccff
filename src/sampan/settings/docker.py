"""docker's own configuration (`Settings.docker_file`): who somebody is to which registry. Read and written as docker's.

    {"auths": {"https://index.docker.io/v1/": {"auth": BASE64(user:password)}},
     "credHelpers": {"ghcr.io": NAME}, "credsStore": NAME}

What else is in it stays as it was. The file is replaced whole: written beside its place, mode 0600, synced, renamed.
"""

import json
import os

from sampan.errors import InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # A JSON object. Any, since whoever takes a value out narrows it at once.
    Document = dict[str, Any]

_MAX_BYTES = 1 << 20


def read(path: str) -> "Document":
    """Return what the file holds; nothing where it is not there. Raises InvalidArgument for what is no JSON object."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        found = json.loads(content) if content.strip() else {}
    except (ValueError, RecursionError) as error:
        # No cause: what json says may quote a secret.
        line = getattr(error, "lineno", None)
        raise InvalidArgument("docker's configuration file is not JSON", at=Place(path, line)) from None
    if not isinstance(found, dict) or len(content) > _MAX_BYTES:
        raise InvalidArgument("docker's configuration file is no JSON object of at most 1 MiB", at=Place(path))
    return found


def table(found: "Document", name: str) -> "Document":
    """Return the object `name` of what was read; an empty one where there is none."""
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def change(path: str, edit: "Callable[[Document], None]") -> None:
    """Read the file, let `edit` change what it holds, and put it in its place; atomic, durable, for the owner only."""
    # A link stays one: people keep this file in a repository of their settings.
    path = os.path.realpath(path)
    found = read(path)
    edit(found)
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    temporary = f"{path}.sampan-{os.getpid()}"
    try:
        # SECURITY: 0600 from its first moment on; a file that is left there by a killed process is replaced.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(found, indent="\t") + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
