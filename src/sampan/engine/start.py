"""Creating and starting a container: the command's side. Hot path.

Theory of operation of a start, and what a `kill -9` of this command leaves (`sweep` mends all of it):

    1  a monitor is forked or executed                       it reads the end of file and leaves
    2  one write transaction: dead monitors' ends are        nothing; a directory without a row after 3
       folded, the row is written
    3  ... the directory made and locked, range and address  the same: 2 and 3 are one transaction
       leased; COMMIT
    4  volumes are filled, the specification is built        a row that is active, its lock free
    5  the request goes to the monitor with the lock         the monitor goes on without us
    6  STARTED or ERROR comes back                           the same

The order of what is taken: the container's lock inside the database's write transaction, never the other way round.
"""

import os
import time

from sampan import journal
from sampan.database import connection
from sampan.engine import fault, frame, launch, preparation, record, rootless, state, sweep
from sampan.engine.attach import Client
from sampan.engine.record import Container
from sampan.engine.run_options import RunOptions
from sampan.errors import Conflict, Internal, SampanError
from sampan.image.store import Images
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.image.store import Image
    from sampan.settings.configuration import Settings

# A monitor that has told the exit takes its network and cgroup down in some 10 ms; a dying process may hold up the
# latter.
_TAKE_DOWN_SECONDS = 10.0
_POLL_SECONDS = 0.002
_SIGKILL = 9


def create(settings: "Settings", options: RunOptions) -> Container:
    """Record a new container; see container.create."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        image = preparation.find_image(database, options)
        with database.transaction():
            sweep.fold(database, settings)
            sweep.discard_orphans(database, settings)
            container, lock_fd = _insert(database, settings, options, image, active=False)
            os.close(lock_fd)
        journal.note(settings.root, "create", container.id, container.attributes)
        trash.empty(settings.root)
    return container


def create_and_start(
    settings: "Settings",
    options: RunOptions,
    monitor: launch.Launch,
    window: tuple[int, int] | None,
    *,
    gate: "Callable[[], None] | None" = None,
    announce: "Callable[[Container], None] | None" = None,
) -> tuple[Container, Client]:
    """Do what container.run promises, with a monitor that waits; the caller abandons it on an error."""
    with connection.open(settings) as database:
        image = preparation.find_image(database, options)
        ground = preparation.Ground(monitor.ready())
        layers = preparation.lowers(database, settings, options, image, ground)
        with database.transaction():
            sweep.fold(database, settings)
            sweep.discard_orphans(database, settings)
            container, lock_fd = _insert(database, settings, options, image, active=True)
            try:
                leased = preparation.lease(database, settings, container, ground)
            except BaseException:
                os.close(lock_fd)
                trash.discard(settings.root, state.directory(settings, container.id))
                trash.empty(settings.root)
                raise
        fault.reach(fault.COMMAND_COMMITTED, fault.chosen(settings))
        actions = ("create",) if options.detach else ("create", "attach")
        told = container.attributes
        journal.note_all(settings.root, [(journal.CONTAINER, action, container.id, told) for action in actions])
        with _Locked(database, settings, lock_fd):
            if announce:
                announce(container)
            request = preparation.request(database, settings, container, leased=leased, layers=layers, ground=ground)
            if gate:
                gate()
        _launch(database, settings, monitor, request | {"window": list(window or ())}, lock_fd)
    return container, monitor.client


def start(
    settings: "Settings", name: str, monitor: launch.Launch, window: tuple[int, int] | None
) -> tuple[Container, Client] | None:
    """Do what container.start promises, with a monitor that waits; the caller abandons it on an error and on None."""
    with connection.open(settings) as database:
        container = record.by_name(database, name)
        ground = preparation.Ground(monitor.ready())
        lock_fd = _lock_for_start(database, settings, container)
        if lock_fd is None:
            return None
        with _Locked(database, settings, lock_fd):
            image = Images(database).find(container.image_id)
            layers = preparation.lowers(database, settings, container.options, image, ground)
            with database.transaction():
                record.set_active(database, container.id, active=True)
                leased = preparation.lease(database, settings, container, ground)
            fault.reach(fault.COMMAND_COMMITTED, fault.chosen(settings))
            request = preparation.request(database, settings, container, leased=leased, layers=layers, ground=ground)
        _launch(database, settings, monitor, request | {"window": list(window or ())}, lock_fd)
    return container, monitor.client


class _Locked:
    """A lock that a monitor is to get; on an error in the `with` it is let go, and what was handed out is folded."""

    __slots__ = ("_database", "_lock_fd", "_settings")

    def __init__(self, database: "Database", settings: "Settings", lock_fd: int) -> None:
        self._database = database
        self._settings = settings
        self._lock_fd = lock_fd

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, *exception: object) -> None:
        """Undo, if there was an error."""
        if kind is not None:
            os.close(self._lock_fd)
            sweep.refresh(self._database, self._settings)


def _insert(
    database: "Database", settings: "Settings", options: RunOptions, image: "Image", *, active: bool
) -> tuple[Container, int]:
    """Write the row, and make and lock the directory; the caller holds a write transaction."""
    container = preparation.container(database, settings, options, image)
    record.insert(database, container, active=active)
    directory = state.directory(settings, container.id)
    os.makedirs(directory, 0o700)
    lock_fd = state.take_lock(directory)
    if lock_fd is None:
        raise Internal(f"the new directory `{directory}` is locked")
    fault.reach(fault.COMMAND_DIRECTORY, fault.chosen(settings))
    return container, lock_fd


def _lock_for_start(database: "Database", settings: "Settings", container: Container) -> int | None:
    """Return the lock, with all that was before folded; None where the container runs.

    Waits for a monitor that is taking it down.
    """
    directory = state.directory(settings, container.id)
    deadline = time.monotonic() + _TAKE_DOWN_SECONDS
    while True:
        with database.transaction():
            sweep.fold(database, settings)
            lock_fd = _lock_of(container, directory)
        if lock_fd is not None:
            return lock_fd
        told = state.read(directory)
        if state.is_paused(told):
            hint = f"let it go on with `sampan unpause {container.name}`"
            raise Conflict(f"the container `{container.name}` is paused", hints=(hint,))
        if told.status in (state.RUNNING, state.RESTARTING):
            return None
        if time.monotonic() > deadline:
            raise Conflict(f"the container `{container.name}` is being started or taken down by another process")
        time.sleep(_POLL_SECONDS)


def _lock_of(container: Container, directory: str) -> int | None:
    """Return the lock, None where somebody has it."""
    try:
        return state.take_lock(directory)
    except FileNotFoundError as error:
        # Its files go first, the row with the commit: who was killed in between has begun what only `rm` can end.
        hint = f"remove the rest with `sampan rm {container.name}`"
        raise Conflict(f"the container `{container.name}` was half removed", hints=(hint,)) from error


def _launch(
    database: "Database", settings: "Settings", monitor: launch.Launch, request: "Document", lock_fd: int
) -> None:
    """Give the monitor its request and wait for its answer; a start that failed is folded before the error leaves."""
    client = monitor.send(request, lock_fd)
    fault.reach(fault.COMMAND_REQUESTED, fault.chosen(settings))
    try:
        # What can wait until now is done now: the monitor is at work meanwhile.
        database.close()
        trash.empty(settings.root)
        answer = client.receive()
        while answer is not None and answer[0] == frame.READY:
            # One that had to execute itself anew (`sealing`) has said so twice.
            answer = client.receive()
        if answer is None:
            raise Internal("the container's monitor ended before the container was started")
        if answer[0] == frame.ERROR:
            raise frame.parse_error(answer[1])
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _end(client)
        client.close()
        with connection.open(settings) as reopened:
            sweep.refresh(reopened, settings)
        raise
    fault.reach(fault.COMMAND_STARTED, fault.chosen(settings))


def _end(client: Client) -> None:
    """Have a container ended whose start was interrupted: nobody would look after it, or know its id."""
    try:
        client.send(frame.pack(frame.SIGNAL, bytes((_SIGKILL,))))
        # Not closed before: what the monitor has not read would be lost with what we have not.
        client.wait()
    except (OSError, SampanError):
        pass  # the monitor has ended, and the container with it
