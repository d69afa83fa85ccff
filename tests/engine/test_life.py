"""A container's life on the real kernel, in docker's words, from `run` to `rm`."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.engine import frame
from sampan.settings.configuration import Settings
from tests.engine.conftest import Store, run_until_up

PROJECT = str(Path(__file__).resolve().parents[2])
Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip


def _run(sampan: Command, *words: str, name: str = "box") -> str:
    """Start a container that sleeps, in the background; return its id."""
    return sampan("run", "-d", "--network", "none", "--name", name, *words, check=True).stdout.strip()


def _until(holds: Callable[[], bool]) -> None:
    """Wait, for a while, until something holds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_run_gives_output_and_status_and_leaves_nothing(sampan: Command, store: Store) -> None:
    """`run --rm`: stdout, stderr and the command's status arrive; directory, rows, cgroup and socket are gone."""
    done = sampan("run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert store.left(sampan) == []


def test_all_output_arrives_however_much(sampan: Command) -> None:
    """A megabyte of output, more than any buffer on the way, arrives whole at a slow reader."""
    done = sampan("run", "--rm", "--network", "none", "busybox", "sh", "-c", "seq 1 200000")
    assert done.returncode == 0
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 200001))


def test_input_goes_in_and_its_end_too(sampan: Command) -> None:
    """`run -i`: stdin, larger than the window, goes to the command, and its end ends the command."""
    text = "word\n" * 200_000
    done = sampan("run", "-i", "--rm", "--network", "none", "busybox", "wc", "-c", feed=text)
    assert done.stdout.strip() == str(len(text))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("busybox", "no-such-command"), 127),
        (("busybox", "/etc/passwd"), 126),
        (("no-such-image", "true"), 125),
        (("--name", "-bad", "busybox", "true"), 125),
        (("--user", "nobody-here", "busybox", "true"), 125),
        (("--memory", "1m", "busybox", "true"), 125),
        (("--cap-add", "flying", "busybox", "true"), 125),
        (("busybox", "sh", "-c", "ulimit -t 1; while :; do :; done"), 137),
    ],
)
def test_statuses_are_docker_s(sampan: Command, store: Store, words: tuple[str, ...], status: int) -> None:
    """125 for us, 126 and 127 for the command that cannot run, 128 + signal; and nothing is left behind."""
    done = sampan("run", "--rm", "--network", "none", *words)
    assert done.returncode == status, done.stderr
    assert store.left(sampan) == []


def test_stop_start_and_remove(sampan: Command, store: Store) -> None:
    """A stopped container keeps its files and its state, starts again, and is gone after rm."""
    id = _run(
        sampan,
        "busybox",
        "sh",
        "-c",
        "trap 'exit 3' TERM; echo $((1 + $(cat /n || echo 0))) > /n; echo up; while :; do sleep 0.1; done",
    )
    assert sampan("ps", "-q", "--no-trunc").stdout.strip() == id
    _until(lambda: sampan("logs", "box").stdout == "up\n")
    sampan("stop", "box", check=True)
    assert store.state(id)["exit_code"] == 3
    assert sampan("ps", "-q").stdout == ""
    assert "Exited (3)" in sampan("ps", "-a").stdout
    sampan("start", "box", check=True)
    _until(lambda: sampan("logs", "box").stdout == "up\nup\n")
    assert sampan("exec", "box", "cat", "/n", check=True).stdout == "2\n"
    assert sampan("rm", "box").returncode == 1
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_stop_kills_what_does_not_listen(sampan: Command, store: Store) -> None:
    """After the time-out comes SIGKILL; a command without a handler is PID 1 and hears nothing of SIGTERM."""
    id = _run(sampan, "busybox", "sleep", "1000")
    begun = time.monotonic()
    sampan("stop", "-t", "1", "box", check=True)
    assert 0.9 < time.monotonic() - begun < 3
    assert store.state(id)["exit_code"] == 137
    assert store.state(id)["oom_killed"] is False
    sampan("rm", "box", check=True)


def test_a_name_is_free_when_run_returns(sampan: Command) -> None:
    """`run --rm --name xx` can be said again at once, though the first one's monitor is still taking it down."""
    for _ in range(5):
        sampan("run", "--rm", "--name", "xx", "--network", "none", "busybox", "true", check=True)
    assert _run(sampan, "busybox", "sleep", "1000", name="xx")
    taken = sampan("run", "--rm", "--name", "xx", "--network", "none", "busybox", "true")
    assert taken.returncode == 125
    assert "`xx`" in taken.stderr
    sampan("rm", "-f", "xx", check=True)


def test_a_detached_container_removes_itself(sampan: Command, store: Store) -> None:
    """`run -d --rm`: when the command ends nothing is left, and `ps -a` does not show it."""
    sampan("run", "-d", "--rm", "--network", "none", "busybox", "sleep", "0.2", check=True)
    time.sleep(0.6)
    assert len(sampan("ps", "-a").stdout.splitlines()) == 1
    assert store.left(sampan) == []


def test_wait_and_kill(sampan: Command) -> None:
    """`wait` returns the status; `kill` sends any signal; both say when nothing runs."""
    _run(sampan, "busybox", "sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.05; done")
    waiting: list[str] = []
    thread = threading.Thread(target=lambda: waiting.append(sampan("wait", "box").stdout))
    thread.start()
    time.sleep(0.3)
    sampan("kill", "-s", "USR1", "box", check=True)
    thread.join(10)
    assert waiting == ["9\n"]
    assert sampan("kill", "box").returncode == 1
    assert sampan("wait", "box").stdout == "9\n"
    sampan("rm", "box", check=True)


def test_inspect_speaks_docker(sampan: Command) -> None:
    """The keys that people and tools read stand there, with docker's words."""
    words = ("-e", "A=b", "--label", "l=v", "--memory", "64m", "--cpus", "0.5", "--hostname", "web", "-w", "/tmp")
    id = _run(sampan, *words, "busybox", "sleep", "1000")
    (found,) = json.loads(sampan("inspect", "box", check=True).stdout)
    assert found["Id"] == id
    assert found["Name"] == "/box"
    assert (found["Path"], found["Args"]) == ("sleep", ["1000"])
    assert found["State"]["Status"] == "running"
    assert found["State"]["Running"] is True
    assert os.path.exists(f"/proc/{found['State']['Pid']}")
    assert found["HostConfig"]["Memory"] == 64 << 20
    assert found["HostConfig"]["NanoCpus"] == 500_000_000
    assert "A=b" in found["Config"]["Env"]
    assert found["Config"]["Labels"]["l"] == "v"
    assert found["Config"]["Hostname"] == "web"
    assert found["Config"]["WorkingDir"] == "/tmp"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", found["State"]["StartedAt"])
    sampan("rm", "-f", "box", check=True)


def test_logs(sampan: Command) -> None:
    """Both streams, the last lines, with times, and following until the end."""
    _run(sampan, "busybox", "sh", "-c", "echo one; echo two >&2; printf three; sleep 0.5; echo; sleep 0.3; echo four")
    followed = sampan("logs", "-f", "box", check=True)
    assert (followed.stdout, followed.stderr) == ("one\nthree\nfour\n", "two\n")
    assert sampan("logs", "--tail", "1", "box").stdout == "four\n"
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z one\n", sampan("logs", "-t", "box").stdout)
    assert sampan("logs", "--since", "2999-01-01T00:00:00", "box").stdout == ""
    sampan("rm", "box", check=True)


def test_limits_hold(sampan: Command, store: Store) -> None:
    """A command that takes more memory than it may is killed, and that is what is said."""
    command = "a=x; while :; do a=$a$a$a$a; done"
    id = _run(sampan, "--memory", "16m", "busybox", "sh", "-c", command)
    waited = sampan("wait", "box")
    assert waited.stdout == "137\n", waited.stderr
    assert store.state(id)["oom_killed"] is True
    (found,) = json.loads(sampan("inspect", "box").stdout)
    assert found["State"]["OOMKilled"] is True
    assert found["State"]["ExitCode"] == 137
    sampan("rm", "box", check=True)


def test_it_is_isolated(sampan: Command) -> None:
    """Its ids are none of the machine's, its capabilities docker's, its processes and host name its own."""
    words = (
        "cat /proc/self/uid_map; grep -e CapEff -e Seccomp: /proc/self/status; ps | wc -l; hostname; ls /sys/firmware"
    )
    done = sampan("run", "--rm", "--network", "none", "--hostname", "inside", "busybox", "sh", "-c", words, check=True)
    lines = done.stdout.splitlines()
    inside, outside, size = map(int, lines[0].split())
    assert (inside, size) == (0, 65536)
    assert outside >= 0x6000_0000
    assert lines[1].split() == ["CapEff:", "00000000a80425fb"]
    assert lines[2].split() == ["Seccomp:", "2"]
    assert int(lines[3]) < 6
    assert lines[4] == "inside"
    assert lines[5:] == []


def test_the_ids_on_disk_are_the_image_s(sampan: Command, store: Store) -> None:
    """What root writes in a container is root's on disk, what user 1000 writes is 1000's: nothing is shifted."""
    id = _run(sampan, "busybox", "sh", "-c", "touch /mine; mkdir -m 777 /his; chown 1000 /his; sleep 1000")
    sampan("exec", "-u", "1000", "box", "touch", "/his/file", check=True)
    upper = f"{store.root}/containers/{id}/upper"
    assert [os.stat(f"{upper}/{name}").st_uid for name in ("mine", "his", "his/file")] == [0, 1000, 1000]
    sampan("rm", "-f", "box", check=True)


def test_userns_host_is_the_machine_s(sampan: Command) -> None:
    """`--userns=host`, and `--privileged` which implies it, leave the ids as they are."""
    for word in ("--userns=host", "--privileged"):
        done = sampan("run", "--rm", "--network", "none", word, "busybox", "cat", "/proc/self/uid_map", check=True)
        assert done.stdout.split() == ["0", "0", "4294967295"]


def test_volumes(sampan: Command, store: Store, place: str) -> None:
    """A bind shows the directory, a missing source is made, `:ro` protects; a named volume begins as the image is."""
    os.mkdir(f"{place}/data")
    script = "echo hi > /data/file; ls -d /made; touch /ro/x; cat /vol/passwd | head -n 1; echo new > /vol/new"
    # The volume is filled from what the image has at the first place: /etc.
    words = ("-v", f"{place}/data:/data", "-v", f"{place}/made:/made", "-v", f"{place}/data:/ro:ro")
    named = ("-v", "named:/etc", "-v", "named:/vol")
    done = sampan("run", "--rm", "--network", "none", *words, *named, "busybox", "sh", "-c", script)
    assert "root:x:0:0" in done.stdout, done.stderr
    assert "Read-only file system" in done.stderr
    with open(f"{place}/data/file", encoding="utf-8") as file:
        assert file.read() == "hi\n"
    assert os.path.isdir(f"{place}/made")
    again = sampan("run", "--rm", "--network", "none", "-v", "named:/v", "busybox", "cat", "/v/new", check=True)
    assert again.stdout == "new\n"
    assert store.rows("SELECT name FROM volumes") == [("named",)]


def test_an_anonymous_volume_goes_with_its_container(sampan: Command, store: Store) -> None:
    """--rm takes it along; `rm` alone leaves it, `rm -v` does not."""
    sampan("run", "--rm", "--network", "none", "-v", "/data", "busybox", "touch", "/data/x", check=True)
    _run(sampan, "-v", "/data", "busybox", "true")
    sampan("wait", "box", check=True)
    assert len(store.rows("SELECT name FROM volumes")) == 1
    sampan("rm", "-v", "box", check=True)
    assert store.left(sampan) == []


def test_read_only_and_tmpfs(sampan: Command) -> None:
    """`--read-only` makes the root so; a tmpfs in it is writable."""
    script = "touch /x || echo no; touch /run/x && echo yes"
    words = ("--read-only", "--tmpfs", "/run:size=1m")
    done = sampan("run", "--rm", "--network", "none", *words, "busybox", "sh", "-c", script)
    assert done.stdout == "no\nyes\n"


def test_the_environment_is_docker_s(sampan: Command) -> None:
    """PATH, HOSTNAME and HOME are there; what was said wins; HOME is the user's."""
    done = sampan("run", "--rm", "--network", "none", "-e", "A=1", "-u", "1000", "busybox", "env", check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["A"] == "1"
    assert found["HOME"] == "/home"
    assert found["PATH"]
    assert re.fullmatch("[0-9a-f]{12}", found["HOSTNAME"])


def test_what_two_start_at_once_runs_once(sampan: Command, store: Store) -> None:
    """Several `start`s of one container: it runs once, and each says so without an error."""
    id = sampan("create", "--name", "box", "--network", "none", "busybox", "sleep", "1000", check=True).stdout.strip()
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(sampan("start", "box").returncode)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [0, 0, 0, 0]
    assert store.state(id)["status"] == "running"
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_many_at_once(sampan: Command, store: Store) -> None:
    """Eight `run --rm` at the same time each get their own ids and name, and leave nothing."""
    results: list[str] = []
    argv = ("run", "--rm", "--network", "none", "busybox", "cat", "/proc/self/uid_map")
    threads = [threading.Thread(target=lambda: results.append(sampan(*argv).stdout)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 8
    assert all(result.split()[2] == "65536" for result in results)
    assert store.left(sampan) == []


def test_ctrl_c_ends_the_foreground(environment: dict[str, str], settings: Settings, sampan: Command) -> None:
    """SIGINT to the command reaches the container's process, and the status is its own."""
    process = run_until_up(environment, "trap 'exit 5' INT; echo up; while :; do sleep 0.05; done")
    assert process.stdout is not None
    process.send_signal(2)
    assert process.wait(10) == 5
    process.stdout.close()
    sampan("ps", check=True)


def test_a_client_that_never_reads_holds_up_nobody(sampan: Command, store: Store) -> None:
    """Five megabytes of output and a deaf client attached: the container ends in its own time, it is cut off."""
    id = _run(sampan, "busybox", "sh", "-c", "sleep 0.5; seq 1 800000; echo done")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(f"{store.run}/{id}/attach.sock")
        deaf.sendall(frame.pack(frame.HELLO, frame.ATTACH))
        begun = time.monotonic()
        assert sampan("wait", "box").stdout == "0\n"
        assert time.monotonic() - begun < 20
    assert sampan("logs", "--tail", "1", "box").stdout == "done\n"
    sampan("rm", "box", check=True)


def test_a_full_disk_does_not_lose_the_end(environment: dict[str, str], sampan: Command, store: Store) -> None:
    """With no block free the exit status is recorded all the same, and the container can be removed."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", store.root], check=True)
    try:
        sampan("import", _tar(), "busybox", check=True)
        id = _run(sampan, "busybox", "sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done")
        with contextlib.suppress(OSError), open(f"{store.root}/filler", "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        sampan("stop", "box", check=True)
        assert store.state(id)["exit_code"] == 8
        os.unlink(f"{store.root}/filler")
        sampan("rm", "box", check=True)
    finally:
        subprocess.run(["umount", "-l", store.root], check=True)


def _tar() -> str:
    done = subprocess.run([sys.executable, "tools/busybox.py"], check=True, capture_output=True, text=True, cwd=PROJECT)
    return done.stdout.strip()


def test_too_much_memory_is_told(sampan: Command, store: Store) -> None:
    """The kernel's kill for want of memory: status 137, OOMKilled, an event before the end; the next run forgets it."""
    script = "[ -e /again ] && exit 0; touch /again; exec tail /dev/zero"
    done = sampan("run", "--network", "none", "--name", "box", "-m", "32m", "busybox", "sh", "-c", script)
    assert done.returncode == 137, done.stderr
    (found,) = json.loads(sampan("inspect", "box", check=True).stdout)
    assert (found["State"]["OOMKilled"], found["State"]["ExitCode"]) == (True, 137)
    told = sampan(
        "events", "--since", "1h", "--until", "0s", "--filter", "type=container", "--format", "{{.Action}}", check=True
    ).stdout.split()
    assert told == ["create", "attach", "start", "oom", "die"]
    assert sampan("start", "-a", "box", check=True).returncode == 0
    (found,) = json.loads(sampan("inspect", "box", check=True).stdout)
    assert (found["State"]["OOMKilled"], found["State"]["ExitCode"]) == (False, 0)
    sampan("rm", "box", check=True)
    assert store.left(sampan) == []


@pytest.mark.parametrize("signal", ["USR1", "SIGUSR1", "10"])
def test_the_signal_and_the_time_that_a_container_was_given(sampan: Command, store: Store, signal: str) -> None:
    """`--stop-signal` asks it to end, by name or number; `--stop-timeout` is its patience; `-t` and `-s` override."""
    script = "trap 'exit 7' USR1; trap 'exit 8' HUP; echo up; while :; do sleep 0.05; done"
    words = ("--stop-signal", signal, "--stop-timeout", "0", "busybox", "sh", "-c")
    id = _run(sampan, *words, script)
    (found,) = json.loads(sampan("inspect", "box", check=True).stdout)
    assert (found["Config"]["StopSignal"], found["Config"]["StopTimeout"]) == (signal, 0)
    _until(lambda: sampan("logs", "box").stdout == "up\n")
    sampan("stop", "-t", "20", "box", check=True)
    assert store.state(id)["exit_code"] == 7
    sampan("start", "box", check=True)
    _until(lambda: sampan("logs", "box").stdout == "up\nup\n")
    sampan("stop", "-t", "20", "-s", "HUP", "box", check=True)
    assert store.state(id)["exit_code"] == 8
    # One that does not listen, and no patience.
    deaf = sampan("run", "-d", "--network", "none", *words, "trap '' USR1; while :; do sleep 0.05; done", check=True)
    sampan("stop", deaf.stdout.strip(), check=True)
    assert sampan("wait", deaf.stdout.strip(), "box", check=True).stdout == "137\n8\n"
    new = sampan("create", "busybox", "true", check=True).stdout.strip()
    assert sampan("wait", new, check=True).stdout == "0\n"
    assert sampan("kill", "box").returncode == 1
    sampan("rm", "box", new, deaf.stdout.strip(), check=True)
    assert store.left(sampan) == []


def test_several_are_stopped_at_the_same_time(sampan: Command, store: Store) -> None:
    """Each has its signal before any has ended: the first waits for the last. An error between them stops nobody."""
    waits = "trap 'until [ -e /shared/told ]; do sleep 0.05; done; exit 3' TERM; while :; do sleep 0.05; done"
    tells = "trap 'touch /shared/told; exit 4' TERM; while :; do sleep 0.05; done"
    for name, script in (("one", waits), ("two", waits), ("three", tells)):
        sampan("run", "-d", "--name", name, "-v", "shared:/shared", "busybox", "sh", "-c", script, check=True)
    done = sampan("stop", "-t", "50", "one", "nobody", "two", "three", "one")
    assert (done.returncode, done.stdout) == (1, "one\ntwo\nthree\none\n"), done
    assert "nobody" in done.stderr
    assert sorted(str(store.state(id)["exit_code"]) for id in store.containers()) == ["3", "3", "4"]
    sampan("rm", "one", "two", "three", check=True)
    sampan("volume", "rm", "shared", check=True)
    assert store.left(sampan) == []
