"""The life of a container, in docker's words: create, run, start, stop, kill, restart, remove, wait, attach. Hot path.

This is the engine's front door; the work is done in `start` and `ending`. Both are imported only when they are called:
`run` and `start` fork the container's monitor first, and what was not imported by then is imported by both sides at
once (`launch`).
"""

from sampan.engine import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from sampan.engine.attach import Client
    from sampan.engine.record import Container
    from sampan.engine.run_options import RunOptions
    from sampan.settings.configuration import Settings


class Started:
    """A container whose command runs, and the open channel to its monitor.

    `container` says what it is; `client` is the channel: `client.relay(...)` for the foreground, `client.close()` for
    `--detach`. Use it in a `with`.
    """

    __slots__ = ("client", "container")

    def __init__(self, container: "Container", client: "Client") -> None:
        self.container = container
        self.client = client

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the channel; the container goes on."""
        self.client.close()


def create(settings: "Settings", options: "RunOptions") -> "Container":
    """Record a new container; nothing runs.

    Raises NotFound (image), AlreadyExists (name), InvalidArgument, Unsupported.
    """
    from sampan.engine import start as starting

    return starting.create(settings, options)


def run(
    settings: "Settings",
    options: "RunOptions",
    *,
    window: tuple[int, int] | None = None,
    gate: "Callable[[], None] | None" = None,
    announce: "Callable[[Container], None] | None" = None,
) -> Started:
    """Create and start in one; with a tty, `window` is (rows, columns).

    `gate` is called when all is ready but nothing has started: it may wait. What it raises leaves a new container.
    `announce` is told of the container when it has been recorded, whether it can be started or not.

    Returns when the command was executed. Raises what `create` and `start` raise; the CLI's status is then 125, or the
    error's own for CommandNotFound (127) and CommandNotExecutable (126).
    """
    monitor = launch.prepare(settings)
    from sampan.engine import start as starting

    try:
        return Started(*starting.create_and_start(settings, options, monitor, window, gate=gate, announce=announce))
    except BaseException:
        monitor.abandon()
        raise


def start(settings: "Settings", name: str, *, window: tuple[int, int] | None = None) -> Started | None:
    """Start a stopped or new container by name, id or id prefix; None where it runs already (docker: no error)."""
    monitor = launch.prepare(settings)
    from sampan.engine import start as starting

    try:
        started = starting.start(settings, name, monitor, window)
    except BaseException:
        monitor.abandon()
        raise
    if started is None:
        monitor.abandon()
        return None
    return Started(*started)


def stop(settings: "Settings", name: str, timeout_seconds: int | None = None, *, signal: str = "") -> None:
    """Send the stop signal, after the time-out (default: the container's, 10) SIGKILL; return when its end is recorded.

    `signal` `""` is the container's own. A negative time-out waits for ever. Stopping what does not run is no error
    (docker).
    """
    from sampan.engine import ending

    ending.stop(settings, name, timeout_seconds, signal=signal)


def begin_stop(
    settings: "Settings", name: str, timeout_seconds: int | None = None, *, signal: str = ""
) -> "Callable[[], None]":
    """Send the stop signal; return what does the rest of `stop`. So several containers end at the same time."""
    from sampan.engine import ending

    return ending.begin_stop(settings, name, timeout_seconds, signal=signal)


def kill(settings: "Settings", name: str, signal: str = "KILL") -> None:
    """Send a signal (name with or without SIG, or number). Raises Conflict where it does not run.

    After a KILL it returns when the end is recorded, so that what comes next finds the container stopped.
    """
    from sampan.engine import ending

    ending.kill(settings, name, signal)


def restart(settings: "Settings", name: str, timeout_seconds: int | None = None, *, signal: str = "") -> None:
    """Stop if it runs, then start; `stop` says what time-out and signal are."""
    stop(settings, name, timeout_seconds, signal=signal)
    started = start(settings, name)
    if started is not None:
        started.client.close()
        from sampan import journal

        journal.note(settings.root, "restart", started.container.id, started.container.attributes)


def remove(settings: "Settings", name: str, *, force: bool = False, volumes: bool = False) -> None:
    """Remove; `force` kills first; `volumes` removes its anonymous volumes. Raises Conflict where it runs."""
    from sampan.engine import ending

    ending.remove(settings, name, force=force, volumes=volumes)


def begin_remove(
    settings: "Settings", name: str, *, force: bool = False, volumes: bool = False
) -> "Callable[[], None]":
    """Kill it, if that is to be; return what does the rest of `remove`. So several are taken down at the same time."""
    from sampan.engine import ending

    return ending.begin_remove(settings, name, force=force, volumes=volumes)


def wait(settings: "Settings", name: str) -> int:
    """Wait until it does not run; return its exit status."""
    from sampan.engine import ending

    return ending.wait(settings, name)


def attach(settings: "Settings", name: str) -> "Client":
    """Open a channel to a running container: `client.relay(...)`. Raises Conflict where it does not run."""
    from sampan.engine import ending

    return ending.attach(settings, name)
