"""`--cidfile`: the file that gets a container's id. Hot."""

import os

from sampan.errors import AlreadyExists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed


def refuse(parsed: "Parsed") -> None:
    """Refuse a --cidfile that is there already."""
    path = parsed.text("cidfile")
    if path and os.path.lexists(path):
        raise AlreadyExists(f"the id file `{path}` exists", hints=(f"remove it with `rm {path}`",))


def write(parsed: "Parsed", identity: str) -> None:
    """Write the container's id where --cidfile says."""
    if path := parsed.text("cidfile"):
        with open(path, "x", encoding="utf-8") as file:
            file.write(identity)
