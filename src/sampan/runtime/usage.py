"""What a control group has used: processor time, memory, processes, disks. Read by `stats`, never on the hot path.

Docker's arithmetic. Memory is what is charged without the file cache that nobody has used lately (`inactive_file`),
since the kernel takes that back first. Bytes of disks are the group's where its io controller stands (v2), or blkio's
(v1, a foreign runtime's group); else they are counted by process (proc_pid_io(5)): what has ended is in its parent's.
"""

from sampan.runtime import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

# A v1 limit of "none" is the largest multiple of a page.
_NONE_BYTES = 1 << 62


class Usage:
    """What one group has used; None is what nobody counts here. `memory_limit_bytes` None is no limit."""

    __slots__ = ("cpu_ns", "memory_bytes", "memory_limit_bytes", "pids", "read_bytes", "written_bytes")

    def __init__(
        self,
        *,
        cpu_ns: int | None,
        memory_bytes: int | None,
        memory_limit_bytes: int | None,
        pids: int | None,
        disks: tuple[int, int],
    ) -> None:
        self.cpu_ns = cpu_ns
        self.memory_bytes = memory_bytes
        self.memory_limit_bytes = memory_limit_bytes
        self.pids = pids
        self.read_bytes, self.written_bytes = disks


def read(group: "Document", pids: list[int]) -> Usage:
    """Read what the group that `cgroup.parse` reads has used; `pids` are its processes."""
    return _read_1(group["directories"], pids) if group["cgroup"] == 1 else _read_2(group["directory"], pids)


def _read_1(directories: dict[str, str], pids: list[int]) -> Usage:
    memory, account = (directories.get(name, "") for name in ("memory", "cpuacct"))
    charged = _number(f"{memory}/memory.usage_in_bytes")
    idle = cgroupfs.counter(cgroupfs.read(f"{memory}/memory.stat"), "total_inactive_file")
    limit = _number(f"{memory}/memory.limit_in_bytes")
    # The group is there only while the container has a limit of that kind: `cgroup_v1`.
    found = _blkio(cgroupfs.read(f"{directories.get('blkio', '')}/blkio.throttle.io_service_bytes_recursive"))
    return Usage(
        cpu_ns=_number(f"{account}/cpuacct.usage"),
        memory_bytes=_without(charged, idle),
        memory_limit_bytes=None if limit is None or limit >= _NONE_BYTES else limit,
        pids=_number(f"{directories.get('pids', '')}/pids.current") or len(pids),
        disks=found or _by_process(pids),
    )


def _read_2(directory: str, pids: list[int]) -> Usage:
    if not directory:
        return Usage(cpu_ns=None, memory_bytes=None, memory_limit_bytes=None, pids=len(pids), disks=_by_process(pids))
    microseconds = cgroupfs.read(f"{directory}/cpu.stat")
    idle = cgroupfs.counter(cgroupfs.read(f"{directory}/memory.stat"), "inactive_file")
    text = cgroupfs.read(f"{directory}/io.stat")
    return Usage(
        cpu_ns=cgroupfs.counter(microseconds, "usage_usec") * 1000 if microseconds else None,
        memory_bytes=_without(_number(f"{directory}/memory.current"), idle),
        memory_limit_bytes=_number(f"{directory}/memory.max"),
        pids=_number(f"{directory}/pids.current") or len(pids),
        disks=_io_stat(text) if text else _by_process(pids),
    )


def _number(path: str) -> int | None:
    """Read one number; None where it is not there, or is `max`."""
    text = cgroupfs.read(path).strip()
    return int(text) if text.isdigit() else None


def _without(charged: int | None, idle: int) -> int | None:
    return None if charged is None else charged - idle if idle < charged else charged


def _blkio(text: str) -> tuple[int, int] | None:
    """Add up `MAJOR:MINOR Read N` and `… Write N`; None for an empty file."""
    rows = [line.split() for line in text.splitlines()]
    if not text:
        return None
    read, written = (sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == word) for word in ("Read", "Write"))
    return read, written


def _io_stat(text: str) -> tuple[int, int]:
    """Add up `MAJOR:MINOR rbytes=N wbytes=N …`."""
    words = [word.partition("=") for word in text.split()]
    read, written = (sum(int(value) for name, _, value in words if name == key) for key in ("rbytes", "wbytes"))
    return read, written


def _by_process(pids: list[int]) -> tuple[int, int]:
    read = written = 0
    for pid in pids:
        text = cgroupfs.read(f"/proc/{pid}/io")
        read += cgroupfs.counter(text, "read_bytes:")
        written += cgroupfs.counter(text, "write_bytes:")
    return read, written
