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
# A command that stops, kills or removes:
COMMAND_SIGNALLED = "command-signalled"  # the monitor has the signal, its answer is not read
COMMAND_ENDED = "command-ended"  # the container has ended, nothing of it is removed
COMMAND_DISCARDED = "command-discarded"  # its files are in the trash, the row's end is not committed
COMMAND_REMOVED = "command-removed"  # it is, the trash is full
# A monitor:
MONITOR_REQUESTED = "monitor-requested"  # it has the request and has done nothing
MONITOR_PREPARED = "monitor-prepared"  # cgroup, socket and ports stand, there is no process
MONITOR_CREATED = "monitor-created"  # namespaces and cgroup stand, the command is not executed
MONITOR_NETWORKED = "monitor-networked"  # so does the network
MONITOR_STARTED = "monitor-started"  # the command was executed, the state file does not say so
MONITOR_RUNNING = "monitor-running"  # it does
MONITOR_ENDED = "monitor-ended"  # the command has ended, the exit record is not written
MONITOR_RECORDED = "monitor-recorded"  # it is, nothing is torn down
MONITOR_DISCONNECTED = "monitor-disconnected"  # the network is, the cgroup stands
MONITOR_TORN_DOWN = "monitor-torn-down"  # all but the container's directory
MONITOR_CLEARED = "monitor-cleared"  # that too, nobody has been told
# A monitor whose container a restart policy starts again:
MONITOR_RESTARTING = "monitor-restarting"  # one run is taken down, the next has not begun
# A keeper, beside a process of `exec`:
KEEPER_REQUESTED = "keeper-requested"  # it has the request and has done nothing
KEEPER_STARTED = "keeper-started"  # the process runs, the command does not know
KEEPER_ENDED = "keeper-ended"  # it has ended, its record does not say so
# Those that `run` passes:
POINTS = (
    COMMAND_DIRECTORY,
    COMMAND_COMMITTED,
    COMMAND_REQUESTED,
    COMMAND_STARTED,
    MONITOR_REQUESTED,
    MONITOR_PREPARED,
    MONITOR_CREATED,
    MONITOR_NETWORKED,
    MONITOR_STARTED,
    MONITOR_RUNNING,
    MONITOR_ENDED,
    MONITOR_RECORDED,
    MONITOR_DISCONNECTED,
    MONITOR_TORN_DOWN,
    MONITOR_CLEARED,
)
ENDING_POINTS = (COMMAND_SIGNALLED, COMMAND_ENDED, COMMAND_DISCARDED, COMMAND_REMOVED)
KEEPER_POINTS = (KEEPER_REQUESTED, KEEPER_STARTED, KEEPER_ENDED)


def chosen(settings: "Settings") -> str:
    """Return the name that the caller's environment has, or `""`."""
    return settings.environment.get("SAMPAN_FAULT", "")


def reach(point: str, name: str) -> None:
    """End this process at once if `name` is this `point`."""
    if name == point:
        os.kill(os.getpid(), _signal.SIGKILL)
