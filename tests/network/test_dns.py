"""The resolver: what it knows, what it passes on, and that rubbish does it no harm."""

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.kernel import netlink, syscalls
from sampan.network import dns, record, redirect
from sampan.network.endpoint import Endpoint

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.netns]

A, PTR, TXT, AAAA = 1, 12, 16, 28


def query(name: str, kind: int = A, id: int = 0x1234) -> bytes:
    """Return a query as a stub resolver writes it."""
    return struct.pack(">HHHHHH", id, 0x0100, 1, 0, 0, 0) + dns.encode(name) + struct.pack(">HH", kind, 1)


def parts(message: bytes) -> tuple[int, list[bytes]]:
    """Return the code and the data of the records of an answer whose records point at the question's name."""
    _, flags, _, answers, _, _ = struct.unpack_from(">HHHHHH", message)
    at = message.index(b"\0", 12) + 5
    found = []
    for _ in range(answers):
        length = struct.unpack_from(">H", message, at + 10)[0]
        found.append(message[at + 12 : at + 12 + length])
        at += 12 + length
    return flags & 15, found


@given(st.one_of(st.binary(max_size=600), st.tuples(st.binary(min_size=12, max_size=12), st.binary()).map(b"".join)))
def test_rubbish_is_no_question(message: bytes) -> None:
    """Any bytes are a question or ValueError or IndexError, and a question has an answer that is one."""
    try:
        question = dns.Question(message)
    except (ValueError, IndexError):
        return
    assert len(question.name) <= 320
    dns.answer(message, question, [b"\1\2\3\4"])


@given(st.text(st.characters(codec="ascii"), max_size=400))
def test_a_name_is_read_back_as_it_was_asked(name: str) -> None:
    """What `encode` writes is a name: labels of at most 63 bytes, 255 in all."""
    encoded = dns.encode(name)
    assert len(encoded) <= 255
    assert encoded.endswith(b"\0")


@pytest.fixture
def place(tmp_path: object) -> str:
    """Return a SAMPAN_RUN."""
    return str(tmp_path)


def tell(run: str, container: str, address: str, *names: str) -> None:
    """Have a container tell its names on the network `n1`."""
    record.publish(
        run, Endpoint(container, bridge="b", address=address, gateway="", prefix=16, network_id="n1", names=names)
    )


class Inside:
    """A resolver in a namespace of its own, driven by a thread, as the monitor's loop drives it."""

    def __init__(self, run: str, servers: tuple[str, ...]) -> None:
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        with netlink.Socket() as here:
            netlink.set_up(here, 1)
        self._sockets = redirect.open_in(own)
        os.close(own)
        self.resolver = dns.Resolver(*self._sockets, dns.Names([(record.directory(run, "n1"), "front")]), servers)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            due = self.resolver.timeout()
            select.select(self.resolver.descriptors(), [], [], min(0.05, due if due is not None else 1))
            self.resolver.serve()

    def end(self) -> None:
        """End the thread and close the sockets, once it has seen that its clients are gone."""
        while self.resolver.is_busy():
            time.sleep(0.01)
        self._is_over = True
        self._thread.join()
        for socket_ in self._sockets:
            socket_.close()


@pytest.fixture
def namespace() -> Iterator[None]:
    """Be in a network namespace that plays container and machine at once."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    yield
    syscalls.setns(own, syscalls.CLONE_NEWNET)
    os.close(own)


@pytest.fixture
def inside(namespace: None, place: str) -> Iterator[Inside]:
    """A resolver whose one name server is 127.0.0.1."""
    found = Inside(place, ("127.0.0.1",))
    yield found
    found.end()


def ask(message: bytes) -> bytes:
    """Ask 127.0.0.11:53 by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((record.RESOLVER, 53))
        client.send(message)
        return client.recv(65535)


def ask_by_tcp(*messages: bytes) -> list[bytes]:
    """Ask 127.0.0.11:53 by TCP, one connection for all."""
    with socket.create_connection((record.RESOLVER, 53), timeout=5) as client, client.makefile("rb") as file:
        client.sendall(b"".join(struct.pack(">H", len(message)) + message for message in messages))
        return [file.read(struct.unpack(">H", file.read(2))[0]) for _ in messages]


def test_names_aliases_and_addresses(inside: Inside, place: str) -> None:
    """A in any case, with and without the network's name; the order rotates; AAAA is empty; PTR has the first name."""
    tell(place, "c1", "10.1.0.2", "web", "www")
    tell(place, "c2", "10.1.0.3", "api", "www")
    assert parts(ask(query("web"))) == (0, [b"\x0a\1\0\2"])
    assert parts(ask(query("WEB.front"))) == (0, [b"\x0a\1\0\2"])
    orders = {tuple(parts(ask(query("www")))[1]) for _ in range(2)}
    assert orders == {(b"\x0a\1\0\2", b"\x0a\1\0\3"), (b"\x0a\1\0\3", b"\x0a\1\0\2")}
    assert parts(ask(query("web", AAAA))) == (0, [])
    assert parts(ask(query("2.0.1.10.in-addr.arpa", PTR))) == (0, [b"\3web\5front\0"])
    assert [parts(answer) for answer in ask_by_tcp(query("web"), query("api"))] == [
        (0, [b"\x0a\1\0\2"]),
        (0, [b"\x0a\1\0\3"]),
    ]


def test_what_changes_is_seen(inside: Inside, place: str) -> None:
    """A container that comes or goes is known to the next query; with SAMPAN_RUN wiped what was known stays."""
    for number in range(5):
        tell(place, "c1", f"10.1.0.{number}", "web")
        assert parts(ask(query("web"))) == (0, [bytes((10, 1, 0, number))])
    record.withdraw(place, "n1", "c1")
    assert parts(ask(query("web")))[0] != 0
    tell(place, "c1", "10.1.0.9", "web")
    time.sleep(0.1)
    assert parts(ask(query("web"))) == (0, [b"\x0a\1\0\x09"])
    os.rename(f"{place}/networks", f"{place}/gone")
    assert parts(ask(query("web"))) == (0, [b"\x0a\1\0\x09"])


def _serve(udp: socket.socket, tcp: socket.socket) -> None:
    """Be a name server for two queries: by UDP cut short, by TCP whole; lies by UDP come before the truth."""
    message, client = udp.recvfrom(4096)
    udp.sendto(bytes(2) + b"\x81\x80" + message[4:], client)  # another id
    udp.sendto(message[:2] + b"\x81\x80" + query("other")[4:], client)  # another question
    udp.sendto(message[:2] + b"\x83\x80" + message[4:], client)  # TC
    connection, _ = tcp.accept()
    with connection, connection.makefile("rb") as file:
        message = file.read(struct.unpack(">H", file.read(2))[0])
        answer = message[:2] + b"\x81\x80" + message[4:12] + message[12:] + bytes(5000)
        connection.sendall(struct.pack(">H", len(answer)) + answer[:100])
        connection.sendall(answer[100:])


def test_everything_else_is_passed_on(inside: Inside) -> None:
    """By UDP and by TCP, with the asker's id; what answers another question is not believed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 53)) as tcp:
        udp.bind(("127.0.0.1", 53))
        server = threading.Thread(target=_serve, args=(udp, tcp))
        server.start()
        answer = ask(query("example.org", TXT, 0x4321))
        assert answer[:4] == b"\x43\x21\x83\x80"
        assert answer[12:] == query("example.org", TXT)[12:]
        (answer,) = ask_by_tcp(query("example.org", TXT, 0x4321))
        assert answer[:4] == b"\x43\x21\x81\x80"
        assert answer.endswith(bytes(5000))
        server.join()


def test_a_server_that_is_not_there_is_a_failure(inside: Inside) -> None:
    """SERVFAIL, at once where the server refuses; by UDP and by TCP."""
    assert parts(ask(query("example.org")))[0] == 2
    assert parts(ask_by_tcp(query("example.org"))[0])[0] == 2


def test_rubbish_does_no_harm(inside: Inside, place: str) -> None:
    """Neither by UDP nor by TCP, and many connections that say nothing keep nobody out."""
    tell(place, "c1", "10.1.0.2", "web")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for data in (b"", b"x", bytes(12), bytes(4096), query("web")[:-1], query("web") * 2, b"\xff" * 5000):
            client.sendto(data, (record.RESOLVER, 53))
    idle = [socket.create_connection((record.RESOLVER, 53), timeout=5) for _ in range(3 * dns.CONNECTIONS)]
    for client in idle[:3]:
        try:
            client.sendall(b"\xff\xff")
        except OSError:
            pass  # it was the oldest, and made room
    assert parts(ask(query("web"))) == (0, [b"\x0a\1\0\2"])
    assert parts(ask_by_tcp(query("web"))[0]) == (0, [b"\x0a\1\0\2"])
    for client in idle:
        client.close()


def test_port_53_stays_the_container_s(inside: Inside, place: str) -> None:
    """A server of the container's own may bind every address at port 53, and names are still found."""
    tell(place, "c1", "10.1.0.2", "web")
    with socket.create_server(("0.0.0.0", 53)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("0.0.0.0", 53))
        assert parts(ask(query("web"))) == (0, [b"\x0a\1\0\2"])


def test_without_a_server_nothing_is_passed_on(namespace: None, place: str) -> None:
    """An internal network: a strange name is a failure at once."""
    found = Inside(place, ())
    assert parts(ask(query("example.org")))[0] == 2
    found.end()
