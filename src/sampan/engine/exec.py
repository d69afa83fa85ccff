"""docker exec: one more process in a container that runs. Hot path.

The command finds the container, looks up the user in its root, and gives the rest to a keeper (`keeper`), to which it
is then attached. Whose the process is, what it may do and which filter it gets is what the container's own process has.
"""

import os

from sampan.engine import fault, frame, launch, state, terminal
from sampan.engine.attach import Client
from sampan.errors import Conflict, Internal, InvalidArgument
from sampan.kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.engine.user import User
    from sampan.settings.configuration import Settings

_ID_BYTES = 32


class ExecOptions:
    """What was asked: `env` is complete `KEY=value` (run_options.resolve_environment)."""

    __slots__ = ("command", "detach", "env", "interactive", "privileged", "tty", "user", "workdir")

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        env: tuple[str, ...] = (),
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        interactive: bool = False,
        detach: bool = False,
        privileged: bool = False,
    ) -> None:
        self.command = command
        self.env = env
        self.user = user
        self.workdir = workdir
        self.tty = tty
        self.interactive = interactive
        self.detach = detach
        self.privileged = privileged


def execute(
    settings: "Settings", name: str, options: ExecOptions, *, stdin: int = 0, stdout: int = 1, stderr: int = 2
) -> int:
    """Run a command in a running container with this process's descriptors; return its status (0 at once if detached).

    Raises Conflict where it does not run, CommandNotFound (127), CommandNotExecutable (126).
    """
    window = terminal.window(stdin) if options.tty else None
    with begin(settings, name, options, window=window) as client:
        if options.detach:
            return 0
        status = client.relay(
            stdin=stdin if options.interactive else None, stdout=stdout, stderr=stderr, tty=options.tty
        )
    return status or 0


def begin(
    settings: "Settings", name: str, options: ExecOptions, *, window: tuple[int, int] | None = None
) -> Client:
    """Start a command in a running container; return the channel to its keeper, which the caller closes."""
    if not options.command or not options.command[0]:
        raise InvalidArgument("no command was given", hints=(f"name one: `sampan exec {name} COMMAND`",))
    keeper = launch.prepare(settings, launch.KEEPER)
    # After the fork: see `launch`.
    from sampan.engine import record

    try:
        container = record.find(settings, name)
        told, pidfd = _running(settings, container)
        try:
            request = _request(settings, container, told, options, pidfd, window)
        except BaseException:
            os.close(pidfd)
            raise
        client = keeper.send(request, pidfd)
        return _answered(client)
    except BaseException:
        keeper.abandon()
        raise


def _answered(client: Client) -> Client:
    """Wait for STARTED."""
    try:
        answer = client.receive()
        if answer is None:
            raise Internal("the keeper of the command ended before the command was executed")
        if answer[0] == frame.ERROR:
            raise frame.parse_error(answer[1])
    except BaseException:
        client.close()
        raise
    return client


def _running(settings: "Settings", container: "Container") -> tuple[state.State, int]:
    """Return the state of a running container and a pidfd of its first process; raises Conflict."""
    directory = state.directory(settings, container.id)
    told = state.read(directory)
    if told.status == state.RUNNING and state.alive(directory):
        try:
            pidfd = syscalls.pidfd_open(told.pid)
        except ProcessLookupError:
            pidfd = -1
        # The number is the container's still only if what has it began when the container did.
        if pidfd >= 0 and _began(told.pid) == told.start_time:
            return told, pidfd
        if pidfd >= 0:
            os.close(pidfd)
    raise Conflict(
        f"the container `{container.name}` is not running", hints=(f"start it with `sampan start {container.name}`",)
    )


def _began(pid: int) -> int:
    try:
        return state.start_time(pid)
    except (FileNotFoundError, ProcessLookupError):
        return -1


def _request(
    settings: "Settings",
    container: "Container",
    told: state.State,
    options: ExecOptions,
    pidfd: int,
    window: tuple[int, int] | None,
) -> "Document":
    from sampan.engine import preparation, specification
    from sampan.oci.runtime import Spec

    who = _user(container, told, options)
    process = Spec.parse({"process": told.process, "root": {"path": ""}, "linux": {}}).process
    process.args = options.command
    process.env = _environment(process.env, container, options, who)
    process.cwd = options.workdir or process.cwd
    process.uid, process.gid, process.additional_gids = who.uid, who.gid, who.gids
    process.terminal = options.tty
    process.oom_score_adj = None
    if options.privileged:
        process.capabilities = specification.every_capability()
    unconfined = options.privileged or told.seccomp == "unconfined"
    return {
        "fault": fault.chosen(settings),
        "spec": Spec(process).document(),
        "mappings": told.mappings,
        "cgroup": told.cgroup,
        "seccomp": "unconfined" if unconfined else told.seccomp,
        "seccomp_profile": preparation.seccomp_profile(container.options),
        "interactive": options.interactive,
        "detach": options.detach,
        "window": list(window or ()),
        "command": list(options.command),
        "record": f"{state.directory(settings, container.id)}/execs/{os.urandom(_ID_BYTES).hex()}.json",
    }


def _user(container: "Container", told: state.State, options: ExecOptions) -> "User":
    """Look the user up in the container's root as it is now."""
    from sampan.engine import user

    # SECURITY: of the root only a descriptor is opened, which follows nothing of the container's.
    root_fd = os.open(f"/proc/{told.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return user.resolve(root_fd, options.user or container.config["User"], container.options.group_add)
    finally:
        os.close(root_fd)


def _environment(
    words: tuple[str, ...], container: "Container", options: ExecOptions, who: "User"
) -> tuple[str, ...]:
    """Return the container's environment with `-e` over it; another user has another HOME, unless the image set it."""
    merged = dict(word.partition("=")[::2] for word in words)
    if options.user and not any(word.startswith("HOME=") for word in container.config["Env"]):
        merged["HOME"] = who.home
    if options.tty:
        merged.setdefault("TERM", "xterm")
    merged |= dict(word.partition("=")[::2] for word in options.env)
    return tuple(f"{key}={value}" for key, value in merged.items())
