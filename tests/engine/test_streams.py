"""A container's streams: who is joined to them, in what order they end, and what outlives a stream that was closed."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Store
from tests.engine.test_terminal import Session, session  # noqa: F401 - a fixture
from tests.plugin.ground import PROGRAM

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip
_BOX = ("--network", "none", "--name", "box")


@pytest.fixture
def box(sampan: Command) -> Iterator[Command]:
    """Return `sampan`; in the end there is no `box`."""
    yield sampan
    sampan("rm", "-f", "box")


@pytest.fixture
def begin(environment: dict[str, str]) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Return `begin(*words)`: a command with pipes at its three ends that goes on."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen([PROGRAM, *words], env=environment, stdin=pipe, stdout=pipe, stderr=pipe))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_renewed(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"sampan-monitor" in file.read()


@pytest.mark.parametrize(
    "words",
    [
        ("busybox", "sh", "-c", "exec sleep 100 >/dev/null"),
        ("busybox", "sh", "-c", "exec sleep 100 >/dev/null 2>&1 </dev/null"),
        ("-t", "busybox", "sh", "-c", "exec sleep 100 >/dev/null 2>&1 </dev/null"),
        ("-i", "busybox", "sh", "-c", "exec sleep 100 </dev/null"),
    ],
)
def test_closed_streams_outlive_a_renewal(box: Command, store: Store, words: tuple[str, ...]) -> None:
    """A monitor renews itself also when the container has closed some of its streams, or all."""
    id = box("run", "-d", *_BOX, *words, check=True).stdout.strip()
    monitor = store.monitor(id)
    _eventually(lambda: _is_renewed(monitor))
    assert box("exec", "box", "echo", "in", check=True).stdout == "in\n"
    assert box("inspect", "-f", "{{.State.Status}}", "box").stdout == "running\n"
    box("stop", "-t", "0", "box", check=True)


def test_an_input_that_has_ended_outlives_a_renewal(sampan: Command) -> None:
    """The foreground's stdin is over, the container goes on for longer than a monitor is quiet."""
    done = sampan("run", "-i", "--rm", *_BOX, "busybox", "sh", "-c", "cat; sleep 1.5; echo after; exit 3", feed="in ")
    assert (done.returncode, done.stdout) == (3, "in after\n")


def test_bytes_are_bytes(box: Command, environment: dict[str, str]) -> None:
    """All 256 of them, a megabyte, through run and exec, in and out."""
    data = os.urandom(1 << 20) + bytes(range(256))
    box("run", "-d", *_BOX, "busybox", "sleep", "100", check=True)
    for words in (("exec", "-i", "box", "cat"), ("run", "-i", "--rm", "--network", "none", "busybox", "cat")):
        done = subprocess.run([PROGRAM, *words], env=environment, input=data, capture_output=True, check=True)
        assert done.stdout == data


def test_several_clients(box: Command, begin: Callable[..., "subprocess.Popen[bytes]"]) -> None:
    """All see all, each may write, and the end of one's input is not the end of the container's (docker)."""
    script = "echo up; while read x; do echo got $x; done; echo over"
    box("run", "-di", *_BOX, "busybox", "sh", "-c", script, check=True)
    first, second, watcher = begin("attach", "box"), begin("attach", "box"), begin("attach", "--no-stdin", "box")
    for process, word in ((first, b"one"), (second, b"two")):
        assert process.stdin is not None
        process.stdin.write(word + b"\n")
        process.stdin.close()
        process.stdin = None
    _eventually(lambda: {"got one", "got two"} <= set(box("logs", "box").stdout.splitlines()))
    assert watcher.stdin is not None
    watcher.stdin.write(b"three\n")
    watcher.stdin.close()
    watcher.stdin = None
    box("exec", "box", "true", check=True)
    box("kill", "box", check=True)
    for process in (first, second, watcher):
        out, _ = process.communicate(timeout=10)
        assert b"three" not in out
        assert b"over" not in out
        assert process.returncode == 137


def test_the_end_of_input_comes_before_the_end_of_output(sampan: Command) -> None:
    """Half-closed: what is said after the end of stdin arrives."""
    done = sampan("run", "-i", "--rm", *_BOX, "busybox", "sh", "-c", "cat; sleep 0.2; echo after", feed="hello ")
    assert done.stdout == "hello after\n"


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        ((), "out\n", "err\n"),
        (("-i",), "inout\n", "err\n"),
        (("-a", "stdout"), "out\n", ""),
        (("--attach", "STDERR"), "", "err\n"),
        (("-a", "stdin", "-i"), "", ""),
        (("-a", "stdout", "-i"), "inout\n", ""),
        (("-a", "stdin", "-a", "stdout"), "out\n", ""),
    ],
)
def test_which_streams(sampan: Command, words: tuple[str, ...], out: str, err: str) -> None:
    """Docker's --attach: the named ones are shown, -i alone gives input."""
    script = "cat; echo out; echo err >&2; exit 3"
    done = sampan("run", "--rm", *words, *_BOX, "busybox", "sh", "-c", script, feed="in")
    assert (done.returncode, done.stdout, done.stderr) == (3, out, err)


def test_attach_and_detach_exclude_each_other(sampan: Command) -> None:
    """Docker refuses both."""
    done = sampan("run", "-d", "-a", "stdout", *_BOX, "busybox", "true")
    assert done.returncode == 125
    assert "--attach" in done.stderr
    assert sampan("ps", "-aq").stdout == ""


def test_signals_are_passed_on(box: Command, begin: Callable[..., "subprocess.Popen[bytes]"]) -> None:
    """--sig-proxy: also the less common ones."""
    numbers = (14, 37, 12, 1)  # ALRM, RTMIN+3, USR2, HUP
    script = 'for s in 14 37 12 1; do trap "echo got $s" $s; done; echo up; while :; do sleep 0.02; done'
    process = begin("run", *_BOX, "busybox", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    for number in numbers:
        process.send_signal(number)
        assert process.stdout.readline() == b"got %d\n" % number
    box("kill", "box", check=True)
    assert process.wait(10) == 137


def test_a_terminal_needs_a_terminal(box: Command) -> None:
    """Attach with input to a container with a terminal, from a pipe: refused; without input it is fine."""
    box("run", "-dit", *_BOX, "busybox", "sh", "-c", "read x; exit 4", check=True)
    done = box("attach", "box")
    assert done.returncode == 1
    assert "needs a terminal" in done.stderr


def _left(one: Session, keys: bytes) -> int:
    one.type(keys)
    return one.end()


def test_leaving_is_docker_s(box: Command, session: Callable[..., Session], environment: dict[str, str]) -> None:  # noqa: F811
    """Run and start end with 0, attach and exec with 1 and a word; the keys come from a flag or config.json."""
    one = session("run", "-it", *_BOX, "busybox", "sh")
    one.expect(b"# ")
    assert _left(one, b"\x10\x11") == 0
    os.makedirs(environment["DOCKER_CONFIG"], exist_ok=True)
    Path(environment["DOCKER_CONFIG"], "config.json").write_text('{"detachKeys": "ctrl-x,y"}')
    for words in (("attach", "box"), ("exec", "-it", "box", "sh")):
        one = session(*words)
        one.expect(b"# ")
        one.type(b"echo \x10\x11\x18z\r")
        one.expect(b"# ")
        assert _left(one, b"\x18y") == 1
        one.expect(b"read escape sequence")
    one = session("attach", "--detach-keys", "ctrl-a", "box")
    one.expect(b"# ")
    assert _left(one, b"\x01") == 1
    box("stop", "-t", "0", "box", check=True)
    one = session("start", "-ai", "--detach-keys", "d", "box")
    one.expect(b"# ")
    assert _left(one, b"d") == 0
    Path(environment["DOCKER_CONFIG"], "config.json").write_text('{"detachKeys": "meta-x"}')
    done = box("exec", "-t", "box", "tty", check=True)  # nobody types: nobody asks for the keys
    assert done.stdout == "/dev/pts/1\n"
    one = session("attach", "box")
    one.expect(b"`detachKeys` cannot be `meta-x`")
    assert one.end() == 1


def test_whoever_attaches_sees_the_screen(box: Command, session: Callable[..., Session]) -> None:  # noqa: F811
    """What draws a screen is told to draw it again, though the size is what it was."""
    script = "trap 'stty size' WINCH; echo up; while :; do sleep 0.02; done"
    one = session("run", "-it", *_BOX, "busybox", "sh", "-c", script)
    one.expect(b"up")
    assert _left(one, b"\x10\x11") == 0
    one = session("attach", "box")
    one.expect(b"24 80")
    assert _left(one, b"\x10\x11") == 1


def test_exec_in_the_background(box: Command) -> None:
    """Exec -d ends at once, says nothing, and its process goes on; a command that is not there is told."""
    box("run", "-d", *_BOX, "busybox", "sleep", "100", check=True)
    done = box("exec", "-d", "box", "sh", "-c", "sleep 0.2; echo hi > /said", check=True)
    assert (done.stdout, done.stderr) == ("", "")
    _eventually(lambda: box("exec", "box", "cat", "/said").stdout == "hi\n")
    assert box("exec", "-d", "box", "no-such-command").returncode == 127
