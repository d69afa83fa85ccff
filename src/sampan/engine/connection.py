"""A container's connection to the network, from the lease of its address to the last firewall element. Hot path.

Three who never share memory use this: the command that leases (inside its transaction), the monitor that connects and
disconnects, the command that sweeps after a monitor that was killed.
"""

import _signal
import os

from sampan.document import parse
from sampan.network import ipam
from sampan.network.endpoint import Endpoint, PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.engine.state import State
    from sampan.network.ports import Held
    from sampan.runtime import cgroup, foreign, process

BRIDGE, NONE, HOST = "bridge", "none", "host"


def lease(database: "Database", container: "Container") -> "Document":
    """Lease what the container's network needs and return it; the caller holds a write transaction."""
    if container.options.network in {NONE, HOST}:
        return {"kind": container.options.network}
    network = ipam.default_network(database)
    endpoint = Endpoint(
        container.id,
        bridge=network.interface,
        address=ipam.lease(database, network, container.id),
        gateway=network.gateway,
        prefix=network.prefix,
        ports=_wanted(container),
    )
    return endpoint.document() | {"kind": BRIDGE, "network": network.document(), "mac": endpoint.mac}


def _wanted(container: "Container") -> tuple[PortMapping, ...]:
    """Return the ports of `-p`, and with `-P` those that the image exposes, each on a free port of the host."""
    options = container.options
    if not options.publish_all:
        return options.ports
    published = {(port.container_port, port.protocol) for port in options.ports}
    exposed = [word.partition("/") for word in container.config["ExposedPorts"]]
    pairs = [(int(number), protocol or "tcp") for number, _, protocol in exposed]
    return (*options.ports, *(PortMapping(n, protocol=p) for n, p in pairs if (n, p) not in published))


def sweep(database: "Database", container_id: str, told: "State", *, is_rootless: bool) -> None:
    """Remove from the kernel what a killed monitor left. Idempotent; the caller holds a write transaction."""
    from sampan.network import bridge, firewall

    group = _cgroup_of(container_id, told)
    if group is not None:
        group.kill()
        group.remove()
    if is_rootless:
        return  # the link went with the container's namespace, the forwarder with the monitor
    row = database.row("SELECT record FROM networks WHERE name = ?", (ipam.DEFAULT,))
    if row is None:
        return
    query = "SELECT ipv4, container_id FROM addresses WHERE network = ?"
    leased = list(database.execute(query, (ipam.DEFAULT,)))
    network = ipam.Network.parse(parse(row[0]))
    for address, holder in leased:
        if holder == container_id:
            endpoint = Endpoint(
                container_id, bridge=network.interface, address=address, gateway=network.gateway, prefix=network.prefix
            )
            bridge.detach(endpoint)
    firewall.sweep(network, (address for address, holder in leased if holder != container_id))


def _cgroup_of(container_id: str, told: "State") -> "cgroup.Cgroup | None":
    """Return the container's cgroup: the recorded one, or where one would be that was made but not yet recorded.

    On cgroup v2 under systemd such a one goes with the scope.
    """
    from sampan.runtime import cgroup, cgroup_v1

    if told.cgroup is not None:
        return cgroup.parse(told.cgroup)
    points = cgroup_v1.hierarchies()
    if not points or told.runtime is not None:
        return None
    return cgroup_v1.Cgroup({name: f"{points[name]}/sampan/{container_id}" for name in points})


class Connector:
    """The monitor's side while a container starts: `prepare`, `connect`, then `document` is all that the end needs."""

    __slots__ = ("_endpoint", "_forwarder", "_held", "_is_connected", "_is_rootless", "_leased", "_network")

    def __init__(self, leased: "Document", *, is_rootless: bool) -> None:
        """Take what `lease` returned; a normal user's bridge is in the holder's network, and ports are forwarded."""
        self._is_rootless = is_rootless
        self._forwarder = 0
        is_bridge = leased["kind"] == BRIDGE
        self._leased = leased
        self._endpoint = Endpoint.parse(leased) if is_bridge else None
        self._network = ipam.Network.parse(leased["network"]) if is_bridge else None
        self._held: Held | None = None
        self._is_connected = False

    def document(self) -> "Document":
        """Return what `inspect` shows and what `release` and `disconnect` take back.

        The ports have the numbers that they really got; `held` are the descriptors of their sockets.
        """
        if self._endpoint is None:
            return {"kind": self._leased["kind"]}
        is_ours = self._held is not None and not self._forwarder
        held = [socket.fileno() for socket in self._held.sockets] if self._held is not None and is_ours else []
        told = {"kind": BRIDGE, "mac": self._endpoint.mac, "held": held, "is_connected": self._is_connected}
        return self._endpoint.document() | told | {"forwarder": self._forwarder}

    def prepare(self) -> None:
        """Have the network stand, and take the published ports; raises AlreadyExists for one that is in use."""
        if self._endpoint is not None and self._endpoint.ports:
            from sampan.network import ports

            # In the machine's network: after this a normal user's monitor leaves it.
            self._held = ports.hold(self._endpoint.ports)
            self._endpoint = self._endpoint.with_ports(self._held.mappings)
        if self._is_rootless and self._leased["kind"] != HOST:
            from sampan.engine import rootless

            rootless.enter_network()
        if self._network is not None:
            from sampan.network import bridge, firewall

            bridge.ensure(self._network)
            firewall.ensure(self._network)

    def connect(self, created: "process.Created | foreign.Created") -> None:
        """Connect the container's network namespace; `none` gives it a loopback that is up."""
        if self._leased["kind"] == HOST:
            return
        from sampan.kernel import netlink
        from sampan.network import bridge, firewall

        netns_fd = created.namespace_fd("net")
        if self._endpoint is None:
            with netlink.socket_in(netns_fd) as socket:
                bridge.up_loopback(socket)
            return
        self._is_connected = True
        bridge.attach(netns_fd, self._endpoint)
        if self._held is None:
            return
        if self._is_rootless:
            self._forward(self._held, self._endpoint.address)
        else:
            firewall.publish(self._endpoint)
            self._held.listen()

    def _forward(self, held: "Held", address: str) -> None:
        """Leave the sockets to a forwarder, which is our child."""
        from sampan.network import forward

        held.listen()
        self._forwarder = forward.spawn(held, address)
        held.close()

    def detach(self) -> None:
        """Leave the sockets to the descriptors that `document` names: from here on those are theirs."""
        for socket in self._held.sockets if self._held is not None and not self._forwarder else ():
            socket.detach()


def release(told: "Document") -> None:
    """Let the published ports go; takes what `Connector.document` returned. Call once."""
    for fd in told.get("held", ()):
        os.close(fd)
    if told.get("forwarder"):
        os.kill(told["forwarder"], _signal.SIGKILL)
        os.waitpid(told["forwarder"], 0)
    elif told["kind"] == BRIDGE and told["ports"]:
        from sampan.network import firewall

        firewall.unpublish(Endpoint.parse(told))


def disconnect(told: "Document") -> None:
    """Remove the container's link; takes what `Connector.document` returned. Idempotent."""
    if told["kind"] == BRIDGE and told["is_connected"]:
        from sampan.network import bridge

        bridge.detach(Endpoint.parse(told))
