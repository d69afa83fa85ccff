"""Containers and commands with a terminal: raw mode, sizes, detaching, attaching again."""

import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip


class Session:
    """The real command on a terminal of its own."""

    def __init__(self, environment: dict[str, str], *words: str, rows: int = 24, columns: int = 80) -> None:
        program = os.path.join(os.path.dirname(sys.executable), "sampan")
        self.master, slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [program, *words], env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        """Change the terminal's size and say so, as a terminal emulator does."""
        import fcntl

        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        if hasattr(self, "process"):
            self.process.send_signal(28)

    def expect(self, text: bytes, timeout: float = 10) -> None:
        """Read until `text` was seen."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} not in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 4096)
        self.seen = self.seen.partition(text)[2]

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def end(self) -> int:
        """Return the status; the terminal must be as it was."""
        status = self.process.wait(10)
        assert termios.tcgetattr(self.slave) == self.before
        return status

    def close(self) -> None:
        """Close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def session(environment: dict[str, str]) -> Iterator[Callable[..., Session]]:
    """Yield a maker of sessions."""
    made: list[Session] = []

    def begin(*words: str, rows: int = 24, columns: int = 80) -> Session:
        made.append(Session(environment, *words, rows=rows, columns=columns))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def test_run_it(session: Callable[..., Session], sampan: Command) -> None:
    """`run -it`: the shell has a terminal of our size, follows it, gets keys as keys, and its status is ours."""
    shell = session("run", "-it", "--rm", "--network", "none", "busybox", "sh", rows=33, columns=101)
    shell.expect(b"# ")
    shell.type(b"stty size; tty; echo $TERM\r")
    shell.expect(b"33 101")
    shell.expect(b"/dev/pts/0")
    shell.expect(b"xterm")
    shell.resize(20, 50)
    time.sleep(0.2)
    shell.type(b"stty size\r")
    shell.expect(b"20 50")
    shell.type(b"sleep 100\r")
    time.sleep(0.2)
    shell.type(b"\x03")
    shell.expect(b"# ")
    shell.type(b"exit 7\r")
    assert shell.end() == 7
    sampan("ps", check=True)


def test_detach_and_attach(session: Callable[..., Session], sampan: Command) -> None:
    """ctrl-p ctrl-q leaves the container running; attach comes back to it."""
    first = session("run", "-it", "--name", "box", "--network", "none", "busybox", "sh")
    first.expect(b"# ")
    first.type(b"X=kept\r")
    first.expect(b"# ")
    first.type(b"\x10\x11")
    assert first.end() == 0
    assert "Up" in sampan("ps").stdout
    second = session("attach", "box")
    second.type(b"echo is $X\r")
    second.expect(b"is kept")
    second.type(b"exit 3\r")
    assert second.end() == 3
    sampan("rm", "box", check=True)


def test_exec_it(session: Callable[..., Session], sampan: Command) -> None:
    """`exec -it`: the same for a command in a running container."""
    sampan("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000", check=True)
    shell = session("exec", "-it", "box", "sh", rows=30, columns=90)
    shell.expect(b"# ")
    shell.type(b"stty size; echo $((40+2))\r")
    shell.expect(b"30 90")
    shell.expect(b"42")
    shell.type(b"exit 4\r")
    assert shell.end() == 4
    sampan("rm", "-f", "box", check=True)


def test_a_terminal_s_output_is_in_the_log(sampan: Command) -> None:
    """`run -dt`: what is written to the terminal is logged, with the terminal's line ends."""
    sampan("run", "-dt", "--name", "box", "--network", "none", "busybox", "echo", "hello", check=True)
    sampan("wait", "box", check=True)
    assert "hello" in sampan("logs", "box").stdout
    sampan("rm", "box", check=True)
