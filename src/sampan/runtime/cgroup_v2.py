"""Control groups of version 2: one directory a container below a parent that is ours. kernel: cgroup-v2.rst.

Theory: a controller works in a group's children only where its `cgroup.subtree_control` says so, and that is refused
while the group itself holds processes. So the parent holds none: monitors live in the leaf `monitors`, containers in
leaves of their own. Under systemd the parent is a delegated scope (`delegation`), for root as well, since systemd owns
all that it did not delegate; elsewhere root makes `sampan` below the root group.
"""

import os

from sampan.errors import Unsupported
from sampan.runtime import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.oci.runtime import Resources
    from sampan.runtime import delegation
    from sampan.settings.configuration import Settings

_WANTED = ("cpu", "memory", "pids")
# Given to the children only once one of them has such a limit: each controller costs every group of the machine.
_ON_DEMAND = {"cpuset_cpus": "cpuset", "cpuset_mems": "cpuset", "blkio_weight": "io", "io_limits": "io"}
_NAME = "sampan"
_USER_HINT = "limits need a writable cgroup hierarchy: a normal user gets one by systemd (`loginctl enable-linger`)"
_DELEGATE_HINT = (
    "the group was not given it: for a normal user `systemctl edit user@.service`, as root, with "
    "`[Service]` and `Delegate=cpu cpuset io memory pids`"
)


def mount_point() -> str | None:
    """Return where the unified hierarchy is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            mount, _, source = line.partition(" - ")
            if source.startswith("cgroup2 "):
                return mount.split(" ")[4]
    return None


def open_parent(settings: "Settings") -> "Parent":
    """Return the parent of this machine and user: systemd's delegated unit, our own directory, or one with nothing."""
    point = mount_point()
    if point is None:
        return Parent("", ())
    if os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        from sampan.runtime import delegation

        scope = delegation.Scope(settings, point)
        return Parent(scope.directory(), delegation.CONTROLLERS, scope=scope) if scope.is_possible() else Parent("", ())
    if settings.uid != 0:
        return Parent("", ())
    directory = f"{point}/{_NAME}"
    try:
        os.makedirs(directory, exist_ok=True)
        return Parent(directory, _enable(point))
    except OSError:  # a nested or read-only hierarchy: no limits, and an error for who asks for one
        return Parent("", ())


class Parent:
    """The directory that holds the containers' groups; satisfies cgroup.Parent."""

    __slots__ = ("_directory", "_scope", "controllers")

    def __init__(self, directory: str, controllers: tuple[str, ...], scope: "delegation.Scope | None" = None) -> None:
        self._directory = directory
        self._scope = scope
        self.controllers = controllers

    def create(self, container_id: str, resources: "Resources", *, devices: bool, parent: str = "") -> "Cgroup":
        """Make the container's group; see cgroup.Parent. The calling monitor entered its own leaf before."""
        directory, made = self._directory, list[str]()
        if parent:
            directory, made = self._own_parent(cgroupfs.parent_of(parent), parent)
        elif directory and not self._scope:
            _enable(directory)
        if directory:
            _enable_for(directory, resources)
        cgroupfs.require(resources, _available(directory), _DELEGATE_HINT if directory else _USER_HINT)
        if not directory:
            if resources.device_rules:
                raise Unsupported("the access to devices cannot be limited here", hints=(_USER_HINT,))
            return Cgroup("")
        group = Cgroup(f"{directory}/{container_id}", made)
        try:
            cgroupfs.make(group.directory)
            _apply(group.directory, resources)
            group.open()
            if devices or resources.device_rules is not None:
                from sampan.kernel import bpf

                bpf.attach_device_program(group.fd or 0, resources.device_rules or ())
        except BaseException:
            group.close()
            group.remove()
            raise
        return group

    def enter_monitor(self) -> None:
        """Join the leaf `monitors`; under systemd this makes or joins the delegated scope."""
        if self._scope:
            self._directory = self._scope.join(os.getpid())
            self.controllers = _enable(self._directory)
        elif self._directory:
            cgroupfs.enter(f"{self._directory}/monitors", "cgroup.procs")

    def leave_monitor(self) -> None:
        """Take away what nobody uses; a scope goes away by itself with its last process."""
        if self._directory and not self._scope:
            try:
                cgroupfs.write(f"{os.path.dirname(self._directory)}/cgroup.procs", "0")
                os.rmdir(f"{self._directory}/monitors")
                os.rmdir(self._directory)
            except OSError:  # others are in there
                pass

    def _own_parent(self, path: str, word: str) -> tuple[str, list[str]]:
        """Make the group that a person named, below the root, and give it the controllers; return it and the new ones.

        Under systemd all groups are units of its own.
        """
        if self._scope or not self._directory or not path:
            raise Unsupported(
                f"`--cgroup-parent {word}` cannot be had here: systemd owns the cgroups, or nobody may make any",
                hints=("leave it out: all containers are in the unit `sampan.scope`, which may have limits",),
            )
        above, made = os.path.dirname(self._directory), list[str]()
        for part in path.split("/"):
            _enable(above)
            above = f"{above}/{part}"
            if not os.path.isdir(above):
                cgroupfs.make(above)
                made.append(above)
        try:
            _enable(above)
        except OSError as error:
            raise Unsupported(
                f"`--cgroup-parent {word}` cannot hold containers: there are processes in it, or it is no domain",
                hints=("name a group without processes of its own",),
            ) from error
        return above, made


class Cgroup:
    """One container's group; satisfies cgroup.Cgroup. Without a directory it is the caller's own, and has no limits."""

    __slots__ = ("_made", "directory", "fd")

    def __init__(self, directory: str, made: "list[str] | None" = None) -> None:
        self.directory = directory
        # Groups above this one that were made for it: they go with it if nobody else is in there.
        self._made = made or []
        self.fd: int | None = None

    def open(self) -> None:
        """Open the directory for CLONE_INTO_CGROUP, which is 0.3-0.8 ms where `cgroup.procs` is 5-12."""
        if self.directory:
            self.fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter(self) -> None:
        """Nothing is left to do: the child was born here."""

    def add(self, pid: int) -> None:
        """Move process `pid` into the group."""
        if self.directory:
            cgroupfs.write(f"{self.directory}/cgroup.procs", str(pid))

    def apply(self, resources: "Resources") -> None:
        """Set limits of a group that is in use; see cgroup.Cgroup."""
        if self.directory:
            _enable_for(os.path.dirname(self.directory), resources)
        found = cgroupfs.read(f"{self.directory}/cgroup.controllers").split() if self.directory else ()
        cgroupfs.require(resources, tuple(found), _DELEGATE_HINT if self.directory else _USER_HINT)
        _apply(self.directory, resources)

    def oom_kills(self) -> int:
        """Return `oom_kill` of memory.events; 0 where the memory controller does not stand."""
        return cgroupfs.counter(cgroupfs.read(self.oom_file()), "oom_kill") if self.directory else 0

    def oom_file(self) -> str:
        """Return where `oom_kills` reads, or "" where there is no group of its own."""
        return f"{self.directory}/memory.events" if self.directory else ""

    def memory_bytes(self) -> int:
        """Return the bytes charged now; 0 where the memory controller does not stand."""
        return int(cgroupfs.read(f"{self.directory}/memory.current") or 0) if self.directory else 0

    def processes(self) -> list[int]:
        """Return the process ids in the group and below."""
        return cgroupfs.processes(self.directory) if self.directory else []

    def freeze(self) -> None:
        """Stop all processes; returns when they stand."""
        if not self.directory:
            raise Unsupported("a container cannot be paused here: it has no cgroup of its own", hints=(_USER_HINT,))
        cgroupfs.write(f"{self.directory}/cgroup.freeze", "1")
        events = f"{self.directory}/cgroup.events"
        cgroupfs.await_frozen(lambda: cgroupfs.counter(cgroupfs.read(events), "frozen") == 1, self.thaw)

    def thaw(self) -> None:
        """Let the processes go on."""
        if self.directory and os.path.exists(self.directory):
            cgroupfs.write(f"{self.directory}/cgroup.freeze", "0")

    def kill(self) -> None:
        """Kill every process at once. NOTE(kernel < 5.14): has no cgroup.kill; Sampan needs 5.15."""
        if self.directory and os.path.exists(self.directory):
            cgroupfs.write(f"{self.directory}/cgroup.kill", "1")

    def remove(self) -> None:
        """Remove the directory and those a container made below it; see cgroup.Cgroup."""
        if self.directory:
            cgroupfs.retry_removal(lambda: _remove_tree(self.directory))
        for directory in reversed(self._made):
            try:
                os.rmdir(directory)
            except OSError:  # others are in there
                break

    def close(self) -> None:
        """Close the directory."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def document(self) -> "Document":
        """Name the directory."""
        return {"cgroup": 2, "directory": self.directory, **({"made": self._made} if self._made else {})}


def _available(directory: str) -> tuple[str, ...]:
    return tuple(cgroupfs.read(f"{directory}/cgroup.subtree_control").split()) if directory else ()


def _enable(directory: str, wanted: tuple[str, ...] = _WANTED) -> tuple[str, ...]:
    """Give the children of `directory` the controllers we use; return those they have."""
    present = cgroupfs.read(f"{directory}/cgroup.controllers").split()
    enabled = cgroupfs.read(f"{directory}/cgroup.subtree_control").split()
    missing = [f"+{name}" for name in wanted if name in present and name not in enabled]
    if missing:
        cgroupfs.write(f"{directory}/cgroup.subtree_control", " ".join(missing))
    return tuple(name for name in wanted if name in present)


def _enable_for(directory: str, resources: "Resources") -> None:
    """Give the children of `directory` those controllers that only some limits need; `require` says what is missing."""
    wanted = tuple({name for field, name in _ON_DEMAND.items() if getattr(resources, field) is not None})
    if not wanted:
        return
    for path in (os.path.dirname(directory), directory):
        try:
            _enable(path, wanted)
        except OSError:  # not ours to change: systemd has done it, or a normal user was given no more
            continue


def _apply(directory: str, resources: "Resources") -> None:
    _refuse(resources)
    if resources.memory_bytes is not None:
        cgroupfs.limit(f"{directory}/memory.max", _or_max(resources.memory_bytes), "--memory")
        swap = resources.memory_swap_bytes
        # Docker's words count memory and swap together; v2 counts swap alone. Without a word: as much swap as memory.
        extra = (
            "max"
            if swap == -1 or resources.memory_bytes < 0
            else str((swap or 2 * resources.memory_bytes) - resources.memory_bytes)
        )
        if swap is not None or os.path.exists(f"{directory}/memory.swap.max"):
            cgroupfs.limit(f"{directory}/memory.swap.max", extra, "--memory-swap")
    if resources.memory_reservation_bytes is not None:
        # As runc and crun convert it: what is protected, as far as it can be.
        value = str(max(0, resources.memory_reservation_bytes))
        cgroupfs.limit(f"{directory}/memory.low", value, "--memory-reservation")
    if resources.cpu_quota_us is not None or resources.cpu_period_us is not None:
        quota = -1 if resources.cpu_quota_us is None else resources.cpu_quota_us
        value = f"{_or_max(quota)} {resources.cpu_period_us or 100_000}"
        cgroupfs.limit(f"{directory}/cpu.max", value, "--cpus")
    if resources.cpu_shares is not None:
        # runtime-spec config-linux.md#cpu: shares 2..262144 to weight 1..10000, as runc and crun convert them.
        weight = 1 + (max(resources.cpu_shares, 2) - 2) * 9999 // 262142
        cgroupfs.limit(f"{directory}/cpu.weight", str(weight), "--cpu-shares")
    cgroupfs.limit_cpuset(directory, resources)
    _limit_io(directory, resources)
    if resources.pids is not None:
        cgroupfs.limit(f"{directory}/pids.max", _or_max(resources.pids), "--pids-limit")


def _refuse(resources: "Resources") -> None:
    """Refuse what only version 1 has, and docker passes over with a warning."""
    for value, flag in (
        (resources.memory_swappiness, "--memory-swappiness"),
        (resources.oom_kill_disable, "--oom-kill-disable"),
        (resources.cpu_rt_period_us, "--cpu-rt-period"),
        (resources.cpu_rt_runtime_us, "--cpu-rt-runtime"),
    ):
        if value is not None:
            raise Unsupported(
                f"`{flag}` cannot be applied here: cgroup v2 has no such limit, only v1 had",
                hints=(f"run without `{flag}`",),
            )


def _limit_io(directory: str, resources: "Resources") -> None:
    # Which of both names there is depends on what the kernel was built with; only bfq's takes docker's numbers as such.
    has_bfq = os.path.exists(f"{directory}/io.bfq.weight")
    file = f"{directory}/io.{'bfq.' if has_bfq else ''}weight"
    if resources.blkio_weight is not None:
        cgroupfs.require_weights("--blkio-weight")
        cgroupfs.limit(file, f"default {_io_weight(resources.blkio_weight, has_bfq=has_bfq)}", "--blkio-weight")
    for kind, major, minor, value in resources.io_limits or ():
        flag = cgroupfs.IO_FLAGS[kind]
        if kind == "weight":
            cgroupfs.require_weights(flag)
            cgroupfs.limit(file, f"{major}:{minor} {_io_weight(value, has_bfq=has_bfq)}", flag)
        else:
            word = f"{kind[0]}{kind.rpartition('_')[2]}"
            cgroupfs.limit(f"{directory}/io.max", f"{major}:{minor} {word}={value}", flag, cgroupfs.WHOLE_HINT)


def _io_weight(weight: int, *, has_bfq: bool) -> int:
    """Return docker's 10..1000 as io.weight's 1..10000, as runc and crun convert it."""
    return weight if has_bfq else 1 + (weight - 10) * 9999 // 990


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _remove_tree(directory: str) -> None:
    for path, _, _ in os.walk(directory, topdown=False):
        os.rmdir(path)
