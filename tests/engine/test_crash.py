"""kill -9 of the command and of the monitor at every point: nothing stays after the next command, `start` works."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from sampan.engine import fault
from tests.engine.conftest import Store, run_until_up

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip

COMMAND_POINTS = [point for point in fault.POINTS if point.startswith("command-")]
MONITOR_POINTS = [point for point in fault.POINTS if point.startswith("monitor-")]
AFTER_RUNNING = MONITOR_POINTS[MONITOR_POINTS.index(fault.MONITOR_ENDED) :]
BEFORE_RUNNING = MONITOR_POINTS[: MONITOR_POINTS.index(fault.MONITOR_RUNNING)]


@pytest.fixture
def faulty(sampan: Command, environment: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return `faulty(point, *words)`: the command with that fault."""

    def command(point: str, *words: str) -> "subprocess.CompletedProcess[str]":
        environment["SAMPAN_FAULT"] = point
        try:
            return sampan(*words)
        finally:
            del environment["SAMPAN_FAULT"]

    return command


@pytest.mark.parametrize("point", fault.POINTS)
def test_run_rm_leaves_nothing(
    sampan: Command, store: Store, faulty: Callable[..., "subprocess.CompletedProcess[str]"], point: str
) -> None:
    """`run --rm` killed anywhere: after the next commands nothing of it is left, not even a process."""
    done = faulty(point, "run", "--rm", "-p", "127.0.0.1::80", "busybox", "sleep", "0.2")
    if point in COMMAND_POINTS:
        assert done.returncode == -signal.SIGKILL
    time.sleep(0.5)
    sampan("ps", "-a", check=True)
    sampan("run", "--rm", "--network", "none", "busybox", "true", check=True)
    time.sleep(0.1)
    assert len(sampan("ps", "-a", check=True).stdout.splitlines()) == 1
    assert store.left(sampan) == []


@pytest.mark.parametrize("point", MONITOR_POINTS)
def test_a_container_starts_again(
    sampan: Command, store: Store, faulty: Callable[..., "subprocess.CompletedProcess[str]"], point: str
) -> None:
    """A container whose monitor was killed at any point has a true state, and `start` works."""
    # Where the monitor is to die after the end, there is one at the first time.
    command = "[ -e /again ] && exec sleep 1000; touch /again" if point in AFTER_RUNNING else "exec sleep 1000"
    faulty(point, "run", "--name", "box", "-p", "127.0.0.1::80", "busybox", "sh", "-c", command)
    time.sleep(0.3)
    status = sampan("ps", "-a", "--format", "json", check=True).stdout
    if point in BEFORE_RUNNING:
        assert '"State":"created"' in status.replace('": "', '":"')
    else:
        assert '"State":"exited"' in status.replace('": "', '":"')
    (id,) = store.containers()
    if point in (fault.MONITOR_RUNNING, fault.MONITOR_ENDED):
        assert store.state(id)["exit_code"] == 137
        assert store.state(id)["error"] == "its monitor died"
    sampan("start", "box", check=True)
    assert "Up" in sampan("ps", check=True).stdout
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_a_container_does_not_outlive_its_monitor(sampan: Command, store: Store) -> None:
    """Kill -9 of the monitor ends the container at once, though it has been quiet for long (see renewal)."""
    id = sampan("run", "-d", "--name", "box", "busybox", "sleep", "1000", check=True).stdout.strip()
    pid = int(str(store.state(id)["pid"]))
    time.sleep(1.6)
    os.kill(store.monitor(id), signal.SIGKILL)
    deadline = time.monotonic() + 2
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}")
    shown = sampan("ps", "-a", check=True).stdout
    assert "Exited (137)" in shown
    sampan("start", "box", check=True)
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_the_foreground_command_says_that_the_monitor_was_killed(
    sampan: Command, environment: dict[str, str], store: Store
) -> None:
    """Whoever is attached is told, with an error, and not with a status that nobody gave."""
    import sys

    program = os.path.join(os.path.dirname(sys.executable), "sampan")
    argv = [program, "run", "--network", "none", "busybox", "sh", "-c", "echo up; sleep 1000"]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    (id,) = store.containers()
    os.kill(store.monitor(id), signal.SIGKILL)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode != 0
    assert "monitor" in complaint
    sampan("rm", id, check=True)
    assert store.left(sampan) == []


def test_killing_the_foreground_command_leaves_the_container(
    sampan: Command, environment: dict[str, str], store: Store
) -> None:
    """Kill -9 of `run` in the foreground is the end of the command, not of the container (docker)."""
    process = run_until_up(environment, "echo up; sleep 1; echo more; sleep 1000")
    process.kill()
    process.communicate(timeout=10)
    time.sleep(1.2)
    (id,) = store.containers()
    assert "Up" in sampan("ps", check=True).stdout
    assert sampan("logs", id, check=True).stdout == "up\nmore\n"
    sampan("rm", "-f", id, check=True)
    assert store.left(sampan) == []
