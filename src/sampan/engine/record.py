"""Containers in the database: one row each, from `create` to `rm`. Hot path.

The row's `record` is a versioned document: what was asked for (`RunOptions`), docker's Config that came of it, and the
volumes with their names. What a monitor knows stands in files (`state`). `active` says that resources were handed out
for a start and no command has folded its end yet (`sweep`).
"""

import os

from sampan.database import connection
from sampan.document import parse, render
from sampan.engine import rootless, state
from sampan.engine.run_options import NetworkRequest, RunOptions, VolumeMount
from sampan.errors import AlreadyExists, InvalidArgument, NotFound, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.database.connection import Database, Row
    from sampan.document import Document
    from sampan.settings.configuration import Settings

VERSION = 2
ID_LENGTH, SHORT_ID_LENGTH = 64, 12
_HEX = "0123456789abcdef"
_COLUMNS = "SELECT id, name, image_id, created, active, record FROM containers"


class Container:
    """One container as it was created. `created` is in nanoseconds since the epoch; `config` is docker's Config."""

    __slots__ = ("config", "created", "id", "image_id", "is_active", "name", "options", "volumes")

    def __init__(
        self,
        id: str,
        name: str,
        image_id: str,
        created: int,
        *,
        options: RunOptions,
        config: "Document",
        volumes: tuple[VolumeMount, ...] = (),
        is_active: bool = False,
    ) -> None:
        self.id = id
        self.name = name
        self.image_id = image_id
        self.created = created
        self.options = options
        self.config = config
        # `options.volumes` and the image's, with anonymous ones named.
        self.volumes = volumes
        self.is_active = is_active

    @property
    def short_id(self) -> str:
        """Return the twelve digits that people see."""
        return self.id[:SHORT_ID_LENGTH]

    @property
    def hostname(self) -> str:
        """Return what the machine is called inside."""
        return str(self.options.hostname or self.config.get("Hostname") or self.short_id)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the whole command."""
        return (*(self.config["Entrypoint"] or ()), *(self.config["Cmd"] or ()))

    @property
    def attributes(self) -> "Document":
        """Return what an event says of it: docker's Actor.Attributes."""
        return dict(self.config["Labels"] or {}) | {"image": self.options.image, "name": self.name}

    @property
    def anonymous(self) -> tuple[str, ...]:
        """Return the names of the volumes that nobody named: they go with the container where that was asked for."""
        named = {volume.source for volume in self.options.volumes if volume.kind == "volume"}
        return tuple(v.source for v in self.volumes if v.kind == "volume" and v.source not in named)

    def document(self) -> str:
        """Return the row's record."""
        return render(
            {
                "version": VERSION,
                "options": self.options.document(),
                "config": self.config,
                "volumes": [volume.document() for volume in self.volumes],
            }
        )


def insert(database: "Database", container: Container, *, active: bool) -> None:
    """Add the row; raises AlreadyExists where the name is taken. The caller holds a write transaction."""
    values = (container.id, container.name, container.image_id, container.created, int(active), container.document())
    try:
        database.execute(
            "INSERT INTO containers(id, name, image_id, created, active, record) VALUES (?, ?, ?, ?, ?, ?)", values
        )
    except connection.IntegrityError as error:
        if database.row("SELECT id FROM containers WHERE name = ?", (container.name,)) is None:
            raise
        raise _is_taken(database, container.name) from error


def update(database: "Database", container: Container) -> None:
    """Write the row's record anew; the caller holds a write transaction."""
    database.execute("UPDATE containers SET record = ? WHERE id = ?", (container.document(), container.id))


def set_active(database: "Database", container_id: str, *, active: bool) -> None:
    """Say whether resources are handed out for the container; free them where they are not any more."""
    database.execute("UPDATE containers SET active = ? WHERE id = ?", (int(active), container_id))
    if not active:
        database.execute("DELETE FROM ranges WHERE container_id = ?", (container_id,))
        database.execute("DELETE FROM addresses WHERE container_id = ?", (container_id,))


def rename(database: "Database", container: Container, name: str) -> None:
    """Call it otherwise; raises AlreadyExists. The caller holds a write transaction."""
    try:
        database.execute("UPDATE containers SET name = ? WHERE id = ?", (name, container.id))
    except connection.IntegrityError as error:
        raise _is_taken(database, name) from error


def give_up_name(database: "Database", container_id: str) -> None:
    """Free the name of a container that is going; until then it is called by its id."""
    database.execute("UPDATE containers SET name = id WHERE id = ?", (container_id,))


def delete(database: "Database", container_id: str) -> None:
    """Delete the row and all that was handed out for it."""
    database.execute("DELETE FROM containers WHERE id = ?", (container_id,))


def every(database: "Database") -> "Iterator[Container]":
    """Yield all containers, newest first."""
    for row in database.execute(f"{_COLUMNS} ORDER BY created DESC, id"):
        yield _parse(row)


def active(database: "Database") -> "list[Container]":
    """Return the containers that hold resources."""
    return [_parse(row) for row in database.execute(f"{_COLUMNS} WHERE active")]


def by_name(database: "Database", name: str) -> Container:
    """Return the container called `name`, or whose id is or begins with it; raises NotFound, InvalidArgument."""
    name = name.removeprefix("/")
    row = database.row(f"{_COLUMNS} WHERE name = ? OR id = ?", (name, name))
    if row is not None:
        return _parse(row)
    # GLOB on hexadecimal digits only: no pattern of a person's gets through.
    if name and all(digit in _HEX for digit in name):
        rows = list(database.execute(f"{_COLUMNS} WHERE id GLOB ? LIMIT 2", (name + "*",)))
        if len(rows) == 1:
            return _parse(rows[0])
        if rows:
            raise InvalidArgument(
                f"more than one container's id begins with `{name}`", hints=("give more of its digits",)
            )
    raise _not_found(database, name)


def find(settings: "Settings", name: str) -> Container:
    """Return the container that `name` means (see `by_name`) with a connection of its own."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        return by_name(database, name)


def new_id(settings: "Settings") -> str:
    """Return an id that no container has."""
    while True:
        id = os.urandom(ID_LENGTH // 2).hex()
        # docker: a short id of digits only would be taken for a number, as by `sampan exec 123456789012`.
        if not id[:SHORT_ID_LENGTH].isdigit() and not os.path.lexists(state.directory(settings, id)):
            return id


def _parse(row: "Row") -> Container:
    id, name, image_id, created, is_active, record = row
    document = parse(record)
    if document["version"] > VERSION:
        raise Unsupported(
            f"the container `{name}` was made by a newer Sampan", hints=("upgrade with `pip install --upgrade sampan`",)
        )
    return Container(
        id,
        name,
        image_id,
        created,
        options=RunOptions.parse(_options(document)),
        config=document["config"],
        volumes=tuple(VolumeMount.parse(volume) for volume in document["volumes"]),
        is_active=bool(is_active),
    )


def _options(document: "Document") -> "Document":
    """Return the options; in version 1 there was one network, no health check and no restart policy."""
    options: Document = document["options"]
    if document["version"] == 1:
        name = options.pop("network")
        options["networks"] = [NetworkRequest("bridge" if name == "default" else name).document()]
        options |= {"health": {}, "restart": ["no", 0]}
    return options


def _is_taken(database: "Database", name: str) -> AlreadyExists:
    (holder,) = database.row("SELECT id FROM containers WHERE name = ?", (name,)) or ("",)
    return AlreadyExists(
        f"the name `{name}` is taken by the container {holder[:SHORT_ID_LENGTH]}",
        hints=(f"remove it with `sampan rm -f {name}`, or choose another name",),
    )


def _not_found(database: "Database", name: str) -> NotFound:
    import difflib  # an error's way out may cost what it likes

    names = [row[0] for row in database.execute("SELECT name FROM containers")]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean `{near[0]}`?" if near else "see what there is with `sampan ps -a`"
    return NotFound(f"there is no container `{name}`", hints=(hint,))
