"""update: the kernel's value and the record change together, or neither does."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import running
from sampan.settings.configuration import Settings
from tests.engine.test_restart import until

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip
_MIB = 1 << 20
# Limit -> its file on v1 (controller, file), on v2, and how v2 writes the value.
_FILES = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.max"),
    "reservation": ("memory", "memory.soft_limit_in_bytes", "memory.low"),
    "shares": ("cpu", "cpu.shares", "cpu.weight"),
    "quota": ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    "pids": ("pids", "pids.max", "pids.max"),
    "cpus": ("cpuset", "cpuset.cpus", "cpuset.cpus"),
    "mems": ("cpuset", "cpuset.mems", "cpuset.mems"),
    "period": ("cpu", "cpu.cfs_period_us", "cpu.max"),
}


@pytest.fixture
def box(sampan: Command, busybox: str) -> Iterator[Command]:
    """A running container `box` with limits, and a stopped one `new`, with none."""
    limits = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "20")
    sampan("run", "-d", "--network", "none", *limits, "--name", "box", busybox, "sleep", "60", check=True)
    sampan("create", "--network", "none", "--name", "new", busybox, "sleep", "60", check=True)
    yield sampan
    sampan("rm", "-f", "box", "new")


def _kernel(settings: Settings, name: str, limit: str) -> str:
    """Return what the kernel has."""
    document = running.find(settings, name).group.document()
    controller, first, second = _FILES[limit]
    is_1 = document["cgroup"] == 1
    path = f"{document['directories'][controller]}/{first}" if is_1 else f"{document['directory']}/{second}"
    return Path(path).read_text(encoding="ascii").split()[0]


def _record(sampan: Command, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(sampan("inspect", name, check=True).stdout)[0]["HostConfig"]
    return found


def test_a_running_container(box: Command, settings: Settings) -> None:
    """Each limit is the kernel's at once, and inspect's; what was not named stays."""
    words = "--memory 96m --cpus 1 --pids-limit 30 --cpu-shares 512 --memory-reservation 32m"
    assert box("update", *words.split(), "box", check=True).stdout == "box\n"
    assert _kernel(settings, "box", "memory") == str(96 * _MIB)
    assert _kernel(settings, "box", "quota") == "100000"
    assert _kernel(settings, "box", "pids") == "30"
    assert _kernel(settings, "box", "reservation") == str(32 * _MIB)
    assert _kernel(settings, "box", "shares") in {"512", "20"}
    told = _record(box, "box")
    assert (told["Memory"], told["NanoCpus"], told["PidsLimit"]) == (96 * _MIB, 10**9, 30)
    assert (told["CpuShares"], told["MemoryReservation"], told["MemorySwap"]) == (512, 32 * _MIB, 192 * _MIB)
    # Less again, which on v1 is another order of writing.
    box("update", "--memory", "48m", "--memory-swap", "48m", "box", check=True)
    assert _kernel(settings, "box", "memory") == str(48 * _MIB)
    told = _record(box, "box")
    assert (told["MemorySwap"], told["NanoCpus"]) == (48 * _MIB, 10**9)
    box("update", "--pids-limit", "-1", "--memory-swap", "-1", "box", check=True)
    assert _kernel(settings, "box", "pids") == "max"


def test_processors_of_a_running_container(box: Command, settings: Settings) -> None:
    """A container that had none of its own gets them at once, all its processes; and they go with it."""
    box("exec", "-d", "box", "sleep", "50", check=True)
    box("update", "--cpuset-cpus", "0", "--cpuset-mems", "0", "box", check=True)
    assert (_kernel(settings, "box", "cpus"), _kernel(settings, "box", "mems")) == ("0", "0")
    group = running.find(settings, "box").group
    pids = group.processes()
    assert len(pids) == 2
    for pid in pids:
        assert os.sched_getaffinity(pid) == {0}
    assert box("exec", "box", "grep", "Cpus_allowed_list", "/proc/self/status", check=True).stdout.split()[1] == "0"
    done = box("update", "--cpuset-cpus", "4000", "box")
    assert done.returncode == 1
    assert "--cpuset-cpus" in done.stderr
    told = _record(box, "box")
    assert (_kernel(settings, "box", "cpus"), told["CpusetCpus"], told["CpusetMems"]) == ("0", "0", "0")
    box("rm", "-f", "box", check=True)
    document = group.document()
    paths = document["directories"].values() if document["cgroup"] == 1 else [document["directory"]]
    until_gone(paths)


def until_gone(paths: Iterable[str]) -> None:
    """Return once none of the groups is there; its monitor takes them down after `rm` has said so."""
    deadline = time.monotonic() + 10
    while any(os.path.exists(path) for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_quota_and_a_period(box: Command, settings: Settings) -> None:
    """`--cpus` and both of them take each other's place, in the kernel and in inspect."""
    box("update", "--cpu-period", "50000", "--cpu-quota", "10000", "box", check=True)
    told = _record(box, "box")
    assert (told["NanoCpus"], told["CpuPeriod"], told["CpuQuota"]) == (0, 50_000, 10_000)
    assert _kernel(settings, "box", "quota") == "10000"
    box("update", "--cpu-period", "20000", "box", check=True)
    assert _record(box, "box")["CpuPeriod"] == 20_000
    box("update", "--cpus", "0.25", "box", check=True)
    told = _record(box, "box")
    assert (told["NanoCpus"], told["CpuPeriod"], told["CpuQuota"]) == (250_000_000, 0, 0)
    assert _kernel(settings, "box", "quota") == "25000"
    done = box("update", "--cpu-period", "50000", "box")
    assert done.returncode == 1
    assert "`--cpu-quota`" in done.stderr


def test_a_stopped_container(box: Command, settings: Settings) -> None:
    """The record changes, and the next start sets it."""
    box("update", "--memory", "96m", "--restart", "always", "new", check=True)
    told = _record(box, "new")
    assert (told["Memory"], told["RestartPolicy"]) == (96 * _MIB, {"Name": "always", "MaximumRetryCount": 0})
    box("start", "new", check=True)
    assert _kernel(settings, "new", "memory") == str(96 * _MIB)


def test_what_is_refused_changes_nothing(box: Command, settings: Settings) -> None:
    """One limit that cannot be: the others stay as they were, in the kernel and in the record."""
    before = _record(box, "box")
    for words, what in (
        ("--pids-limit 40 --memory 1m", "at least 6 MiB"),
        ("--pids-limit 40 --memory 64m --memory-swap 32m", "less than `--memory`"),
        (f"--pids-limit 40 --cpus {2 * (os.cpu_count() or 1)}", "processors"),
        ("--pids-limit 40 --restart always", "has no restart policy"),
        ("", "nothing is to be changed"),
    ):
        done = box("update", *words.split(), "box")
        assert (done.returncode, done.stdout) == (1, "")
        assert what in done.stderr
        assert _record(box, "box") == before
        assert _kernel(settings, "box", "pids") == "20"


def test_what_the_kernel_refuses_is_undone(box: Command, settings: Settings) -> None:
    """A memory limit below what cannot be taken back is the kernel's to refuse (v1), or kills (v2): then no record."""
    group = running.find(settings, "box").group
    if group.document()["cgroup"] != 1:
        pytest.skip("cgroup v2 takes any limit and kills")
    # Pages of a tmpfs cannot be given back where there is no swap.
    script = "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null"
    box("exec", "box", "sh", "-c", script, check=True)
    before = _record(box, "box")
    done = box("update", "--cpu-shares", "512", "--memory", "8m", "--memory-swap", "8m", "box")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`--memory" in done.stderr
    assert _record(box, "box") == before
    assert _kernel(settings, "box", "memory") == str(64 * _MIB)
    assert _kernel(settings, "box", "shares") == "1024"


def test_limits_hold_after_a_restart_by_policy(sampan: Command, busybox: str, settings: Settings) -> None:
    """What was changed while it ran is what its next run has, which its monitor begins without any command."""
    script = "trap 'exit 3' USR1; while :; do sleep 0.02; done"
    words = (
        "--network",
        "none",
        "--memory",
        "64m",
        "--restart",
        "always",
        "--name",
        "box",
        busybox,
        "sh",
        "-c",
        script,
    )
    sampan("run", "-d", *words, check=True)
    try:
        sampan("update", "--memory", "96m", "box", check=True)
        sampan("kill", "-s", "USR1", "box", check=True)
        until(sampan, "box", lambda state: state["RestartCount"] == 1 and state["Status"] == "running")
        assert _kernel(settings, "box", "memory") == str(96 * _MIB)
        # And the policy that was taken away does not bring it back.
        sampan("update", "--restart", "no", "box", check=True)
        sampan("kill", "-s", "USR1", "box", check=True)
        state = until(sampan, "box", lambda state: state["Status"] == "exited")
        assert (state["ExitCode"], state["RestartCount"]) == (3, 1)
        assert _record(sampan, "box")["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
        # The next start has it still.
        sampan("start", "box", check=True)
        sampan("kill", "-s", "USR1", "box", check=True)
        assert sampan("wait", "box", check=True).stdout == "3\n"
    finally:
        sampan("rm", "-f", "box")


def test_a_container_that_is_removed_at_its_end(sampan: Command, busybox: str) -> None:
    """`--rm` and a restart policy exclude each other here too."""
    sampan("run", "-d", "--rm", "--network", "none", "--name", "box", busybox, "sleep", "60", check=True)
    try:
        done = sampan("update", "--restart", "always", "box")
        assert done.returncode == 1
        assert "removed when it ends" in done.stderr
    finally:
        sampan("rm", "-f", "box")
