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


STOPPING = ("stop", "-t", "5", "box")
REMOVING = ("rm", "-f", "-v", "box")
LISTENS = "trap 'exit 3' TERM; while :; do sleep 0.05; done"


@pytest.mark.parametrize(
    ("words", "point"),
    [
        *((STOPPING, point) for point in (fault.COMMAND_SIGNALLED, fault.COMMAND_ENDED)),
        (("kill", "box"), fault.COMMAND_SIGNALLED),
        *((REMOVING, point) for point in fault.ENDING_POINTS),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_who_ends_a_container_is_killed(
    sampan: Command, store: Store, faulty: Callable[..., "subprocess.CompletedProcess[str]"], *,
    words: tuple[str, ...], point: str,
) -> None:  # fmt: skip
    """`stop`, `kill` or `rm -f` killed anywhere: what it began goes on to its end, and `rm` ends the rest."""
    run = ("run", "-d", "--name", "box", "-v", "/data", "-p", "127.0.0.1::80", "busybox", "sh", "-c", LISTENS)
    sampan(*run, check=True)
    (id,) = store.containers()
    assert faulty(point, *words).returncode == -signal.SIGKILL
    if point not in (fault.COMMAND_DISCARDED, fault.COMMAND_REMOVED):
        status = sampan("wait", "box", check=True).stdout.strip()
        assert status == ("3" if words == STOPPING else "137")
        assert store.state(id)["status"] == "exited"
    if point == fault.COMMAND_DISCARDED:
        # The row's end was not committed: it is there, and says what can be done with it.
        started = sampan("start", "box")
        assert (started.returncode, "sampan rm box" in started.stderr) == (1, True), started.stderr
    if point == fault.COMMAND_REMOVED:
        assert sampan("rm", "box").returncode == 1
    else:
        sampan("rm", "-v", "box", check=True)
    # A row of its own: nothing else has the name, or the port.
    sampan("run", "--rm", "--name", "box", "busybox", "true", check=True)
    assert store.left(sampan) == []


@pytest.mark.parametrize("words", [STOPPING, REMOVING, ("kill", "box")], ids=lambda words: words[0])
@pytest.mark.parametrize("point", AFTER_RUNNING)
def test_the_monitor_is_killed_while_a_command_ends_its_container(
    sampan: Command, store: Store, faulty: Callable[..., "subprocess.CompletedProcess[str]"], *,
    words: tuple[str, ...], point: str,
) -> None:  # fmt: skip
    """The command says what came of it, and what the monitor left the next one takes down."""
    run = ("run", "-d", "--name", "box", "-v", "/data", "-p", "127.0.0.1::80", "busybox", "sh", "-c", LISTENS)
    assert faulty(point, *run).returncode == 0
    (id,) = store.containers()
    done = sampan(*words)
    assert done.returncode == 0, done.stderr
    if words != REMOVING:
        sampan("ps", "-a", check=True)
        is_told = point != fault.MONITOR_ENDED
        wanted = 137 if words[0] == "kill" or not is_told else 3
        assert (store.state(id)["status"], store.state(id)["exit_code"]) == ("exited", wanted)
        sampan("start", "box", check=True)
        sampan("rm", "-f", "-v", "box", check=True)
    assert store.left(sampan) == []


def test_the_monitor_is_killed_between_two_runs(
    sampan: Command, store: Store, faulty: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    """Kill -9 while a restart policy has one run taken down and the next not begun: exited, and `start` works."""
    run = ("run", "-d", "--name", "box", "--restart", "always", "-p", "127.0.0.1::80", "busybox", "sh", "-c",
           "[ -e /again ] && exec sleep 1000; touch /again; exit 4")  # fmt: skip
    faulty(fault.MONITOR_RESTARTING, *run)
    (id,) = store.containers()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{store.monitor(id)}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "Exited (4)" in sampan("ps", "-a", check=True).stdout
    sampan("start", "box", check=True)
    assert "Up" in sampan("ps", check=True).stdout
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


@pytest.mark.parametrize("point", fault.KEEPER_POINTS)
def test_the_keeper_of_an_exec_is_killed(
    sampan: Command, store: Store, faulty: Callable[..., "subprocess.CompletedProcess[str]"], point: str
) -> None:
    """The command says so, the process goes with its keeper, and the container goes on."""
    sampan("run", "-d", "--name", "box", "busybox", "sleep", "1000", check=True)
    length = "0.1" if point == fault.KEEPER_ENDED else "999"
    done = faulty(point, "exec", "box", "sleep", length)
    assert (done.returncode != 0, "keeper" in done.stderr) == (True, True), (done.returncode, done.stderr)
    deadline = time.monotonic() + 5
    while (rows := sampan("top", "box", check=True).stdout.splitlines()[1:]) and len(rows) > 1:
        assert time.monotonic() < deadline, rows
        time.sleep(0.02)
    assert sampan("exec", "box", "echo", "on", check=True).stdout == "on\n"
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
