"""Where a container asks for names: 127.0.0.11:53 in its own network namespace leads to sockets of its monitor's.

Theory. A listener on 127.0.0.11:53 would keep the container's own server from 0.0.0.0:53. So the sockets are on ports
that the kernel chooses, and a table in the container's namespace translates what the container sends to 127.0.0.11:53.
A container that may change its own network can take that away; it harms nobody else. Hot path.
"""

import _socket
import struct

from sampan.kernel import netlink
from sampan.kernel import nftables as nft
from sampan.network.endpoint import pack
from sampan.network.record import RESOLVER

_PORT = 53
_TABLE = "sampan"
_DSTNAT = -100
_BACKLOG = 16


def open_in(netns_fd: int) -> "tuple[_socket.socket, _socket.socket]":
    """Return a UDP and a listening TCP socket to which the namespace's queries go. Single-threaded callers only."""
    with netlink.Inside(netns_fd):
        udp, tcp = (_bound(kind) for kind in (_socket.SOCK_DGRAM, _socket.SOCK_STREAM))
        tcp.listen(_BACKLOG)
        with netlink.Socket(netlink.NETFILTER) as netfilter:
            batch = nft.Batch()
            batch.table(_TABLE, _TABLE)
            batch.base_chain(_TABLE, "names", "nat", nft.OUTPUT, _DSTNAT)
            for protocol, socket in ((_socket.IPPROTO_UDP, udp), (_socket.IPPROTO_TCP, tcp)):
                batch.rule(_TABLE, "names", _rule(protocol, socket.getsockname()[1]))
            batch.commit(netfilter)
    return udp, tcp


def _bound(kind: int) -> _socket.socket:
    socket = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    socket.bind((RESOLVER, 0))
    return socket


def _rule(protocol: int, port: int) -> list[bytes]:
    """Send one protocol's queries to a port of ours."""
    return [
        nft.payload(1, 16, 4, 1),
        nft.compare(1, pack(RESOLVER)),
        nft.meta(nft.META_L4PROTO, 1),
        nft.compare(1, bytes((protocol,))),
        nft.payload(2, 2, 2, 1),
        nft.compare(1, struct.pack(">H", _PORT)),
        nft.load(8, pack(RESOLVER)),
        nft.load(9, struct.pack(">H", port)),
        nft.destination_nat(),
    ]
