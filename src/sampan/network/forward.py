"""The user-mode forwarder: published ports where no address can be translated, a normal user's above all. Hot path.

Theory. The listening sockets were made in the machine's network namespace; this process lives where the container's
address can be reached. A socket belongs to the namespace it was made in, so accepting from one and dialling in the
other needs nothing more. One thread, one epoll loop: for each TCP connection two directions with a buffer each; a
direction that has ended is shut down on the other side, so half-closed streams work; a buffer that is full stops
reading, so a slow reader costs no memory. For UDP a session for each client, forgotten after a minute of silence.

Bounds: connections and sessions, 64 KiB for each direction. INVARIANT: nothing is imported here after the fork.
"""

import _signal
import _socket
import os
import select
import time

from sampan.kernel import capability

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.network.ports import Held

_BUFFER_BYTES = 1 << 16
_MOST_CONNECTIONS = 4096
_MOST_SESSIONS = 1024
_SESSION_SECONDS = 60.0
_DATAGRAM_BYTES = 1 << 16


def spawn(held: "Held", address: str) -> int:
    """Fork a process that forwards what comes to the held sockets to `address`; return its pid.

    It is the caller's child, dies with the caller, and has the sockets: the caller closes its own. Single-threaded
    callers only.
    """
    pid = os.fork()
    if pid == 0:
        _serve(held, address)
    return pid


def _serve(held: "Held", address: str) -> "NoReturn":
    try:
        capability.set_parent_death_signal()
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGPIPE):
            _signal.signal(number, _signal.SIG_DFL if number != _signal.SIGPIPE else _signal.SIG_IGN)
        kept = {socket.fileno() for socket in held.sockets}
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and fd not in kept:
                _close(fd)
        _Loop(held, address).run()
    finally:
        os._exit(1)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # the one that listed the directory


class _Stream:
    """One end of a TCP connection. `pending` is what its peer has read for it; `is_ended`: it will be read no more."""

    __slots__ = ("is_connecting", "is_ended", "is_shut", "peer", "pending", "socket")

    def __init__(self, socket: _socket.socket, *, is_connecting: bool = False) -> None:
        self.socket = socket
        self.peer: _Stream = self
        self.pending = bytearray()
        self.is_connecting = is_connecting
        self.is_ended = False
        self.is_shut = False

    def interest(self) -> int:
        """Return what epoll should tell of."""
        reading = not self.is_ended and not self.is_connecting and len(self.peer.pending) < _BUFFER_BYTES
        writing = self.is_connecting or bool(self.pending)
        return (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if writing else 0)


class _Session:
    """A UDP client: `socket` is connected to the container, answers go out by `listener` to `client`."""

    __slots__ = ("client", "last", "listener", "socket")

    def __init__(self, socket: _socket.socket, listener: _socket.socket, client: "tuple[str, int]") -> None:
        self.socket = socket
        self.listener = listener
        self.client = client
        self.last = time.monotonic()


class _Loop:
    """The forwarder's state, by descriptor."""

    __slots__ = ("_address", "_buffer", "_by_client", "_epoll", "_held", "_sessions", "_streams", "_targets")

    def __init__(self, held: "Held", address: str) -> None:
        self._address = address
        self._epoll = select.epoll()
        self._targets: dict[int, tuple[_socket.socket, int, bool]] = {}
        self._streams: dict[int, _Stream] = {}
        self._sessions: dict[int, _Session] = {}
        self._by_client: dict[tuple[int, tuple[str, int]], _Session] = {}
        self._buffer = memoryview(bytearray(_DATAGRAM_BYTES))
        for mapping, socket in zip(held.mappings, held.sockets, strict=True):
            self._targets[socket.fileno()] = (socket, mapping.container_port, mapping.protocol == "tcp")
            self._epoll.register(socket.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Forward for ever."""
        while True:
            for fd, events in self._epoll.poll(_SESSION_SECONDS / 4):
                if fd in self._targets:
                    socket, port, is_stream = self._targets[fd]
                    self._accept(socket, port) if is_stream else self._receive(socket, port)
                elif fd in self._streams:
                    self._move(self._streams[fd], events)
                elif fd in self._sessions:
                    self._reply(self._sessions[fd])
            self._forget_silent()

    # --- TCP --------------------------------------------------------------------------------------------------------

    def _accept(self, listener: _socket.socket, port: int) -> None:
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept calls
        except OSError:
            return
        client = _socket.socket(fileno=fd)
        client.setblocking(False)
        if len(self._streams) >= 2 * _MOST_CONNECTIONS:
            client.close()
            return
        server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        near, far = _Stream(client), _Stream(server, is_connecting=True)
        near.peer, far.peer = far, near
        for stream in (near, far):
            stream.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._streams[stream.socket.fileno()] = stream
            self._epoll.register(stream.socket.fileno(), 0)
        try:
            server.connect((self._address, port))
        except BlockingIOError:
            pass
        except OSError:
            self._drop(near)
            return
        self._watch(near)

    def _move(self, stream: _Stream, events: int) -> None:
        if stream.is_connecting:
            if stream.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
                self._drop(stream)
                return
            stream.is_connecting = False
        try:
            if events & select.EPOLLOUT:
                self._write(stream)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not stream.is_ended:
                self._read(stream)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(stream)
            return
        if stream.is_ended and stream.peer.is_ended and not stream.pending and not stream.peer.pending:
            self._drop(stream)
            return
        self._watch(stream)

    def _read(self, stream: _Stream) -> None:
        room = _BUFFER_BYTES - len(stream.peer.pending)
        if room <= 0:
            return
        count = stream.socket.recv_into(self._buffer, room)
        if count == 0:
            stream.is_ended = True
        stream.peer.pending += self._buffer[:count]
        if not stream.peer.is_connecting:
            self._write(stream.peer)

    def _write(self, stream: _Stream) -> None:
        """Send what is pending; once all is, pass the peer's end on."""
        if stream.pending:
            try:
                del stream.pending[: stream.socket.send(stream.pending)]
            except BlockingIOError:
                return
        if not stream.pending and stream.peer.is_ended and not stream.is_shut:
            stream.is_shut = True
            stream.socket.shutdown(_socket.SHUT_WR)

    def _watch(self, stream: _Stream) -> None:
        for each in (stream, stream.peer):
            self._epoll.modify(each.socket.fileno(), each.interest())

    def _drop(self, stream: _Stream) -> None:
        for each in (stream, stream.peer):
            if self._streams.pop(each.socket.fileno(), None) is not None:
                each.socket.close()

    # --- UDP --------------------------------------------------------------------------------------------------------

    def _receive(self, listener: _socket.socket, port: int) -> None:
        try:
            count, client = listener.recvfrom_into(self._buffer)
        except OSError:
            return
        session = self._by_client.get((listener.fileno(), client))
        if session is None:
            if len(self._sessions) >= _MOST_SESSIONS:
                return
            session = self._open(listener, client, port)
        session.last = time.monotonic()
        self._send(session.socket, self._buffer[:count])

    def _open(self, listener: _socket.socket, client: "tuple[str, int]", port: int) -> _Session:
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
            return  # an ICMP error of the container's, or a full queue: UDP may lose

    def _send(self, socket: _socket.socket, data: memoryview) -> None:
        try:
            socket.send(data)
        except OSError:
            return

    def _forget_silent(self) -> None:
        oldest = time.monotonic() - _SESSION_SECONDS
        for fd, session in [item for item in self._sessions.items() if item[1].last < oldest]:
            del self._sessions[fd], self._by_client[session.listener.fileno(), session.client]
            session.socket.close()
