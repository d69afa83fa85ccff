"""Blocks kept aside for the day when the disk is full.

SQLite in WAL mode cannot even read with no byte free, since its index needs a file; so beside the database lies a
reserve. Whoever finds no space left gives up one piece of it and goes on; whoever opens the database on a disk with
room makes it whole again. It goes by pieces because a container that is filling the disk takes whatever becomes free.
"""

import os

SIZE_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
# Below the first a disk counts as full; the reserve is made whole only where the second is free.
FULL_BYTES = 512 * 1024
ROOMY_BYTES = 16 * 1024 * 1024


def keep(root: str) -> None:
    """Make the reserve in `root` whole where there is room; give up a piece where there is none.

    Never raises OSError.
    """
    path = _path(root)
    try:
        free = free_bytes(root)
        if free < FULL_BYTES:
            give_up_piece(root)
        elif free > ROOMY_BYTES and _size(path) < SIZE_BYTES:
            _fill(path)
    except OSError:
        pass  # without a reserve Sampan works, until the disk is full


def give_up_piece(root: str) -> bool:
    """Free one piece of the reserve in `root`; tell whether there was one."""
    path = _path(root)
    size = _size(path)
    if size == 0:
        return False
    try:
        os.truncate(path, max(0, size - PIECE_BYTES))
    except OSError:
        return False
    return True


def is_full(root: str) -> bool:
    """Tell whether the file system of `root` has next to no space left for somebody without privileges.

    Also for uid 0, which may be root in a user namespace only, to which the last blocks are closed as to all others.
    """
    counts = os.statvfs(root)
    return counts.f_bavail * counts.f_frsize < FULL_BYTES


def free_bytes(root: str) -> int:
    """Return the bytes that this process may still write on the file system of `root`."""
    counts = os.statvfs(root)
    # Some blocks are root's alone (mke2fs(8), -m).
    return (counts.f_bfree if os.geteuid() == 0 else counts.f_bavail) * counts.f_frsize


def _path(root: str) -> str:
    return f"{root}/sampan.reserve"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _fill(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, SIZE_BYTES)
    finally:
        os.close(fd)
