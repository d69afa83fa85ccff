"""docker system df: what the store holds, how much of it is in use, and how much could be had back.

Images share layers, so a layer counts once: as a blob, compressed, and as a snapshot, unpacked. What is in use is what
an image with a container needs; the rest could be had back by removing images. A container's size is what it has
written over its image.
"""

import os

from sampan.database import connection
from sampan.engine import inspection, rootless, volume
from sampan.image.store import Images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.image.store import Image
    from sampan.settings.configuration import Settings

    Objects = dict[str, int]

ENTRIES_AT_MOST = 10_000_000  # of one tree: a container may make as many files as it likes


class Total:
    """One line of df: how many there are, how many of them are in use, and bytes."""

    __slots__ = ("active", "count", "reclaimable_bytes", "size_bytes", "type")

    def __init__(self, type: str, count: int, active: int, size_bytes: int, reclaimable_bytes: int) -> None:
        self.type = type
        self.count = count
        self.active = active
        self.size_bytes = size_bytes
        self.reclaimable_bytes = reclaimable_bytes


class ImageSize:
    """One image: all its bytes, those that others have too, and how many containers it has."""

    __slots__ = ("containers", "image", "shared_bytes", "size_bytes")

    def __init__(self, image: "Image", size_bytes: int, shared_bytes: int, containers: int) -> None:
        self.image = image
        self.size_bytes = size_bytes
        self.shared_bytes = shared_bytes
        self.containers = containers


class Space:
    """What the store holds at one moment; `containers` and `volumes` are (row, bytes), rows as of ps and volume ls."""

    __slots__ = ("_objects", "builds", "containers", "fragment_bytes", "images", "volumes")

    def __init__(self, settings: "Settings") -> None:
        rows = inspection.summaries(settings, all=True)
        self.containers = [(row, tree_bytes(f"{settings.root}/containers/{row['Id']}/upper")) for row in rows]
        links: dict[str, int] = {}
        for row in rows:
            for mount in row["Mounts"]:
                links[mount.get("Name", "")] = links.get(mount.get("Name", ""), 0) + 1
        self.volumes = [
            (found | {"Links": links.get(found["Name"], 0)}, tree_bytes(found["Mountpoint"]))
            for found in volume.every(settings)
        ]
        with connection.open(settings) as database:
            self._objects = _objects(database)
            used: dict[str, int] = {}
            for row in rows:
                used[row["ImageID"]] = used.get(row["ImageID"], 0) + 1
            self.images = [self._image(image, used.get(image.id, 0)) for image in Images(database).list()]
            self.builds = _builds(database)
        self.fragment_bytes = tree_bytes(f"{settings.root}/cache/fragments")

    def totals(self) -> list[Total]:
        """Return the four lines."""
        active = {key: size for one in self.images if one.containers for key, size in self._of(one.image.id).items()}
        every = {key: size for objects in self._objects.values() for key, size in objects.items()}
        running = [size for row, size in self.containers if row["State"] in {"running", "paused", "restarting"}]
        own = sum(size for _, size in self.containers)
        in_use = [size for row, size in self.volumes if row["InUse"]]
        volumes = sum(size for _, size in self.volumes)
        builds = sum(build["size_bytes"] for build in self.builds if not build["is_shared"]) + self.fragment_bytes
        return [
            Total(
                "Images", len(self.images), sum(1 for one in self.images if one.containers),
                sum(every.values()), sum(every.values()) - sum(active.values()),
            ),
            Total("Containers", len(self.containers), len(running), own, own - sum(running)),
            Total("Local Volumes", len(self.volumes), len(in_use), volumes, volumes - sum(in_use)),
            Total("Build Cache", len(self.builds), 0, builds, builds),
        ]  # fmt: skip

    def _image(self, image: "Image", containers: int) -> ImageSize:
        own = self._of(image.id)
        others = {key for id, objects in self._objects.items() if id != image.id for key in objects}
        shared = sum(size for key, size in own.items() if key in others)
        return ImageSize(image, sum(own.values()), shared, containers)

    def _of(self, image_id: str) -> "Objects":
        return self._objects.get(image_id, {})


def sizes(settings: "Settings", containers: "Iterable[tuple[str, str]]") -> dict[str, tuple[int, int]]:
    """Return the bytes of containers by id: what each has written, and that with its image's, unpacked.

    `containers` are pairs of its id and its image's.
    """
    rootless.enter(settings)
    with connection.open(settings) as database:
        rows = database.execute(
            "SELECT l.image_id, sum(s.size_bytes) FROM layers l "
            "JOIN snapshots s ON s.chain_id = l.chain_id AND s.ready GROUP BY l.image_id"
        )
        # An image that nobody has run yet has no snapshots.
        images = {image.id: image.size_bytes for image in Images(database).list()} | dict(rows)
    own = {id: (tree_bytes(f"{settings.root}/containers/{id}/upper"), image) for id, image in containers}
    return {id: (size, size + images.get(image, 0)) for id, (size, image) in own.items()}


def tree_bytes(path: str) -> int:
    """Return the bytes of the files below a directory, each file once whatever its names; 0 where it is not there.

    The container may change it meanwhile, and may turn a directory into a link: then the number is wrong, no more.
    """
    total, seen, waiting, left = 0, set(), [path], ENTRIES_AT_MOST
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return total
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink == 1 or status.st_ino not in seen:
                        total += status.st_size
                    if status.st_nlink > 1:
                        seen.add(status.st_ino)
        except OSError:
            continue  # gone, or too deep for a path
    return total


def _objects(database: "Database") -> "dict[str, Objects]":
    """Return for each image what it needs, by name, with its bytes."""
    found: dict[str, Objects] = {}
    for (id,) in database.execute("SELECT id FROM images"):
        found[id] = {}
    rows = database.execute(
        "SELECT image_id, digest, chain_id, size_bytes, "
        "coalesce((SELECT sum(s.size_bytes) FROM snapshots s WHERE s.chain_id = layers.chain_id AND ready), 0) "
        "FROM layers"
    )
    for id, digest, chain_id, blob_bytes, snapshot_bytes in rows:
        found[id] |= {f"blob {digest}": blob_bytes, f"chain {chain_id}": snapshot_bytes}
    return found


def _builds(database: "Database") -> "list[Document]":
    """Return what the build cache remembers, the last used first."""
    rows = database.execute(
        "SELECT key, size_bytes, used, layer IN (SELECT digest FROM layers) FROM builds ORDER BY used DESC, key"
    )
    return [{"key": row[0], "size_bytes": row[1], "used": row[2], "is_shared": bool(row[3])} for row in rows]
