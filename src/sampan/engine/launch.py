"""The launch seam: how a monitor begins, whoever asks for a container.

Theory. A monitor is a process of its own that waits on one end of a socket pair for its REQUEST, with one descriptor
beside it (SCM_RIGHTS: the container's lock), and answers STARTED or ERROR; from then on the pair is its first client's
channel. A process that `exec` runs in a container has a keeper of the same kind (`keeper`; the descriptor is the
container's pidfd). There are two ways to get one, and `prepare` picks:

    fork    a command with one thread forks itself, as its first act: before the database is opened, and before either
            has imported its own half of the engine, which both then do at the same time, on two processors, and neither
            carries the other's. The monitor leaves the caller's session and cgroup while the command is in the
            database.
    spawn   anything else (a pull that needed threads, a test runner, a server) executes a fresh interpreter that
            imports only this seam; the request lies in a memfd.

Who starts several has them from a nursery instead (`nursery`), a process that has imported their half already.

Either way the monitor has no descriptor of the command's but these, and no database connection; if the command dies
before it has sent the request, the monitor reads the end of file and leaves. INVARIANT: a monitor does nothing for a
container before it has the request and the lock. Hot path.
"""

import _signal
import _socket
import gc
import os
import struct
import sys

from sampan.document import parse, render
from sampan.engine import attach, frame, rootless, sealing
from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from sampan.document import Document
    from sampan.settings.configuration import Settings

VERSION = 2
FD = struct.Struct("i")
# Who has monitors that wait already (`nursery`); it returns None where it has none any more.
nursery: "Callable[[], Launch | None] | None" = None


class Launch:
    """A monitor that waits for its request. Send one, or abandon it."""

    __slots__ = ("_memfd", "client")

    def __init__(self, channel: _socket.socket, memfd: int | None) -> None:
        # The channel, on which READY comes before a request is sent, and STARTED or ERROR after.
        self.client = attach.Client(channel)
        self._memfd = memfd

    def ready(self) -> "Document":
        """Wait until the monitor is ready and return what it found (`assembly.features`); raises its error."""
        answer = self.client.receive()
        if answer is None:
            raise Internal("the container's monitor ended before it was ready")
        if answer[0] == frame.ERROR:
            raise frame.parse_error(answer[1])
        return parse(answer[1].decode())

    def send(self, request: "Document", passed_fd: int) -> attach.Client:
        """Give the monitor its request and a descriptor; return the channel, on which STARTED or ERROR will come.

        Closes `passed_fd`: from here on the monitor alone holds the lock.
        """
        payload = render(request | {"version": VERSION}).encode()
        client = self.client
        try:
            if self._memfd is not None:
                sealing.write(self._memfd, payload)
                os.close(self._memfd)
                self._memfd, payload = None, b""
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, FD.pack(passed_fd))]
            message = frame.pack(frame.REQUEST, payload)
            client.send(message, rights)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has failed already: the channel says why
        finally:
            os.close(passed_fd)
        return client

    def abandon(self) -> None:
        """Let the monitor go: there is nothing to start. Idempotent, and harmless after `send`."""
        self.client.close()
        if self._memfd is not None:
            os.close(self._memfd)
            self._memfd = None


def prepare(settings: "Settings", kind: str = sealing.MONITOR) -> Launch:
    """Return a process of that kind that waits: a fork of a caller with one thread, else a fresh interpreter."""
    if nursery is not None and kind == sealing.MONITOR and (found := nursery()):
        return found
    return fork(settings, kind) if len(os.listdir("/proc/self/task")) == 1 else spawn(settings, kind)


def fork(settings: "Settings", kind: str = sealing.MONITOR) -> Launch:
    """Fork it off this process, which has one thread and no database connection."""
    rootless.enter(settings)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    # What both have now stays shared between them: the collector must not write into it.
    gc.freeze()
    if os.fork() == 0:
        leave_caller(theirs.fileno())
        end(lambda: serve(kind, theirs, settings))
    theirs.close()
    return Launch(ours, None)


def spawn(settings: "Settings", kind: str = sealing.MONITOR) -> Launch:
    """Execute it in a fresh interpreter, whatever threads this process has."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    memfd = os.memfd_create("sampan-request")
    # They take the numbers 0 and 1 on the way: whatever numbers they have here, nothing is inherited by accident.
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
        (os.POSIX_SPAWN_DUP2, memfd, 1),
        (os.POSIX_SPAWN_DUP2, null, 2),
    ]
    argv, environment = sealing.argv(settings, kind, "0", "1", "-1"), sealing.environment(settings)
    try:
        pid = os.posix_spawn(
            sys.executable, argv, environment, file_actions=actions, setsigmask=(), setsigdef=_defaults()
        )
    except BaseException:
        ours.close()
        os.close(memfd)
        raise
    finally:
        os.close(null)
        theirs.close()
    # It forks at once and leaves the monitor to init, so that a long-lived caller has no child to wait for later.
    _, status = os.waitpid(pid, 0)
    if status != 0:
        ours.close()
        os.close(memfd)
        raise Internal("a monitor could not be executed")
    return Launch(ours, memfd)


def main() -> "NoReturn":
    """Be the process that `spawn` or `seal` executed: its words are uid, kind, channel, memfd, descriptor or -1."""
    from sampan.settings import configuration

    uid, kind, channel_fd, memfd, passed_fd = sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7])
    if passed_fd < 0:
        if os.fork():
            os._exit(0)
        channel_fd, memfd = os.dup(channel_fd), os.dup(memfd)
    settings = configuration.Settings(dict(os.environ), int(uid))  # noqa: TID251 - this is the process's start
    channel = _socket.socket(fileno=channel_fd)
    if passed_fd < 0:
        leave_caller(channel_fd, memfd)
    end(lambda: serve(kind, channel, settings, memfd, passed_fd))


def serve(
    kind: str, channel: _socket.socket, settings: "Settings", memfd: int | None = None, passed_fd: int = -1
) -> None:
    """Import what this kind of process needs, and be it; what it does not catch itself crosses the channel."""

    def receive() -> "tuple[Document, int] | None":
        if memfd is not None and passed_fd >= 0:
            return _read(memfd), passed_fd
        return _receive(channel, memfd)

    try:
        rootless.enter(settings)
        if kind == sealing.KEEPER:
            from sampan.engine import keeper

            keeper.run(channel, settings, receive)
        else:
            from sampan.engine import monitor

            monitor.run(channel, settings, receive)
    except Exception as error:  # noqa: BLE001 - the process's boundary
        channel.sendall(frame.pack(frame.ERROR, frame.render_error(error)))


def _receive(channel: _socket.socket, memfd: int | None) -> "tuple[Document, int] | None":
    """Return the request and the descriptor beside it; None where the command has gone."""
    decoder, passed_fd = frame.Decoder(), -1
    while True:
        try:
            data, ancillary, _, _ = channel.recvmsg(64 * 1024, _socket.CMSG_SPACE(FD.size), _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, ancillary = b"", []
        for _, _, rights in ancillary:
            passed_fd = FD.unpack(rights[: FD.size])[0]
        if not data:
            return None
        for kind, payload in decoder.feed(data):
            if kind != frame.REQUEST or passed_fd < 0:
                return None
            return _checked(parse(payload.decode())) if memfd is None else _read(memfd), passed_fd


def _read(memfd: int) -> "Document":
    """Take the request out of the memfd."""
    text = os.pread(memfd, frame.PAYLOAD_BYTES, 0)
    os.close(memfd)
    return _checked(parse(text.decode()))


def _checked(request: "Document") -> "Document":
    # Both sides are one installation, but `spawn` may meet one that was upgraded a moment ago.
    if request["version"] != VERSION:
        raise Internal("the start request is of another version of Sampan")
    return request


def leave_caller(*keep: int) -> None:
    """Leave the caller's session, directory, signals and descriptors; 0, 1 and 2 become /dev/null."""
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGTSTP, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_IGN)
    _signal.set_wakeup_fd(-1)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number, inheritable=True)
    # Not syscalls.close_others: it would bring ctypes, 2 ms that the command before the fork need not pay.
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            _close(fd)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # the one that listed the directory


def _defaults() -> list[int]:
    """Return the signals that a spawned process gets back at their default."""
    return [_signal.SIGPIPE, _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT]


def end(body: "Callable[[], None]") -> "NoReturn":
    """Run the monitor to its end and leave without the interpreter's own, which would run the command's cleanups."""
    try:
        body()
    finally:
        os._exit(0)
