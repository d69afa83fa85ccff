"""Control groups: limits hold, groups go away, and another process can sweep them."""

import os
import time
from typing import TYPE_CHECKING

import pytest

from sampan.engine import state
from sampan.errors import Unsupported
from sampan.oci.runtime import Resources
from sampan.runtime import cgroup, cgroup_v1, cgroup_v2, cgroupfs, usage
from sampan.settings import configuration

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.cgroup]


@pytest.fixture
def parent() -> "cgroup.Parent":
    """The parent of this machine."""
    return cgroup.open_parent(configuration.load())


@pytest.fixture
def container_id() -> str:
    """A name that no other test run has."""
    return f"test{os.getpid():x}{time.monotonic_ns():x}"


@pytest.fixture
def group(parent: "cgroup.Parent", container_id: str) -> "Iterator[cgroup.Cgroup]":
    """A group with a memory, cpu and pids limit."""
    resources = Resources(memory_bytes=64 << 20, cpu_quota_us=20_000, cpu_period_us=100_000, pids=16)
    group = parent.create(container_id, resources, devices=False)
    yield group
    group.kill()
    group.close()
    group.remove()


def _inside(group: "cgroup.Cgroup", code: str) -> int:
    """Run Python `code` in a process of its own inside the group; return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            group.enter()
            os.execv(  # noqa: S606  # the test's own program
                "/usr/bin/python3", ["python3", "-I", "-S", "-c", code]
            )
        finally:
            os._exit(70)
    return os.waitpid(pid, 0)[1]


def test_too_much_memory_ends_in_an_oom_kill(group: "cgroup.Cgroup") -> None:
    """A process that takes more than the limit is killed, and the group counts it."""
    assert group.oom_kills() == 0
    assert _inside(group, "x = bytearray(16 << 20)") == 0
    assert _inside(group, "x = b'1' * (256 << 20)") == 9
    assert group.oom_kills() >= 1


def test_cpu_time_is_limited(group: "cgroup.Cgroup") -> None:
    """A fifth of a processor: 0.1 s of work takes longer than 0.2 s of wall time."""
    started = time.monotonic()
    assert _inside(group, "import time\nwhile time.process_time() < 0.2: pass") == 0
    assert time.monotonic() - started > 0.4


def test_the_number_of_processes_is_limited(group: "cgroup.Cgroup") -> None:
    """A fork bomb ends at the limit with EAGAIN inside."""
    code = (
        "import os, time\nn = 0\ntry:\n while n < 64:\n  n += 1\n  if os.fork() == 0: time.sleep(9)\n"
        "except BlockingIOError: os._exit(n)"
    )
    status = _inside(group, code)
    assert 10 <= os.waitstatus_to_exitcode(status) <= 16
    assert group.processes()
    group.kill()
    assert group.processes() == []


def test_a_group_is_swept_by_name(parent: "cgroup.Parent", container_id: str) -> None:
    """document() names a group for a process that did not make it; removing twice is no error."""
    made = parent.create(container_id, Resources(), devices=False)
    made.close()
    found = cgroup.parse(made.document())
    found.remove()
    found.remove()
    assert not [p for p in cgroup_v1.hierarchies().values() if os.path.exists(f"{p}/sampan/{container_id}")]


def test_a_frozen_group_stands_still(group: "cgroup.Cgroup") -> None:
    """`freeze` stops a process, thaw lets it go on."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        group.enter()
        while True:
            os.write(write, b".")
            time.sleep(0.005)
    os.close(write)
    os.read(read, 1)
    group.freeze()
    os.set_blocking(read, False)
    try:
        while os.read(read, 4096):
            pass
    except BlockingIOError:
        pass
    time.sleep(0.05)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    group.thaw()
    os.set_blocking(read, True)
    assert os.read(read, 1) == b"."
    group.kill()
    os.waitpid(pid, 0)
    os.close(read)


def test_a_limit_without_its_controller_is_an_error_for_the_one_who_asked() -> None:
    """`--memory` names the controller that is missing; no limit, no complaint."""
    cgroupfs.require(Resources(), (), "hint")
    with pytest.raises(Unsupported, match=r"`--memory` cannot be applied here.*`memory`") as caught:
        cgroupfs.require(Resources(memory_bytes=1), ("cpu",), "hint")
    assert caught.value.hints[0] == "hint"


def test_device_rules_of_a_container_without_a_user_namespace(parent: "cgroup.Parent", container_id: str) -> None:
    """/dev/null opens and the kernel's log does not, although the process is root."""
    group = parent.create(container_id, Resources(), devices=True)
    code = (
        "import os\nos.open('/dev/null', os.O_RDWR)\ntry: os.open('/dev/kmsg', os.O_RDONLY)\n"
        "except PermissionError: os._exit(7)\nexcept OSError: os._exit(8)"
    )
    try:
        assert os.waitstatus_to_exitcode(_inside(group, code)) == 7
    finally:
        group.close()
        group.remove()


@pytest.fixture
def unified(container_id: str) -> "Iterator[cgroup_v2.Cgroup]":
    """A group of version 2, below which there is another one; on a hybrid machine without controllers."""
    point = cgroup_v2.mount_point()
    if point is None:
        pytest.skip("cgroup v2 is not mounted")
    group = cgroup_v2.Cgroup(f"{point}/{container_id}")
    cgroupfs.make(f"{group.directory}/below")
    yield group
    group.kill()
    group.remove()


def test_version_2_freezes_counts_and_kills(unified: "cgroup_v2.Cgroup") -> None:
    """A frozen group says so to who imports no cgroup, has the processes below it too, and is killed as it is."""
    pids = []
    for directory in (unified.directory, f"{unified.directory}/below"):
        pid = os.fork()
        if pid == 0:
            cgroupfs.write(f"{directory}/cgroup.procs", "0")
            while True:
                pass
        pids.append(pid)
    while sorted(unified.processes()) != sorted(pids):
        pass
    while (usage.read(unified.document(), pids).cpu_ns or 0) < 1_000_000:
        pass
    assert not state.is_frozen(unified.document())
    unified.freeze()
    assert state.is_frozen(unified.document())
    before = usage.read(unified.document(), pids)
    assert before.pids == 2
    unified.thaw()
    assert not state.is_frozen(unified.document())
    while (usage.read(unified.document(), pids).cpu_ns or 0) <= (before.cpu_ns or 0):
        pass
    unified.freeze()
    unified.kill()
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [-9, -9]


def test_limits_change_in_any_order(group: "cgroup.Cgroup") -> None:
    """More, less, none, and more again: the kernel refuses none of the steps."""
    for memory in (256 << 20, 32 << 20, -1, 64 << 20):
        group.apply(Resources(memory_bytes=memory, cpu_quota_us=-1 if memory < 0 else 50_000, pids=memory // (1 << 20)))
        found = usage.read(group.document(), [])
        assert found.memory_limit_bytes == (None if memory < 0 else memory)
