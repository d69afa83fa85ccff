"""Faults from outside while Sampan works: interruptions, races, a full disk, a reader that leaves.

`kill -9` of command and monitor at each of their steps is in tests/engine/test_crash.py; a build that is killed, and
one whose disk is full, in tests/build/test_builder.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.database import lease
from sampan.database.connection import Database
from tests.engine.conftest import Store

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip

SAMPAN = os.path.join(os.path.dirname(sys.executable), "sampan")
INTERRUPTED = 128 + signal.SIGINT
LISTENS_TO_CTRL_C = ("busybox", "sh", "-c", "trap 'exit 3' INT; while :; do sleep 0.02; done")


def begin(environment: dict[str, str], *words: str, cwd: str | None = None) -> "subprocess.Popen[str]":
    """Start a command."""
    pipe = subprocess.PIPE
    return subprocess.Popen([SAMPAN, *words], env=environment, cwd=cwd, stdout=pipe, stderr=pipe, text=True)


def settle(sampan: Command, store: Store) -> None:
    """Wait until monitors that are taking their container down have done so, and have it folded."""
    deadline = time.monotonic() + 5
    while sampan("ps", "-q", check=True).stdout and time.monotonic() < deadline:
        time.sleep(0.02)
    if left := sampan("ps", "-aq", check=True).stdout.split():
        sampan("rm", *left, check=True)
    while store.containers() and time.monotonic() < deadline:
        sampan("ps", check=True)
    # A lease dies with its process: one that was interrupted in its commit left a row, and whoever takes the next lease
    # does this first.
    with Database(store.root) as database:
        lease.sweep(database)


# ----------------------------------------------------------------------------------------------------------- Ctrl-C
@pytest.mark.parametrize("after_ms", [32, 36, 40, 44, 48, 54, 60, 80, 150])
def test_ctrl_c_at_run(sampan: Command, environment: dict[str, str], store: Store, busybox: str, after_ms: int) -> None:
    """Ctrl-C at any moment of a run ends command and container: nothing goes on that nobody sits in front of."""
    with begin(environment, "run", "--rm", "-p", "127.0.0.1::80", *LISTENS_TO_CTRL_C) as process:
        time.sleep(after_ms / 1000)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    # 3 is the container's answer; a signal's death is Python's own, before our first line.
    assert process.returncode in {3, INTERRUPTED, -signal.SIGINT, 1}
    settle(sampan, store)
    assert store.leftovers() == []


@pytest.mark.parametrize("after_ms", [36, 42, 48, 60])
def test_ctrl_c_at_run_detached(
    sampan: Command, environment: dict[str, str], store: Store, busybox: str, after_ms: int
) -> None:
    """A detached run that was interrupted leaves a container that runs only where it has said its id."""
    with begin(environment, "run", "-d", "-p", "127.0.0.1::80", "busybox", "sleep", "1000") as process:
        time.sleep(after_ms / 1000)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=10)
    running = sampan("ps", "-q", "--no-trunc", check=True).stdout
    assert running == said
    if said:
        sampan("rm", "-f", said.strip(), check=True)
    settle(sampan, store)
    assert store.leftovers() == []


@pytest.mark.network
def test_ctrl_c_at_build(sampan: Command, environment: dict[str, str], store: Store, place: str) -> None:
    """Ctrl-C in the middle of a first build ends it at once, quietly; two at once then both work, with one result."""
    _script(place)
    for moment in ("resolving", "base packages"):
        with begin(environment, "build", "./script", cwd=place) as process:
            assert process.stderr is not None
            while moment not in (line := process.stderr.readline()):
                assert line, "the build ended before it was interrupted"
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            said, complaint = process.communicate(timeout=20)
        assert time.monotonic() - began < 3
        assert (process.returncode, said) == (INTERRUPTED, "")
        assert "Traceback" not in complaint
        assert "error: " not in complaint
        assert _of_builds(store) == []
    with (
        begin(environment, "build", "-q", "./script", cwd=place) as one,
        begin(environment, "build", "-q", "-t", "script", "./script", cwd=place) as other,
    ):
        said, complaint = one.communicate(timeout=60)
        again, _ = other.communicate(timeout=60)
    assert (one.returncode, other.returncode) == (0, 0), complaint
    assert said == again
    assert sampan("run", "--rm", "script", check=True).stdout == "hello\n"
    settle(sampan, store)
    assert store.leftovers() == []
    assert _of_builds(store) == []


def _script(place: str) -> None:
    os.mkdir(f"{place}/script")
    Path(f"{place}/script/main.py").write_text("print('hello')\n", encoding="ascii")


def _of_builds(store: Store) -> list[str]:
    """Name what a build left in its scratch directory, half written in the store, or held by a lease."""
    found = [f"lease {row}" for row in store.rows("SELECT kind, pid FROM leases")]
    for directory in ("cache/scratch", "blobs/partial"):
        if os.path.isdir(f"{store.root}/{directory}"):
            found += [f"{directory}/{name}" for name in os.listdir(f"{store.root}/{directory}")]
    return found


# ------------------------------------------------------------------------------------------------------------ races
def test_two_runs_with_one_name(sampan: Command, environment: dict[str, str], store: Store, busybox: str) -> None:
    """Of several runs at once with one name one wins, and the others are told that the name is taken."""
    words = ("run", "-d", "--name", "only", "busybox", "sleep", "1000")
    racers = [begin(environment, *words) for _ in range(4)]
    ended = [(process.communicate(timeout=30), process.returncode) for process in racers]
    assert sorted(status for _, status in ended) == [0, 125, 125, 125]
    for (_, complaint), status in ended:
        assert status == 0 or complaint.startswith("error: the name `only` is taken by the container "), complaint
    assert len(sampan("ps", "-aq", check=True).stdout.split()) == 1
    sampan("rm", "-f", "only", check=True)
    settle(sampan, store)
    assert store.leftovers() == []


def test_two_removals_at_once(sampan: Command, environment: dict[str, str], store: Store, busybox: str) -> None:
    """Of several removals at once of one running container each succeeds or is told that it is gone."""
    sampan("run", "-d", "--name", "only", "busybox", "sleep", "1000", check=True)
    racers = [begin(environment, "rm", "-f", "only") for _ in range(4)]
    ended = [(process.communicate(timeout=30), process.returncode) for process in racers]
    assert 0 in [status for _, status in ended]
    assert all("Traceback" not in complaint for (_, complaint), _ in ended)
    settle(sampan, store)
    assert store.leftovers() == []


# ------------------------------------------------------------------------------------------------------ a full disk
@pytest.fixture
def small(environment: dict[str, str]) -> Iterator[str]:
    """Mount a file system of 24 MB as SAMPAN_ROOT; yield its path."""
    root = environment["SAMPAN_ROOT"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "none", root], check=True)
    yield root
    # Lazily, since a monitor may take some milliseconds to let go of it.
    subprocess.run(["umount", "--lazy", root], check=True)


def test_a_full_disk(sampan: Command, store: Store, small: str, busybox_tar: str, place: str) -> None:
    """A container that fills the disk can be looked at, stopped and removed; what needs room says there is none."""
    _script(place)
    sampan("import", busybox_tar, "busybox", check=True)
    fill = "dd if=/dev/zero of=/big bs=64k 2>/dev/null; exec sleep 1000"
    sampan("run", "-d", "--name", "filler", "busybox", "sh", "-c", fill, check=True)
    deadline = time.monotonic() + 10
    while os.statvfs(small).f_bavail and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "filler" in sampan("ps", check=True).stdout
    for words in (("import", busybox_tar, "two"), ("build", f"{place}/script")):
        done = sampan(*words)
        assert done.returncode == 1
        assert f"error: no space is left on the file system of `{small}`" in done.stderr
        assert "\nhint: free space" in done.stderr
        assert "Traceback" not in done.stderr
    assert "filler" in sampan("ps", "-a", check=True).stdout
    assert json.loads(sampan("inspect", "filler", check=True).stdout)[0]["State"]["Running"] is True
    sampan("logs", "filler", check=True)
    sampan("stop", "-t", "0", "filler", check=True)
    sampan("rm", "filler", check=True)
    assert sampan("run", "--rm", "busybox", "echo", "room", check=True).stdout == "room\n"
    sampan("rmi", "busybox", check=True)
    settle(sampan, store)
    assert store.leftovers() == []
    assert _of_builds(store) == []


def test_a_disk_that_is_too_small(sampan: Command, store: Store, small: str, busybox_tar: str) -> None:
    """An import that does not fit is refused and leaves nothing; with room again it works."""
    subprocess.run(["fallocate", "-l", str(_free(small) - 600 * 1024), f"{small}/ballast"], check=True)
    done = sampan("import", busybox_tar, "busybox")
    assert done.returncode == 1
    assert f"error: no space is left on the file system of `{small}`" in done.stderr
    assert _of_builds(store) == []
    assert sampan("images", "-q", check=True).stdout == ""
    os.unlink(f"{small}/ballast")
    sampan("import", busybox_tar, "busybox", check=True)
    assert sampan("run", "--rm", "busybox", "echo", "room", check=True).stdout == "room\n"
    settle(sampan, store)
    assert store.leftovers() == []


def _free(path: str) -> int:
    counts = os.statvfs(path)
    return counts.f_bavail * counts.f_frsize


# ---------------------------------------------------------------------------------------------- a reader that leaves
@pytest.mark.parametrize(
    "words", [("ps", "-a"), ("images",), ("inspect", "talker"), ("logs", "talker"), ("start", "-a", "talker")]
)
def test_a_reader_that_leaves(
    sampan: Command, environment: dict[str, str], store: Store, busybox: str, words: tuple[str, ...]
) -> None:
    """`sampan … | head -0` ends quietly with SIGPIPE's status, and the store is as it was."""
    sampan("run", "--name", "talker", "busybox", "echo", "words", check=True)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [SAMPAN, *words], env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    settle(sampan, store)
    assert store.leftovers() == []
