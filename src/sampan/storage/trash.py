"""Removal that can be interrupted: rename first, remove after.

A big tree takes long to remove, and a tree half removed must not be taken for a whole one. So what goes is renamed into
SAMPAN_ROOT/trash, in an instant, and removed from there; what a killed command left there the next one removes.
Trees made by containers are hostile: never walked by path, and never deeper at a time than stack and descriptors allow.
"""

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    Name = str | bytes

# Below it a directory is moved up to the top of the trash first.
_MAX_DEPTH = 64
# rename(2) onto what is there already, a full directory or another kind of thing.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def discard(root: str, path: str) -> bool:
    """Rename `path`, on the file system of `root`, into the trash; tell whether it was there.

    Atomic, takes no space.
    """
    trash = f"{root}/trash"
    os.makedirs(trash, 0o700, exist_ok=True)
    return _move(None, path, f"{trash}/{os.path.basename(path)}", None)


def empty(root: str) -> None:
    """Remove all that is in the trash; several processes may do so at once."""
    try:
        top = os.open(f"{root}/trash", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        while names := os.listdir(top):
            for name in names:
                _remove(top, name, top, 0)
    finally:
        os.close(top)


def remove_tree(path: "Name") -> None:
    """Remove `path` and all in it where it stands; idempotent. Only for a tree whose depth is known to be bounded."""
    _remove(None, path, None, 0)


def _move(parent: int | None, name: "Name", target: str, target_parent: int | None) -> bool:
    """Rename to `target` with the first number that is free there; False where `name` is not there."""
    number = 0
    while True:
        try:
            place = f"{target}-{os.getpid()}-{number}"
            os.rename(name, place, src_dir_fd=parent, dst_dir_fd=target_parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            number += 1
        else:
            return True


def _remove(parent: int | None, name: "Name", top: int | None, depth: int) -> None:
    """Remove `name` in the directory `parent`, whatever it is."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # unlink(2) says EISDIR for a directory; EPERM may be that or a file that is immutable or another's.
        try:
            is_directory = stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
        except FileNotFoundError:
            return  # another process empties the trash as well
        if not is_directory:
            raise
    else:
        return
    if top is not None and depth >= _MAX_DEPTH:
        _move(parent, name, "deep", top)
        return
    _remove_directory(parent, name, top, depth)


def _remove_directory(parent: int | None, name: "Name", top: int | None, depth: int) -> None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        for child in os.listdir(fd):
            _remove(fd, child, top, depth + 1)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass  # another process empties the trash as well
    except OSError as error:
        if error.errno not in _TAKEN:
            raise  # else something came in: the next round takes it
