"""Joining another container's namespaces: the command's part, in the database.

A container is named by its id from `create` on, as docker has it: renaming the other one changes nothing. What is
recorded at each start is only who is joined; the monitor finds out which processes those are (`partner`), and does so
again with every run of a restart policy.
"""

from sampan.engine import record, sharing, state
from sampan.errors import Conflict, InvalidArgument
from sampan.frozen import replace
from sampan.network.endpoint import CONTAINER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.engine.run_options import RunOptions
    from sampan.settings.configuration import Settings

_IPC_MODES = (sharing.SHAREABLE, "host")


def resolve(database: "Database", options: "RunOptions") -> "tuple[RunOptions, Document]":
    """Return the options with ids for names, and what of the other's Config becomes the container's own.

    Raises NotFound, and Conflict for one that shares no memory.
    """
    changes: dict[str, object] = {}
    config: Document = {}
    for kind, name in options.joined.items():
        other = record.by_name(database, name)
        word = CONTAINER + other.id
        if kind == "network":
            changes["networks"] = (replace(options.networks[0], name=word),)
            config = {"Hostname": other.hostname, "Domainname": other.config.get("Domainname", "")}
        else:
            changes[kind] = word
    return replace(options, **changes), config


def lease(database: "Database", settings: "Settings", container: "Container", *, has_userns: bool) -> "Document":
    """Return who is joined, for the request; raises Conflict where one of them does not run or cannot be joined.

    `containers` has ids by the namespace's name; `range` is the first id of the user namespace that is shared, 0 where
    there is none; `etc` is the directory of the files of /etc, which go with the network, `""` for the container's own.
    """
    found = {kind: record.by_name(database, id) for kind, id in container.options.joined.items()}
    etc, shared = "", 0
    for kind, other in found.items():
        told = state.read(state.directory(settings, other.id))
        if told.status != state.RUNNING or not state.alive(state.directory(settings, other.id)):
            raise Conflict(
                f"the container `{other.name}`, whose {kind} namespace `{container.name}` joins, is not running",
                hints=(f"start it with `sampan start {other.name}`",),
            )
        if kind == "ipc":
            _check_ipc(other)
        if kind == "network":
            etc = _etc(database, settings, other)
        if has_userns and told.uid_mappings and settings.uid == 0:
            shared = told.uid_mappings[0]["hostID"]
    return {"containers": {kind: other.id for kind, other in found.items()}, "range": shared, "etc": etc}


def links(database: "Database", container: "Container") -> "list[Document]":
    """Return what `linking` takes, and of whom the resolver is told another name; raises NotFound."""
    found = []
    for name, alias in sharing.aliases(container.options):
        other = record.by_name(database, name)
        found.append(
            {
                "id": other.id,
                "name": other.name,
                "alias": alias,
                "hostname": other.hostname,
                "env": list(other.config["Env"] or ()),
                "ports": list(other.config["ExposedPorts"] or ()),
            }
        )
    return found


def _check_ipc(other: "Container") -> None:
    mode = other.options.ipc
    if mode in _IPC_MODES or mode.startswith(CONTAINER):
        return
    hint = f"run `{other.name}` with `--ipc {sharing.SHAREABLE}`"
    raise Conflict(f"the container `{other.name}` shares its memory with nobody", hints=(hint,))


def _etc(database: "Database", settings: "Settings", other: "Container") -> str:
    """Return where the files of /etc of a network are: its owner's, however many join each other."""
    while "network" in other.options.joined:
        try:
            other = record.by_name(database, other.options.joined["network"])
        except (InvalidArgument, Conflict):
            break
    return state.directory(settings, other.id)
