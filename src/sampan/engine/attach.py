"""The command's side of the attach protocol: a container's stdio on this process's descriptors. Hot path.

Theory of operation. One poll loop, no threads. Bytes go two ways, and neither may hold up the other or a signal:

- out: a chunk from the monitor is written before the next is read, so a slow reader of ours is felt by the monitor,
  which decides what becomes of the container (`monitor`). A pipe that poll calls writable takes PIPE_BUF bytes without
  blocking; no descriptor is made non-blocking, since the caller's shell shares it.
- in: stdin is read only while fewer than WINDOW bytes wait for an ACK and the last frame has gone out whole.

The relay ends with the EXIT frame, which the monitor sends after the last byte of output; with the detach keys; or with
the channel, when the monitor was killed.
"""

import _signal
import _socket
import errno
import os
import select
import stat
import time

from sampan.engine import frame, terminal
from sampan.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from sampan.settings.configuration import Settings

DETACH_KEYS = b"\x10\x11"  # ctrl-p ctrl-q, docker's default
_PIPE_BUF = 4096
# A monitor that was asked for another socket has it in a moment, unless the machine is very busy.
_CALL_SECONDS, _CALL_POLL_SECONDS = 5.0, 0.002
# A second Ctrl-C within this time means that the person wants out, whatever the container thinks of the first.
_IMPATIENT = 3
# docker run --sig-proxy passes every signal that can be caught; these are the ones that people send. The real-time ones
# are systemd's words (SIGRTMIN+3 halts one that is a container's first process).
_PROXIED = (
    _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2,
    _signal.SIGALRM, _signal.SIGCONT, *range(_signal.SIGRTMIN, _signal.SIGRTMAX + 1),
)  # fmt: skip


class Client:
    """A channel to a monitor. Close it, or use it in a `with`."""

    __slots__ = ("_acknowledged", "_decoder", "_out", "_sent", "_socket", "is_keepers", "status")

    def __init__(self, channel: _socket.socket) -> None:
        """Take over `channel`; see `connect`."""
        self._socket = channel
        self._decoder = frame.Decoder()
        self._out = b""
        self._sent = 0
        self._acknowledged = 0
        # It leads to a process of `exec`, whose end is not the container's.
        self.is_keepers = False
        # What came with an EXIT frame.
        self.status: int | None = None

    def send(self, data: bytes, rights: "list[tuple[int, int, bytes]] | None" = None) -> None:
        """Send whole frames and wait until they are out: for a few control frames before a relay.

        `rights` go with the first byte (SCM_RIGHTS of unix(7)).
        """
        view = memoryview(data)
        if rights:
            view = view[self._socket.sendmsg([view], rights, _socket.MSG_NOSIGNAL) :]
        while view:
            view = view[self._socket.send(view) :]

    def receive(self) -> tuple[int, bytes] | None:
        """Wait for one frame; None where the monitor has gone."""
        for found in self._decoder.feed(b""):
            return found
        while True:
            data = self._read()
            if not data:
                return None
            for found in self._decoder.feed(data):
                return found

    def wait(self) -> int:
        """Read until the container ends and return its status; raises Conflict where the monitor was killed."""
        while self.status is None:
            found = self.receive()
            if found is None:
                raise _abandoned(self)
            if found[0] == frame.EXIT:
                self.status = found[1][0]
        return self.status

    def relay(
        self,
        *,
        stdin: int | None = 0,
        stdout: int = 1,
        stderr: int = 2,
        tty: bool = False,
        detach_keys: bytes = DETACH_KEYS,
        signal_proxy: bool = True,
        is_redrawn: bool = False,
    ) -> int | None:
        """Copy between these descriptors and the container until it ends; return its exit status, None if detached.

        `stdin=None` sends nothing. With `tty` and a terminal as stdin the terminal is raw meanwhile, its size follows
        SIGWINCH, and the detach keys end the relay; `is_redrawn` changes the size for a moment, so that what runs
        there draws its screen again. Without, signals are passed on (`signal_proxy`); the third SIGINT in a row raises
        KeyboardInterrupt. A closed stdout raises BrokenPipeError. Raises Conflict where the monitor was
        killed.
        """
        is_terminal = tty and stdin is not None and os.isatty(stdin)
        numbers = (_signal.SIGWINCH,) if is_terminal else ()
        with terminal.Raw(stdin if is_terminal else None), terminal.Signals((*numbers, *_PROXIED)) as signals:
            relay = _Relay(self, signals, {frame.STDOUT: stdout, frame.STDERR: stderr})
            relay.stdin = stdin
            relay.detach_keys = detach_keys if is_terminal else b""
            relay.signal_proxy = signal_proxy
            if is_terminal:
                if is_redrawn:
                    relay.resize(by=1)
                relay.resize()
            return relay.run()

    def close(self) -> None:
        """Leave; the container goes on. Idempotent."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the channel's descriptor, for poll."""
        return self._socket.fileno()

    def _read(self) -> bytes:
        try:
            return self._socket.recv(2 * frame.CHUNK_BYTES)
        except ConnectionResetError:
            return b""

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()


def connect(path: str, mode: bytes) -> Client:
    """Open a channel to the monitor that listens at `path` (frame.ATTACH, FOLLOW or CONTROL); raises OSError."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        with frame.Address(path) as address:
            channel.connect(address)
        channel.sendall(frame.pack(frame.HELLO, mode))
    except OSError as error:
        channel.close()
        raise OSError(error.errno, error.strerror, path) from error
    return Client(channel)


def reach(settings: "Settings", container_id: str, mode: bytes) -> Client:
    """Open a channel to the monitor of a container that lives; one whose socket is gone is asked for another.

    Raises OSError where that does not help.
    """
    from sampan.engine import state

    path, directory = state.socket_path(settings, container_id), state.directory(settings, container_id)
    try:
        return connect(path, mode)
    except (FileNotFoundError, ConnectionRefusedError):
        if not state.call_monitor(directory):
            raise
    deadline = time.monotonic() + _CALL_SECONDS
    while True:
        try:
            return connect(path, mode)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline or not state.alive(directory):
                raise
        time.sleep(_CALL_POLL_SECONDS)


class _Relay:
    """The poll loop of `Client.relay`."""

    __slots__ = (
        "_client",
        "_held",
        "_interrupts",
        "_outputs",
        "_pending",
        "_signals",
        "detach_keys",
        "signal_proxy",
        "stdin",
    )

    def __init__(self, client: Client, signals: terminal.Signals, outputs: dict[int, int]) -> None:
        self._client = client
        self._signals = signals
        self._outputs = outputs
        # Output that still has to be written: (descriptor, bytes), in order.
        self._pending: list[tuple[int, memoryview]] = []
        self._held = b""
        self._interrupts = 0
        self.stdin: int | None = None
        self.detach_keys = b""
        self.signal_proxy = True

    def run(self) -> int | None:
        """Relay until the end; see Client.relay."""
        client = self._client
        # What arrived together with the STARTED frame, before anybody relayed.
        self._take(b"")
        while True:
            if client.status is not None and not self._pending:
                return client.status
            ready = dict(self._poll())
            if self._signals.fd in ready:
                self._on_signals()
            if self._pending:
                fd = self._pending[0][0]
                if fd in ready:
                    self._write()
            elif ready.get(client.fileno(), 0) & ~select.POLLOUT:
                self._receive()
            if client._out and ready.get(client.fileno(), 0) & select.POLLOUT:
                self._flush()
            if self.stdin is not None and self.stdin in ready and self._on_stdin():
                return None

    def resize(self, by: int = 0) -> None:
        """Tell the monitor how large the terminal is; `by` makes it so much larger."""
        size = terminal.window(self.stdin if self.stdin is not None else 0)
        if size is not None:
            self._send(frame.pack_size(size[0] + by, size[1] + by))

    def _poll(self) -> list[tuple[int, int]]:
        """Wait for whatever may go on now."""
        client, poll = self._client, select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        channel = select.POLLOUT if client._out else 0
        if self._pending:
            poll.register(self._pending[0][0], select.POLLOUT)
        else:
            channel |= select.POLLIN
        if channel:
            poll.register(client.fileno(), channel)
        unacknowledged = client._sent - client._acknowledged
        if self.stdin is not None and not client._out and unacknowledged < frame.WINDOW_BYTES:
            poll.register(self.stdin, select.POLLIN)
        return poll.poll()

    def _on_signals(self) -> None:
        for number in self._signals.pending():
            if number == _signal.SIGWINCH:
                self.resize()
                continue
            self._interrupts = self._interrupts + 1 if number == _signal.SIGINT else 0
            if self._interrupts >= _IMPATIENT or not self.signal_proxy:
                raise KeyboardInterrupt
            self._send(frame.pack(frame.SIGNAL, bytes((number,))))

    def _receive(self) -> None:
        data = self._client._read()
        if not data:
            raise _abandoned(self._client)
        self._take(data)

    def _take(self, data: bytes) -> None:
        for kind, payload in self._client._decoder.feed(data):
            if kind in self._outputs:
                self._pending.append((self._outputs[kind], memoryview(payload)))
            elif kind == frame.ACK:
                self._client._acknowledged += frame.unpack_count(payload)
            elif kind == frame.EXIT:
                self._client.status = payload[0]
            elif kind == frame.ERROR:
                raise frame.parse_error(payload)

    def _write(self) -> None:
        """Write what a descriptor that poll called writable takes without blocking."""
        fd, view = self._pending.pop(0)
        chunk = view if stat.S_ISREG(os.fstat(fd).st_mode) else view[:_PIPE_BUF]
        try:
            written = os.write(fd, chunk)
        except BlockingIOError:  # somebody else made it non-blocking, and was quicker
            written = 0
        if written < len(view):
            self._pending.insert(0, (fd, view[written:]))

    def _on_stdin(self) -> bool:
        """Pass on what was typed; tell whether it was the detach keys."""
        fd = self.stdin if self.stdin is not None else 0
        try:
            data = os.read(fd, frame.CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that has gone away: the end, as for a read of nothing
                raise
            data = b""
        if not data:
            self._send(frame.pack(frame.CLOSE))
            self.stdin = None
            return False
        data, detached = self._without_keys(data)
        if data:
            self._client._sent += len(data)
            self._send(frame.pack(frame.STDIN, data))
        return detached

    def _without_keys(self, data: bytes) -> tuple[bytes, bool]:
        """Look for the detach keys; a prefix of them is held back until the next key tells."""
        keys = self.detach_keys
        if not keys:
            return data, False
        data, self._held = self._held + data, b""
        at = data.find(keys)
        if at >= 0:
            return data[:at], True
        for length in range(len(keys) - 1, 0, -1):
            if data.endswith(keys[:length]):
                self._held = keys[:length]
                return data[:-length], False
        return data, False

    def _send(self, data: bytes) -> None:
        self._client._out += data
        self._flush()

    def _flush(self) -> None:
        """Send what the channel takes now."""
        client = self._client
        try:
            sent = client._socket.send(client._out, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # The monitor is gone or going; what it said last is still to be read.
            sent, self.stdin = len(client._out), None
        client._out = client._out[sent:]


def _abandoned(client: Client) -> Conflict:
    if client.is_keepers:
        hint = "the container goes on, see `sampan ps`; execute it once more"
        return Conflict("the command's keeper was killed, and the command with it", hints=(hint,))
    return Conflict(
        "the container's monitor was killed, and the container with it",
        hints=("see its state with `sampan ps -a`, start it again with `sampan start`",),
    )
