"""Where a path of a container leads: a directory that is open, a name in it, and what has that name.

SECURITY: the container may run and may be hostile. Every directory is resolved by the kernel within the root
(`runtime.target`), and the last name is looked at without following it; so a link that is put somewhere meanwhile leads
to a place in the container, whatever it says.
"""

import errno
import os
import stat

from sampan.runtime import target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_MAX_LINKS = 40  # MAXSYMLINKS of linux/namei.h
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Spot:
    """The open directory `parent`, the `name` in it (`.` for itself), and `status`, None where nothing has the name.

    `directory` is the path of `parent` as the container has it. Use it in a `with`, which closes `parent`.
    """

    __slots__ = ("directory", "name", "parent", "status")

    def __init__(self, directory: str, parent: int, name: str, status: os.stat_result | None) -> None:
        self.directory = directory
        self.parent = parent
        self.name = name
        self.status = status

    @property
    def is_directory(self) -> bool:
        """Tell whether a directory is there."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the directory."""
        os.close(self.parent)


def find(root_fd: int, path: str, *, follow: bool) -> Spot:
    """Return the spot of the absolute `path`; with `follow` that of what a link at its end leads to.

    As docker resolves paths: a slash, `.` or `..` at the end follows a link. Raises OSError.
    """
    for _ in range(_MAX_LINKS):
        directory, _, name = path.rpartition("/")
        if name in {"", ".", ".."}:
            fd = target.find(root_fd, path or "/", _DIRECTORY)
            return Spot(path or "/", fd, ".", os.fstat(fd))
        parent = target.find(root_fd, directory or "/", _DIRECTORY)
        try:
            status = os.lstat(name, dir_fd=parent)
            if not follow or not stat.S_ISLNK(status.st_mode):
                return Spot(directory or "/", parent, name, status)
            link = os.readlink(name, dir_fd=parent)
        except FileNotFoundError:
            return Spot(directory or "/", parent, name, None)
        except BaseException:
            os.close(parent)
            raise
        os.close(parent)
        path = link if link.startswith("/") else f"{directory}/{link}"
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
