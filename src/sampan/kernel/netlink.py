"""Netlink: ask the kernel's network for changes and wait for its word. netlink(7), rtnetlink(7). Hot path.

A request is a header, a family's own header and attributes; the kernel acknowledges each with an errno. A `Socket`
belongs to the network namespace it was made in, wherever its process goes after.
"""

import _socket
import os
import struct

from sampan.kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

# linux/netlink.h
ROUTE, NETFILTER = 0, 12
REQUEST, ACK, DUMP, CREATE, EXCL, APPEND, REPLACE = 0x1, 0x4, 0x300, 0x400, 0x200, 0x800, 0x100
_ERROR, _DONE = 2, 3
NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER_BYTES = 1 << 18
# linux/rtnetlink.h
_NEWLINK, _DELLINK, _GETLINK, _SETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 19, 20, 22, 24, 26
_SCOPE_UNIVERSE, _TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 0, 254, 4, 1
_RTA_DST, _RTA_GATEWAY = 1, 5
# linux/if_link.h, linux/if_addr.h, linux/veth.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFLA_MTU = 4
_AF_BRIDGE, _IFLA_PROTINFO, _IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED = 7, 12, 4, 33
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFF_UP = 1


class Socket:
    """A netlink socket of one family; use it with `with`."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self, family: int = ROUTE) -> None:
        self._socket = _socket.socket(16, 3 | _socket.SOCK_CLOEXEC, family)  # AF_NETLINK, SOCK_RAW
        self._sequence = 1

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def detach(self) -> None:
        """Forget the descriptor without closing it."""
        self._socket.detach()

    def request(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """Send one request and return the payloads of its answer; raises OSError with the kernel's errno."""
        return self.batch([(kind, flags | (0 if flags & DUMP == DUMP else ACK), payload)])

    def batch(self, messages: "list[tuple[int, int, bytes]]") -> list[bytes]:
        """Send messages in one datagram; return the answers' payloads; raise OSError for the first that failed."""
        data = bytearray()
        pending = set()
        for kind, flags, payload in messages:
            self._sequence += 1
            if flags & ACK or flags & DUMP == DUMP:  # EXCL alone shares a bit with DUMP
                pending.add(self._sequence)
            data += _HEADER.pack(16 + len(payload), kind, flags | REQUEST, self._sequence, 0) + payload
            data += bytes(-len(data) % 4)
        self._socket.send(data)
        return self._answers(pending)

    def _answers(self, pending: set[int]) -> list[bytes]:
        found: list[bytes] = []
        failure = 0
        while pending:
            data = self._socket.recv(_BUFFER_BYTES)
            at = 0
            while at + 16 <= len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                payload = data[at + 16 : at + length]
                at += max(16, (length + 3) & ~3)
                if kind in (_ERROR, _DONE):
                    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                    failure = failure or code
                    # A failed batch is answered for as a whole: the kernel may name messages that asked for no answer.
                    if code:
                        pending.clear()
                    pending.discard(sequence)
                else:
                    found.append(payload)
        if failure:
            raise OSError(failure, os.strerror(failure))
        return found


def attribute(kind: int, data: bytes) -> bytes:
    """Encode one attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def text(kind: int, value: str) -> bytes:
    """Encode a NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def nest(kind: int, *parts: bytes) -> bytes:
    """Encode an attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def parse(data: bytes) -> dict[int, bytes]:
    """Return the attributes of `data` by kind, the last of each."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


# --- links, addresses, routes ---------------------------------------------------------------------------------------


def index_of(name: str) -> int | None:
    """Return the index of the interface `name` in this process's network namespace, or None."""
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        return None


def add_bridge(socket: Socket, name: str, mac: bytes) -> None:
    """Make a bridge, down; `mac` fixed, for it would else change with its ports. EEXIST where it is there."""
    info = nest(_IFLA_LINKINFO, text(_INFO_KIND, "bridge"))
    payload = _link(0) + text(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, mac) + info
    socket.request(_NEWLINK, CREATE | EXCL, payload)


def add_veth(socket: Socket, name: str, peer: str, *, peer_mac: bytes, peer_netns_fd: int, master: int) -> None:
    """Make a veth pair, both ends down: `name` here, a port of the bridge `master`; `peer` in another namespace.

    NOTE(kernel): a peer made with IFF_UP gives ENOTCONN, so ends are set up afterwards.
    """
    other = _link(0) + text(_IFLA_IFNAME, peer) + attribute(_IFLA_ADDRESS, peer_mac)
    other += attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns_fd))
    info = nest(_IFLA_LINKINFO, text(_INFO_KIND, "veth"), nest(_INFO_DATA, attribute(_VETH_PEER, other)))
    payload = _link(0) + text(_IFLA_IFNAME, name) + attribute(_IFLA_MASTER, struct.pack("=I", master)) + info
    socket.request(_NEWLINK, CREATE | EXCL, payload)


def set_up(socket: Socket, index: int) -> None:
    """Set an interface up."""
    socket.request(_NEWLINK, 0, _link(index, _IFF_UP))


def set_mtu(socket: Socket, index: int, size_bytes: int) -> None:
    """Set the size of an interface's packets."""
    socket.request(_NEWLINK, 0, _link(index) + attribute(_IFLA_MTU, struct.pack("=I", size_bytes)))


def set_isolated(socket: Socket, index: int) -> None:
    """Let a bridge send nothing from this port to another one that is isolated."""
    payload = struct.pack("=BBHiII", _AF_BRIDGE, 0, 0, index, 0, 0)
    socket.request(_SETLINK, 0, payload + nest(_IFLA_PROTINFO, attribute(_IFLA_BRPORT_ISOLATED, b"\1")))


def set_hairpin(socket: Socket, index: int) -> None:
    """Let a bridge send a frame back by the port it came from: a container that asks for its own published port.

    NOTE(br_netfilter): with it addresses are translated on the bridge, and such a frame is never routed.
    """
    payload = struct.pack("=BBHiII", _AF_BRIDGE, 0, 0, index, 0, 0)
    socket.request(_SETLINK, 0, payload + nest(_IFLA_PROTINFO, attribute(_IFLA_BRPORT_MODE, b"\1")))


def ports(socket: Socket, master: int) -> list[str]:
    """Return the names of the interfaces that are ports of a bridge."""
    found = []
    for payload in socket.request(_GETLINK, DUMP, _link(0)):
        parsed = parse(payload[16:])
        if parsed.get(_IFLA_MASTER) == struct.pack("=I", master):
            found.append(parsed[_IFLA_IFNAME].rstrip(b"\0").decode("utf-8", "replace"))
    return found


def delete_link(socket: Socket, index: int) -> None:
    """Delete an interface, and with it its veth peer."""
    socket.request(_DELLINK, 0, _link(index))


def add_address(socket: Socket, index: int, address: bytes, prefix: int) -> None:
    """Give an interface an IPv4 address; EEXIST where it has it."""
    host_bits = (1 << (32 - prefix)) - 1
    broadcast = struct.pack(">I", struct.unpack(">I", address)[0] | host_bits)
    payload = struct.pack("=BBBBI", _socket.AF_INET, prefix, 0, _SCOPE_UNIVERSE, index)
    payload += attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address) + attribute(_IFA_BROADCAST, broadcast)
    socket.request(_NEWADDR, CREATE | EXCL, payload)


def add_default_route(socket: Socket, gateway: bytes) -> None:
    """Send what has no other route to `gateway`."""
    payload = struct.pack(
        "=BBBBBBBBI", _socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _UNICAST, 0
    )
    socket.request(_NEWROUTE, CREATE | EXCL, payload + attribute(_RTA_GATEWAY, gateway))


def addresses(socket: Socket) -> list[tuple[int, bytes, int]]:
    """Return (interface index, address, prefix) of every IPv4 address."""
    found = []
    for payload in socket.request(_GETADDR, DUMP, struct.pack("=BBBBI", _socket.AF_INET, 0, 0, 0, 0)):
        _, prefix, _, _, index = struct.unpack_from("=BBBBI", payload)
        parsed = parse(payload[8:])
        found.append((index, parsed.get(_IFA_LOCAL, parsed.get(_IFA_ADDRESS, b"")), prefix))
    return found


def routes(socket: Socket) -> list[tuple[bytes, int]]:
    """Return (network, prefix) of every IPv4 route of every table, the default one left out."""
    found = []
    for payload in socket.request(_GETROUTE, DUMP, struct.pack("=BBBBBBBBI", _socket.AF_INET, *(0,) * 8)):
        prefix = payload[1]
        destination = parse(payload[12:]).get(_RTA_DST)
        if destination:
            found.append((destination, prefix))
    return found


class Inside:
    """Be in another network namespace for the length of a `with`; the thread comes back to its own.

    Needs CAP_SYS_ADMIN over both namespaces. NOTE(kernel): /proc/sys/net is the thread's network namespace, whatever
    mount namespace its /proc belongs to.
    """

    __slots__ = ("_netns_fd", "_own")

    def __init__(self, netns_fd: int) -> None:
        self._netns_fd = netns_fd
        self._own = -1

    def __enter__(self) -> None:
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(self._netns_fd, syscalls.CLONE_NEWNET)
        except OSError:
            os.close(self._own)
            raise

    def __exit__(self, *_: object) -> None:
        try:
            syscalls.setns(self._own, syscalls.CLONE_NEWNET)
        finally:
            os.close(self._own)


def socket_in(netns_fd: int) -> Socket:
    """Return a socket of another network namespace, where it stays whoever uses it."""
    with Inside(netns_fd):
        return Socket()


def link_index(socket: Socket, name: str) -> int:
    """Return the index of `name` in the namespace of `socket`; raises OSError ENODEV."""
    (payload,) = socket.request(_GETLINK, 0, _link(0) + text(_IFLA_IFNAME, name))
    return int(struct.unpack_from("=i", payload, 4)[0])


def _link(index: int, flags: int = 0) -> bytes:
    """Struct ifinfomsg: family, type, index, flags, and which flags to change."""
    return struct.pack("=BBHiII", 0, 0, 0, index, flags, flags)
