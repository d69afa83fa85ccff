"""A normal user's containers, without and with a range of subordinate ids: the same words, the same ends."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.settings.configuration import Settings
from tests.engine.conftest import Store, fetch
from tests.plugin.person import GID, UID, Person, end_holder

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip


def test_a_single_id_is_enough(user: Person, store: Store) -> None:
    """Without newuidmap or a range: run, output, status; the image's USER is the one id there is; nothing is left."""
    done = user("run", "--rm", "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map; exit 5")
    assert done.returncode == 5, done.stderr
    assert done.stdout.split() == ["0", "0", "0", "1"]
    script = "id -u; id -g; touch /tmp/x; ls -ln /tmp/x"
    other = user("run", "--rm", "--user", "65532:65533", "busybox", "sh", "-c", script, check=True)
    assert other.stdout.split()[:2] == ["65532", "65533"]
    assert "65532    65533" in other.stdout
    assert _left(user, store) == []


def test_what_is_missing_is_said_once(user: Person, place: str) -> None:
    """The command that starts the holder warns of what a normal user lacks here; the next ones do not."""
    end_holder(f"{place}/n")
    assert "warning" in user("run", "--rm", "busybox", "true").stderr
    assert user("run", "--rm", "busybox", "true").stderr == ""


def test_a_limit_that_cannot_be_applied_is_an_error_for_who_asked(user: Person) -> None:
    """Nobody else is bothered."""
    user("run", "--rm", "busybox", "true", check=True)
    done = user("run", "--rm", "--memory", "64m", "busybox", "true")
    assert done.returncode in (0, 125)
    assert done.returncode == 0 or "`--memory`" in done.stderr


def test_a_published_port_and_docker_s_words(user: Person, store: Store) -> None:
    """A port is forwarded, to its end; exec, logs, stop, start and rm do what they do for root."""
    server = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 5000 -h /w"
    user("run", "-d", "--name", "web", "-p", "127.0.0.1::5000", "busybox", "sh", "-c", server, check=True)
    (found,) = json.loads(user("inspect", "web", check=True).stdout)
    port = found["NetworkSettings"]["Ports"]["5000/tcp"][0]["HostPort"]
    assert fetch(f"http://127.0.0.1:{port}/") == b"hello\n"
    assert user("exec", "web", "cat", "/w/index.html", check=True).stdout == "hello\n"
    address = found["NetworkSettings"]["IPAddress"]
    script = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 5000 | tail -n 1"
    assert user("run", "--rm", "busybox", "sh", "-c", script, check=True).stdout == "hello\n"
    user("stop", "-t", "0", "web", check=True)
    user("start", "web", check=True)
    user("rm", "-f", "web", check=True)
    assert _left(user, store) == []


def test_with_a_range_there_are_many_ids(subordinate: None, user: Person, store: Store) -> None:
    """With newuidmap and /etc/subuid a container has all the ids it needs, and they are the image's own inside."""
    script = "cat /proc/self/uid_map; touch /x; chown 1000:1000 /x; ls -ln /x; exec su -s /bin/sh user -c 'id -u'"
    done = user("run", "--rm", "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1000"
    assert "1000     1000" in done.stdout
    assert _left(user, store) == []


def test_a_network_of_one_s_own(user: Person, store: Store) -> None:
    """Names, isolation, a health check and a restart policy are what they are for root; and nothing is left."""
    user("network", "create", "front", check=True)
    words = ("--network", "front", "--network-alias", "www", "--restart", "always", "-p", "127.0.0.1::80")
    check = ("--health-cmd", "test -e /etc", "--health-interval", "100ms")
    serve = "echo hello > /index.html; httpd -f -p 80 -h / & while [ ! -e /end ]; do sleep 0.1; done; rm /end"
    user("run", "-d", "--name", "web", *words, *check, "busybox", "sh", "-c", serve, check=True)
    (found,) = json.loads(user("inspect", "web", check=True).stdout)
    address = found["NetworkSettings"]["Networks"]["front"]["IPAddress"]
    shown = user("run", "--rm", "--network", "front", "busybox", "nslookup", "www")
    assert f"Address: {address}\n" in shown.stdout, shown.stderr
    time.sleep(1.2)  # so that the monitor has renewed itself
    user("exec", "web", "touch", "/end", check=True)
    deadline = time.monotonic() + 20
    while True:
        (found,) = json.loads(user("inspect", "web", check=True).stdout)
        if found["RestartCount"] == 1 and found["State"].get("Health", {}).get("Status") == "healthy":
            break
        assert time.monotonic() < deadline, found["State"]
        time.sleep(0.05)
    port = found["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    assert fetch(f"http://127.0.0.1:{port}/") == b"hello\n"
    shown = user("exec", "web", "nslookup", "web")
    assert f"Address: {address}\n" in shown.stdout, shown.stderr
    assert user("network", "rm", "front").returncode == 1
    user("rm", "-f", "web", check=True)
    user("network", "rm", "front", check=True)
    assert _left(user, store) == []


@pytest.mark.parametrize("point", ["command-committed", "monitor-created", "monitor-running", "monitor-recorded"])
def test_a_crash_leaves_nothing(user: Person, store: Store, point: str) -> None:
    """Kill -9 at the points that matter: nothing is left after the next command."""
    user("run", "--rm", "-p", "127.0.0.1::80", "busybox", "sleep", "0.2", fault=point)
    time.sleep(0.5)
    user("ps", "-a", check=True)
    user("run", "--rm", "busybox", "true", check=True)
    assert _left(user, store) == []


def test_killing_the_holder_is_no_end(user: Person, place: str, settings: Settings) -> None:
    """Kill -9 of the holder: the next command starts another, and containers run."""
    user("run", "--rm", "busybox", "true", check=True)
    end_holder(f"{place}/n")
    assert user("run", "--rm", "busybox", "echo", "again", check=True).stdout == "again\n"


def test_a_container_joins_another(user: Person, store: Store) -> None:
    """It is on the other's network and in its memory; among its processes where it can be ended as a whole."""
    user("run", "-d", "--name", "donor", "--ipc", "shareable", "busybox", "sleep", "1000", check=True)
    user("exec", "donor", "sh", "-c", "echo shared > /dev/shm/file", check=True)
    joins = ("--network", "container:donor", "--ipc", "container:donor")
    done = user("run", "--rm", *joins, "busybox", "sh", "-c", "ip addr show eth0; cat /dev/shm/file", check=True)
    assert "inet 10." in done.stdout
    assert done.stdout.endswith("shared\n")
    script = "ps -o args; ip addr show eth0"
    done = user("run", "--rm", "--pid", "container:donor", "busybox", "sh", "-c", script)
    # Where a normal user has no control group, as with version 1, nobody could end what it leaves there.
    assert "control group" in done.stderr if done.returncode else "sleep 1000" in done.stdout
    user("rm", "-f", "donor", check=True)
    assert _left(user, store) == []


def test_a_running_container_is_connected(user: Person, store: Store) -> None:
    """Where the bridges are the holder's: an interface, a name, and its end."""
    for name in ("front", "back"):
        user("network", "create", name, check=True)
    user("run", "-d", "--name", "web", "--network", "front", "busybox", "sleep", "1000", check=True)
    user("run", "-d", "--name", "other", "--network", "back", "busybox", "sleep", "1000", check=True)
    user("network", "connect", "back", "web", check=True)
    assert "1 packets received" in user("exec", "web", "ping", "-c", "1", "-W", "2", "other", check=True).stdout
    user("network", "disconnect", "front", "web", check=True)
    assert user("exec", "web", "ls", "/sys/class/net", check=True).stdout.split() == ["eth1", "lo"]
    user("rm", "-f", "web", "other", check=True)
    user("network", "rm", "front", "back", check=True)
    assert _left(user, store) == []


def test_a_user_keeps_his_own_id(user: Person, place: str) -> None:
    """With one id that is what he is inside; what he makes in a directory of his is his."""
    os.mkdir(f"{place}/work", 0o755)
    os.chown(f"{place}/work", UID, GID)
    words = ("--userns", "keep-id", "-v", f"{place}/work:/work")
    done = user("run", "--rm", *words, "busybox", "sh", "-c", "id -u; id -g; echo > /work/file", check=True)
    assert done.stdout.split() == [str(UID), str(GID)]
    told = os.stat(f"{place}/work/file")
    assert (told.st_uid, told.st_gid) == (UID, GID)
    assert user("run", "--rm", *words, "-u", "0", "busybox", "true").returncode == 125


def test_a_user_keeps_his_own_id_among_many(subordinate: None, user: Person, place: str) -> None:
    """With a range there are root and others beside him; the command runs as he himself, unless it is to be another."""
    os.mkdir(f"{place}/work", 0o755)
    os.chown(f"{place}/work", UID, GID)
    words = ("--userns", "keep-id", "-v", f"{place}/work:/work")
    script = "id -u; echo > /work/file; ls -ln /work/file"
    done = user("run", "--rm", *words, "busybox", "sh", "-c", script, check=True)
    assert done.stdout.split()[0] == str(UID)
    assert f" {UID} " in done.stdout.splitlines()[1]
    assert os.stat(f"{place}/work/file").st_uid == UID
    user("run", "-d", "--name", "kept", *words, "busybox", "sleep", "1000", check=True)
    assert user("exec", "kept", "id", "-u", check=True).stdout == f"{UID}\n"
    assert user("exec", "-u", "0", "kept", "id", "-u", check=True).stdout == "0\n"
    user("rm", "-f", "kept", check=True)


def _left(user: Person, store: Store) -> list[str]:
    """Return what is left after the next commands, but for the holder's own files."""
    deadline = time.monotonic() + 3
    while True:
        assert len(user("ps", "-a", check=True).stdout.splitlines()) == 1
        found = [what for what in store.now() if not what.startswith(("run holder", "run pasta"))]
        if not found or time.monotonic() > deadline:
            return found


def test_what_runs_is_seen_without_a_cgroup(user: Person, store: Store) -> None:
    """By their namespace top finds the processes; stats says what nobody counts; pause says why it cannot be."""
    user("run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep 61 & exec sleep 62", check=True)
    lines = user("top", "box", "-o", "pid,user,cmd", check=True).stdout.splitlines()
    assert [line.split(None, 1)[1].split() for line in lines[1:]] == [["root", "sleep", "62"], ["root", "sleep", "61"]]
    done = user("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemPerc}} {{.PIDs}}", check=True)
    assert done.stdout == "-- -- 2\n"
    assert "nobody counts what `box` uses" in done.stderr
    done = user("pause", "box")
    assert done.returncode == 1
    assert "cannot be paused here" in done.stderr
    done = user("update", "--memory", "64m", "box")
    assert done.returncode == 1
    assert "`--memory` cannot be applied here" in done.stderr
    user("update", "--cpu-shares", "0", "--pids-limit", "0", "box")
    user("rm", "-f", "box", check=True)
    told = user(
        "events", "--since", "1h", "--until", "0s", "--filter", "type=container", "--format", "{{.Action}}", check=True
    ).stdout.split()
    assert told == ["create", "start", "kill", "die", "destroy"]
    assert _left(user, store) == []


def test_a_nursery_is_in_the_holder_s_namespaces(user: Person, store: Store) -> None:
    """So are its monitors, and what they start ends as anything else."""
    program = """
import os, sys
from sampan.engine import container, nursery
from sampan.engine.run_options import RunOptions
from sampan.settings import configuration
settings = configuration.load()
nursery.open(settings)
with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
    nurse = int(file.read())
with container.run(settings, RunOptions("busybox", command=("sh", "-c", "exit 4"), auto_remove=True)) as one:
    assert os.readlink(f"/proc/{nurse}/ns/user") == os.readlink("/proc/self/ns/user")
    print(one.client.wait())
nursery.close()
"""
    assert user.python(program, check=True).stdout == "4\n"


def test_the_whole_life(subordinates: str, user: Person, store: Store, place: str) -> None:
    """Docker's words about a container from `run` to `rm` are a normal user's too; what the kernel forbids is said."""
    script = "echo up; echo err >&2; touch /made; trap 'exit 3' TERM; while :; do sleep 0.05; done"
    user("run", "-d", "--name", "box", "-p", "127.0.0.1::80", "busybox", "sh", "-c", script, check=True)
    _until(lambda: user("logs", "box").stdout == "up\n")
    assert user("logs", "box").stderr == "err\n"
    assert user("ps", "--format", "{{.Names}} {{.State}}", check=True).stdout == "box running\n"
    assert user("port", "box", "80", check=True).stdout.startswith("127.0.0.1:")
    assert user("exec", "-u", "0", "-w", "/tmp", "box", "pwd", check=True).stdout == "/tmp\n"
    assert user("exec", "box", "sh", "-c", "exit 5").returncode == 5
    # Files in, out and between, changes, and an image of them.
    files = Path(place, "files")
    files.mkdir()
    os.chown(files, UID, GID)
    (files / "word").write_text("hello\n", encoding="utf-8")
    user("cp", f"{files}/word", "box:/word", check=True)
    user("cp", "box:/word", f"{files}/back", check=True)
    assert (files / "back").read_text(encoding="utf-8") == "hello\n"
    assert {"A /made", "A /word"} <= set(user("diff", "box", check=True).stdout.splitlines())
    user("commit", "box", "made", check=True)
    assert user("run", "--rm", "made", "cat", "/word", check=True).stdout == "hello\n"
    # What it does and what it may.
    assert "sh -c" in user("top", "box", "-o", "pid,cmd", check=True).stdout
    assert user("stats", "--no-stream", "--format", "{{.Name}}", check=True).stdout == "box\n"
    for words, flag in ((("pause", "box"), "paused"), (("update", "-m", "64m", "box"), "`--memory`")):
        done = user(*words)
        assert done.returncode == 0 or (flag in done.stderr and "hint:" in done.stderr), done.stderr
    user("unpause", "box")
    user("rename", "box", "crate", check=True)
    # Ends of all kinds, and beginnings.
    user("stop", "crate", check=True)
    assert user("wait", "crate", check=True).stdout == "3\n"
    user("update", "--restart", "on-failure:3", "crate", check=True)
    user("start", "crate", check=True)
    user("kill", "crate", check=True)
    assert user("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "crate").stdout == "exited 137\n"
    user("restart", "-t", "0", "crate", check=True)
    assert user("boot", "stop").returncode == 0
    assert user("boot", "start", check=True).stdout == "crate\n"
    assert user("run", "--name", "short", "busybox", "sh", "-c", "echo out; exit 4").returncode == 4
    done = user("start", "-a", "short")
    assert (done.returncode, done.stdout) == (4, "out\n")
    told = user("events", "--since", "1h", "--until", "0s", "--filter", "container=short", "--format", "{{.Action}}")
    assert told.stdout.split() == ["create", "attach", "start", "die", "start", "attach", "die"]
    assert user("rm", "crate").returncode == 1
    user("rm", "-f", "crate", "short", check=True)
    user("rmi", "made", check=True)
    assert _left(user, store) == []


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_wiped_sampan_run_is_no_death(user: Person, store: Store, place: str) -> None:
    """What runs is found running, beside another holder, and can be stopped and started; what cannot be is said."""
    words = ("--restart", "unless-stopped", "-p", "127.0.0.1::80", "busybox", "sleep", "1000")
    user("run", "-d", "--name", "box", *words, check=True)
    before = json.loads(Path(place, "n", "holder.json").read_text(encoding="utf-8"))["pid"]
    (id,) = store.containers()
    _until(lambda: b"sampan-monitor" in Path(f"/proc/{store.monitor(id)}/cmdline").read_bytes())
    for path in Path(place, "n").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert user("ps", "--format", "{{.State}}", check=True).stdout == "running\n"
    done = user("exec", "box", "echo", "hello")
    assert done.returncode == 1
    assert "`sampan restart` it" in done.stderr
    user("restart", "-t", "0", "box", check=True)
    assert user("exec", "box", "echo", "hello", check=True).stdout == "hello\n"
    assert user("run", "--rm", "busybox", "echo", "hello", check=True).stdout == "hello\n"
    user("rm", "-f", "box", check=True)
    assert _left(user, store) == []
    # The one that nobody finds ends by itself.
    _until(lambda: not Path(f"/proc/{before}").exists())
