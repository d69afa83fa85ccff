"""A container that runs: its record, what its monitor tells, and its cgroup. Docker's words about those that run.

`pause` and `unpause` are the kernel's freezer. That a container is paused is written nowhere: `state.is_paused` asks
the kernel, so whoever is killed between two steps leaves no lie.
"""

import os

from sampan import journal
from sampan.database import connection
from sampan.engine import record, rootless, state, sweep
from sampan.errors import Conflict
from sampan.runtime import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings


class Running:
    """One container with a first process, as it was when it was looked for."""

    __slots__ = ("container", "group", "told")

    def __init__(self, container: record.Container, told: state.State) -> None:
        self.container = container
        self.told = told
        self.group = group(told)


def find(settings: "Settings", name: str) -> Running:
    """Return the running or paused container that `name` means; raises NotFound, InvalidArgument, Conflict."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        container = record.by_name(database, name)
    told = state.read(state.directory(settings, container.id))
    if told.status == state.RESTARTING:
        raise Conflict(f"the container `{container.name}` is restarting", hints=("wait until it runs",))
    if told.status != state.RUNNING:
        hint = f"start it with `sampan start {container.name}`"
        raise Conflict(f"the container `{container.name}` is not running", hints=(hint,))
    return Running(container, told)


def group(told: state.State) -> "cgroup.Cgroup":
    """Return the cgroup of a container that runs."""
    if told.cgroup is None:
        raise Conflict("the container has just ended")
    return cgroup.parse(told.cgroup)


def processes(told: state.State) -> list[int]:
    """Return the container's processes: its cgroup's, else (a normal user on cgroup v1) its pid namespace's."""
    return group(told).processes() or _in_namespace(told.pid)


def _in_namespace(first: int) -> list[int]:
    wanted = _namespace(first)
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if wanted and _namespace(pid) == wanted]


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def pause(settings: "Settings", name: str) -> None:
    """Stop all processes until `unpause`; raises Conflict where it is paused or does not run, Unsupported."""
    one = find(settings, name)
    if state.is_paused(one.told):
        raise Conflict(f"the container `{one.container.name}` is already paused")
    try:
        one.group.freeze()
    except FileNotFoundError as error:
        raise _ended(one) from error
    journal.note(settings.root, "pause", one.container.id, one.container.attributes)


def unpause(settings: "Settings", name: str) -> None:
    """Let the processes go on; raises Conflict where it is not paused."""
    one = find(settings, name)
    if not state.is_paused(one.told):
        raise Conflict(f"the container `{one.container.name}` is not paused")
    one.group.thaw()
    journal.note(settings.root, "unpause", one.container.id, one.container.attributes)


def _ended(one: Running) -> Conflict:
    return Conflict(f"the container `{one.container.name}` has just ended")
