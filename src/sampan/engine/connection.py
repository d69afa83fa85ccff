"""A container's connection to the network, from the lease of its address to the last firewall element. Hot path.

Three who never share memory use this: the command that leases (inside its transaction), the monitor that connects and
disconnects, the command that sweeps after a monitor that was killed.
"""

import _signal
import os

from sampan import journal
from sampan.errors import Conflict, NotFound, SampanError
from sampan.network import endpoint as endpoints
from sampan.network import ipam
from sampan.network.endpoint import ANY, BRIDGE, CONTAINER, HOST, NONE, Endpoint, PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.engine.run_options import NetworkRequest
    from sampan.engine.state import State
    from sampan.network.ipam import Network
    from sampan.network.ports import Held
    from sampan.runtime import cgroup, foreign, process


def lease(database: "Database", container: "Container") -> "Document":
    """Lease what the container's networks need and return it; the caller holds a write transaction.

    Raises NotFound for a network that is not there, and what `ipam.lease` raises.
    """
    mode = container.options.network_mode
    if mode in {NONE, HOST} or mode.startswith(CONTAINER):
        return {"kind": mode.partition(":")[0], "endpoints": [], "networks": [], "dns": None}
    requests = container.options.networks
    networks = [_find(database, request.name) for request in requests]
    # The way out, and in by published ports, is the first network that has one.
    way = next((network.id for network in networks if not network.is_internal), "")
    leased = [
        _lease_one(database, container, request, network, number, is_way=network.id == way)
        for number, (request, network) in enumerate(zip(requests, networks, strict=True))
    ]
    if container.options.ports and not way:
        raise Conflict("ports cannot be published on internal networks alone", hints=("add another `--network`",))
    return {
        "kind": BRIDGE,
        "endpoints": [endpoint.document() for endpoint in leased],
        "networks": [network.document() for network in networks],
        "dns": dns_of(container, [network for network in networks if network.name != BRIDGE], is_closed=not way),
    }


def dns_of(container: "Container", networks: "list[Network]", *, is_closed: bool) -> "Document | None":
    """Return what the container's resolver knows; None on the default network, where nobody has a name.

    `servers` is what was asked for; without, the machine's own are asked. SECURITY: not where there is no way out, for
    a name that is looked up is a message to whoever answers for it.
    """
    if not networks:
        return None
    names = [[network.id, network.name] for network in networks]
    return {"networks": names, "servers": list(container.options.dns), "is_closed": is_closed}


def _find(database: "Database", name: str) -> "Network":
    if name == BRIDGE:
        return ipam.default_network(database)
    found = ipam.find(database, name)
    if found is None:
        raise NotFound(
            f"there is no network `{name}`",
            hints=(f"make it with `sampan network create {name}`", "`sampan network ls` shows all"),
        )
    return found


def _lease_one(
    database: "Database",
    container: "Container",
    request: "NetworkRequest",
    network: "Network",
    number: int,
    *,
    is_way: bool,
) -> Endpoint:
    return Endpoint(
        container.id,
        bridge=network.interface,
        address=ipam.lease(database, network, container.id, request.ip),
        mac=request.mac,
        gateway=network.gateway if is_way else "",
        prefix=network.prefix,
        ports=_wanted(container, network.options.get(ipam.HOST_IP, ANY)) if is_way else (),
        number=number,
        network=network.name,
        network_id=network.id,
        names=() if network.name == BRIDGE else names_of(container, request),
    )


def names_of(container: "Container", request: "NetworkRequest") -> tuple[str, ...]:
    """Return the names by which others on a user-defined network find the container."""
    hostname = (container.options.hostname,) if container.options.hostname else ()
    return tuple(dict.fromkeys((container.name, container.short_id, *request.aliases, *hostname)))


def _wanted(container: "Container", host_ip: str) -> tuple[PortMapping, ...]:
    """Return the ports of `-p`, and with `-P` those that the image exposes, each on a free port of the host.

    `host_ip` is where they are when nobody said.
    """
    options = container.options
    asked = tuple(port if port.host_ip != ANY else port.on(host_ip) for port in options.ports)
    if not options.publish_all:
        return asked
    published = {(port.container_port, port.protocol) for port in asked}
    exposed = [word.partition("/") for word in container.config["ExposedPorts"]]
    pairs = [(int(number), protocol or "tcp") for number, _, protocol in exposed]
    return (*asked, *(PortMapping(n, protocol=p, host_ip=host_ip) for n, p in pairs if (n, p) not in published))


def sweep(database: "Database", container_id: str, told: "State", *, run: str, is_rootless: bool) -> None:
    """Remove what a killed monitor left of its networks. Idempotent; the caller holds a write transaction."""
    from sampan.network import bridge, firewall, record

    for network in ipam.networks_of(database, container_id):
        record.withdraw(run, network.id, container_id)

    group = _cgroup_of(container_id, told)
    if group is not None:
        group.kill()
        group.remove()
    if is_rootless:
        return  # the links went with the container's namespace, the forwarder with the monitor
    for number in range(endpoints.MOST_NETWORKS):
        bridge.detach(endpoints.interface_of(container_id, number))
    for network in ipam.networks_of(database, container_id):
        leased = ipam.leases(database, network)
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

    __slots__ = (
        "_dns",
        "_endpoints",
        "_forwarder",
        "_held",
        "_is_again",
        "_is_connected",
        "_is_rootless",
        "_kept",
        "_kind",
        "_networks",
        "_root",
        "_run",
        "_sockets",
    )

    def __init__(
        self, leased: "Document", *, root: str, run: str, is_rootless: bool, told: "Document | None" = None
    ) -> None:
        """Take what `lease` returned; a normal user's bridges are in the holder's network, and ports are forwarded.

        For a container that is started again by its own monitor `told` is what `document` returned the last time: its
        published ports were never let go.
        """
        self._is_rootless = is_rootless
        self._is_again = told is not None
        self._root = root
        self._run = run
        self._dns = leased["dns"] if told is None else told["dns"]
        # Where the container's queries for names come; see `redirect`.
        self._sockets: tuple[_socket.socket, ...] = ()
        self._forwarder = 0 if told is None else told["forwarder"]
        self._kept: list[int] = [] if told is None else told["held"]
        self._kind = leased["kind"]
        self._endpoints = [Endpoint.parse(endpoint) for endpoint in (told or leased)["endpoints"]]
        self._networks = [ipam.Network.parse(network) for network in leased["networks"]]
        self._held: Held | None = None
        self._is_connected = False

    def document(self) -> "Document":
        """Return what `inspect` shows and what `release` and `disconnect` take back.

        The ports have the numbers that they really got; `held` are the descriptors of their sockets.
        """
        is_ours = self._held is not None and not self._forwarder
        held = [socket.fileno() for socket in self._held.sockets] if self._held is not None and is_ours else self._kept
        return {
            "kind": self._kind,
            "endpoints": [endpoint.document() | {"mac": endpoint.mac} for endpoint in self._endpoints],
            "held": held,
            "forwarder": self._forwarder,
            "is_connected": self._is_connected,
            "run": self._run,
            "networks": [network.document() for network in self._networks],
            "dns": self._dns and self._dns | {"sockets": [socket.fileno() for socket in self._sockets]},
        }

    def prepare(self) -> None:
        """Have the networks stand, and take the published ports; raises AlreadyExists for one that is in use."""
        for number, endpoint in enumerate(self._endpoints):
            if endpoint.ports and not self._is_again:
                from sampan.network import ports

                # In the machine's network: after this a normal user's monitor leaves it.
                self._held = ports.hold(endpoint.ports)
                self._endpoints[number] = endpoint.with_ports(self._held.mappings)
        if self._dns and not self._dns["servers"] and not self._dns["is_closed"]:
            from sampan.settings import resolver

            # Who is in the machine's own network may ask a name server on its loopback.
            servers = resolver.name_servers() if self._is_rootless else resolver.own_servers()
            self._dns = self._dns | {"servers": list(servers)}
        if self._is_rootless and self._kind not in {HOST, "container"} and not self._is_again:
            from sampan.engine import rootless

            rootless.enter_network()
        for network in self._networks:
            from sampan.network import bridge, firewall

            bridge.ensure(network)
            if firewall.ensure(network) and not self._is_rootless:
                self._publish_others(network.interface)

    def _publish_others(self, bridge: str) -> None:
        """Publish again what runs on a bridge whose table is new: somebody may have flushed the one before.

        Who runs is asked of the monitors' own files, for no database is open here.
        """
        from sampan.engine import state
        from sampan.network import firewall

        for name in os.listdir(f"{self._root}/containers"):
            directory = f"{self._root}/containers/{name}"
            try:
                told = state.read(directory) if state.alive(directory) else state.State()
                endpoints = [Endpoint.parse(endpoint) for endpoint in told.network.get("endpoints", ())]
                for endpoint in endpoints if told.status == state.RUNNING else ():
                    if endpoint.bridge == bridge:
                        firewall.publish(endpoint)
            except SampanError:
                continue  # one that cannot be read, or whose port is another's by now, is not this container's care

    def connect(self, created: "process.Created | foreign.Created") -> None:
        """Connect the container's network namespace; `none` gives it a loopback that is up."""
        if self._kind in {HOST, "container"}:
            return
        from sampan.kernel import netlink
        from sampan.network import bridge

        netns_fd = created.namespace_fd("net")
        if not self._endpoints:
            with netlink.socket_in(netns_fd) as socket:
                bridge.up_loopback(socket)
            return
        self._is_connected = True
        networks = {network.id: network for network in self._networks}
        for endpoint in self._endpoints:
            bridge.attach(netns_fd, endpoint, networks.get(endpoint.network_id))
        if self._held is not None:
            self._publish(self._held)
        elif self._kept:
            from sampan.network import firewall

            # Somebody may have flushed the tables meanwhile.
            firewall.publish(next(endpoint for endpoint in self._endpoints if endpoint.ports))
        if self._dns:
            from sampan.network import record, redirect

            self._sockets = redirect.open_in(netns_fd)
            for endpoint in self._endpoints:
                if endpoint.names:
                    record.publish(self._run, endpoint)

    def _publish(self, held: "Held") -> None:
        (endpoint,) = (endpoint for endpoint in self._endpoints if endpoint.ports)
        if self._is_rootless:
            from sampan.network import forward

            held.listen()
            # Our child has the sockets now.
            self._forwarder = forward.spawn(held, endpoint.address)
            held.close()
        else:
            from sampan.network import firewall

            firewall.publish(endpoint)
            held.listen()

    def detach(self) -> None:
        """Leave the sockets to the descriptors that `document` names: from here on those are theirs."""
        held = self._held.sockets if self._held is not None and not self._forwarder else ()
        for socket in (*held, *self._sockets):
            socket.detach()


def release(told: "Document") -> None:
    """Let the published ports go; takes what `Connector.document` returned. Call once."""
    for fd in told["held"]:
        os.close(fd)
    if told["forwarder"]:
        os.kill(told["forwarder"], _signal.SIGKILL)
        os.waitpid(told["forwarder"], 0)
        return
    for endpoint in map(Endpoint.parse, told["endpoints"]):
        if endpoint.ports:
            from sampan.network import firewall

            firewall.unpublish(endpoint)


def publish_names(told: "Document") -> None:
    """Tell the names once more, where SAMPAN_RUN was wiped."""
    from sampan.network import record

    for endpoint in map(Endpoint.parse, told["endpoints"]):
        if endpoint.names:
            record.publish(told["run"], endpoint)


def events(action: str, container_id: str, told: "Document") -> "list[journal.Happened]":
    """Return docker's events of a container's networks; takes what `Connector.document` returned."""
    kind = told["kind"]
    found = [(e["network_id"] or e["network"], e["network"], BRIDGE) for e in told["endpoints"]]
    if not found:
        found = [(kind, kind, "null" if kind == NONE else kind)]
    return [
        (journal.NETWORK, action, id, {"container": container_id, "name": name, "type": type})
        for id, name, type in found
    ]


def disconnect(told: "Document") -> None:
    """Remove the container's links and names; takes what `Connector.document` returned. Idempotent."""
    for endpoint in map(Endpoint.parse, told["endpoints"]) if told["is_connected"] else ():
        from sampan.network import bridge

        if endpoint.names:
            from sampan.network import record

            record.withdraw(told["run"], endpoint.network_id, endpoint.container_id)
        bridge.detach(endpoint.interface)
