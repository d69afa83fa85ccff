"""nftables over netlink: tables, chains, rules, maps and their elements, as messages of one transaction. Hot path.

A `Batch` collects messages; `commit` sends them between BATCH_BEGIN and BATCH_END, and the kernel takes all or none.
Who looks before he changes asks for the `generation` first and commits against it: where somebody else has changed the
ruleset meanwhile the kernel refuses with ERESTART, and he looks again.
Expressions are encoded as the nft program does it. Registers: 1 to 4 have 16 bytes each; 8 to 23 are their 4-byte
parts, so register 8 is the first word of register 1. linux/netfilter/nf_tables.h.
"""

import errno
import struct

from sampan.kernel import netlink
from sampan.kernel.netlink import attribute, nest, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

IPV4 = 2  # NFPROTO_IPV4
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SUBSYSTEM = 10 << 8
(_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE, _GETRULE, _DELRULE, _NEWSET) = range(10)
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14
_GETGEN = 16
# Hooks of linux/netfilter.h, verdicts, chain priorities of linux/netfilter_ipv4.h.
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
DROP, ACCEPT = 0, 1
# Key and data types as nft numbers them, for its listing only; six bits each in a concatenation.
TYPE_IPV4, TYPE_PROTOCOL, TYPE_PORT = 7, 12, 13
_SET_MAP = 8
_MESSAGE = struct.Struct(">BBH")
_RETURN_ERRNOS = (errno.ENOENT,)


class Batch:
    """Messages that take effect together."""

    __slots__ = ("_messages",)

    def __init__(self) -> None:
        self._messages: list[tuple[int, int, bytes]] = []

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to commit."""
        return not self._messages

    def table(self, name: str, comment: str) -> None:
        """Add a table with a comment; where it is there it stays as it is."""
        self._add(_NEWTABLE, netlink.CREATE, text(1, name) + attribute(6, _comment(comment)))

    def delete_table(self, name: str) -> None:
        """Delete a table with all in it."""
        self._add(_DELTABLE, 0, text(1, name))

    def base_chain(self, table: str, name: str, kind: str, hook: int, priority: int) -> None:
        """Add a chain of `kind` (filter, nat) at a hook, policy accept."""
        at = nest(4, attribute(1, struct.pack(">I", hook)), attribute(2, struct.pack(">i", priority)))
        self._add(_NEWCHAIN, netlink.CREATE, text(1, table) + text(3, name) + at + text(7, kind))

    def rule(self, table: str, chain: str, expressions: "Iterable[bytes]", *, prepend: bool = False) -> None:
        """Add a rule at the chain's end, or its beginning; rules of ours carry the comment `sampan`."""
        flags = netlink.CREATE | (0 if prepend else netlink.APPEND)
        body = text(1, table) + text(2, chain) + nest(4, *(nest(1, e) for e in expressions))
        body += attribute(7, _comment(COMMENT))
        self._add(_NEWRULE, flags, body)

    def delete_rule(self, table: str, chain: str, handle: int) -> None:
        """Delete a rule by its handle."""
        self._add(_DELRULE, 0, text(1, table) + text(2, chain) + attribute(3, struct.pack(">Q", handle)))

    def map(self, table: str, name: str, key: "tuple[int, ...]", data: "tuple[int, ...]", number: int) -> None:
        """Add a map from a concatenation of types to another; `number` names it within this batch."""
        body = text(1, table) + text(2, name) + attribute(3, struct.pack(">I", _SET_MAP))
        body += attribute(4, struct.pack(">I", _concatenated(key))) + attribute(5, struct.pack(">I", 4 * len(key)))
        body += attribute(6, struct.pack(">I", _concatenated(data))) + attribute(7, struct.pack(">I", 4 * len(data)))
        self._add(_NEWSET, netlink.CREATE, body + attribute(10, struct.pack(">I", number)))

    def add_element(self, table: str, name: str, key: bytes, data: bytes) -> None:
        """Add an element to a map; no error where it is there, EEXIST or EBUSY where the key has another value."""
        element = nest(1, nest(1, attribute(1, key)), nest(2, attribute(1, data)))
        self._add(_NEWSETELEM, netlink.CREATE, text(1, table) + text(2, name) + nest(3, element))

    def delete_element(self, table: str, name: str, key: bytes) -> None:
        """Delete an element; ENOENT where it is not there."""
        self._add(_DELSETELEM, 0, text(1, table) + text(2, name) + nest(3, nest(1, nest(1, attribute(1, key)))))

    def commit(self, socket: netlink.Socket, generation: int = 0) -> None:
        """Have the kernel take all messages or none; raises OSError for the first that it refused.

        With a `generation` it refuses all with ERESTART where that is past.
        """
        begin = (_BATCH_BEGIN, 0, _MESSAGE.pack(0, 0, 10) + (_u32(1, generation) if generation else b""))
        end = (_BATCH_END, 0, _MESSAGE.pack(0, 0, 10))
        # The last message alone asks for an answer: a failed one answers in any case.
        *first, (kind, flags, payload) = self._messages
        socket.batch([begin, *first, (kind, flags | netlink.ACK, payload), end])

    def _add(self, kind: int, flags: int, body: bytes) -> None:
        self._messages.append((_SUBSYSTEM | kind, flags, _MESSAGE.pack(IPV4, 0, 0) + body))


COMMENT = "sampan"


def generation(socket: netlink.Socket) -> int:
    """Return the number of the ruleset as it is now; each change has another."""
    (answer,) = socket.request(_SUBSYSTEM | _GETGEN, 0, _MESSAGE.pack(0, 0, 0))
    return int.from_bytes(netlink.parse(answer[4:])[1], "big")


def table_comment(socket: netlink.Socket, table: str) -> str | None:
    """Return a table's comment, `""` where it has none, None where there is no such table."""
    try:
        (answer,) = socket.request(_SUBSYSTEM | _GETTABLE, 0, _MESSAGE.pack(IPV4, 0, 0) + text(1, table))
    except OSError as error:
        if error.errno in _RETURN_ERRNOS:
            return None
        raise
    data = netlink.parse(answer[4:]).get(6, b"")
    return data[2:].rstrip(b"\0").decode("utf-8", "replace")


def has_chain(socket: netlink.Socket, table: str, chain: str) -> bool:
    """Tell whether a chain is there."""
    try:
        body = _MESSAGE.pack(IPV4, 0, 0) + text(1, table) + text(3, chain)
        return bool(socket.request(_SUBSYSTEM | _GETCHAIN, 0, body))
    except OSError as error:
        if error.errno in _RETURN_ERRNOS:
            return False
        raise


def elements(socket: netlink.Socket, table: str, name: str) -> list[tuple[bytes, bytes]]:
    """Return (key, data) of every element of a map; empty where the map is not there."""
    found = []
    body = _MESSAGE.pack(IPV4, 0, 0) + text(1, table) + text(2, name)
    try:
        answers = socket.request(_SUBSYSTEM | _GETSETELEM, netlink.DUMP, body)
    except OSError as error:
        if error.errno in _RETURN_ERRNOS:
            return []
        raise
    for payload in answers:
        for element in _items(netlink.parse(payload[4:]).get(3, b"")):
            parts = netlink.parse(element)
            found.append(tuple(netlink.parse(parts.get(kind, b"")).get(1, b"") for kind in (1, 2)))
    return [(key, data) for key, data in found]


def our_rules(socket: netlink.Socket, table: str, chain: str) -> list[tuple[int, bytes]]:
    """Return (handle, encoded expressions) of the rules of a chain that carry our comment."""
    found = []
    body = _MESSAGE.pack(IPV4, 0, 0) + text(1, table) + text(2, chain)
    for payload in socket.request(_SUBSYSTEM | _GETRULE, netlink.DUMP, body):
        parts = netlink.parse(payload[4:])
        if parts.get(7) == _comment(COMMENT) and 3 in parts:
            found.append((int.from_bytes(parts[3], "big"), parts.get(4, b"")))
    return found


# --- expressions ----------------------------------------------------------------------------------------------------


def meta(key: int, register: int) -> bytes:
    """Load meta information: PROTOCOL 16, IIFNAME 6, OIFNAME 7 of enum nft_meta_keys."""
    return _expression("meta", _u32(2, key), _u32(1, register))


META_IIFNAME, META_OIFNAME, META_L4PROTO = 6, 7, 16


def payload(base: int, offset: int, length: int, register: int) -> bytes:
    """Load packet bytes: base 1 is the network header, 2 the transport header."""
    return _expression("payload", _u32(1, register), _u32(2, base), _u32(3, offset), _u32(4, length))


def compare(register: int, value: bytes, *, is_equal: bool = True) -> bytes:
    """Go on only where the register equals `value`, or does not."""
    return _expression("cmp", _u32(1, register), _u32(2, 0 if is_equal else 1), nest(3, attribute(1, value)))


def mask(register: int, mask_bytes: bytes) -> bytes:
    """And the register with `mask_bytes`."""
    zero = bytes(len(mask_bytes))
    return _expression(
        "bitwise",
        _u32(1, register),
        _u32(2, register),
        _u32(3, len(mask_bytes)),
        nest(4, attribute(1, mask_bytes)),
        nest(5, attribute(1, zero)),
    )


def is_local_destination() -> bytes:
    """Load the address type of the destination (result 3, flag daddr 2) into register 1; RTN_LOCAL is 2."""
    return _expression("fib", _u32(1, 1), _u32(2, 3), _u32(3, 2))


def conntrack(key: int, register: int) -> bytes:
    """Load connection state: STATE 0, STATUS 2 of enum nft_ct_keys."""
    return _expression("ct", _u32(2, key), _u32(1, register))


CT_STATE, CT_STATUS = 0, 2
# Host byte order, as the registers have them: established | related, IPS_DST_NAT.
ESTABLISHED_RELATED = struct.pack("=I", 2 | 4)
DST_NAT = struct.pack("=I", 1 << 5)


def load(register: int, value: bytes) -> bytes:
    """Load `value` into a register."""
    return _expression("immediate", _u32(1, register), nest(2, attribute(1, value)))


def lookup(name: str, number: int, source: int, target: int) -> bytes:
    """Look up the key in register `source` in a map; go on with its data in `target`, else with the next rule."""
    return _expression("lookup", text(1, name), _u32(2, source), _u32(3, target), _u32(4, number))


def destination_nat() -> bytes:
    """Translate the destination to the address in register 8 and the port in register 9."""
    return _expression("nat", _u32(1, 1), _u32(2, IPV4), _u32(3, 1), _u32(5, 9), _u32(7, 2))


def masquerade() -> bytes:
    """Translate the source to the address of the interface that the packet leaves by."""
    return _expression("masq")


def counter() -> bytes:
    """Count packets: iptables-nft prints rules with one only."""
    return _expression("counter", attribute(1, bytes(8)), attribute(2, bytes(8)))


def verdict(code: int) -> bytes:
    """End with ACCEPT or DROP."""
    return _expression("immediate", _u32(1, 0), nest(2, nest(2, _u32(1, code))))


def interface(name: str) -> bytes:
    """Encode an interface name for a comparison with META_IIFNAME or META_OIFNAME."""
    return name.encode().ljust(16, b"\0")


def _comment(value: str) -> bytes:
    """User data: type 0 (comment), length, NUL-terminated text, as nft and iptables-nft read it."""
    data = value.encode() + b"\0"
    return struct.pack("BB", 0, len(data)) + data


def _expression(name: str, *parts: bytes) -> bytes:
    return text(1, name) + nest(2, *parts)


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _concatenated(types: "tuple[int, ...]") -> int:
    result = 0
    for number in types:
        result = result << 6 | number
    return result


def _items(data: bytes) -> "list[bytes]":
    """Return the payloads of a list attribute in order."""
    items = []
    at = 0
    while at + 4 <= len(data):
        length = struct.unpack_from("=H", data, at)[0]
        if length < 4:
            break
        items.append(data[at + 4 : at + length])
        at += (length + 3) & ~3
    return items
