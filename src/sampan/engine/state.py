"""What a monitor tells of its container: one versioned file, replaced atomically, and the lock that says it lives.

    containers/ID/lock         locked by the command that starts it, then by its monitor for as long as that lives
    containers/ID/state.json   written by the monitor alone; read by every command
    containers/ID/update.json  written by `update` for the monitor that runs; see `write_update`
    containers/ID/stopped      left by the monitor of a container that a person stopped; see `mark_stopped`
    containers/ID/network.json written by `network connect` for the monitor that runs; see `connecting`
    containers/ID/range        the ids of another container's that it joins: written by whoever starts it
    SAMPAN_RUN/ID/attach.sock  where the monitor listens; may be wiped without harm

States: `created` (no file, or a start that failed), `running`, `restarting` (between two runs, by a restart policy),
`exited`. Whether a running one is paused stands in no file: the kernel is asked (`is_paused`). A file that says
`running` or `restarting` is believed only while the lock is held: `alive` decides, never the file (`sweep` mends it).

The lock is an open file description's (F_OFD_SETLK of fcntl(2)): it goes with the descriptor through fork and
SCM_RIGHTS as flock's does, but whether it is held can be asked without taking it, so asking never disturbs a starter.
Hot path.
"""

import _signal
import errno
import fcntl
import os
import struct
import time

from sampan.document import Malformed, parse, render
from sampan.errors import Corrupt, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings

VERSION = 2
CREATED, RUNNING, RESTARTING, EXITED = "created", "running", "restarting", "exited"
PAUSED = "paused"  # is in no file
MONITOR_WORD = "sampan-monitor"  # and the container's directory: the end of a monitor's command line, once it is quiet
NEVER = "0001-01-01T00:00:00Z"  # docker's word for a time that has not come
STATE_BYTES = 4 * 1024 * 1024  # the environment is in it, and may be as large as execve(2) takes
_ID_LENGTH = 64
_NAME_BYTES = 256
_GROWTH_BYTES = 4096  # more than an end adds
# struct flock of asm-generic/fcntl.h on 64 bits: l_type, l_whence, l_start, l_len (0: to the end), l_pid (0 for OFD
# locks).
# What a container has once, however many networks it is on.
_SHARED_IN_1: "tuple[tuple[str, object], ...]" = (("held", []), ("forwarder", 0), ("is_connected", False))
_FLOCK = struct.Struct("hh4xqqi4x")


class State:
    """What the state file says. Times are RFC 3339; `pid` and `start_time` name one process of one boot."""

    __slots__ = (
        "boot_id",
        "cgroup",
        "clean",
        "error",
        "execution",
        "exit_code",
        "finished_at",
        "gid_mappings",
        "health",
        "monitor_pid",
        "network",
        "oom_killed",
        "pid",
        "process",
        "restarts",
        "runtime",
        "seccomp",
        "start_time",
        "started_at",
        "status",
        "uid_mappings",
    )

    def __init__(
        self,
        status: str = CREATED,
        *,
        pid: int = 0,
        start_time: int = 0,
        boot_id: str = "",
        monitor_pid: int = 0,
        exit_code: int = 0,
        oom_killed: bool = False,
        error: str = "",
        started_at: str = NEVER,
        finished_at: str = NEVER,
        cgroup: "Document | None" = None,
        clean: bool = True,
        network: "Document | None" = None,
        process: "Document | None" = None,
        uid_mappings: "list[Document] | None" = None,
        gid_mappings: "list[Document] | None" = None,
        seccomp: str = "",
        execution: "Document | None" = None,
        runtime: "Document | None" = None,
        health: "Document | None" = None,
        restarts: int = 0,
    ) -> None:
        self.status = status
        self.pid = pid
        self.start_time = start_time
        self.boot_id = boot_id
        self.monitor_pid = monitor_pid
        self.exit_code = exit_code
        self.oom_killed = oom_killed
        self.error = error
        self.started_at = started_at
        self.finished_at = finished_at
        # How to find the container's cgroup again (runtime.cgroup); None where it never had one.
        self.cgroup = cgroup
        # False while something of the container may stand in the kernel: cgroup, veth, firewall elements.
        self.clean = clean
        # What `inspect` shows (connection.Connection.document).
        self.network = network or {}
        # What `exec` builds on: runtime-spec's process, the id mappings, and the choice of a seccomp filter.
        self.process = process
        self.uid_mappings = uid_mappings or []
        self.gid_mappings = gid_mappings or []
        self.seccomp = seccomp
        self.execution = execution or {}
        # The foreign runtime that has it, which must be told of its end; None for our own.
        self.runtime = runtime
        # docker's Health document; None without a health check.
        self.health = health
        # How often the restart policy has started it again since somebody did.
        self.restarts = restarts

    def document(self) -> "Document":
        """Return what `read` reads."""
        return {"version": VERSION} | {name: getattr(self, name) for name in self.__slots__}


def directory(settings: "Settings", container_id: str) -> str:
    """Return containers/ID."""
    return f"{settings.root}/containers/{container_id}"


def run_directory(settings: "Settings", container_id: str) -> str:
    """Return SAMPAN_RUN/ID."""
    return f"{settings.run}/{container_id}"


def publish_name(settings_run: str, name: str, container_id: str) -> None:
    """Have a running container found by its name without the database: SAMPAN_RUN/names/NAME is a link to its id.

    Only a short cut: who follows it looks at the lock, and asks the database where that is not held.
    """
    directory = f"{settings_run}/names"
    os.makedirs(directory, 0o700, exist_ok=True)
    fresh = f"{directory}/.{container_id}"
    os.symlink(container_id, fresh)
    os.rename(fresh, f"{directory}/{name}")


def withdraw_name(settings_run: str, name: str, container_id: str) -> None:
    """Take the name away, unless another container has it by now. Idempotent."""
    path = f"{settings_run}/names/{name}"
    try:
        if os.readlink(path) == container_id:
            os.unlink(path)
    except OSError:
        pass


def write_range(directory: str, start: int) -> None:
    """Say which ids a container has from another whose namespaces it joins: nobody else's while it may run."""
    write_file(f"{directory}/range", str(start).encode(), durable=False)


def write_name(directory: str, name: str) -> None:
    """Leave word of a running container's new name for its monitor, which was started with another."""
    write_file(f"{directory}/name", name.encode(), durable=False)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def forget_name(directory: str) -> None:
    """Take that word away: the next start is told the name. Idempotent."""
    _forget(f"{directory}/name")


def read_name(directory: str, name: str) -> str:
    """Return the name that was left for a monitor; `name`, its own, where there is none."""
    try:
        with open(f"{directory}/name", "rb") as file:
            return file.read(_NAME_BYTES).decode()
    except FileNotFoundError:
        return name


def mark_stopped(directory: str) -> None:
    """Leave word that a person stopped it: `unless-stopped` is over, also after a reboot (`boot`).

    Without a sync of its own: the record of the end, which follows, has one. Never an error: that record goes before.
    """
    try:
        os.close(os.open(f"{directory}/stopped", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError:
        return


def was_stopped(directory: str) -> bool:
    """Tell whether a person stopped it, and nobody has started it since."""
    return os.path.lexists(f"{directory}/stopped")


def forget_stopped(directory: str) -> None:
    """Take that word away: it was started. Idempotent."""
    _forget(f"{directory}/stopped")


def find_running(settings: "Settings", name: str) -> str | None:
    """Return the id of a running container by its name or whole id; None says nothing: ask the database."""
    try:
        found = os.readlink(f"{settings.run}/names/{name}") if "/" not in name and name else ""
    except OSError:
        found = name if len(name) == _ID_LENGTH and "/" not in name else ""
    return found if found and alive(directory(settings, found)) else None


def socket_path(settings: "Settings", container_id: str) -> str:
    """Return where the container's monitor listens."""
    return f"{settings.run}/{container_id}/attach.sock"


def read(directory: str) -> State:
    """Return the state of the container in `directory`; `created` where no monitor has written yet."""
    path = f"{directory}/state.json"
    try:
        with open(path, "rb") as file:
            content = file.read(STATE_BYTES)
    except FileNotFoundError:
        return State()
    try:
        document = parse(content.decode())
        version = document.pop("version")
        if version > VERSION:
            raise Unsupported(
                f"`{path}` was written by a newer Sampan", hints=("upgrade with `pip install --upgrade sampan`",)
            )
        told = State(**(_from_1(document) if version == 1 else document))
    except (Malformed, UnicodeDecodeError, KeyError, TypeError) as error:
        raise Corrupt(f"`{path}` is not a container's state") from error
    if told.network and told.status != EXITED:
        changed = read_network(directory, told.monitor_pid, told.boot_id)
        told.network |= {name: changed[name] for name in ("endpoints", "networks") if name in changed}
    return told


def _from_1(document: "Document") -> "Document":
    """Bring a file of version 1 up: there a container had one network. A monitor of that time may live still."""
    from sampan.network.endpoint import BRIDGE

    network = document["network"]
    if network:
        shared = {name: network.get(name, default) for name, default in _SHARED_IN_1}
        is_bridge = network["kind"] == BRIDGE
        own = {"number": 0, "network": BRIDGE, "network_id": "", "names": []}
        rest = {name: value for name, value in network.items() if name not in shared and name != "kind"}
        document["network"] = shared | {"kind": network["kind"], "endpoints": [rest | own] if is_bridge else []}
    return document


def write(directory: str, state: State, *, durable: bool = True) -> None:
    """Replace the state file atomically; `durable` waits for the disk, so that even a power cut keeps it."""
    write_file(f"{directory}/state.json", render(state.document()).encode(), durable=durable)


def reserve(directory: str) -> None:
    """Have room on the disk for the next `write`, whatever becomes of the disk: a container's end must be recorded.

    Without it, as on a file system that cannot allocate, the next write needs room of its own.
    """
    path = f"{directory}/state.json"
    try:
        size = os.stat(path).st_size + _GROWTH_BYTES
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    except OSError:
        pass


def write_file(path: str, content: bytes, *, durable: bool, mode: int = 0o600) -> None:
    """Replace the file at `path` atomically. One writer at a time: the temporary file has a fixed name.

    A temporary file that is there already keeps its blocks until the end: see `reserve`.
    """
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.ftruncate(fd, len(content))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    if durable:
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make the names in the directory `path` outlive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def alive(directory: str) -> bool:
    """Tell whether somebody holds the lock: a monitor, or a command that is just starting one."""
    try:
        fd = os.open(f"{directory}/lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def take_lock(directory: str) -> int | None:
    """Return a descriptor that holds the lock; None where somebody else does. It goes with the last copy of it."""
    fd = os.open(f"{directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        os.close(fd)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return None
    return fd


def call_monitor(directory: str) -> bool:
    """Ask the monitor that holds the lock to listen where commands look for it; tell whether there is one to ask.

    The number in the state file may be another process's by now: whoever is called has the container's directory on
    its command line (`renewal`), or its lock open.
    """
    pid = read(directory).monitor_pid
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return False
    try:
        is_monitor = _is_monitor(pid, directory)
        if is_monitor:
            _signal.pidfd_send_signal(pidfd, _signal.SIGHUP)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return is_monitor


def _is_monitor(pid: int, directory: str) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        if file.read(STATE_BYTES).endswith(f"\0{MONITOR_WORD}\0{directory}\0".encode()):
            return True
    lock = os.stat(f"{directory}/lock")
    return any(_is_file(f"/proc/{pid}/fd/{fd}", lock) for fd in os.listdir(f"/proc/{pid}/fd"))


def _is_file(path: str, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), wanted)
    except OSError:
        return False


def is_paused(told: State) -> bool:
    """Ask the kernel whether a running container's processes were told to stand still."""
    return told.status == RUNNING and is_frozen(told.cgroup)


def is_frozen(group: "Document | None") -> bool:
    """Tell whether the cgroup that `group` names is frozen or about to be: for who imports no cgroup."""
    if group is None:
        return False
    is_1 = group["cgroup"] == 1
    path = f"{group['directories'].get('freezer', '')}/freezer.state" if is_1 else f"{group['directory']}/cgroup.freeze"
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(32).strip() not in (b"THAWED", b"0")
    except OSError:
        return False


def write_update(directory: str, told: State, options: "Document") -> None:
    """Leave `options` (RunOptions.document) for the running monitor: its restart policy and its next run's limits."""
    document = {"version": 1, "monitor_pid": told.monitor_pid, "boot_id": told.boot_id, "options": options}
    write_file(f"{directory}/update.json", render(document).encode(), durable=True)


def write_network(directory: str, told: State, word: "Document") -> None:
    """Leave word of a running container's networks for its monitor, who made others; see `connecting`."""
    document = word | {"version": 1, "monitor_pid": told.monitor_pid, "boot_id": told.boot_id}
    write_file(f"{directory}/network.json", render(document).encode(), durable=False)


def read_network(directory: str, monitor_pid: int, boot_id: str) -> "Document":
    """Return what `write_network` left for this monitor: endpoints, networks, dns; empty where there is nothing."""
    try:
        with open(f"{directory}/network.json", "rb") as file:
            document = parse(file.read(STATE_BYTES).decode())
    except (OSError, Malformed, UnicodeDecodeError):
        return {}
    if document["monitor_pid"] != monitor_pid or document["boot_id"] != boot_id:
        return {}
    return {name: document[name] for name in ("endpoints", "networks", "dns")}


def forget_network(directory: str) -> None:
    """Take that word away: the next start has another. Idempotent."""
    _forget(f"{directory}/network.json")


def read_update(directory: str, monitor_pid: int, boot_id: str) -> "Document":
    """Return the options that `write_update` left for this monitor; empty where there are none for it."""
    try:
        with open(f"{directory}/update.json", "rb") as file:
            document = parse(file.read(STATE_BYTES).decode())
    except (OSError, Malformed, UnicodeDecodeError):
        return {}
    is_ours = document["monitor_pid"] == monitor_pid and document["boot_id"] == boot_id
    return dict(document["options"]) if is_ours else {}


def timestamp(nanoseconds: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 in UTC, docker's `2026-11-24T10:42:00.123456789Z`."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = time.gmtime(seconds)
    date = f"{moment.tm_year:04}-{moment.tm_mon:02}-{moment.tm_mday:02}"
    return f"{date}T{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}.{rest:09}Z"
