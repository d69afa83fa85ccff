"""The holder: the one process of a normal user that owns the namespaces in which all of his containers are nested.

Theory. A veth between two sibling user namespaces is EPERM, and a bridge needs a network namespace that stays; so one
process per user owns a user, a mount and a network namespace, and does nothing. A command joins the first two early,
while it has one thread, and is uid 0 in there: from then on the same code runs as for root. It stays in the machine's
network namespace, where downloads work; a monitor goes on into the holder's.

    who            keeps it alive by                                   and finds it by
    ------------   -------------------------------------------------   ---------------------------------------
    a command      a connection to its socket, while the command runs   SAMPAN_RUN/holder.json, checked by pidfd,
    a monitor      a connection to its socket, for its life             start time and boot id, under a lock

Ten seconds after the last connection it ends, and takes its helpers (pasta) with it. Ids: with newuidmap and a range in
/etc/subuid, uid 0 in there is the user and 1… are the range; without, the user's own id is the only one there is.
Killed, it leaves a socket that refuses; the next command starts another. INVARIANT: nothing is imported once inside.
"""

import _signal
import _socket
import errno
import fcntl
import os
import select

from sampan.document import Malformed, parse, render
from sampan.errors import SampanError, Unsupported
from sampan.kernel import netlink, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from sampan.document import Document
    from sampan.settings.configuration import Settings

VERSION = 1
IDLE_SECONDS = 10.0
_NAMESPACES = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS
_FILE_BYTES = 1 << 20
_START_SECONDS = 20
# Switches of the kernel that forbid a user namespace, the value that does, and the command that mends it.
_SWITCHES = (
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
)


class Holder:
    """A holder that lives; `connection` keeps it alive until it is closed. `is_new`: this call has started it."""

    __slots__ = ("connection", "is_new", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, connection: _socket.socket, *, is_new: bool) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.connection = connection
        self.is_new = is_new

    def join(self) -> None:
        """Enter its user and mount namespaces: the caller, which has one thread, is uid 0 in there.

        The working directory is kept: setns(2) into a mount namespace goes to its root.
        """
        before = os.getcwd()
        syscalls.setns(self.pidfd, _NAMESPACES)
        os.chdir(before)

    def enter_network(self) -> None:
        """Enter its network namespace; the caller has joined."""
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWNET)

    def close(self) -> None:
        """Let go of it."""
        self.connection.close()
        os.close(self.pidfd)


def ensure(settings: "Settings", *, idle_seconds: float = IDLE_SECONDS) -> Holder:
    """Return this user's holder, started if there is none; raises Unsupported where there can be no namespaces."""
    os.makedirs(settings.run, 0o700, exist_ok=True)
    lock = os.open(f"{settings.run}/holder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = find(settings)
        if found is not None:
            return found
        _start(settings, idle_seconds)
        started = find(settings, is_new=True)
    finally:
        os.close(lock)
    if started is None:
        raise SampanError("the holder of this user's namespaces ended at once", hints=("try again",))
    return started


def find(settings: "Settings", *, is_new: bool = False) -> Holder | None:
    """Return this user's holder if one lives; its socket is connected first, so that it stays."""
    record = _read_record(settings)
    if record is None:
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        _connect(connection, settings)
        pidfd = syscalls.pidfd_open(record["pid"])
    except OSError:
        connection.close()
        return None
    if start_time(record["pid"]) != record["start_time"]:
        connection.close()
        os.close(pidfd)
        return None
    return Holder(record["pid"], pidfd, connection, is_new=is_new)


def missing() -> tuple[str, ...]:
    """Return what this machine lacks for a normal user's containers, with the command that installs it."""
    from sampan.kernel import program

    lacks = []
    if program.find("newuidmap") is None:
        lacks.append("a container has a single user id, since `newuidmap` is not installed: `apt install uidmap`")
    elif subordinate("/etc/subuid", os.getuid()) is None:
        lacks.append("a container has a single user id, since /etc/subuid names no range: `usermod --add-subuids`")
    if program.find("pasta") is None:
        lacks.append(
            "containers reach no network but each other's, since `pasta` is not installed: `apt install passt`"
        )
    return tuple(lacks)


def is_single_id() -> bool:
    """Tell, from within, whether there is one id only."""
    return id_count() == 1


def id_count() -> int:
    """Return, from within, how many user ids there are, from 0 on without a gap."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return sum(int(line.split()[2]) for line in file)


def subordinate(path: str, uid: int) -> tuple[int, int] | None:
    """Return (first id, count) of the first range that /etc/subuid or subgid gives to a user, by name or number."""
    names = {str(uid), _name_of(uid)}
    try:
        with open(path, "rb") as file:
            lines = file.read(_FILE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            return int(fields[1]), int(fields[2])
    return None


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; 0 where it is gone. proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


# --- the starter's side ---------------------------------------------------------------------------------------------


def _start(settings: "Settings", idle_seconds: float) -> None:
    """Fork the holder, give it its ids and its helper, and return when it listens."""
    _prepare_imports()
    ours, theirs = _socket.socketpair()
    ours.settimeout(_START_SECONDS)
    child = os.fork()
    if child == 0:
        ours.close()
        if os.fork():
            os._exit(0)
        _be_holder(theirs, settings, idle_seconds)
    theirs.close()
    os.waitpid(child, 0)
    try:
        pid = int(_answer(ours))
        _write_maps(pid)
        ours.sendall(b"m")
        _answer(ours)
        helper = _start_pasta(pid, settings)
        ours.sendall(b"%d\n" % helper)
        _answer(ours)
    finally:
        ours.close()


def _answer(ours: _socket.socket) -> str:
    """Return the holder's next word; raise what it says went wrong."""
    try:
        word, _, text = ours.recv(4096).decode("utf-8", "replace").partition(" ")
    except OSError as error:
        raise SampanError("the holder of this user's namespaces does not answer") from error
    if word == "ok":
        return text
    raise _explained(int(text or errno.ESRCH))


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
    return tuple(hints) or ("run as root", "a container may not be allowed to make namespaces of its own")


def _write_maps(pid: int) -> None:
    """Map the user's own id to 0 and his subordinate ids to 1 and on, or his own alone."""
    from sampan.kernel import program

    uid, gid = os.getuid(), os.getgid()
    ranges = [subordinate("/etc/subuid", uid), subordinate("/etc/subgid", uid)]
    tools = [program.find("newuidmap"), program.find("newgidmap")]
    if all(ranges) and all(tools):
        done = [
            program.run([tool, str(pid), "0", str(own), "1", "1", str(found[0]), str(found[1])]).status
            for tool, own, found in zip(tools, (uid, gid), ranges, strict=True)
            if tool is not None and found is not None
        ]
        if done == [0, 0]:
            return
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/{pid}/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def _start_pasta(pid: int, settings: "Settings") -> int:
    """Attach pasta to the holder's network namespace, and return its process id; 0 without it."""
    from sampan.kernel import program

    path = program.find("pasta", settings.environment.get("PATH"))
    if path is None:
        return 0
    pid_file = f"{settings.run}/pasta.pid"
    # No port goes in by pasta: published ones are forwarded, and the host's own loopback is not for containers.
    words = ("--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--quiet")
    done = program.run([path, *words, "--pid", pid_file, str(pid)], timeout=_START_SECONDS)
    if done.status != 0:
        return 0
    try:
        with open(pid_file, encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


# --- the holder itself ----------------------------------------------------------------------------------------------


def _be_holder(channel: _socket.socket, settings: "Settings", idle_seconds: float) -> "NoReturn":
    """Be the holder, in a session, directory and cgroup of its own; never returns."""
    try:
        _leave_caller(channel.fileno())
        _leave_cgroup(settings)
        _unshare(channel, syscalls.CLONE_NEWUSER)
        channel.sendall(b"ok %d" % os.getpid())
        if channel.recv(1):
            _hold(channel, settings, idle_seconds)
    finally:
        os._exit(1)


def _hold(channel: _socket.socket, settings: "Settings", idle_seconds: float) -> None:
    _unshare(channel, syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    # The machine's later mounts come in, ours do not go out.
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    with netlink.Socket() as socket:
        netlink.set_up(socket, 1)
    channel.sendall(b"ok")
    helper = int(channel.recv(32) or 0)
    listener = _listen(settings)
    _write_record(settings)
    channel.sendall(b"ok")
    channel.close()
    try:
        _wait_for_the_last(listener, idle_seconds)
    finally:
        # SIGTERM to a helper that ended long ago would meet a stranger: only one that is pasta still.
        if helper and _comm(helper).startswith("pasta"):
            os.kill(helper, _signal.SIGTERM)
        for name in ("holder.json", "holder.sock", "pasta.pid"):
            _remove(f"{settings.run}/{name}")
    os._exit(0)


def _wait_for_the_last(listener: _socket.socket, idle_seconds: float) -> None:
    """Serve connections, which carry nothing, until none has been open for so long."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    connections: dict[int, _socket.socket] = {}
    while True:
        ready = poll.poll(None if connections else idle_seconds * 1000)
        if not ready and not connections:
            return
        for fd, _ in ready:
            if fd == listener.fileno():
                accepted, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept calls
                connections[accepted] = _socket.socket(fileno=accepted)
                poll.register(accepted, select.POLLIN)
            elif not _is_open(connections[fd]):
                poll.unregister(fd)
                connections.pop(fd).close()


def _is_open(connection: _socket.socket) -> bool:
    try:
        return bool(connection.recv(64, _socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _unshare(channel: _socket.socket, flags: int) -> None:
    try:
        syscalls.unshare(flags)
    except OSError as error:
        channel.sendall(b"no %d" % (error.errno or errno.EPERM))
        os._exit(1)


def _leave_caller(keep: int) -> None:
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != keep:
            try:
                os.close(fd)
            except OSError:
                continue  # the one that listed the directory


def _leave_cgroup(settings: "Settings") -> None:
    """Go to the monitors' cgroup where there is one, so that the end of a login session is not ours."""
    from sampan.runtime import cgroup

    try:
        cgroup.open_parent(settings).enter_monitor()
    except (OSError, SampanError):
        return


def _prepare_imports() -> None:
    """Import all that the holder will need, before it is in namespaces of its own."""
    from sampan.kernel import program
    from sampan.runtime import cgroup, cgroup_v1, cgroup_v2, cgroupfs, delegation

    _ = (program, cgroup, cgroup_v1, cgroup_v2, cgroupfs, delegation)


def _listen(settings: "Settings") -> _socket.socket:
    _remove(f"{settings.run}/holder.sock")
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    _in_directory(settings.run, lambda: listener.bind("holder.sock"))
    listener.listen(64)
    return listener


def _connect(connection: _socket.socket, settings: "Settings") -> None:
    _in_directory(settings.run, lambda: connection.connect("holder.sock"))


def _in_directory(directory: str, action: "Callable[[], None]") -> None:
    """Do something with a relative name there: a unix socket's address has 108 bytes, a path may have more."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        action()
    finally:
        os.fchdir(before)
        os.close(before)


def _write_record(settings: "Settings") -> None:
    record = {"version": VERSION, "pid": os.getpid(), "start_time": start_time(os.getpid()), "boot_id": _boot_id()}
    path = f"{settings.run}/holder.json"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(render(record))
    os.rename(f"{path}.new", path)


def _read_record(settings: "Settings") -> "Document | None":
    try:
        with open(f"{settings.run}/holder.json", encoding="utf-8") as file:
            record = parse(file.read(_FILE_BYTES))
    except (OSError, Malformed):
        return None
    return record if record.get("boot_id") == _boot_id() and record.get("version") == VERSION else None


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _name_of(uid: int) -> str:
    import pwd  # NSS; before anything is joined

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
