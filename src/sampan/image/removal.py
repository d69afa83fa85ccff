"""What goes: names, images, and all that nothing refers to any more. docker's `rmi` and `image prune`.

Theory of operation. Records first, in one transaction, each decision in sight of the containers and the live leases;
then `collect` moves the files that no record and no lease names into the trash, in a transaction of its own, in which
nobody can add a record or take a lease; then the trash is emptied. Killed anywhere, the next `collect` does the rest.
"""

import os

from sampan.database import lease as leases
from sampan.errors import Conflict
from sampan.image.content import is_abandoned
from sampan.image.store import Images
from sampan.oci.reference import Reference
from sampan.storage import trash
from sampan.storage.snapshot import Snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sampan.database.connection import Database

_DIGITS = 64  # of a fragment's name
_BILLION = 1_000_000_000
_FOR_EVER = 2**63 - 1


class Removal:
    """What went: names as docker shows them, ids of images, and the bytes of the blobs and layers with them."""

    __slots__ = ("deleted", "reclaimed_bytes", "untagged")

    def __init__(self, untagged: tuple[str, ...] = (), deleted: tuple[str, ...] = (), reclaimed_bytes: int = 0) -> None:
        self.untagged = untagged
        self.deleted = deleted
        self.reclaimed_bytes = reclaimed_bytes


def remove(database: "Database", text: str, *, force: bool = False) -> Removal:
    """Take the name `text` away, and delete the image when that was the last; or delete the image with that id.

    Raises NotFound, and Conflict where a container uses it or several names stand on the id, unless `force`. An image
    that a container uses then loses its names and stays until the container goes.
    """
    with database.transaction():
        leases.sweep(database)
        id, name = Images(database).identify(text)
        names = [row[0] for row in database.execute("SELECT reference FROM names WHERE image_id = ?", (id,))]
        users = _users(database, id)
        if not force:
            _refuse(text, users, names, by_id=name is None)
        going = names if name is None else [name]
        for reference in going:
            database.execute("DELETE FROM names WHERE reference = ?", (reference,))
            Images(database).note("untag", id, id)
        is_deleted = len(going) == len(names) and not users
        if is_deleted:
            database.execute("DELETE FROM images WHERE id = ?", (id,))
            Images(database).note("delete", id, id)
    reclaimed = collect(database) if is_deleted else 0
    return Removal(tuple(_familiar(reference) for reference in going), (id,) if is_deleted else (), reclaimed)


def prune(
    database: "Database", *, every: bool = False, takes: "Callable[[Mapping[str, str], int], bool] | None" = None
) -> Removal:
    """Delete the images without a name that no container and no live lease uses; with `every` those with a name too.

    With `takes` only those that it takes, by their labels and their time in nanoseconds.
    """
    with database.transaction():
        leases.sweep(database)
        rows = database.execute(
            "SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM containers WHERE image_id IS NOT NULL) "
            "AND 'image:' || id NOT IN (SELECT object FROM holds) "
            "AND (? OR id NOT IN (SELECT image_id FROM names)) ORDER BY id",
            (every,),
        )
        ids = [row[0] for row in rows]
        if takes is not None:
            images = (Images(database).find(id) for id in ids)
            ids = [image.id for image in images if takes(image.labels, image.created * _BILLION)]
        untagged: list[str] = []
        for id in ids:
            rows = database.execute("DELETE FROM names WHERE image_id = ? RETURNING reference", (id,))
            gone = [_familiar(row[0]) for row in rows]
            untagged += gone
            for _ in gone:
                Images(database).note("untag", id, id)
            database.execute("DELETE FROM images WHERE id = ?", (id,))
            Images(database).note("delete", id, id)
    return Removal(tuple(sorted(untagged)), tuple(ids), collect(database))


def forget_builds(database: "Database", *, every: bool = False, until: "Iterable[int]" = ()) -> tuple[str, ...]:
    """Forget what builds have made and no image has, or with `every` all; return their keys. `collect` does the rest.

    With `until`, in nanoseconds, only what was used before all of them.
    A build that is under way keeps what it has found by its lease, and makes again what it has not.
    """
    last = min(until, default=_FOR_EVER)
    with database.transaction():
        rows = database.execute(
            "DELETE FROM builds WHERE (? OR layer NOT IN (SELECT digest FROM layers)) AND used <= ? RETURNING key",
            (every, last // _BILLION),
        )
        keys = sorted(row[0] for row in rows)
        database.execute("DELETE FROM traces WHERE key NOT IN (SELECT key FROM builds)")
    if every and last == _FOR_EVER:
        # A fragment may be deleted at any time; its record first, since that is what names it.
        directory = f"{database.root}/cache/fragments"
        names = [name for name in _listed(directory) if len(name.partition(".")[0]) == _DIGITS]
        for name in sorted(names, key=lambda name: not name.endswith(".json")):
            trash.discard(database.root, f"{directory}/{name}")
    return tuple(keys)


def collect(database: "Database") -> int:
    """Remove blobs and layers that no record and no live lease names; return their bytes.

    Idempotent; safe beside anything else that uses the store.
    """
    with database.transaction():
        leases.sweep(database)
        reclaimed = _forget_snapshots(database) + _discard_blobs(database)
    Snapshots(database).sweep()
    return reclaimed


def _forget_snapshots(database: "Database") -> int:
    rows = database.execute(
        "SELECT DISTINCT chain_id FROM snapshots WHERE ready AND chain_id NOT IN (SELECT chain_id FROM layers) "
        "AND 'chain:' || chain_id NOT IN (SELECT object FROM holds)"
    )
    return Snapshots(database).remove([row[0] for row in rows])


def _discard_blobs(database: "Database") -> int:
    """Move the files that nothing names into the trash; what is in `partial` goes with its dead writer."""
    named = {
        row[0]
        for row in database.execute(
            "SELECT id FROM images UNION SELECT manifest FROM images UNION SELECT digest FROM layers "
            "UNION SELECT layer FROM builds UNION SELECT substr(object, 6) FROM holds WHERE object LIKE 'blob:%'"
        )
    }
    reclaimed = 0
    for directory in _listed(f"{database.root}/blobs"):
        for name in _listed(f"{database.root}/blobs/{directory}"):
            path = f"{database.root}/blobs/{directory}/{name}"
            stays = not is_abandoned(name) if directory == "partial" else f"{directory}:{name}" in named
            if not stays:
                reclaimed += os.stat(path).st_size
                trash.discard(database.root, path)
    return reclaimed


def _users(database: "Database", id: str) -> list[str]:
    """Return who keeps the image: containers by name, and commands that are about to make one."""
    names = [
        f"container `{row[0]}`" for row in database.execute("SELECT name FROM containers WHERE image_id = ?", (id,))
    ]
    rows = database.execute(
        "SELECT kind, pid FROM leases JOIN holds ON lease_id = id WHERE object = ?", (f"image:{id}",)
    )
    return names + [f"a `{kind}` that is under way (process {pid})" for kind, pid in rows]


def _refuse(text: str, users: list[str], names: list[str], *, by_id: bool) -> None:
    """Raise Conflict where docker would."""
    if users and (by_id or len(names) == 1):
        raise Conflict(
            f"image `{text}` is used by {users[0]}",
            hints=(
                "remove the container first with `sampan rm`",
                f"or take only the names away: `sampan rmi -f {text}`",
            ),
        )
    if by_id and len(names) > 1:
        shown = ", ".join(f"`{_familiar(name)}`" for name in names[:5])
        raise Conflict(
            f"image `{text}` has several names: {shown}",
            hints=("remove them one by one", f"or all at once: `sampan rmi -f {text}`"),
        )


def _familiar(reference: str) -> str:
    return Reference.parse(reference).familiar()


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
