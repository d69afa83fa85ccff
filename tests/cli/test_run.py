"""Docker's words end to end, as a person types them: containers, and the images around them."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SAMPAN = os.path.join(os.path.dirname(sys.executable), "sampan")
FULL_ID = re.compile(r"[0-9a-f]{64}\n")


@pytest.fixture
def box(sampan: Command, busybox_tar: str) -> Iterator[Command]:
    """Return `sampan` with the image `busybox` there; no container outlives the test."""
    sampan("import", "-c", 'CMD ["sh"]', busybox_tar, "busybox", check=True)
    yield sampan
    if left := sampan("ps", "-aq").stdout.split():
        sampan("rm", "-f", *left)


class Terminal:
    """A person at a terminal in front of one command."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(SAMPAN, [SAMPAN, *words], environment | {"TERM": "xterm"})  # noqa: S606  no shell is wanted
        self.seen = ""

    def until(self, text: str, seconds: float = 20) -> str:
        """Read until `text` was shown since the last call; return what was."""
        deadline, seen = time.monotonic() + seconds, ""
        while text not in seen:
            assert time.monotonic() < deadline, f"no {text!r} in {seen!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    break
        self.seen += seen
        return seen

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.fd, text.encode())

    def __enter__(self) -> Self:
        """Sit down."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave nothing running, whatever the test found."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)

    def end(self) -> int:
        """Wait for the command's end and return its status."""
        while True:
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_streams_and_status_are_the_command_s(box: Command) -> None:
    """A run passes on stdin, stdout and stderr, and returns the command's status."""
    done = box("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 7", feed="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "err\n")


@pytest.mark.parametrize(
    ("words", "status"), [(("no-such",), 127), (("/etc",), 126), (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137)]
)
def test_statuses_of_what_cannot_run(box: Command, words: tuple[str, ...], status: int) -> None:
    """127 is a command that is not there, 126 one that cannot be executed, 128 and more a signal."""
    done = box("run", "--rm", "busybox", *words)
    assert done.returncode == status
    assert box("ps", "-aq").stdout == ""


def test_a_life_in_the_background(box: Command) -> None:
    """The words that everybody knows: run -d, ps, logs, exec, stop, start, rm."""
    script = "echo out; echo err >&2; exec sleep 60"
    assert FULL_ID.fullmatch(box("run", "-d", "--name", "web", "-e", "A=b", "busybox", "sh", "-c", script).stdout)
    assert "web" in box("ps", check=True).stdout
    row = json.loads(box("ps", "--format", "json", "--no-trunc", check=True).stdout)
    assert (row["Names"], row["State"], row["Image"], len(row["ID"])) == ("web", "running", "busybox", 64)
    logs = box("logs", "web", check=True)
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+Z out\n", box("logs", "-t", "--tail", "all", "web").stdout)
    assert "A=b\n" in box("exec", "web", "env").stdout
    assert box("exec", "-i", "web", "sh", "-c", "cat; exit 3", feed="x").returncode == 3
    assert box("exec", "web", "no-such").returncode == 127
    assert box("exec", "-e", "C=d", "-w", "/tmp", "web", "sh", "-c", "echo $C $PWD").stdout == "d /tmp\n"
    assert box("rm", "web").returncode == 1
    assert box("stop", "-t", "0", "web", check=True).stdout == "web\n"
    assert box("ps", "-q").stdout == ""
    assert box("ps", "-q", "-f", "status=exited", "-f", "name=we").stdout != ""
    assert box("wait", "web").stdout == "137\n"
    assert box("exec", "web", "true").returncode == 1
    assert box("start", "web", check=True).stdout == "web\n"
    assert box("restart", "-t", "0", "web", check=True).stdout == "web\n"
    assert box("kill", "web", check=True).stdout == "web\n"
    assert box("rm", "web", check=True).stdout == "web\n"
    assert box("ps", "-aq").stdout == ""


def test_create_then_start_attached(box: Command) -> None:
    """A create prints the id and runs nothing; start -a returns the command's status."""
    assert FULL_ID.fullmatch(box("create", "--name", "once", "busybox", "sh", "-c", "echo here; exit 5").stdout)
    assert "Created" in box("ps", "-a").stdout
    done = box("start", "-a", "once")
    assert (done.returncode, done.stdout) == (5, "here\n")


def test_several_names_go_on_after_an_error(box: Command) -> None:
    """A name that is wrong does not keep the others from being done; the status says that it was there."""
    box("create", "--name", "one", "busybox", check=True)
    box("create", "--name", "two", "busybox", check=True)
    done = box("rm", "one", "no-such", "two")
    assert (done.returncode, done.stdout) == (1, "one\ntwo\n")
    assert "`no-such`" in done.stderr


def test_inspect_is_docker_s_document(box: Command) -> None:
    """Containers and images are inspected by name, as one array."""
    box("create", "--name", "web", "-e", "A=b", "busybox", check=True)
    found = json.loads(box("inspect", "web", "busybox", check=True).stdout)
    assert found[0]["Name"] == "/web"
    assert "A=b" in found[0]["Config"]["Env"]
    assert found[1]["RepoTags"] == ["busybox:latest"]
    assert found[1]["Config"]["Cmd"] == ["sh"]
    done = box("inspect", "web", "no-such")
    assert done.returncode == 1
    assert len(json.loads(done.stdout)) == 1
    assert json.loads(box("inspect", "--format", "json", "--type", "image", "busybox").stdout)["Os"] == "linux"


def test_a_name_in_use(box: Command) -> None:
    """A second container of the same name is refused with 125, and the first is untouched."""
    box("create", "--name", "web", "busybox", check=True)
    done = box("run", "--rm", "--name", "web", "busybox", "true")
    assert done.returncode == 125
    assert "`web`" in done.stderr
    assert len(box("ps", "-aq").stdout.split()) == 1


def test_cidfile(box: Command, place: str) -> None:
    """--cidfile gets the id, and one that is there is refused before anything runs."""
    path = f"{place}/cid"
    identity = box("run", "-d", "--cidfile", path, "busybox", "sleep", "60", check=True).stdout
    with open(path, encoding="ascii") as file:
        assert file.read() == identity.strip()
    assert box("run", "--cidfile", path, "busybox", "true").returncode == 125
    assert len(box("ps", "-aq").stdout.split()) == 1


def test_cidfile_of_what_cannot_be_started(box: Command, place: str) -> None:
    """It names the container that `run` leaves, as docker's does, so that a script can remove it."""
    path = f"{place}/cid"
    assert box("run", "--cidfile", path, "busybox", "no-such-command").returncode == 127
    with open(path, encoding="ascii") as file:
        box("rm", file.read(), check=True)
    assert box("ps", "-aq").stdout == ""


def test_images_by_name_and_id(box: Command) -> None:
    """images, tag and rmi speak of names; an image goes with its last one."""
    identity = json.loads(box("inspect", "busybox").stdout)[0]["Id"]
    box("tag", "busybox", "example.org/team/box:1.0", check=True)
    listed = [json.loads(line) for line in box("images", "--format", "json", "--no-trunc").stdout.splitlines()]
    assert {(row["Repository"], row["Tag"], row["ID"]) for row in listed} == {
        ("busybox", "latest", identity),
        ("example.org/team/box", "1.0", identity),
    }
    assert box("images", "-q", "busybox").stdout.strip() == identity.removeprefix("sha256:")[:12]
    assert box("images", "-q", "nothing*").stdout == ""
    assert box("rmi", "busybox", check=True).stdout == "Untagged: busybox:latest\n"
    assert box("rmi", identity[7:19], check=True).stdout.endswith(f"Deleted: {identity}\n")
    assert box("images", "-q").stdout == ""


def test_an_image_in_use_stays(box: Command) -> None:
    """An rmi of an image that a container uses is refused with a hint."""
    box("create", "--name", "web", "busybox", check=True)
    done = box("rmi", "busybox")
    assert done.returncode == 1
    assert "`web`" in done.stderr
    assert box("images", "-q").stdout != ""


def test_save_and_load(box: Command, place: str) -> None:
    """An image that was saved and removed comes back by load, from a file and from a pipe."""
    path = f"{place}/box.tar"
    box("save", "-o", path, "busybox", check=True)
    with open(path, "rb") as file:
        content = file.read()
    piped = subprocess.run([SAMPAN, "save", "busybox"], check=True, capture_output=True, env=_environment(place))
    assert piped.stdout == content
    box("rmi", "busybox", check=True)
    assert box("load", "-i", path, check=True).stdout == "Loaded image: busybox:latest\n"
    assert box("run", "--rm", "busybox", "echo", "back").stdout == "back\n"
    assert box("save", "-o", path, "busybox", "no-such").returncode == 1
    assert os.listdir(place).count("box.tar") == 1
    assert not [name for name in os.listdir(place) if "partial" in name]


def _environment(place: str) -> dict[str, str]:
    return os.environ | {"SAMPAN_ROOT": f"{place}/r", "SAMPAN_RUN": f"{place}/n"}


def test_import_from_a_pipe_with_changes(box: Command, busybox_tar: str, place: str) -> None:
    """An import from - reads stdin, applies changes, and prints the id."""
    argv = [SAMPAN, "import", "-c", "ENV X=y", "-c", 'ENTRYPOINT ["echo"]', "-m", "why", "-", "echo:1"]
    with open(busybox_tar, "rb") as file:
        done = subprocess.run(argv, check=True, stdin=file, capture_output=True, text=True, env=_environment(place))
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
    found = json.loads(box("inspect", "echo:1").stdout)[0]
    assert (found["Id"], found["Comment"]) == (done.stdout.strip(), "why")
    assert box("run", "--rm", "echo:1", "said").stdout == "said\n"


def test_a_terminal_inside_a_terminal(box: Command, environment: dict[str, str]) -> None:
    """A run -it gives the command a terminal, passes keys, and returns its status."""
    with Terminal(environment, "run", "-it", "--rm", "busybox") as terminal:
        terminal.until("# ")
        terminal.type("tty; echo don$((1))e\n")
        assert "/dev/pts/0" in terminal.until("don1e")
        terminal.type("exit 5\n")
        assert terminal.end() == 5


def test_leaving_and_coming_back(box: Command, environment: dict[str, str]) -> None:
    """The detach keys leave the container running; attach comes back and gets its status."""
    with Terminal(environment, "run", "-it", "--name", "stay", "busybox") as terminal:
        terminal.until("# ")
        terminal.type("\x10\x11")
        assert terminal.end() == 0
    assert "Up" in box("ps").stdout
    with Terminal(environment, "attach", "stay") as terminal:
        terminal.type("exit 4\n")
        assert terminal.end() == 4


def test_exec_in_a_terminal(box: Command, environment: dict[str, str]) -> None:
    """An exec -it is a terminal of its own."""
    box("run", "-d", "--name", "web", "busybox", "sleep", "60", check=True)
    with Terminal(environment, "exec", "-it", "web", "sh") as terminal:
        terminal.until("# ")
        terminal.type("exit 6\n")
        assert terminal.end() == 6


def test_signals_are_passed_on(box: Command, environment: dict[str, str]) -> None:
    """SIGTERM to the command in front is the container's, whose status comes back."""
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    argv = [SAMPAN, "run", "--rm", "busybox", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9


def test_following_logs(box: Command, environment: dict[str, str]) -> None:
    """With -f logs shows what comes and ends with the container."""
    script = "for i in 1 2 3; do echo line $i; sleep 0.1; done"
    box("run", "-d", "--name", "talk", "busybox", "sh", "-c", script, check=True)
    assert box("logs", "-f", "talk").stdout == "line 1\nline 2\nline 3\n"
    assert box("logs", "-n", "1", "talk").stdout == "line 3\n"
    assert box("logs", "--since", "1h", "--until", "30m", "talk").stdout == ""


def test_system_reset(box: Command, environment: dict[str, str]) -> None:
    """A system reset asks, and a yes leaves nothing."""
    box("run", "-d", "busybox", "sleep", "60", check=True)
    assert box("system", "reset", feed="no\n").returncode == 1
    assert box("ps", "-q").stdout != ""
    assert box("system", "reset", feed="yes\n").returncode == 0
    assert not os.path.exists(environment["SAMPAN_ROOT"])
    assert not os.path.exists(environment["SAMPAN_RUN"])


def test_reset_refuses_a_directory_that_is_not_ours(sampan: Command, environment: dict[str, str]) -> None:
    """A SAMPAN_ROOT that holds something else is never emptied."""
    with open(f"{environment['SAMPAN_ROOT']}/precious", "w", encoding="ascii"):
        pass
    done = sampan("system", "reset", "--force")
    assert done.returncode == 1
    assert os.listdir(environment["SAMPAN_ROOT"]) == ["precious"]
