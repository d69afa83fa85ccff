"""The user-mode forwarder: whole streams both ways, half-closed ones, datagrams, and no more than that."""

import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sampan.network import forward, ports
from sampan.network.endpoint import PortMapping

pytestmark = [pytest.mark.first]

_LOOPBACK = "127.0.0.1"


class Forward:
    """`forwarded(port, protocol)`: the port of the host that is forwarded to `port` of 127.0.0.2; by process `pids`."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def __call__(self, port: int, protocol: str = "tcp") -> int:
        """Start a forwarder."""
        held = ports.hold((PortMapping(port, host_ip=_LOOPBACK, protocol=protocol),))
        held.listen()
        self.pids.append(forward.spawn(held, "127.0.0.2"))
        held.close()
        return held.mappings[0].host_port


@pytest.fixture
def forwarded() -> Iterator[Forward]:
    """Yield what starts forwarders, and end them."""
    started = Forward()
    yield started
    for pid in started.pids:
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
    try:
        with socket.create_connection((_LOOPBACK, forwarded(port, "tcp")), timeout=5) as client:
            assert client.recv(1) == b""
    except ConnectionResetError:
        pass  # so soon that connect(2) sees it too


def test_a_stream_that_is_cut_off_does_not_look_whole(forwarded: Forward) -> None:
    """A server that is killed in the middle of its answer resets its client: what it said arrives, its end does not."""

    def cut(client: socket.socket) -> None:
        client.sendall(b"half an ans")
        time.sleep(0.2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_connection((_LOOPBACK, forwarded(_serve(cut), "tcp")), timeout=5) as client:
        assert client.recv(100) == b"half an ans"
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_refusal_arrives_before_the_request_was_read(forwarded: Forward) -> None:
    """A server that answers at once and closes, with the request unread in its queue: the answer is not lost."""

    def refuse(client: socket.socket) -> None:
        time.sleep(0.1)
        client.sendall(b"413 too large")

    with socket.create_connection((_LOOPBACK, forwarded(_serve(refuse), "tcp")), timeout=5) as client:
        client.sendall(bytes(1 << 18))
        assert client.recv(100) == b"413 too large"


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_an_end_that_is_gone_costs_no_time(forwarded: Forward, how: str) -> None:
    """A client that has closed or was killed while the server goes on thinking: the forwarder sleeps."""
    done = threading.Event()

    def think(_: socket.socket) -> None:
        done.wait(5)

    port = forwarded(_serve(think), "tcp")
    client = socket.create_connection((_LOOPBACK, port), timeout=5)
    client.sendall(b"request")
    client.shutdown(socket.SHUT_WR)
    time.sleep(0.1)
    if how == "killed":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    before = _busy(forwarded.pids[-1])
    time.sleep(0.4)
    assert _busy(forwarded.pids[-1]) - before <= 2
    done.set()


def test_a_server_that_ended_first_costs_no_time(forwarded: Forward) -> None:
    """The server said all and left; the client does not read: nothing spins until it does, and nothing is lost."""
    sent = bytes(4 << 20)
    port = forwarded(_serve(lambda server: server.sendall(sent)), "tcp")
    with socket.create_connection((_LOOPBACK, port), timeout=5) as client:
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        before = _busy(forwarded.pids[-1])
        time.sleep(0.4)
        assert _busy(forwarded.pids[-1]) - before <= 2
        assert _read_all(client) == sent


def _busy(pid: int) -> int:
    """Return the hundredths of a second that a process has computed."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_who_vanishes_without_a_word_is_asked_for(forwarded: Forward) -> None:
    """Both ends of a silent connection are probed by the kernel: who is gone does not keep his place for ever."""
    done = threading.Event()

    def listen(_: socket.socket) -> None:
        done.wait(5)

    inside = _serve(listen)
    port = forwarded(inside, "tcp")
    with socket.create_connection((_LOOPBACK, port), timeout=5) as client:
        client.sendall(b"request")
        deadline = time.monotonic() + 5
        wanted = {(port, client.getsockname()[1]), (None, inside)}
        while (asked := _asked_for(port, inside)) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        assert asked == wanted
    done.set()


def _asked_for(port: int, inside: int) -> set[tuple[int | None, int]]:
    """Return (local, remote) ports of the forwarder's connections with a keep-alive timer. proc_net_tcp: 5 is timer."""
    found: set[tuple[int | None, int]] = set()
    with open("/proc/net/tcp", encoding="utf-8") as file:
        for fields in (line.split() for line in list(file)[1:]):
            local, remote = (int(fields[n].partition(":")[2], 16) for n in (1, 2))
            if fields[5].startswith("02:") and local == port:
                found.add((local, remote))
            elif fields[5].startswith("02:") and remote == inside:
                found.add((None, remote))
    return found


def test_more_connections_than_descriptors_wait_their_turn(forwarded: Forward) -> None:
    """With its descriptors used up the forwarder neither dies nor spins; who came too late is served in the end."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = socket.create_server(("127.0.0.2", 0), backlog=64)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
        held = ports.hold((PortMapping(server.getsockname()[1], host_ip=_LOOPBACK),))
        held.listen()
        os.write(write, b"%d" % held.mappings[0].host_port)
        forward._serve(held, "127.0.0.2", os.getppid())
    forwarded.pids.append(pid)
    port = int(os.read(read, 16))
    clients = [socket.create_connection((_LOOPBACK, port), timeout=5) for _ in range(40)]
    accepted = []
    server.settimeout(0.3)
    try:
        while True:
            accepted.append(server.accept()[0])
    except TimeoutError:
        assert 5 < len(accepted) < 40
    before = _busy(pid)
    time.sleep(1.2)
    assert _busy(pid) - before <= 3
    for connection in accepted:
        connection.close()
    server.settimeout(5)
    for client in clients[: len(accepted)]:
        client.close()
    for _ in range(40 - len(accepted)):
        server.accept()[0].close()
    for connection in (*clients, server):
        connection.close()
    for fd in (read, write):
        os.close(fd)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


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
