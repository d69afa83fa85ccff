"""The user-mode forwarder: published ports where no address can be translated, a normal user's above all. Hot path.

Theory. The listening sockets were made in the machine's network namespace; this process lives where the container's
address can be reached. A socket belongs to the namespace it was made in, so accepting from one and dialling in the
other needs nothing more. One thread, one epoll loop. A TCP connection is two streams, each the other's peer:

    is_connecting   dialled, not answered: it can be written to only to learn how that ended
    pending         what the peer has read for it; a full one stops the peer's reading, so a slow reader costs no memory
    is_ended        it will be read no more; once its peer has all of it, the peer `is_shut`: half-closed streams work
    is_broken       reset: its peer gets what is pending, then a reset too, since what was cut off must not look whole

For UDP there is a session for each client, forgotten after a minute of silence.

Bounds: connections and sessions, and the descriptors that this process may have: at any of them accepting pauses until
a connection ends, and a datagram takes the place of the longest silent session. 64 KiB for each direction.
INVARIANT: nothing is imported here after the fork. INVARIANT: a descriptor is closed only after all events of its round
have been seen, so that none of them meets a newcomer of the same number.
"""

import _signal
import _socket
import os
import resource
import select
import struct
import time

from sampan.kernel import capability, memory, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.network.ports import Held

_BUFFER_BYTES = 1 << 16
_MOST_CONNECTIONS = 4096
_MOST_SESSIONS = 1024
_SESSION_SECONDS = 60.0
_PAUSE_SECONDS = 1.0
_ACCEPTS_A_ROUND = 64
_DATAGRAM_BYTES = 1 << 16
_NAME = b"sampan-forward"  # for who looks at ps: the command line is that of the command we were forked off
_RESET = struct.pack("=ii", 1, 0)  # struct linger: on, no seconds
# Nothing is held back; and who has vanished without a word takes one of the bounded places for minutes, not for ever.
_OPTIONS = (
    (_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1),
    (_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPIDLE, 60),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPINTVL, 15),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPCNT, 6),
)


def spawn(held: "Held", address: str) -> int:
    """Fork a process that forwards what comes to the held sockets to `address`; return its pid.

    It is the caller's child, dies with the caller, and has the sockets: the caller closes its own. Single-threaded
    callers only.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _serve(held, address, parent)
    return pid


def _serve(held: "Held", address: str, parent: int) -> "NoReturn":
    try:
        capability.set_parent_death_signal()
        if os.getppid() != parent:  # it died before that was set
            os._exit(1)
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGPIPE):
            _signal.signal(number, _signal.SIG_DFL if number != _signal.SIGPIPE else _signal.SIG_IGN)
        with open("/proc/self/comm", "wb") as file:
            file.write(_NAME)
        syscalls.close_others([socket.fileno() for socket in held.sockets])
        _raise_descriptors()
        Forwarder(held, address).run()
    finally:
        os._exit(1)


def _raise_descriptors() -> None:
    """Have as many descriptors as the bounds need, as far as this process may."""
    wanted = 2 * _MOST_CONNECTIONS + _MOST_SESSIONS + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft not in (resource.RLIM_INFINITY, wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


class _Stream:
    """One end of a TCP connection; see the module's theory. `watched` is what epoll tells of, None for nothing."""

    __slots__ = ("is_broken", "is_connecting", "is_ended", "is_shut", "peer", "pending", "socket", "watched")

    def __init__(self, socket: _socket.socket, *, is_connecting: bool = False) -> None:
        self.socket = socket
        self.peer: _Stream = self
        self.pending = bytearray()
        self.is_connecting = is_connecting
        self.is_broken = False
        self.is_ended = False
        self.is_shut = False
        self.watched: int | None = None

    def interest(self) -> int | None:
        """Return what epoll should tell of, None for not even an error.

        epoll(7) tells of a hang-up whether asked or not, and again and again: so a stream that has nothing left to do,
        or must not be read yet, is not watched at all. One that waits for its peer's answer is, for its errors.
        """
        reading = not self.is_ended and not self.is_connecting and len(self.peer.pending) < _BUFFER_BYTES
        reading = reading and not self.peer.is_broken
        writing = self.is_connecting or bool(self.pending)
        is_done = self.is_shut or self.is_broken
        if not reading and not writing and (not self.is_ended or is_done):
            return None
        return (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if writing else 0)


class _Session:
    """A UDP client: `socket` is connected to the container, answers go out by `listener` to `client`."""

    __slots__ = ("client", "last", "listener", "socket")

    def __init__(self, socket: _socket.socket, listener: _socket.socket, client: "tuple[str, int]") -> None:
        self.socket = socket
        self.listener = listener
        self.client = client
        self.last = time.monotonic()


class Forwarder:
    """The loop and what it knows, by descriptor. `run` never returns."""

    __slots__ = (
        "_address",
        "_buffer",
        "_by_client",
        "_epoll",
        "_gone",
        "_is_paused",
        "_next_look",
        "_sessions",
        "_streams",
        "_targets",
    )

    def __init__(self, held: "Held", address: str) -> None:
        self._address = address
        self._epoll = select.epoll()
        self._targets: dict[int, tuple[_socket.socket, int, bool]] = {}
        self._streams: dict[int, _Stream] = {}
        self._sessions: dict[int, _Session] = {}
        self._by_client: dict[tuple[int, tuple[str, int]], _Session] = {}
        self._gone: list[_socket.socket] = []
        self._is_paused = False
        self._next_look = 0.0
        self._buffer = memoryview(bytearray(_DATAGRAM_BYTES))
        for mapping, socket in zip(held.mappings, held.sockets, strict=True):
            self._targets[socket.fileno()] = (socket, mapping.container_port, mapping.protocol == "tcp")
            self._epoll.register(socket.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Forward for ever."""
        while True:
            told = self._epoll.poll(_PAUSE_SECONDS if self._is_paused else _SESSION_SECONDS / 4)
            for fd, events in told:
                if fd in self._streams:
                    self._move(self._streams[fd], events)
                elif fd in self._sessions:
                    self._reply(self._sessions[fd])
                elif fd in self._targets:
                    socket, port, is_stream = self._targets[fd]
                    self._accept(socket, port) if is_stream else self._receive(socket, port)
            if self._sessions:
                self._forget_silent(time.monotonic())
            has_waited = not told
            if not told:
                memory.drop_code()
            for socket in self._gone:
                socket.close()
                has_waited = True
            self._gone.clear()
            if self._is_paused and has_waited and len(self._streams) < 2 * _MOST_CONNECTIONS:
                self._pause(is_paused=False)

    def _pause(self, *, is_paused: bool) -> None:
        """Accept no connection for a while, or again: who comes meanwhile waits in the kernel's queue."""
        self._is_paused = is_paused
        for fd, (_, _, is_stream) in self._targets.items():
            if is_stream:
                self._epoll.modify(fd, 0 if is_paused else select.EPOLLIN)

    # --- TCP --------------------------------------------------------------------------------------------------------

    def _accept(self, listener: _socket.socket, port: int) -> None:
        for _ in range(_ACCEPTS_A_ROUND):
            if len(self._streams) >= 2 * _MOST_CONNECTIONS:
                self._pause(is_paused=True)
                return
            try:
                # This one first: without a descriptor for it the client had better wait in the queue.
                server = _socket.socket(
                    _socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
                )
            except OSError:  # EMFILE and its kin: the same event would come back at once
                self._pause(is_paused=True)
                return
            try:
                fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept calls
            except (BlockingIOError, ConnectionAbortedError):
                server.close()
                return
            except OSError:
                server.close()
                self._pause(is_paused=True)
                return
            self._connect(_socket.socket(fileno=fd), server, port)

    def _connect(self, client: _socket.socket, server: _socket.socket, port: int) -> None:
        client.setblocking(False)
        near, far = _Stream(client), _Stream(server, is_connecting=True)
        near.peer, far.peer = far, near
        for stream in (near, far):
            for level, option, value in _OPTIONS:
                stream.socket.setsockopt(level, option, value)
            self._streams[stream.socket.fileno()] = stream
        try:
            server.connect((self._address, port))
        except BlockingIOError:
            pass
        except OSError:
            self._break(near)
            return
        self._watch(near)

    def _move(self, stream: _Stream, events: int) -> None:
        if stream.is_connecting:
            if stream.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
                self._fail(stream)
                return
            stream.is_connecting = False
        if events & select.EPOLLOUT:
            self._write(stream)
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and stream.socket.fileno() in self._streams:
            if stream.is_ended:
                # Not what was asked for, which is nothing: an end that cannot be written to either.
                self._fail(stream)
            else:
                self._read(stream)
        if stream.is_shut and stream.peer.is_shut:
            self._drop(stream)
        elif stream.socket.fileno() in self._streams:
            self._watch(stream)

    def _read(self, stream: _Stream) -> None:
        peer = stream.peer
        room = _BUFFER_BYTES - len(peer.pending)
        if room <= 0:
            return
        try:
            count = stream.socket.recv_into(self._buffer, room)
        except BlockingIOError:
            return
        except OSError:
            self._fail(stream)
            return
        data = self._buffer[:count]
        stream.is_ended = count == 0
        if peer.pending or peer.is_connecting or stream.is_ended:
            peer.pending += data
            if stream.is_ended and not peer.is_connecting:
                self._write(peer)
        else:
            peer.pending += data[self._send(peer, data) :]

    def _write(self, stream: _Stream) -> None:
        """Send what is pending; once all is, pass the peer's end on."""
        if stream.pending:
            del stream.pending[: self._send(stream, stream.pending)]
        if stream.pending or stream.is_shut or not stream.peer.is_ended:
            return
        if stream.peer.is_broken:
            self._break(stream)
            return
        stream.is_shut = True
        try:
            stream.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            self._fail(stream)

    def _send(self, stream: _Stream, data: "memoryview | bytearray") -> int:
        """Send what can be sent now and return how much that was; for a stream that broke all is gone."""
        if stream.is_broken:
            return len(data)
        try:
            return stream.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            stream.is_broken = True
            # What it said before it broke is there still: a server that refuses a request it has not read.
            if not stream.is_ended:
                self._read(stream)
            self._fail(stream)
            return len(data)

    def _watch(self, stream: _Stream) -> None:
        for each in (stream, stream.peer):
            wanted, fd = each.interest(), each.socket.fileno()
            if wanted == each.watched:
                continue
            if wanted is None:
                self._epoll.unregister(fd)
            elif each.watched is None:
                self._epoll.register(fd, wanted)
            else:
                self._epoll.modify(fd, wanted)
            each.watched = wanted

    def _fail(self, stream: _Stream) -> None:
        """Note that a stream broke; its peer still gets what is pending for it."""
        stream.is_ended = stream.is_broken = True
        stream.pending.clear()
        if stream.peer.is_connecting or not stream.peer.pending:
            self._break(stream)

    def _break(self, stream: _Stream) -> None:
        """Drop a connection that broke, and let both ends know that it did."""
        for each in (stream, stream.peer):
            each.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
        self._drop(stream)

    def _drop(self, stream: _Stream) -> None:
        for each in (stream, stream.peer):
            if self._streams.pop(each.socket.fileno(), None) is not None:
                if each.watched is not None:
                    self._epoll.unregister(each.socket.fileno())
                self._gone.append(each.socket)

    # --- UDP --------------------------------------------------------------------------------------------------------

    def _receive(self, listener: _socket.socket, port: int) -> None:
        try:
            count, client = listener.recvfrom_into(self._buffer)
            session = self._by_client.get((listener.fileno(), client)) or self._open(listener, client, port)
            session.last = time.monotonic()
            session.socket.send(self._buffer[:count])
        except OSError:
            return  # UDP may lose

    def _open(self, listener: _socket.socket, client: "tuple[str, int]", port: int) -> _Session:
        if len(self._sessions) >= _MOST_SESSIONS:
            self._forget(min(self._sessions.values(), key=lambda session: session.last))
        socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        socket.connect((self._address, port))
        session = _Session(socket, listener, client)
        self._sessions[socket.fileno()] = session
        self._by_client[listener.fileno(), client] = session
        self._epoll.register(socket.fileno(), select.EPOLLIN)
        return session

    def _reply(self, session: _Session) -> None:
        try:
            count = session.socket.recv_into(self._buffer)
            session.last = time.monotonic()
            session.listener.sendto(self._buffer[:count], session.client)
        except OSError:
            return  # an ICMP error of the container's, or a full queue

    def _forget_silent(self, now: float) -> None:
        if now < self._next_look:
            return
        self._next_look = now + _SESSION_SECONDS / 4
        for session in [each for each in self._sessions.values() if each.last < now - _SESSION_SECONDS]:
            self._forget(session)

    def _forget(self, session: _Session) -> None:
        del self._sessions[session.socket.fileno()], self._by_client[session.listener.fileno(), session.client]
        self._epoll.unregister(session.socket.fileno())
        self._gone.append(session.socket)
