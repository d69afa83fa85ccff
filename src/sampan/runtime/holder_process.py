"""The holder's own process, and the one that makes it. Only where a holder is started is this imported.

Theory. Two forks. The maker leaves the command's session, directory and cgroup, so that the end of a login is not the
holder's, forks the holder, and stays in the machine's namespaces to do what can only be done from there:

    holder                                 maker                          command
    ------------------------------------   ----------------------------   -------------------
    makes a user namespace, says so  --->  writes its id maps
    makes mounts and network, says so <->  attaches the helper to it
    listens, writes its record       --->  tells the warnings       --->  finds it; reaps the maker

Where any of them ends half-way the others see an end of file: the holder ends before it has a record, and a helper that
is left is ended by the next attach. The command's lock is one open file for all three, free once the last of them has
let go of it: so nobody starts a second holder beside a start whose command was killed. Then the holder serves
connections, which carry nothing, until none has been open for so long, or after SIGTERM until the last one is closed.
INVARIANT: nothing is imported in its namespaces, no codec either.
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
_WORD_BYTES = 1 << 13  # a number and a path


def make(
    channel: _socket.socket, lock: int, settings: "Settings", idle_seconds: float, attach: "Attach | None"
) -> "NoReturn":
    """Make the holder, and tell the command at the other end of `channel` how that ended; never returns.

    `lock` is the command's, which has it locked.
    """
    told: dict[str, object] = {"errno": errno.ESRCH, "at": None}
    try:
        channel, lock = _leave_caller(channel, lock)
        _leave_cgroup(settings)
        ours, theirs = _socket.socketpair()
        if os.fork() == 0:
            channel.close()
            ours.close()
            _be_holder(theirs, lock, settings, idle_seconds)
        theirs.close()
        told = {"errno": 0, "at": None, "warnings": _help(ours, settings, attach)}
    except OSError as error:
        told = {"errno": error.errno or errno.ESRCH, "at": error.filename if error.filename == settings.run else None}
    finally:
        try:
            channel.sendall(render(told).encode())
        finally:  # the command may be gone; never back into its code
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
    """Return the number in the holder's next word; raise the errno in it, with the path if there is one."""
    word, _, rest = ours.recv(_WORD_BYTES).partition(b" ")
    number, _, path = rest.partition(b" ")
    if word == b"ok":
        return int(number)
    code = int(number) if word == b"no" else errno.ESRCH
    raise OSError(code, os.strerror(code), os.fsdecode(path) if path else None)


def _leave_caller(channel: _socket.socket, lock: int) -> tuple[_socket.socket, int]:
    """Be nobody's: a session of our own, no directory, signals as a program finds them; return the files we keep."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    # Out of the way of the three, which a command may have been started without.
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (channel.detach(), lock)]
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    syscalls.close_others(kept)
    return _socket.socket(fileno=kept[0]), kept[1]


def _leave_cgroup(settings: "Settings") -> None:
    """Go to the monitors' cgroup where there is one, so that the end of a login session is not ours."""
    from sampan.runtime import cgroup

    try:
        cgroup.open_parent(settings).enter_monitor()
    except (OSError, SampanError):
        return


# --- the holder itself ----------------------------------------------------------------------------------------------


def _be_holder(channel: _socket.socket, start_lock: int, settings: "Settings", idle_seconds: float) -> "NoReturn":
    """Be the holder; never returns."""
    try:
        for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGPIPE):
            _signal.signal(number, _signal.SIG_IGN)
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Before anybody can know us: SIGTERM is a wish, not an end.
        _signal.set_wakeup_fd(wake)
        _signal.signal(_signal.SIGTERM, lambda *_: None)
        with open("/proc/self/comm", "wb") as file:
            file.write(_NAME)
        lock = os.open(holder_record.lock_path(settings), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            helper = _make_namespaces(channel)
        except OSError as error:
            channel.sendall(b"no %d" % (error.errno or errno.EPERM))
            os._exit(1)
        try:
            listener = _listen(settings)
            holder_record.write_record(settings)
            channel.sendall(b"ok 0")
        except OSError as error:
            _end(settings, helper)
            channel.sendall(b"no %d %b" % (error.errno or errno.EIO, os.fsencode(settings.run)))
            os._exit(1)
        channel.close()
        os.close(start_lock)
        _wait_for_the_last(listener, lock, woken, idle_seconds)
        _end(settings, helper)
        os._exit(0)
    finally:
        os._exit(1)


def _end(settings: "Settings", helper: int | None) -> None:
    """Take our files away, and end the helper."""
    record = holder_record.read_record(settings)
    # Another's where we could not be found, say by a command without a descriptor left: those are its.
    if record is None or record.get("pid") == os.getpid():
        for name in ("holder.json", "holder.sock", "pasta.pid"):
            _remove(f"{settings.run}/{name}")
    if helper is not None:
        try:
            syscalls.pidfd_send_signal(helper, _signal.SIGTERM)
        except ProcessLookupError:
            return


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
