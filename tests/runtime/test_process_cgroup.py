"""The container's first process is in its cgroup from the start, on either version."""

import os
import time
from collections.abc import Iterator

import pytest

from sampan.oci.runtime import Resources
from sampan.runtime import cgroup, process
from sampan.settings import configuration
from tests.runtime.conftest import Box, read_all

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
]  # fmt: skip


class Unified:
    """A bare cgroup of version 2, as `process.create` needs it."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.mkdir(path)
        self.fd: int | None = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter(self) -> None:
        """Never called where there is a descriptor."""
        raise AssertionError

    def remove(self) -> None:
        """Close and remove."""
        if self.fd is not None:
            os.close(self.fd)
        deadline = time.monotonic() + 2
        while True:
            try:
                return os.rmdir(self.path)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@pytest.fixture
def unified() -> Iterator[Unified]:
    """A group in the machine's v2 hierarchy, pure or hybrid."""
    base = next(
        (path for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{path}/cgroup.procs")), ""
    )
    if not base:
        pytest.skip("no cgroup v2 hierarchy")
    group = Unified(f"{base}/sampan-test-{os.getpid()}")
    yield group
    group.remove()


def _run(box: Box, group: "Unified | cgroup.Cgroup", *args: str) -> str:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    created = process.create(
        box.spec(*args), root=box.root, stdio=process.Stdio(writing, writing, writing), cgroup=group
    )
    os.close(writing)
    created.start()
    output = read_all(reading)
    os.waitpid(created.pid, 0)
    os.close(created.pidfd)
    return output


@pytest.mark.parametrize("is_with_userns", [True, False])
def test_a_v2_group_is_where_it_is_born(box: Box, unified: Unified, is_with_userns: bool) -> None:  # noqa: FBT001
    """The process is in the group and its cgroup namespace is rooted there."""
    box.is_with_userns = is_with_userns
    assert "0::/\n" in _run(box, unified, "cat", "/proc/self/cgroup")


@pytest.mark.parametrize("is_with_userns", [True, False])
def test_the_groups_limits_hold_from_the_start(box: Box, is_with_userns: bool) -> None:  # noqa: FBT001
    """The machine's own kind of group holds the process, whose namespace is rooted there: it sees `/` everywhere."""
    box.is_with_userns = is_with_userns
    name = f"test{os.getpid():x}{time.monotonic_ns():x}"
    parent = cgroup.open_parent(configuration.load())
    group = parent.create(name, Resources(pids=33), devices=not is_with_userns)
    try:
        output = _run(box, group, "cat", "/proc/self/cgroup")
        assert output
        limited = [line for line in output.splitlines() if ":pids:" in line or line.startswith("0::")]
        assert all(line.endswith(":/") for line in limited)
    finally:
        group.close()
        group.remove()
