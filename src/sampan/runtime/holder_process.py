"""The holder's own process, and the one that makes it. Only where a holder is started is this imported.

Theory. Two forks. The maker leaves the command's session, directory and cgroup, so that the end of a login is not the
holder's, forks the holder, and stays in the machine's namespaces to do what can only be done from there:

    holder                                 maker                          command
    ------------------------------------   ----------------------------   -------------------
    makes a user namespace, says so  --->  writes its id maps
    makes mounts and network, says so <->  attaches the helper to it
    listens, writes its record       --->  tells the warnings       --->  finds it; reaps the maker

Where any of them ends half-way the others see an end of file: the holder ends before it has a record, and a helper that
is left is ended by the next attach. Then the holder serves connections, which carry nothing, until none has been open
for so long, or after SIGTERM until the last one is closed. INVARIANT: nothing is imported in its namespaces,
no codec either.
"""

import _signal
import _socket
import errno
import fcntl
import os
import select

from sampan.document import render
from sampan.errors import SampanError
from sampan.kernel import netlink, syscalls
from sampan.runtime import holder_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.runtime.holder_record import Attach
    from sampan.settings.configuration import Settings

_NAME = b"sampan-holder"


def make(channel: _socket.socket, settings: "Settings", idle_seconds: float, attach: "Attach | None") -> "NoReturn":
    """Make the holder, and tell the command at the other end of `channel` how that ended; never returns."""
    told: dict[str, object] = {"errno": errno.ESRCH}
    try:
        _leave_caller(channel.fileno())
        _leave_cgroup(settings)
        ours, theirs = _socket.socketpair()
        if os.fork() == 0:
            channel.close()
            ours.close()
            _be_holder(theirs, settings, idle_seconds)
        theirs.close()
        told = {"errno": 0, "warnings": _help(ours, settings, attach)}
    except OSError as error:
        told = {"errno": error.errno or errno.ESRCH}
    finally:
        channel.sendall(render(told).encode())
        os._exit(0)


def _help(ours: _socket.socket, settings: "Settings", attach: "Attach | None") -> list[str]:
    """Do the maker's part; return what is missing. Raises OSError with the errno that stopped the holder."""
    from sampan.runtime import subordinate

    pid = _answer(ours)
    warnings = [subordinate.write_maps(pid, settings.environment.get("PATH"))]
    ours.sendall(b"m")
    _answer(ours)
    helper, lack = attach(pid) if attach is not None else (0, "")
    ours.sendall(b"%d" % helper)
    _answer(ours)
    return [text for text in (*warnings, lack) if text]


def _answer(ours: _socket.socket) -> int:
    """Return the number in the holder's next word; raise the errno in it."""
    word, _, number = ours.recv(64).partition(b" ")
    if word == b"ok":
        return int(number)
    code = int(number) if word == b"no" else errno.ESRCH
    raise OSError(code, os.strerror(code))


def _leave_caller(keep: int) -> None:
    """Be nobody's: a session of our own, no directory, no files but one, the signals as a program finds them."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGPIPE, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
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


# --- the holder itself ----------------------------------------------------------------------------------------------


def _be_holder(channel: _socket.socket, settings: "Settings", idle_seconds: float) -> "NoReturn":
    """Be the holder; never returns."""
    try:
        for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGPIPE):
            _signal.signal(number, _signal.SIG_IGN)
        # Before anybody can know us: SIGTERM is a wish, not an end.
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(wake)
        _signal.signal(_signal.SIGTERM, lambda *_: None)
        with open("/proc/self/comm", "wb") as file:
            file.write(_NAME)
        lock = os.open(holder_record.lock_path(settings), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            helper = _make_namespaces(channel)
            listener = _listen(settings)
        except OSError as error:
            channel.sendall(b"no %d" % (error.errno or errno.EPERM))
            os._exit(1)
        holder_record.write_record(settings)
        channel.sendall(b"ok 0")
        channel.close()
        _wait_for_the_last(listener, lock, woken, idle_seconds)
        for name in ("holder.json", "holder.sock", "pasta.pid"):
            _remove(f"{settings.run}/{name}")
        if helper is not None:
            syscalls.pidfd_send_signal(helper, _signal.SIGTERM)
        os._exit(0)
    finally:
        os._exit(1)


def _make_namespaces(channel: _socket.socket) -> int | None:
    """Make them, in step with the maker; return a pidfd of the helper."""
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    channel.sendall(b"ok %d" % os.getpid())
    if not channel.recv(1):
        os._exit(1)
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    # The machine's later mounts come in, ours do not go out.
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    with netlink.Socket() as socket:
        netlink.set_up(socket, 1)
    channel.sendall(b"ok 0")
    pid = channel.recv(32)
    if not pid:
        os._exit(1)
    try:
        return syscalls.pidfd_open(int(pid)) if int(pid) else None
    except ProcessLookupError:
        return None


def _listen(settings: "Settings") -> _socket.socket:
    _remove(f"{settings.run}/holder.sock")
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    holder_record.in_directory(settings.run, lambda: listener.bind("holder.sock"))
    listener.listen(64)
    return listener


def _wait_for_the_last(listener: _socket.socket, lock: int, woken: int, idle_seconds: float) -> None:
    """Serve until nobody has been connected for so long; return with the lock, and nobody waiting."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(woken, select.POLLIN)
    connections: dict[int, _socket.socket] = {}
    while True:
        ready = poll.poll(None if connections else idle_seconds * 1000)
        if not ready and not connections and _may_end(listener, lock):
            return
        for fd, _ in ready:
            if fd == woken:  # a machine that shuts down does not wait for our patience
                os.read(woken, 64)
                idle_seconds = 0.05
            elif fd == listener.fileno():
                connection = _accept(listener)
                if connection is not None:
                    connections[connection.fileno()] = connection
                    poll.register(connection, select.POLLIN)
            elif not _is_open(connections[fd]):
                poll.unregister(fd)
                connections.pop(fd).close()


def _may_end(listener: _socket.socket, lock: int) -> bool:
    """Tell whether nobody is looking for us, and nobody will: on True the lock is ours until our end."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if select.select([listener], (), (), 0)[0]:
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True


def _accept(listener: _socket.socket) -> _socket.socket | None:
    try:
        fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept calls
    except OSError:
        return None
    return _socket.socket(fileno=fd)


def _is_open(connection: _socket.socket) -> bool:
    try:
        return bool(connection.recv(64, _socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
