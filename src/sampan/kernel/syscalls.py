"""System calls that Python's `os` lacks, one thin wrapper each, with the constants of the kernel's own headers.

Each is named after its manual page in section 2. All call `syscall(2)` by number, since Debian 12's glibc has no
wrapper for half of them, and raise OSError with errno and path through one funnel. `clone3` is the exception in kind:
it forks the interpreter, so it goes through CPython's fork hooks and keeps the interpreter lock, as `os.fork` does.
"""

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from ctypes import Array

# asm/unistd_64.h and asm-generic/unistd.h; from 424 on, all architectures share their numbers.
_NUMBERS = {
    "x86_64": (165, 166, 155, 170, 272, 308, 157, 125, 126, 122, 123, 250, 317, 321, 316, 171),
    "aarch64": (40, 39, 41, 161, 97, 268, 167, 90, 91, 151, 152, 219, 277, 280, 276, 162),
}
MACHINE = os.uname().machine
(
    _MOUNT,
    _UMOUNT2,
    _PIVOT_ROOT,
    _SETHOSTNAME,
    _UNSHARE,
    _SETNS,
    _PRCTL,
    _CAPGET,
    _CAPSET,
    _SETFSUID,
    _SETFSGID,
    _KEYCTL,
    _SECCOMP,
    _BPF,
    _RENAMEAT2,
    _SETDOMAINNAME,
) = _NUMBERS.get(MACHINE, _NUMBERS["x86_64"])
_PIDFD_SEND_SIGNAL, _OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 424, 428, 429, 430, 431, 432
_PIDFD_OPEN, _CLONE3, _CLOSE_RANGE, _OPENAT2, _PIDFD_GETFD, _MOUNT_SETATTR = 434, 435, 436, 437, 438, 442

# linux/sched.h
CLONE_VM, CLONE_VFORK, CLONE_PIDFD, CLONE_PARENT = 0x100, 0x4000, 0x1000, 0x8000
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x80, 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000
CLONE_INTO_CGROUP = 0x200000000
# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME = 1, 2, 4, 8, 32, 1024
MS_BIND, MS_MOVE, MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = (
    4096,
    8192,
    16384,
    1 << 17,
    1 << 18,
    1 << 19,
    1 << 20,
)
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, 0o2000000
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC = 1, 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE = 0, 1, 5, 6
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_NODIRATIME = 0x70, 0x10, 0x20, 0x80
MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x100000, 0x200000
# linux/fcntl.h
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
# linux/openat2.h
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
# linux/prctl.h
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 3, 4, 8, 15
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 23, 24, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4
# linux/close_range.h, linux/fs.h, linux/keyctl.h, linux/seccomp.h
CLOSE_RANGE_CLOEXEC = 4
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_SET_MODE_FILTER = 1

# PyDLL and not CDLL: these calls are short, and clone3 must not give up the interpreter lock across the fork.
_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_long = ctypes.c_long


def _call(number: int, *arguments: "int | bytes | Array[ctypes.c_char] | None", path: str | None = None) -> int:
    """Make one system call; raise OSError with errno and `path` where it fails."""
    # SECURITY: variadic, so an int that is not widened here would leave the upper half of its register undefined.
    result: int = _syscall(_long(number), *[_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    return result


def _path(path: str) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        msg = "embedded null byte"
        raise ValueError(msg)
    return encoded


# --- processes and namespaces ---------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` (CLONE_NEW*) for new ones."""
    _call(_UNSHARE, flags)


def setns(fd: int, flags: int) -> None:
    """Enter the namespace `fd` is of, or, where `fd` is a pidfd, all namespaces of `flags` at once."""
    _call(_SETNS, fd, flags)


def pidfd_open(pid: int) -> int:
    """Return a close-on-exec descriptor of process `pid`; the caller closes it."""
    return _call(_PIDFD_OPEN, pid, 0)


def pidfd_send_signal(fd: int, signal: int) -> None:
    """Send `signal` to the process of the pidfd `fd`, never to one that took its number."""
    _call(_PIDFD_SEND_SIGNAL, fd, signal, None, 0)


def pidfd_getfd(fd: int, target_fd: int) -> int:
    """Return a close-on-exec duplicate of descriptor `target_fd` of another process."""
    return _call(_PIDFD_GETFD, fd, target_fd, 0)


def clone3(
    flags: int,
    *,
    cgroup_fd: int | None = None,
    want_pidfd: bool = True,
    exit_signal: int = 17,
) -> tuple[int, int]:
    """Fork into the namespaces of `flags`; return (pid, pidfd), and (0, -1) in the child.

    The caller is single-threaded. `cgroup_fd` is a directory of cgroup v2 that the child starts in. `pidfd` is
    close-on-exec and the caller's to close; -1 without `want_pidfd`. `exit_signal` is
    SIGCHLD unless told; CLONE_PARENT wants 0.
    """
    pidfd = ctypes.c_int(-1)
    flags |= (CLONE_PIDFD if want_pidfd else 0) | (0 if cgroup_fd is None else CLONE_INTO_CGROUP)
    # struct clone_args of linux/sched.h: flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid
    # set_tid_size cgroup.
    fields = (flags, ctypes.addressof(pidfd), 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup_fd or 0)
    arguments = struct.pack("11Q", *fields)
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid: int = _syscall(_long(_CLONE3), arguments, _long(len(arguments)))
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0, -1
    error = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid, pidfd.value


def prctl(option: int, *arguments: int) -> int:
    """Operate on this thread."""
    return _call(_PRCTL, option, *arguments, *(0,) * (4 - len(arguments)))


def sethostname(name: str) -> None:
    """Name the UTS namespace of this process."""
    encoded = name.encode()
    _call(_SETHOSTNAME, encoded, len(encoded))


def setdomainname(name: str) -> None:
    """Name the NIS domain of this process's UTS namespace."""
    encoded = name.encode()
    _call(_SETDOMAINNAME, encoded, len(encoded))


def setfsuid(uid: int) -> int:
    """Set the user id for file system checks; return the one before. Never fails: read it back."""
    return _call(_SETFSUID, uid) & 0xFFFFFFFF


def setfsgid(gid: int) -> int:
    """Set the group id for file system checks; return the one before. Never fails: read it back."""
    return _call(_SETFSGID, gid) & 0xFFFFFFFF


def capget() -> tuple[int, int, int]:
    """Return this thread's (effective, permitted, inheritable) capabilities as bit sets."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(24)
    _call(_CAPGET, header, data)
    low_e, low_p, low_i, high_e, high_p, high_i = struct.unpack("6I", data.raw)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's capability bit sets."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0), 8)
    low, sets = 0xFFFFFFFF, (effective, permitted, inheritable)
    _call(_CAPSET, header, struct.pack("6I", *(s & low for s in sets), *(s >> 32 for s in sets)))


_LINUX_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


def keyctl_join_session() -> None:
    """Join a new, anonymous session keyring, so that the caller's keys stay behind."""
    _call(_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None)


def seccomp_load(program: bytes, flags: int = 0) -> None:
    """Load a classic BPF program (struct sock_filter, 8 bytes each) as this thread's filter."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _call(_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, fprog)


def bpf(command: int, attributes: bytes) -> int:
    """Give the kernel a union bpf_attr; return what it returns (a close-on-exec descriptor, or 0)."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _call(_BPF, command, buffer, len(attributes))


# --- files ----------------------------------------------------------------------------------------------------------


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` below `dirfd` under the rules of `resolve` (RESOLVE_*); close-on-exec always."""
    how = struct.pack("3Q", flags | os.O_CLOEXEC, mode, resolve)
    return _call(_OPENAT2, dirfd, _path(path), how, len(how), path=path)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close, or with CLOSE_RANGE_CLOEXEC mark, all descriptors from `first` to `last`."""
    _call(_CLOSE_RANGE, first, last, flags)


def close_others(keep: "Collection[int]") -> None:
    """Close every descriptor above 2 but those of `keep`: what a process that goes on by itself was not given."""
    first = 3
    for fd in sorted(keep):
        if fd > first:
            close_range(first, fd - 1)
        first = max(first, fd + 1)
    close_range(first)


def renameat2(old_dirfd: int, old: str, new_dirfd: int, new: str, flags: int = 0) -> None:
    """Rename with RENAME_NOREPLACE or RENAME_EXCHANGE."""
    _call(_RENAMEAT2, old_dirfd, _path(old), new_dirfd, _path(new), flags, path=new)


# --- mounts ---------------------------------------------------------------------------------------------------------


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mount as of old, for what the new interface cannot do."""
    _call(_MOUNT, _path(source), _path(target), _path(fstype), flags, _path(data) if data else None, path=target)


def umount2(target: str, flags: int = 0) -> None:
    """Unmount `target`."""
    _call(_UMOUNT2, _path(target), flags, path=target)


def pivot_root(new: str, old: str) -> None:
    """Make the mount `new` the root and put the old one on `old`."""
    _call(_PIVOT_ROOT, _path(new), _path(old), path=new)


def open_tree(dirfd: int, path: str, flags: int = 0) -> int:
    """Open a mount, or with OPEN_TREE_CLONE a detached copy of it; close-on-exec always."""
    return _call(_OPEN_TREE, dirfd, _path(path), flags | OPEN_TREE_CLOEXEC, path=path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int = 0) -> None:
    """Attach a detached mount, or move an attached one. Empty paths need the flags *_EMPTY_PATH."""
    _call(_MOVE_MOUNT, from_fd, _path(from_path), to_fd, _path(to_path), flags, path=to_path or None)


def mount_setattr(
    fd: int,
    path: str,
    flags: int,
    attr_set: int,
    attr_clr: int = 0,
    *,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Change the attributes of a mount, with AT_RECURSIVE those below it too."""
    attributes = struct.pack("4Q", attr_set, attr_clr, propagation, userns_fd)
    _call(_MOUNT_SETATTR, fd, _path(path), flags, attributes, len(attributes), path=path or None)


def fsopen(name: str) -> int:
    """Return a close-on-exec context to configure a new file system of type `name` in."""
    return _call(_FSOPEN, _path(name), FSOPEN_CLOEXEC, path=name)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """Set parameter `key` to `value`, at most 255 bytes."""
    _call(_FSCONFIG, fd, FSCONFIG_SET_STRING, _path(key), _path(value), 0, path=value)


def fsconfig_flag(fd: int, key: str) -> None:
    """Set the parameter `key`, which has no value."""
    _call(_FSCONFIG, fd, FSCONFIG_SET_FLAG, _path(key), None, 0, path=key)


def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """Set parameter `key` to the open file `value`."""
    _call(_FSCONFIG, fd, FSCONFIG_SET_FD, _path(key), None, value, path=key)


def fsconfig_create(fd: int) -> None:
    """Make the file system that `fd` configures."""
    _call(_FSCONFIG, fd, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fd: int, attributes: int = 0) -> int:
    """Return a detached, close-on-exec mount of what `fd` made, with `attributes` (MOUNT_ATTR_*)."""
    return _call(_FSMOUNT, fd, FSMOUNT_CLOEXEC, attributes)
