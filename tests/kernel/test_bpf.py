"""The device program: what a process in a cgroup of version 2 may open, by the rules beside docker's default list."""

import os
import stat
import time
from collections.abc import Iterator

import pytest

from sampan.kernel import bpf
from sampan.runtime import cgroup_v2, cgroupfs

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.cgroup]

Rule = tuple[str, int | None, int | None, str]
# The FUSE device: nothing is done to the machine by opening it. linux/miscdevice.h
MAJOR, MINOR = 10, 229


@pytest.fixture
def group() -> Iterator[str]:
    """Make a group of our own below the machine's unified hierarchy."""
    point = cgroup_v2.mount_point()
    if point is None:
        pytest.skip("this machine has no cgroup v2")
    path = f"{point}/sampan-test-{os.getpid():x}-{time.monotonic_ns():x}"
    os.mkdir(path)
    yield path
    cgroupfs.retry_removal(lambda: os.rmdir(path))


@pytest.fixture
def node(place: str) -> str:
    """Make the device's node, if its driver is there."""
    path = f"{place}/node"
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(MAJOR, MINOR))
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        pytest.skip("this machine has no /dev/fuse, or may not open it")
    return path


def _opened(group: str, node: str) -> str:
    """Return how a process in the group may open the node: of `r`, `w`, `b` (both), and `n` for /dev/null."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
            for letter, path, flags in (
                ("r", node, os.O_RDONLY),
                ("w", node, os.O_WRONLY),
                ("b", node, os.O_RDWR),
                ("n", "/dev/null", os.O_RDWR),
            ):
                try:
                    os.open(path, flags)
                except PermissionError:
                    continue
                os.write(writing, letter.encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with open(reading, encoding="ascii") as file:
        return file.read()


@pytest.mark.parametrize(
    ("rules", "opened"),
    [
        ((), "n"),
        ([("c", MAJOR, MINOR, "rwm")], "rwbn"),
        ([("c", MAJOR, MINOR, "r")], "rn"),
        ([("c", MAJOR, MINOR, "w")], "wn"),
        ([("c", MAJOR, None, "rw")], "rwbn"),
        ([("c", None, None, "r")], "rn"),
        # Both ways by two rules are not both at once, as with the devices controller of version 1.
        ([("c", MAJOR, MINOR, "r"), ("c", MAJOR, MINOR, "w")], "rwn"),
        ([("c", MAJOR, MINOR + 1, "rw"), ("b", MAJOR, MINOR, "rw"), ("c", MAJOR + 1, MINOR, "rw")], "n"),
        ([("c", MAJOR, MINOR, "m")], "n"),
        ([("b", 8, 0, "rw"), ("c", MAJOR, MINOR, "r")], "rn"),
        ([("c", MAJOR, MINOR, "r"), ("a", None, None, "rwm"), ("c", 1, 1, "r")], "rwbn"),
    ],
)
def test_rules(group: str, node: str, rules: list[Rule], opened: str) -> None:
    """The default list holds beside them; the control is a group without a program, in which all opens."""
    assert _opened(group, node) == "rwbn"
    fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    try:
        bpf.attach_device_program(fd, rules)
    finally:
        os.close(fd)
    assert _opened(group, node) == opened
