"""Named points at which a test may have this process killed, as `kill -9` would at just that instant.

The name comes from the caller's SAMPAN_FAULT through the settings, so a test says where, and nothing happens in
anybody's daily life. A monitor gets the name with its request. Hot path.
"""

import _signal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

# In the order in which they are passed. A command:
COMMAND_DIRECTORY = "command-directory"  # containers/ID stands, its row is not committed
COMMAND_COMMITTED = "command-committed"  # the row is, no monitor knows of it
COMMAND_REQUESTED = "command-requested"  # the monitor has the request
COMMAND_STARTED = "command-started"  # the container runs
# A monitor:
MONITOR_REQUESTED = "monitor-requested"  # it has the request and has done nothing
MONITOR_CREATED = "monitor-created"  # namespaces and cgroup stand, the command is not executed
MONITOR_NETWORKED = "monitor-networked"  # so does the network
MONITOR_STARTED = "monitor-started"  # the command was executed, the state file does not say so
MONITOR_RUNNING = "monitor-running"  # it does
MONITOR_ENDED = "monitor-ended"  # the command has ended, the exit record is not written
MONITOR_RECORDED = "monitor-recorded"  # it is, nothing is torn down
MONITOR_TORN_DOWN = "monitor-torn-down"  # all but the container's directory
POINTS = (
    COMMAND_DIRECTORY,
    COMMAND_COMMITTED,
    COMMAND_REQUESTED,
    COMMAND_STARTED,
    MONITOR_REQUESTED,
    MONITOR_CREATED,
    MONITOR_NETWORKED,
    MONITOR_STARTED,
    MONITOR_RUNNING,
    MONITOR_ENDED,
    MONITOR_RECORDED,
    MONITOR_TORN_DOWN,
)


def chosen(settings: "Settings") -> str:
    """Return the name that the caller's environment has, or `""`."""
    return settings.environment.get("SAMPAN_FAULT", "")


def reach(point: str, name: str) -> None:
    """End this process at once if `name` is this `point`."""
    if name == point:
        os.kill(os.getpid(), _signal.SIGKILL)
