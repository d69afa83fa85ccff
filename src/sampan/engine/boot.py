"""The life of containers beyond one boot: what restart policies want when a machine comes up, and an orderly end.

Theory. There is no daemon that a boot would start, so a unit of systemd's (`unit`), or whatever starts this machine's
services, calls `start` when it comes up and `stop` before it goes down. Policies mean what they mean when Docker's
daemon starts (moby container.ShouldRestart), for a container that has run before and does not run now:

    always           it is started, whoever stopped it
    unless-stopped   unless a person stopped it: its monitor left word of that (`state.mark_stopped`)
    on-failure[:N]   if it ended with another status than 0, and had not used up its N restarts

A power cut ends a container with 137 (`sweep`), which is a failure. `stop` is nobody's wish: what it ends comes back.
"""

import os
import resource

from sampan.database import connection
from sampan.engine import container as containers
from sampan.engine import ending, frame, record, rootless, state, sweep
from sampan.errors import SampanError
from sampan.identity import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.engine.record import Container
    from sampan.settings.configuration import Settings

    # Told of each container that could not be started or stopped.
    Tell = Callable[[str, Exception], None]

# A container that would be waited for for ever has so long: systemd's own patience with a unit.
_LONGEST_STOP_SECONDS = 90


def due(settings: "Settings") -> "list[Container]":
    """Return the containers that `start` would start now, in the order in which they were created."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        return [one for one in reversed(list(record.every(database))) if _is_due(settings, one)]


def start(settings: "Settings", tell: "Tell") -> "list[str]":
    """Start what is due, one after the other; return the names of what was. One that fails stops no other."""
    if forget_skip(settings):
        return []
    done = []
    for one in due(settings):
        try:
            started = containers.start(settings, one.id)
        except (SampanError, OSError) as error:
            tell(one.name, error)
            continue
        if started is not None:
            started.client.close()
            done.append(one.name)
    return done


def stop(settings: "Settings", tell: "Tell") -> None:
    """Stop all that run, at the same time, each with its own signal and time-out; return when their ends are recorded.

    One that fails stops no other. Who has least patience is followed first, so each is killed when its time is over.
    """
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        running = record.active(database)
    # A channel to each of them is open at once.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asked = []
    for one in sorted(running, key=_patience):
        try:
            asked.append((one, ending.begin_stop(settings, one.id, _patience(one), why=frame.SHUTDOWN)))
        except (SampanError, OSError) as error:
            tell(one.name, error)
    for one, finish in asked:
        try:
            finish()
        except (SampanError, OSError) as error:
            tell(one.name, error)


def skip_next_start(settings: "Settings") -> None:
    """Have the next `start` of this boot do nothing: a unit that is enabled now has missed no boot."""
    os.makedirs(settings.run, 0o700, exist_ok=True)
    state.write_file(_skip_path(settings), boot_id().encode(), durable=False)


def forget_skip(settings: "Settings") -> bool:
    """Tell whether the next start was to do nothing, and forget that."""
    try:
        with open(_skip_path(settings), "rb") as file:
            is_meant = file.read(64) == boot_id().encode()
        os.unlink(_skip_path(settings))
    except OSError:
        return False
    return is_meant


def _skip_path(settings: "Settings") -> str:
    return f"{settings.run}/boot.skip"


def _is_due(settings: "Settings", container: "Container") -> bool:
    directory, policy = state.directory(settings, container.id), container.options.restart
    told = state.read(directory)
    # A new container that nobody has started waits for who will.
    if policy.name == "no" or told.status != state.EXITED or state.alive(directory):
        return False
    if policy.name == "on-failure":
        return told.exit_code != 0 and (not policy.maximum or told.restarts < policy.maximum)
    return policy.name == "always" or not state.was_stopped(directory)


def _patience(container: "Container") -> int:
    """Return the seconds that a container has from its stop signal to its end."""
    seconds = container.config["StopTimeout"]
    if seconds is None:
        return ending.STOP_TIMEOUT_SECONDS
    return _LONGEST_STOP_SECONDS if seconds < 0 else int(seconds)
