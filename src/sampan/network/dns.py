"""The resolver of a container on user-defined networks: a part of its monitor. RFC 1035, RFC 7766 (TCP). Hot path.

Theory. A name that a container on one of its networks has (`record`) is answered from there: A with every address it
has, in an order that rotates; PTR with the container's name; any other type with nothing, for the name exists.
Everything else is passed on to the name servers as it came, with an id and from a port of ours, and so is what they
answer, if it is to the question that was asked. A query by TCP is passed on by TCP, so that what UDP cut short can be
had whole. A server that is silent is followed by the next; after the last the answer is SERVFAIL.

All sockets are in one epoll, which is the one descriptor that the monitor's poll loop has of us (`descriptors`).

Bounds: QUERIES on their way, at each of which the oldest is given up; CONNECTIONS by TCP, SECONDS for each query and
connection, a round of the loop takes _ROUND messages, and what is not one question of at most a datagram is dropped.
INVARIANT: a descriptor is closed only after all events of its round have been seen.
"""

import _socket
import errno
import os
import select
import struct
import time

from sampan.network import record

QUERIES = 128
CONNECTIONS = 16
SECONDS = 10.0
SERVERS = 3
ADDRESSES = 24  # in one answer, which then fits a datagram
TTL_SECONDS = 5  # docker says 600; but a container that was started anew has another address
_ATTEMPT_SECONDS = 3.0
_ROUND = 64
_PORT = 53
_MESSAGE_BYTES = 65535
_QUERY_BYTES = 4096
# What was changed so recently may be changed again within the clock tick of the file system.
_SETTLED_NS = 50_000_000
_HEADER = struct.Struct(">HHHHHH")
_QUESTION = struct.Struct(">HH")
_A, _PTR, _IN = 1, 12, 1
_RESPONSE, _OPCODE, _AUTHORITATIVE, _DESIRED, _AVAILABLE = 0x8000, 0x7800, 0x0400, 0x0100, 0x0080
_SERVFAIL = 2
_REVERSE = ".in-addr.arpa"


class Question:
    """A query of one question: `name` in lower case without the final dot, `end` where the question ends."""

    __slots__ = ("end", "flags", "id", "kind", "name")

    def __init__(self, message: bytes) -> None:
        """Parse a query; raises ValueError for what is none."""
        if not 12 < len(message) <= _QUERY_BYTES:
            raise ValueError
        self.id, self.flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        if self.flags & (_RESPONSE | _OPCODE) or questions != 1 or answers:
            raise ValueError
        labels, at = [], 12
        while length := message[at]:
            if length > 63 or at + length + 1 >= len(message) or at > 12 + 255:
                raise ValueError
            labels.append(message[at + 1 : at + 1 + length])
            at += length + 1
        if at + 5 > len(message):
            raise ValueError
        self.kind, group = _QUESTION.unpack_from(message, at + 1)
        if group != _IN:
            raise ValueError
        self.end = at + 5
        self.name = b".".join(labels).decode("latin-1").lower()


def answer(message: bytes, question: Question, data: "list[bytes]") -> bytes:
    """Return the answer with that data, one record each; `data` may be empty."""
    flags = _RESPONSE | _AUTHORITATIVE | _AVAILABLE | (question.flags & _DESIRED)
    head = _HEADER.pack(question.id, flags, 1, len(data), 0, 0) + message[12 : question.end]
    # The name is a pointer to the question's.
    records = [struct.pack(">HHHIH", 0xC00C, question.kind, _IN, TTL_SECONDS, len(d)) + d for d in data]
    return head + b"".join(records)


def failure(message: bytes, question: Question) -> bytes:
    """Return SERVFAIL for a query."""
    flags = _RESPONSE | _AVAILABLE | (question.flags & _DESIRED) | _SERVFAIL
    return _HEADER.pack(question.id, flags, 1, 0, 0, 0) + message[12 : question.end]


def encode(name: str) -> bytes:
    """Return a name as labels; what is too long is cut."""
    labels = [label.encode("latin-1", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels)[:254] + b"\0"


class Names:
    """The names on some networks, as their containers tell them; read again when a directory has changed."""

    __slots__ = ("_aliases", "_networks", "_run", "_seen", "_tables", "_word", "_word_seen")

    def __init__(
        self,
        networks: "list[tuple[str, str]]",
        run: str = "",
        word: str = "",
        aliases: "dict[str, str] | None" = None,
    ) -> None:
        """Know the networks by directory and name; `word` is a file that says which they are once it is there.

        `aliases` are what this container alone calls others, and one of their names.
        """
        self._networks = networks
        self._aliases = {alias.lower(): name for alias, name in (aliases or {}).items()}
        self._run = run
        self._word = word
        self._word_seen = (0, 0)
        self._seen: dict[str, int] = {}
        self._tables: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> list[str] | None:
        """Return the addresses of a name; None for a name that nobody here has."""
        self._hear()
        name = self._aliases.get(name, name)
        for directory, network in self._networks:
            table = self._table(directory)
            found = table.get(name) or table.get(name.removesuffix(f".{network.lower()}"))
            if found:
                return found
        return None

    def reverse(self, name: str) -> str | None:
        """Return the name of the container whose address a name below in-addr.arpa stands for."""
        if not name.endswith(_REVERSE):
            return None
        self._hear()
        address = ".".join(reversed(name.removesuffix(_REVERSE).split(".")))
        for directory, network in self._networks:
            # The first name is the container's own.
            if found := self._table(directory).get(f"/{address}"):
                return f"{found[0]}.{network}"
        return None

    def _hear(self) -> None:
        """Look whether the networks are others by now: every change is a new file in the place of the one before."""
        if not self._word:
            return
        try:
            found = os.stat(self._word)
            if (found.st_ino, found.st_mtime_ns) != self._word_seen:
                self._networks = record.networks_in(self._word, self._run)
                self._word_seen = (found.st_ino, found.st_mtime_ns)
        except (OSError, ValueError, KeyError):
            return  # nobody has changed them

    def _table(self, directory: str) -> "dict[str, list[str]]":
        try:
            changed = os.stat(directory).st_mtime_ns
        except OSError:
            # SAMPAN_RUN was wiped: what was known is still true.
            return self._tables.get(directory, {})
        if self._seen.get(directory) != changed:
            self._tables[directory] = _tabulated(record.read(directory))
            is_settled = time.time_ns() - changed > _SETTLED_NS
            self._seen[directory] = changed if is_settled else 0
        return self._tables[directory]


def _tabulated(records: "list[tuple[str, list[str]]]") -> "dict[str, list[str]]":
    """Return addresses by name, and under `/ADDRESS` the names."""
    table: dict[str, list[str]] = {}
    for address, names in records:
        table[f"/{address}"] = names
        for name in names:
            table.setdefault(name.lower(), []).append(address)
    return table


class _Connection:
    """A client's TCP connection: one query after the other."""

    __slots__ = ("deadline", "is_waiting", "pending", "received", "socket")

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.received = bytearray()
        self.pending = bytearray()
        self.is_waiting = False
        self.deadline = time.monotonic() + SECONDS


class _Query:
    """A query on its way to a name server; `client` is where the answer goes."""

    __slots__ = ("client", "deadline", "id", "message", "received", "server", "socket")

    def __init__(self, message: bytes, client: "_Connection | tuple[str, int]") -> None:
        self.message = message
        self.client = client
        self.server = -1
        self.id = b""
        self.socket: _socket.socket | None = None
        self.received = bytearray()
        self.deadline = 0.0


class Resolver:
    """The loop's part: `serve` when the descriptor is readable or `timeout` is over."""

    __slots__ = ("_connections", "_epoll", "_gone", "_listener", "_names", "_queries", "_servers", "_turn", "_udp")

    def __init__(self, udp: _socket.socket, listener: _socket.socket, names: Names, servers: "tuple[str, ...]") -> None:
        """Answer on these sockets (`redirect`); without `servers` nothing is passed on."""
        self._udp = udp
        self._listener = listener
        self._names = names
        self._servers = servers[:SERVERS]
        self._turn = 0
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._queries: dict[int, _Query] = {}
        self._gone: list[_socket.socket] = []
        for socket in (udp, listener):
            self._epoll.register(socket.fileno(), select.EPOLLIN)

    def descriptors(self) -> list[int]:
        """Return what is to be polled for input."""
        return [self._epoll.fileno()]

    def is_busy(self) -> bool:
        """Tell whether something is on its way that another interpreter would not know of."""
        return bool(self._queries or self._connections)

    def timeout(self) -> float | None:
        """Return the seconds until `serve` has something to give up; None for never."""
        deadlines = [query.deadline for query in self._queries.values()]
        deadlines += [connection.deadline for connection in self._connections.values()]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def serve(self) -> None:
        """Take what has come, and give up what has waited too long."""
        for fd, events in self._epoll.poll(0):
            if fd == self._udp.fileno():
                self._receive()
            elif fd == self._listener.fileno():
                self._accept()
            elif fd in self._connections:
                self._on_connection(self._connections[fd], events)
            elif fd in self._queries:
                self._on_server(self._queries[fd], events)
        now = time.monotonic()
        for query in [query for query in self._queries.values() if query.deadline <= now]:
            self._ask_next(query)
        for connection in [each for each in self._connections.values() if each.deadline <= now]:
            self._drop(connection)
        while self._gone:
            self._gone.pop().close()

    # --- questions --------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        for _ in range(_ROUND):
            try:
                message, client = self._udp.recvfrom(_QUERY_BYTES + 1)
            except OSError:
                return
            self._take(message, client)

    def _take(self, message: bytes, client: "_Connection | tuple[str, int]") -> bool:
        """Answer a query or pass it on; False where it is none."""
        try:
            question = Question(message)
        except (ValueError, IndexError):
            return False
        data = self._known(question)
        if data is not None:
            self._reply(client, answer(message, question, data))
        else:
            self._ask_next(_Query(message, client))
        return True

    def _known(self, question: Question) -> "list[bytes] | None":
        """Return the data of the answer, where it is ours to give."""
        if question.kind == _PTR:
            name = self._names.reverse(question.name)
            return None if name is None else [encode(name)]
        found = self._names.find(question.name)
        if found is None or question.kind != _A:
            return None if found is None else []
        self._turn += 1
        first = self._turn % len(found)
        return [_socket.inet_aton(address) for address in (*found[first:], *found[:first])[:ADDRESSES]]

    def _reply(self, client: "_Connection | tuple[str, int]", message: bytes) -> None:
        if not isinstance(client, _Connection):
            try:
                self._udp.sendto(message, client)
            except OSError:
                pass  # UDP may lose
            return
        client.is_waiting = False
        if client.socket.fileno() in self._connections:
            client.pending += struct.pack(">H", len(message)) + message
            self._write(client)

    # --- clients by TCP ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept calls
        except OSError:
            return
        socket = _socket.socket(fileno=fd)
        if len(self._connections) >= CONNECTIONS:
            self._drop(min(self._connections.values(), key=lambda each: each.deadline))
        socket.setblocking(False)
        self._connections[fd] = _Connection(socket)
        self._epoll.register(fd, select.EPOLLIN)

    def _on_connection(self, connection: _Connection, events: int) -> None:
        if events & select.EPOLLOUT:
            self._write(connection)
        if not events & ~select.EPOLLOUT or connection.socket.fileno() not in self._connections:
            return
        try:
            data = connection.socket.recv(_QUERY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.received += data
        if not data or len(connection.received) > 2 * _QUERY_BYTES or not self._next(connection):
            self._drop(connection)

    def _next(self, connection: _Connection) -> bool:
        """Take the next whole query off a connection that waits for no answer; False for what is no query."""
        received = connection.received
        if connection.is_waiting or len(received) < 2:
            return True
        length = int.from_bytes(received[:2], "big")
        if length > _QUERY_BYTES:
            return False
        if len(received) < 2 + length:
            return True
        message = bytes(received[2 : 2 + length])
        del received[: 2 + length]
        connection.is_waiting = True
        connection.deadline = time.monotonic() + SECONDS
        return self._take(message, connection)

    def _write(self, connection: _Connection) -> None:
        try:
            del connection.pending[: connection.socket.send(connection.pending)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        writing = select.EPOLLOUT if connection.pending else 0
        self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | writing)
        if not connection.pending and not self._next(connection):
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            self._close(connection.socket)

    # --- name servers -----------------------------------------------------------------------------------------------

    def _ask_next(self, query: _Query) -> None:
        """Ask the next server; after the last one the answer is a failure."""
        self._leave(query)
        while query.server + 1 < len(self._servers):
            query.server += 1
            try:
                query.socket = self._open(query, self._servers[query.server])
            except OSError:
                continue
            query.deadline = time.monotonic() + _ATTEMPT_SECONDS
            if len(self._queries) >= QUERIES:
                self._leave(next(iter(self._queries.values())))
            self._queries[query.socket.fileno()] = query
            return
        self._reply(query.client, failure(query.message, Question(query.message)))

    def _open(self, query: _Query, server: str) -> _socket.socket:
        """Connect to a server, so that the kernel lets nobody else answer; a datagram is sent at once."""
        is_stream = isinstance(query.client, _Connection)
        family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
        kind = _socket.SOCK_STREAM if is_stream else _socket.SOCK_DGRAM
        query.id = os.urandom(2)
        query.received.clear()
        socket = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            # A port of 0 would be the next free one, whose number a stranger could guess; the kernel's is random.
            if (code := socket.connect_ex((server, _PORT))) not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            if not is_stream:
                socket.send(query.id + query.message[2:])
            self._epoll.register(socket.fileno(), select.EPOLLOUT if is_stream else select.EPOLLIN)
        except OSError:
            socket.close()
            raise
        return socket

    def _on_server(self, query: _Query, events: int) -> None:
        socket = query.socket
        if socket is None:
            return
        is_stream = isinstance(query.client, _Connection)
        try:
            if is_stream and events & select.EPOLLOUT and not events & (select.EPOLLERR | select.EPOLLHUP):
                message = query.id + query.message[2:]
                socket.send(struct.pack(">H", len(message)) + message)
                self._epoll.modify(socket.fileno(), select.EPOLLIN)
                return
            data = socket.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if is_stream:
            query.received += data
            whole = _whole(query.received)
        else:
            whole = data
        if whole is not None and _is_answer(whole, query):
            self._leave(query)
            self._reply(query.client, query.message[:2] + whole[2:])
        elif not data or len(query.received) > _MESSAGE_BYTES + 2:
            self._ask_next(query)

    def _leave(self, query: _Query) -> None:
        """Be done with the server that was asked."""
        if query.socket is not None and self._queries.pop(query.socket.fileno(), None) is not None:
            self._close(query.socket)
        query.socket = None

    def _close(self, socket: _socket.socket) -> None:
        self._epoll.unregister(socket.fileno())
        self._gone.append(socket)


def _whole(received: bytearray) -> bytes | None:
    """Return the message that a stream has brought, once all of it is there."""
    if len(received) < 2:
        return None
    length = int.from_bytes(received[:2], "big")
    return bytes(received[2 : 2 + length]) if len(received) >= 2 + length else None


def _is_answer(message: bytes, query: _Query) -> bool:
    """Tell whether a message answers the query: its id, its question."""
    if len(message) < 12 or message[:2] != query.id or not message[2] & 0x80:
        return False
    question = query.message[12 : Question(query.message).end]
    # Some servers leave the question out of a refusal.
    return message[4:6] == b"\0\0" or message[12 : 12 + len(question)].lower() == question.lower()
