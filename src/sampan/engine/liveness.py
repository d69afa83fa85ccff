"""The first process of a running container: from what its state file says to a descriptor that stands for it. Hot."""

import os

from sampan.errors import Conflict
from sampan.identity import stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.engine import state


def open_process(told: "state.State") -> int:
    """Return a pidfd of the first process that a running container's state names; -1 where that has ended.

    Raises Conflict where it is in other namespaces than a normal user's commands: SAMPAN_RUN was wiped.
    """
    try:
        pidfd = os.pidfd_open(told.pid)
    except ProcessLookupError:
        return -1
    # The number is the container's still only if what has it began when the container did.
    if _began(told.pid) == told.start_time:
        try:
            os.stat(f"/proc/{told.pid}/root")
        except PermissionError as error:
            os.close(pidfd)
            raise Conflict(
                "the container's namespaces cannot be entered: they were made by a holder that SAMPAN_RUN has lost",
                hints=("`sampan restart` it, and it is in those of now",),
            ) from error
        except OSError:
            pass  # it ends just now
        return pidfd
    os.close(pidfd)
    return -1


def _began(pid: int) -> int:
    try:
        return stat_of(pid)[1]
    except (FileNotFoundError, ProcessLookupError):
        return -1
