"""Ending a container, and talking to one that runs: stop, kill, remove, wait, attach. Hot path.

Everything that concerns the process goes through its monitor's socket, so no signal ever meets a number that was given
to somebody else, and the end is known from the monitor, which tells it when it stands in the exit record.
"""

import select
import time

from sampan import journal
from sampan.database import connection
from sampan.engine import attach as channels
from sampan.engine import fault, frame, record, rootless, state, sweep
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


def stop(
    settings: "Settings",
    name: str,
    timeout_seconds: int | None = None,
    *,
    signal: str = "",
    why: int = frame.BY_HAND,
) -> None:
    """Send the stop signal, after the time-out (default: the container's, 10) SIGKILL; return when its end is recorded.

    A negative time-out waits for ever. Stopping what does not run is no error (docker). `signal` is another one than
    the container's. Where `why` is frame.SHUTDOWN a restart policy brings it back when the machine comes up (`boot`).
    """
    begin_stop(settings, name, timeout_seconds, signal=signal, why=why)()


def begin_stop(
    settings: "Settings",
    name: str,
    timeout_seconds: int | None = None,
    *,
    signal: str = "",
    why: int = frame.BY_HAND,
) -> "Callable[[], None]":
    """Send the stop signal; return what does the rest of `stop`. So several containers end at the same time."""
    wanted = parse_signal(signal) if signal else None
    container = _current(settings, name)
    if timeout_seconds is None:
        timeout_seconds = container.config["StopTimeout"]
    if timeout_seconds is None:
        timeout_seconds = STOP_TIMEOUT_SECONDS
    deadline = None if timeout_seconds < 0 else time.monotonic() + timeout_seconds

    def ask(client: Client) -> None:
        _send(settings, container, client, wanted or parse_signal(container.config["StopSignal"]), why=why)
        fault.reach(fault.COMMAND_SIGNALLED, fault.chosen(settings))

    def follow(client: Client) -> None:
        if not _has_ended(client, deadline):
            _send(settings, container, client, _SIGKILL, why=why)
        _wait_for_end(client)

    asked = _Asked(settings, container, ask, follow)

    def finish() -> None:
        if asked.is_running:
            asked.finish()
            fault.reach(fault.COMMAND_ENDED, fault.chosen(settings))
            journal.note(settings.root, "stop", container.id, container.attributes)

    return finish


def kill(settings: "Settings", name: str, signal: str = "KILL") -> None:
    """Send a signal (name with or without SIG, or number). Raises Conflict where it does not run.

    After a KILL it returns when the end is recorded, so that what comes next finds the container stopped.
    """
    container = _current(settings, name)
    number = parse_signal(signal)
    if number == _SIGKILL:
        asked = _killed(settings, container)
        asked.finish()
        is_running = asked.is_running
    else:
        client = _control(settings, container)
        is_running = client is not None
        if client is not None:
            with client:
                _send(settings, container, client, number)
                fault.reach(fault.COMMAND_SIGNALLED, fault.chosen(settings))
    if not is_running:
        raise Conflict(f"the container `{container.name}` is not running")


def remove(settings: "Settings", name: str, *, force: bool = False, volumes: bool = False) -> None:
    """Remove; `force` kills first; `volumes` removes its anonymous volumes. Raises Conflict where it runs."""
    begin_remove(settings, name, force=force, volumes=volumes)()


def begin_remove(
    settings: "Settings", name: str, *, force: bool = False, volumes: bool = False
) -> "Callable[[], None]":
    """Kill it, if that is to be; return what does the rest of `remove`. So several are taken down at the same time."""
    container = _current(settings, name)
    asked = _killed(settings, container) if force else None
    if asked is None and (client := _control(settings, container)) is not None:
        client.close()
        raise Conflict(
            f"the container `{container.name}` is {_what_it_does(settings, container)}",
            hints=(f"stop it first with `sampan stop {container.name}`, or remove it with `sampan rm -f`",),
        )

    def finish() -> None:
        if asked is not None:
            asked.finish()
        fault.reach(fault.COMMAND_ENDED, fault.chosen(settings))
        _discard(settings, container, volumes=volumes)

    return finish


def _discard(settings: "Settings", container: Container, *, volumes: bool) -> None:
    """Remove what is left of a container that has ended."""
    _await_take_down(settings, container)
    with connection.open(settings) as database:
        with database.transaction():
            sweep.fold(database, settings)
            if state.alive(state.directory(settings, container.id)):
                raise Conflict(f"the container `{container.name}` was started by another process just now")
            is_there = database.row("SELECT 1 FROM containers WHERE id = ?", (container.id,)) is not None
            sweep.discard(database, settings, container, volumes=volumes)
            fault.reach(fault.COMMAND_DISCARDED, fault.chosen(settings))
        fault.reach(fault.COMMAND_REMOVED, fault.chosen(settings))
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
        told = [(journal.CONTAINER, "destroy", container.id, container.attributes) for container in gone]
        journal.note_all(settings.root, told)
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
            # The monitor is gone; if it has left a record, it said all there is to say. One that lives was between two
            # runs: the last one's status is what was waited for.
            told = state.read(state.directory(settings, container.id))
            if told.status == state.EXITED or state.alive(state.directory(settings, container.id)):
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


class _Asked:
    """A container that is asked for its end when this is made; `finish` follows it until that is recorded.

    Once is mostly enough; but a monitor between two runs, by a restart policy, lets its callers go unheard, and is
    asked again. Another monitor is that of somebody's later `start`, which stands.
    """

    def __init__(
        self,
        settings: "Settings",
        container: Container,
        ask: "Callable[[Client], None]",
        follow: "Callable[[Client], None]",
    ) -> None:
        self._settings = settings
        self._container = container
        self._directory = state.directory(settings, container.id)
        self._ask = ask
        self._follow = follow
        self._client = _control(settings, container)
        self.is_running = self._client is not None
        if self._client is not None:
            self._monitor = state.read(self._directory).monitor_pid
            _heard(self._client, ask)

    def finish(self) -> None:
        """Return when the end is recorded."""
        while (client := self._client) is not None:
            with client:
                _heard(client, self._follow)
            if client.status is None:
                time.sleep(_POLL_SECONDS)
            self._client = self._again()

    def _again(self) -> Client | None:
        client = _control(self._settings, self._container)
        if client is None:
            return None
        if state.read(self._directory).monitor_pid != self._monitor:
            client.close()
            return None
        _heard(client, self._ask)
        return client


def _heard(client: Client, act: "Callable[[Client], None]") -> None:
    try:
        act(client)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the monitor has let us go, or has died


def _killed(settings: "Settings", container: Container) -> _Asked:
    def ask(client: Client) -> None:
        _send(settings, container, client, _SIGKILL)
        fault.reach(fault.COMMAND_SIGNALLED, fault.chosen(settings))

    return _Asked(settings, container, ask, _wait_for_end)


def _connect(settings: "Settings", container: Container, mode: bytes) -> Client | None:
    """Open a channel to the container's monitor; None where it does not run."""
    directory = state.directory(settings, container.id)
    if not state.alive(directory) or state.read(directory).status not in _LIVELY:
        return None
    try:
        return channels.reach(settings, container.id, mode)
    except OSError as error:
        # Between our look and our call it ended: then there is nothing to say to it.
        if not state.alive(directory) or state.read(directory).status not in _LIVELY:
            return None
        raise Conflict(
            f"the monitor of `{container.name}` cannot be reached",
            hints=(f"no socket of its is in `{settings.run}`; end it with `kill {state.read(directory).monitor_pid}`",),
        ) from error


def _send(settings: "Settings", container: Container, client: Client, number: int, *, why: int | None = None) -> None:
    """Send a signal; one that asks for the end reaches a paused container too, which goes on to meet it."""
    journal.note(settings.root, "kill", container.id, container.attributes | {"signal": str(number)})
    client.send(frame.pack(frame.SIGNAL, bytes((number,) if why is None else (number, why))))
    told = state.read(state.directory(settings, container.id))
    is_ending = why is not None or number in (_SIGKILL, parse_signal(container.config["StopSignal"]))
    if is_ending and state.is_paused(told):
        from sampan.engine import running

        journal.note(settings.root, "unpause", container.id, container.attributes)
        running.group(told).thaw()


def _what_it_does(settings: "Settings", container: Container) -> str:
    told = state.read(state.directory(settings, container.id))
    return state.PAUSED if state.is_paused(told) else told.status


def _has_ended(client: Client, deadline: float | None) -> bool:
    """Wait so long for the EXIT frame; for ever without a deadline."""
    poll = select.poll()
    poll.register(client.fileno(), select.POLLIN)
    while client.status is None:
        # What has come already counts, however late it is.
        if deadline is not None and not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
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
