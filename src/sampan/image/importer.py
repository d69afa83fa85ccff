"""`sampan import`: the tar of a root file system becomes an image of one layer."""

import os
from datetime import UTC, datetime

from sampan.database.lease import Lease
from sampan.image.change import config_with
from sampan.image.content import Content
from sampan.image.removal import collect
from sampan.image.store import Images
from sampan.oci import image as oci
from sampan.oci.digest import Digest, new_hasher
from sampan.storage import compression, tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.database.connection import Database
    from sampan.image.store import Image
    from sampan.oci.reference import Reference
    from sampan.storage.compression import Readable


def import_root(
    database: "Database",
    source: "Readable",
    reference: "Reference | None" = None,
    *,
    now: float,
    changes: "Sequence[str]" = (),
    message: str = "Imported from -",
    platform: oci.Platform | None = None,
) -> "Image":
    """Make an image of the tar `source` (plain or compressed, read to its end), named `reference`.

    `now` is the time of its making in seconds since the epoch, `changes` are Dockerfile instructions, `platform` is
    this machine's unless told. The layer is kept as it came if OCI knows its compression. Raises InvalidArgument,
    Corrupt, Unsupported, Exhausted; then nothing is left.
    """
    settings = config_with(changes)
    created = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    try:
        with Lease(database, "import") as lease:
            content = Content(database.root, lease)
            layer, diff_id = _stored_layer(content, source)
            config = oci.build_config(
                [diff_id],
                platform=platform or oci.platform_of(os.uname().machine),
                settings=settings,
                history=[{"created": created, "comment": message}],
                created=created,
            )
            descriptor = oci.Descriptor(oci.OCI_CONFIG, Digest.of(config.raw), len(config.raw))
            manifest = oci.build_manifest(descriptor, [layer])
            images = Images(database)
            made = images.add(config.raw, manifest.raw, content, reference)
            images.note("import", made.id, made.id)
            return made
    except BaseException:
        collect(database)
        raise


def _stored_layer(content: Content, source: "Readable") -> tuple[oci.Descriptor, Digest]:
    """Store the layer, and read it once more as a tar: what is none is refused here, not at its first start."""
    first = source.read(6)
    while 0 < len(first) < 6 and (more := source.read(6 - len(first))):
        first += more
    stream: Readable = _After(first, source)
    kind = compression.name_of(first)
    if kind not in {"", "gzip"}:
        stream, kind = compression.Pieces(compression.decompressed(stream)), ""
    digest, size = content.put(stream)
    media_type = oci.OCI_LAYER_GZIP if kind == "gzip" else oci.OCI_LAYER
    with content.open(digest) as blob:
        hashed = _Hashed(compression.Pieces(compression.decompressed(blob)))
        archive = tape.Tape(hashed.read, tape.Bounds())
        while archive.next():
            pass
        archive.drain()
    return oci.Descriptor(media_type, digest, size), hashed.digest()


class _After:
    """A stream whose first bytes were read already."""

    __slots__ = ("_first", "_source")

    def __init__(self, first: bytes, source: "Readable") -> None:
        self._first = first
        self._source = source

    def read(self, size: int, /) -> bytes:
        """Return the first bytes first."""
        if self._first:
            piece, self._first = self._first[:size], self._first[size:]
            return piece
        return self._source.read(size)


class _Hashed:
    """A stream that is hashed as it is read."""

    __slots__ = ("_hash", "_source")

    def __init__(self, source: "Readable") -> None:
        self._source = source
        self._hash = new_hasher()

    def read(self, size: int, /) -> bytes:
        """Read on."""
        piece = self._source.read(size)
        self._hash.update(piece)
        return piece

    def digest(self) -> Digest:
        """Return the digest of all that was read."""
        return Digest("sha256", self._hash.hexdigest())
