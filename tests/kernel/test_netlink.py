"""Netlink: links, addresses and routes in namespaces of a test's own, and attributes of anybody's."""

import errno
import os
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.kernel import netlink, syscalls

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.netns]

_MAC = b"\x02\x42\x0a\x01\x00\x01"


@pytest.fixture
def namespaces() -> Iterator[tuple[int, int]]:
    """Two empty network namespaces."""
    made = [_namespace(), _namespace()]
    yield (made[0][1], made[1][1])
    for pid, fd in made:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(fd)


def _namespace() -> tuple[int, int]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            os.write(write, b".")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    return pid, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)


def test_a_pair_of_ends_carries_packets(namespaces: tuple[int, int]) -> None:
    """A bridge here, eth0 there, an address at each, a default route: the one reaches the other by it."""
    here, there = namespaces
    with netlink.Inside(here), netlink.Socket() as ours, netlink.socket_in(there) as theirs:
        netlink.add_bridge(ours, "br0", _MAC)
        bridge = netlink.link_index(ours, "br0")
        netlink.add_address(ours, bridge, bytes([10, 1, 0, 1]), 16)
        netlink.set_up(ours, bridge)
        netlink.add_veth(ours, "veth0", "eth0", peer_mac=_MAC[:5] + b"\x02", peer_netns_fd=there, master=bridge)
        eth0 = netlink.link_index(theirs, "eth0")
        netlink.add_address(theirs, eth0, bytes([10, 1, 0, 2]), 16)
        netlink.set_up(theirs, eth0)
        netlink.set_up(ours, netlink.link_index(ours, "veth0"))
        netlink.add_default_route(theirs, bytes([10, 1, 0, 1]))
        assert netlink.addresses(theirs) == [(eth0, bytes([10, 1, 0, 2]), 16)]
        assert (bytes([10, 1, 0, 0]), 16) in netlink.routes(ours)
        with netlink.Inside(there):
            server = socket.create_server(("10.1.0.2", 0))
        with server, socket.create_connection(server.getsockname(), timeout=5) as client:
            peer, _ = server.accept()
            with peer:
                assert peer.getpeername() == client.getsockname()
        netlink.delete_link(ours, bridge)
        netlink.delete_link(ours, netlink.link_index(ours, "veth0"))
        with pytest.raises(OSError, match="No such device") as gone:
            netlink.link_index(theirs, "eth0")
        assert gone.value.errno == errno.ENODEV


def test_what_is_there_is_said(namespaces: tuple[int, int]) -> None:
    """A second bridge of the same name, a second address: EEXIST, and the socket goes on working."""
    with netlink.Inside(namespaces[0]), netlink.Socket() as ours:
        netlink.add_bridge(ours, "br0", _MAC)
        with pytest.raises(FileExistsError):
            netlink.add_bridge(ours, "br0", _MAC)
        index = netlink.link_index(ours, "br0")
        assert netlink.index_of("br0") == index
        netlink.add_address(ours, index, bytes([10, 1, 0, 1]), 16)
        with pytest.raises(FileExistsError):
            netlink.add_address(ours, index, bytes([10, 1, 0, 1]), 16)
        assert len(netlink.addresses(ours)) == 1
    assert netlink.index_of("br0") is None


def test_a_visit_ends_where_it_began(namespaces: tuple[int, int]) -> None:
    """After a visit to another namespace, and after one that failed, the thread is in its own."""
    own = os.stat("/proc/thread-self/ns/net").st_ino
    with pytest.raises(FileNotFoundError):
        _fail_inside(namespaces[0])
    with open("/proc/self/ns/uts", encoding="utf-8") as no_network, pytest.raises(OSError, match="Invalid"):
        netlink.Inside(no_network.fileno()).__enter__()
    assert os.stat("/proc/thread-self/ns/net").st_ino == own


def _fail_inside(netns_fd: int) -> None:
    with netlink.Inside(netns_fd):
        assert os.stat("/proc/thread-self/ns/net").st_ino == os.fstat(netns_fd).st_ino
        os.stat("/no/such/path")


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=6))
def test_attributes_are_read_back(attributes: dict[int, bytes]) -> None:
    """parse(encode(x)) == x, whatever their lengths."""
    data = b"".join(netlink.attribute(kind, value) for kind, value in attributes.items())
    assert len(data) % 4 == 0
    assert netlink.parse(data) == attributes
    assert netlink.parse(netlink.parse(netlink.nest(7, data))[7]) == attributes


@given(st.binary(max_size=64))
def test_any_bytes_can_be_parsed(data: bytes) -> None:
    """An answer that makes no sense ends; it neither raises nor loops."""
    assert isinstance(netlink.parse(data), dict)
