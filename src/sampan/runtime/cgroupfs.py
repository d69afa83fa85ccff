"""The cgroup file systems: what both versions do with a group's files and directory. Hot path."""

import errno
import os
import time

from sampan.errors import Conflict, InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import Resources

# The kernel's answers to a limit that it cannot or will not apply.
_REFUSALS = (
    errno.ENOENT, errno.EINVAL, errno.EACCES, errno.EROFS, errno.EBUSY, errno.ERANGE, errno.ENODEV, errno.EPERM,
    errno.ENOSPC, errno.EOPNOTSUPP,
)  # fmt: skip
# What a resource needs, for the message of a limit that cannot be applied; what v2 calls io was blkio.
_NEEDS = (
    ("memory_bytes", "memory", "--memory"),
    ("memory_swap_bytes", "memory", "--memory-swap"),
    ("memory_reservation_bytes", "memory", "--memory-reservation"),
    ("memory_swappiness", "memory", "--memory-swappiness"),
    ("oom_kill_disable", "memory", "--oom-kill-disable"),
    ("cpu_quota_us", "cpu", "--cpus"),
    ("cpu_period_us", "cpu", "--cpu-period"),
    ("cpu_rt_period_us", "cpu", "--cpu-rt-period"),
    ("cpu_rt_runtime_us", "cpu", "--cpu-rt-runtime"),
    ("cpu_shares", "cpu", "--cpu-shares"),
    ("cpuset_cpus", "cpuset", "--cpuset-cpus"),
    ("cpuset_mems", "cpuset", "--cpuset-mems"),
    ("blkio_weight", "io", "--blkio-weight"),
    ("io_limits", "io", "a limit of a block device"),
    ("pids", "pids", "--pids-limit"),
)


def read(path: str) -> str:
    """Return a file's text; "" where it is not there (any more)."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


def write(path: str, value: str) -> None:
    """Write a value to a file that is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def parent_of(word: str) -> str:
    """Return a `--cgroup-parent` as a path below the root group, without slashes around it; raises InvalidArgument."""
    parts = [part for part in word.split("/") if part]
    if any(part in {".", ".."} or "\0" in part for part in parts):
        raise InvalidArgument(f"`{word}` is no path of a cgroup", hints=("write it like `/batch/slow`",))
    return "/".join(parts)


def make(directory: str) -> None:
    """Make a group where it is not there, while others, who were the last, may be taking its parent away."""
    _insist(lambda: os.makedirs(directory, exist_ok=True))


def enter(directory: str, file: str) -> None:
    """Make a group where it is not there, and move the calling process into it by its `file`."""

    def attempt() -> None:
        os.makedirs(directory, exist_ok=True)
        write(f"{directory}/{file}", "0")

    _insist(attempt)


def _insist(action: "Callable[[], None]", tries: int = 100) -> None:
    for attempt in range(tries):
        try:
            return action()
        except OSError as error:
            # ENODEV: the group went between the open and the write; EEXIST: between makedirs' two looks.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EEXIST) or attempt == tries - 1:
                raise
    return None


def limit(path: str, value: str, flag: str, hint: str = "") -> None:
    """Write the value of the limit that `flag` asked for; raises Unsupported where the kernel refuses."""
    try:
        write(path, value)
    except OSError as error:
        if error.errno in _REFUSALS:
            raise Unsupported(
                f"the kernel refuses the limit `{flag}` of {value}", hints=(hint,) if hint else ()
            ) from error
        raise


def limit_cpuset(directory: str, resources: "Resources") -> None:
    """Set the processors and memory nodes that were asked for, in a group of the cpuset controller."""
    for value, name, flag in (
        (resources.cpuset_cpus, "cpus", "--cpuset-cpus"),
        (resources.cpuset_mems, "mems", "--cpuset-mems"),
    ):
        if value is not None:
            kind = "cpu" if name == "cpus" else "node"
            online = read(f"/sys/devices/system/{kind}/online").strip() or "0"
            limit(f"{directory}/cpuset.{name}", value, flag, f"this machine has {online}")


def require_weights(flag: str) -> None:
    """Raise Unsupported where the kernel takes weights of disks and no disk of this machine heeds them."""
    schedulers = (read(f"/sys/block/{name}/queue/scheduler") for name in os.listdir("/sys/block"))
    if any("[bfq]" in text for text in schedulers) or "enable=1" in read("/sys/fs/cgroup/io.cost.qos"):
        return
    raise Unsupported(
        f"`{flag}` cannot be applied here: no disk of this machine weighs its users",
        hints=(
            "as root: `echo bfq > /sys/block/DISK/queue/scheduler`",
            "limits of bytes and operations a second need nothing of the kind: `--device-write-bps`",
        ),
    )


WHOLE_HINT = "such limits are of a whole disk, not of a partition or another kind of device"
# How docker calls the limits of one block device.
IO_FLAGS = {
    "weight": "--blkio-weight-device",
    "read_bps": "--device-read-bps",
    "write_bps": "--device-write-bps",
    "read_iops": "--device-read-iops",
    "write_iops": "--device-write-iops",
}


def processes(directory: str) -> list[int]:
    """Return the ids of the processes in a group and in all below it."""
    found = (read(f"{path}/cgroup.procs") for path, _, _ in os.walk(directory))
    return [int(word) for text in found for word in text.split()]


def counter(text: str, name: str) -> int:
    """Return the number on the line `name N` of `text`; 0 where there is none."""
    for line in text.splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


def require(resources: "Resources", controllers: tuple[str, ...], hint: str) -> None:
    """Raise Unsupported for the first limit of `resources` whose controller is not among `controllers`."""
    for attribute, controller, flag in _NEEDS:
        if getattr(resources, attribute) is not None and controller not in controllers:
            raise Unsupported(
                f"{_quoted(flag)} cannot be applied here: the cgroup controller `{controller}` is not available",
                hints=(hint, f"run without {_quoted(flag)} to go on without this limit"),
            )


def _quoted(flag: str) -> str:
    return f"`{flag}`" if flag.startswith("-") else flag


def await_frozen(is_frozen: "Callable[[], bool]", thaw: "Callable[[], None]", *, timeout_seconds: float = 5.0) -> None:
    """Return when `is_frozen` says so; a process that waits in the kernel may not stop: then `thaw`, and Conflict."""
    deadline = time.monotonic() + timeout_seconds
    while not is_frozen():
        if time.monotonic() > deadline:
            thaw()
            raise Conflict(f"a process of the container did not stop within {timeout_seconds:g} seconds")
        time.sleep(0.001)


def retry_removal(remove: "Callable[[], None]", *, timeout_seconds: float = 2.0) -> None:
    """Call `remove` until it does not raise EBUSY: the last process may be dying still. ENOENT is success."""
    deadline = time.monotonic() + timeout_seconds
    pause_seconds = 0.0005
    while True:
        try:
            return remove()
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, 0.02)
