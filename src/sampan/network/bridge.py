"""Links: the bridges on the host, and a container's interfaces behind them. Hot path.

All is netlink; a warm attach is about a millisecond. Everything is idempotent, and names and addresses come from
records, so any process can put right or take away what another has made.

What `ensure` changes beyond the bridge itself: `net.ipv4.ip_forward` becomes 1 where it was 0, for the whole machine,
as docker has it too. Nobody else's packets come into the bridge for it (`firewall`, chain forward), but a machine with
several networks then routes between them, unless its firewall says otherwise.
"""

import errno
import os

from sampan.errors import SampanError, Unsupported
from sampan.kernel import netlink
from sampan.network.endpoint import mac_of, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.network.endpoint import Endpoint
    from sampan.network.ipam import Network

_SETTINGS = "/proc/sys/net"


def ensure(network: "Network") -> None:
    """Have the network's bridge stand, with its address, up, and the kernel forward for it. Idempotent.

    Several processes may do it at once. Raises Unsupported for a kernel that has no bridges or may not forward.
    """
    with netlink.Socket() as socket:
        index = netlink.index_of(network.interface)
        if index is None:
            index = _make(socket, network)
        # Always: one that was left by a store that somebody deleted has another.
        _add_address(socket, index, network)
        _switch_on("ipv4/ip_forward")
        # So that what is sent to 127.0.0.1 here may reach a container; `firewall` keeps 127/8 from coming back.
        _switch_on(f"ipv4/conf/{network.interface}/route_localnet")


def attach(netns_fd: int, endpoint: "Endpoint", network: "Network | None" = None) -> None:
    """Give the network namespace its loopback and an interface on the bridge. Single-threaded callers only.

    `network` has options that are an interface's.
    """
    inner = f"eth{endpoint.number}"
    with netlink.Socket() as here, netlink.socket_in(netns_fd) as inside:
        master = netlink.index_of(endpoint.bridge)
        if master is None:
            raise SampanError(f"the bridge `{endpoint.bridge}` is gone", hints=("start the container again",))
        mac = bytes.fromhex(endpoint.mac.replace(":", ""))
        try:
            _add_veth(here, endpoint, mac, netns_fd, master)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise Unsupported("this kernel has no veth interfaces", hints=("`modprobe veth`",)) from error
            raise
        up_loopback(inside)
        index = netlink.link_index(inside, inner)
        port = netlink.link_index(here, endpoint.interface)
        if network is not None and network.mtu:
            netlink.set_mtu(here, port, network.mtu)
            netlink.set_mtu(inside, index, network.mtu)
        if network is not None and network.is_isolated:
            # Before it is up. What is published still comes by the bridge itself, which is no such port.
            netlink.set_isolated(here, port)
        with netlink.Inside(netns_fd):
            _without_ipv6(inner)
        netlink.add_address(inside, index, pack(endpoint.address), endpoint.prefix)
        netlink.set_up(inside, index)
        netlink.set_up(here, port)
        if endpoint.ports:
            netlink.set_hairpin(here, port)
        if endpoint.gateway:
            netlink.add_default_route(inside, pack(endpoint.gateway))


def set_way(netns_fd: int, endpoint: "Endpoint") -> None:
    """Have the namespace's way out, which has gone, be this endpoint. Idempotent. Single-threaded callers only."""
    with netlink.Socket() as here, netlink.socket_in(netns_fd) as inside:
        if endpoint.ports:
            netlink.set_hairpin(here, netlink.link_index(here, endpoint.interface))
        try:
            netlink.add_default_route(inside, pack(endpoint.gateway))
        except FileExistsError:
            pass


def detach(interface: str) -> None:
    """Take a container's link away. Idempotent; the kernel does it by itself once the namespace is gone."""
    index = netlink.index_of(interface)
    if index is not None:
        with netlink.Socket() as socket:
            _delete(socket, index)


def remove(network: "Network") -> None:
    """Take the bridge away, if no container is on it. Idempotent."""
    with netlink.Socket() as socket:
        index = netlink.index_of(network.interface)
        if index is not None and not netlink.ports(socket, index):
            _delete(socket, index)


def ports(interface: str) -> list[str]:
    """Return the names of the interfaces on a bridge; none where it is not there."""
    with netlink.Socket() as socket:
        index = netlink.index_of(interface)
        return [] if index is None else netlink.ports(socket, index)


def up_loopback(socket: netlink.Socket) -> None:
    """Set lo up: it is always the first interface."""
    netlink.set_up(socket, 1)


def _make(socket: netlink.Socket, network: "Network") -> int:
    mac = bytes.fromhex(mac_of(network.gateway).replace(":", ""))
    try:
        netlink.add_bridge(socket, network.interface, mac)
    except FileExistsError:
        pass  # another command was first
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise Unsupported(
                "this kernel has no bridges", hints=("`modprobe bridge`", "run with `--network host`")
            ) from error
        raise
    index = netlink.index_of(network.interface)
    if index is None:
        raise SampanError(f"the bridge `{network.interface}` went as it was made")
    _without_ipv6(network.interface)
    if network.mtu:
        netlink.set_mtu(socket, index, network.mtu)
    netlink.set_up(socket, index)
    return index


def _add_address(socket: netlink.Socket, index: int, network: "Network") -> None:
    try:
        netlink.add_address(socket, index, pack(network.gateway), network.prefix)
    except FileExistsError:
        pass


def _add_veth(here: netlink.Socket, endpoint: "Endpoint", mac: bytes, netns_fd: int, master: int) -> None:
    inner = f"eth{endpoint.number}"
    for attempt in (1, 2):
        try:
            netlink.add_veth(here, endpoint.interface, inner, peer_mac=mac, peer_netns_fd=netns_fd, master=master)
        except FileExistsError:  # left by a monitor that was killed: its namespace may be dying still
            if attempt == 2:
                raise
            detach(endpoint.interface)
        else:
            return


def _delete(socket: netlink.Socket, index: int) -> None:
    try:
        netlink.delete_link(socket, index)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _without_ipv6(interface: str) -> None:
    """Keep IPv6 off an interface: there is none on our networks.

    SECURITY: else any container could be a router for the machine and for its neighbours, by one advertisement
    (CVE-2020-13401).
    """
    try:
        _write(f"{_SETTINGS}/ipv6/conf/{interface}/disable_ipv6", "1")
    except FileNotFoundError:
        pass  # a kernel without IPv6


def _switch_on(name: str) -> None:
    """Set a switch of net to 1 where it is 0."""
    path = f"{_SETTINGS}/{name}"
    with open(path, encoding="utf-8") as file:
        if file.read().strip() != "0":
            return
    try:
        _write(path, "1")
    except OSError as error:
        dotted = "net." + name.replace("/", ".")
        raise Unsupported(
            f"the kernel's setting `{dotted}` is 0 and cannot be changed",
            hints=(f"`sysctl -w {dotted}=1`", "run with `--network host`"),
        ) from error


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
