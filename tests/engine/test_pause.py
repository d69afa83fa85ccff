"""pause and unpause: what the kernel says is what is shown, and a paused container can be ended."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import running
from sampan.runtime import cgroup
from sampan.settings.configuration import Settings
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip
# Says a word for each turn; ends on SIGTERM and SIGUSR1.
_COUNT = "trap 'exit 7' TERM; trap 'exit 8' USR1; while :; do echo turn >>/turns; sleep 0.01; done"


@pytest.fixture
def paused(sampan: Command, busybox: str) -> Iterator[str]:
    """A container `box` that is paused; return its id."""
    id = sampan("run", "-d", "--network", "none", "--name", "box", busybox, "sh", "-c", _COUNT, check=True)
    assert sampan("pause", "box", check=True).stdout == "box\n"
    yield id.stdout.strip()
    sampan("rm", "-f", "box")


def _state(sampan: Command) -> dict[str, object]:
    found: dict[str, object] = json.loads(sampan("inspect", "box", check=True).stdout)[0]["State"]
    return found


def _stat(pid: int) -> str:
    """Return the CPU time of a process, which only one that moves adds to."""
    return " ".join(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13])


@pytest.mark.usefixtures("paused")
def test_all_say_that_it_is_paused(sampan: Command) -> None:
    """ps, its filters and inspect; after unpause none does."""
    assert "(Paused)" in sampan("ps", check=True).stdout
    assert sampan("ps", "--filter", "status=paused", "--format", "{{.Names}} {{.State}}").stdout == "box paused\n"
    assert sampan("ps", "-q", "--filter", "status=running").stdout == ""
    told = _state(sampan)
    assert (told["Status"], told["Running"], told["Paused"]) == ("paused", True, True)
    assert sampan("unpause", "box", check=True).stdout == "box\n"
    told = _state(sampan)
    assert (told["Status"], told["Running"], told["Paused"]) == ("running", True, False)
    assert "Paused" not in sampan("ps", check=True).stdout


def test_nothing_moves(sampan: Command, settings: Settings, paused: str) -> None:
    """Every process stands, so the file that it writes does not grow until it is let go."""
    turns = Path(f"{settings.root}/containers/{paused}/upper/turns")
    pids = running.find(settings, "box").group.processes()
    assert pids
    before = (turns.read_bytes(), [_stat(pid) for pid in pids])
    sampan("ps", check=True)  # a tenth of a second in which it would have gone on
    assert (turns.read_bytes(), [_stat(pid) for pid in pids]) == before
    sampan("unpause", "box", check=True)
    size = turns.stat().st_size
    while turns.stat().st_size == size:
        assert _state(sampan)["Running"]


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize("words", ["pause box", "exec box true", "attach box", "start box", "rm box"])
def test_what_a_paused_container_refuses(sampan: Command, words: str) -> None:
    """Docker's words: each is one error that says so, and it stays paused."""
    done = sampan(*words.split())
    assert done.returncode == 1
    assert "paused" in done.stderr
    assert _state(sampan)["Paused"] is True


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize(("words", "status"), [("stop box", 7), ("kill box", 137), ("stop -t 0 box", None)])
def test_a_paused_container_ends(sampan: Command, words: str, status: int | None) -> None:
    """The signal reaches it, and it goes on to meet it: a trap runs, SIGKILL kills."""
    sampan(*words.split(), check=True)
    told = _state(sampan)
    assert told["Status"] == "exited"
    assert told["ExitCode"] == status or status is None


def test_a_paused_container_is_removed(sampan: Command, store: Store, paused: str) -> None:
    """`rm -f` leaves nothing of it."""
    assert store.containers() == [paused]
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_what_is_left_of_a_killed_monitor(sampan: Command, store: Store, settings: Settings, paused: str) -> None:
    """A frozen process outlives its monitor on v1: the next command ends it, and nothing of it is left."""
    group = running.find(settings, "box").group
    os.kill(store.monitor(paused), signal.SIGKILL)
    told = _state(sampan)
    while told["Status"] != "exited":
        told = _state(sampan)
    assert told["ExitCode"] == 137
    assert group.processes() == []


def test_the_end_of_the_machine(sampan: Command, store: Store, paused: str) -> None:
    """A monitor that is asked to end, as at a shutdown, lets its paused container go on to meet the signal."""
    os.kill(store.monitor(paused), signal.SIGTERM)
    assert sampan("wait", "box", check=True).stdout == "7\n"


@pytest.mark.usefixtures("paused")
def test_another_signal_waits(sampan: Command) -> None:
    """What does not ask for the end is there when it goes on."""
    sampan("kill", "-s", "USR1", "box", check=True)
    assert _state(sampan)["Paused"] is True
    sampan("unpause", "box", check=True)
    assert sampan("wait", "box", check=True).stdout == "8\n"


def test_what_cannot_be_paused(sampan: Command) -> None:
    """One that does not run, or is not there; the others are paused, and the status is 1."""
    sampan("create", "--name", "new", "busybox", "true", check=True)
    sampan("run", "-d", "--network", "none", "--name", "box", "busybox", "sleep", "60", check=True)
    try:
        done = sampan("pause", "new", "nobody", "box")
        assert (done.returncode, done.stdout) == (1, "box\n")
        assert "`new` is not running" in done.stderr
        assert "no container `nobody`" in done.stderr
        assert "`new` is not running" in sampan("unpause", "new").stderr
        sampan("unpause", "box", check=True)
        assert "`box` is not paused" in sampan("unpause", "box").stderr
    finally:
        sampan("rm", "-f", "new", "box")


def test_the_group_of_a_process(settings: Settings, paused: str) -> None:
    """A group that somebody else made is found by a process in it: as that of a foreign runtime's container is."""
    one = running.find(settings, paused)
    document = cgroup.of_process(one.told.pid)
    assert document is not None
    found = cgroup.parse(document)
    assert found.processes() == one.group.processes()
    found.thaw()
    found.freeze()


def test_no_probe_says_that_a_paused_container_is_ill(sampan: Command) -> None:
    """A health check waits while nothing moves: what was healthy is so still."""
    flags = ["--health-cmd", "true", "--health-interval", "50ms", "--health-timeout", "50ms", "--health-retries", "1"]
    sampan("run", "-d", "--network", "none", "--name", "box", *flags, "busybox", "sleep", "60", check=True)
    try:
        while (health := _state(sampan)["Health"]) and isinstance(health, dict) and health["Status"] != "healthy":
            pass
        sampan("pause", "box", check=True)
        for _ in range(5):  # each longer than a probe and its time-out
            health = _state(sampan)["Health"]
            assert isinstance(health, dict)
            assert health["Status"] == "healthy"
        sampan("unpause", "box", check=True)
    finally:
        sampan("rm", "-f", "box")
