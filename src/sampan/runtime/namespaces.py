"""Namespaces by runtime-spec's names: which are new, which are joined, and how a process gets into them.

Theory: clone3 makes the user namespace together with those whose owner it must be from the start. IPC and cgroup
namespaces are unshared later by the child: /dev/mqueue belongs to whoever unshared IPC, so that must be the container's
root, and a cgroup namespace is rooted in the cgroup that its maker is in, so that must be the container's. A namespace
that is joined belongs to another user namespace than the child's, so a go-between enters it and clones from there.
"""

import errno
import os

from sampan.errors import Unsupported
from sampan.kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.runtime import Spec

# runtime-spec's name -> (name below /proc/PID/ns, flag)
KINDS = {
    "user": ("user", syscalls.CLONE_NEWUSER),
    "mount": ("mnt", syscalls.CLONE_NEWNS),
    "pid": ("pid", syscalls.CLONE_NEWPID),
    "network": ("net", syscalls.CLONE_NEWNET),
    "ipc": ("ipc", syscalls.CLONE_NEWIPC),
    "uts": ("uts", syscalls.CLONE_NEWUTS),
    "cgroup": ("cgroup", syscalls.CLONE_NEWCGROUP),
}
_LATE = syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWCGROUP
_JOINABLE = ("pid", "network", "ipc", "uts")
# The kernel's refusals of a user namespace: past user.max_user_namespaces, switched off, not compiled in. clone(2)
_REFUSALS = (errno.ENOSPC, errno.EUSERS, errno.EPERM, errno.EINVAL)


def clone_flags(spec: "Spec") -> int:
    """Return the flags of the namespaces that clone3 makes."""
    return _new(spec) & ~_LATE


def explain(error: OSError, flags: int) -> None:
    """Raise Unsupported, with ways out, where `error` means that the kernel made no user namespace; else return."""
    if flags & syscalls.CLONE_NEWUSER and error.errno in _REFUSALS:
        hints = (
            "allow them: `sysctl user.max_user_namespaces=15000`",
            "or run without a user namespace: `--userns=host`",
        )
        raise Unsupported("the kernel refuses a new user namespace", hints=hints) from error


def unshare_flags(spec: "Spec") -> int:
    """Return the flags of the namespaces that the child unshares once it is the container's root."""
    return _new(spec) & _LATE


def _new(spec: "Spec") -> int:
    flags = 0
    for kind, path in spec.namespaces.items():
        if not path:
            flags |= KINDS[kind][1]
    return flags


def open_of(pid: int, name: str) -> int:
    """Open the namespace `name` (runtime-spec's or /proc's name) of process `pid`; the caller closes it."""
    return os.open(f"/proc/{pid}/ns/{KINDS.get(name, (name,))[0]}", os.O_RDONLY | os.O_CLOEXEC)


def open_joined(spec: "Spec") -> "list[tuple[int, int]]":
    """Return (descriptor, flag) of each namespace that the spec names by path; the caller closes them."""
    opened: list[tuple[int, int]] = []
    for kind, path in spec.namespaces.items():
        if not path:
            continue
        if kind not in _JOINABLE:
            raise Unsupported(f"a container cannot join another `{kind}` namespace")
        opened.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), KINDS[kind][1]))
    return opened


def differing_flags(pid: int) -> int:
    """Return the flags of all namespaces in which process `pid` is and the caller is not."""
    flags = 0
    for name, flag in KINDS.values():
        own, other = os.stat(f"/proc/self/ns/{name}"), os.stat(f"/proc/{pid}/ns/{name}")
        if (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino):
            flags |= flag
    return flags


def pid_of(pidfd: int) -> int:
    """Return the process id of `pidfd`, -1 once it has been waited for."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line[4:])
    return -1


def become_root() -> None:
    """Be the root of the user namespace that was made or joined."""
    set_groups(())
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as error:
        # A map of a single id may be of another than 0: then that is what we are already, capabilities and all.
        if error.errno != errno.EINVAL:
            raise


def set_groups(gids: "tuple[int, ...]") -> None:
    """Set the supplementary groups; raises PermissionError where the map denies some that were asked for."""
    try:
        os.setgroups(gids)
    except PermissionError:
        # A map of a single id denies setgroups(2) for good; then there is no group to drop that could be dropped.
        if gids:
            raise
