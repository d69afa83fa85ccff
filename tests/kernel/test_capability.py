"""Capabilities by name."""

import os

import pytest

from sampan.errors import InvalidArgument
from sampan.kernel import capability, syscalls

pytestmark = [pytest.mark.first, pytest.mark.root]


def test_names_have_the_headers_numbers() -> None:
    """The numbers are those of linux/capability.h, and no kernel here knows more than we do."""
    assert capability.bits(("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE")) == 1 | 1 << 21 | 1 << 40
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as file:
        assert capability.last() == min(int(file.read()), len(capability.NAMES) - 1)


def test_an_unknown_name_is_the_persons_error() -> None:
    """A misspelt capability is named."""
    with pytest.raises(InvalidArgument, match="CAP_SYS_ADMNI"):
        capability.bits(("CAP_SYS_ADMNI",))


def test_limits_hold() -> None:
    """After drop_bounding and limit only what is kept is left, in all sets."""
    pid = os.fork()
    if pid == 0:
        keep = capability.bits(("CAP_CHOWN", "CAP_KILL"))
        capability.drop_bounding(keep)
        capability.limit(keep)
        with open("/proc/self/status", encoding="utf-8") as file:
            sets = [int(line.split()[1], 16) for line in file if line.startswith("Cap")]
        os._exit(0 if sets == [0, keep, keep, keep, 0] and syscalls.capget() == (keep, keep, 0) else 1)
    assert os.waitpid(pid, 0)[1] == 0
