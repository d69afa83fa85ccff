"""User-defined networks: who reaches whom, and that nothing of them stays."""

import json
import os
import socket
import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from sampan.kernel import netlink, nftables
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip

SERVE = "mkdir -p /w; echo $0 > /w/index.html; exec httpd -f -p 80 -h /w"


def serve(sampan: Command, name: str, *words: str) -> None:
    """Start a container that serves its name on port 80."""
    sampan("run", "-d", "--name", name, *words, "busybox", "sh", "-c", SERVE, name, check=True)


def endpoint(sampan: Command, name: str, network: str) -> dict[str, str]:
    """Return a container's place on a network, as inspect tells it."""
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    place: dict[str, str] = found["NetworkSettings"]["Networks"][network]
    return place


def ask(sampan: Command, host: str, *words: str, tries: str = "1 2 3 4 5") -> str:
    """Return what a container with these words gets from port 80 of a host; `""` where it is not reached."""
    request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 $0 80 | tail -n 1"
    script = f"for i in {tries}; do {request} | grep . && exit; sleep 0.1; done"
    return sampan("run", "--rm", *words, "busybox", "sh", "-c", script, host).stdout.strip()


def test_containers_of_one_network_reach_each_other_and_no_others(sampan: Command, store: Store) -> None:
    """By address within a network; not from another one, not from the default one; the machine itself does."""
    for name in ("front", "back"):
        sampan("network", "create", name, check=True)
    serve(sampan, "web", "--network", "front")
    address = endpoint(sampan, "web", "front")["IPAddress"]
    assert ask(sampan, address, "--network", "front") == "web"
    assert ask(sampan, address, "--network", "back", tries="1") == ""
    assert ask(sampan, address, tries="1") == ""
    # One that is on both has a way to either, and one way out.
    both = ("--network", "back", "--network", "front")
    assert ask(sampan, address, *both) == "web"
    routes = sampan("run", "--rm", *both, "busybox", "ip", "route", check=True).stdout
    assert routes.count("default") == 1
    assert "eth1" in routes
    with socket.create_connection((address, 80), timeout=5):
        pass
    sampan("rm", "-f", "web", check=True)
    assert store.left(sampan) == []


def test_a_network_goes_when_it_is_removed(sampan: Command, store: Store) -> None:
    """Not while a container runs on it; then bridge, table and row go. What names it does not start any more."""
    made = sampan("network", "create", "--label", "a=b", "front", check=True).stdout.strip()
    sampan("run", "-d", "--name", "web", "--network", "front", "busybox", "sleep", "1000", check=True)
    interface = f"smpbr{made[:10]}"
    assert netlink.index_of(interface) is not None
    refused = sampan("network", "rm", "front")
    assert refused.returncode == 1
    assert "`web`" in refused.stderr
    assert sampan("network", "prune", "-f", check=True).stdout == ""
    sampan("stop", "-t", "0", "web", check=True)
    assert sampan("network", "rm", made[:8], check=True).stdout == "front\n"
    assert netlink.index_of(interface) is None
    with netlink.Socket(netlink.NETFILTER) as netfilter:
        assert nftables.table_comment(netfilter, interface) is None
    started = sampan("start", "web")
    assert started.returncode == 1
    assert "`front`" in started.stderr
    sampan("rm", "web", check=True)
    assert store.left(sampan) == []


def test_an_internal_network_has_no_way_out(sampan: Command) -> None:
    """Its containers reach each other, and neither the rest of the world nor a port that somebody publishes there."""
    sampan("network", "create", "--internal", "back", check=True)
    serve(sampan, "db", "--network", "back")
    address = endpoint(sampan, "db", "back")["IPAddress"]
    assert ask(sampan, address, "--network", "back") == "db"
    routes = sampan("run", "--rm", "--network", "back", "busybox", "ip", "route", check=True).stdout
    assert "default" not in routes
    refused = sampan("run", "--rm", "--network", "back", "-p", "80", "busybox", "true")
    assert refused.returncode == 125
    assert "internal" in refused.stderr
    sampan("rm", "-f", "db", check=True)


def test_a_subnet_and_an_address_of_one_s_choice(sampan: Command) -> None:
    """They are what was asked for; what cannot be is refused with the reason."""
    sampan("network", "create", "--subnet", "10.199.8.0/24", "--gateway", "10.199.8.254", "own", check=True)
    words = ("--network", "own", "--ip", "10.199.8.77", "busybox")
    shown = sampan("run", "--rm", *words, "ip", "route", check=True).stdout
    assert "default via 10.199.8.254" in shown
    assert "src 10.199.8.77" in shown
    refusals = {
        ("network", "create", "--subnet", "10.199.8.128/25", "two"): "overlaps",
        ("network", "create", "--subnet", "10.199.9.1/24", "two"): "10.199.9.0/24",
        ("network", "create", "--subnet", "10.199.9.0/24", "--gateway", "10.1.1.1", "two"): "gateway",
        ("network", "create", "own"): "exists",
        ("network", "create", "host"): "always there",
        ("network", "create", "-d", "overlay", "two"): "overlay",
        ("run", "--rm", "--network", "own", "--ip", "10.199.8.254", "busybox", "true"): "10.199.8.254",
        ("run", "--rm", "--network", "own", "--ip", "10.1.1.1", "busybox", "true"): "subnet",
        ("run", "--rm", "--ip", "10.1.1.1", "busybox", "true"): "nobody chooses",
        ("run", "--rm", "--network", "none", "--network", "own", "busybox", "true"): "excludes",
        ("run", "--rm", "--network", "nowhere", "busybox", "true"): "`nowhere`",
    }
    for line, reason in refusals.items():
        done = sampan(*line)
        assert done.returncode in (1, 125), line
        assert reason in done.stderr, line


def test_a_published_port_leads_to_the_network_with_the_way_out(sampan: Command, store: Store) -> None:
    """The first that is not internal, in whatever order they were named."""
    sampan("network", "create", "--internal", "back", check=True)
    sampan("network", "create", "front", check=True)
    serve(sampan, "web", "--network", "back", "--network", "front", "-p", "127.0.0.1::80")
    (found,) = json.loads(sampan("inspect", "web", check=True).stdout)
    port = int(found["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    deadline = time.monotonic() + 5
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    sampan("rm", "-f", "web", check=True)
    assert store.left(sampan) == []


@pytest.mark.parametrize("point", ["monitor-created", "monitor-networked", "monitor-running", "monitor-ended"])
def test_a_monitor_that_was_killed_leaves_no_link(
    sampan: Command, environment: dict[str, str], store: Store, point: str
) -> None:
    """Neither of its networks has a port, and both can be removed."""
    made = [sampan("network", "create", name, check=True).stdout for name in ("front", "back")]
    environment["SAMPAN_FAULT"] = point
    sampan("run", "--rm", "--network", "front", "--network", "back", "busybox", "sleep", "0.2")
    del environment["SAMPAN_FAULT"]
    time.sleep(0.4)
    assert store.left(sampan) == []
    sampan("network", "rm", "front", "back", check=True)
    assert not {f"smpbr{id[:10]}" for id in made} & set(os.listdir("/sys/class/net"))


def test_names_are_found(sampan: Command, store: Store) -> None:
    """A container, its aliases and its short id, at once and after the monitor has renewed itself, until it stops.

    Not on the default network, whose resolv.conf names the machine's servers.
    """
    sampan("network", "create", "front", check=True)
    words = ("--network", "front", "--network-alias", "www", "--network-alias", "Site")
    id = sampan("run", "-d", "--name", "web", *words, "busybox", "sleep", "1000", check=True).stdout.strip()
    address = endpoint(sampan, "web", "front")["IPAddress"]
    sampan("run", "-d", "--name", "asker", "--network", "front", "busybox", "sleep", "1000", check=True)

    def look_up(name: str) -> str:
        return sampan("exec", "asker", "nslookup", name).stdout

    for name in ("web", "www", "site", id[:12], "web.front"):
        assert f"Address: {address}\n" in look_up(name)
    assert "web.front" in look_up(address)
    time.sleep(1.6)
    assert f"Address: {address}\n" in look_up("www")
    sampan("stop", "-t", "0", "web", check=True)
    assert address not in look_up("www")
    assert "nameserver 127.0.0.11\n" in sampan("exec", "asker", "cat", "/etc/resolv.conf", check=True).stdout
    assert "127.0.0.11" not in sampan("run", "--rm", "busybox", "cat", "/etc/resolv.conf", check=True).stdout
    sampan("rm", "-f", "web", "asker", check=True)
    assert store.left(sampan) == []
