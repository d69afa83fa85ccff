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

from sampan import journal as writing
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
    kind = () if any(word.startswith("type=") for word in words) else ("--filter", "type=container")
    return [event["Action"] for event in _events(sampan, *kind, *words)]


def _told(sampan: Command, *words: str) -> list[tuple[object, ...]]:
    """Return kind, action, id and attributes of each event."""
    actors = [(event["Type"], event["Action"], event["Actor"]) for event in _events(sampan, *words)]
    return [
        (kind, action, actor["ID"], actor["Attributes"]) for kind, action, actor in actors if isinstance(actor, dict)
    ]


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
    assert _actions(box) == ["create", "attach", "start", "die", "destroy"]


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


def test_exec(box: Command) -> None:
    """Docker's three, with the command in the first two; a command that is not there has no end."""
    id = box("run", "-d", *_BOX, "--label", "a=b", "busybox", "sleep", "60", check=True).stdout.strip()
    assert box("exec", "box", "sh", "-c", "exit 3").returncode == 3
    assert box("exec", "box", "no-such-command").returncode == 127
    box("rename", "box", "boat", check=True)
    box("exec", "-d", "boat", "true", check=True)
    box("rename", "boat", "box", check=True)
    found = [(a, i, t) for _, a, i, t in _told(box, "--filter", "type=container") if str(a).startswith("exec_")]
    while sum(action == "exec_die" for action, _, _ in found) < 2:
        found = [(a, i, t) for _, a, i, t in _told(box, "--filter", "type=container") if str(a).startswith("exec_")]
    assert [action for action, _, _ in found] == [
        "exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die", "exec_create: no-such-command ",
        "exec_start: no-such-command ", "exec_create: true ", "exec_start: true ", "exec_die",
    ]  # fmt: skip
    (_, first, told) = found[2]
    assert isinstance(told, dict)
    exec_id = told.pop("execID")
    assert re.fullmatch("[0-9a-f]{64}", exec_id)
    assert (first, told) == (id, {"a": "b", "exitCode": "3", "image": "busybox", "name": "box"})
    assert isinstance(found[7][2], dict)
    assert found[7][2]["name"] == "boat"
    assert _actions(box, "--filter", "event=exec_create") == [found[0][0], found[3][0], found[5][0]]


@pytest.mark.netns
def test_networks_and_volumes(box: Command) -> None:
    """What a container has and has no more stands around its start and end, with docker's attributes."""
    network = box("network", "create", "lake", check=True).stdout.strip()
    box("volume", "create", "hold", check=True)
    words = ("--name", "box", "--network", "lake", "-v", "hold:/h:ro", "-v", "/tmp:/t", "busybox", "true")
    box("run", *words, check=True)
    id = box("ps", "-aq", "--no-trunc").stdout.strip()
    box("rm", "box", check=True)
    box("volume", "rm", "hold", check=True)
    box("network", "rm", "lake", check=True)
    told = [(kind, action) for kind, action, _, _ in _told(box) if kind != "image"]
    assert told == [
        ("network", "create"), ("volume", "create"), ("container", "create"), ("container", "attach"),
        ("volume", "mount"), ("network", "connect"), ("container", "start"),
        ("network", "disconnect"), ("volume", "unmount"), ("container", "die"),
        ("container", "destroy"), ("volume", "destroy"), ("network", "destroy"),
    ]  # fmt: skip
    mount = {"container": id, "destination": "/h", "driver": "local", "propagation": "", "read/write": "false"}
    assert [(i, t) for _, _, i, t in _told(box, "--filter", "volume=hold")] == [
        ("hold", {"driver": "local"}), ("hold", mount), ("hold", {"container": id, "driver": "local"}),
        ("hold", {"driver": "local"}),
    ]  # fmt: skip
    told_network = {"name": "lake", "type": "bridge"}
    connected = told_network | {"container": id}
    assert [(i, t) for _, _, i, t in _told(box, "--filter", "network=lake")] == [
        (network, told_network), (network, connected), (network, connected), (network, told_network),
    ]  # fmt: skip
    (first, *_) = _events(box, "--filter", "type=network")
    assert set(first) == {"Type", "Action", "Actor", "scope", "time", "timeNano"}


def test_commit_and_prune(box: Command) -> None:
    """An image that was made of a container, and containers that a prune has removed."""
    box("create", *_BOX, "busybox", "true", check=True)
    id = box("commit", "-m", "why", "box", "boat:2", check=True).stdout.strip()
    box("container", "prune", "-f", check=True)
    box("container", "prune", "-f", check=True)
    told = [(action, attributes) for _, action, _, attributes in _told(box, "--filter", "type=container")]
    who = {"image": "busybox", "name": "box"}
    made = who | {"comment": "why", "imageID": id, "imageRef": "boat:2"}
    assert told == [("create", who), ("commit", made), ("destroy", who)]


def test_volumes_that_come_and_go_by_themselves(box: Command) -> None:
    """A named one that its first use makes, an anonymous one that goes with its container."""
    box("run", "--rm", *_BOX, "-v", "hold:/h", "-v", "/anonymous", "busybox", "true", check=True)
    while "destroy" not in _actions(box, "--filter", "type=volume"):
        box("ps", "-a", check=True)
    told = [(action, id == "hold") for _, action, id, _ in _told(box, "--filter", "type=volume")]
    assert sorted(told) == sorted(
        [(action, is_named) for action in ("create", "mount", "unmount") for is_named in (True, False)]
        + [("destroy", False)]
    )


def test_images(box: Command, place: str) -> None:
    """What comes, goes and is called otherwise."""
    id = box("images", "-q", "--no-trunc").stdout.strip()
    box("tag", "busybox", "boat:1", check=True)
    box("save", "-o", f"{place}/boat.tar", "boat:1", check=True)
    box("rmi", "busybox", "boat:1", check=True)
    box("load", "-i", f"{place}/boat.tar", check=True)
    box("rmi", "boat:1", check=True)
    told = [(action, id, attributes["name"]) for _, action, id, attributes in _told(box, "--filter", "type=image")]  # type: ignore[index]  # a document
    assert told == [
        ("import", id, id), ("tag", id, "boat:1"), ("save", id, id), ("untag", id, id), ("untag", id, id),
        ("delete", id, id), ("load", id, id), ("untag", id, id), ("delete", id, id),
    ]  # fmt: skip
    (first, *_) = _events(box, "--filter", "type=image")
    assert first["status"] == "import"
    assert "from" not in first


def test_oom(box: Command) -> None:
    """What the kernel killed for want of memory."""
    box("run", *_BOX, "--memory", "16m", "--memory-swap", "16m", "busybox", "tail", "-c", "200m", "/dev/zero")
    assert _actions(box, "-f", "event=oom", "-f", "event=die") == ["oom", "die"]


def test_filters(box: Command) -> None:
    """By name, id, image, label and type; of one key any, of all keys every one."""
    id = box("create", *_BOX, "--label", "a=b", "busybox", "true", check=True).stdout.strip()
    named = ("container=box", f"container={id[:12]}", "container=bo", "scope=local")
    for word in (*named, "image=busybox", "label=a", "label=a=b", "type=container"):
        assert _actions(box, "--filter", word) == ["create"]
    for word in ("container=ox", "image=busy", "label=a=c", "event=start", "volume=box", "network=box", "daemon=box"):
        assert _actions(box, "--filter", word) == []
    assert _actions(box, "--filter", "type=image") == ["import"]
    done = box("events", "--filter", "colour=red")
    assert done.returncode == 1
    assert "filters: container, daemon, event" in done.stderr


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
            writing.note(settings.root, "first", "0", {"name": "box"})
            assert follower.stdout.readline() == "first\n"
            filler = {"name": "other", "text": "x" * 8000}
            while not os.path.exists(f"{settings.root}/events.log.1"):
                writing.note(settings.root, "filler", "0", filler)
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
        writing.note(str(tmp_path), f"a{number}", "0", labels | {"name": "box", "long": "y" * 5000})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.log", "events.log.1"]
    assert all(path.stat().st_size <= writing.JOURNAL_BYTES + writing.EVENT_BYTES for path in tmp_path.iterdir())


def test_many_writers(tmp_path: Path) -> None:
    """Lines of several processes never mix, and none is lost while the journal is put away once."""
    children = []
    for writer in range(4):
        pid = os.fork()
        if pid == 0:
            for number in range(200):
                writing.note(str(tmp_path), f"{writer}.{number}", "0", {"name": "z" * 1500})
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
    writing.note(settings.root, "good", "0", {})
    assert list(journal.events(settings, until="2000-01-01T00:00:00.000000000Z")) == []
    (one,) = journal.events(settings, until=state.timestamp(time.time_ns()))
    assert one.action == "good"
