"""Connection tracking: forget flows that were set up before an address was translated. Hot path.

A datagram's flow lives for as long as its sender goes on, and a translation is looked up for the first packet of a flow
only. So who sends to a port from before it was published, or since a container that is gone, would never reach the new
one. linux/netfilter/nfnetlink_conntrack.h.
"""

import struct

from sampan.kernel import netlink
from sampan.kernel.netlink import attribute, nest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_SUBSYSTEM = 1 << 8
_GET, _DELETE = 1, 2
_IPV4, _UDP = 2, 17
_TUPLE_ORIGINAL, _ID, _FILTER = 1, 12, 25
_TUPLE_PROTOCOL, _NUMBER, _DESTINATION_PORT = 2, 1, 3
_FAMILY = struct.pack(">BBH", _IPV4, 0, 0)
# net/netfilter/nf_internals.h: CTA_FILTER_F_CTA_PROTO_NUM, CTA_FILTER_F_CTA_PROTO_DST_PORT
_FILTER_FLAGS = struct.pack("=I", 1 << 3 | 1 << 5)


def forget_udp(socket: netlink.Socket, ports: "Collection[int]") -> None:
    """Forget every UDP flow to one of these ports; `socket` is a netfilter one.

    Best effort: a kernel that has no such interface, or a flow that went by itself, is no error.
    """
    for port in ports:
        try:
            flows = _flows(socket, port)
        except OSError:
            return
        for flow in flows:
            try:
                socket.request(_SUBSYSTEM | _DELETE, 0, _FAMILY + flow)
            except OSError:
                continue


def _flows(socket: netlink.Socket, port: int) -> list[bytes]:
    """Return tuple and id, encoded, of the flows to a port; the kernel leaves the others out (NOTE(kernel >= 5.8))."""
    number, destination = attribute(_NUMBER, bytes([_UDP])), attribute(_DESTINATION_PORT, struct.pack(">H", port))
    wanted = nest(_TUPLE_ORIGINAL, nest(_TUPLE_PROTOCOL, number, destination))
    only = nest(_FILTER, attribute(1, _FILTER_FLAGS), attribute(2, bytes(4)))
    found = []
    for payload in socket.request(_SUBSYSTEM | _GET, netlink.DUMP, _FAMILY + wanted + only):
        parts = netlink.parse(payload[4:])
        if _TUPLE_ORIGINAL in parts and _ID in parts:
            original = attribute(_TUPLE_ORIGINAL | netlink.NESTED, parts[_TUPLE_ORIGINAL])
            found.append(original + attribute(_ID, parts[_ID]))
    return found
