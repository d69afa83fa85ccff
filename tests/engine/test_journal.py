"""events: what happened to containers, in its order, by whomever it was done, and as it happens."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.engine import journal, state
from sampan.settings.configuration import Settings
from tests.engine.conftest import Store
from tests.engine.test_restart import until

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup]
_BOX = ("--network", "none", "--name", "box")


@pytest.fixture
def box(sampan: Command, busybox: str) -> Iterator[Command]:
    """Return `sampan` with an image; in the end there is no `box`."""
    assert busybox
    yield sampan
    sampan("rm", "-f", "box")


def _events(sampan: Command, *words: str) -> list[dict[str, object]]:
    done = sampan("events", "--since", "1", "--until", "0s", "--format", "json", *words, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _actions(sampan: Command, *words: str) -> list[object]:
    return [event["Action"] for event in _events(sampan, *words)]


def test_a_life(box: Command) -> None:
    """Docker's words in docker's order, with its attributes: a stop is a kill, an end and a stop."""
    box("run", "-d", *_BOX, "--label", "a=b", "busybox", "sh", "-c", "trap 'exit 7' TERM; sleep 60 & wait", check=True)
    box("pause", "box", check=True)
    box("unpause", "box", check=True)
    box("update", "--pids-limit", "50", "box", check=True)
    box("restart", "box", check=True)
    box("kill", "box", check=True)
    box("rm", "box", check=True)
    restart = ["kill", "die", "stop", "start", "restart"]
    assert _actions(box) == ["create", "start", "pause", "unpause", "update", *restart, "kill", "die", "destroy"]
    first, *_ = _events(box, "--filter", "event=create")
    assert (first["Type"], first["status"], first["from"]) == ("container", "create", "busybox")
    assert first["Actor"] == {"ID": first["id"], "Attributes": {"a": "b", "image": "busybox", "name": "box"}}
    assert str(first["timeNano"]).startswith(str(first["time"]))
    format = ["--format", "{{.Action}} {{.Actor.Attributes.exitCode}} {{.ID}}", "--filter", "event=die"]
    told = box("events", "--since", "1", "--until", "0s", *format).stdout.splitlines()
    assert told == [f"die 7 {first['id']}", f"die 137 {first['id']}"]
    line = box("events", "--since", "1", "--until", "0s", "--filter", "event=die").stdout.splitlines()[0]
    start, _, attributes = line.partition(" (")
    assert start.endswith(f" container die {first['id']}")
    assert re.fullmatch(r"a=b, execDuration=\d+, exitCode=7, image=busybox, name=box\)", attributes)


def test_the_end_of_a_paused_container(box: Command) -> None:
    """It is let go to meet its signal, which is told too."""
    box("run", "-d", *_BOX, "busybox", "sleep", "60", check=True)
    box("pause", "box", check=True)
    box("kill", "box", check=True)
    assert _actions(box) == ["create", "start", "pause", "kill", "unpause", "die"]


def test_run_rm(box: Command) -> None:
    """One that removes itself says so, once, though its row goes later."""
    assert box("run", "--rm", *_BOX, "busybox", "true").returncode == 0
    box("ps", "-a", check=True)
    while "destroy" not in _actions(box):
        pass
    box("ps", "-a", check=True)
    assert _actions(box) == ["create", "start", "die", "destroy"]


def test_a_killed_monitor(box: Command, store: Store) -> None:
    """Nobody saw the end: the next command tells of it."""
    id = box("run", "-d", *_BOX, "busybox", "sleep", "60", check=True).stdout.strip()
    os.kill(store.monitor(id), signal.SIGKILL)
    while "die" not in _actions(box):
        box("ps", check=True)
    (event,) = _events(box, "--filter", "event=die")
    assert isinstance(event["Actor"], dict)
    assert event["Actor"]["Attributes"]["exitCode"] == "137"


def test_health_and_restarts(box: Command) -> None:
    """A change of health and a restart by policy are the monitor's to tell, also after it has renewed itself."""
    flags = ["--restart", "on-failure:1", "--health-cmd", "true", "--health-interval", "100ms"]
    script = "trap 'exit 3' USR1; while :; do sleep 0.02; done"
    box("run", "-d", *_BOX, *flags, "busybox", "sh", "-c", script, check=True)
    while "health_status: healthy" not in _actions(box):
        pass
    box("kill", "-s", "USR1", "box", check=True)
    until(box, "box", lambda told: told["RestartCount"] == 1 and told["Status"] == "running")
    actions = [action for action in _actions(box) if action not in {"kill", "health_status: healthy"}]
    assert actions == ["create", "start", "die", "start"]
    assert _actions(box, "--filter", "event=health_status")


def test_oom(box: Command) -> None:
    """What the kernel killed for want of memory."""
    box("run", *_BOX, "--memory", "16m", "--memory-swap", "16m", "busybox", "tail", "-c", "200m", "/dev/zero")
    assert _actions(box, "-f", "event=oom", "-f", "event=die") == ["oom", "die"]


def test_filters(box: Command) -> None:
    """By name, id, image, label and type; of one key any, of all keys every one."""
    id = box("create", *_BOX, "--label", "a=b", "busybox", "true", check=True).stdout.strip()
    for word in ("container=box", f"container={id[:12]}", "image=busybox", "label=a", "label=a=b", "type=container"):
        assert _actions(box, "--filter", word) == ["create"]
    for word in ("container=bo", "image=busy", "label=a=c", "type=image", "event=start"):
        assert _actions(box, "--filter", word) == []
    done = box("events", "--filter", "colour=red")
    assert done.returncode == 1
    assert "filters: container, event" in done.stderr


def test_a_follower(box: Command, environment: dict[str, str], settings: Settings) -> None:
    """It sees what happens after it came and nothing before, across the moment when the journal is put away."""
    box("create", "--name", "box", "busybox", "true", check=True)
    program = os.path.join(os.path.dirname(sys.executable), "sampan")
    argv = [program, "events", "--format", "{{.Action}}", "--filter", "container=box"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            # Until it follows: it has the journal open.
            while not any(_target(path).endswith("events.log") for path in Path(f"/proc/{follower.pid}/fd").iterdir()):
                assert follower.poll() is None
            state.note(settings.root, "first", "0", {"name": "box"})
            assert follower.stdout.readline() == "first\n"
            filler = {"name": "other", "text": "x" * 8000}
            while not os.path.exists(f"{settings.root}/events.log.1"):
                state.note(settings.root, "filler", "0", filler)
            box("rm", "box", check=True)
            assert follower.stdout.readline() == "destroy\n"
        finally:
            follower.kill()


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def test_the_journal_is_bounded(tmp_path: Path) -> None:
    """However much happens and however long its attributes are: two files, the newest events, every line whole."""
    labels = {f"label{i}": "x" * 100 for i in range(500)}
    for number in range(300):
        state.note(str(tmp_path), f"a{number}", "0", labels | {"name": "box", "long": "y" * 5000})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.log", "events.log.1"]
    assert all(path.stat().st_size <= state.JOURNAL_BYTES + state.EVENT_BYTES for path in tmp_path.iterdir())


def test_many_writers(tmp_path: Path) -> None:
    """Lines of several processes never mix, and none is lost while the journal is put away once."""
    children = []
    for writer in range(4):
        pid = os.fork()
        if pid == 0:
            for number in range(200):
                state.note(str(tmp_path), f"{writer}.{number}", "0", {"name": "z" * 1500})
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    lines = [line for path in tmp_path.iterdir() for line in path.read_bytes().splitlines()]
    found = {json.loads(line)["action"] for line in lines}
    assert found == {f"{writer}.{number}" for writer in range(4) for number in range(200)}


def test_what_is_no_event_is_passed_over(settings: Settings) -> None:
    """A torn line, and bytes that are no text."""
    os.makedirs(settings.root, exist_ok=True)
    with open(f"{settings.root}/events.log", "wb") as file:
        file.write(b'{"time_ns": 1, "act\n\xff\xfe\n[]\n{}\n')
    state.note(settings.root, "good", "0", {})
    assert list(journal.events(settings, until="2000-01-01T00:00:00.000000000Z")) == []
    (one,) = journal.events(settings, until=state.timestamp(time.time_ns()))
    assert one.action == "good"
