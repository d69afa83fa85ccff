"""Host programs: bounded in output and time, and none is left behind."""

import os
import time

import pytest

from sampan.errors import NotFound, Unavailable
from sampan.kernel import program

pytestmark = [pytest.mark.first]


def test_both_outputs_and_the_status_come_back() -> None:
    """Standard input is fed, standard output and error are kept apart, the status is the program's."""
    done = program.run(["/bin/sh", "-c", "cat; echo no >&2; exit 3"], stdin=b"x" * 200_000)
    assert (done.status, len(done.stdout), done.stderr) == (3, 200_000, b"no\n")


def test_output_past_the_limit_is_dropped_and_the_program_goes_on() -> None:
    """A program that prints without end does not fill our memory, nor wait for us."""
    done = program.run(["/bin/sh", "-c", "head -c 1000000 /dev/zero; exit 4"], capture_limit=10)
    assert (done.status, done.stdout) == (4, b"\0" * 10)


def test_the_environment_is_what_was_stated() -> None:
    """Nothing of the caller's environment reaches a program that was given one."""
    done = program.run(["/usr/bin/env"], env={"A": "b"})
    assert done.stdout == b"A=b\n"


def test_a_time_out_ends_the_whole_group() -> None:
    """The child of a program that takes too long is gone too."""
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"`sh` has not ended after 0\.3 seconds"):
        program.run(["/bin/sh", "-c", "sleep 4711.25 & sleep 4711.25"], timeout=0.3)
    assert time.monotonic() - started < 10
    deadline = time.monotonic() + 2
    while (left := _sleepers()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


def _sleepers() -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == b"sleep\x004711.25\0":
                    found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_program_that_is_not_there_names_its_package() -> None:
    """The hint is the command that installs it."""
    with pytest.raises(NotFound) as caught:
        program.require("no-such-program", search="/nonexistent")
    assert caught.value.hints == ("`apt install no-such-program`",)
    with pytest.raises(NotFound):
        program.run(["/nonexistent/program"])
    assert program.find("sh", "/bin") == "/bin/sh"
