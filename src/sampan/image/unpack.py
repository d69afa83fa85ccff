"""An image's layers as directories: looked up when they are unpacked already (hot path), else unpacked."""

from sampan.events import ignore
from sampan.image.content import Content
from sampan.oci.digest import Digest
from sampan.storage.snapshot import Snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.events import Sink
    from sampan.image.store import Image
    from sampan.storage.compression import Readable
    from sampan.storage.unpacker import Rules


def lowers(
    database: "Database",
    image: "Image",
    *,
    rules: "Rules | None" = None,
    lease: "Lease | None" = None,
    sink: "Sink" = ignore,
) -> tuple[str, ...]:
    """Return the directories of the image's layers, topmost first; unpack what is not unpacked yet.

    Without `rules` the ids are the image's own. The `lease` keeps the layers until a container's record does. Raises
    Corrupt, Exhausted, Unsupported, OSError.
    """
    if lease is not None:
        lease.hold(f"image:{image.id}")
    snapshots = Snapshots(database)
    found = snapshots.lookup(image.chain_ids, rules.shift if rules else 0)
    if found is not None:
        return found
    content = Content(database.root)
    layers = [(diff_id, _opener(content, digest)) for diff_id, digest in zip(image.diff_ids, image.layers, strict=True)]
    return snapshots.ensure(layers, rules=rules, lease=lease, sink=sink)


def _opener(content: Content, digest: Digest) -> "Callable[[], Readable]":
    return lambda: content.open(digest)
