"""The firewall: a table for each bridge, and a way through a forward chain that somebody else closed. Hot path.

    chain guard    filter, prerouting, raw     nothing from a container to 127/8, nor from a neighbour to what is
                                               published there: the kernel would drop it, were it not translated first
    chain publish  nat, prerouting, dstnat     addressed to this machine, and published -> the container
    chain local    nat, output                 the same for what this machine itself sends
    chain leave    nat, postrouting, srcnat    containers go out as the host; hairpins and 127/8 come as the bridge
    chain forward  filter, forward             into the bridge: answers, published ports, other containers; no more;
                                               an internal network: neither in nor out

    map published     protocol . port            -> address . port      -p 8000:5000
    map published_at  address . protocol . port  -> address . port      -p 127.0.0.1:8000:5000

The table is static; a container adds and deletes elements of the two maps. Its comment names its edition: another one
is replaced in one transaction that keeps the elements. All of it can be put right from records.

Docker and ufw set the policy of `ip filter FORWARD` to drop, which an accept of ours cannot override, so where that
chain stands two accepts for our bridge are put before its rules: plain ones with a counter, since one native expression
there makes iptables-save fail.
"""

import errno
import os
import struct

from sampan.errors import AlreadyExists, Unavailable, Unsupported
from sampan.kernel import netlink
from sampan.kernel import nftables as nft
from sampan.network.endpoint import ANY, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.network.endpoint import Endpoint, PortMapping
    from sampan.network.ipam import Network

_PUBLISHED, _PUBLISHED_AT = "published", "published_at"
# What the rules below are called; one more with every change of them.
_EDITION = "sampan, edition 2"
_ATTEMPTS = 20
_RAW, _DSTNAT, _FILTER, _SRCNAT = -300, -100, -10, 100
_LOOPBACK = b"\x7f\0\0\0"
_PROTOCOLS = {"tcp": 6, "udp": 17}
# What a kernel without one of the expressions answers.
_ABSENT = (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT)


def table_of(interface: str) -> str:
    """Return the name of the table that belongs to a bridge."""
    return "sampan" if interface == "sampan0" else interface


def _comment(network: "Network") -> str:
    """Return what tells our table from one of another edition, or of a store that somebody deleted."""
    return f"{_EDITION}, {network.subnet}/{network.prefix}"


def ensure(network: "Network") -> bool:
    """Have the table stand for `network`, and its bridge pass others' forward chains; tell whether it was made.

    Idempotent, and several processes may do it at once. Where it was made, what other containers have published is
    gone: `publish` puts it back.
    """
    with _netfilter() as socket:
        for _ in range(_ATTEMPTS):
            generation = nft.generation(socket)
            batch = nft.Batch()
            found = nft.table_comment(socket, table_of(network.interface))
            if found != _comment(network):
                _make(socket, batch, network, found)
            _pass_others(socket, batch, network.interface)
            if batch.is_empty or _commit(batch, socket, generation):
                return found is None
    raise Unavailable("the firewall is being changed by others all the time", hints=("try again",))


def publish(endpoint: "Endpoint") -> None:
    """Send the published ports' traffic to the container; raises AlreadyExists for one that another container has.

    Idempotent; all of them or none.
    """
    if not endpoint.ports:
        return
    batch = nft.Batch()
    for port in endpoint.ports:
        name, key = _key(port)
        data = pack(endpoint.address) + struct.pack(">Hxx", port.container_port)
        batch.add_element(table_of(endpoint.bridge), name, key, data)
    with netlink.Socket(netlink.NETFILTER) as socket:
        try:
            batch.commit(socket)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EEXIST):
                raise
            raise AlreadyExists(f"a published port of {endpoint.address} belongs to another container") from error
        datagrams = [port.host_port for port in endpoint.ports if port.protocol == "udp"]
        if datagrams:
            from sampan.kernel import conntrack

            conntrack.forget_udp(socket, datagrams)


def unpublish(endpoint: "Endpoint") -> None:
    """Take the container's elements away. Idempotent: only those go that still lead to it."""
    if endpoint.ports:
        wanted = {(*_key(port), pack(endpoint.address)) for port in endpoint.ports}
        _delete(table_of(endpoint.bridge), wanted)


def sweep(network: "Network", addresses: "Iterable[str]") -> None:
    """Take away every element of the network that leads to none of `addresses`."""
    table = table_of(network.interface)
    known = {pack(address) for address in addresses}
    with netlink.Socket(netlink.NETFILTER) as socket:
        stale = [
            (name, key, data[:4])
            for name in (_PUBLISHED, _PUBLISHED_AT)
            for key, data in nft.elements(socket, table, name)
            if data[:4] not in known
        ]
    _delete(table, set(stale))


def remove(network: "Network") -> None:
    """Take away all of ours: the table, and the rules in others' chains. Idempotent."""
    with netlink.Socket(netlink.NETFILTER) as socket:
        if nft.has_chain(socket, "filter", "FORWARD"):
            for handle, expressions in nft.our_rules(socket, "filter", "FORWARD"):
                if nft.interface(network.interface) in expressions:
                    batch = nft.Batch()
                    batch.delete_rule("filter", "FORWARD", handle)
                    _commit_if_there(batch, socket)
        batch = nft.Batch()
        batch.delete_table(table_of(network.interface))
        _commit_if_there(batch, socket)


def _netfilter() -> netlink.Socket:
    """Return a socket; raises Unsupported where the kernel has no nf_tables at all."""
    try:
        socket = netlink.Socket(netlink.NETFILTER)
    except OSError as error:
        raise _no_netfilter() from error
    try:
        nft.generation(socket)
    except OSError as error:
        socket.close()
        if error.errno in (*_ABSENT, errno.EINVAL):  # EINVAL: nfnetlink without the subsystem
            raise _no_netfilter() from error
        raise
    return socket


def _no_netfilter() -> Unsupported:
    return Unsupported(
        "this kernel cannot translate addresses with nftables",
        hints=("`modprobe -a nf_tables nft_nat nft_masq nft_fib_ipv4`", "run with `--network host`"),
    )


def _commit_if_there(batch: nft.Batch, socket: netlink.Socket) -> None:
    """Delete; another process may have been first."""
    try:
        batch.commit(socket)
    except FileNotFoundError:
        pass


def _commit(batch: nft.Batch, socket: netlink.Socket, generation: int) -> bool:
    """Commit; False where the ruleset is no longer that generation."""
    try:
        batch.commit(socket, generation)
    except OSError as error:
        if error.errno == errno.ERESTART:
            return False
        if error.errno in _ABSENT:
            raise _no_netfilter() from error
        raise
    return True


def _delete(table: str, wanted: "set[tuple[str, bytes, bytes]]") -> None:
    """Delete elements (map, key, address it leads to), those that are still there."""
    if not wanted:
        return
    socket = netlink.Socket(netlink.NETFILTER)
    try:
        for name in (_PUBLISHED, _PUBLISHED_AT):
            present = {(name, key, data[:4]) for key, data in nft.elements(socket, table, name)}
            for _, key, _ in present & wanted:
                batch = nft.Batch()
                batch.delete_element(table, name, key)
                _commit_if_there(batch, socket)
    finally:
        _close_later(socket)


# Sockets that have deleted something, with the process that has them: one at most.
_deleters: "list[tuple[int, netlink.Socket]]" = []


def _close_later(socket: netlink.Socket) -> None:
    """Close it at the next deletion, or with this process.

    NOTE(kernel): closing waits until what was deleted is freed, some 10 ms, and somebody waits for the port.
    """
    while _deleters:
        pid, before = _deleters.pop()
        if pid == os.getpid():
            before.close()
        else:
            before.detach()  # a fork closed that descriptor long ago, and its number is another's
    _deleters.append((os.getpid(), socket))


def _key(port: "PortMapping") -> tuple[str, bytes]:
    key = struct.pack(">BxxxHxx", _PROTOCOLS[port.protocol], port.host_port)
    return (_PUBLISHED, key) if port.host_ip == ANY else (_PUBLISHED_AT, pack(port.host_ip) + key)


def _make(socket: netlink.Socket, batch: nft.Batch, network: "Network", found: str | None) -> None:
    """Plan the table with all its chains and rules; one that is there, with the comment `found`, is replaced.

    Its elements are kept where only the edition is another: a store that was deleted publishes nothing any more.
    """
    table = table_of(network.interface)
    kept = []
    if found is not None:
        maps = (_PUBLISHED, _PUBLISHED_AT) if found.endswith(_comment(network).removeprefix(_EDITION)) else ()
        kept = [(name, key, data) for name in maps for key, data in nft.elements(socket, table, name)]
        batch.delete_table(table)
    batch.table(table, _comment(network))
    target = (nft.TYPE_IPV4, nft.TYPE_PORT)
    batch.map(table, _PUBLISHED, (nft.TYPE_PROTOCOL, nft.TYPE_PORT), target, 1)
    batch.map(table, _PUBLISHED_AT, (nft.TYPE_IPV4, nft.TYPE_PROTOCOL, nft.TYPE_PORT), target, 2)
    batch.base_chain(table, "guard", "filter", nft.PREROUTING, _RAW)
    batch.base_chain(table, "publish", "nat", nft.PREROUTING, _DSTNAT)
    batch.base_chain(table, "local", "nat", nft.OUTPUT, _DSTNAT)
    batch.base_chain(table, "leave", "nat", nft.POSTROUTING, _SRCNAT)
    batch.base_chain(table, "forward", "filter", nft.FORWARD, _FILTER)
    for chain, rule in _rules(network):
        batch.rule(table, chain, rule)
    for name, key, data in kept:
        batch.add_element(table, name, key, data)


def _rules(network: "Network") -> "list[tuple[str, list[bytes]]]":
    """Return (chain, expressions) of every rule, in order."""
    from_bridge, to_bridge = (_name_is(key, network.interface) for key in (nft.META_IIFNAME, nft.META_OIFNAME))
    not_to_bridge = _name_is(nft.META_OIFNAME, network.interface, is_equal=False)
    not_from_bridge = _name_is(nft.META_IIFNAME, network.interface, is_equal=False)
    to_loopback, from_loopback = _network_is(16, _LOOPBACK, 8), _network_is(12, _LOOPBACK, 8)
    from_subnet = _network_is(12, pack(network.subnet), network.prefix)
    is_published = _has(nft.CT_STATUS, nft.DST_NAT)
    is_answer = _has(nft.CT_STATE, nft.ESTABLISHED_RELATED)
    accept, drop, masquerade = nft.verdict(nft.ACCEPT), nft.verdict(nft.DROP), nft.masquerade()
    at_address, anywhere = _translations()
    if network.is_internal:
        ways = [*from_bridge, *not_to_bridge, drop], [*to_bridge, *not_from_bridge, drop]
        return [("guard", [*from_bridge, *to_loopback, drop]), *(("forward", way) for way in ways)]
    return [
        ("guard", [*from_bridge, *to_loopback, drop]),
        # SECURITY: a translation comes before the routing that knows 127/8 for a martian.
        ("guard", [*_name_is(nft.META_IIFNAME, "lo", is_equal=False), *to_loopback, *_published_at(), drop]),
        *((chain, rule) for chain in ("publish", "local") for rule in (at_address, anywhere)),
        *([("leave", [*not_to_bridge, *from_subnet, masquerade])] if network.is_masked else []),
        ("leave", [*to_bridge, *from_loopback, masquerade]),
        ("leave", [*to_bridge, *from_subnet, *is_published, masquerade]),
        ("forward", [*to_bridge, *not_from_bridge, *is_published, accept]),
        ("forward", [*to_bridge, *not_from_bridge, *is_answer, accept]),
        ("forward", [*to_bridge, *not_from_bridge, drop]),
    ]


def _translations() -> "tuple[list[bytes], list[bytes]]":
    """Return the rules that look a packet up in both maps, the more particular one first."""
    is_local = [nft.is_local_destination(), nft.compare(1, struct.pack("=I", 2))]
    anywhere = [nft.meta(nft.META_L4PROTO, 8), nft.payload(2, 2, 2, 9), nft.lookup(_PUBLISHED, 1, 8, 1)]
    return (
        [*is_local, *_published_at(), nft.destination_nat()],
        [*is_local, *anywhere, nft.destination_nat()],
    )


def _published_at() -> list[bytes]:
    """Go on only where the packet's destination is published at that very address."""
    address = nft.payload(1, 16, 4, 8)
    return [address, nft.meta(nft.META_L4PROTO, 9), nft.payload(2, 2, 2, 10), nft.lookup(_PUBLISHED_AT, 2, 8, 1)]


def _name_is(key: int, interface: str, *, is_equal: bool = True) -> list[bytes]:
    return [nft.meta(key, 1), nft.compare(1, nft.interface(interface), is_equal=is_equal)]


def _network_is(offset: int, network: bytes, prefix: int) -> list[bytes]:
    bits = struct.pack(">I", (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF)
    return [nft.payload(1, offset, 4, 1), nft.mask(1, bits), nft.compare(1, network)]


def _has(key: int, bits: bytes) -> list[bytes]:
    return [nft.conntrack(key, 1), nft.mask(1, bits), nft.compare(1, bytes(4), is_equal=False)]


def _pass_others(socket: netlink.Socket, batch: nft.Batch, interface: str) -> None:
    """Plan accepts for our bridge before the rules of `ip filter FORWARD`, where that stands and has them not."""
    if not nft.has_chain(socket, "filter", "FORWARD"):
        return
    present = [expressions for _, expressions in nft.our_rules(socket, "filter", "FORWARD")]
    if any(nft.interface(interface) in expressions for expressions in present):
        return
    for key in (nft.META_IIFNAME, nft.META_OIFNAME):
        rule = [*_name_is(key, interface), nft.counter(), nft.verdict(nft.ACCEPT)]
        batch.rule("filter", "FORWARD", rule, prepend=True)
