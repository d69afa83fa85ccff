"""The base layer as a directory, for a build container: the snapshot that the image's containers will use too."""

from sampan.storage.snapshot import Snapshots
from sampan.storage.unpacker import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.cache import Result
    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.events import Sink
    from sampan.image.content import Content


def unpacked(
    base: "Result", content: "Content", database: "Database", *, lease: "Lease", is_root: bool, sink: "Sink"
) -> str:
    """Return the directory of the layer's snapshot, making it where there is none. Single-threaded callers only."""
    rules = Rules(single_id=not is_root and _has_single_id(), userxattr=not is_root)
    layer = (str(base.diff_id), lambda: content.open(base.digest))
    return Snapshots(database).ensure([layer], rules=rules, lease=lease, sink=sink)[0]


def _has_single_id() -> bool:
    """Tell whether this user namespace has one id only (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        words = file.read().split()
    return len(words) == 3 and words[2] == "1"
