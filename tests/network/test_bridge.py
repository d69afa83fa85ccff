"""A namespace on the bridge: reachable by its address, by published ports, and by nothing else."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from sampan.errors import AlreadyExists
from sampan.kernel import netlink, nftables, syscalls
from sampan.network import bridge, firewall, ipam
from sampan.network.endpoint import Endpoint, PortMapping

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.netns]

_SUBNET = "10.99.0.0"


@pytest.fixture
def machine() -> Iterator[None]:
    """Be in a network namespace that plays the machine: what is made in it goes with it, and is in nobody's way."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    with netlink.Socket() as socket_:
        netlink.set_up(socket_, 1)
    yield
    syscalls.setns(own, syscalls.CLONE_NEWNET)
    os.close(own)


@pytest.fixture
def network(machine: None) -> ipam.Network:
    """A network on this machine."""
    network = ipam.Network("test", "smpt0", _SUBNET, 16)
    bridge.ensure(network)
    firewall.ensure(network)
    return network


class Namespace:
    """A network namespace with a server on port 5000 that says who asks."""

    def __init__(self) -> None:
        ready_read, ready_write = os.pipe()
        go_read, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                syscalls.unshare(syscalls.CLONE_NEWNET)
                os.write(ready_write, b".")
                os.read(go_read, 1)
                with netlink.Socket() as inside:
                    netlink.set_up(inside, 1)
                _serve(ready_write)
            finally:
                os._exit(1)
        os.close(go_read)
        os.close(ready_write)
        os.read(ready_read, 1)
        self._ready = ready_read
        self.fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)

    def serve(self) -> None:
        """Let the server go, once the namespace has its address."""
        os.write(self._go, b".")
        assert os.read(self._ready, 1) == b"!"

    def connect(self, address: tuple[str, int]) -> str:
        """Connect from inside the namespace and return the answer, or the error's name."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            syscalls.setns(self.fd, syscalls.CLONE_NEWNET)
            os.write(write, _ask(address).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        with open(read, encoding="ascii") as file:
            return file.read()

    def end(self) -> None:
        """End the server and the namespace."""
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        for fd in (self.fd, self._go, self._ready):
            os.close(fd)


def _serve(ready: int) -> None:
    with socket.create_server(("0.0.0.0", 5000)) as server:
        os.write(ready, b"!")
        while True:
            client, peer = server.accept()
            with client:
                client.sendall(peer[0].encode())


def _ask(address: tuple[str, int]) -> str:
    try:
        with socket.create_connection(address, timeout=1) as client:
            return client.recv(64).decode()
    except OSError as error:
        return type(error).__name__


@pytest.fixture
def namespaces(network: ipam.Network) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces on the network, at .2 and .3, the first one with published ports."""
    pair = (Namespace(), Namespace())
    yield pair
    for namespace in pair:
        namespace.end()


def _endpoint(network: ipam.Network, host: int, ports: tuple[PortMapping, ...] = ()) -> Endpoint:
    return Endpoint(
        f"{host:02d}container",
        bridge=network.interface,
        address=f"10.99.0.{host}",
        gateway=network.gateway,
        prefix=network.prefix,
        ports=ports,
    )


def _beside(lan: ipam.Network) -> Endpoint:
    """Return the neighbour's place on the other network."""
    return Endpoint("99neighbour", bridge=lan.interface, address="10.98.0.9", gateway=lan.gateway, prefix=16)


def test_published_ports_are_reached_from_everywhere_they_should_be(
    network: ipam.Network, namespaces: tuple[Namespace, Namespace]
) -> None:
    """By 127.0.0.1, by the machine's own address, by another container and by itself; afterwards by nobody."""
    first, second = namespaces
    anywhere, local = _free_port(), _free_port()
    published = (PortMapping(5000, host_port=anywhere), PortMapping(5000, host_port=local, host_ip="127.0.0.1"))
    endpoint, other = _endpoint(network, 2, published), _endpoint(network, 3)
    bridge.attach(first.fd, endpoint)
    bridge.attach(second.fd, other)
    firewall.publish(endpoint)
    first.serve()
    assert _ask(("10.99.0.2", 5000)) == network.gateway
    assert _ask(("127.0.0.1", anywhere)) == network.gateway
    assert _ask(("127.0.0.1", local)) == network.gateway
    assert _ask((network.gateway, anywhere)) == network.gateway
    assert second.connect(("10.99.0.2", 5000)) == "10.99.0.3"
    assert second.connect((network.gateway, anywhere)) == network.gateway
    assert first.connect((network.gateway, anywhere)) == network.gateway
    # Published on 127.0.0.1 alone: for this machine, not for a container.
    assert _ask((network.gateway, local)) == "ConnectionRefusedError"
    assert second.connect((network.gateway, local)) == "ConnectionRefusedError"
    firewall.unpublish(endpoint)
    firewall.unpublish(endpoint)
    assert _ask(("127.0.0.1", anywhere)) == "ConnectionRefusedError"
    bridge.detach(endpoint.interface)
    bridge.detach(endpoint.interface)
    assert bridge.ports(network.interface) == [other.interface]


def test_a_published_port_belongs_to_one_container(network: ipam.Network) -> None:
    """A second container does not take it over, and its failure leaves the first one's as it is."""
    port = PortMapping(5000, host_port=_free_port())
    firewall.publish(_endpoint(network, 2, (port,)))
    with pytest.raises(AlreadyExists):
        firewall.publish(_endpoint(network, 3, (port, PortMapping(5000, host_port=_free_port()))))
    # The second's own word does not take the first one's element away.
    firewall.unpublish(_endpoint(network, 3, (port,)))
    assert len(_elements(network)) == 1
    firewall.sweep(network, ["10.99.0.3"])
    assert _elements(network) == []


def test_the_loopback_of_the_host_cannot_be_reached_from_a_container(
    network: ipam.Network, namespaces: tuple[Namespace, Namespace]
) -> None:
    """A container that routes 127/8 to the bridge gets nowhere; the control shows that without the guard it would."""
    first, _ = namespaces
    bridge.attach(first.fd, _endpoint(network, 2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer_twice, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        assert _ask(("127.0.0.1", port)) == "host"
        assert _attack(first, network, port) == "TimeoutError"
        _break_guard(network)
        assert _attack(first, network, port) == "host"


def test_a_neighbour_does_not_reach_what_is_published_on_loopback(
    network: ipam.Network, namespaces: tuple[Namespace, Namespace], lan: ipam.Network
) -> None:
    """`-p 127.0.0.1:…` is for this machine, whatever a machine beside it routes here; with the guard broken it is not.

    Docker had this hole until its version 28: the translation comes before the kernel's check for martians.
    """
    first, neighbour = namespaces
    local = _free_port()
    endpoint = _endpoint(network, 2, (PortMapping(5000, host_port=local, host_ip="127.0.0.1"),))
    bridge.attach(first.fd, endpoint)
    bridge.attach(neighbour.fd, _beside(lan))
    firewall.publish(endpoint)
    first.serve()
    assert _ask(("127.0.0.1", local)) == network.gateway
    assert neighbour.connect((lan.gateway, local)) == "ConnectionRefusedError"
    assert _attack(neighbour, lan, local) == "TimeoutError"
    _break_guard(network)
    assert _attack(neighbour, lan, local) == "10.98.0.9"


def test_a_neighbour_does_not_reach_what_is_not_published(
    network: ipam.Network, namespaces: tuple[Namespace, Namespace], lan: ipam.Network
) -> None:
    """Whoever routes the containers' network here gets to published ports by the machine's address, and no further."""
    first, neighbour = namespaces
    port = _free_port()
    endpoint = _endpoint(network, 2, (PortMapping(5000, host_port=port),))
    bridge.attach(first.fd, endpoint)
    bridge.attach(neighbour.fd, _beside(lan))
    firewall.publish(endpoint)
    first.serve()
    assert neighbour.connect((lan.gateway, port)) == "10.98.0.9"
    assert neighbour.connect((endpoint.address, 5000)) == "TimeoutError"
    # By the address that its neighbours know, the machine itself and the container get there too.
    assert _ask((lan.gateway, port)) == lan.gateway
    assert first.connect((lan.gateway, port)) == network.gateway


@pytest.fixture
def lan(network: ipam.Network) -> ipam.Network:
    """Another network of this machine, with none of our rules: where its neighbours are."""
    lan = ipam.Network("lan", "smpl0", "10.98.0.0", 16)
    bridge.ensure(lan)
    with open(f"/proc/sys/net/ipv4/conf/{lan.interface}/route_localnet", "w", encoding="ascii") as file:
        file.write("0")
    return lan


def test_a_forward_chain_that_somebody_closed_is_passed(
    network: ipam.Network, namespaces: tuple[Namespace, Namespace], lan: ipam.Network
) -> None:
    """Where docker or ufw drops what it does not know, our bridge's traffic gets by: two rules, put there once."""
    first, neighbour = namespaces
    port = _free_port()
    endpoint = _endpoint(network, 2, (PortMapping(5000, host_port=port),))
    bridge.attach(first.fd, endpoint)
    bridge.attach(neighbour.fd, _beside(lan))
    firewall.publish(endpoint)
    first.serve()
    with netlink.Socket(netlink.NETFILTER) as socket_:
        batch = nftables.Batch()
        batch.table("filter", "")
        batch.base_chain("filter", "FORWARD", "filter", nftables.FORWARD, 0)
        batch.rule("filter", "FORWARD", [nftables.verdict(nftables.DROP)])
        batch.commit(socket_)
        assert neighbour.connect((lan.gateway, port)) == "TimeoutError"
        for _ in range(2):
            firewall.ensure(network)
        assert len(nftables.our_rules(socket_, "filter", "FORWARD")) == 3
        assert neighbour.connect((lan.gateway, port)) == "10.98.0.9"
        firewall.remove(network)
        assert len(nftables.our_rules(socket_, "filter", "FORWARD")) == 1


def test_no_container_is_a_router_for_ipv6(network: ipam.Network, namespaces: tuple[Namespace, Namespace]) -> None:
    """Neither the bridge nor a container's eth0 listens to router advertisements: they have no IPv6 at all."""
    first, _ = namespaces
    bridge.attach(first.fd, _endpoint(network, 2))
    assert _read(f"/proc/sys/net/ipv6/conf/{network.interface}/disable_ipv6") == "1"
    with netlink.Inside(first.fd):
        assert _read("/proc/sys/net/ipv6/conf/eth0/disable_ipv6") == "1"
        assert _read("/proc/sys/net/ipv6/conf/lo/disable_ipv6") == "0"


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def test_a_sender_from_before_the_container_reaches_it(
    network: ipam.Network, namespaces: tuple[Namespace, Namespace]
) -> None:
    """A UDP flow that never pauses is translated once its port is published, and again after the next container."""
    ports = (PortMapping(5000, host_port=_free_port(), protocol="udp"),)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)
        sender.connect((network.gateway, ports[0].host_port))
        assert _echo(sender) == ""
        for host, namespace in zip((2, 3), namespaces, strict=True):
            endpoint = _endpoint(network, host, ports)
            bridge.attach(namespace.fd, endpoint)
            with netlink.Inside(namespace.fd):
                server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("0.0.0.0", 5000))
            threading.Thread(target=_answer_datagram, args=(server, str(host)), daemon=True).start()
            firewall.publish(endpoint)
            assert _echo(sender) == str(host)
            firewall.unpublish(endpoint)
            assert _echo(sender) == ""


def _echo(sender: socket.socket) -> str:
    try:
        sender.send(b"?")
        return sender.recv(10).decode()
    except OSError:
        return ""


def _answer_datagram(server: socket.socket, text: str) -> None:
    with server:
        _, peer = server.recvfrom(10)
        server.sendto(text.encode(), peer)


def test_many_at_once_make_one_table(network: ipam.Network) -> None:
    """Commands that find no table at the same time do not make its rules twice, and one of them knows that it did."""
    firewall.remove(network)
    pids = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                status = int(firewall.ensure(network))
            finally:
                os._exit(status)
        pids.append(pid)
    assert sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids) == [0] * 7 + [1]
    assert len(_rules(network, "forward")) == 3


def test_a_table_of_another_edition_is_replaced_and_loses_no_port(network: ipam.Network) -> None:
    """After an upgrade the new rules hold, and what runs stays published; a flushed one is put right from records."""
    endpoint = _endpoint(network, 2, (PortMapping(5000, host_port=_free_port()),))
    table = firewall.table_of(network.interface)
    firewall.publish(endpoint)
    before = _elements(network)
    with netlink.Socket(netlink.NETFILTER) as socket_:
        batch = nftables.Batch()
        batch.delete_table(table)
        batch.table(table, f"sampan, edition 0, {network.subnet}/{network.prefix}")
        batch.map(table, "published", (12, 13), (7, 13), 1)
        batch.add_element(table, "published", *before[0])
        batch.commit(socket_)
    assert _rules(network, "forward") == []
    assert not firewall.ensure(network)
    assert len(_rules(network, "forward")) == 3
    assert _elements(network) == before
    firewall.remove(network)
    assert firewall.ensure(network)
    for _ in range(2):
        firewall.publish(endpoint)
    assert _elements(network) == before


def _rules(network: ipam.Network, chain: str) -> list[tuple[int, bytes]]:
    with netlink.Socket(netlink.NETFILTER) as socket_:
        try:
            return nftables.our_rules(socket_, firewall.table_of(network.interface), chain)
        except FileNotFoundError:
            return []


def _elements(network: ipam.Network) -> list[tuple[bytes, bytes]]:
    with netlink.Socket(netlink.NETFILTER) as socket_:
        return nftables.elements(socket_, firewall.table_of(network.interface), "published")


def _answer_twice(server: socket.socket) -> None:
    for _ in range(2):
        client, _ = server.accept()
        with client:
            client.sendall(b"host")


def _attack(namespace: Namespace, network: ipam.Network, port: int) -> str:
    """From inside: send what is for 127.0.0.1 of the host out of eth0, as a container with NET_ADMIN may."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.setns(namespace.fd, syscalls.CLONE_NEWNET)
            with open("/proc/sys/net/ipv4/conf/eth0/route_localnet", "w", encoding="ascii") as file:
                file.write("1")
            commands = (
                "ip addr del 127.0.0.1/8 dev lo 2>/dev/null; ip route del local 127.0.0.0/8 table local 2>/dev/null;"
                f"ip route replace 127.0.0.0/8 via {network.gateway}"
            )
            os.system(commands)  # noqa: S605  # fixed words, in a namespace of this test's own
            os.write(write, _ask(("127.0.0.1", port)).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read, encoding="ascii") as file:
        return file.read()


def _break_guard(network: ipam.Network) -> None:
    table = firewall.table_of(network.interface)
    with netlink.Socket(netlink.NETFILTER) as socket_:
        for handle, _ in nftables.our_rules(socket_, table, "guard"):
            batch = nftables.Batch()
            batch.delete_rule(table, "guard", handle)
            batch.commit(socket_)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
