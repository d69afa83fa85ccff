"""docker update: other limits and another restart policy for a container that is there, running or not.

Theory. The record says what the next start sets; the kernel has what holds now; the monitor of a running container has
what holds after the next restart by its policy. All three change together, in one write transaction: kernel first,
since it alone may refuse (then what it had is set again), then the file for the monitor, then the record. A command
that is killed between has told nobody that it was done.

A monitor that was started without a restart policy did not keep what a restart needs, so a running container cannot be
given its first one.
"""

import os

from sampan import journal
from sampan.database import connection
from sampan.engine import config, record, rootless, running, specification, state, sweep
from sampan.engine.run_options import RestartPolicy, RunOptions
from sampan.errors import Conflict, InvalidArgument, Unsupported
from sampan.frozen import frozen, replace
from sampan.oci.runtime import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database
    from sampan.engine.record import Container
    from sampan.runtime.cgroup import Cgroup
    from sampan.settings.configuration import Settings

# The kernel's defaults.
_SHARES = 1024
_WEIGHT = 100
_REAL_TIME_PERIOD_US = 1_000_000


@frozen
class Change:
    """What is to be otherwise; None stays as it is. Fields as RunOptions has them; `pids_limit` -1 is none."""

    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    nano_cpus: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpu_rt_period_us: int | None = None
    cpu_rt_runtime_us: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    blkio_weight: int | None = None
    pids_limit: int | None = None
    restart: RestartPolicy | None = None

    def is_empty(self) -> bool:
        """Tell whether nothing is to be otherwise."""
        return all(getattr(self, name) is None for name in _FIELDS)

    def has_limits(self) -> bool:
        """Tell whether a limit is."""
        return any(getattr(self, name) is not None for name in _FIELDS if name != "restart")


_FIELDS = tuple(Change.__annotations__)


def update(settings: "Settings", name: str, change: Change) -> None:
    """Change a container; raises NotFound, Conflict, InvalidArgument, Unsupported, and then nothing has changed."""
    if change.is_empty():
        raise InvalidArgument("nothing is to be changed", hints=("name a limit: `sampan update --memory 512m NAME`",))
    rootless.enter(settings)
    with connection.open(settings) as database, database.transaction():
        sweep.fold(database, settings)
        container = record.by_name(database, name)
        before, container.options = container.options, _changed(container, change)
        directory = state.directory(settings, container.id)
        lock_fd = state.take_lock(directory)
        try:
            if lock_fd is None:
                _update_running(database, settings, container, before, change)
            else:
                record.update(database, container)
        finally:
            if lock_fd is not None:
                os.close(lock_fd)
    journal.note(settings.root, "update", container.id, container.attributes)


def _changed(container: "Container", change: Change) -> RunOptions:
    """Return the container's options with the change; raises InvalidArgument, Conflict."""
    told = {field: getattr(change, field) for field in _FIELDS}
    told = {field: value for field, value in told.items() if value is not None}
    options = replace(container.options, **_without_its_contrary(container.options, change), **told)
    swap = options.memory_swap_bytes
    if change.memory_swap_bytes is None and swap and 0 < swap < (options.memory_bytes or 0):
        raise InvalidArgument(
            "`--memory` is more than memory and swap together may be", hints=("give `--memory-swap` as well",)
        )
    config.check_limits(options, os.cpu_count() or 1)
    if options.auto_remove and options.restart.name != "no":
        raise Conflict(
            f"the container `{container.name}` is removed when it ends, so it cannot be restarted",
            hints=("run it without `--rm`",),
        )
    return options


def _without_its_contrary(options: RunOptions, change: Change) -> "dict[str, None]":
    """Return what a change takes back: `--cpus` says quota and period in one."""
    if change.nano_cpus is not None:
        return {} if _is_cpu_time(change) else {"cpu_quota_us": None, "cpu_period_us": None}
    if _is_cpu_time(change) and options.nano_cpus is not None:
        if change.cpu_quota_us is None:
            raise Conflict(
                "`--cpu-period` alone says nothing of a container with `--cpus`", hints=("give `--cpu-quota` as well",)
            )
        return {"nano_cpus": None}
    return {}


def _is_cpu_time(change: Change) -> bool:
    return change.cpu_quota_us is not None or change.cpu_period_us is not None


def _update_running(
    database: "Database", settings: "Settings", container: "Container", before: RunOptions, change: Change
) -> None:
    directory = state.directory(settings, container.id)
    told = state.read(directory)
    if told.status not in (state.RUNNING, state.RESTARTING) or (
        told.status == state.RESTARTING and change.has_limits()
    ):
        raise Conflict(f"the container `{container.name}` is being started or taken down", hints=("try again",))
    if before.restart.name == "no" and container.options.restart.name != "no":
        raise Unsupported(
            f"the running container `{container.name}` has no restart policy, and cannot be given one: its monitor has "
            "not kept what a restart needs",
            hints=(f"`sampan stop {container.name}`, then `sampan update` and `sampan start` it",),
        )
    if change.has_limits():
        _limit(running.group(told), before, container.options, change)
    try:
        fields = container.options.document()
        state.write_update(directory, told, {name: fields[name] for name in _FIELDS})
        record.update(database, container)
    except BaseException:
        if change.has_limits():
            running.group(told).apply(_resources(before, change))
        raise


def _limit(group: "Cgroup", before: RunOptions, after: RunOptions, change: Change) -> None:
    """Set the limits; where the kernel refuses one, those that it had are set again."""
    try:
        group.apply(_resources(after, change))
    except BaseException:
        group.apply(_resources(before, change))
        raise


def _resources(options: RunOptions, change: Change) -> Resources:
    """Return those limits of `options` that the change is about; -1, or the whole, where there is none."""
    wanted = specification.resources(options)
    is_memory = change.memory_bytes is not None or change.memory_swap_bytes is not None
    is_cpu = change.nano_cpus is not None or _is_cpu_time(change)
    return Resources(
        memory_bytes=(wanted.memory_bytes or -1) if is_memory else None,
        memory_swap_bytes=wanted.memory_swap_bytes if is_memory else None,
        memory_reservation_bytes=(
            None if change.memory_reservation_bytes is None else wanted.memory_reservation_bytes or -1
        ),
        cpu_quota_us=(wanted.cpu_quota_us or -1) if is_cpu else None,
        cpu_period_us=(wanted.cpu_period_us or config.CPU_PERIOD_US) if is_cpu else None,
        cpu_rt_period_us=None if change.cpu_rt_period_us is None else wanted.cpu_rt_period_us or _REAL_TIME_PERIOD_US,
        cpu_rt_runtime_us=None if change.cpu_rt_runtime_us is None else wanted.cpu_rt_runtime_us or 0,
        cpu_shares=None if change.cpu_shares is None else wanted.cpu_shares or _SHARES,
        cpuset_cpus=None if change.cpuset_cpus is None else wanted.cpuset_cpus or _online("cpu"),
        cpuset_mems=None if change.cpuset_mems is None else wanted.cpuset_mems or _online("node"),
        blkio_weight=None if change.blkio_weight is None else wanted.blkio_weight or _WEIGHT,
        pids=None if change.pids_limit is None else wanted.pids or -1,
    )


def _online(kind: str) -> str:
    """Return all processors (`cpu`) or memory nodes (`node`) of the machine."""
    with open(f"/sys/devices/system/{kind}/online", encoding="ascii") as file:
        return file.read().strip()
