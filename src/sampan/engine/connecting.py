"""docker network connect and disconnect: another set of networks for a container that is there, running or not.

Theory. The record says what the next start connects. A container that runs has its networks in four more places: the
kernel, its names below SAMPAN_RUN, its /etc/hosts, and `containers/ID/network.json`, from which its monitor takes what
it has to take down, what a restart by its policy connects, and on which networks its resolver looks for names. Two
write transactions, which keep two who do it at once in order:

    1   the address is leased or given back, the record is written     killed after it: the next start does the rest
    2   network.json first, then the kernel and the other places       killed in it: the monitor takes all of it down

A normal user's bridges are in the holder's network namespace: a child goes there for the kernel's part.
"""

import os

from sampan import journal
from sampan.database import connection
from sampan.engine import connection as links
from sampan.engine import liveness, network, record, rootless, state, sweep
from sampan.engine.run_options import NetworkRequest
from sampan.errors import AlreadyExists, Conflict, InvalidArgument, SampanError, Unsupported
from sampan.frozen import replace
from sampan.network import ipam
from sampan.network.endpoint import BRIDGE, CONTAINER, HOST, MOST_NETWORKS, NONE, Endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.network.ipam import Network
    from sampan.settings.configuration import Settings

_HOSTS_BYTES = 1 << 20


def connect(
    settings: "Settings", network_name: str, container_name: str, *, aliases: tuple[str, ...] = (), ip: str = ""
) -> str:
    """Put a container on a network; return what a running one lacks all the same, `""` for nothing.

    Raises NotFound, AlreadyExists, Conflict, InvalidArgument, Exhausted.
    """
    rootless.enter(settings)
    with connection.open(settings) as database:
        with database.transaction():
            sweep.fold(database, settings)
            container = record.by_name(database, container_name)
            joined = _find(database, network_name)
            request = NetworkRequest(joined.name, aliases=aliases, ip=ip)
            _check_connect(container, request)
            _set_networks(database, container, (*_others(container, joined), request))
            is_running = _is_running(settings, container)
            address = ipam.lease(database, joined, container.id, ip) if is_running else ""
        if not is_running:
            return ""
        try:
            with database.transaction():
                lacking = _connect_running(settings, container, request, joined, address)
        except SampanError:
            _take_back(database, settings, container, joined)
            raise
        except OSError as error:
            _take_back(database, settings, container, joined)
            raise SampanError(
                f"`{container.name}` cannot be connected to `{joined.name}`",
                hints=("it may have an interface of that name already: `ip link` in it shows all",),
            ) from error
    _note(settings, "connect", container, joined)
    return lacking


def disconnect(settings: "Settings", network_name: str, container_name: str) -> None:
    """Take a container off a network; raises NotFound, Conflict where it is not on it."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        with database.transaction():
            sweep.fold(database, settings)
            container = record.by_name(database, container_name)
            left = _find(database, network_name)
            _check_disconnect(container, left)
            is_running = _is_running(settings, container)
            if is_running:
                _check_ports(settings, container, left)
            _set_networks(database, container, _others(container, left) or (NetworkRequest(NONE),))
        if is_running:
            with database.transaction():
                _disconnect_running(settings, container, left)
                ipam.give_back(database, left, container.id)
            _note(settings, "disconnect", container, left)


def _note(settings: "Settings", action: str, container: "Container", network: "Network") -> None:
    """Write docker's event of a network whose container was running (it has none for the others)."""
    told = {"container": container.id, "name": network.name, "type": BRIDGE}
    journal.note(settings.root, action, network.id, told, journal.NETWORK)


def _take_back(database: "Database", settings: "Settings", container: "Container", joined: "Network") -> None:
    """Undo a connection that failed; for a container that has ended meanwhile it is one for its next start."""
    if not _is_running(settings, container):
        return
    with database.transaction():
        _disconnect_running(settings, container, joined)
        _set_networks(database, container, _others(container, joined) or (NetworkRequest(NONE),))
        ipam.give_back(database, joined, container.id)


def _find(database: "Database", name: str) -> "Network":
    if name in {HOST, NONE}:
        raise Conflict(f"a container cannot be connected to the network `{name}`", hints=("run it with `--network`",))
    return ipam.default_network(database) if name == BRIDGE else network.find_in(database, name)


def _check_connect(container: "Container", request: NetworkRequest) -> None:
    options = container.options
    mode = options.network_mode
    if mode == HOST or mode.startswith(CONTAINER) or (mode == NONE and not options.first_network):
        raise Conflict(
            f"the container `{container.name}` was made for `--network {mode.partition(':')[0]}` and for no other",
            hints=("make it anew with `--network`",),
        )
    if request.name in [each.name for each in options.networks]:
        raise AlreadyExists(f"the container `{container.name}` is on the network `{request.name}`")
    if len(options.networks) >= MOST_NETWORKS:
        raise InvalidArgument(f"a container is on at most {MOST_NETWORKS} networks")
    if request.name == BRIDGE and (request.aliases or request.ip):
        raise InvalidArgument(f"on the network `{BRIDGE}` nobody chooses aliases or addresses")


def _check_disconnect(container: "Container", left: "Network") -> None:
    if left.name not in [request.name for request in container.options.networks]:
        raise Conflict(f"the container `{container.name}` is not on the network `{left.name}`")


def _check_ports(settings: "Settings", container: "Container", left: "Network") -> None:
    """Refuse to take a normal user's forwarder from its network: it was started for one address."""
    told = state.read(state.directory(settings, container.id))
    endpoints = map(Endpoint.parse, told.network["endpoints"])
    if settings.uid and any(endpoint.ports for endpoint in endpoints if endpoint.network == left.name):
        raise Unsupported(
            f"the published ports of `{container.name}` lead to the network `{left.name}`",
            hints=(f"stop it first: `sampan stop {container.name}`",),
        )


def _others(container: "Container", one: "Network") -> tuple[NetworkRequest, ...]:
    """Return the networks that the container is on beside one; none where it is on none at all."""
    return tuple(request for request in container.options.networks if request.name not in {one.name, one.id, NONE})


def _set_networks(database: "Database", container: "Container", networks: tuple[NetworkRequest, ...]) -> None:
    options = container.options
    first = options.first_network or options.network_mode
    container.options = replace(options, networks=networks, first_network=first)
    record.update(database, container)


def _is_running(settings: "Settings", container: "Container") -> bool:
    directory = state.directory(settings, container.id)
    if not state.alive(directory):
        return False
    if state.read(directory).status != state.RUNNING:
        raise Conflict(f"the container `{container.name}` is being started or taken down", hints=("try again",))
    return True


def _connect_running(
    settings: "Settings", container: "Container", request: NetworkRequest, joined: "Network", address: str
) -> str:
    directory = state.directory(settings, container.id)
    told = state.read(directory)
    endpoints = [Endpoint.parse(endpoint) for endpoint in told.network["endpoints"]]
    taken = {endpoint.number for endpoint in endpoints}
    is_way = not joined.is_internal and not any(endpoint.gateway for endpoint in endpoints)
    made = Endpoint(
        container.id,
        bridge=joined.interface,
        address=address,
        gateway=joined.gateway if is_way else "",
        prefix=joined.prefix,
        number=next(number for number in range(MOST_NETWORKS) if number not in taken),
        network=joined.name,
        network_id=joined.id,
        names=() if joined.name == BRIDGE else links.names_of(container, request),
    )
    _leave_word(settings, container, told, [*endpoints, made], joined)
    _in_bridges_network(settings, told, lambda netns_fd: _attach(netns_fd, joined, made))
    if made.names:
        from sampan.network import record as names

        names.publish(settings.run, made)
    _rewrite_hosts(directory, container, add=made.address)
    if made.names and not told.network["dns"]:
        return f"`{container.name}` was started where nobody has a name: it finds others by name once it is restarted"
    return ""


def _attach(netns_fd: int, joined: "Network", made: Endpoint) -> None:
    from sampan.network import bridge, firewall

    bridge.ensure(joined)
    firewall.ensure(joined)
    bridge.attach(netns_fd, made, joined)


def _disconnect_running(settings: "Settings", container: "Container", left: "Network") -> None:
    directory = state.directory(settings, container.id)
    told = state.read(directory)
    endpoints = [Endpoint.parse(endpoint) for endpoint in told.network["endpoints"]]
    gone = [endpoint for endpoint in endpoints if endpoint.network_id == left.id]
    kept = [endpoint for endpoint in endpoints if endpoint.network_id != left.id]
    heir = _heir(told, kept) if any(endpoint.gateway for endpoint in gone) else None
    if heir is not None:
        heir.ports = next((endpoint.ports for endpoint in gone if endpoint.ports), ())
    _leave_word(settings, container, told, kept, None)
    for endpoint in gone:
        _in_bridges_network(settings, told, _detacher(endpoint, heir))
        _rewrite_hosts(directory, container, remove=endpoint.address)
        if endpoint.names:
            from sampan.network import record as names

            names.withdraw(settings.run, left.id, container.id)


def _heir(told: "state.State", kept: list[Endpoint]) -> Endpoint | None:
    """Return the network that is the way out, and in by published ports, from now on; None where none is."""
    ways = {
        network["id"]: network["gateway"] for network in told.network.get("networks", ()) if not network["is_internal"]
    }
    heir = next((endpoint for endpoint in kept if endpoint.network_id in ways), None)
    if heir is not None:
        heir.gateway = ways[heir.network_id]
    return heir


def _detacher(gone: Endpoint, heir: Endpoint | None) -> "Callable[[int], None]":
    return lambda netns_fd: _detach(netns_fd, gone, heir)


def _detach(netns_fd: int, gone: Endpoint, heir: Endpoint | None) -> None:
    from sampan.network import bridge, firewall

    firewall.unpublish(gone)
    bridge.detach(gone.interface)
    if heir is not None:
        bridge.set_way(netns_fd, heir)
        firewall.publish(heir)


def _leave_word(
    settings: "Settings",
    container: "Container",
    told: "state.State",
    endpoints: list[Endpoint],
    joined: "Network | None",
) -> None:
    """Write down for the monitor what the container's networks are from now on."""
    ids = {endpoint.network_id for endpoint in endpoints}
    networks = [each for each in told.network.get("networks", ()) if each["id"] in ids]
    networks += [] if joined is None else [joined.document()]
    found = [ipam.Network.parse(each) for each in networks]
    is_closed = all(each.is_internal for each in found)
    word: Document = {
        "endpoints": [endpoint.document() for endpoint in endpoints],
        "networks": networks,
        "dns": links.dns_of(container, found, is_closed=is_closed),
    }
    state.write_network(state.directory(settings, container.id), told, word)


def _in_bridges_network(settings: "Settings", told: "state.State", work: "Callable[[int], None]") -> None:
    """Do `work` with the container's network namespace where the bridges are; raises Conflict where it has ended."""
    from sampan.runtime import joined

    pidfd = liveness.open_process(told)
    if pidfd < 0:
        raise Conflict("the container has just ended", hints=("try again",))
    try:
        netns_fd = joined.open_namespace(told.pid, pidfd, "net")
        try:
            if settings.uid == 0:
                work(netns_fd)
            else:
                rootless.in_network(lambda: work(netns_fd))
        finally:
            os.close(netns_fd)
    finally:
        os.close(pidfd)


def _rewrite_hosts(directory: str, container: "Container", *, add: str = "", remove: str = "") -> None:
    """Have the container's /etc/hosts name its addresses; in place, for it is mounted by what it is, not by its name.

    What else is in it is the container's own.
    """
    domain = container.config.get("Domainname", "")
    called = f"{container.hostname}.{domain} {container.hostname}" if domain else container.hostname
    try:
        fd = os.open(f"{directory}/hosts", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        lines = os.read(fd, _HOSTS_BYTES).decode("utf-8", "surrogateescape").splitlines()
        kept = [line for line in lines if not remove or line != f"{remove}\t{called}"]
        kept += [f"{add}\t{called}"] if add else []
        text = "".join(line + "\n" for line in kept).encode("utf-8", "surrogateescape")
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)
    finally:
        os.close(fd)
