"""Limits of processors, memory and disks: what the kernel is told, what is refused, and that nothing stays."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import running
from sampan.errors import Unsupported
from sampan.runtime import cgroup_v1, cgroupfs
from sampan.settings.configuration import Settings

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip
IS_1 = "memory" in cgroup_v1.hierarchies()


def _kernel(settings: Settings, name: str, first: tuple[str, str], second: str) -> str:
    """Return what the kernel has: `first` is controller and file on v1, `second` the file on v2."""
    document = running.find(settings, name).group.document()
    path = f"{document['directories'][first[0]]}/{first[1]}" if IS_1 else f"{document['directory']}/{second}"
    return Path(path).read_text(encoding="ascii").strip()


def _config(sampan: Command, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(sampan("inspect", name, check=True).stdout)[0]["HostConfig"]
    return found


def a_disk() -> str:
    """Return a whole disk of this machine."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram", "sr", "fd")) and os.path.exists(f"/dev/{name}"):
            return name
    pytest.skip("this machine has no disk")


def test_processors_and_their_time(sampan: Command, busybox: str, settings: Settings) -> None:
    """The container may use those processors only, for a part of each period, and inspect says it in docker's words."""
    last = str(max(os.sched_getaffinity(0)))
    words = ("--cpuset-cpus", last, "--cpuset-mems", "0", "--cpu-period", "50000", "--cpu-quota", "20000")
    sampan("run", "-d", "--network", "none", *words, "--name", "box", busybox, "sleep", "60", check=True)
    shown = sampan("exec", "box", "grep", "_allowed_list", "/proc/1/status", check=True).stdout.split()
    assert shown == ["Cpus_allowed_list:", last, "Mems_allowed_list:", "0"]
    assert _kernel(settings, "box", ("cpu", "cpu.cfs_quota_us"), "cpu.max").split()[0] == "20000"
    assert _kernel(settings, "box", ("cpu", "cpu.cfs_period_us"), "cpu.max").split()[-1] == "50000"
    told = _config(sampan, "box")
    assert (told["CpusetCpus"], told["CpusetMems"]) == (last, "0")
    assert (told["CpuPeriod"], told["CpuQuota"], told["NanoCpus"]) == (50_000, 20_000, 0)
    sampan("rm", "-f", "box", check=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--cpuset-cpus 4000", "--cpuset-cpus"),
        ("--cpu-period 10", "`--cpu-period` is 1000 to 1000000"),
        ("--cpu-quota 10", "`--cpu-quota` is at least 1000"),
        ("--memory-swappiness 101", "0 to 100"),
        ("--blkio-weight 5", "10 to 1000"),
        ("--blkio-weight-device /dev/null:1001", "10 to 1000"),
        ("--cpu-rt-runtime 20 --cpu-rt-period 10", "`--cpu-rt-period`"),
        ("--device-read-bps /dev/null:1mb", "--device-read-bps"),
        ("--device-read-bps /dev/nosuch:1mb", "`/dev/nosuch` does not exist"),
        ("--cgroup-parent /a/../b", "is no path of a cgroup"),
    ],
)
def test_what_cannot_be_applied_is_an_error(sampan: Command, busybox: str, words: str, told: str) -> None:
    """Status 125, one error, and no container runs without the limit."""
    done = sampan("run", "--rm", "--network", "none", *words.split(), busybox, "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    ("flag", "words", "file", "value"),
    [
        ("--memory-swappiness", "7", "memory/memory.swappiness", "7"),
        ("--oom-kill-disable", "--memory 64m", "memory/memory.oom_control", "oom_kill_disable 1"),
        ("--cpu-rt-runtime", "1000 --cpu-rt-period 900000", "cpu/cpu.rt_runtime_us", "1000"),
    ],
)
def test_what_only_version_1_has(  # noqa: PLR0917 - four of them are one row
    sampan: Command, busybox: str, settings: Settings, flag: str, words: str, file: str, value: str
) -> None:
    """It is applied there, where the kernel was built with it; on version 2 it is an error that says why."""
    argv = ("--network", "none", "--name", "box", flag, *words.split())
    done = sampan("run", "-d", *argv, busybox, "sleep", "60")
    controller, _, name = file.partition("/")
    if IS_1 and os.path.exists(f"{cgroup_v1.hierarchies()[controller]}/{name}"):
        assert done.returncode == 0, done.stderr
        assert value in _kernel(settings, "box", (controller, name), "")
    else:
        assert done.returncode == 125
        assert flag in done.stderr
    sampan("rm", "-f", "box")


def test_bytes_and_operations_a_second(sampan: Command, busybox: str, settings: Settings) -> None:
    """Each limit of a disk is the kernel's, and docker's in inspect."""
    disk = a_disk()
    number = Path(f"/sys/block/{disk}/dev").read_text(encoding="ascii").strip()
    words = [
        *("--device-read-bps", f"/dev/{disk}:8mb", "--device-write-bps", f"/dev/{disk}:4mb"),
        *("--device-read-iops", f"/dev/{disk}:500", "--device-write-iops", f"/dev/{disk}:400"),
    ]
    sampan("run", "-d", "--network", "none", *words, "--name", "box", busybox, "sleep", "60", check=True)
    values = {"read_bps": 8 << 20, "write_bps": 4 << 20, "read_iops": 500, "write_iops": 400}
    if IS_1:
        for kind, value in values.items():
            assert _kernel(settings, "box", ("blkio", f"blkio.throttle.{kind}_device"), "") == f"{number} {value}"
    else:
        assert (
            _kernel(settings, "box", ("", ""), "io.max")
            == f"{number} rbps={8 << 20} wbps={4 << 20} riops=500 wiops=400"
        )
    told = _config(sampan, "box")
    assert told["BlkioDeviceReadBps"] == [{"Path": f"/dev/{disk}", "Rate": 8 << 20}]
    assert told["BlkioDeviceWriteIOps"] == [{"Path": f"/dev/{disk}", "Rate": 400}]
    sampan("rm", "-f", "box", check=True)


def test_a_weight_needs_a_disk_that_heeds_it(sampan: Command, busybox: str, settings: Settings) -> None:
    """Where one does it is applied; where none does it is refused, which docker passes over with a warning."""
    done = sampan("run", "-d", "--network", "none", "--blkio-weight", "300", "--name", "box", busybox, "sleep", "60")
    try:
        cgroupfs.require_weights("--blkio-weight")
    except Unsupported:
        assert done.returncode == 125
        assert "bfq" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "300" in _kernel(settings, "box", ("blkio", "blkio.bfq.weight"), "io.bfq.weight")
    sampan("rm", "-f", "box")


def test_a_cgroup_parent(sampan: Command, busybox: str) -> None:
    """Its group is made below that one, which goes with it; one that was there stays."""
    if not IS_1 and os.path.isdir("/run/systemd/system"):
        done = sampan("run", "--rm", "--cgroup-parent", "/batch", busybox, "true")
        assert done.returncode == 125
        assert "systemd" in done.stderr
        return
    point = cgroup_v1.hierarchies()["pids"] if IS_1 else "/sys/fs/cgroup"
    os.mkdir(f"{point}/sampan-test-{os.getpid()}")
    try:
        parent = f"/sampan-test-{os.getpid()}/slow"
        words = ("--cgroup-parent", parent, "--pids-limit", "20", "--network", "none", "--name", "box")
        id = sampan("run", "-d", *words, busybox, "sleep", "60", check=True).stdout.strip()
        assert Path(f"{point}{parent}/{id}/pids.max").read_text(encoding="ascii") == "20\n"
        assert _config(sampan, "box")["CgroupParent"] == parent
        sampan("stop", "-t", "0", "box", check=True)
        sampan("start", "box", check=True)
        assert os.path.isdir(f"{point}{parent}/{id}")
        sampan("rm", "-f", "box", check=True)
        sampan("ps", "-a", check=True)
        assert not os.path.exists(f"{point}{parent}")
    finally:
        os.rmdir(f"{point}/sampan-test-{os.getpid()}")
