"""Limits as Python programs inside meet them: one that allocates, and one that spins."""

import json

import pytest

from tests.plugin.ground import Command

pytestmark = [
    pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip

# Takes megabytes one by one and says so; a page counts once it is written to.
ALLOCATE = """
import sys
taken = []
for megabyte in range(int(sys.argv[1])):
    taken.append(bytearray(b"x" * (1 << 20)))
    print(megabyte + 1, flush=True)
"""
# Spins for some seconds of the wall; prints the share of it that this process was given.
SPIN = """
import time
begin, used = time.monotonic(), time.process_time()
while time.monotonic() - begin < 4:
    pass
print((time.process_time() - used) / (time.monotonic() - begin))
"""


def test_more_memory_than_the_limit(shared: Command, python_image: str) -> None:
    """With --memory=64m an allocation of 256 MiB is killed within the 64: status 137, and OOMKilled is true."""
    done = shared("run", "--name", "greedy", "--memory=64m", python_image, "python", "-c", ALLOCATE, "256")
    assert done.returncode == 137, done.stderr
    assert 8 < int(done.stdout.split()[-1]) < 64
    (found,) = json.loads(shared("inspect", "greedy", check=True).stdout)
    assert (found["State"]["OOMKilled"], found["State"]["ExitCode"]) == (True, 137)
    assert found["HostConfig"]["Memory"] == 64 << 20
    told = shared("events", "--since", "1h", "--until", "0s", "--filter", "container=greedy", "--format", "{{.Action}}")
    assert told.stdout.split() == ["create", "attach", "start", "oom", "die"]
    shared("rm", "greedy", check=True)


def test_less_memory_than_the_limit(shared: Command, python_image: str) -> None:
    """With --memory=64m an allocation of 32 MiB lives, and an end of its own is no OOM."""
    done = shared("run", "--name", "modest", "--memory=64m", python_image, "python", "-c", ALLOCATE, "32", check=True)
    assert done.stdout.split()[-1] == "32"
    (found,) = json.loads(shared("inspect", "modest", check=True).stdout)
    assert (found["State"]["OOMKilled"], found["State"]["ExitCode"]) == (False, 0)
    shared("rm", "modest", check=True)


def test_half_a_processor(shared: Command, python_image: str) -> None:
    """With --cpus=0.5 a program that spins is given half a processor and no more, by its own clock."""
    share = float(shared("run", "--rm", "--cpus=0.5", python_image, "python", "-c", SPIN, check=True).stdout)
    # Others may take of it, so the lower bound is wide; a quota's period adds a little to the upper.
    assert 0.2 < share < 0.6
