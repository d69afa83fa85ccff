"""Mounts as descriptors: made or cloned detached, given their attributes, attached last.

A detached mount is seen by nobody and goes away with its descriptor, so a half-made container leaves nothing mounted.
Option words are fstab's, as runtime-spec's `mounts[].options` has them.
"""

import os

from sampan.kernel import syscalls

# word -> (attributes to set, attributes to clear); linux/mount.h
_ATTRIBUTES = {
    "ro": (syscalls.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, syscalls.MOUNT_ATTR_RDONLY),
    "nosuid": (syscalls.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, syscalls.MOUNT_ATTR_NOSUID),
    "nodev": (syscalls.MOUNT_ATTR_NODEV, 0),
    "dev": (0, syscalls.MOUNT_ATTR_NODEV),
    "noexec": (syscalls.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, syscalls.MOUNT_ATTR_NOEXEC),
    "noatime": (syscalls.MOUNT_ATTR_NOATIME, syscalls.MOUNT_ATTR__ATIME),
    "relatime": (0, syscalls.MOUNT_ATTR__ATIME),
    "strictatime": (syscalls.MOUNT_ATTR_STRICTATIME, syscalls.MOUNT_ATTR__ATIME),
    "nodiratime": (syscalls.MOUNT_ATTR_NODIRATIME, 0),
}
_PROPAGATION = {
    "private": syscalls.MS_PRIVATE,
    "slave": syscalls.MS_SLAVE,
    "shared": syscalls.MS_SHARED,
    "unbindable": syscalls.MS_UNBINDABLE,
}
# Words that say how to mount and reach neither the mount nor the file system. TOP_ONLY: the attributes of a tree are
# for its topmost mount alone; SUBPATH: what is cloned is below the source. They begin with `x-`, as fstab has it.
TOP_ONLY, SUBPATH = "x-top-only", "x-subpath="
_DIRECTIVES = ("bind", "rbind", "idmap", "ridmap", "defaults", TOP_ONLY)


class Options:
    """Parsed option words: attributes to set and clear, propagation, and what is left for the file system itself."""

    __slots__ = (
        "attributes_clear",
        "attributes_set",
        "data",
        "has_idmap",
        "is_recursive",
        "is_top_only",
        "propagation",
        "subpath",
    )

    def __init__(self, words: "tuple[str, ...]") -> None:
        self.attributes_set = self.attributes_clear = self.propagation = 0
        self.has_idmap = "idmap" in words or "ridmap" in words
        self.is_recursive = "rbind" in words
        self.is_top_only = TOP_ONLY in words
        self.subpath = next((word.removeprefix(SUBPATH) for word in words if word.startswith(SUBPATH)), "")
        data = []
        for word in words:
            if word in _ATTRIBUTES:
                to_set, to_clear = _ATTRIBUTES[word]
                self.attributes_set = self.attributes_set & ~to_clear | to_set
                self.attributes_clear = self.attributes_clear & ~to_set | to_clear
            elif word in _PROPAGATION or word[1:] in _PROPAGATION:
                self.propagation = _PROPAGATION.get(word) or _PROPAGATION[word[1:]]
            elif word not in _DIRECTIVES and not word.startswith(SUBPATH):
                data.append(word)
        self.data = tuple(data)


def filesystem(name: str, options: "tuple[str, ...]" = (), attributes: int = 0, source: str = "") -> int:
    """Return a detached mount of a new file system of type `name`; `options` are `key=value` or flags."""
    context = syscalls.fsopen(name)
    try:
        if source:
            syscalls.fsconfig_string(context, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            if equals:
                syscalls.fsconfig_string(context, key, value)
            else:
                syscalls.fsconfig_flag(context, key)
        syscalls.fsconfig_create(context)
        return syscalls.fsmount(context, attributes)
    finally:
        os.close(context)


def clone(path: str, options: Options, *, userns_fd: int | None = None, dirfd: int = syscalls.AT_FDCWD) -> int:
    """Return a detached clone of the tree at `path` with the attributes of `options`; with `userns_fd` its ids mapped.

    An empty `path` clones what `dirfd` is. Raises OSError; EINVAL with `userns_fd` means that a file system of the tree
    cannot be idmapped.
    """
    recursive = syscalls.AT_RECURSIVE if options.is_recursive else 0
    empty = 0 if path else syscalls.AT_EMPTY_PATH
    fd = syscalls.open_tree(dirfd, path, syscalls.OPEN_TREE_CLONE | recursive | empty)
    idmap = 0 if userns_fd is None else syscalls.MOUNT_ATTR_IDMAP
    of_all, of_top = (0, 0), (options.attributes_set, options.attributes_clear)
    if not options.is_top_only:
        of_all, of_top = of_top, of_all
    try:
        if idmap or any(of_all) or options.propagation:
            syscalls.mount_setattr(
                fd,
                "",
                syscalls.AT_EMPTY_PATH | recursive,
                of_all[0] | idmap,
                of_all[1],
                propagation=options.propagation,
                userns_fd=userns_fd or 0,
            )
        if any(of_top):
            syscalls.mount_setattr(fd, "", syscalls.AT_EMPTY_PATH, *of_top)
    except OSError as error:
        os.close(fd)
        error.filename = path
        raise
    return fd


def attach(fd: int, target_fd: int) -> None:
    """Attach the detached mount `fd` on the file or directory `target_fd`."""
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH
    syscalls.move_mount(fd, "", target_fd, "", flags)


def type_of(path: str) -> str:
    """Return the type of the file system that holds `path`, or `unknown`: for messages only."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index("-") + 1]
    return "unknown"
