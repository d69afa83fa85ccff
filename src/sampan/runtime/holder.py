"""The holder: the one process of a normal user that owns the namespaces in which all of his containers are nested.

Theory. A veth between two sibling user namespaces is EPERM, and a bridge needs a network namespace that stays; so one
process per user owns a user, a mount and a network namespace, and does nothing (`holder_process`). A command joins the
first two early, while it has one thread, and is uid 0 in there: from then on the same code runs as for root. It stays
in the machine's network namespace, where downloads work; a monitor goes on into the holder's.

    who            keeps it alive by                                   and finds it by
    ------------   -------------------------------------------------   ---------------------------------------
    a command      a connection to its socket, while the command runs   SAMPAN_RUN/holder.json, checked by pidfd,
    a monitor      a connection to its socket, for its life             start time and boot id, under a lock

Ten seconds after the last connection it ends, and takes its helper (pasta) with it. Ids: with newuidmap and a range in
/etc/subuid, uid 0 in there is the user and 1… are the range; without, the user's own id is the only one there is.
Killed, it leaves a socket that refuses; the next command starts another. INVARIANT: it ends only while it has the lock
under which commands look for it, and nobody waits at its socket: who has found it keeps it. INVARIANT: there is one:
a command that starts it and is killed leaves the lock to those who go on with the start.
"""

import _signal
import _socket
import errno
import fcntl
import os
import sys

from sampan.document import Malformed, parse
from sampan.errors import SampanError, Unsupported
from sampan.kernel import syscalls
from sampan.runtime import holder_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.holder_record import Attach
    from sampan.settings.configuration import Settings

IDLE_SECONDS = 10.0
_NAMESPACES = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS
_ANSWER_BYTES = 1 << 16
_START_SECONDS = 60
# Switches of the kernel that forbid a user namespace, the value that does, and the command that mends it.
_SWITCHES = (
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
)


class Holder:
    """A holder that lives; `connection` keeps it alive until it is closed.

    `is_new`: this call has started it, and `warnings` say what this machine lacks for a normal user's containers.
    """

    __slots__ = ("connection", "is_new", "pid", "pidfd", "warnings")

    def __init__(self, pid: int, pidfd: int, connection: _socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.connection = connection
        self.is_new = False
        self.warnings: tuple[str, ...] = ()

    def join(self) -> None:
        """Enter its user and mount namespaces: the caller, which has one thread, is uid 0 in there.

        The working directory is kept where it can be: setns(2) into a mount namespace goes to its root.
        """
        try:
            before = os.getcwd()
        except OSError:  # it was removed
            before = "/"
        syscalls.setns(self.pidfd, _NAMESPACES)
        try:
            os.chdir(before)
        except OSError:
            os.chdir("/")

    def enter_network(self) -> None:
        """Enter its network namespace; the caller has joined."""
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWNET)

    def close(self) -> None:
        """Let go of it."""
        self.connection.close()
        os.close(self.pidfd)


def ensure(settings: "Settings", *, attach: "Attach | None" = None, idle_seconds: float = IDLE_SECONDS) -> Holder:
    """Return this user's holder, started if there is none; raises Unsupported where there can be no namespaces.

    `attach` is called where it is started, in a process of the machine's own namespaces.
    """
    os.makedirs(settings.run, 0o700, exist_ok=True)
    lock = os.open(holder_record.lock_path(settings), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = find(settings)
        if found is not None:
            return found
        warnings = _start(settings, lock, idle_seconds, attach)
        found = find(settings)
    finally:
        os.close(lock)
    if found is None:
        raise SampanError("the holder of this user's namespaces ended at once", hints=("try again",))
    found.is_new, found.warnings = True, warnings
    return found


def find(settings: "Settings") -> Holder | None:
    """Return this user's holder if one lives; its socket is connected first, so that it stays."""
    record = holder_record.read_record(settings)
    if record is None:
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        holder_record.in_directory(settings.run, lambda: connection.connect("holder.sock"))
        pidfd = syscalls.pidfd_open(record["pid"])
    except OSError:
        connection.close()
        return None
    if holder_record.start_time(record["pid"]) != record["start_time"]:
        connection.close()
        os.close(pidfd)
        return None
    return Holder(record["pid"], pidfd, connection)


def is_single_id() -> bool:
    """Tell, from within, whether there is one id only."""
    return id_count() == 1


def id_count() -> int:
    """Return, from within, how many user ids there are, from 0 on without a gap."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return sum(int(line.split()[2]) for line in file)


def _start(settings: "Settings", lock: int, idle_seconds: float, attach: "Attach | None") -> tuple[str, ...]:
    """Fork what makes the holder; return its warnings once the holder listens, or raise what it says went wrong."""
    from sampan.runtime import holder_process

    ours, theirs = _socket.socketpair()
    child = os.fork()
    if child == 0:
        holder_process.make(theirs, lock, settings, idle_seconds, attach)
    theirs.close()
    ours.settimeout(_START_SECONDS)
    try:
        told = parse(ours.recv(_ANSWER_BYTES).decode("utf-8", "replace"))
    except (OSError, Malformed) as error:
        os.kill(child, _signal.SIGKILL)
        raise SampanError("the holder of this user's namespaces does not answer", hints=("try again",)) from error
    finally:
        ours.close()
        os.waitpid(child, 0)
    if told["at"]:
        unwritten = OSError(told["errno"], os.strerror(told["errno"]), told["at"])
        raise SampanError("the holder of this user's namespaces cannot write its record") from unwritten
    if told["errno"]:
        raise _explained(told["errno"])
    return tuple(told["warnings"])


def _explained(number: int) -> SampanError:
    cause = OSError(number, os.strerror(number))
    told: SampanError = SampanError("this user's namespaces cannot be made")
    if number in (errno.EPERM, errno.ENOSPC, errno.EUSERS, errno.EACCES, errno.EINVAL):
        told = Unsupported("this machine gives no user namespace to a normal user", hints=_mending())
    told.__cause__ = cause
    return told


def _mending() -> tuple[str, ...]:
    """Return the commands that mend what forbids user namespaces, those that apply here."""
    hints = []
    for name, forbidden, command in _SWITCHES:
        try:
            with open(f"/proc/sys/{name}", encoding="utf-8") as file:
                if file.read().strip() == forbidden:
                    hints.append(f"as root: `{command}`")
        except OSError:
            continue
    if any("apparmor" in hint for hint in hints):
        # For this interpreter alone, and for longer than a boot.
        own = os.path.realpath(sys.executable)
        profile = f"abi <abi/4.0>,\\nprofile sampan {own} flags=(unconfined) {{\\n  userns,\\n}}\\n"
        path = "/etc/apparmor.d/sampan"
        hints.append(f"or, for `{own}` alone: `printf '{profile}' >{path} && apparmor_parser -r {path}`")
    return tuple(hints) or ("run as root", "a container may not be allowed to make namespaces of its own")
