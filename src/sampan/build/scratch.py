"""A directory for one build's passing files, which goes when the build does, however it ends.

Each lies in `cache/scratch` and is locked while its process lives; what a killed one left is removed by the next build
that finds its lock free. So are files in the caches that it was about to rename: `NAME.PID`, or `NAME.PID-THREAD`.
"""

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, Self

_CACHES = ("fragments", "debs", "debian")


def passing_file(directory: str) -> "BinaryIO":
    """Return a file in `directory` that has no name and is gone when it is closed."""
    try:
        return os.fdopen(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "w+b")
    except OSError:
        # open(2): not every file system has O_TMPFILE. 17 ms, so only there.
        import tempfile

        return tempfile.TemporaryFile(dir=directory)


class Scratch:
    """A context whose `path` is an empty directory of ours."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._parent = f"{root}/cache/scratch"
        self._fd = -1
        self.path = ""

    def __enter__(self) -> "Self":
        os.makedirs(self._parent, mode=0o700, exist_ok=True)
        while not self._make():
            pass
        return self

    def _make(self) -> bool:
        """Make and lock a directory; False where another build's sweep came between the two."""
        self.path = f"{self._parent}/build-{os.urandom(8).hex()}"
        os.mkdir(self.path, 0o700)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        if os.path.isdir(self.path):
            return True
        os.close(self._fd)
        return False

    def __exit__(self, *exception: object) -> None:
        _remove(self._root, self.path)
        os.close(self._fd)


def sweep(root: str) -> None:
    """Remove what killed builds left; cheap where there is nothing."""
    parent = f"{root}/cache/scratch"
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return
    if names:
        _sweep_directories(root, names)
        for directory in _CACHES:
            _sweep_files(f"{root}/cache/{directory}")


def _sweep_files(directory: str) -> None:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        pid = name.rpartition(".")[2].partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                pass  # another build was quicker


def _sweep_directories(root: str, names: list[str]) -> None:
    parent = f"{root}/cache/scratch"
    for name in names:
        try:
            fd = os.open(f"{parent}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(root, f"{parent}/{name}")
        except BlockingIOError:
            pass  # its build is running
        finally:
            os.close(fd)


def _remove(root: str, path: str) -> None:
    """Remove it, whatever steps made in there: their trees are hostile."""
    from sampan.storage import trash

    trash.discard(root, path)
    trash.empty(root)
