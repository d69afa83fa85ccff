"""Scratch directories: gone with their build, however it ended."""

import os
import signal

import pytest

from sampan.build.scratch import Scratch, sweep

pytestmark = [pytest.mark.first]


def test_goes_with_the_build(place: str) -> None:
    """The directory is there inside the block and gone after it, also after an error."""
    with Scratch(place) as scratch:
        open(f"{scratch.path}/x", "w", encoding="utf-8").close()
    with pytest.raises(ValueError, match="x"), Scratch(place):
        raise ValueError("x")
    assert os.listdir(f"{place}/cache/scratch") == []


def test_running_builds_are_left_alone(place: str) -> None:
    """A second build beside the first removes nothing of it."""
    with Scratch(place) as one, Scratch(place) as two:
        assert one.path != two.path
        assert os.path.isdir(one.path)


def test_killed_build(place: str) -> None:
    """What a killed build left is removed by the next one."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with Scratch(place):
            os.write(writing, b"x")
            signal.pause()
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(os.listdir(f"{place}/cache/scratch")) == 1
    os.mkdir(f"{place}/cache/debs")
    for name in (f"aa.deb.{pid}-1", f"bb.deb.{os.getpid()}-1", "cc.deb"):
        open(f"{place}/cache/debs/{name}", "w", encoding="utf-8").close()
    with Scratch(place) as scratch:
        sweep(place)
        assert os.listdir(f"{place}/cache/scratch") == [os.path.basename(scratch.path)]
    assert sorted(os.listdir(f"{place}/cache/debs")) == [f"bb.deb.{os.getpid()}-1", "cc.deb"]
