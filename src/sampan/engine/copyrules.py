"""docker cp's rules of what lands where, pure: docker-cp(1), and moby's archive.PrepareArchiveCopy.

the source is   the destination is   then
-------------   ------------------   ----------------------------------------------------------------
a file          not there            it is made, in a parent that is there; with a slash at its end: an error
                a file               it is replaced
                a directory          the file goes into it, under its own name
a directory     not there            it is made, with the source's content
                a file               an error
                a directory          the directory goes into it; what is in it where the source ends with `/.`
"""

import os

from sampan.errors import Conflict, InvalidArgument, NotFound

_HINT = "write `sampan cp CONTAINER:PATH LOCAL` or `sampan cp LOCAL CONTAINER:PATH`; `./a:b` is a file here"


class Side:
    """One side of a copy: `container` is `""` for this machine."""

    __slots__ = ("container", "path")

    def __init__(self, container: str, path: str) -> None:
        self.container = container
        self.path = path


def parse(source: str, destination: str) -> tuple[Side, Side]:
    """Return both sides of what a person typed; raises InvalidArgument."""
    if not source or not destination:
        raise InvalidArgument(f"the {'destination' if source else 'source'} is empty", hints=(_HINT,))
    sides = _side(source), _side(destination)
    if sides[0].container and sides[1].container:
        hint = f"`sampan cp {source} - | sampan cp - {destination}` does it, into a directory"
        raise InvalidArgument("a copy from container to container is not supported", hints=(hint,))
    if not sides[0].container and not sides[1].container:
        raise InvalidArgument("neither side of the copy is a container", hints=(_HINT,))
    return sides


def _side(word: str) -> Side:
    # docker: an absolute path, and one whose container's name would begin with a dot, is a path here.
    name, colon, path = word.partition(":")
    if word.startswith("/") or not colon or name.startswith(".") or not name:
        return Side("", word)
    # docker: a path in a container is from its root, whatever its working directory is.
    return Side(name, "/" + path.lstrip("/"))


def is_content(path: str) -> bool:
    """Tell whether `path` means what is in a directory."""
    return path == "." or path.endswith("/.") or not path.strip("/")


def base(path: str) -> str:
    """Return the name that the archive of `path` has its entries under; `.` for the content of a directory."""
    if is_content(path):
        return "."
    return os.path.basename(os.path.normpath(path)) or "."


def name_for(*, is_directory: bool, destination: str, exists: bool, to_directory: bool, name: str) -> str | None:
    """Return what the source is called where it lands; None where it goes as it is into the directory.

    `destination` is for people; `name` is the last part of it, with links resolved. Raises Conflict, NotFound.
    """
    if to_directory:
        return None
    if exists and is_directory:
        raise Conflict(f"`{destination}` is a file, which a directory cannot replace")
    if not exists and not is_directory and destination.endswith(("/", "/.")):
        raise NotFound(f"there is no directory `{destination}`", hints=("a file is not copied to a directory's name",))
    return name
