"""A directory for one build's passing files, which goes when the build does, however it ends.

Each lies in `cache/scratch` and is locked while its process lives; what a killed one left is removed by the next build
that finds its lock free.
"""

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Scratch:
    """A context whose `path` is an empty directory of ours."""

    def __init__(self, root: str) -> None:
        self._parent = f"{root}/cache/scratch"
        self._fd = -1
        self.path = ""

    def __enter__(self) -> "Self":
        import tempfile

        os.makedirs(self._parent, mode=0o700, exist_ok=True)
        _sweep(self._parent)
        self.path = tempfile.mkdtemp(prefix="build-", dir=self._parent)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exception: object) -> None:
        _remove(self.path)
        os.close(self._fd)


def _sweep(parent: str) -> None:
    """Remove the directories whose processes are gone."""
    for name in os.listdir(parent):
        try:
            fd = os.open(f"{parent}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(f"{parent}/{name}")
        except BlockingIOError:
            pass  # its build is running
        finally:
            os.close(fd)


def _remove(path: str) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)
