"""Making a whole file system durable: syncfs(2), which `os` lacks."""

import ctypes
import os

# CDLL and not PyDLL: this call waits for the disk, and other threads may go on.
_libc = ctypes.CDLL(None, use_errno=True)


def syncfs(path: str) -> None:
    """Write all that is dirty on the file system of `path` to its disk; raises OSError where that failed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
    finally:
        os.close(fd)
