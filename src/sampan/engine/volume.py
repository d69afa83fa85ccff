"""Volumes: what `-v` and an image's VOLUME lines mount, and `sampan volume`. Hot path: most starts have none.

A named volume is volumes/NAME/_data and a row; it is made by `create`, or when it is first used. One that is empty, and
that no other container has mounted, is filled with what the image has at that place (docker's copy-up), owner and mode
of the place included; what is filled is a directory beside it, which then takes its place. An anonymous one has a
random name of 64 hex digits. A missing source of a `-v` bind is made as a directory (docker's words: "If you bind-mount
a file or directory that does not yet exist, -v creates the endpoint").

A volume of the local driver may have options, docker's words for mount(8): `type=none,o=bind,device=/path` is that
directory, `type=tmpfs` a tmpfs. Nothing is mounted on the machine for it: each start mounts it in the container. So
only one container at a time has a tmpfs, for two would not see each other's files.

A volume is in use as long as a container, running or not, mounts it; only others are removed.
"""

import errno
import os
import time

from sampan import journal
from sampan.database import connection
from sampan.document import parse, render
from sampan.engine import record, rootless, state, sweep
from sampan.engine.run_options import VolumeMount
from sampan.engine.words import check_name
from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.frozen import replace
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.engine import label
    from sampan.engine.record import Container
    from sampan.settings.configuration import Settings

LOCAL = "local"
ANONYMOUS_LENGTH = record.RANDOM_LENGTH
_OPTIONS = ("type", "device", "o")
_ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_MOST_LABELS = 256


def complete(volumes: tuple[VolumeMount, ...], image_volumes: "Document") -> tuple[VolumeMount, ...]:
    """Return `volumes` with the image's VOLUME paths that nothing covers, and with names for the anonymous ones."""
    covered = {volume.destination for volume in volumes}
    implied = [
        VolumeMount("volume", "", path) for path in image_volumes if path not in covered and path.startswith("/")
    ]
    return tuple(_named(volume) for volume in (*volumes, *implied))


def _named(volume: VolumeMount) -> VolumeMount:
    if volume.kind != "volume" or volume.source:
        return volume
    return replace(volume, source=os.urandom(ANONYMOUS_LENGTH // 2).hex())


def inherited(database: "Database", words: "Iterable[str]", own: tuple[VolumeMount, ...]) -> tuple[VolumeMount, ...]:
    """Return the mounts of the containers that `--volumes-from` names, but for the places of its `own`.

    A tmpfs is not among them, as with docker. Raises NotFound.
    """
    from sampan.engine.mount_words import parse_volumes_from  # few ask for it

    found: dict[str, VolumeMount] = {}
    for word in words:
        name, read_only = parse_volumes_from(word)
        mounts = (mount for mount in record.by_name(database, name).volumes if mount.kind != "tmpfs")
        found |= {mount.destination: replace(mount, read_only=mount.read_only or read_only) for mount in mounts}
    taken = {volume.destination for volume in own}
    return tuple(mount for mount in found.values() if mount.destination not in taken)


def data(settings: "Settings", name: str) -> str:
    """Return the directory of a volume's content."""
    return f"{settings.root}/volumes/{name}/_data"


def prepare(
    database: "Database", settings: "Settings", container: "Container", open_root: "Callable[[], int]"
) -> tuple[VolumeMount, ...]:
    """Make what is not there and return the container's volumes with paths as sources.

    `open_root` returns a descriptor of the container's root, and is called only to fill a volume.
    """
    return tuple(_prepare(database, settings, container, volume, open_root) for volume in container.volumes)


def _prepare(
    database: "Database",
    settings: "Settings",
    container: "Container",
    volume: VolumeMount,
    open_root: "Callable[[], int]",
) -> VolumeMount:
    if volume.kind == "tmpfs":
        return volume
    source = volume.source
    if volume.kind == "bind":
        _make_bind_source(source)
        return volume
    options = _options_of(database, volume)
    if options:
        _check_options(options)
        if not os.path.isdir(data(settings, source)):
            with database.transaction():
                os.makedirs(data(settings, source), 0o755, exist_ok=True)
                _insert(database, source, container.created, dict(volume.labels), options)
        return _mounted(database, container, volume, options)
    source = data(settings, volume.source)
    if not os.path.isdir(source):
        _make(database, settings, container, volume, open_root)
    elif "nocopy" not in volume.options and not volume.subpath and not os.listdir(source):
        _fill_empty(database, settings, container, volume, open_root)
    return replace(volume, kind="bind", source=source)


def _options_of(database: "Database", volume: VolumeMount) -> dict[str, str]:
    """Return the driver's options of a volume: those that it was made with, else those that it shall be made with."""
    row = database.row("SELECT record FROM volumes WHERE name = ?", (volume.source,))
    return dict(volume.driver_options) if row is None else dict(parse(row[0]).get("options") or {})


def _mounted(
    database: "Database", container: "Container", volume: VolumeMount, options: "Mapping[str, str]"
) -> VolumeMount:
    """Return what a volume with options is mounted as."""
    words = tuple(word for word in options.get("o", "").split(",") if word)
    read_only = volume.read_only or "ro" in words
    if options["type"] == "tmpfs":
        if _is_mounted(database, volume.source, container.id):
            raise Conflict(
                f"the volume `{volume.source}` is a tmpfs, which one container at a time may have",
                hints=("use a volume without `type=tmpfs` for files that containers share",),
            )
        # docker's volumes are no `--tmpfs`: programs in them may be executed.
        return replace(volume, kind="tmpfs", source="", read_only=read_only, options=("exec", *words))
    if not os.path.exists(options["device"]):
        raise NotFound(
            f"the directory `{options['device']}` of the volume `{volume.source}` does not exist",
            hints=(f"make it with `mkdir -p {options['device']}`",),
        )
    recursion = "" if "rbind" in words else "disabled"
    words = tuple(word for word in words if word not in {"bind", "rbind", "ro", "rw"})
    return replace(
        volume, kind="bind", source=options["device"], read_only=read_only, options=words, recursion=recursion
    )


def _check_options(options: "Mapping[str, str]") -> None:
    """Refuse options that the local driver does not have, or that nothing here could mount."""
    for key in options:
        if key == "size":
            raise Unsupported(
                "the size of a volume cannot be limited",
                hints=("a tmpfs has one: `--opt type=tmpfs --opt device=tmpfs --opt o=size=100m`",),
            )
        if key not in _OPTIONS:
            raise InvalidArgument(f"the volume option `{key}` is unknown", hints=(f"there are {', '.join(_OPTIONS)}",))
    kind, words = options.get("type", ""), options.get("o", "").split(",")
    if not options.get("device"):
        raise InvalidArgument("the volume options name no `device`", hints=("a tmpfs has `device=tmpfs`",))
    if kind != "tmpfs" and not {"bind", "rbind"} & set(words):
        raise Unsupported(
            f"a volume of the type `{kind}` cannot be mounted: nothing is mounted on the machine for a container",
            hints=("mount it by fstab(5), and bind it: `--opt type=none --opt o=bind --opt device=/PATH`",),
        )
    if kind != "tmpfs" and not options["device"].startswith("/"):
        raise InvalidArgument(f"the device `{options['device']}` of a bind is no absolute path")


def _make_bind_source(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        return  # a file: it is bound as one
    except OSError as error:
        raise NotFound(f"the bind source `{path}` does not exist and cannot be made") from error


def _make(
    database: "Database",
    settings: "Settings",
    container: "Container",
    volume: VolumeMount,
    open_root: "Callable[[], int]",
) -> None:
    """Fill a directory beside its place, and rename it there together with its row: a volume is whole or not there.

    Of two who make one volume at once the second's work goes into the trash.
    """
    fresh = _fresh(settings, volume)
    if "nocopy" not in volume.options and not volume.subpath:
        from sampan.engine import copyup  # most starts fill no volume

        copyup.fill(open_root, volume.destination, f"{fresh}/_data")
    with database.transaction():
        if os.path.isdir(f"{settings.root}/volumes/{volume.source}"):
            trash.discard(settings.root, fresh)
        else:
            os.rename(fresh, f"{settings.root}/volumes/{volume.source}")
        _insert(database, volume.source, container.created, dict(volume.labels))


def _fill_empty(
    database: "Database",
    settings: "Settings",
    container: "Container",
    volume: VolumeMount,
    open_root: "Callable[[], int]",
) -> None:
    """Fill a volume that is there and empty, unless another container has it mounted: that one would lose it."""
    from sampan.engine import copyup

    fresh = _fresh(settings, volume)
    if copyup.fill(open_root, volume.destination, f"{fresh}/_data"):
        with database.transaction():
            if not _is_mounted(database, volume.source, container.id):
                try:
                    # rename(2) takes the place of a directory only where that is empty.
                    os.rename(f"{fresh}/_data", data(settings, volume.source))
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
    trash.discard(settings.root, fresh)


def _is_mounted(database: "Database", name: str, but: str) -> bool:
    others = (container for container in record.active(database) if container.id != but)
    return any(v.kind == "volume" and v.source == name for container in others for v in container.volumes)


def _fresh(settings: "Settings", volume: VolumeMount) -> str:
    """Return where a volume is filled (`sweep` knows these names): a directory with an empty `_data`."""
    fresh = f"{settings.root}/volumes/.{volume.source}-{os.getpid()}"
    trash.discard(settings.root, fresh)
    os.makedirs(f"{fresh}/_data", 0o755)
    return fresh


def _insert(
    database: "Database",
    name: str,
    created: int,
    labels: "Mapping[str, str]",
    options: "Mapping[str, str] | None" = None,
) -> None:
    values = (name, created, render({"labels": dict(labels)} | ({"options": dict(options)} if options else {})))
    if database.row("INSERT OR IGNORE INTO volumes(name, created, record) VALUES (?, ?, ?) RETURNING 1", values):
        journal.note(database.root, "create", name, {"driver": LOCAL}, journal.VOLUME)


def create(
    settings: "Settings",
    name: str = "",
    *,
    driver: str = LOCAL,
    labels: "Mapping[str, str] | None" = None,
    options: "Mapping[str, str] | None" = None,
) -> str:
    """Make a volume and return its name, a random one where none was given; one that is there stays as it is (docker).

    Raises InvalidArgument, Unsupported for another driver or options that nothing here can mount.
    """
    from sampan.engine.mount_words import check_driver  # not on the way to a container

    check_driver(driver)
    if options:
        _check_options(options)
    if labels and len(labels) > _MOST_LABELS:
        raise InvalidArgument(f"{len(labels)} labels are more than {_MOST_LABELS}")
    name = check_name(name) if name else os.urandom(ANONYMOUS_LENGTH // 2).hex()
    rootless.enter(settings)
    with connection.open(settings) as database, database.transaction():
        os.makedirs(data(settings, name), 0o755, exist_ok=True)
        _insert(database, name, time.time_ns(), labels or {}, options)
    return name


def every(settings: "Settings") -> "list[Document]":
    """Return docker's inspect document of every volume, by name, each with `InUse` beside docker's keys."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.settle(database, settings)
        used = _used(database)
        rows = list(database.execute("SELECT name, created, record FROM volumes ORDER BY name"))
    return [_document(settings, *row) | {"InUse": row[0] in used} for row in rows]


def inspect(settings: "Settings", name: str) -> "Document":
    """Return docker's inspect document of a volume; raises NotFound."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        return _document(settings, *_row(database, name))


def remove(settings: "Settings", name: str, *, force: bool = False) -> str:
    """Remove a volume and return its name; raises Conflict where a container has it, NotFound unless `force`."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.settle(database, settings)
        with database.transaction():
            if not force:
                _row(database, name)
            holders = _used(database).get(name)
            if holders:
                raise Conflict(
                    f"the volume `{name}` is in use by {', '.join(f'`{holder}`' for holder in holders)}",
                    hints=(f"remove that first: `sampan rm {' '.join(holders)}`",),
                )
            _remove(database, settings, name)
        trash.empty(settings.root)
    return name


def prune(
    settings: "Settings",
    *,
    everything: bool = False,
    chosen: "label.Selection | None" = None,
) -> list[str]:
    """Remove the anonymous volumes, or with `everything` all, that no container has and `chosen` takes.

    Return their names. A volume is as old as time: no `until` spares it.
    """
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.settle(database, settings)
        with database.transaction():
            used = _used(database)
            rows = list(database.execute("SELECT name, created, record FROM volumes ORDER BY name"))
            found = [_document(settings, *row) for row in rows if row[0] not in used]
            gone = [
                v["Name"]
                for v in found
                if everything or is_anonymous(v["Name"])
                if chosen is None or chosen.takes(v["Labels"] or {}, 0)
            ]
            for name in gone:
                _remove(database, settings, name)
        trash.empty(settings.root)
    return gone


def is_anonymous(name: str) -> bool:
    """Tell whether nobody named this volume."""
    return record.is_random(name)


def _row(database: "Database", name: str) -> tuple[str, int, str]:
    row = database.row("SELECT name, created, record FROM volumes WHERE name = ?", (name,))
    if row is None:
        raise NotFound(f"there is no volume `{name}`", hints=("see what there is with `sampan volume ls`",))
    return row[0], row[1], row[2]


def _used(database: "Database") -> dict[str, list[str]]:
    """Return the names of the containers that have each volume."""
    used: dict[str, list[str]] = {}
    for container in record.every(database):
        for mount in container.volumes:
            if mount.kind == "volume":
                used.setdefault(mount.source, []).append(container.name)
    return used


def _remove(database: "Database", settings: "Settings", name: str) -> None:
    """Delete the row and throw the directory away; the caller holds a write transaction, and empties the trash."""
    row = database.row("SELECT 1 FROM volumes WHERE name = ?", (name,))
    if row is not None:
        sweep.discard_volume(database, settings, name)


def _document(settings: "Settings", name: str, created: int, text: str) -> "Document":
    told = parse(text)
    labels = dict(told.get("labels") or {})
    if is_anonymous(name):
        labels[_ANONYMOUS_LABEL] = ""
    return {
        "CreatedAt": state.timestamp(created),
        "Driver": LOCAL,
        "Labels": labels,
        "Mountpoint": data(settings, name),
        "Name": name,
        "Options": told.get("options"),
        "Scope": "local",
    }
