"""A container's place on a network, as values: all that its record says and tear-down needs. Hot path."""

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

ANY = "0.0.0.0"  # noqa: S104  # docker's default for -p: every address of the host
PROTOCOLS = ("tcp", "udp")
# Networks that are always there; every other name is a user-defined one's.
BRIDGE, NONE, HOST = "bridge", "none", "host"
# What joins another container's namespace begins so; its id follows, or, before it is created, its name.
CONTAINER = "container:"
MOST_NETWORKS = 12  # of one container: see `interface_of`


class PortMapping:
    """A published port: `host_ip`:`host_port` of the host is `container_port` of the container, for one protocol.

    What was asked for may leave the choice: a `host_port` of 0 is any that is free, one before `host_last` the first
    that is free up to there. `ports.hold` makes the choice.
    """

    __slots__ = ("container_port", "host_ip", "host_last", "host_port", "protocol")

    def __init__(
        self,
        container_port: int,
        *,
        host_port: int = 0,
        host_last: int | None = None,
        host_ip: str = ANY,
        protocol: str = "tcp",
    ) -> None:
        self.container_port = container_port
        self.host_port = host_port
        self.host_last = host_port if host_last is None else host_last
        self.host_ip = host_ip
        self.protocol = protocol

    def at(self, host_port: int) -> "PortMapping":
        """Return this mapping on a certain port of the host."""
        return PortMapping(self.container_port, host_port=host_port, host_ip=self.host_ip, protocol=self.protocol)

    def on(self, host_ip: str) -> "PortMapping":
        """Return this mapping at a certain address of the host."""
        return PortMapping(
            self.container_port,
            host_port=self.host_port,
            host_last=self.host_last,
            host_ip=host_ip,
            protocol=self.protocol,
        )

    def __str__(self) -> str:
        host = f"{self.host_port}" if self.host_port == self.host_last else f"{self.host_port}-{self.host_last}"
        return f"{self.host_ip}:{host}->{self.container_port}/{self.protocol}"

    def document(self) -> "Document":
        """For a record."""
        return {
            "container_port": self.container_port,
            "host_ip": self.host_ip,
            "host_port": self.host_port,
            "host_last": self.host_last,
            "protocol": self.protocol,
        }

    @classmethod
    def parse(cls, document: "Document") -> "PortMapping":
        """Read what `document` wrote."""
        return cls(
            document["container_port"],
            host_port=document["host_port"],
            host_last=document.get("host_last"),
            host_ip=document["host_ip"],
            protocol=document["protocol"],
        )


class Endpoint:
    """A container on a bridge network: `interface` is the host's end of its veth; inside it is eth0, eth1, …: `number`.

    `gateway` is where its way out goes, `""` for none: a container has one at most. `names` are those by which others
    on the network find it, `network` and `network_id` say which one that is.
    """

    __slots__ = (
        "address",
        "bridge",
        "container_id",
        "gateway",
        "interface",
        "mac",
        "names",
        "network",
        "network_id",
        "number",
        "ports",
        "prefix",
    )

    def __init__(
        self,
        container_id: str,
        *,
        bridge: str,
        address: str,
        gateway: str,
        prefix: int,
        ports: tuple[PortMapping, ...] = (),
        number: int = 0,
        network: str = BRIDGE,
        network_id: str = "",
        names: tuple[str, ...] = (),
        mac: str = "",
    ) -> None:
        self.container_id = container_id
        self.bridge = bridge
        self.address = address
        self.gateway = gateway
        self.prefix = prefix
        self.ports = ports
        self.number = number
        self.network = network
        self.network_id = network_id
        self.names = names
        self.interface = interface_of(container_id, number)
        self.mac = mac or mac_of(address)

    def with_ports(self, ports: tuple[PortMapping, ...]) -> "Endpoint":
        """Return this endpoint with other published ports."""
        return Endpoint.parse(self.document() | {"ports": [port.document() for port in ports]})

    def document(self) -> "Document":
        """For a record."""
        return {
            "container_id": self.container_id,
            "bridge": self.bridge,
            "address": self.address,
            "gateway": self.gateway,
            "prefix": self.prefix,
            "ports": [port.document() for port in self.ports],
            "number": self.number,
            "network": self.network,
            "network_id": self.network_id,
            "names": list(self.names),
            "mac": self.mac,
        }

    @classmethod
    def parse(cls, document: "Document") -> "Endpoint":
        """Read what `document` wrote."""
        return cls(
            document["container_id"],
            bridge=document["bridge"],
            address=document["address"],
            gateway=document["gateway"],
            prefix=document["prefix"],
            ports=tuple(PortMapping.parse(port) for port in document["ports"]),
            number=document["number"],
            network=document["network"],
            network_id=document["network_id"],
            names=tuple(document["names"]),
            mac=document.get("mac", ""),
        )


def interface_of(container_id: str, number: int) -> str:
    """Return the name of the host's end of a container's interface: `smpn…` is eth0's, `smpo…` eth1's, and so on.

    IFNAMSIZ is 16 with its NUL: 4 of name and 11 digits of the id.
    """
    return f"smp{chr(ord('n') + number)}{container_id[:11]}"


def mac_of(address: str) -> str:
    """Return the MAC address that docker gives to the IPv4 `address`: 02:42 and its four bytes."""
    return ":".join(["02", "42", *(f"{part:02x}" for part in pack(address))])


def pack(address: str) -> bytes:
    """Return the four bytes of a dotted IPv4 address; raises InvalidArgument."""
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise InvalidArgument(f"`{address}` is not an IPv4 address")
    numbers = [int(part) for part in parts]
    if max(numbers) > 255:
        raise InvalidArgument(f"`{address}` is not an IPv4 address")
    return bytes(numbers)


def unpack(address: bytes) -> str:
    """Return the dotted form of four bytes."""
    return ".".join(str(part) for part in address)
