"""What dead monitors left: every command that shows or changes containers folds their ends into the database first.

Theory. A container is `active` in the database from the transaction that hands out its address and range until a
command has recorded its end. For each active one the lock decides:

    lock  state file          meaning                               what is done, in one write transaction
    ----  ------------------  ------------------------------------  -----------------------------------------------
    held  created, running,   it is being started, or runs          nothing
          restarting
    held  exited, --rm        its monitor is taking it down         the name is given up; the rest comes later
    free  exited, clean       it ended, all is taken down           address and range are freed; --rm: it is removed
    free  exited, not clean   its monitor was killed in teardown    the kernel's objects are removed first
    free  running, restarting its monitor was killed, and it died   the same; exited, 137, "its monitor died"
    free  created or none     killed before it was executed         the same; stays created; --rm: it is removed

Directories without a row belong to commands that were killed before their commit. INVARIANT: directories are made,
locked and thrown away inside a write transaction, so none of them is a living command's. Hot path: with nothing to do
it is one query and one look at a lock for each running container.
"""

import os
import time

from sampan import journal
from sampan.engine import connection as links
from sampan.engine import record, state, takedown
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database
    from sampan.engine.record import Container
    from sampan.settings.configuration import Settings

MONITOR_DIED = "its monitor died"
_KILLED = 137
_SETTLE_SECONDS = 5.0
_POLL_SECONDS = 0.002


def refresh(database: "Database", settings: "Settings") -> None:
    """Fold what there is to fold; takes a write transaction only if there is something."""
    if any(_is_due(container, settings) for container in record.active(database)):
        with database.transaction():
            fold(database, settings)
        trash.empty(settings.root)


def settle(database: "Database", settings: "Settings") -> None:
    """Fold, and wait for monitors that take `--rm` containers down: who removes images shall not meet those."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        refresh(database, settings)
        if not any(_is_going(container, settings) for container in record.active(database)):
            return
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)


def fold(database: "Database", settings: "Settings") -> None:
    """Do what the table says for every active container; the caller holds a write transaction."""
    for container in record.active(database):
        if _is_due(container, settings):
            _fold_one(database, settings, container)


def discard_orphans(database: "Database", settings: "Settings") -> None:
    """Throw away directories that no row names; the caller holds a write transaction, and empties the trash after."""
    _discard_unfinished_volumes(settings.root)
    directory = f"{settings.root}/containers"
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    (count,) = database.row("SELECT count(*) FROM containers") or (0,)
    if len(names) <= count:
        return
    known = {row[0] for row in database.execute("SELECT id FROM containers")}
    for name in names:
        if name not in known and not state.alive(f"{directory}/{name}"):
            trash.discard(settings.root, f"{directory}/{name}")


def _discard_unfinished_volumes(root: str) -> None:
    """Throw away what is called `.NAME-PID` in volumes/, where the process that was filling it is gone."""
    try:
        names = os.listdir(f"{root}/volumes")
    except FileNotFoundError:
        return
    for name in names:
        pid = name.rpartition("-")[2]
        if name.startswith(".") and not (pid.isdigit() and os.path.exists(f"/proc/{pid}")):
            trash.discard(root, f"{root}/volumes/{name}")


def discard(database: "Database", settings: "Settings", container: "Container", *, volumes: bool) -> None:
    """Delete the row and throw the directory away; `volumes` takes anonymous volumes with it.

    The caller holds a write transaction, and empties the trash after it.
    """
    record.delete(database, container.id)
    if volumes:
        others = container.anonymous and {v.source for other in record.every(database) for v in other.volumes}
        for name in container.anonymous:
            if name in others:
                continue  # another container has it by `--volumes-from`
            discard_volume(database, settings, name)
    trash.discard(settings.root, state.directory(settings, container.id))


def discard_volume(database: "Database", settings: "Settings", name: str) -> None:
    """Forget a volume, and put its files into the trash; as `discard`."""
    database.execute("DELETE FROM volumes WHERE name = ?", (name,))
    journal.note(settings.root, "destroy", name, {"driver": "local"}, journal.VOLUME)
    trash.discard(settings.root, f"{settings.root}/volumes/{name}")


def _is_due(container: "Container", settings: "Settings") -> bool:
    directory = state.directory(settings, container.id)
    if not state.alive(directory):
        return True
    return container.name != container.id and _is_going(container, settings)


def _is_going(container: "Container", settings: "Settings") -> bool:
    """Tell whether it was run with --rm and has ended: its monitor takes it down, or did."""
    if not container.options.auto_remove:
        return False
    return state.read(state.directory(settings, container.id)).status == state.EXITED


def _fold_one(database: "Database", settings: "Settings", container: "Container") -> None:
    directory = state.directory(settings, container.id)
    if state.alive(directory):
        record.give_up_name(database, container.id)
        return
    told = state.read(directory)
    # What its monitor has said itself.
    is_told = told.status == state.EXITED and told.clean
    if not told.clean:
        if told.runtime is not None:
            takedown.forget(told.runtime, container.id)
        links.sweep(database, container.id, told, run=settings.run, is_rootless=settings.uid != 0)
        state.withdraw_name(settings.run, container.name, container.id)
        takedown.remove_run_directory(state.run_directory(settings, container.id))
        has_died = told.status in (state.RUNNING, state.RESTARTING)
        _mend(directory, told)
        if has_died:
            attributes = container.attributes | {"exitCode": str(told.exit_code)}
            journal.note(settings.root, "die", container.id, attributes)
    record.set_active(database, container.id, active=False)
    if container.options.auto_remove:
        discard(database, settings, container, volumes=True)
        if not is_told:
            journal.note(settings.root, "destroy", container.id, container.attributes)


def _mend(directory: str, told: state.State) -> None:
    """Write the end that the monitor could not."""
    if told.status in (state.RUNNING, state.RESTARTING):
        # Between two runs it is the last one's code.
        told.exit_code = _KILLED if told.status == state.RUNNING else told.exit_code
        told.status = state.EXITED
        told.error = MONITOR_DIED
        told.finished_at = state.timestamp(time.time_ns())
    told.clean = True
    state.write(directory, told)
