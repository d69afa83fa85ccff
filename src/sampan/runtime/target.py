"""Paths inside a container's root, resolved by the kernel and by nothing else.

SECURITY: an image is hostile and a volume may be shared with a running container, so a path in there may be a link to
anywhere and may change while it is looked at. openat2(2) with RESOLVE_IN_ROOT takes every link, `..` and absolute
target within the root; what it returns is a descriptor, and only descriptors are used after.
"""

import errno
import os
import stat

from sampan.kernel import syscalls

_MAX_LINKS = 40  # MAXSYMLINKS of linux/namei.h


def find(root_fd: int, path: str, flags: int = 0, *, resolve: int = 0) -> int:
    """Return an O_PATH descriptor (or, with access `flags`, an open one) of `path` in the root; raises OSError."""
    rules = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS | resolve
    while True:
        try:
            return syscalls.openat2(root_fd, path, flags or os.O_PATH, 0, rules)
        except OSError as error:
            # The kernel could not prove that `..` stayed inside while something was renamed: openat2(2) says, again.
            if error.errno != errno.EAGAIN:
                raise


def find_or_make(root_fd: int, path: str, *, is_directory: bool, resolve: int = 0) -> int:
    """Return an O_PATH descriptor of `path`, made as a directory or an empty file where nothing is there.

    Parents are made too, 0755. A link that dangles has its target made, inside the root.
    """
    try:
        return find(root_fd, path, resolve=resolve)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return _make(root_fd, path, is_directory=is_directory, resolve=resolve, links=_MAX_LINKS)


def _make(root_fd: int, path: str, *, is_directory: bool, resolve: int, links: int) -> int:
    parent, _, name = os.path.normpath(path).rpartition("/")
    parent_fd = find_or_make(root_fd, parent or "/", is_directory=True, resolve=resolve)
    try:
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent_fd))
    except FileExistsError:
        # A dangling link, or another process was faster; the latter is found by the look that follows.
        target = _read_link(parent_fd, name)
        if target is not None:
            if not links or resolve & syscalls.RESOLVE_NO_SYMLINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
            joined = target if target.startswith("/") else f"{parent}/{target}"
            return _make_linked(root_fd, joined, is_directory=is_directory, links=links - 1)
    finally:
        os.close(parent_fd)
    return find(root_fd, path, resolve=resolve)


def _make_linked(root_fd: int, path: str, *, is_directory: bool, links: int) -> int:
    try:
        return find(root_fd, path)
    except FileNotFoundError:
        return _make(root_fd, path, is_directory=is_directory, resolve=0, links=links)


def _read_link(parent_fd: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent_fd)
    except OSError:
        return None


def is_directory(fd: int) -> bool:
    """Tell whether the open file `fd` is a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
