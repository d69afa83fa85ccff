"""Two hundred starts and stops, twenty at a time, in every way there is: in the end the machine is as it was.

The leak check sees mounts, interfaces, tables, cgroups and processes; beyond that this looks at every row of the
database, every lock, namespace, published port, veth and file of a run, and the descriptors of a monitor that lived
through it all.
"""

import concurrent.futures
import glob
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.kernel import netlink, nftables
from sampan.network import bridge, firewall, ipam
from sampan.settings.configuration import Settings
from tests.engine.conftest import Store
from tests.plugin.ground import Command

pytestmark = [
    pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip

TOTAL, AT_ONCE = 200, 20
SETTLE_SECONDS = 15.0
SLEEPS = ("busybox", "sleep", "600")
LISTENS = ("busybox", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")


@pytest.fixture
def store(settings: Settings) -> Store:
    """Return the store of this test."""
    return Store(settings)


def _stop(sampan: Command, name: str) -> None:
    sampan("run", "-d", "--name", name, "-p", "127.0.0.1::80", *LISTENS, check=True)
    sampan("stop", name, check=True)
    sampan("rm", name, check=True)


def _kill(sampan: Command, name: str) -> None:
    sampan("run", "-d", "--name", name, *SLEEPS, check=True)
    sampan("kill", name, check=True)
    sampan("start", name, check=True)
    sampan("rm", "-f", name, check=True)


def _remove_by_force(sampan: Command, name: str) -> None:
    sampan("run", "-d", "--name", name, "-v", "/data", "-p", "127.0.0.1::80/udp", *SLEEPS, check=True)
    sampan("rm", "-f", "-v", name, check=True)


def _exec(sampan: Command, name: str) -> None:
    sampan("run", "-d", "--rm", "--name", name, *SLEEPS, check=True)
    assert sampan("exec", name, "sh", "-c", "exit 4").returncode == 4
    # One that does not wait is met by the end.
    sampan("exec", "-d", name, "sleep", "600", check=True)
    sampan("stop", "-t", "0", name, check=True)


def _run_to_the_end(sampan: Command, name: str) -> None:
    assert sampan("run", "--rm", "--name", name, "--memory", "64m", "busybox", "sh", "-c", "exit 3").returncode == 3


def _fail(sampan: Command, name: str) -> None:
    assert sampan("run", "--rm", "--name", name, "-p", "127.0.0.1::80", "busybox", "nothing").returncode == 127


def _restart(sampan: Command, name: str) -> None:
    sampan("run", "-d", "--name", name, "--restart", "always", "busybox", "true", check=True)
    sampan("rm", "-f", name, check=True)


WAYS: "tuple[Callable[[Command, str], None], ...]" = (
    _stop, _kill, _remove_by_force, _exec, _run_to_the_end, _fail, _restart,
)  # fmt: skip


@pytest.fixture
def witness(sampan: Command, busybox_tar: str, store: Store) -> Iterator[int]:
    """Yield the pid of the monitor of a container on a network of its own, in which all the others come and go."""
    sampan("import", busybox_tar, "busybox", check=True)
    sampan("run", "-d", "--name", "witness", *SLEEPS, check=True)
    (id,) = store.containers()
    yield store.monitor(id)
    sampan("rm", "-f", "witness", check=True)
    assert store.left(sampan) == []


@pytest.mark.timeout(600)
def test_nothing_is_left(sampan: Command, store: Store, place: str, witness: int) -> None:
    """After the storm there is what was before it, and nothing else."""
    network = ipam.Network("bridge", ipam.interface_of(store.root), "10.0.0.0", 16)
    _renewed(witness)
    before = _look(store, network, witness, place)
    # Control: one more container is seen in all that is looked at but what no container may change.
    sampan("run", "-d", "--name", "control", "-p", "127.0.0.1::80", *SLEEPS, check=True)
    seen = set(_differences(before, _look(store, network, witness, place)))
    assert seen == set(before) - {"rules in docker's chain", "descriptors of a monitor", "trash"}
    sampan("rm", "-f", "control", check=True)
    order = [WAYS[number % len(WAYS)] for number in range(TOTAL)]
    random.Random(5).shuffle(order)  # noqa: S311  # the same disorder each time
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda numbered: numbered[1](sampan, f"storm-{numbered[0]}"), enumerate(order)))
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        sampan("ps", "-a", check=True)
        left = _differences(before, _look(store, network, witness, place))
        if not left:
            break
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _renewed(monitor: int) -> None:
    """Wait until a monitor has become small: then its descriptors are those that it keeps."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while b"witness" in Path(f"/proc/{monitor}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # What it reads itself from is open for a moment more.
    found: list[str] = []
    while found != (found := os.listdir(f"/proc/{monitor}/fd")):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _look(store: Store, network: ipam.Network, monitor: int, place: str) -> dict[str, set[str]]:
    """Return what there is, by kind."""
    with netlink.Socket(netlink.NETFILTER) as netfilter:
        table, name = firewall.table_of(network.interface), network.interface.encode()
        published = {str(found) for map_ in ("published", "published_at")
                     for found in nftables.elements(netfilter, table, map_)}  # fmt: skip
        forward = (
            {str(rule) for rule in nftables.our_rules(netfilter, "filter", "FORWARD") if name in rule[1]}
            if nftables.has_chain(netfilter, "filter", "FORWARD")
            else set()
        )
    return {
        "in the store": set(store.now()),
        "locks": set(_locks(place)),
        "namespaces": set(_namespaces(place)),
        "published ports": published,
        "rules in docker's chain": forward,
        "ports of the bridge": set(bridge.ports(network.interface)),
        "descriptors of a monitor": {str(number) for number in os.listdir(f"/proc/{monitor}/fd")},
        "files of runs": {path for path in glob.glob(f"{store.run}/**", recursive=True) if not os.path.isdir(path)},
        "trash": set(os.listdir(f"{store.root}/trash")) if os.path.isdir(f"{store.root}/trash") else set(),
    }


def _differences(before: dict[str, set[str]], now: dict[str, set[str]]) -> dict[str, list[str]]:
    return {kind: sorted(now[kind] ^ before[kind]) for kind in before if now[kind] != before[kind]}


def _locks(place: str) -> Iterator[str]:
    """Name the locked files below `place`."""
    files = {os.stat(path).st_ino: path for path in glob.glob(f"{place}/**", recursive=True) if os.path.isfile(path)}
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            number = int(line.split()[-3].rpartition(":")[2])
            if number in files:
                yield f"{files[number]} {line.split()[1]}"


def _namespaces(place: str) -> Iterator[str]:
    """Name the namespaces of processes that stand in `place`: containers' first processes do, by their overlay."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if place in Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="replace"):
                yield from (os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "mnt", "pid", "net", "ipc"))
        except OSError:
            continue
