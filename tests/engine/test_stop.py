"""stop and restart with another signal, and what the filters of system prune leave."""

import time
from collections.abc import Iterator

import pytest

from tests.engine.test_restart import until
from tests.plugin.ground import Command

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip
_BOX = ("--network", "none", "--name", "box")
_TRAPS = "trap 'echo usr1; exit 3' USR1; trap 'echo term; exit 4' TERM; echo up; while :; do sleep 0.02; done"


@pytest.fixture
def box(sampan: Command) -> Iterator[Command]:
    """Return `sampan`; in the end there is no `box`."""
    yield sampan
    sampan("rm", "-f", "box")


def _up(box: Command, times: int) -> None:
    while box("logs", "box").stdout.count("up\n") < times:
        pass


def test_another_signal(box: Command) -> None:
    """--signal takes the place of the container's own; the time-out is the same."""
    box("run", "-d", *_BOX, "busybox", "sh", "-c", _TRAPS, check=True)
    _up(box, 1)
    assert box("stop", "--signal", "SIGUSR1", "box", check=True).stdout == "box\n"
    assert box("inspect", "-f", "{{.State.ExitCode}}", "box").stdout == "3\n"
    box("start", "box", check=True)
    _up(box, 2)
    box("restart", "-s", "USR1", "box", check=True)
    _up(box, 3)
    assert box("logs", "box").stdout == "up\nusr1\nup\nusr1\nup\n"
    began = time.monotonic()
    box("stop", "-s", "WINCH", "-t", "1", "box", check=True)
    assert time.monotonic() - began >= 1
    assert box("inspect", "-f", "{{.State.ExitCode}}", "box").stdout == "137\n"
    done = box("stop", "-s", "NOSUCH", "box")
    assert done.returncode == 1
    assert "NOSUCH" in done.stderr


def test_a_stop_is_a_stop_whatever_its_signal(box: Command) -> None:
    """A restart policy does not undo it."""
    box("run", "-d", *_BOX, "--restart", "always", "busybox", "sh", "-c", _TRAPS, check=True)
    _up(box, 1)
    box("kill", "-s", "USR1", "box", check=True)
    _up(box, 2)
    box("stop", "-s", "USR1", "box", check=True)
    until(box, "box", lambda told: told["Status"] == "exited")
    assert box("logs", "box").stdout == "up\nusr1\nup\nusr1\n"


def test_links_stay(box: Command) -> None:
    """Docker's `rm --link` is refused, and the container is there still."""
    box("create", *_BOX, "busybox", "true", check=True)
    done = box("rm", "--link", "box")
    assert done.returncode == 1
    assert "without `--link`" in done.stderr
    assert box("rm", "box").stdout == "box\n"


def test_what_a_filter_leaves(box: Command) -> None:
    """Only what has the labels, has not the others, and is as old; volumes have no age."""
    for name, label in (("one", "a=b"), ("two", "a=c"), ("three", "d")):
        box("create", "--network", "none", "--name", name, "-l", label, "busybox", "true", check=True)
        box("network", "create", "--label", label, f"net-{name}", check=True)
        box("volume", "create", "--label", label, f"vol-{name}", check=True)
    assert box("system", "prune", "-f", "--filter", "until=1h", check=True).stdout.startswith("Total")
    assert "exclude each other" in box("system", "prune", "-f", "--volumes", "--filter", "until=1h").stderr
    box("system", "prune", "-f", "--filter", "label=a=b", check=True)
    assert sorted(box("ps", "-a", "--format", "{{.Names}}").stdout.split()) == ["three", "two"]
    assert "net-one" not in box("network", "ls").stdout
    assert "net-two" in box("network", "ls").stdout
    box("system", "prune", "-f", "--filter", "label!=d", "--filter", "until=0s", check=True)
    assert box("ps", "-a", "--format", "{{.Names}}").stdout == "three\n"
    assert "net-two" not in box("network", "ls").stdout
    # All of the image's containers are gone but one, and the image has a name and no label.
    assert box("images", "-q").stdout
    box("system", "prune", "-af", "--filter", "label=d", check=True)
    assert (box("ps", "-aq").stdout, "net-three" in box("network", "ls").stdout) == ("", False)
    assert box("images", "-q").stdout
    box("system", "prune", "-af", "--filter", "until=0s", check=True)
    assert box("images", "-q").stdout == ""
    assert box("volume", "ls", "-q").stdout.split() == ["vol-one", "vol-three", "vol-two"]
