"""Control groups of version 1: one directory in each hierarchy. kernel: Documentation/admin-guide/cgroup-v1.

Which controllers stand and where is read from the mounts, once a process. Several controllers may share a hierarchy
(`cpu,cpuacct`). The named hierarchy of systemd is joined too where it stands, so that a monitor leaves its session.

Of cpuset and blkio a container has a group only while it has a limit there: most have none, and each group costs. It is
named in the container's document all the same, so that whoever removes the container finds one that `apply` made later.
"""

import os
import time

from sampan.errors import Unsupported
from sampan.kernel import syscalls
from sampan.runtime import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.document import Document
    from sampan.oci.runtime import Resources

_NAME = "sampan"
_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", "freezer", "name=systemd")
_ON_DEMAND = ("cpuset", "blkio")
_SIGKILL = 9
# Docker's default device rules (type major:minor access): what a container without a user namespace may open or make.
DEVICE_RULES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
)
_REAL_TIME_HINT = "the groups of this machine share `cpu.rt_runtime_us` of the root group; others may have it all"
_MOUNT_HINT = "see whether the kernel has it in `/proc/cgroups`, and whether it is mounted with `findmnt -t cgroup`"


def hierarchies() -> dict[str, str]:
    """Return the mount point of each v1 controller; `name=systemd` for systemd's own hierarchy."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            mount, _, source = line.partition(" - ")
            kind, _, options = source.rstrip("\n").split(" ", 2)
            if kind == "cgroup":
                point = mount.split(" ")[4]
                found |= dict.fromkeys((word for word in options.split(",") if word not in ("rw", "ro")), point)
    return found


class Parent:
    """The groups below `sampan` in every hierarchy; satisfies cgroup.Parent."""

    __slots__ = ("_hierarchies", "_hint", "_on_demand", "controllers")

    def __init__(self, found: dict[str, str], *, is_root: bool) -> None:
        usable = _CONTROLLERS if is_root else ()
        self._hierarchies = {name: found[name] for name in (*usable, "devices") if name in found and is_root}
        self._on_demand = {name: found[name] for name in _ON_DEMAND if name in found and is_root}
        self.controllers = tuple(name for name in usable if name in found)
        self._hint = _MOUNT_HINT if is_root else "limits on cgroup v1 need root"

    def create(self, container_id: str, resources: "Resources", *, devices: bool, parent: str = "") -> "Cgroup":
        """Make the container's group in every hierarchy; see cgroup.Parent."""
        cgroupfs.require(resources, _words((*self._hierarchies, *self._on_demand)), self._hint)
        has_rules = devices or resources.device_rules is not None
        if has_rules and "devices" not in self._hierarchies and resources.device_rules:
            raise Unsupported("the access to devices cannot be limited here", hints=(self._hint,))
        points = {name: point for name, point in self._hierarchies.items() if has_rules or name != "devices"}
        above = cgroupfs.parent_of(parent) or _NAME
        directories = {name: f"{point}/{above}/{container_id}" for name, point in (points | self._on_demand).items()}
        made = sorted({path for name in directories for path in _missing(directories[name], above, parent)})
        group = Cgroup(directories, made)
        try:
            for name in points:
                cgroupfs.make(directories[name])
            _make_on_demand(directories, resources)
            _apply(directories, resources)
            if has_rules and "devices" in directories:
                _restrict_devices(directories["devices"], resources.device_rules or ())
            group.open()
        except BaseException:
            group.close()
            group.remove()
            raise
        return group

    def enter_monitor(self) -> None:
        """Join the monitors' groups: a thread that writes its own `0` does not wait for an RCU grace period."""
        for name, point in self._hierarchies.items():
            if name != "devices":
                cgroupfs.enter(f"{point}/{_NAME}/monitors", "tasks")

    def leave_monitor(self) -> None:
        """Go to the root group, and remove `monitors` and `sampan` where this was the last monitor."""
        for name, point in self._hierarchies.items():
            if name != "devices":
                cgroupfs.write(f"{point}/tasks", "0")
            for directory in (f"{point}/{_NAME}/monitors", f"{point}/{_NAME}"):
                try:
                    os.rmdir(directory)
                except OSError:  # others are in there, or it was never made
                    pass


class Cgroup:
    """One container's group: a directory in each hierarchy; satisfies cgroup.Cgroup."""

    __slots__ = ("_directories", "_made", "_tasks", "fd")

    def __init__(self, directories: dict[str, str], made: "list[str] | None" = None) -> None:
        self._directories = directories
        # Groups above the container's that were made for it: they go with it if nobody else is in there.
        self._made = made or []
        self._tasks: list[int] = []
        self.fd: int | None = None

    def open(self) -> None:
        """Open the `tasks` files that the child will write to: it may see no cgroup file system any more."""
        for directory in self._standing():
            self._tasks.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))

    def enter(self) -> None:
        """Join from within; single-threaded callers only."""
        for fd in self._tasks:
            os.write(fd, b"0")

    def add(self, pid: int) -> None:
        """Move process `pid` into the group."""
        for directory in self._standing():
            cgroupfs.write(f"{directory}/cgroup.procs", str(pid))

    def apply(self, resources: "Resources") -> None:
        """Set limits of a group that is in use; see cgroup.Cgroup."""
        cgroupfs.require(resources, _words(self._directories), _MOUNT_HINT)
        fresh = _make_on_demand(self._directories, resources)
        try:
            _apply(self._directories, resources)
        except BaseException:
            for directory in fresh:
                os.rmdir(directory)
            raise
        for directory in fresh:
            self._move_into(directory)

    def _move_into(self, directory: str) -> None:
        """Move all processes into a group that was made after them: until one look finds none that was forked since."""
        moved: set[int] = set()
        while fresh := set(self.processes()) - moved:
            for pid in fresh:
                try:
                    cgroupfs.write(f"{directory}/cgroup.procs", str(pid))
                except ProcessLookupError:
                    continue
            moved |= fresh

    def oom_kills(self) -> int:
        """Return the kernel's count; 0 where the memory controller does not stand."""
        return cgroupfs.counter(self._read("memory", "memory.oom_control"), "oom_kill")

    def oom_file(self) -> str:
        """Return where `oom_kills` reads, or "" where the memory controller does not stand."""
        return f"{self._directories['memory']}/memory.oom_control" if "memory" in self._directories else ""

    def memory_bytes(self) -> int:
        """Return the bytes charged now; 0 where the memory controller does not stand."""
        return int(self._read("memory", "memory.usage_in_bytes") or 0)

    def processes(self) -> list[int]:
        """Return the process ids in the group and below."""
        standing = (self._directories[name] for name in self._directories if name not in _ON_DEMAND)
        return cgroupfs.processes(next(standing, ""))

    def freeze(self) -> None:
        """Stop all processes; returns when they stand."""
        directory = self._directories.get("freezer")
        if directory is None:
            raise Unsupported(
                "a container cannot be paused here: the cgroup controller `freezer` is not available",
                hints=("on cgroup v1 it is root's alone; with cgroup v2 a user's containers have it too",),
            )

        def is_done() -> bool:
            # Written again each time: what is forked meanwhile may have been missed (as runc does).
            cgroupfs.write(f"{directory}/freezer.state", "FROZEN")
            return self._read("freezer", "freezer.state").strip() == "FROZEN"

        cgroupfs.await_frozen(is_done, self.thaw)

    def thaw(self) -> None:
        """Let the processes go on."""
        if "freezer" in self._directories and os.path.exists(self._directories["freezer"]):
            cgroupfs.write(f"{self._directories['freezer']}/freezer.state", "THAWED")

    def kill(self) -> None:
        """Kill until none is left: a fork may win the race against one reading of the list."""
        for _ in range(100):
            pids = self.processes()
            if not pids:
                return
            for pid in pids:
                _kill(pid)
            # A frozen process does not even die.
            self.thaw()
            time.sleep(0.002)

    def remove(self) -> None:
        """Remove the directories; see cgroup.Cgroup."""
        for directory in set(self._directories.values()):
            cgroupfs.retry_removal(lambda directory=directory: os.rmdir(directory))  # type: ignore[misc]  # binds early
        above = [os.path.dirname(self._directories[name]) for name in _ON_DEMAND if name in self._directories]
        for directory in (*reversed(self._made), *(path for path in above if os.path.basename(path) == _NAME)):
            try:
                os.rmdir(directory)
            except OSError:  # others are in there
                continue

    def close(self) -> None:
        """Close the `tasks` descriptors."""
        while self._tasks:
            os.close(self._tasks.pop())

    def document(self) -> "Document":
        """Name the directories."""
        made = {"made": self._made} if self._made else {}
        return {"cgroup": 1, "directories": self._directories, **made}

    def _standing(self) -> set[str]:
        """Return the directories that are there: all but those of controllers without a limit."""
        names = (name for name in self._directories if name not in _ON_DEMAND)
        found = (self._directories[name] for name in _ON_DEMAND if name in self._directories)
        return {self._directories[name] for name in names} | {path for path in found if os.path.isdir(path)}

    def _read(self, controller: str, file: str) -> str:
        return cgroupfs.read(f"{self._directories[controller]}/{file}") if controller in self._directories else ""


def _words(names: "Iterable[str]") -> tuple[str, ...]:
    """Return the controllers as `cgroupfs.require` knows them: blkio is v2's io."""
    return tuple("io" if name == "blkio" else name for name in names)


def _missing(directory: str, above: str, parent: str) -> list[str]:
    """Return the groups that a `--cgroup-parent` of a person's needs and that are not there; topmost first."""
    if not parent:
        return []
    point = directory[: -len(above) - len(os.path.basename(directory)) - 2]
    ends = [at for at in range(1, len(above) + 1) if at == len(above) or above[at] == "/"]
    return [path for end in ends if not os.path.isdir(path := f"{point}/{above[:end]}")]


def _make_on_demand(directories: dict[str, str], resources: "Resources") -> list[str]:
    """Make those groups of cpuset and blkio that a limit needs; return the new ones."""
    wanted = []
    if resources.cpuset_cpus is not None or resources.cpuset_mems is not None:
        wanted.append("cpuset")
    if resources.blkio_weight is not None or resources.io_limits is not None:
        wanted.append("blkio")
    fresh = [name for name in wanted if not os.path.isdir(directories[name])]
    for name in fresh:
        cgroupfs.make(directories[name])
    if "cpuset" in fresh:
        _fill_cpuset(directories["cpuset"])
    return [directories[name] for name in fresh]


def _fill_cpuset(directory: str) -> None:
    """Give a group, and those above it, the processors and memory of its parent: one with none takes no process."""
    parent = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not cgroupfs.read(f"{parent}/{name}").strip():
            _fill_cpuset(parent)
        if not cgroupfs.read(f"{directory}/{name}").strip():
            cgroupfs.write(f"{directory}/{name}", cgroupfs.read(f"{parent}/{name}").strip())


def _apply(directories: dict[str, str], resources: "Resources") -> None:
    memory, cpu, pids = (directories.get(name, "") for name in ("memory", "cpu", "pids"))
    if resources.memory_bytes is not None:
        _limit_memory(memory, resources.memory_bytes, resources.memory_swap_bytes)
    if resources.memory_reservation_bytes is not None:
        value = str(resources.memory_reservation_bytes)
        cgroupfs.limit(f"{memory}/memory.soft_limit_in_bytes", value, "--memory-reservation")
    if resources.memory_swappiness is not None:
        cgroupfs.limit(f"{memory}/memory.swappiness", str(resources.memory_swappiness), "--memory-swappiness")
    if resources.oom_kill_disable is not None:
        cgroupfs.limit(f"{memory}/memory.oom_control", str(int(resources.oom_kill_disable)), "--oom-kill-disable")
    if resources.cpu_period_us is not None:
        # The kernel refuses a moment in which the quota is more than all processors have in the period.
        cgroupfs.limit(f"{cpu}/cpu.cfs_quota_us", "-1", "--cpu-quota")
        cgroupfs.limit(f"{cpu}/cpu.cfs_period_us", str(resources.cpu_period_us), "--cpu-period")
    if resources.cpu_quota_us is not None:
        cgroupfs.limit(f"{cpu}/cpu.cfs_quota_us", str(resources.cpu_quota_us), "--cpus")
    if resources.cpu_shares is not None:
        cgroupfs.limit(f"{cpu}/cpu.shares", str(resources.cpu_shares), "--cpu-shares")
    _limit_real_time(cpu, resources)
    cgroupfs.limit_cpuset(directories.get("cpuset", ""), resources)
    _limit_io(directories.get("blkio", ""), resources)
    if resources.pids is not None:
        cgroupfs.limit(f"{pids}/pids.max", "max" if resources.pids < 0 else str(resources.pids), "--pids-limit")


def _limit_real_time(directory: str, resources: "Resources") -> None:
    """Set the time that real-time processes have; the group above must have as much, which it gets from the root."""
    period, runtime = resources.cpu_rt_period_us, resources.cpu_rt_runtime_us
    if period is None and runtime is None:
        return
    above = os.path.dirname(directory)
    if runtime and int(cgroupfs.read(f"{above}/cpu.rt_runtime_us") or 0) <= 0 and os.path.basename(above) == _NAME:
        whole = cgroupfs.read(f"{os.path.dirname(above)}/cpu.rt_runtime_us").strip()
        cgroupfs.limit(f"{above}/cpu.rt_runtime_us", whole, "--cpu-rt-runtime", _REAL_TIME_HINT)
    if period is not None:
        cgroupfs.limit(f"{directory}/cpu.rt_period_us", str(period), "--cpu-rt-period", _REAL_TIME_HINT)
    if runtime is not None:
        cgroupfs.limit(f"{directory}/cpu.rt_runtime_us", str(runtime), "--cpu-rt-runtime", _REAL_TIME_HINT)


def _limit_io(directory: str, resources: "Resources") -> None:
    # Which of both names there is depends on the scheduler that the kernel was built with.
    weight = next((n for n in ("weight", "bfq.weight") if os.path.exists(f"{directory}/blkio.{n}")), "weight")
    if resources.blkio_weight is not None:
        cgroupfs.require_weights("--blkio-weight")
        cgroupfs.limit(f"{directory}/blkio.{weight}", str(resources.blkio_weight), "--blkio-weight")
    for kind, major, minor, value in resources.io_limits or ():
        flag, name = cgroupfs.IO_FLAGS[kind], f"throttle.{kind}_device"
        if kind == "weight":
            cgroupfs.require_weights(flag)
            name = f"{weight}_device"
        cgroupfs.limit(f"{directory}/blkio.{name}", f"{major}:{minor} {value}", flag, cgroupfs.WHOLE_HINT)


def _limit_memory(directory: str, memory: int, swap: int | None) -> None:
    """Set both limits; the kernel refuses a moment in which that of the sum is the smaller one."""
    sum_file = f"{directory}/memory.memsw.limit_in_bytes"
    limits = [(f"{directory}/memory.limit_in_bytes", memory, "--memory")]
    if swap is not None or os.path.exists(sum_file):
        # Docker's default: as much swap again as memory.
        both = -1 if memory < 0 else swap or 2 * memory
        is_more = both < 0 or both > int(cgroupfs.read(sum_file) or 0)
        limits.insert(0 if is_more else 1, (sum_file, both, "--memory-swap"))
    for path, value, flag in limits:
        cgroupfs.limit(path, str(value), flag)


def _restrict_devices(directory: str, more: "Iterable[tuple[str, int | None, int | None, str]]") -> None:
    cgroupfs.write(f"{directory}/devices.deny", "a")
    for rule in DEVICE_RULES:
        cgroupfs.write(f"{directory}/devices.allow", rule)
    for kind, major, minor, access in more:
        words = ("*" if number is None else str(number) for number in (major, minor))
        cgroupfs.write(f"{directory}/devices.allow", "a" if kind == "a" else f"{kind} {':'.join(words)} {access}")


def _kill(pid: int) -> None:
    try:
        pidfd = syscalls.pidfd_open(pid)
    except OSError:
        return
    try:
        syscalls.pidfd_send_signal(pidfd, _SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
