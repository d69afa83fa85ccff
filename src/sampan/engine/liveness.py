"""The first process of a running container: from what its state file says to a descriptor that stands for it. Hot."""

import os

from sampan.identity import stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.engine import state


def open_process(told: "state.State") -> int:
    """Return a pidfd of the first process that a running container's state names; -1 where that has ended."""
    try:
        pidfd = os.pidfd_open(told.pid)
    except ProcessLookupError:
        return -1
    # The number is the container's still only if what has it began when the container did.
    if _began(told.pid) == told.start_time:
        return pidfd
    os.close(pidfd)
    return -1


def _began(pid: int) -> int:
    try:
        return stat_of(pid)[1]
    except (FileNotFoundError, ProcessLookupError):
        return -1
