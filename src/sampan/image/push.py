"""Images to registries: docker's push.

Theory of operation. Each blob is put there unless the registry has it, or can take it from another of its repositories;
the manifest comes last, so that a name there never leads to what is not. Layers that are stored as plain tars are
compressed first, once for all: the image is recorded with that manifest, and so has one digest here and there.
"""

import os
import threading
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sampan.database.lease import Lease
from sampan.errors import InvalidArgument, Unavailable
from sampan.events import Event, ignore
from sampan.image.content import Content
from sampan.image.store import Images
from sampan.image.wire import Counted, Serial, at_once, short
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.registry.client import Repository
from sampan.registry.host import registry_of
from sampan.registry.transport import Transport, Unreachable
from sampan.storage.compression import Pieces
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sampan.database.connection import Database
    from sampan.events import Sink
    from sampan.image.store import Image
    from sampan.settings.configuration import Settings
    from sampan.storage.compression import Readable

# A token is asked for these at once; more would make a long address.
_MAX_SOURCES = 4
_PIECE_BYTES = 256 * 1024
_MEMBER_BYTES = 2 * 1024 * 1024
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push left in the registry: the manifest's digest and size."""

    digest: Digest
    size_bytes: int


def push(settings: "Settings", database: "Database", reference: Reference, *, sink: "Sink" = ignore) -> Pushed:
    """Put the image that is called `reference` here into its registry.

    Layers that are stored as plain tars are compressed for it, once for all: the image's manifest is that of the
    registry from then on. Raises NotFound, InvalidArgument for a digest, Unavailable, Corrupt, OSError.
    """
    if reference.digest is not None or reference.tag is None:
        hint = f"push it by its tag: `{reference.familiar_name()}:TAG`"
        raise InvalidArgument(f"`{reference.familiar()}` has a digest, which is no name to push to", hints=(hint,))
    with Transport(settings) as transport, Lease(database, "push") as lease:
        return _Push(settings, database, lease, transport, reference, Serial(sink)).run(reference.tag)


@dataclass(slots=True)
class _Push:
    """One push."""

    settings: "Settings"
    database: "Database"
    lease: Lease
    transport: Transport
    reference: Reference
    sink: "Sink"

    def run(self, tag: str) -> Pushed:
        images = Images(self.database)
        image = images.find(str(self.reference))
        self.lease.hold(f"image:{image.id}")
        manifest = self._compressed(image)
        blobs = {blob.digest: blob for blob in (*manifest.layers, manifest.config)}
        sources = {digest: self._sources(digest) for digest in blobs}
        every = tuple(dict.fromkeys(source for some in sources.values() for source in some))
        host, path = registry_of(self.settings, self.reference.domain), self.reference.path
        repository = Repository(
            self.settings, self.transport, host, path, actions="pull,push", sources=every[:_MAX_SOURCES]
        )
        stop = threading.Event()
        tasks = [partial(self._put, repository, blob, sources[digest], stop) for digest, blob in blobs.items()]
        try:
            at_once(tasks, [stop.set])
            repository.put_manifest(tag, manifest.media_type, manifest.raw)
        except Unreachable as error:
            hint = f"a name begins with its registry: `sampan tag {self.reference.familiar()} ghcr.io/me/app:{tag}`"
            what = f"the registry `{host.name}` cannot be reached for `{self.reference.familiar()}`"
            raise Unavailable(what, hints=(hint,)) from error
        images.note("push", image.id, self.reference.familiar_name(), actor=self.reference.familiar())
        return Pushed(Digest.of(manifest.raw), len(manifest.raw))

    def _compressed(self, image: "Image") -> oci.Manifest:
        """Return the image's manifest with every layer compressed; where that changed it, it is recorded."""
        content = Content(self.database.root, self.lease)
        manifest = oci.parse_manifest(content.read(image.manifest, oci.MAX_MANIFEST_BYTES))
        layers = tuple(self._gzipped(content, layer) for layer in manifest.layers)
        if layers == manifest.layers:
            return manifest
        config = content.read(manifest.config.digest, oci.MAX_CONFIG_BYTES)
        descriptor = oci.Descriptor(oci.OCI_CONFIG, manifest.config.digest, len(config))
        made = oci.build_manifest(descriptor, layers, annotations=manifest.annotations)
        Images(self.database).add(config, made.raw, content)
        return made

    def _gzipped(self, content: Content, layer: oci.Descriptor) -> oci.Descriptor:
        if layer.media_type not in {oci.OCI_LAYER, oci.DOCKER_LAYER}:
            return layer
        self.sink(Event("step", short(layer.digest)))
        with content.open(layer.digest) as plain:
            digest, size = content.put(Pieces(gzipped(plain)))
        self.sink(Event("done", short(layer.digest), f"compressed as {short(digest)}"))
        return oci.Descriptor(oci.OCI_LAYER_GZIP, digest, size)

    def _sources(self, digest: Digest) -> tuple[str, ...]:
        """Return other repositories of the same registry in which the blob may lie already."""
        rows = self.database.execute(
            "SELECT DISTINCT reference FROM names JOIN layers USING(image_id) WHERE digest = ? "
            "ORDER BY reference LIMIT 20",
            (str(digest),),
        )
        found = (Reference.parse(row[0]) for row in rows)
        paths = [one.path for one in found if one.domain == self.reference.domain and one.path != self.reference.path]
        return tuple(dict.fromkeys(paths))[:2]

    def _put(
        self, repository: Repository, blob: oci.Descriptor, sources: tuple[str, ...], stop: threading.Event
    ) -> None:
        """See that the registry has one blob (in a thread: without the database)."""
        subject, size = short(blob.digest), blob.size_bytes
        if stop.is_set():
            raise Unreachable(f"the push of `{subject}` is not wanted any more")
        if repository.has_blob(blob.digest):
            self.sink(Event("done", subject, "is there"))
        elif source := next((source for source in sources if repository.mount(blob.digest, source)), ""):
            self.sink(Event("done", subject, f"is there, taken from {source}"))
        else:
            repository.upload(blob.digest, size, partial(self._body, blob, stop))
            self.sink(Event("done", subject, human_size(size)))

    def _body(self, blob: oci.Descriptor, stop: threading.Event) -> "Generator[bytes]":
        with Content(self.database.root).open(blob.digest) as file:
            counted = Counted(file, short(blob.digest), blob.size_bytes, self.sink)
            while piece := counted.read(_PIECE_BYTES):
                if stop.is_set():
                    raise Unreachable("the push is not wanted any more")
                yield piece


def gzipped(source: "Readable") -> "Iterator[bytes]":
    """Yield `source` compressed: gzip members of a fixed size each, made on all processors; the same bytes always."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        while piece := _filled(source, _MEMBER_BYTES):
            waiting.append(pool.submit(zlib.compress, piece, 6, 31))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _filled(source: "Readable", size: int) -> bytes:
    """Read exactly `size` bytes, fewer only at the end."""
    parts, left = [], size
    while left and (piece := source.read(left)):
        parts.append(piece)
        left -= len(piece)
    return b"".join(parts)
