"""The user-mode forwarder: whole streams both ways, half-closed ones, datagrams, and no more than that."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sampan.network import forward, ports
from sampan.network.endpoint import PortMapping

pytestmark = [pytest.mark.first]

_LOOPBACK = "127.0.0.1"
Forward = Callable[[int, str], int]


@pytest.fixture
def forwarded() -> Iterator[Forward]:
    """Return `forwarded(port, protocol)`: the port of the host that is forwarded to `port` of 127.0.0.2."""
    pids = []

    def start(port: int, protocol: str = "tcp") -> int:
        held = ports.hold((PortMapping(port, host_ip=_LOOPBACK, protocol=protocol),))
        held.listen()
        pids.append(forward.spawn(held, "127.0.0.2"))
        held.close()
        return held.mappings[0].host_port

    yield start
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _serve(handle: Callable[[socket.socket], None]) -> int:
    """Serve one connection on 127.0.0.2 in a thread; return the port."""
    server = socket.create_server(("127.0.0.2", 0))

    def run() -> None:
        with server:
            client, _ = server.accept()
            with client:
                handle(client)

    threading.Thread(target=run, daemon=True).start()
    return int(server.getsockname()[1])


def _read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def test_a_half_closed_stream_goes_on_the_other_way(forwarded: Forward) -> None:
    """Megabytes out, end of file, and only then megabytes back: nothing is lost in either direction."""
    sent = os.urandom(1 << 20) * 8

    def answer(client: socket.socket) -> None:
        client.sendall(_read_all(client)[::-1])

    with socket.create_connection((_LOOPBACK, forwarded(_serve(answer), "tcp")), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert _read_all(client) == sent[::-1]


def test_a_slow_reader_costs_no_memory(forwarded: Forward) -> None:
    """A server that sends without end to a client that does not read is stopped by full buffers."""
    counted = []

    def flood(client: socket.socket) -> None:
        client.settimeout(1)
        try:
            while True:
                counted.append(client.send(b"x" * (1 << 16)))
        except TimeoutError:
            pass

    with socket.create_connection((_LOOPBACK, forwarded(_serve(flood), "tcp")), timeout=10):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and threading.active_count() > 1:
            time.sleep(0.05)
        assert sum(counted) < 32 << 20


def test_a_container_that_does_not_listen_is_a_closed_connection(forwarded: Forward) -> None:
    """Who connects to a published port that nobody serves is let go at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        port = probe.getsockname()[1]
    with socket.create_connection((_LOOPBACK, forwarded(port, "tcp")), timeout=5) as client:
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass


def test_datagrams_find_their_way_back(forwarded: Forward) -> None:
    """Two clients of one UDP port each get their own answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.2", 0))
        server.settimeout(5)
        port = forwarded(server.getsockname()[1], "udp")
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for number, client in enumerate(clients):
            client.settimeout(5)
            client.sendto(b"from %d" % number, (_LOOPBACK, port))
        for _ in clients:
            data, peer = server.recvfrom(100)
            server.sendto(b"re: " + data, peer)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"re: from %d" % number
            client.close()


def test_the_forwarder_dies_with_who_made_it() -> None:
    """A monitor that is killed leaves no forwarder behind: its port is free."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        held = ports.hold((PortMapping(1, host_ip=_LOOPBACK),))
        held.listen()
        forward.spawn(held, "127.0.0.2")
        held.close()
        os.write(write, b"%d" % held.mappings[0].host_port)
        time.sleep(60)
    port = int(os.read(read, 16))
    os.close(read)
    os.close(write)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 5
    while True:
        try:
            with socket.socket() as again:
                again.bind((_LOOPBACK, port))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return
