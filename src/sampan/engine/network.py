"""User-defined networks: create, list, remove, prune, inspect, in docker's words.

Theory. A network is a row with a subnet of its own, an id and the name of a bridge. The bridge and its firewall table
are made by the monitor of each container that joins (`connection`), so a row alone is a whole network, and after a
reboot nothing need be mended. Removing happens in one write transaction, in which nobody can lease an address: the
bridge and the table go first, then the row, so that what a `kill -9` leaves is a network that stands still.

A normal user's bridges are in the holder's network namespace: a child of ours goes there to remove one.
"""

import os
import time

from sampan import journal
from sampan.database import connection
from sampan.engine import label, record, rootless, state, sweep
from sampan.engine.words import check_name
from sampan.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unsupported
from sampan.network import ipam, option
from sampan.network import record as told
from sampan.network.endpoint import BRIDGE, HOST, NONE
from sampan.network.ipam import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.settings.configuration import Settings

# Docker has a network of each of these names; the latter two are no bridges and have no row.
PREDEFINED = (BRIDGE, HOST, NONE)
_MOST_LABELS = 256


def create(
    settings: "Settings",
    name: str,
    *,
    driver: str = BRIDGE,
    subnet: str = "",
    gateway: str = "",
    ip_range: str = "",
    reserved: "Mapping[str, str] | None" = None,
    internal: bool = False,
    attachable: bool = False,
    labels: "Mapping[str, str] | None" = None,
    options: "Mapping[str, str] | None" = None,
) -> Network:
    """Make a network; `subnet` `""` is one that nobody uses yet, `reserved` are docker's auxiliary addresses by name.

    Raises AlreadyExists for a name or a subnet that is taken, InvalidArgument, Unsupported for another driver.
    """
    if name in PREDEFINED:
        raise InvalidArgument(f"the network `{name}` is always there", hints=("choose another name",))
    if driver != BRIDGE:
        raise Unsupported(f"the network driver `{driver}` is not there", hints=("there is `bridge`",))
    if (gateway or ip_range or reserved) and not subnet:
        raise InvalidArgument("a gateway, a range or an address needs a subnet", hints=("add `--subnet`",))
    if labels and len(labels) > _MOST_LABELS:
        raise InvalidArgument(f"{len(labels)} labels are more than {_MOST_LABELS}")
    check_name(name)
    option.check(options or {})
    _refuse_bridge(settings, dict(options or {}).get(ipam.BRIDGE_NAME, ""))
    rootless.enter(settings)
    with connection.open(settings) as database, database.transaction():
        made = ipam.new_network(
            database,
            name,
            time.time_ns(),
            subnet=subnet,
            gateway=gateway,
            is_internal=internal,
            is_attachable=attachable,
            labels=dict(labels or {}),
            options=dict(options or {}),
            ip_range=ip_range,
            reserved=dict(reserved or {}),
        )
    _note(settings, "create", made)
    return made


def _refuse_bridge(settings: "Settings", interface: str) -> None:
    """Refuse a bridge that somebody else has made: it would be taken away with the network.

    A normal user's are in the holder's network, where nobody else makes any.
    """
    if interface and settings.uid == 0 and os.path.exists(f"/sys/class/net/{interface}"):
        raise AlreadyExists(f"this machine has an interface `{interface}`", hints=("choose another name",))


def find(settings: "Settings", name: str) -> Network:
    """Return the network called `name`, or whose id is or begins with it; raises NotFound, InvalidArgument."""
    with connection.open(settings) as database:
        return find_in(database, name)


def every(settings: "Settings") -> list[Network]:
    """Return all networks, the oldest first; the default one too, `host` and `none` not."""
    with connection.open(settings) as database, database.transaction():
        ipam.default_network(database)
        return list(ipam.every(database))


def remove(settings: "Settings", name: str) -> str:
    """Remove a network and return its name; raises NotFound, and Conflict where a running container is on it."""
    rootless.enter(settings)
    with connection.open(settings) as database, database.transaction():
        sweep.fold(database, settings)
        network = find_in(database, name)
        _refuse_in_use(database, network)
        _remove(database, settings, network)
    return network.name


def prune(settings: "Settings", *, chosen: label.Selection = label.EVERYTHING) -> list[str]:
    """Remove every user-defined network that no container, running or not, is on and `chosen` takes.

    Return their names.
    """
    rootless.enter(settings)
    with connection.open(settings) as database, database.transaction():
        sweep.fold(database, settings)
        used = {request.name for container in record.every(database) for request in container.options.networks}
        unused = [n for n in ipam.every(database) if n.name not in {BRIDGE, *used} and n.id not in used]
        gone = [network for network in unused if chosen.takes(network.labels, network.created)]
        for network in gone:
            _remove(database, settings, network)
    return [network.name for network in gone]


def inspect(settings: "Settings", name: str) -> "Document":
    """Return docker's inspect document of a network; raises NotFound."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        if name in {HOST, NONE}:
            return _document(Network(name, "", "0.0.0.0", 0, id=name), {})  # noqa: S104 - nothing is bound
        with database.transaction():
            network = ipam.default_network(database) if name == BRIDGE else find_in(database, name)
        names = {container.id: container.name for container in record.active(database)}
        leased = ipam.leases(database, network)
    return _document(network, {holder: (names.get(holder, holder), address) for address, holder in leased})


def find_in(database: "Database", name: str) -> Network:
    """Do what `find` does with a connection of the caller's."""
    found = ipam.find(database, name)
    if found is not None:
        return found
    near = [network for network in ipam.every(database) if name and network.id.startswith(name)]
    if len(near) == 1:
        return near[0]
    if near:
        raise InvalidArgument(f"more than one network's id begins with `{name}`", hints=("give more of its digits",))
    import difflib  # an error's way out may cost what it likes

    close = difflib.get_close_matches(name, [network.name for network in ipam.every(database)], 1)
    hint = f"did you mean `{close[0]}`?" if close else "see what there is with `sampan network ls`"
    raise NotFound(f"there is no network `{name}`", hints=(hint,))


def _refuse_in_use(database: "Database", network: Network) -> None:
    if network.name == BRIDGE:
        raise Conflict("the default network cannot be removed")
    holders = [holder for _, holder in ipam.leases(database, network)]
    if holders:
        names = [container.name for container in record.active(database) if container.id in holders]
        raise Conflict(
            f"the network `{network.name}` is in use by {', '.join(f'`{name}`' for name in names) or 'a container'}",
            hints=(f"stop it first: `sampan rm -f {' '.join(names)}`",),
        )


def _remove(database: "Database", settings: "Settings", network: Network) -> None:
    """Take bridge and table away, then the row; the caller holds a write transaction."""
    if settings.uid == 0:
        _take_down(network)
    else:
        rootless.in_network(lambda: _take_down(network))
    told.forget(settings.run, network.id)
    ipam.delete(database, network)
    _note(settings, "destroy", network)


def _note(settings: "Settings", action: str, network: Network) -> None:
    journal.note(settings.root, action, network.id, {"name": network.name, "type": BRIDGE}, journal.NETWORK)


def _take_down(network: Network) -> None:
    from sampan.network import bridge, firewall

    firewall.remove(network)
    bridge.remove(network)


def _document(network: Network, holders: "Mapping[str, tuple[str, str]]") -> "Document":
    is_bridge = network.name not in {HOST, NONE}
    config: Document = {"Subnet": f"{network.subnet}/{network.prefix}", "Gateway": network.gateway}
    config |= {"IPRange": network.ip_range} if network.ip_range else {}
    config |= {"AuxiliaryAddresses": network.reserved} if network.reserved else {}
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": state.timestamp(network.created),
        "Scope": "local",
        "Driver": BRIDGE if is_bridge else {NONE: "null"}.get(network.name, network.name),
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": [config] if is_bridge else []},
        "Internal": network.is_internal,
        "Attachable": network.is_attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            holder: {"Name": name, "IPv4Address": f"{address}/{network.prefix}", "IPv6Address": ""}
            for holder, (name, address) in holders.items()
        },
        "Options": {ipam.BRIDGE_NAME: network.interface} | network.options if is_bridge else {},
        "Labels": network.labels,
    }
