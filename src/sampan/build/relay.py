"""The machine's loopback as a step sees it: what it sends to 127.0.0.1 at certain ports goes to the same port here.

A proxy or an index that runs on this machine listens on its loopback, and a container has a loopback of its own. So
somebody listens there, in the step's network namespace, and a thread for each connection carries the bytes. A port that
the step itself wants is not to be had in it; those are few, and named by the machine's settings.
"""

import _socket
import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCALHOST = "127.0.0.1"
_BACKLOG = 64
_MOST_CONNECTIONS = 128
_CHUNK_BYTES = 1 << 16
_DIAL_SECONDS = 10.0


def listen(ports: "Sequence[int]") -> list[_socket.socket]:
    """Listen at `ports` of the loopback of the network namespace that the caller is in."""
    listeners = []
    for port in ports:
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind((_LOCALHOST, port))
        listener.listen(_BACKLOG)
        listeners.append(listener)
    return listeners


def serve(listeners: "Sequence[_socket.socket]") -> None:
    """Carry, in threads, what comes to the listeners, to the machine's loopback; returns at once."""
    count = _Count()
    for listener in listeners:
        _thread.start_new_thread(_accept, (listener, count))


class _Count:
    """How many connections there are."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._value = 0

    def take(self) -> bool:
        """Take one more place if there is one."""
        with self._lock:
            if self._value >= _MOST_CONNECTIONS:
                return False
            self._value += 1
            return True

    def give(self) -> None:
        """Give a place back."""
        with self._lock:
            self._value -= 1


def _accept(listener: _socket.socket, count: _Count) -> None:
    port = listener.getsockname()[1]
    while True:
        fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept calls
        client = _socket.socket(fileno=fd)
        if count.take():
            _thread.start_new_thread(_carry, (client, port, count))
        else:
            client.close()


def _carry(client: _socket.socket, port: int, count: _Count) -> None:
    """Carry one connection both ways, to its end."""
    try:
        server = _dial(port)
        if server is not None:
            done = _thread.allocate_lock()
            done.acquire()
            _thread.start_new_thread(_copy, (server, client, done))
            _copy(client, server, None)
            done.acquire()
            server.close()
    finally:
        client.close()
        count.give()


def _dial(port: int) -> _socket.socket | None:
    """Connect to a port of the machine's loopback, in either family; None where nobody listens."""
    for family, address in ((_socket.AF_INET, _LOCALHOST), (_socket.AF_INET6, "::1")):
        server = _socket.socket(family, _socket.SOCK_STREAM)
        try:
            server.settimeout(_DIAL_SECONDS)
            server.connect((address, port))
            server.settimeout(None)
        except OSError:
            server.close()
        else:
            return server
    return None


def _copy(source: _socket.socket, target: _socket.socket, done: "_thread.LockType | None") -> None:
    try:
        while piece := source.recv(_CHUNK_BYTES):
            target.sendall(piece)
        target.shutdown(_socket.SHUT_WR)
    except OSError:
        for socket in (source, target):
            try:
                socket.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass  # it is broken already
    finally:
        if done is not None:
            done.release()
