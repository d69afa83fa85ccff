"""Networks of containers that are there already, and what a network may be told when it is made."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.engine.conftest import Store, fetch

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip

SERVE = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w"


def _run(sampan: Command, name: str, *words: str, script: str = "sleep 1000") -> None:
    sampan("run", "-d", "--name", name, *words, "busybox", "sh", "-c", script, check=True)


def _inside(sampan: Command, name: str, script: str) -> str:
    return sampan("exec", name, "sh", "-c", script, check=True).stdout


def _networks(sampan: Command, name: str) -> dict[str, dict[str, str]]:
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    networks: dict[str, dict[str, str]] = found["NetworkSettings"]["Networks"]
    return networks


def _pid(sampan: Command, name: str) -> int:
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    return int(found["State"]["Pid"])


def test_a_running_container_is_connected_and_disconnected(sampan: Command, store: Store) -> None:
    """Interface, name, alias, /etc/hosts and inspect come and go; the way out is what is left."""
    for name in ("front", "back"):
        sampan("network", "create", name, check=True)
    _run(sampan, "web", "--network", "front", "--hostname", "inside")
    _run(sampan, "other", "--network", "back")
    sampan("network", "connect", "--alias", "www", "back", "web", check=True)
    address = _networks(sampan, "web")["back"]["IPAddress"]
    assert f"inet {address}/" in _inside(sampan, "web", "ip addr show eth1")
    assert f"{address}\tinside\n" in _inside(sampan, "web", "cat /etc/hosts")
    # Both ways: the resolver of each has learned of it.
    for name, asked in (("other", "www"), ("other", "web"), ("web", "other")):
        assert "1 packets received" in _inside(sampan, name, f"ping -c 1 -W 2 {asked}")
    sampan("network", "disconnect", "front", "web", check=True)
    words = ("--filter", "type=network", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    told = sampan("events", "--since", "1h", "--until", "0s", *words, check=True).stdout.splitlines()
    assert told[-2:] == ["connect back", "disconnect front"]
    assert sorted(_networks(sampan, "web")) == ["back"]
    assert _inside(sampan, "web", "ip route").count("default via") == 1
    assert _inside(sampan, "web", "ls /sys/class/net").split() == ["eth1", "lo"]
    assert _inside(sampan, "web", "grep -c inside /etc/hosts").strip() == "1"
    sampan("network", "disconnect", "back", "web", check=True)
    assert _networks(sampan, "web") == {}
    assert "bad address" in sampan("exec", "other", "ping", "-c", "1", "-W", "1", "web").stderr
    again = sampan("network", "disconnect", "back", "web")
    assert (again.returncode, "not on the network" in again.stderr) == (1, True)
    # From none at all there is a way back.
    sampan("network", "connect", "back", "web", check=True)
    assert "default via" in _inside(sampan, "web", "ip route")
    sampan("rm", "-f", "web", "other", check=True)
    sampan("network", "rm", "front", "back", check=True)
    assert store.left(sampan) == []


def test_what_was_connected_is_there_after_a_restart(sampan: Command, store: Store) -> None:
    """By a person, and by a restart policy: with names, where the container had none before."""
    sampan("network", "create", "front", check=True)
    _run(sampan, "other", "--network", "front")
    _run(sampan, "web", "--restart", "always")
    done = sampan("network", "connect", "front", "web", check=True)
    assert "once it is restarted" in done.stderr
    before = _pid(sampan, "web")
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _pid(sampan, "web") in {0, before}:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "1 packets received" in _inside(sampan, "web", "ping -c 1 -W 2 other")
    sampan("restart", "-t", "0", "web", check=True)
    assert sorted(_networks(sampan, "web")) == ["bridge", "front"]
    assert "1 packets received" in _inside(sampan, "web", "ping -c 1 -W 2 other")
    sampan("rm", "-f", "web", "other", check=True)
    sampan("network", "rm", "front", check=True)
    assert store.left(sampan) == []


def test_published_ports_move_to_the_network_that_is_left(sampan: Command) -> None:
    """Who takes a container off the network that its ports led to finds them on the next."""
    for name in ("front", "back"):
        sampan("network", "create", name, check=True)
    both = ("--network", "front", "--network", "back")
    _run(sampan, "web", *both, "-p", "127.0.0.1::80", script=SERVE)
    port = sampan("port", "web", "80", check=True).stdout.strip().rpartition(":")[2]
    for _ in range(2):
        assert fetch(f"http://127.0.0.1:{port}/") == b"hello\n"
        sampan("network", "disconnect", "front", "web")
    sampan("rm", "-f", "web", check=True)
    sampan("network", "rm", "front", "back", check=True)


def test_a_stopped_container_is_connected_when_it_starts(sampan: Command) -> None:
    """With the address that was asked for; a network that is in its way is not removed by prune."""
    sampan("network", "create", "--subnet", "10.98.7.0/24", "front", check=True)
    sampan("create", "--name", "web", "busybox", "sleep", "1000", check=True)
    sampan("network", "connect", "--ip", "10.98.7.9", "front", "web", check=True)
    sampan("network", "disconnect", "bridge", "web", check=True)
    assert "front" not in sampan("network", "prune", "-f", check=True).stdout
    sampan("start", "web", check=True)
    assert "10.98.7.9/24" in _inside(sampan, "web", "ip addr show eth0")
    (found,) = json.loads(sampan("inspect", "web", check=True).stdout)
    assert found["HostConfig"]["NetworkMode"] == "bridge"
    sampan("rm", "-f", "web", check=True)
    sampan("network", "rm", "front", check=True)


def test_who_is_connected_to_nothing_else(sampan: Command) -> None:
    """The machine's network, none, another container's: refused, as a network that is not there or there already."""
    sampan("network", "create", "front", check=True)
    _run(sampan, "web", "--network", "front")
    _run(sampan, "alone", "--network", "none")
    _run(sampan, "open", "--network", "host")
    _run(sampan, "guest", "--network", "container:web")
    refused = [("front", name) for name in ("web", "alone", "open", "guest", "absent")]
    for network, name in [*refused, ("host", "web"), ("none", "web"), ("absent", "web")]:
        assert sampan("network", "connect", network, name).returncode == 1, (network, name)
    assert sampan("network", "connect", "--ip6", "fd00::2", "front", "web").returncode == 1
    sampan("rm", "-f", "guest", "web", "alone", "open", check=True)
    sampan("network", "rm", "front", check=True)


def test_a_killed_monitor_s_networks_are_swept(sampan: Command, store: Store) -> None:
    """What was connected goes with the rest when the monitor is killed."""
    sampan("network", "create", "front", check=True)
    _run(sampan, "web")
    sampan("network", "connect", "front", "web", check=True)
    (id,) = store.containers()
    os.kill(store.monitor(id), signal.SIGKILL)
    sampan("rm", "-f", "web", check=True)
    sampan("network", "rm", "front", check=True)
    assert store.left(sampan) == []


def test_a_network_is_what_it_was_told_to_be(sampan: Command) -> None:
    """Name of the bridge, size of packets, range and reserved addresses; neighbours that may not reach each other."""
    options = {"bridge.name": "smtestbr0", "driver.mtu": "1400", "bridge.enable_icc": "false"}
    words = [word for key, value in options.items() for word in ("-o", f"com.docker.network.{key}={value}")]
    ranges = ("--subnet", "10.97.0.0/16", "--ip-range", "10.97.5.0/30", "--aux-address", "taken=10.97.5.1")
    sampan("network", "create", "--attachable", *ranges, *words, "front", check=True)
    for name in ("one", "two"):
        _run(sampan, name, "--network", "front", script=SERVE)
    assert "mtu 1400" in _inside(sampan, "one", "ip link show eth0")
    assert Path("/sys/class/net/smtestbr0/mtu").read_text(encoding="ascii") == "1400\n"
    addresses = {_networks(sampan, name)["front"]["IPAddress"] for name in ("one", "two")}
    assert addresses <= {f"10.97.5.{last}" for last in (0, 2, 3)}
    seen = sampan("exec", "one", "ping", "-c", "1", "-W", "1", "two")
    assert "0 packets received" in seen.stdout
    (found,) = json.loads(sampan("network", "inspect", "-v", "front", check=True).stdout)
    assert found["Options"]["com.docker.network.driver.mtu"] == "1400"
    assert found["IPAM"]["Config"][0]["IPRange"] == "10.97.5.0/30"
    assert found["IPAM"]["Config"][0]["AuxiliaryAddresses"] == {"taken": "10.97.5.1"}
    assert found["Attachable"] is True
    sampan("rm", "-f", "one", "two", check=True)
    assert (
        sampan("network", "ls", "-q", "--filter", "dangling=true", "--no-trunc", check=True).stdout
        == f"{found['Id']}\n"
    )
    assert sampan("network", "ls", "-q", "--filter", "scope=swarm", check=True).stdout == ""
    sampan("network", "rm", "front", check=True)
    assert sampan("network", "rm", "-f", "front").returncode == 0


def test_published_at_the_network_s_own_address(sampan: Command) -> None:
    """An option says where ports are published when nobody said."""
    option = "com.docker.network.bridge.host_binding_ipv4=127.0.0.1"
    sampan("network", "create", "-o", option, "front", check=True)
    _run(sampan, "web", "--network", "front", "-p", "80")
    assert sampan("port", "web", "80", check=True).stdout.startswith("127.0.0.1:")
    sampan("rm", "-f", "web", check=True)
    sampan("network", "rm", "front", check=True)


@pytest.mark.parametrize(
    "words",
    [
        ("--ipv6",), ("--ipv4=false",), ("--scope", "swarm"), ("--config-only",), ("--config-from", "other"),
        ("--ingress",), ("--ipam-driver", "other"), ("--ipam-opt", "a=b"), ("-o", "other=b"),
        ("-o", "com.docker.network.bridge.enable_icc=maybe"), ("-o", "com.docker.network.driver.mtu=abc"),
        ("-o", "com.docker.network.bridge.name=lo"), ("-o", "com.docker.network.bridge.name=sampan0"),
        ("-o", "com.docker.network.bridge.name=a/b"), ("--ip-range", "10.96.5.0/24"),
        ("--subnet", "10.96.0.0/16", "--ip-range", "10.95.0.0/24"),
        ("--subnet", "10.96.0.0/16", "--aux-address", "a=10.95.0.1"), ("--aux-address", "a=10.96.0.1"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be(sampan: Command, words: tuple[str, ...]) -> None:
    """Status 1, a reason, and no network."""
    done = sampan("network", "create", *words, "front")
    assert (done.returncode, done.stderr.startswith("error: ")) == (1, True), done.stderr
    assert "front" not in sampan("network", "ls", check=True).stdout


def test_a_connection_that_fails_leaves_nothing(sampan: Command, store: Store) -> None:
    """Where the container has an interface of that name: an error, and neither record nor address stays."""
    sampan("network", "create", "--subnet", "10.94.7.0/24", "front", check=True)
    _run(sampan, "web", "--cap-add", "NET_ADMIN")
    _inside(sampan, "web", "ip link add eth1 type veth")
    assert sampan("network", "connect", "front", "web").returncode == 1
    assert sorted(_networks(sampan, "web")) == ["bridge"]
    assert store.rows("SELECT * FROM addresses WHERE network = 'front'") == []
    _inside(sampan, "web", "ip link del eth1")
    sampan("network", "connect", "front", "web", check=True)
    assert "10.94.7.2/24" in _inside(sampan, "web", "ip addr show eth1")
    sampan("rm", "-f", "web", check=True)
    sampan("network", "rm", "front", check=True)
    assert store.left(sampan) == []
