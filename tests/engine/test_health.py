"""Health checks: what becomes of a container's health, and of its probes."""

import json
import os
import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from sampan.engine import config, health
from sampan.engine.run_options import HealthCheck, RunOptions
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip


def test_the_image_s_check_and_the_person_s_are_one() -> None:
    """Key by key the person's word wins; NONE switches the image's off; docker's defaults fill what nobody said."""
    image = {"Cmd": ["x"], "Healthcheck": {"Test": ["CMD", "a", "b"], "Interval": 2_000_000_000, "Retries": 7}}
    plan = health.plan(config.merged(RunOptions("i"), image))
    assert plan is not None
    assert (plan["command"], plan["interval"], plan["timeout"], plan["retries"]) == (["a", "b"], 2, 30, 7)
    asked = HealthCheck(("CMD-SHELL", "true"), retries=1)
    plan = health.plan(config.merged(RunOptions("i", health=asked), image | {"Shell": ["/bin/ash", "-ec"]}))
    assert plan is not None
    assert (plan["command"], plan["interval"], plan["retries"]) == (["/bin/ash", "-ec", "true"], 2, 1)
    assert health.plan(config.merged(RunOptions("i", health=HealthCheck(("NONE",))), image)) is None
    assert health.plan(config.merged(RunOptions("i", health=HealthCheck(retries=3)), {"Cmd": ["x"]})) is None


def _until(sampan: Command, name: str, wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """Return the container's State once it is as wanted."""
    deadline = time.monotonic() + 30
    while True:
        (found,) = json.loads(sampan("inspect", name, check=True).stdout)
        state: dict[str, object] = found["State"]
        if wanted(state):
            return state
        assert time.monotonic() < deadline, state
        time.sleep(0.05)


def _status(state: dict[str, object]) -> object:
    told = state["Health"]
    assert isinstance(told, dict)
    return told["Status"]


def test_a_container_becomes_healthy_and_unhealthy(sampan: Command, busybox: str, store: Store) -> None:
    """`starting` until the first success, whatever fails in the start period; `unhealthy` after so many failures.

    Before and after the monitor has renewed itself; the log keeps five results.
    """
    words = ("--health-cmd", "echo said; test -e /ok", "--health-interval", "200ms", "--health-retries", "2")
    early = ("--health-start-period", "60s", "--health-start-interval", "200ms")
    sampan("run", "-d", "--name", "box", *words, *early, busybox, "sleep", "1000", check=True)

    def has_failed(state: dict[str, object]) -> bool:
        told = state["Health"]
        return isinstance(told, dict) and len(told["Log"]) >= 3

    assert _status(_until(sampan, "box", has_failed)) == "starting"
    assert "(health: starting)" in sampan("ps", check=True).stdout
    sampan("exec", "box", "touch", "/ok", check=True)
    _until(sampan, "box", lambda state: _status(state) == "healthy")
    assert "(healthy)" in sampan("ps", check=True).stdout
    sampan("exec", "box", "rm", "/ok", check=True)
    state = _until(sampan, "box", lambda state: _status(state) == "unhealthy")
    told = state["Health"]
    assert isinstance(told, dict)
    assert len(told["Log"]) == health.RESULTS
    assert told["Log"][-1]["ExitCode"] == 1
    assert told["Log"][-1]["Output"] == "said\n"
    assert told["FailingStreak"] >= 2
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_a_probe_that_hangs_is_killed(sampan: Command, busybox: str, store: Store) -> None:
    """With all that it has started; and one that cannot be executed is a failure that says so."""
    words = ("--health-interval", "100ms", "--health-timeout", "300ms", "--health-retries", "1")
    hang = ("--health-cmd", "sleep 1234 | cat")
    sampan("run", "-d", "--name", "box", *words, *hang, busybox, "sleep", "1000", check=True)
    state = _until(sampan, "box", lambda state: _status(state) == "unhealthy")
    assert "exceeded timeout (0.3s)" in json.dumps(state)
    sampan("kill", "box", check=True)
    sampan("rm", "-f", "box", check=True)
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and b"1234" in _words(pid)]
    sampan("run", "-d", "--name", "box", *words, "--health-cmd", "nosuch", busybox, "sleep", "1000", check=True)
    assert "127" in json.dumps(_until(sampan, "box", lambda state: _status(state) == "unhealthy"))
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def _words(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_a_probe_is_one_more_process_of_the_container(sampan: Command, busybox: str) -> None:
    """It has the container's user, directory, environment and capabilities, and none without a user namespace too."""
    script = "id -u; pwd; echo $A; grep CapEff /proc/self/status"
    words = ("-u", "1000", "-w", "/tmp", "-e", "A=b", "--cap-drop", "ALL", "--health-interval", "100ms")
    for userns in ("", "host"):
        own = ("--userns", userns, "--health-cmd", script)
        sampan("run", "-d", "--name", "box", *own, *words, busybox, "sleep", "1000", check=True)
        state = _until(sampan, "box", lambda state: _status(state) == "healthy")
        assert "1000\\n/tmp\\nb\\nCapEff:\\t0000000000000000" in json.dumps(state)
        sampan("rm", "-f", "box", check=True)


def test_flags_that_exclude_each_other(sampan: Command, busybox: str) -> None:
    """Docker's words and status."""
    done = sampan("run", "--no-healthcheck", "--health-cmd", "true", busybox, "true")
    assert done.returncode == 125
    assert "`--no-healthcheck`" in done.stderr
    assert sampan("run", "--health-interval", "1us", busybox, "true").returncode == 125
