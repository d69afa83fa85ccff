"""Addresses: the default network's subnet, chosen once, and a container's lease on it. Hot path.

A lease is a row of `addresses`, whose primary key is (network, address): the same address is never leased twice,
whoever asks at the same time. The row goes with its container.
"""

import struct
import zlib

from sampan import document
from sampan.errors import Exhausted
from sampan.network.endpoint import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database
    from sampan.document import Document

DEFAULT = "bridge"
INTERFACE = "sampan0"
_SYSTEM_ROOT = "/var/lib/sampan"
# Tried in order: what docker does not take by itself, then what it does.
_CANDIDATES = tuple(f"10.{second}.0.0" for second in range(217, 256))
_LAST_CANDIDATES = tuple(f"172.{second}.0.0" for second in range(16, 32))
_PREFIX = 16
_FIRST_HOST = 2  # .0.0 is the network, .0.1 the bridge


class Network:
    """A bridge network: the host has `gateway` on the interface `interface`."""

    __slots__ = ("gateway", "interface", "name", "prefix", "subnet")

    def __init__(self, name: str, interface: str, subnet: str, prefix: int) -> None:
        self.name = name
        self.interface = interface
        self.subnet = subnet
        self.prefix = prefix
        self.gateway = unpack(struct.pack(">I", struct.unpack(">I", pack(subnet))[0] + 1))

    def document(self) -> "Document":
        """For its row and for a container's record."""
        return {"name": self.name, "interface": self.interface, "subnet": self.subnet, "prefix": self.prefix}

    @classmethod
    def parse(cls, record: "Document") -> "Network":
        """Read what `document` wrote."""
        return cls(record["name"], record["interface"], record["subnet"], record["prefix"])


def interface_of(root: str) -> str:
    """Return the name of the default network's bridge for the state in the directory `root`."""
    return INTERFACE if root == _SYSTEM_ROOT else f"smp{zlib.crc32(root.encode()):08x}"


def default_network(database: "Database") -> Network:
    """Return the default network; its subnet is chosen at the first call.

    The caller holds a write transaction. Another SAMPAN_ROOT has a bridge of its own: it knows nothing of our leases.
    """
    row = database.row("SELECT record FROM networks WHERE name = ?", (DEFAULT,))
    if row is not None:
        return Network.parse(document.parse(str(row[0])))
    from sampan.kernel import netlink  # only now: every later command finds the row

    interface = interface_of(database.root)
    with netlink.Socket() as socket:
        network = Network(DEFAULT, interface, free_subnet(interface, taken(netlink.routes(socket))), _PREFIX)
    database.execute(
        "INSERT INTO networks (name, record) VALUES (?, ?)", (DEFAULT, document.render(network.document()))
    )
    return network


def lease(database: "Database", network: Network, container_id: str) -> str:
    """Return the container's address on `network`, the lowest that is free. The caller holds a write transaction."""
    base = struct.unpack(">I", pack(network.subnet))[0]
    taken = {}
    for ipv4, holder in database.execute("SELECT ipv4, container_id FROM addresses WHERE network = ?", (network.name,)):
        if holder == container_id:
            return str(ipv4)
        taken[struct.unpack(">I", pack(str(ipv4)))[0] - base] = holder
    for host in range(_FIRST_HOST, (1 << (32 - network.prefix)) - 1):
        if host not in taken:
            address = unpack(struct.pack(">I", base + host))
            database.execute(
                "INSERT INTO addresses (network, ipv4, container_id) VALUES (?, ?, ?)",
                (network.name, address, container_id),
            )
            return address
    raise Exhausted(
        f"the network `{network.name}` has no free address", hints=("`sampan rm` containers that are no longer needed",)
    )


def release(database: "Database", container_id: str) -> None:
    """Give a container's addresses back. Idempotent."""
    database.execute("DELETE FROM addresses WHERE container_id = ?", (container_id,))


def taken(routes: "list[tuple[bytes, int]]") -> "list[tuple[bytes, int]]":
    """Return what no network of ours may hide: the machine's routes, and its name servers.

    A name server is mostly behind the default route, so no route tells of it; a bridge over its address would take
    every name away from the machine.
    """
    from sampan.settings import resolver

    return [*routes, *((pack(server), 32) for server in resolver.name_servers() if ":" not in server)]


def free_subnet(interface: str, taken: "list[tuple[bytes, int]]") -> str:
    """Return the first candidate that overlaps none of the networks `taken`: (address, prefix) of each.

    Every bridge but the system's begins somewhere else: two whose routes do not stand yet would choose the same.
    """
    first = 0 if interface == INTERFACE else zlib.crc32(interface.encode()) % len(_CANDIDATES)
    for candidate in (*_CANDIDATES[first:], *_CANDIDATES[:first], *_LAST_CANDIDATES):
        if not any(_overlaps(pack(candidate), _PREFIX, network, prefix) for network, prefix in taken):
            return candidate
    raise Exhausted("every private network of ours is in use by this machine's routes or name servers")


def _overlaps(first: bytes, first_prefix: int, second: bytes, second_prefix: int) -> bool:
    shift = 32 - min(first_prefix, second_prefix)
    one, two = (struct.unpack(">I", value)[0] >> shift for value in (first, second))
    return bool(one == two)
