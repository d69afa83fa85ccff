"""The monitor's poll loop: a container's stdio, its log, and the commands that are attached. Hot path.

Theory of operation. One thread, one poll; nothing blocks but the poll. What comes out of the container goes to the log
first, then to every ATTACH client; what clients send goes to the container's stdin, signals and sizes take effect at
once. Bounds:

- The launcher (the command that started the container and stays in the foreground) is a pipe's reader: while more than
  LAUNCHER_BYTES wait for it, the container's output is not read, as if it wrote to that command directly. Losing
  output that a person redirects into a file would be worse than waiting.
- Any other client that falls CLIENT_BYTES behind is cut off: it never holds up the container, and the log has
  everything.
- A client may have WINDOW bytes of input on the way, for which it gets an ACK as the container takes them; one that
  sends more is cut off. So signals are always read.
- At most CLIENTS at once; more are closed as they come.

Quiet: when nothing has moved for a while and nothing waits to, `run` lets its caller rest, or returns False: then the
whole switchboard is its descriptors and the few facts of `document`, from which another interpreter may go on
(`renewal`).

The end: the pidfd becomes readable, the pipes are read empty, `run` returns True. Then the monitor records, and
`farewell` tells everybody the status; `flush` waits for those that still have output to take.
"""

import _signal
import _socket
import os
import select
import termios
import time

from sampan.engine import frame
from sampan.engine.output import STDERR, STDOUT
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from sampan.document import Document
    from sampan.engine.output import OutputLog

    class Companion(Protocol):
        """What shares the poll loop: it is called when one of its descriptors is readable or its time has come."""

        def descriptors(self) -> list[int]:
            """Return what is polled for input."""

        def timeout(self) -> float | None:
            """Return the seconds until `serve` is due; None for never."""

        def is_busy(self) -> bool:
            """Tell whether something is on its way that another interpreter would not know of."""

        def serve(self) -> None:
            """Do what is due; never wait."""


LAUNCHER_BYTES = 256 * 1024
CLIENT_BYTES = 1024 * 1024
CLIENTS = 64
# Signals that ask for the end of a container, whichever of them its image chose as its stop signal.
_ENDING = (_signal.SIGKILL, _signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT)
# Between two runs a client that takes its last output slowly is waited for so long.
_TELLING_SECONDS = 10.0
_TELLING_ROUND = 0.05
_READ_BYTES = frame.CHUNK_BYTES
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Conversation:
    """One client as the monitor sees it."""

    __slots__ = ("decoder", "is_launcher", "is_stdin", "mode", "out", "socket", "unacknowledged")

    def __init__(self, socket: _socket.socket, *, is_launcher: bool) -> None:
        self.socket = socket
        self.is_launcher = is_launcher
        # What HELLO said; the launcher is attached from the start.
        self.mode = frame.ATTACH if is_launcher else b""
        self.decoder = frame.Decoder(2 * frame.CHUNK_BYTES)
        self.out = bytearray()
        self.unacknowledged = 0
        # It has sent input, so its leaving may be the end of stdin.
        self.is_stdin = is_launcher


class Switchboard:
    """See the module. `stdin` is -1 where the container has none; with a terminal all three are its master."""

    __slots__ = (
        "_by_fd",
        "_companions",
        "_input",
        "_listener",
        "_log",
        "_masks",
        "_outputs",
        "_pidfd",
        "_poll",
        "_stdin",
        "_terminal",
        "after_hangup",
        "after_termination",
        "is_stdin_once",
        "is_stop_wanted",
        "is_stopped_by_hand",
        "on_termination",
    )

    def __init__(self, pidfd: int, log: "OutputLog | None", listener: _socket.socket | None) -> None:
        self._pidfd = pidfd
        self._log = log
        self._listener = listener
        self._by_fd: dict[int, Conversation] = {}
        # descriptor -> name of the stream; emptied as they end.
        self._outputs: dict[int, str] = {}
        self._stdin = -1
        self._terminal = -1
        # Input on its way: (whose, bytes).
        self._input: list[tuple[Conversation | None, memoryview]] = []
        self._poll = select.poll()
        self._masks: dict[int, int] = {}
        self._companions: list[Companion] = []
        # docker's StdinOnce: the end of the first client's input, or its leaving, ends stdin.
        self.is_stdin_once = False
        # The signal that the container gets when the monitor itself is asked to end (a shutdown of the machine).
        self.on_termination = int(_signal.SIGTERM)
        # Called then: a paused container has to go on to meet the signal.
        self.after_termination: Callable[[], None] | None = None
        # Called on SIGHUP, by which a command asks for a socket that it can find.
        self.after_hangup: Callable[[], None] | None = None
        # Somebody has sent a signal that asks for the end: no restart policy may undo that.
        self.is_stop_wanted = False
        # ... and it was not the machine that goes down: a reboot shall not undo that either.
        self.is_stopped_by_hand = False

    def connect_pipes(self, stdin: int, stdout: int, stderr: int) -> None:
        """Take over the container's pipes, our ends; `stdin` -1 for none."""
        for fd in (stdin, stdout, stderr):
            if fd >= 0:
                os.set_blocking(fd, False)
        self._stdin = stdin
        self._outputs = {stdout: STDOUT, stderr: STDERR}

    def connect_terminal(self, master: int, *, has_stdin: bool) -> None:
        """Take over the master of the container's terminal."""
        os.set_blocking(master, False)
        self._terminal = master
        self._stdin = master if has_stdin else -1
        self._outputs = {master: STDOUT}

    def accompany(self, companion: "Companion") -> None:
        """Have something else share the loop, from the next `run` on."""
        self._companions.append(companion)

    def add(self, socket: _socket.socket, *, is_launcher: bool = False) -> None:
        """Take over a client's socket."""
        socket.setblocking(False)
        if not is_launcher and len(self._by_fd) >= CLIENTS:
            socket.close()
            return
        self._by_fd[socket.fileno()] = Conversation(socket, is_launcher=is_launcher)

    def tell(self, data: bytes) -> None:
        """Send a frame to every client."""
        for conversation in list(self._by_fd.values()):
            self._send(conversation, data)

    def document(self) -> "Document":
        """Return what `resume` needs beside what the constructor takes."""
        clients = [
            {"fd": fd, "mode": c.mode.decode("latin-1"), "is_launcher": c.is_launcher, "is_stdin": c.is_stdin}
            for fd, c in self._by_fd.items()
        ]
        return {
            "clients": clients,
            "stdin": self._stdin,
            "terminal": self._terminal,
            "outputs": {str(fd): name for fd, name in self._outputs.items()},
        }

    def resume(self, document: "Document") -> None:
        """Take over what another interpreter's switchboard had: its descriptors are ours by inheritance.

        In place of `connect_…`: streams that the container has closed since are not among them.
        """
        self._stdin, self._terminal = document["stdin"], document["terminal"]
        self._outputs = {int(fd): name for fd, name in document["outputs"].items()}
        self.resume_clients(document["clients"])

    def resume_clients(self, clients: "list[Document]") -> None:
        """Take over clients that another interpreter's switchboard had."""
        for client in clients:
            conversation = Conversation(_socket.socket(fileno=client["fd"]), is_launcher=client["is_launcher"])
            conversation.mode = client["mode"].encode("latin-1")
            conversation.is_stdin = client["is_stdin"]
            self._by_fd[client["fd"]] = conversation

    def descriptors(self) -> list[int]:
        """Return every descriptor that must outlive an execve."""
        listener = [] if self._listener is None else [self._listener.fileno()]
        streams = {self._stdin, self._terminal} - {-1}
        return sorted({self._pidfd, *listener, *self._by_fd, *self._outputs, *streams})

    def run(self, quiet_seconds: float | None = None, rest: "Callable[[], None] | None" = None) -> bool:
        """Go on until the container's process has ended and all its output has been taken: True.

        After `quiet_seconds` in which nothing moved, if nothing waits to: call `rest` and go on; False without one.
        """
        reading, writing = _wakeup()
        try:
            has_ended = self._loop(reading, quiet_seconds, rest)
        finally:
            _signal.set_wakeup_fd(-1)
            self._forget(reading)
            os.close(reading)
            os.close(writing)
        if has_ended:
            self._drain()
        return has_ended

    def _loop(self, reading: int, quiet: float | None, rest: "Callable[[], None] | None") -> bool:
        resting = _after(quiet)
        while True:
            ready = self._wait(reading, resting)
            is_moved = self._serve_companions(ready)
            if any(fd not in is_moved for fd, _ in ready):
                resting = _after(quiet)
            elif resting is None or time.monotonic() >= resting:
                if resting is not None and not self._is_busy():
                    if rest is None:
                        return False
                    rest()
                    resting = None
                else:
                    # A companion has moved, or something waits to.
                    resting = _after(quiet)
            for fd, events in ready:
                if fd == reading:
                    self._on_wakeup(reading)
                else:
                    self._serve(fd, events)
            if any(fd == self._pidfd for fd, _ in ready):
                return True

    def _serve(self, fd: int, events: int) -> None:
        if fd in self._outputs:
            self._on_output(fd)
        elif fd == self._stdin:
            self._on_stdin(events)
        elif fd in self._by_fd:
            self._on_client(self._by_fd[fd], events)
        elif self._listener is not None and fd == self._listener.fileno():
            self._on_listener()

    def _serve_companions(self, ready: list[tuple[int, int]]) -> set[int]:
        """Call those of whom something is readable, and those whose time has come; return their descriptors."""
        theirs: set[int] = set()
        for companion in self._companions:
            descriptors = companion.descriptors()
            theirs.update(descriptors)
            if companion.timeout() == 0 or any(fd in descriptors for fd, _ in ready):
                companion.serve()
        return theirs

    def _is_busy(self) -> bool:
        """Tell whether something is on its way: then the facts of `document` are not all."""
        return (
            bool(self._input)
            or any(c.out or c.unacknowledged or c.decoder.is_started() for c in self._by_fd.values())
            or any(companion.is_busy() for companion in self._companions)
        )

    def pause(self, status: int, seconds: float) -> "list[Document]":
        """Say that a run has ended and another begins in so many seconds; return whom to `resume_clients` there.

        Those who follow the log stay, everybody else has what he waited for. Ends early where the end is asked for.
        """
        self._pidfd = -1
        self._companions.clear()
        self.close_outputs()
        farewell = frame.pack(frame.EXIT, bytes((status & 0xFF,)))
        for conversation in [c for c in self._by_fd.values() if c.mode != frame.FOLLOW]:
            self._send(conversation, farewell)
        deadline, reading, _ = time.monotonic() + seconds, *_wakeup()
        while not self.is_stop_wanted and (time.monotonic() < deadline or self._is_telling(deadline)):
            for fd, events in self._wait(reading, max(deadline, time.monotonic() + _TELLING_ROUND)):
                if fd == reading:
                    self.is_stop_wanted = self._is_termination(reading) or self.is_stop_wanted
                else:
                    self._serve(fd, events)
        _signal.set_wakeup_fd(-1)
        return [client for client in self.document()["clients"] if client["mode"].encode("latin-1") == frame.FOLLOW]

    def listen(self, listener: _socket.socket) -> None:
        """Let clients in by another socket, in place of the one before."""
        if self._listener is not None:
            self._forget(self._listener.fileno())
            self._listener.close()
        self._listener = listener

    def _on_wakeup(self, wakeup: int) -> None:
        """Pass the wish for an end on to the container."""
        if self._is_termination(wakeup):
            self._signal(self.on_termination)
            if self.after_termination is not None:
                self.after_termination()

    def _is_termination(self, wakeup: int) -> bool:
        """Take the signals that came; tell whether one asks for the end, and do what the other does."""
        numbers = os.read(wakeup, 64)
        if _signal.SIGHUP in numbers and self.after_hangup is not None:
            self.after_hangup()
        return _signal.SIGTERM in numbers

    def close_outputs(self) -> None:
        """Close our ends of an ended container's streams."""
        for fd in {*self._outputs, *([self._stdin] if self._stdin >= 0 else []), self._terminal} - {-1}:
            self._forget(fd)
            os.close(fd)
        self._outputs, self._stdin, self._terminal = {}, -1, -1
        self._input.clear()

    def _is_telling(self, deadline: float) -> bool:
        """Tell whether a client has not taken its last output yet, and has a moment left to."""
        return time.monotonic() < deadline + _TELLING_SECONDS and any(c.out for c in self._by_fd.values())

    def farewell(self, status: int) -> None:
        """Tell all clients that it is over, and stop listening."""
        if self._listener is not None:
            # Who has connected and was not let in yet waits for the same word.
            while self._on_listener():
                continue
            self._listener.close()
            self._listener = None
        self.tell(frame.pack(frame.EXIT, bytes((status & 0xFF,))))

    def flush(self) -> None:
        """Wait until every client has taken what is there for it, or has gone."""
        while waiting := [c for c in self._by_fd.values() if c.out]:
            poll = select.poll()
            for conversation in waiting:
                poll.register(conversation.socket.fileno(), select.POLLOUT)
            for fd, _ in poll.poll():
                self._write(self._by_fd[fd])
        for conversation in list(self._by_fd.values()):
            conversation.socket.close()

    def _wait(self, wakeup: int, until: float | None) -> list[tuple[int, int]]:
        """Poll for what may go on now, until then or a companion's time at most.

        Registrations are changed only where they differ.
        """
        wanted = {fd: select.POLLIN for fd in (self._pidfd, wakeup) if fd >= 0}
        if self._listener is not None:
            wanted[self._listener.fileno()] = select.POLLIN
        for fd, conversation in self._by_fd.items():
            wanted[fd] = select.POLLIN | (select.POLLOUT if conversation.out else 0)
        for companion in self._companions:
            wanted |= dict.fromkeys(companion.descriptors(), select.POLLIN)
        if not any(c.is_launcher and len(c.out) > LAUNCHER_BYTES for c in self._by_fd.values()):
            wanted |= dict.fromkeys(self._outputs, select.POLLIN)
        if self._stdin >= 0 and self._input:
            wanted[self._stdin] = wanted.get(self._stdin, 0) | select.POLLOUT
        for fd in [fd for fd in self._masks if fd not in wanted]:
            self._poll.unregister(fd)
            del self._masks[fd]
        for fd, mask in wanted.items():
            if self._masks.get(fd) != mask:
                self._poll.register(fd, mask)
                self._masks[fd] = mask
        dues = [] if until is None else [max(0.0, until - time.monotonic())]
        dues += [due for companion in self._companions if (due := companion.timeout()) is not None]
        return self._poll.poll(min(dues) * 1000 if dues else None)

    def _forget(self, fd: int) -> None:
        if self._masks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _on_listener(self) -> bool:
        """Let one client in; tell whether there was one."""
        if self._listener is None:
            return False
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # the C class's; socket.accept is Python's
        except OSError:
            return False
        self.add(_socket.socket(fileno=fd))
        return True

    def _on_output(self, fd: int) -> None:
        if fd == self._terminal and self._input:
            self._on_stdin(0)
        if not self._take(fd):
            self._forget(fd)
            del self._outputs[fd]
            if fd != self._terminal:
                os.close(fd)

    def _take(self, fd: int) -> bool:
        """Read output once; False at its end."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:  # EIO: the last process has closed the terminal
            return False
        if not data:
            return False
        stream = self._outputs[fd]
        has_grown = self._log is not None and self._log.write(stream, data, time.time_ns())
        output = frame.pack(frame.STDOUT if stream == STDOUT else frame.STDERR, data)
        for conversation in list(self._by_fd.values()):
            if conversation.mode == frame.ATTACH:
                self._send(conversation, output)
            elif has_grown and conversation.mode == frame.FOLLOW and not conversation.out:
                self._send(conversation, frame.pack(frame.TICK))
        return True

    def _drain(self) -> None:
        """Read what the ended container left in its pipes: they hold a megabyte at most, so no bound is passed."""
        for fd in list(self._outputs):
            os.set_blocking(fd, False)
            while True:
                poll = select.poll()
                poll.register(fd, select.POLLIN)
                ready = poll.poll(0)
                if not ready or not ready[0][1] & select.POLLIN or not self._take(fd):
                    break
        if self._log is not None:
            self._log.finish(time.time_ns())

    def _on_client(self, conversation: Conversation, events: int) -> None:
        if events & select.POLLOUT:
            self._write(conversation)
        if not events & (select.POLLIN | _BROKEN) or conversation.socket.fileno() < 0:
            return
        try:
            data = conversation.socket.recv(2 * frame.CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for kind, payload in conversation.decoder.feed(data):
                self._on_frame(conversation, kind, payload)
        except SampanError:
            data = b""
        if not data:
            self._drop(conversation)

    def _on_frame(self, conversation: Conversation, kind: int, payload: bytes) -> None:
        if kind == frame.STDIN:
            self._take_input(conversation, payload)
        elif kind == frame.CLOSE and self.is_stdin_once:
            # Otherwise others may attach, and have more to say (docker).
            self._input.append((None, memoryview(b"")))
        elif kind == frame.SIGNAL and payload:
            self.is_stop_wanted = self.is_stop_wanted or len(payload) > 1
            self._signal(payload[0])
            is_shutdown = payload[1:] == bytes((frame.SHUTDOWN,))
            self.is_stopped_by_hand = self.is_stopped_by_hand or (self.is_stop_wanted and not is_shutdown)
        elif kind == frame.RESIZE:
            self.resize(*frame.unpack_size(payload))
        elif kind == frame.HELLO:
            conversation.mode = payload
            if payload == frame.FOLLOW:
                # What came since the follower's first look, before we knew what it wants, was told to nobody.
                self._send(conversation, frame.pack(frame.TICK))

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the container's terminal, where it has one."""
        if self._terminal >= 0:
            termios.tcsetwinsize(self._terminal, (rows, columns))

    def _signal(self, number: int) -> None:
        self.is_stop_wanted = self.is_stop_wanted or number in _ENDING or number == self.on_termination
        if self._pidfd < 0:
            return  # between two runs
        try:
            _signal.pidfd_send_signal(self._pidfd, number)
        except OSError:
            pass  # it has just ended, or there is no such signal: nobody waits for an answer

    def _take_input(self, conversation: Conversation, payload: bytes) -> None:
        conversation.is_stdin = True
        conversation.unacknowledged += len(payload)
        if conversation.unacknowledged > 2 * frame.WINDOW_BYTES:
            self._drop(conversation)
        elif self._stdin < 0:
            # Nobody reads it: it goes where docker's does without -i.
            self._acknowledge(conversation, len(payload))
        elif payload:
            self._input.append((conversation, memoryview(payload)))

    def _on_stdin(self, events: int) -> None:
        """Give the container what it takes; an empty piece is the end."""
        while self._input and self._stdin >= 0:
            conversation, piece = self._input[0]
            if conversation is None:
                self._close_stdin()
                return
            try:
                written = os.write(self._stdin, piece)
            except BlockingIOError:
                return
            except OSError:  # EPIPE: it has closed its stdin
                self._close_stdin()
                return
            self._acknowledge(conversation, written)
            if written < len(piece):
                self._input[0] = (conversation, piece[written:])
            else:
                del self._input[0]
        if events & _BROKEN and self._stdin >= 0:
            self._close_stdin()

    def _close_stdin(self) -> None:
        """End the container's input; what was still on its way is taken off the clients' accounts."""
        for conversation, piece in self._input:
            if conversation is not None:
                self._acknowledge(conversation, len(piece))
        self._input.clear()
        if self._terminal >= 0:
            # The end of input on a terminal is a key; its hang-up would be another thing.
            return
        if self._stdin >= 0:
            self._forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def _acknowledge(self, conversation: Conversation, count: int) -> None:
        conversation.unacknowledged -= count
        if conversation.socket.fileno() >= 0:
            self._send(conversation, frame.pack_count(count))

    def _send(self, conversation: Conversation, data: bytes) -> None:
        conversation.out += data
        if len(conversation.out) > CLIENT_BYTES and not conversation.is_launcher:
            self._drop(conversation)
            return
        if len(conversation.out) == len(data):
            self._write(conversation)

    def _write(self, conversation: Conversation) -> None:
        try:
            while conversation.out:
                sent = conversation.socket.send(memoryview(conversation.out)[: 4 * _READ_BYTES], _socket.MSG_NOSIGNAL)
                del conversation.out[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._drop(conversation)

    def _drop(self, conversation: Conversation) -> None:
        """Let a client go."""
        fd = conversation.socket.fileno()
        if fd < 0:
            return
        self._forget(fd)
        self._by_fd.pop(fd, None)
        conversation.socket.close()
        conversation.out.clear()
        if conversation.is_stdin and self.is_stdin_once:
            self._input.append((None, memoryview(b"")))


def _wakeup() -> tuple[int, int]:
    """Have SIGTERM and SIGHUP written to a pipe; return its ends, of which the caller polls the first."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        _signal.signal(number, lambda *_: None)
    _signal.set_wakeup_fd(writing)
    return reading, writing


def _after(seconds: float | None) -> float | None:
    """Return the moment so many seconds from now."""
    return None if seconds is None else time.monotonic() + seconds
