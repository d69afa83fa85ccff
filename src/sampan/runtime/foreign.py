"""A container under somebody else's runtime (runc, crun): the same spec, a bundle on disk, and their four commands.

Theory: they know neither our detached mounts nor (runc before 1.2) idmapped ones. So the caller, who is the container's
monitor, gets a mount namespace of its own, and in it a small tmpfs on a directory that every user may enter, since the
container's root must reach what it is given. There the root and every bind are attached with their ids mapped; the
bundle points at them. Nothing is seen by the machine, and all is gone with the monitor. The container's first process
is reparented to the monitor, which is made a subreaper, so it is waited for as our own would be.

NOTE: such a container outlives a monitor that is killed: their runtimes set no parent-death signal. `delete` with the
state directory ends it.
"""

import _socket
import os
import struct

from sampan import document
from sampan.errors import CommandNotExecutable, CommandNotFound, NotFound, SampanError, Unsupported
from sampan.kernel import mount, syscalls
from sampan.oci.runtime import Mount, Spec
from sampan.runtime import bundle, filesystem, idmap, namespaces, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# hier(7): one of them exists everywhere; the monitor needs none of them.
_PLACES = ("/mnt", "/srv", "/media", "/tmp")  # noqa: S108 (covered by a tmpfs of our own, in our own mount namespace)
_OUTPUT_SIZE = 16384
_SIGKILL = 9


class Runtime:
    """The runtime program at `path`, which keeps its records below `state_directory`."""

    __slots__ = ("path", "state_directory")

    def __init__(self, path: str, state_directory: str) -> None:
        self.path = path
        self.state_directory = state_directory

    def run(self, *arguments: str, stdio: "process.Stdio | None" = None) -> str:
        """Run one command and return what it printed; with `stdio` the container inherits those and nothing is read.

        Raises SampanError with the last line that it wrote to stderr as its hint.
        """
        log_fd = os.memfd_create("runtime", os.MFD_CLOEXEC)
        null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            files = (null_fd, log_fd, log_fd) if stdio is None else (stdio.stdin, stdio.stdout, stdio.stderr)
            log = ("--log", f"/proc/{os.getpid()}/fd/{log_fd}", "--log-format", "json")
            argv = (self.path, "--root", self.state_directory, *(log if stdio else ()), *arguments)
            status = _spawn(argv, files)
            output = os.pread(log_fd, _OUTPUT_SIZE, 0).decode(errors="replace")
        finally:
            os.close(log_fd)
            os.close(null_fd)
        if status:
            raise _error(self.path, arguments, output)
        return output


def _spawn(argv: "tuple[str, ...]", files: "tuple[int, int, int]") -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions)
    except FileNotFoundError as error:
        raise NotFound(f"the runtime `{argv[0]}` does not exist") from error
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def find(name: str, path: str) -> str:
    """Return the runtime program `name`: itself where it has a slash, else from the search path `path`."""
    candidates = [name] if "/" in name else [f"{directory}/{name}" for directory in path.split(":") if directory]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise NotFound(f"the runtime `{name}` is not installed", hints=(f"install it, as root: `apt install {name}`",))


class Created:
    """A container of a foreign runtime that waits to start: the same words as `process.Created`."""

    __slots__ = ("_command", "_id", "_namespaces", "_runtime", "console_fd", "pid", "pidfd")

    def __init__(self, runtime: Runtime, container_id: str, pid: int, command: str) -> None:
        self._runtime = runtime
        self._id = container_id
        self._command = command
        self._namespaces: dict[str, int] = {}
        self.pid = pid
        self.pidfd = syscalls.pidfd_open(pid)
        self.console_fd: int | None = None

    def namespace_fd(self, name: str) -> int:
        """Return a descriptor of one of its namespaces; closed by `close_namespaces`."""
        if name not in self._namespaces:
            self._namespaces[name] = namespaces.open_of(self.pid, name)
        return self._namespaces[name]

    def close_namespaces(self) -> None:
        """Close the descriptors that `namespace_fd` gave."""
        while self._namespaces:
            os.close(self._namespaces.popitem()[1])

    def start(self) -> None:
        """Let it go; raises as `process.Created.start` does."""
        try:
            self._runtime.run("start", self._id)
        except SampanError:
            self.abort()
            raise
        self.close_namespaces()

    def state(self) -> "document.Document":
        """Return what the runtime says of it, as runtime.md#state has it."""
        return document.parse(self._runtime.run("state", self._id).strip())

    def kill(self, signal: int) -> None:
        """Send `signal` to its first process."""
        syscalls.pidfd_send_signal(self.pidfd, signal)

    def delete(self) -> None:
        """Have the runtime forget it and remove its cgroup; the first process is dead or is killed."""
        self._runtime.run("delete", "--force", self._id)

    def abort(self) -> None:
        """Kill it, wait for it, have it forgotten and close all; idempotent."""
        if self.pidfd < 0:
            return
        process.kill_and_wait(self.pid, self.pidfd)
        self.close_namespaces()
        for fd in (self.pidfd, self.console_fd):
            if fd is not None:
                os.close(fd)
        self.pidfd, self.console_fd = -1, None
        self.delete()


def create(
    runtime: Runtime,
    container_id: str,
    spec: "Spec",
    *,
    directory: str,
    root: "Callable[[int | None], int]",
    stdio: "process.Stdio",
) -> Created:
    """Make a container of `spec` that waits for `start`; `directory` becomes its bundle.

    The calling process leaves the machine's mount namespace for good and becomes a subreaper.
    """
    userns_fd = None
    if "user" in spec.namespaces:
        userns_fd = idmap.create_userns(spec.uid_mappings, spec.gid_mappings)
    try:
        base = _make_place()
        shown = _show(spec, base, root, userns_fd)
    finally:
        if userns_fd is not None:
            os.close(userns_fd)
    bundle.write(directory, shown)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    return _run_create(runtime, container_id, shown, directory, stdio)


def _make_place() -> str:
    """Return a directory of our own that every user may enter, in a mount namespace of our own."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    # Slave and not private: what the machine unmounts later must not be held by us.
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    for place in _PLACES:
        if os.path.isdir(place):
            syscalls.mount("sampan", place, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
            return place
    raise Unsupported(f"this machine has none of the directories {', '.join(_PLACES)}")


def _show(spec: "Spec", base: str, root: "Callable[[int | None], int]", userns_fd: int | None) -> "Spec":
    """Attach the root and all binds below `base`; return the spec that points there."""
    os.mkdir(f"{base}/root", 0o755)
    _attach(root(userns_fd), f"{base}/root")
    mounts = []
    for number, entry in enumerate(spec.mounts):
        if not filesystem.is_bind(entry):
            mounts.append(entry)
            continue
        place = f"{base}/{number}"
        _attach_bind(process.open_bind(entry, userns_fd), place)
        words = tuple(w for w in entry.options if w not in ("idmap", "ridmap") and not w.startswith("x-"))
        mounts.append(Mount(entry.destination, entry.type, place, words))
    shown = Spec.parse(spec.document())
    shown.root_path, shown.mounts = f"{base}/root", tuple(mounts)
    return shown


def _attach_bind(fd: int, place: str) -> None:
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        os.mkdir(place, 0o755)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    _attach(fd, place)


def _attach(fd: int, place: str) -> None:
    try:
        place_fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            mount.attach(fd, place_fd)
        finally:
            os.close(place_fd)
    finally:
        os.close(fd)


def _run_create(
    runtime: Runtime,
    container_id: str,
    spec: "Spec",
    directory: str,
    stdio: "process.Stdio",
) -> Created:
    pid_file = f"{directory}/pid"
    arguments = ["create", "--bundle", directory, "--pid-file", pid_file]
    console = _Console(f"{directory}/console") if spec.process.terminal else None
    try:
        if console is not None:
            arguments += ["--console-socket", console.path]
        runtime.run(*arguments, container_id, stdio=stdio)
        with open(pid_file, "rb") as file:
            created = Created(runtime, container_id, int(file.read()), spec.process.args[0])
        if console is not None:
            created.console_fd = console.receive()
        return created
    finally:
        if console is not None:
            console.close()


class _Console:
    """The socket on which a runtime hands over the terminal's master (runc's `--console-socket`)."""

    __slots__ = ("_socket", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.bind(path)
        self._socket.listen(1)
        self._socket.settimeout(10)

    def receive(self) -> int:
        # `accept` of the C half; socket.socket, which typeshed knows, costs 6 ms.
        fd, _ = self._socket._accept()  # type: ignore[attr-defined]
        connection = _socket.socket(fileno=fd)
        try:
            _, ancillary, _, _ = connection.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        finally:
            connection.close()
        if not ancillary:
            raise SampanError("the runtime sent no terminal")
        master: int = struct.unpack("i", ancillary[0][2])[0]
        return master

    def close(self) -> None:
        self._socket.close()
        os.unlink(self.path)


def _error(path: str, arguments: "tuple[str, ...]", output: str) -> SampanError:
    """Return the error for a command that failed; a missing or forbidden command has docker's exit statuses.

    Their messages are all there is to tell one from the other, so this is the one place that reads a text.
    """
    last = _last_message(output)
    what = f"`{os.path.basename(path)} {arguments[0]}` failed: {last}"
    if "executable file not found" in last or ("exec" in last and "no such file or directory" in last):
        return CommandNotFound(what)
    if "exec" in last and ("permission denied" in last or "is a directory" in last):
        return CommandNotExecutable(what)
    return SampanError(what)


def _last_message(output: str) -> str:
    """Return the message of the last line of a log in JSON, or the line where it is none."""
    lines = [line for line in output.splitlines() if line.strip()]
    if not lines:
        return "it said nothing"
    try:
        return str(document.parse(lines[-1])["msg"])
    except (document.Malformed, KeyError):
        return lines[-1]
