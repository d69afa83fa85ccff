"""A full disk, told in words that help."""

import errno

from sampan.errors import Exhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_FULL = (errno.ENOSPC, errno.EDQUOT)


class saying_how_to_free_space:  # noqa: N801 -- reads as a statement in its `with`
    """A context that turns ENOSPC and EDQUOT into Exhausted, naming the directory that was being filled."""

    __slots__ = ("_directory",)

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise exhausted(self._directory) from error


def exhausted(directory: str) -> Exhausted:
    """Return the error for a full disk under `directory`."""
    return Exhausted(
        f"no space is left on the file system of `{directory}`",
        hints=(
            "free space there: remove images with `sampan rmi` and containers with `sampan rm`",
            "or move Sampan's data: set SAMPAN_ROOT to a directory on a larger disk",
        ),
    )
