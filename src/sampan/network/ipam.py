"""Networks and addresses in the database: each network's subnet, and a container's lease on it. Hot path.

A network's row is made by `default_network` or `insert` and goes with `delete`. A lease is a row of `addresses`, whose
primary key is (network, address): the same address is never leased twice, whoever asks at the same time. The row goes
with its container. INVARIANT: subnets of one SAMPAN_ROOT do not overlap.
"""

import os
import struct
import time
import zlib

from sampan import document
from sampan.errors import AlreadyExists, Exhausted, InvalidArgument
from sampan.network.endpoint import BRIDGE, pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.database.connection import Database, Row
    from sampan.document import Document

INTERFACE = "sampan0"
_SYSTEM_ROOT = "/var/lib/sampan"
# Tried in order: what docker does not take by itself, then what it does.
_CANDIDATES = tuple(f"10.{second}.0.0" for second in range(217, 256))
_LAST_CANDIDATES = tuple(f"172.{second}.0.0" for second in range(16, 32))
_PREFIX = 16
_WIDEST, _NARROWEST = 8, 30  # prefixes of a subnet that a person chooses
_ID_BYTES = 32
# What `network create --opt` may say, in docker's words; `option` looks at the values.
BRIDGE_NAME = "com.docker.network.bridge.name"
HOST_IP = "com.docker.network.bridge.host_binding_ipv4"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
MTU = "com.docker.network.driver.mtu"
# strconv.ParseBool of Go
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_COLUMNS = "SELECT id, name, created, record FROM networks"


class Network:
    """A bridge network: the host has `gateway` on the interface `interface`; an internal one has no way out.

    `created` is in nanoseconds since the epoch. `options` are what `network create --opt` said (`option`); addresses
    that nobody chooses come from `ip_range` (`ADDRESS/PREFIX`, `""` for the whole subnet) and are none of `reserved`.
    """

    __slots__ = (
        "created",
        "gateway",
        "id",
        "interface",
        "ip_range",
        "is_attachable",
        "is_internal",
        "labels",
        "name",
        "options",
        "prefix",
        "reserved",
        "subnet",
    )

    def __init__(
        self,
        name: str,
        interface: str,
        subnet: str,
        prefix: int,
        *,
        gateway: str = "",
        id: str = "",
        created: int = 0,
        is_internal: bool = False,
        is_attachable: bool = False,
        labels: "dict[str, str] | None" = None,
        options: "dict[str, str] | None" = None,
        ip_range: str = "",
        reserved: "dict[str, str] | None" = None,
    ) -> None:
        self.name = name
        self.interface = interface
        self.subnet = subnet
        self.prefix = prefix
        self.gateway = gateway or unpack(struct.pack(">I", _number(subnet) + 1))
        self.id = id
        self.created = created
        self.is_internal = is_internal
        self.is_attachable = is_attachable
        self.labels = labels or {}
        self.options = options or {}
        self.ip_range = ip_range
        self.reserved = reserved or {}

    @property
    def mtu(self) -> int:
        """Return the size of its packets; 0 is the kernel's choice."""
        return int(self.options.get(MTU, 0))

    @property
    def is_isolated(self) -> bool:
        """Tell whether its containers may not reach each other, but by what is published."""
        return not self._is_on(ICC)

    @property
    def is_masked(self) -> bool:
        """Tell whether what leaves it has the machine's address."""
        return self._is_on(MASQUERADE)

    def _is_on(self, key: str) -> bool:
        return self.options.get(key, "true") not in FALSE

    def document(self) -> "Document":
        """For its row and for a container's record."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def parse(cls, record: "Document") -> "Network":
        """Read what `document` wrote."""
        return cls(**record)


def interface_of(root: str) -> str:
    """Return the name of the default network's bridge for the state in the directory `root`."""
    return INTERFACE if root == _SYSTEM_ROOT else f"smp{zlib.crc32(root.encode()):08x}"


def new_id() -> str:
    """Return an id that no network has, docker's 64 digits."""
    return os.urandom(_ID_BYTES).hex()


def default_network(database: "Database") -> Network:
    """Return the default network; its subnet is chosen at the first call.

    The caller holds a write transaction. Another SAMPAN_ROOT has a bridge of its own: it knows nothing of our leases.
    """
    found = find(database, BRIDGE)
    if found is not None:
        return found
    interface = interface_of(database.root)
    subnet = free_subnet(interface, occupied(database))
    network = Network(BRIDGE, interface, subnet, _PREFIX, id=new_id(), created=time.time_ns())
    insert(database, network)
    return network


def new_network(
    database: "Database",
    name: str,
    created: int,
    *,
    subnet: str = "",
    gateway: str = "",
    is_internal: bool = False,
    is_attachable: bool = False,
    labels: "dict[str, str] | None" = None,
    options: "dict[str, str] | None" = None,
    ip_range: str = "",
    reserved: "dict[str, str] | None" = None,
) -> Network:
    """Make a user-defined network's row and return it; the caller holds a write transaction.

    `subnet` is `ADDRESS/PREFIX`, `""` any that is free. Raises InvalidArgument, Conflict for a subnet that is in use,
    AlreadyExists for the name, Exhausted.
    """
    id = new_id()
    # IFNAMSIZ is 16 with its NUL: 5 of name and 10 digits of the id.
    interface = (options or {}).get(BRIDGE_NAME) or f"smpbr{id[:10]}"
    if any(network.interface == interface for network in every(database)):
        raise AlreadyExists(f"the bridge `{interface}` belongs to another network")
    taken = occupied(database)
    address, prefix = parse_subnet(subnet) if subnet else (free_subnet(interface, taken), _PREFIX)
    if subnet and any(_overlaps(pack(address), prefix, other, width) for other, width in taken):
        raise AlreadyExists(
            f"the subnet `{subnet}` overlaps a network, a route or a name server of this machine",
            hints=("leave `--subnet` out: a free one is chosen", "`ip route` shows the machine's routes"),
        )
    network = Network(
        name,
        interface,
        address,
        prefix,
        gateway=gateway,
        id=id,
        created=created,
        is_internal=is_internal,
        is_attachable=is_attachable,
        labels=labels,
        options=options,
        ip_range=ip_range,
        reserved=reserved,
    )
    _check_reserved(network)
    if not _is_host(network, network.gateway):
        raise InvalidArgument(f"the gateway `{gateway}` is no address of the subnet `{address}/{prefix}`")
    insert(database, network)
    return network


def _check_reserved(network: Network) -> None:
    """Refuse a range or addresses that are not the subnet's."""
    if network.ip_range:
        address, prefix = parse_subnet(network.ip_range, narrowest=32)
        is_inside = prefix >= network.prefix and _overlaps(pack(address), prefix, pack(network.subnet), network.prefix)
        if not is_inside:
            raise InvalidArgument(
                f"the range `{network.ip_range}` is not in the subnet `{network.subnet}/{network.prefix}`"
            )
    for name, address in network.reserved.items():
        if not _is_host(network, address):
            raise InvalidArgument(f"`{name}={address}` is no address of the subnet `{network.subnet}/{network.prefix}`")


def insert(database: "Database", network: Network) -> None:
    """Add the row; raises AlreadyExists where the name is taken."""
    if find(database, network.name) is not None:
        raise AlreadyExists(f"the network `{network.name}` exists", hints=("`sampan network ls` shows all",))
    database.execute(
        "INSERT INTO networks (id, name, created, record) VALUES (?, ?, ?, ?)",
        (network.id, network.name, network.created, document.render(network.document())),
    )


def find(database: "Database", name: str) -> Network | None:
    """Return the network called `name`, or whose id that is; None where there is none."""
    row = database.row(f"{_COLUMNS} WHERE name = ? OR id = ? ORDER BY name = ? DESC", (name, name, name))
    return None if row is None else _of_row(row)


def every(database: "Database") -> "Iterator[Network]":
    """Yield all networks, the oldest first."""
    return map(_of_row, database.execute(f"{_COLUMNS} ORDER BY created, name"))


def delete(database: "Database", network: Network) -> None:
    """Delete the row. Idempotent; the caller has seen that nobody has an address on it."""
    database.execute("DELETE FROM networks WHERE id = ?", (network.id,))


def leases(database: "Database", network: Network) -> "list[tuple[str, str]]":
    """Return (address, container id) of all leases on the network."""
    query = "SELECT ipv4, container_id FROM addresses WHERE network = ?"
    return [(row[0], row[1]) for row in database.execute(query, (network.name,))]


def networks_of(database: "Database", container_id: str) -> list[Network]:
    """Return the networks on which the container has an address."""
    rows = list(database.execute("SELECT network FROM addresses WHERE container_id = ?", (container_id,)))
    return [network for network in every(database) if (network.name,) in rows]


def lease(database: "Database", network: Network, container_id: str, address: str = "") -> str:
    """Return the container's address on `network`: `address`, else the lowest that is free.

    The caller holds a write transaction. Raises AlreadyExists, InvalidArgument, Exhausted.
    """
    taken = {}
    for ipv4, holder in leases(database, network):
        if holder == container_id:
            return ipv4
        taken[ipv4] = holder
    chosen = _checked(network, address, taken) if address else _free(network, taken)
    database.execute(
        "INSERT INTO addresses (network, ipv4, container_id) VALUES (?, ?, ?)", (network.name, chosen, container_id)
    )
    return chosen


def _free(network: Network, taken: "dict[str, str]") -> str:
    base, size = _number(network.subnet), 1 << (32 - network.prefix)
    first, end = base + 1, base + size - 1
    if network.ip_range:
        low, prefix = parse_subnet(network.ip_range, narrowest=32)
        first, end = max(first, _number(low)), min(end, _number(low) + (1 << (32 - prefix)))
    others = {network.gateway, *network.reserved.values()}
    for number in range(first, end):
        address = unpack(struct.pack(">I", number))
        if address not in taken and address not in others:
            return address
    raise Exhausted(
        f"the network `{network.name}` has no free address", hints=("`sampan rm` containers that are no longer needed",)
    )


def _checked(network: Network, address: str, taken: "dict[str, str]") -> str:
    if not _is_host(network, address) or address in {network.gateway, *network.reserved.values()}:
        raise InvalidArgument(
            f"`{address}` is no free address of the network `{network.name}`",
            hints=(f"its subnet is `{network.subnet}/{network.prefix}`, and `{network.gateway}` is the machine's own",),
        )
    if address in taken:
        raise AlreadyExists(f"the address `{address}` belongs to the container {taken[address][:12]}")
    return address


def _is_host(network: Network, address: str) -> bool:
    """Tell whether an address is one of the subnet, and neither its first nor its last."""
    number = _number(address) - _number(network.subnet)
    return 0 < number < (1 << (32 - network.prefix)) - 1


def parse_subnet(text: str, narrowest: int = _NARROWEST) -> tuple[str, int]:
    """Return the address and the prefix of `10.5.0.0/16`; raises InvalidArgument."""
    address, _, word = text.partition("/")
    prefix = int(word) if word.isascii() and word.isdigit() and len(word) < 3 else 0
    if not _WIDEST <= prefix <= narrowest:
        raise InvalidArgument(
            f"`{text}` is not a subnet",
            hints=(f"write it like `10.5.0.0/16`; the prefix is {_WIDEST} to {narrowest}",),
        )
    base = _number(address) >> (32 - prefix) << (32 - prefix)
    if base != _number(address):
        raise InvalidArgument(
            f"`{text}` is not a subnet", hints=(f"did you mean `{unpack(struct.pack('>I', base))}/{prefix}`?",)
        )
    return address, prefix


def release(database: "Database", container_id: str) -> None:
    """Give a container's addresses back. Idempotent."""
    database.execute("DELETE FROM addresses WHERE container_id = ?", (container_id,))


def give_back(database: "Database", network: Network, container_id: str) -> None:
    """Give a container's address on one network back. Idempotent."""
    database.execute("DELETE FROM addresses WHERE network = ? AND container_id = ?", (network.name, container_id))


def occupied(database: "Database") -> "list[tuple[bytes, int]]":
    """Return what no further network of ours may overlap: `taken`, and the networks that there are."""
    from sampan.kernel import netlink  # only where a network is made

    with netlink.Socket() as socket:
        routes = netlink.routes(socket)
    return [*taken(routes), *((pack(network.subnet), network.prefix) for network in every(database))]


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


def _number(address: str) -> int:
    return int(struct.unpack(">I", pack(address))[0])


def _of_row(row: "Row") -> Network:
    id, name, created, record = row
    return Network.parse(document.parse(str(record)) | {"id": id, "name": name, "created": created})
