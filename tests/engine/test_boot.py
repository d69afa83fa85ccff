"""Containers beyond one boot: what comes back, what does not, and the unit of systemd's that does it."""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import state, unit
from sampan.errors import Conflict, InvalidArgument
from sampan.settings.configuration import Settings
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip

# Ends at once when it is asked to, with the status in its first argument.
ENDS = 'trap "exit $0" TERM; while :; do sleep 0.05; done'


def _run(sampan: Command, name: str, policy: str, *words: str, ends_with: str = "0") -> None:
    """Start one, and wait until it can be asked to end."""
    script = f"{ENDS.replace('while', 'echo up; while', 1)}"
    common = ("--network", "none", "--restart", policy, "--name", name, *words)
    sampan("run", "-d", *common, "busybox", "sh", "-c", script, ends_with, check=True)
    deadline = time.monotonic() + 20
    while "up" not in sampan("logs", name).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _status(sampan: Command, name: str) -> tuple[str, int]:
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    return found["State"]["Status"], found["State"]["ExitCode"]


def _crash(store: Store) -> None:
    """Kill all monitors and wipe SAMPAN_RUN: what a power cut leaves, but for the boot id."""
    for id in store.containers():
        pid = store.monitor(id)
        if state.alive(f"{store.root}/containers/{id}"):
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while state.alive(f"{store.root}/containers/{id}"):
                assert time.monotonic() < deadline
                time.sleep(0.01)
    shutil.rmtree(store.run)


def _another_boot(store: Store) -> None:
    """Have what was written in this boot be another's: pids and ids in it mean nothing."""
    for id in store.containers():
        path = Path(store.root, "containers", id, "state.json")
        if path.exists():
            document = json.loads(path.read_text(encoding="utf-8"))
            document["boot_id"] = "00000000-0000-0000-0000-000000000000"
            # A number that somebody else has by now.
            document["pid"] = document["monitor_pid"] = os.getpid()
            path.write_text(json.dumps(document), encoding="utf-8")


def test_what_a_policy_wants_after_an_orderly_shutdown(sampan: Command, store: Store, busybox: str) -> None:
    """Docker's table; `boot stop` is nobody's wish, `stop` and Ctrl-C are; a second `boot start` does nothing."""
    _run(sampan, "always", "always", ends_with="0")
    _run(sampan, "unless", "unless-stopped")
    _run(sampan, "fails", "on-failure", ends_with="3")
    _run(sampan, "succeeds", "on-failure")
    _run(sampan, "plain", "no", ends_with="3")
    _run(sampan, "halted", "always")
    _run(sampan, "unless-stopped", "unless-stopped")
    _run(sampan, "unless-interrupted", "unless-stopped")
    sampan("create", "--name", "new", "--restart", "always", "busybox", "true", check=True)
    sampan("stop", "halted", "unless-stopped", check=True)
    sampan("kill", "--signal", "TERM", "unless-interrupted", check=True)
    sampan("wait", "unless-interrupted", check=True)
    sampan("boot", "stop", check=True)
    assert _status(sampan, "fails") == ("exited", 3)
    assert sampan("ps", "-q", check=True).stdout == ""
    due = json.loads(sampan("boot", "status", "--format", "json").stdout)["Due"]
    assert due == ["always", "unless", "fails", "halted"]
    assert sampan("boot", "start", check=True).stdout.split() == due
    names = sampan("ps", "--format", "{{.Names}}", check=True).stdout.split()
    assert sorted(names) == sorted(due)
    assert _status(sampan, "new") == ("created", 0)
    assert sampan("boot", "start", check=True).stdout == ""
    # Started by hand it is as if nobody had stopped it.
    sampan("start", "unless-stopped", check=True)
    sampan("boot", "stop", check=True)
    assert "unless-stopped" in sampan("boot", "start", check=True).stdout.split()
    told = sampan("events", "--since", "1h", "--until", "0s", "--filter", "container=always", "--format", "{{.Action}}")
    assert told.stdout.split() == ["create", "start", *["kill", "die", "stop", "start"] * 2]
    for name in [*names, "unless-stopped"]:
        sampan("rm", "-f", name, check=True)
    sampan("container", "prune", "-f", check=True)
    assert store.left(sampan) == []


def test_what_a_policy_wants_after_a_power_cut(sampan: Command, store: Store, busybox: str) -> None:
    """What ran was ended with 137, a failure; what had given up, or was stopped, stays; --rm leaves nothing."""
    _run(sampan, "always", "always")
    _run(sampan, "fails", "on-failure:1")
    _run(sampan, "plain", "no")
    _run(sampan, "stopped", "unless-stopped")
    sampan("run", "-d", "--rm", "--name", "gone", "--network", "none", "busybox", "sleep", "1000", check=True)
    sampan(
        "run", "-d", "--name", "weary", "--network", "none", "--restart", "on-failure:1", "busybox", "false", check=True
    )
    deadline = time.monotonic() + 20
    while _status(sampan, "weary") != ("exited", 1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sampan("stop", "stopped", check=True)
    _crash(store)
    _another_boot(store)
    lines = sampan("ps", "-a", "--format", "{{.Names}} {{.State}}", check=True).stdout.splitlines()
    assert sorted(lines) == [f"{name} exited" for name in ("always", "fails", "plain", "stopped", "weary")]
    assert _status(sampan, "plain") == ("exited", 137)
    assert sampan("boot", "start", check=True).stdout.split() == ["always", "fails"]
    assert sampan("exec", "always", "echo", "hello", check=True).stdout == "hello\n"
    sampan("start", "plain", check=True)
    for name in ("always", "fails", "plain", "stopped", "weary"):
        sampan("rm", "-f", name, check=True)
    assert store.left(sampan) == []


def test_one_that_fails_stops_no_other(sampan: Command, store: Store, busybox: str, place: str) -> None:
    """A source that is gone is told of with the container's name, and the others start; so with one that cannot end."""
    os.makedirs(f"{place}/disk/source")
    _run(sampan, "first", "always")
    mount = f"type=bind,source={place}/disk/source,target=/source"
    _run(sampan, "broken", "always", "--mount", mount)
    _run(sampan, "last", "always")
    script = 'trap "" TERM; while :; do sleep 0.05; done'
    words = ("--network", "none", "--stop-timeout", "0", "--restart", "always")
    sampan("run", "-d", "--name", "deaf", *words, "busybox", "sh", "-c", script, check=True)
    sampan("boot", "stop", check=True)
    assert _status(sampan, "deaf") == ("exited", 137)
    shutil.rmtree(f"{place}/disk")
    Path(place, "disk").touch()
    done = sampan("boot", "start", check=True)
    assert done.stdout.split() == ["first", "last", "deaf"]
    assert "broken:" in done.stderr
    assert f"{place}/disk/source" in done.stderr
    sampan("rm", "-f", "first", "broken", "last", "deaf", check=True)
    assert store.left(sampan) == []


def test_between_two_runs(sampan: Command, store: Store, busybox: str) -> None:
    """One that its policy is about to start again is stopped as any other, and comes back."""
    words = ("--network", "none", "--name", "box", "--restart", "unless-stopped", "busybox", "false")
    sampan("run", "-d", *words, check=True)
    deadline = time.monotonic() + 30
    # By then it waits for seconds.
    while json.loads(sampan("inspect", "box", check=True).stdout)[0]["RestartCount"] < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sampan("boot", "stop", check=True)
    assert _status(sampan, "box") == ("exited", 1)
    assert sampan("boot", "start", check=True).stdout == "box\n"
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_unit_says_where_all_is(place: str, uid: int) -> None:
    """Systemd reads back each word as it is, with quotes, percent and dollar signs; and it is known to be ours."""
    root = f'{place}/a "store" 100% $HOME \\'
    environment = {"HOME": place, "XDG_CONFIG_HOME": f"{place}/config", "SAMPAN_ROOT": root, "SAMPAN_FAULT": "x"}
    settings = Settings(environment, uid)
    text = unit.text(settings, ("/opt/a b/50%$x/sampan", "-m"))
    assert 'ExecStart="/opt/a b/50%%$$x/sampan" "-m" boot start' in text
    escaped = root.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    assert f'Environment="SAMPAN_ROOT={escaped}"' in text
    assert "SAMPAN_FAULT" not in text
    assert ("WantedBy=multi-user.target" in text) == (uid == 0)
    assert ("ExecStop=" in unit.text(settings, ("/bin/sampan",), is_stopping=False)) is False
    with pytest.raises(InvalidArgument):
        unit.text(settings, ("/bin/sam\npan",))
    analyze = shutil.which("systemd-analyze")
    if analyze:
        path = Path(place, unit.NAME)
        path.write_text(unit.text(settings, ("/bin/sh",)), encoding="utf-8")
        done = subprocess.run([analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False)
        assert unit.NAME not in done.stderr, done.stderr


def test_a_unit_that_is_not_ours_is_left_alone(place: str) -> None:
    """One that stands there is found with its store; a file of somebody else's is an error, and stays."""
    settings = Settings({"HOME": place, "SAMPAN_ROOT": f"{place}/r"}, 1000)
    assert unit.find(settings) is None
    assert unit.disable(settings) is False
    path = Path(unit.path(settings))
    path.parent.mkdir(parents=True)
    path.write_text(unit.text(settings, ("/opt/sampan",)), encoding="utf-8")
    found = unit.find(settings)
    assert found is not None
    assert (found.root, found.program) == (f"{place}/r", "/opt/sampan")
    if not unit.is_booted():
        # What is left of a systemd that ran this machine once.
        assert unit.disable(settings) is True
        assert not path.exists()
    path.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    with pytest.raises(Conflict):
        unit.find(settings)
    assert path.exists()


def test_without_systemd_it_is_said_what_to_do(sampan: Command, busybox: str) -> None:
    """`enable` is an error with the two words to call; `status` says it too; `disable` finds nothing."""
    if unit.is_booted():
        pytest.skip("systemd runs this machine")
    done = sampan("boot", "enable")
    assert done.returncode == 1
    assert "`sampan boot start`" in done.stderr
    done = sampan("boot", "status")
    assert (done.returncode, done.stdout.splitlines()[0].split()) == (1, ["Enabled:", "no"])
    assert sampan("boot", "disable").returncode == 0


def test_word_of_a_stop_is_private(sampan: Command, store: Store, busybox: str) -> None:
    """The file that the monitor leaves is its owner's alone, and goes with a start."""
    _run(sampan, "box", "unless-stopped")
    sampan("stop", "box", check=True)
    (id,) = store.containers()
    path = Path(store.root, "containers", id, "stopped")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sampan("start", "box", check=True)
    assert not path.exists()
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_a_wiped_sampan_run_is_no_death(sampan: Command, store: Store, busybox: str) -> None:
    """Whose monitor lives is found running; it comes back to where it is looked for, with its names on networks."""
    sampan("network", "create", "front", check=True)
    words = ("--network", "front", "--restart", "always", "--stop-timeout", "0", "busybox", "sh", "-c")
    sampan("run", "-d", "--name", "box", *words, f"echo up; {ENDS}", check=True)
    sampan("run", "-d", "--name", "other", *words, "exec sleep 1000", check=True)
    (id,) = sampan("ps", "-q", "--no-trunc", "--filter", "name=box", check=True).stdout.split()
    monitor = store.monitor(id)
    # One quiet for a second has renewed itself; both kinds answer.
    for attempt in range(2):
        shutil.rmtree(store.run)
        assert len(sampan("ps", "-q", check=True).stdout.split()) == 2
        assert sampan("exec", "box", "echo", "hello", check=True).stdout == "hello\n"
        sampan("kill", "-s", "CONT", "box", "other", check=True)
        assert sampan("exec", "box", "nslookup", "other", check=True).stdout.count("Address") >= 2
        assert store.monitor(id) == monitor
        deadline = time.monotonic() + 20
        while not attempt and b"sampan-monitor" not in Path(f"/proc/{monitor}/cmdline").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    shutil.rmtree(store.run)
    sampan("restart", "-t", "0", "box", check=True)
    shutil.rmtree(store.run)
    sampan("boot", "stop", check=True)
    assert _status(sampan, "other")[0] == "exited"
    assert sampan("boot", "start", check=True).stdout.split() == ["box", "other"]
    shutil.rmtree(store.run)
    sampan("rm", "-f", "box", "other", check=True)
    sampan("network", "rm", "front", check=True)
    assert store.left(sampan) == []


def test_a_number_that_is_another_s_is_not_called(sampan: Command, store: Store, busybox: str) -> None:
    """A state file whose monitor's number is somebody else's now: nobody gets a signal, and the error says so."""
    _run(sampan, "box", "no")
    (id,) = store.containers()
    path = Path(store.root, "containers", id, "state.json")
    text = path.read_text(encoding="utf-8")
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        path.write_text(json.dumps(json.loads(text) | {"monitor_pid": bystander.pid}), encoding="utf-8")
        socket = Path(store.run, id, "attach.sock")
        socket.rename(f"{socket}.away")
        done = sampan("stop", "box")
        Path(f"{socket}.away").rename(socket)
        path.write_text(text, encoding="utf-8")
        assert bystander.poll() is None
        bystander.kill()
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []
