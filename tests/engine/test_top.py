"""top: the container's processes and no others, in ps's forms."""

import os
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import running, top
from sampan.errors import InvalidArgument
from sampan.settings.configuration import Settings

Command = Callable[..., CompletedProcess[str]]

pytestmark = [pytest.mark.first]
_REAL = [pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup]


def _real(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that starts a container."""
    for mark in _REAL:
        test = mark(test)
    return test


@pytest.fixture
def box(sampan: Command, busybox: str) -> Iterator[Command]:
    """A container `box` of two processes."""
    script = "sleep 61 & exec sleep 62"
    sampan("run", "-d", "--network", "none", "--name", "box", busybox, "sh", "-c", script, check=True)
    yield sampan
    sampan("rm", "-f", "box")


def _rows(sampan: Command, *words: str) -> list[list[str]]:
    """Return title and rows, cut at blanks, the command whole."""
    lines = sampan("top", "box", *words, check=True).stdout.splitlines()
    count = len(lines[0].split()) - 1
    return [line.split(None, count) for line in lines]


@_real
def test_dockers_columns(box: Command, settings: Settings) -> None:
    """Titles as docker's; a row for each process of the cgroup; the users are the container's."""
    title, *rows = _rows(box)
    assert title == "UID PID PPID C STIME TTY TIME CMD".split()
    assert {int(row[1]) for row in rows} == set(running.find(settings, "box").group.processes())
    assert str(os.getpid()) not in {row[1] for row in rows}
    assert {row[7]: row[0] for row in rows}["sleep 61"] == "root"


@_real
def test_forms(box: Command) -> None:
    """`aux`, `-ef`, and `-o` joined, apart and with `-e`."""
    assert _rows(box, "aux")[0] == "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND".split()
    assert _rows(box, "-ef") == _rows(box)
    for words in (["-o", "pid,comm"], ["-opid,comm"], ["-eo", "pid,comm"], ["-e", "-o", "pid", "-o", "comm"]):
        title, *rows = _rows(box, *words)
        assert title == ["PID", "COMMAND"]
        assert {row[1] for row in rows} == {"sleep"}


@_real
def test_an_exec_is_seen_and_a_stopped_container_is_not(box: Command) -> None:
    """What was exec'd is the container's too; one that does not run has none, with docker's status."""
    box("exec", "-d", "box", "sleep", "64", check=True)
    while "sleep 64" not in {row[7] for row in _rows(box)}:
        pass
    box("stop", "-t", "0", "box", check=True)
    done = box("top", "box")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`box` is not running" in done.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--forest", "`--forest` is no option"),
        ("-o pid,wchan", "`wchan` is no column"),
        ("-o cmd", "no `pid`"),
        ("-o", "needs a list"),
    ],
)
def test_what_ps_has_and_top_has_not(words: str, what: str) -> None:
    """One error that says what there is."""
    with pytest.raises(InvalidArgument, match=what) as caught:
        top.parse(tuple(words.split()))
    assert caught.value.hints


@given(st.lists(st.sampled_from(sorted(top.COLUMNS)), min_size=1))
def test_columns_are_as_asked(names: list[str]) -> None:
    """Any list of known columns with `pid` is what is shown, in that order."""
    assert top.parse(("-o", ",".join(["pid", *names]))) == ("pid", *names)
