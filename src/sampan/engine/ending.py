"""Ending a container, and talking to one that runs: stop, kill, remove, wait, attach. Hot path.

Everything that concerns the process goes through its monitor's socket, so no signal ever meets a number that was given
to somebody else, and the end is known from the monitor, which tells it when it stands in the exit record.
"""

import select
import time

from sampan import journal
from sampan.database import connection
from sampan.engine import attach as channels
from sampan.engine import frame, record, rootless, state, sweep
from sampan.engine.attach import Client
from sampan.engine.record import Container
from sampan.engine.words import parse_signal
from sampan.errors import Conflict
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.settings.configuration import Settings

STOP_TIMEOUT_SECONDS = 10  # docker's
# A monitor that has told the exit takes its network and cgroup down in some 10 ms; a dying process may hold up the
# latter.
_TAKE_DOWN_SECONDS = 10.0
_POLL_SECONDS = 0.002
_SIGKILL = 9
# A monitor listens: the container runs, or will in a moment.
_LIVELY = (state.RUNNING, state.RESTARTING)


def stop(settings: "Settings", name: str, timeout_seconds: int | None = None, signal: str = "") -> None:
    """Send the stop signal, after the time-out (default: the container's, 10) SIGKILL; return when its end is recorded.

    `signal` `""` is the container's own. A negative time-out waits for ever. Stopping what does not run is no error
    (docker).
    """
    container = _current(settings, name)
    number = parse_signal(signal or container.config["StopSignal"])
    client = _control(settings, container)
    if client is None:
        return
    if timeout_seconds is None:
        timeout_seconds = container.config["StopTimeout"]
    if timeout_seconds is None:
        timeout_seconds = STOP_TIMEOUT_SECONDS
    with client:
        _send(settings, container, client, number, is_stop=True)
        if not _has_ended(client, timeout_seconds):
            _send(settings, container, client, _SIGKILL)
        _wait_for_end(client)
    journal.note(settings.root, "stop", container.id, container.attributes)


def kill(settings: "Settings", name: str, signal: str = "KILL") -> None:
    """Send a signal (name with or without SIG, or number). Raises Conflict where it does not run.

    After a KILL it returns when the end is recorded, so that what comes next finds the container stopped.
    """
    container = _current(settings, name)
    number = parse_signal(signal)
    client = _control(settings, container)
    if client is None:
        raise Conflict(f"the container `{container.name}` is not running")
    with client:
        _send(settings, container, client, number)
        if number == _SIGKILL:
            _wait_for_end(client)


def remove(settings: "Settings", name: str, *, force: bool = False, volumes: bool = False) -> None:
    """Remove; `force` kills first; `volumes` removes its anonymous volumes. Raises Conflict where it runs."""
    container = _current(settings, name)
    client = _control(settings, container)
    if client is not None:
        with client:
            if not force:
                raise Conflict(
                    f"the container `{container.name}` is {_what_it_does(settings, container)}",
                    hints=(f"stop it first with `sampan stop {container.name}`, or remove it with `sampan rm -f`",),
                )
            _send(settings, container, client, _SIGKILL)
            _wait_for_end(client)
    _await_take_down(settings, container)
    with connection.open(settings) as database:
        with database.transaction():
            sweep.fold(database, settings)
            if state.alive(state.directory(settings, container.id)):
                raise Conflict(f"the container `{container.name}` was started by another process just now")
            is_there = database.row("SELECT 1 FROM containers WHERE id = ?", (container.id,)) is not None
            sweep.discard(database, settings, container, volumes=volumes)
        if is_there:
            journal.note(settings.root, "destroy", container.id, container.attributes)
        trash.empty(settings.root)


def prune(settings: "Settings", is_wanted: "Callable[[Container], bool]") -> list[str]:
    """Remove all that do not run, as far as they are wanted; return their ids. Their volumes stay, as docker's do."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.settle(database, settings)
        with database.transaction():
            gone = [
                container
                for container in record.every(database)
                if not state.alive(state.directory(settings, container.id)) and is_wanted(container)
            ]
            for container in gone:
                sweep.discard(database, settings, container, volumes=False)
        trash.empty(settings.root)
    return [container.id for container in gone]


def wait(settings: "Settings", name: str) -> int:
    """Wait until it does not run; return its exit status."""
    container = _current(settings, name)
    client = _control(settings, container)
    if client is None:
        return state.read(state.directory(settings, container.id)).exit_code
    with client:
        try:
            return client.wait()
        except Conflict:
            # The monitor is gone; if it has left a record, it said all there is to say.
            told = state.read(state.directory(settings, container.id))
            if told.status == state.EXITED:
                return told.exit_code
            raise


def attach(settings: "Settings", name: str) -> Client:
    """Open a channel to a running container: `client.relay(...)`. Raises Conflict where it does not run."""
    container = _current(settings, name)
    client = _connect(settings, container, frame.ATTACH)
    if client is None:
        raise Conflict(
            f"the container `{container.name}` is not running",
            hints=(f"start it with `sampan start {container.name}`",),
        )
    if _what_it_does(settings, container) == state.PAUSED:
        client.close()
        hint = f"let it go on with `sampan unpause {container.name}`"
        raise Conflict(f"the container `{container.name}` is paused", hints=(hint,))
    journal.note(settings.root, "attach", container.id, container.attributes)
    return client


def _current(settings: "Settings", name: str) -> Container:
    """Return the container that `name` means, after the ends of others have been folded."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        return record.by_name(database, name)


def _control(settings: "Settings", container: Container) -> Client | None:
    return _connect(settings, container, frame.CONTROL)


def _connect(settings: "Settings", container: Container, mode: bytes) -> Client | None:
    """Open a channel to the container's monitor; None where it does not run."""
    directory = state.directory(settings, container.id)
    if not state.alive(directory) or state.read(directory).status not in _LIVELY:
        return None
    try:
        return channels.connect(state.socket_path(settings, container.id), mode)
    except OSError as error:
        # Between our look and our call it ended: then there is nothing to say to it.
        if not state.alive(directory) or state.read(directory).status not in _LIVELY:
            return None
        raise Conflict(
            f"the monitor of `{container.name}` cannot be reached",
            hints=(f"its socket in `{settings.run}` is gone; end it with `kill {state.read(directory).monitor_pid}`",),
        ) from error


def _send(settings: "Settings", container: Container, client: Client, number: int, *, is_stop: bool = False) -> None:
    """Send a signal; one that asks for the end, as `is_stop` says of any, reaches a paused container too.

    That goes on to meet it.
    """
    journal.note(settings.root, "kill", container.id, container.attributes | {"signal": str(number)})
    client.send(frame.pack(frame.SIGNAL, bytes((number, is_stop))))
    told = state.read(state.directory(settings, container.id))
    is_stop = is_stop or number in (_SIGKILL, parse_signal(container.config["StopSignal"]))
    if is_stop and state.is_paused(told):
        from sampan.engine import running

        journal.note(settings.root, "unpause", container.id, container.attributes)
        running.group(told).thaw()


def _what_it_does(settings: "Settings", container: Container) -> str:
    told = state.read(state.directory(settings, container.id))
    return state.PAUSED if state.is_paused(told) else told.status


def _has_ended(client: Client, timeout_seconds: int) -> bool:
    """Wait so long for the EXIT frame."""
    deadline = time.monotonic() + timeout_seconds
    poll = select.poll()
    poll.register(client.fileno(), select.POLLIN)
    while client.status is None:
        left = deadline - time.monotonic()
        if timeout_seconds >= 0 and (left < 0 or not poll.poll(left * 1000)):
            return False
        found = client.receive()
        if found is None:
            return True
        if found[0] == frame.EXIT:
            client.status = found[1][0]
    return True


def _wait_for_end(client: Client) -> None:
    """Wait for the EXIT frame, or for the end of a monitor that was killed: either way the container is dead."""
    while client.status is None:
        found = client.receive()
        if found is None:
            return
        if found[0] == frame.EXIT:
            client.status = found[1][0]


def _await_take_down(settings: "Settings", container: Container) -> None:
    """Wait until the monitor has let the lock go."""
    directory = state.directory(settings, container.id)
    deadline = time.monotonic() + _TAKE_DOWN_SECONDS
    while state.alive(directory):
        if time.monotonic() > deadline:
            raise Conflict(f"the container `{container.name}` is being started or taken down by another process")
        time.sleep(_POLL_SECONDS)
