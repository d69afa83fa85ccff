"""docker rename: another name for a container, running or not.

Theory. The name is the database's. A container that runs has it in two more places, which its monitor wrote when it
started: the short cut SAMPAN_RUN/names/NAME, and its record on each user-defined network. Both are replaced here, and a
file is left for the monitor, which reads it where a restart policy starts the container again, and at its end. A
monitor takes names back after it has recorded that a run is over; so what is written here and then found to be over is
taken back here.
"""

from sampan import journal
from sampan.database import connection
from sampan.engine import record, rootless, state, sweep
from sampan.engine.words import check_name
from sampan.errors import Conflict
from sampan.network import record as names
from sampan.network.endpoint import Endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.engine.record import Container
    from sampan.settings.configuration import Settings


def rename(settings: "Settings", old: str, new: str) -> None:
    """Call the container `old` `new`; raises NotFound, InvalidArgument, AlreadyExists, Conflict where it is its own."""
    new = check_name(new.removeprefix("/"))
    rootless.enter(settings)
    with connection.open(settings) as database, database.transaction():
        sweep.fold(database, settings)
        container = record.by_name(database, old)
        if container.name == new:
            raise Conflict(f"the container is called `{new}` already")
        record.rename(database, container, new)
        told = container.attributes | {"name": new, "oldName": f"/{container.name}"}
        journal.note(settings.root, "rename", container.id, told)
        directory = state.directory(settings, container.id)
        if not state.alive(directory):
            state.forget_name(directory)
            return
        # Within the transaction: of two who rename it at once the second comes after.
        state.write_name(directory, new)
        state.withdraw_name(settings.run, container.name, container.id)
        _tell(settings, container, new)


def _tell(settings: "Settings", container: "Container", new: str) -> None:
    """Put the new name where others look for a container that runs."""
    directory = state.directory(settings, container.id)
    told = state.read(directory)
    if told.status != state.RUNNING:
        return
    state.publish_name(settings.run, new, container.id)
    named = [endpoint for endpoint in map(Endpoint.parse, told.network.get("endpoints", ())) if endpoint.names]
    for endpoint in named:
        endpoint.names = tuple(new if name == container.name else name for name in _names_of(settings, endpoint))
        names.publish(settings.run, endpoint)
    if state.read(directory).status != state.RUNNING or not state.alive(directory):
        state.withdraw_name(settings.run, new, container.id)
        for endpoint in named:
            names.withdraw(settings.run, endpoint.network_id, container.id)


def _names_of(settings: "Settings", endpoint: Endpoint) -> tuple[str, ...]:
    """Return the names that are told now: it may have been renamed before."""
    place = names.directory(settings.run, endpoint.network_id)
    try:
        found = [told for address, told in names.read(place) if address == endpoint.address]
    except FileNotFoundError:
        found = []
    return tuple(found[0]) if found else endpoint.names
