"""Which process: told by its start and by the boot, whatever its name holds."""

import os
import time

import pytest

from sampan.identity import boot_id, stat_of

pytestmark = [pytest.mark.first]


def test_a_process_is_told_by_its_start_time() -> None:
    """The start time of this process is constant and before now."""
    own = stat_of(os.getpid())[1]
    time.sleep(0.02)
    assert own == stat_of(os.getpid())[1]
    with pytest.raises(FileNotFoundError):
        stat_of(4_194_305)


def test_a_command_s_name_does_not_confuse_the_fields() -> None:
    """A process may call itself `) Z 1 2`: its state and start are its own still."""
    own = stat_of(os.getpid())
    with open("/proc/self/comm", "r+b", buffering=0) as file:
        name = file.read().rstrip(b"\n")
        try:
            file.write(b") Z 1 2")
            assert stat_of(os.getpid()) == own
        finally:
            file.write(name)
    assert own[0] == "R"


def test_a_boot_has_one_name() -> None:
    """The id is a UUID, and the same for all."""
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36
