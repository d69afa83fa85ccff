"""The step's parent, as the build has it: a fresh interpreter (`step_process`), a channel, and the step's output.

It may be started before there is a step, and gets ready meanwhile. A build may have threads and much memory, so it is
no fork. See `step` for who does what.
"""

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

from sampan import failure
from sampan.build.mirror import Lost
from sampan.document import parse, render
from sampan.errors import Exhausted, Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings

_CHUNK_BYTES = 1 << 16
_MESSAGE_BYTES = 1 << 18
# What the fresh interpreter runs: -I -S keep site, the environment and the directory out; this package's path goes in.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from sampan.build.step_process import main; main()"


class Parent:
    """The step's parent, as this process has it: a child, a channel, and the reading end of the step's output.

    It may be made before there is a step, and gets ready meanwhile; whoever makes one calls `end`.
    """

    def __init__(self, settings: "Settings") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _MESSAGE_BYTES)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE_BYTES)
        self._reading, writing = os.pipe2(os.O_CLOEXEC)
        self._request = os.memfd_create("sampan-step")
        self._pidfd = -1
        self._pid = 0
        self.stubs: tuple[list[str], dict[str, tuple[int, int, int]]] = ([], {})
        try:
            self._pid = _spawn(settings, theirs.fileno(), writing, self._request)
        except BaseException:
            self.end()
            raise
        finally:
            theirs.close()
            os.close(writing)

    def begin(self, request: "Document") -> None:
        """Have it run a step."""
        _write_all(self._request, render(request).encode())
        self._channel.send(b"\n")

    def follow(self, output: Callable[[bytes], None], warn: Callable[[str], None], deadline: float | None) -> int:
        """Give its output to `output` until it has ended; return its status as a shell has it."""
        status: int | None = None
        waiting = {self._reading, self._channel.fileno()}
        while waiting:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = _readable(waiting, left)
            if not ready:
                raise Exhausted("a step has not ended in the time that it was given")
            if self._reading in ready:
                piece = os.read(self._reading, _CHUNK_BYTES)
                output(piece) if piece else waiting.discard(self._reading)
            if self._channel.fileno() in ready:
                message = self._receive()
                if message is None:
                    waiting.discard(self._channel.fileno())
                elif "warning" in message:
                    warn(message["warning"])
                elif "status" in message:
                    status = message["status"]
        if status is None:
            raise Internal("the parent of a step ended without a word")
        return status

    def _receive(self) -> "Document | None":
        """Take one message; raise the error that it brings."""
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, _MESSAGE_BYTES, 1)
        except ConnectionResetError:
            return None
        if not data:
            return None
        message = parse(data.decode())
        if fds:
            self._pidfd = fds[0]
        if "chain" in message:
            raise failure.rebuild(message["chain"], "a step could not be run")
        if "is_lost" in message:
            raise Lost("the process that shows a step its files ended before the step")
        if "made" in message:
            self.stubs = message["made"], {path: (m, u, g) for path, m, u, g in message["touched"]}
        return message

    def end(self) -> None:
        """See that nothing of it runs any more, and close everything. Idempotent."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
        if self._pidfd >= 0:
            # The first process of a pid namespace ends after all others in it (pid_namespaces(7)).
            _readable({self._pidfd}, None)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._reading >= 0:
            self._channel.close()
            os.close(self._reading)
            os.close(self._request)
            self._reading = -1


def _spawn(settings: "Settings", channel: int, writing: int, memfd: int) -> int:
    """Execute the step's parent in a fresh interpreter; return its pid."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    argv = [sys.executable, "-I", "-S", "-c", _PROGRAM, package, str(settings.uid), str(os.getpid())]
    environment = dict(settings.environment) | {"SAMPAN_ROOT": settings.root, "SAMPAN_RUN": settings.run}
    # They take the numbers 0 to 2 on the way: whatever numbers they have here, nothing is inherited by accident.
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((channel, writing, memfd))]
    defaults = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    return os.posix_spawn(sys.executable, argv, environment, file_actions=actions, setsigmask=(), setsigdef=defaults)


def _readable(fds: set[int], seconds: float | None) -> list[int]:
    """Wait until something can be read; nothing after `seconds`."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)]


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
