"""Layers as directories, for a build's containers: the snapshots that the image's containers will use too."""

from functools import partial

from sampan.storage.snapshot import Snapshots
from sampan.storage.unpacker import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.build.cache import Result
    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.events import Sink
    from sampan.image.content import Content


def lowers(
    layers: "Sequence[Result]",
    content: "Content",
    database: "Database",
    *,
    lease: "Lease",
    is_root: bool,
    sink: "Sink",
    shift: int = 0,
) -> tuple[str, ...]:
    """Return the directories of the layers' snapshots, topmost first, making those that are not there.

    `layers` go from the lowest on; `shift` is for a file system that cannot be idmapped. Single-threaded callers only.
    """
    rules = Rules(shift=shift)
    if not is_root:
        from sampan.runtime.holder import is_single_id

        rules = Rules(shift=shift, single_id=is_single_id(), userxattr=True)
    opened = [(str(layer.diff_id), partial(content.open, layer.digest)) for layer in layers]
    return Snapshots(database).ensure(opened, rules=rules, lease=lease, sink=sink)
