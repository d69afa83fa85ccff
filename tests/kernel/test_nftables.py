"""nftables: transactions that take effect whole or not at all, against the ruleset that was looked at."""

import errno
import os
import struct
from collections.abc import Iterator

import pytest

from sampan.kernel import conntrack, netlink, nftables, syscalls

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.netns]

_KEY = struct.pack(">BxxxHxx", 6, 8000)
_DATA, _OTHER = (bytes([10, 1, 0, host]) + struct.pack(">Hxx", 5000) for host in (2, 3))


@pytest.fixture
def netfilter() -> Iterator[netlink.Socket]:
    """A socket of a network namespace of this test's own: its ruleset is empty, and goes with it."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    with netlink.Socket(netlink.NETFILTER) as made:
        syscalls.setns(own, syscalls.CLONE_NEWNET)
        os.close(own)
        yield made


def _table(netfilter: netlink.Socket, name: str = "t") -> None:
    batch = nftables.Batch()
    batch.table(name, "a comment")
    batch.map(name, "m", (nftables.TYPE_PROTOCOL, nftables.TYPE_PORT), (nftables.TYPE_IPV4, nftables.TYPE_PORT), 1)
    batch.base_chain(name, "c", "filter", nftables.FORWARD, 0)
    batch.commit(netfilter)


def test_all_or_none(netfilter: netlink.Socket) -> None:
    """One message that the kernel refuses takes those before and after it with it, and the socket goes on working."""
    batch = nftables.Batch()
    assert batch.is_empty
    batch.table("t", "a comment")
    batch.rule("t", "no-such-chain", [nftables.verdict(nftables.DROP)])
    batch.table("u", "")
    with pytest.raises(FileNotFoundError):
        batch.commit(netfilter)
    assert nftables.table_comment(netfilter, "t") is None
    assert nftables.table_comment(netfilter, "u") is None
    _table(netfilter)
    assert nftables.table_comment(netfilter, "t") == "a comment"


def test_a_past_generation_is_refused(netfilter: netlink.Socket) -> None:
    """Who looked before somebody else's change does not make his own; each change has a generation of its own."""
    before = nftables.generation(netfilter)
    _table(netfilter)
    assert nftables.generation(netfilter) != before
    batch = nftables.Batch()
    batch.table("u", "late")
    with pytest.raises(OSError, match="restarted") as refused:
        batch.commit(netfilter, before)
    assert refused.value.errno == errno.ERESTART
    assert nftables.table_comment(netfilter, "u") is None
    batch.commit(netfilter, nftables.generation(netfilter))
    assert nftables.table_comment(netfilter, "u") == "late"


def test_elements_of_a_map(netfilter: netlink.Socket) -> None:
    """They are read back; the same again is none of an error, another value for the key is; gone is gone."""
    _table(netfilter)
    for _ in range(2):
        batch = nftables.Batch()
        batch.add_element("t", "m", _KEY, _DATA)
        batch.commit(netfilter)
    assert nftables.elements(netfilter, "t", "m") == [(_KEY, _DATA)]
    batch = nftables.Batch()
    batch.add_element("t", "m", _KEY, _OTHER)
    with pytest.raises(OSError, match=r"busy|exists"):
        batch.commit(netfilter)
    batch = nftables.Batch()
    batch.delete_element("t", "m", _KEY)
    batch.commit(netfilter)
    with pytest.raises(FileNotFoundError):
        batch.commit(netfilter)
    assert nftables.elements(netfilter, "t", "m") == []
    assert nftables.elements(netfilter, "t", "no-such-map") == []


def test_many_elements_come_in_many_messages(netfilter: netlink.Socket) -> None:
    """As many as a container may publish, in one transaction, and all of them back."""
    _table(netfilter)
    batch = nftables.Batch()
    keys = {struct.pack(">BxxxHxx", 6, port) for port in range(1, 1025)}
    for key in keys:
        batch.add_element("t", "m", key, _DATA)
    batch.commit(netfilter)
    assert {key for key, _ in nftables.elements(netfilter, "t", "m")} == keys


def test_only_our_rules_are_ours(netfilter: netlink.Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a chain that others use too ours are told by their comment, and come out one by one."""
    _table(netfilter)
    monkeypatch.setattr(nftables, "COMMENT", "sampan's neighbour")
    _add_rule(netfilter, nftables.META_IIFNAME, "theirs0")
    monkeypatch.undo()
    _add_rule(netfilter, nftables.META_OIFNAME, "ours0")
    ((handle, expressions),) = nftables.our_rules(netfilter, "t", "c")
    assert nftables.interface("ours0") in expressions
    batch = nftables.Batch()
    batch.delete_rule("t", "c", handle)
    batch.commit(netfilter)
    assert nftables.our_rules(netfilter, "t", "c") == []
    assert nftables.has_chain(netfilter, "t", "c")
    assert not nftables.has_chain(netfilter, "t", "d")


def _add_rule(netfilter: netlink.Socket, key: int, name: str) -> None:
    batch = nftables.Batch()
    expressions = [nftables.meta(key, 1), nftables.compare(1, nftables.interface(name)), nftables.counter()]
    batch.rule("t", "c", [*expressions, nftables.verdict(nftables.ACCEPT)], prepend=True)
    batch.commit(netfilter)


def test_forgetting_flows_that_are_not_there(netfilter: netlink.Socket) -> None:
    """Without a flow there is nothing to forget, and no error."""
    conntrack.forget_udp(netfilter, (53, 5353))
