"""stats: docker's arithmetic on what the kernel counts, on the real kernel."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from sampan.engine import usage
from sampan.settings.configuration import Settings
from tests.cli.test_run import Terminal

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip
_LIMIT = 64 << 20


@pytest.fixture
def box(sampan: Command, busybox: str) -> Iterator[Command]:
    """A container `box` with 64 MiB, of three processes, one of which uses up a processor."""
    script = "while :; do :; done & sleep 61 & sleep 62"
    sampan("run", "-d", "--memory", "64m", "--name", "box", busybox, "sh", "-c", script, check=True)
    yield sampan
    sampan("rm", "-f", "box", "new")


def _one(sampan: Command, *words: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(sampan("stats", "--no-stream", "--format", "json", *words, check=True).stdout)
    return found


def test_a_row(box: Command) -> None:
    """Docker's keys and forms: a busy processor, memory of its limit, one process for each that is there."""
    row = _one(box)
    assert set(row) == set("BlockIO CPUPerc Container ID MemPerc MemUsage Name NetIO PIDs".split())
    assert row["Name"] == "box"
    assert row["ID"] == row["Container"] == box("ps", "-q").stdout.strip()
    assert row["PIDs"] == "3"
    assert row["MemUsage"].endswith(" / 64MiB")
    assert 0 < float(row["CPUPerc"].rstrip("%")) < 100 * (os.cpu_count() or 1) + 50
    assert 0 < float(row["MemPerc"].rstrip("%")) < 100
    whole = _one(box, "--no-trunc", "box")
    assert (whole["Container"], whole["ID"]) == ("box", box("ps", "-q", "--no-trunc").stdout.strip())


def test_memory_is_without_idle_file_cache(box: Command, settings: Settings) -> None:
    """A file that was written once is charged to the container, and is not what it uses."""
    (before,) = usage.samples(settings, ["box"])
    box("exec", "box", "sh", "-c", "dd if=/dev/zero of=/file bs=1M count=24 2>/dev/null; sync", check=True)
    (after,) = usage.samples(settings, ["box"])
    assert before.usage is not None
    assert after.usage is not None
    assert before.usage.memory_bytes is not None
    assert after.usage.memory_bytes is not None
    assert after.usage.memory_limit_bytes == _LIMIT
    assert after.usage.memory_bytes - before.usage.memory_bytes < 12 << 20


def test_traffic_and_disks_are_counted(box: Command, settings: Settings) -> None:
    """What its own processes send and write shows; the loopback does not count."""
    (before,) = usage.samples(settings, ["box"])
    box("exec", "box", "sh", "-c", "ping -c 3 -s 1000 127.0.0.1 >/dev/null", check=True)
    (same,) = usage.samples(settings, ["box"])
    assert same.sent_bytes - before.sent_bytes < 1000
    gateway = json.loads(box("inspect", "box").stdout)[0]["NetworkSettings"]["Gateway"]
    box("exec", "box", "sh", "-c", f"ping -c 3 -s 1000 {gateway} >/dev/null", check=True)
    (after,) = usage.samples(settings, ["box"])
    assert after.sent_bytes - same.sent_bytes >= 3000
    assert after.received_bytes - same.received_bytes >= 3000


def test_what_its_processes_write_is_counted(sampan: Command, busybox: str, settings: Settings) -> None:
    """A megabyte to a file is a megabyte of disk, also after the process that wrote it has ended."""
    script = "dd if=/dev/zero of=/file bs=1M count=4 2>/dev/null; sync; echo up; sleep 61"
    sampan("run", "-d", "--network", "none", "--name", "box", busybox, "sh", "-c", script, check=True)
    try:
        while not sampan("logs", "box").stdout:
            pass
        (found,) = usage.samples(settings, ["box"])
        assert found.usage is not None
        assert found.usage.written_bytes >= 4 << 20
    finally:
        sampan("rm", "-f", "box")


def test_those_that_do_not_run(box: Command) -> None:
    """Nothing without --all or a name; zeros with one, as docker."""
    box("create", "--name", "new", "busybox", "true", check=True)
    names = ["stats", "--no-stream", "--format", "{{.Name}}"]
    assert box(*names).stdout == "box\n"
    assert box(*names, "-a").stdout == "new\nbox\n"
    row = _one(box, "new")
    assert (row["CPUPerc"], row["MemUsage"], row["NetIO"], row["PIDs"]) == ("0.00%", "0B / 0B", "0B / 0B", "0")
    done = box("stats", "--no-stream", "nobody")
    assert done.returncode == 1
    assert "no container `nobody`" in done.stderr


def test_a_table(box: Command) -> None:
    """Docker's titles."""
    title, row = box("stats", "--no-stream", check=True).stdout.splitlines()
    assert title.split("   ")[0] == "CONTAINER ID"
    for word in ("NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"):
        assert word in title
    assert " / 64MiB" in row


@pytest.mark.usefixtures("box")
def test_on_a_terminal_until_ctrl_c(environment: dict[str, str]) -> None:
    """The table is drawn again and again in its place, and Ctrl-C ends it with its status and no traceback."""
    with Terminal(environment, "stats") as person:
        for _ in range(3):
            person.until("\x1b[H\x1b[2J")
        person.until("64MiB")
        person.type("\x03")
        assert person.end() == 128 + signal.SIGINT
        assert "Traceback" not in person.seen


def test_a_stream_ends_with_the_last_that_was_named(box: Command, environment: dict[str, str]) -> None:
    """When the container is removed, so that nothing can be shown any more, the status is 0."""
    with Terminal(environment, "stats", "box") as person:
        person.until("64MiB")
        box("rm", "-f", "box", check=True)
        assert person.end() == 0
