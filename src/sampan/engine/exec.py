"""docker exec: one more process in a container that runs. Hot path.

The command finds the container, looks up the user in its root, and gives the rest to a keeper (`keeper`), to which it
is then attached. Whose the process is, what it may do and which filter it gets is what the container's own process has.
"""

import os

from sampan.engine import fault, frame, launch, liveness, sealing, state, terminal
from sampan.engine.attach import Client
from sampan.errors import Conflict, Internal, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings

_ID_BYTES = 32


class ExecOptions:
    """What was asked: `env` is complete `KEY=value` (words.resolve_environment)."""

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


def begin(settings: "Settings", name: str, options: ExecOptions, *, window: tuple[int, int] | None = None) -> Client:
    """Start a command in a running container; return the channel to its keeper, which the caller closes."""
    if not options.command or not options.command[0]:
        raise InvalidArgument("no command was given", hints=(f"name one: `sampan exec {name} COMMAND`",))
    keeper = launch.prepare(settings, sealing.KEEPER)
    try:
        container_id, told, pidfd = _find(settings, name)
        try:
            request = _request(settings, container_id, told, options, window)
        except BaseException:
            os.close(pidfd)
            raise
        client = keeper.send(request, pidfd)
        client.is_keepers = True
        return _answered(client)
    except BaseException:
        keeper.abandon()
        raise


def _find(settings: "Settings", name: str) -> "tuple[str, state.State, int]":
    """Return id, state and pidfd of the running container that `name` means; raises NotFound, Conflict.

    The database is asked only where the monitors' own word is not enough: it takes a third of the whole time.
    """
    container_id = state.find_running(settings, name)
    if container_id is None:
        from sampan.engine import record  # after the fork: see `launch`

        container = record.find(settings, name)
        container_id, name = container.id, container.name
    return container_id, *_running(settings, container_id, name)


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


def _running(settings: "Settings", container_id: str, name: str) -> tuple[state.State, int]:
    """Return the state of a running container and a pidfd of its first process; raises Conflict."""
    directory = state.directory(settings, container_id)
    told = state.read(directory)
    if told.status == state.RUNNING and state.alive(directory):
        if state.is_paused(told):
            raise Conflict(f"the container `{name}` is paused", hints=(f"let it go on with `sampan unpause {name}`",))
        pidfd = liveness.open_process(told)
        if pidfd >= 0:
            return told, pidfd
    raise Conflict(f"the container `{name}` is not running", hints=(f"start it with `sampan start {name}`",))


def _request(
    settings: "Settings", container_id: str, told: state.State, options: ExecOptions, window: tuple[int, int] | None
) -> "Document":
    return {
        "fault": fault.chosen(settings),
        "pid": told.pid,
        "process": told.process,
        "uid_mappings": told.uid_mappings,
        "gid_mappings": told.gid_mappings,
        "cgroup": told.cgroup,
        # docker: `--privileged` gives capabilities; the filter is the container's.
        "seccomp": told.seccomp,
        "seccomp_profile": told.execution["seccomp_profile"],
        "user": options.user or told.execution["user"],
        # Another user has another HOME, unless the image or the person set one.
        "is_home_user_s": bool(options.user) and not told.execution["has_own_home"],
        "group_add": told.execution["group_add"],
        "env": list(options.env),
        "workdir": options.workdir,
        "tty": options.tty,
        "privileged": options.privileged,
        "interactive": options.interactive,
        "detach": options.detach,
        "root": settings.root,
        "container_id": container_id,
        "attributes": told.execution.get("attributes", {}),
        "window": list(window or ()),
        "command": list(options.command),
        "record": f"{state.directory(settings, container_id)}/execs/{os.urandom(_ID_BYTES).hex()}.json",
    }
