"""Restart policies: when a container is started again, and what ends that."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from sampan.engine import watch, words
from sampan.errors import InvalidArgument
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip


def until(sampan: Command, name: str, wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """Return what inspect says of the container once it is as wanted: its State, and the RestartCount."""
    deadline = time.monotonic() + 30
    while True:
        (found,) = json.loads(sampan("inspect", name, check=True).stdout)
        state: dict[str, object] = found["State"] | {"RestartCount": found["RestartCount"]}
        if wanted(state):
            return state
        assert time.monotonic() < deadline, state
        time.sleep(0.02)


def test_on_failure_ends_with_success_or_after_so_many_times(sampan: Command, store: Store) -> None:
    """Each run's output is in the log; the last status is the container's; a manual start counts anew."""
    words = ("--network", "none", "--name", "box", "--restart", "on-failure:2", "busybox", "sh", "-c")
    sampan("run", "-d", *words, "echo run; exit 3", check=True)
    state = until(sampan, "box", lambda state: state["Status"] == "exited")
    assert (state["ExitCode"], state["RestartCount"]) == (3, 2)
    assert sampan("logs", "box", check=True).stdout == "run\n" * 3
    sampan("start", "box", check=True)
    until(sampan, "box", lambda state: state["Status"] == "exited" and state["RestartCount"] == 2)
    assert sampan("logs", "box", check=True).stdout == "run\n" * 6
    sampan("rm", "box", check=True)
    sampan("run", "-d", *words, "echo x >> /n; [ $(wc -l < /n) = 2 ]", check=True)
    state = until(sampan, "box", lambda state: state["Status"] == "exited")
    assert (state["ExitCode"], state["RestartCount"]) == (0, 1)
    sampan("rm", "box", check=True)
    assert store.left(sampan) == []


def test_always_means_always_until_it_is_stopped(sampan: Command, store: Store) -> None:
    """Killed from within it comes back, with its address, its names and its port; `stop` and `rm -f` are the end."""
    sampan("network", "create", "front", check=True)
    serve = "rm -f /end; httpd -f -p 80 -h / & while [ ! -e /end ]; do sleep 0.1; done"
    words = ("--network", "front", "-p", "127.0.0.1::80", "--restart", "always")
    sampan("run", "-d", "--name", "web", *words, "busybox", "sh", "-c", serve, check=True)
    before = json.loads(sampan("inspect", "web", check=True).stdout)[0]
    time.sleep(1.3)  # so that the monitor has renewed itself
    for count in (1, 2):
        sampan("exec", "web", "touch", "/end", check=True)
        _until_run(sampan, "web", count)
    after = json.loads(sampan("inspect", "web", check=True).stdout)[0]
    assert after["NetworkSettings"] == before["NetworkSettings"]
    assert after["State"]["Pid"] != before["State"]["Pid"]
    _connect(int(after["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]))
    assert after["NetworkSettings"]["IPAddress"] in sampan("exec", "web", "nslookup", "web", check=True).stdout
    sampan("stop", "-t", "0", "web", check=True)
    time.sleep(0.5)
    assert until(sampan, "web", lambda _: True)["Status"] == "exited"
    sampan("start", "web", check=True)
    assert until(sampan, "web", lambda _: True)["RestartCount"] == 0
    sampan("rm", "-f", "web", check=True)
    assert store.left(sampan) == []


def _until_run(sampan: Command, name: str, count: int) -> None:
    until(sampan, name, lambda state: (state["RestartCount"], state["Status"]) == (count, "running"))


def _connect(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1")
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _restarting(sampan: Command) -> dict[str, object]:
    """Have a container that fails all the time, until it is between two runs and stays there for some seconds."""
    words = ("--network", "none", "--restart", "unless-stopped", "busybox", "false")
    sampan("run", "-d", "--name", "box", *words, check=True)
    return until(sampan, "box", lambda state: state["Status"] == "restarting" and int(str(state["RestartCount"])) >= 5)


def test_between_two_runs(sampan: Command, store: Store) -> None:
    """`ps` says so, `exec` is refused, `start` is none; `stop` ends it at once, and `rm -f` too."""
    state = _restarting(sampan)
    assert (state["Running"], state["Restarting"], state["ExitCode"]) == (True, True, 1)
    assert "Restarting (1)" in sampan("ps", check=True).stdout
    assert sampan("exec", "box", "true").returncode == 1
    sampan("start", "box", check=True)
    assert sampan("rm", "box").returncode == 1
    sampan("stop", "box", check=True)
    state = until(sampan, "box", lambda _: True)
    assert (state["Status"], state["ExitCode"]) == ("exited", 1)
    sampan("rm", "box", check=True)
    _restarting(sampan)
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_a_monitor_that_is_killed_between_two_runs(sampan: Command, store: Store) -> None:
    """The next command sees it, and nothing is left of it."""
    _restarting(sampan)
    (id,) = store.containers()
    os.kill(store.monitor(id), signal.SIGKILL)
    state = until(sampan, "box", lambda state: state["Status"] == "exited")
    assert (state["ExitCode"], state["Error"]) == (1, "its monitor died")
    sampan("rm", "box", check=True)
    assert store.left(sampan) == []


def test_the_foreground_command_has_the_first_status(sampan: Command, store: Store) -> None:
    """It ends with the first run; the container goes on, and who follows its log sees the next ones."""
    words = ("--network", "none", "--name", "box", "--restart", "always")
    done = sampan("run", *words, "busybox", "sh", "-c", "echo run; sleep 0.3; exit 4")
    assert (done.returncode, done.stdout) == (4, "run\n")
    until(sampan, "box", lambda state: int(str(state["RestartCount"])) >= 2)
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_its_patience_is_docker_s() -> None:
    """100 ms, doubled up to a minute, and anew after a run of ten seconds."""
    delays, last = [], 0.0
    for _ in range(12):
        last = watch.delay_after(last, 9.9)
        delays.append(round(last, 1))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]
    assert watch.delay_after(60.0, 10.0) == 0.1


def test_a_stop_is_the_end_whatever_its_signal(sampan: Command, store: Store) -> None:
    """`stop --signal HUP` of what a policy would restart; a HUP by `kill` is none, and the policy goes on."""
    script = "trap 'exit 4' HUP; echo up; while :; do sleep 0.05; done"
    words = ("--network", "none", "--name", "box", "--restart", "always", "busybox", "sh", "-c", script)
    sampan("run", "-d", *words, check=True)
    _until_up(sampan, 1)
    sampan("kill", "-s", "HUP", "box", check=True)
    _until_run(sampan, "box", 1)
    _until_up(sampan, 2)
    sampan("stop", "--signal", "HUP", "box", check=True)
    state = until(sampan, "box", lambda _: True)
    assert (state["Status"], state["ExitCode"]) == ("exited", 4)
    assert sampan("stop", "--signal", "NOSUCH", "box").returncode == 1
    sampan("start", "box", check=True)
    _until_up(sampan, 3)
    sampan("restart", "-s", "HUP", "-t", "-1", "box", check=True)
    _until_up(sampan, 4)
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def _until_up(sampan: Command, count: int) -> None:
    deadline = time.monotonic() + 20
    while sampan("logs", "box").stdout != "up\n" * count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("userns", ["", "host"])
@pytest.mark.parametrize("point", ["monitor-created", "monitor-networked", "monitor-running", "monitor-ended"])
def test_a_crash_of_a_restart_leaves_nothing(
    sampan: Command, environment: dict[str, str], store: Store, point: str, userns: str
) -> None:
    """Kill -9 of the monitor in the second run, wherever it is."""
    sampan("network", "create", "front", check=True)
    words = ("--name", "box", "--network", "front", "--userns", userns, "--restart", "always")
    sampan("create", *words, "busybox", "sh", "-c", "[ -e /again ] && sleep 0.3; touch /again", check=True)
    sampan("start", "box", check=True)
    until(sampan, "box", lambda state: int(str(state["RestartCount"])) >= 1)
    sampan("stop", "-t", "0", "box", check=True)
    environment["SAMPAN_FAULT"] = point
    sampan("start", "box")
    del environment["SAMPAN_FAULT"]
    until(sampan, "box", lambda state: state["Status"] in {"exited", "created"})
    sampan("rm", "box", check=True)
    assert store.left(sampan) == []
    sampan("network", "rm", "front", check=True)


@pytest.mark.parametrize("word", ["", "never", "on-failure:x", "on-failure:-1", "always:3", "on-failure:"])
def test_what_is_no_policy_is_refused(word: str) -> None:
    """With the words that there are."""
    with pytest.raises(InvalidArgument):
        words.parse_restart(word)
