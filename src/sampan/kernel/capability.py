"""Capabilities by name, and the calls that give them up: capabilities(7).

A set is an int with bit N for capability number N, as the kernel has it.
"""

from sampan.errors import InvalidArgument
from sampan.kernel import syscalls

# linux/capability.h, in order of their numbers.
_WORDS = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES = tuple("CAP_" + word for word in _WORDS.split())
SIGKILL = 9


def bits(names: "tuple[str, ...]") -> int:
    """Return the set of `names`; raise InvalidArgument for a name the kernel's header does not have."""
    result = 0
    for name in names:
        if name not in NAMES:
            raise InvalidArgument(f"the capability `{name}` does not exist")
        result |= 1 << NAMES.index(name)
    return result


def last() -> int:
    """Return the number of the last capability this kernel knows."""
    number = len(NAMES) - 1
    while number >= 0 and not _is_known(number):
        number -= 1
    return number


def _is_known(number: int) -> bool:
    try:
        syscalls.prctl(syscalls.PR_CAPBSET_READ, number)
    except OSError:
        return False
    return True


def drop_bounding(keep: int) -> None:
    """Drop all capabilities but `keep` from the bounding set, those included that this module has no name for."""
    for number in range(64):
        if keep >> number & 1:
            continue
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
        except OSError:  # EINVAL: past the kernel's last
            if number >= len(NAMES):
                return
            raise


def limit(keep: int, *, inheritable: int = 0) -> None:
    """Leave this thread `keep` (as far as it is permitted that) as effective and permitted, and no ambient ones."""
    permitted = syscalls.capget()[1] & keep
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    syscalls.capset(permitted, permitted, inheritable)


def raise_effective() -> None:
    """Make effective again all that is permitted: setfsuid(2) to an id but 0 lowers those about files."""
    _, permitted, inheritable = syscalls.capget()
    syscalls.capset(permitted, permitted, inheritable)


def set_no_new_privs() -> None:
    """Let no execve of this process or its children gain privileges; cannot be undone."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def set_parent_death_signal(signal: int = SIGKILL) -> None:
    """Have the kernel send `signal` when the thread that created this process ends.

    Cleared by a change of ids or capabilities and by an execve that gains privileges, so it is set last.
    """
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal)
