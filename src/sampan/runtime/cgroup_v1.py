"""Control groups of version 1: one directory in each hierarchy. kernel: Documentation/admin-guide/cgroup-v1.

Which controllers stand and where is read from the mounts, once a process. Several controllers may share a hierarchy
(`cpu,cpuacct`). The named hierarchy of systemd is joined too where it stands, so that a monitor leaves its session.
"""

import os
import time

from sampan.errors import Unsupported
from sampan.kernel import syscalls
from sampan.runtime import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.oci.runtime import Resources

_NAME = "sampan"
_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", "freezer", "name=systemd")
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

    __slots__ = ("_hierarchies", "_hint", "controllers")

    def __init__(self, found: dict[str, str], *, is_root: bool) -> None:
        usable = _CONTROLLERS if is_root else ()
        self._hierarchies = {name: found[name] for name in (*usable, "devices") if name in found and is_root}
        self.controllers = tuple(name for name in usable if name in found)
        self._hint = _MOUNT_HINT if is_root else "limits on cgroup v1 need root"

    def create(self, container_id: str, resources: "Resources", *, devices: bool) -> "Cgroup":
        """Make the container's group in every hierarchy; see cgroup.Parent."""
        cgroupfs.require(resources, self.controllers, self._hint)
        names = [name for name in self._hierarchies if devices or name != "devices"]
        directories = {name: f"{self._hierarchies[name]}/{_NAME}/{container_id}" for name in names}
        group = Cgroup(directories)
        try:
            for directory in directories.values():
                cgroupfs.make(directory)
            _apply(directories, resources)
            if devices and "devices" in directories:
                _restrict_devices(directories["devices"])
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

    __slots__ = ("_directories", "_tasks", "fd")

    def __init__(self, directories: dict[str, str]) -> None:
        self._directories = directories
        self._tasks: list[int] = []
        self.fd: int | None = None

    def open(self) -> None:
        """Open the `tasks` files that the child will write to: it may see no cgroup file system any more."""
        for directory in set(self._directories.values()):
            self._tasks.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))

    def enter(self) -> None:
        """Join from within; single-threaded callers only."""
        for fd in self._tasks:
            os.write(fd, b"0")

    def add(self, pid: int) -> None:
        """Move process `pid` into the group."""
        for directory in set(self._directories.values()):
            cgroupfs.write(f"{directory}/cgroup.procs", str(pid))

    def apply(self, resources: "Resources") -> None:
        """Set limits of a group that is in use; see cgroup.Cgroup."""
        cgroupfs.require(resources, tuple(self._directories), _MOUNT_HINT)
        _apply(self._directories, resources)

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
        for name in self._directories:
            return cgroupfs.processes(self._directories[name])
        return []

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

    def close(self) -> None:
        """Close the `tasks` descriptors."""
        while self._tasks:
            os.close(self._tasks.pop())

    def document(self) -> "Document":
        """Name the directories."""
        return {"cgroup": 1, "directories": self._directories}

    def _read(self, controller: str, file: str) -> str:
        return cgroupfs.read(f"{self._directories[controller]}/{file}") if controller in self._directories else ""


def _apply(directories: dict[str, str], resources: "Resources") -> None:
    memory, cpu, pids = (directories.get(name, "") for name in ("memory", "cpu", "pids"))
    if resources.memory_bytes is not None:
        _limit_memory(memory, resources.memory_bytes, resources.memory_swap_bytes)
    if resources.memory_reservation_bytes is not None:
        value = str(resources.memory_reservation_bytes)
        cgroupfs.limit(f"{memory}/memory.soft_limit_in_bytes", value, "--memory-reservation")
    if resources.cpu_quota_us is not None:
        cgroupfs.limit(f"{cpu}/cpu.cfs_period_us", str(resources.cpu_period_us or 100_000), "--cpus")
        cgroupfs.limit(f"{cpu}/cpu.cfs_quota_us", str(resources.cpu_quota_us), "--cpus")
    if resources.cpu_shares is not None:
        cgroupfs.limit(f"{cpu}/cpu.shares", str(resources.cpu_shares), "--cpu-shares")
    if resources.pids is not None:
        cgroupfs.limit(f"{pids}/pids.max", "max" if resources.pids < 0 else str(resources.pids), "--pids-limit")


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


def _restrict_devices(directory: str) -> None:
    cgroupfs.write(f"{directory}/devices.deny", "a")
    for rule in DEVICE_RULES:
        cgroupfs.write(f"{directory}/devices.allow", rule)


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
