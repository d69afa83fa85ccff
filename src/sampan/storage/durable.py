"""Making names durable. A file's content is synced by its descriptor, its name by its directory's."""

import os


def sync_directory(path: str) -> None:
    """Write the names in the directory `path` to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
