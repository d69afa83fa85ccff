"""Images from registries: docker's pull.

Theory of operation. A pull asks the mirrors and then the registry; the first that can give the whole image does. All
that will be fetched is held by a lease before it is, so that a prune beside us takes nothing; blobs are verified while
they are written, several at once, and those that are here are not fetched. Then the image is recorded. Killed or cut
off at any point, no record names what is half here; blobs that came whole are found by the next pull, or go with the
next removal. What is not as its digest promises is taken away at once.
"""

import os
from dataclasses import dataclass
from functools import partial

from sampan.database.lease import Lease
from sampan.errors import Corrupt, Exhausted, NotFound, SampanError, Unavailable, Unsupported
from sampan.events import Event, ignore
from sampan.image import platform as platforms
from sampan.image.content import Content
from sampan.image.removal import collect
from sampan.image.store import Images
from sampan.image.wire import Counted, Serial, at_once, explained, short
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.registry.client import Blob, Fetched, Limited, Repository
from sampan.registry.host import hosts_of
from sampan.registry.transport import Transport, Unreachable
from sampan.storage.space import exhausted
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database
    from sampan.events import Sink
    from sampan.image.store import Image
    from sampan.oci.reference import Reference
    from sampan.registry.host import Host
    from sampan.settings.configuration import Settings


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull brought: the image, the digest that its name has in the registry, and whether it was here before."""

    image: "Image"
    digest: Digest
    is_new: bool


def fetch(
    settings: "Settings",
    database: "Database",
    reference: "Reference",
    *,
    platform: oci.Platform | None = None,
    sink: "Sink" = ignore,
) -> "Image":
    """Return the image that is called `reference`: the one here, if it is for `platform`; else it is pulled.

    Without a `platform` any image that is here will do, and a pulled one is for this machine. To be called in the
    thread that `database` is of. Raises as `pull` does.
    """
    images = Images(database)
    try:
        image = images.find(str(reference))
    except NotFound:
        return pull(settings, database, reference, platform=platform, sink=sink).image
    if platform is None or platforms.fits(oci.parse_config(image.config_text.encode()).platform, platform):
        return image
    return pull(settings, database, reference, platform=platform, sink=sink).image


def pull(
    settings: "Settings",
    database: "Database",
    reference: "Reference",
    *,
    platform: oci.Platform | None = None,
    sink: "Sink" = ignore,
) -> Pulled:
    """Fetch the image that `reference` names in its registry, for `platform` or this machine, and name it so here.

    Raises NotFound, Unavailable (its leaves in `registry` say why), Unsupported, Corrupt, Exhausted, OSError.
    """
    try:
        with Transport(settings) as transport, Lease(database, "pull") as lease:
            return _Pull(settings, database, lease, transport, reference, platform, Serial(sink)).run()
    except (Unavailable, KeyboardInterrupt):
        raise  # what came whole is left for the next try
    except BaseException:
        collect(database)
        raise


@dataclass(slots=True)
class _Pull:
    """One pull."""

    settings: "Settings"
    database: "Database"
    lease: Lease
    transport: Transport
    reference: "Reference"
    asked_platform: oci.Platform | None
    sink: "Sink"

    def run(self) -> Pulled:
        """Ask the mirrors, then the registry; one that cannot give all of it is passed over."""
        pulled = self._from_any()
        name = self.reference.familiar()
        Images(self.database).note("pull", pulled.image.id, self.reference.familiar_name(), actor=name)
        return pulled

    def _from_any(self) -> Pulled:
        passed: list[str] = []
        *mirrors, registry = hosts_of(self.settings, self.reference.domain)
        for mirror in mirrors:
            try:
                return self._from(mirror)
            except Exhausted:
                raise  # it is this machine that has no room
            except NotFound:
                passed.append(f"the mirror `{mirror.name}` does not have it")
            except SampanError as error:
                self.sink(Event("warning", f"the mirror `{mirror.name}` is passed over", error.what))
        try:
            return self._from(registry)
        except (Unreachable, Limited) as error:
            raise explained(error, self.reference, registry, tuple(passed)) from error

    def _from(self, host: "Host") -> Pulled:
        """Fetch all of it from one host."""
        self.sink(Event("step", self.reference.familiar(), f"from {host.name}"))
        repository = Repository(self.settings, self.transport, host, self.reference.path)
        fetched = repository.manifest(str(self.reference.digest or self.reference.tag))
        manifest = self._manifest(repository, fetched)
        _check(manifest, self.reference)
        digests = (manifest.descriptor().digest, manifest.config.digest, *(layer.digest for layer in manifest.layers))
        self.lease.hold(*(f"blob:{digest}" for digest in digests))
        config = self._config(repository, manifest)
        self._layers(repository, manifest)
        before = self._known()
        content = Content(self.database.root, self.lease)
        image = Images(self.database).add(config, manifest.raw, content, self.reference)
        return Pulled(image, fetched.digest, image.id != before)

    def _known(self) -> str:
        try:
            return Images(self.database).identify(str(self.reference))[0]
        except NotFound:
            return ""

    def _platform(self) -> oci.Platform:
        return self.asked_platform or oci.platform_of(os.uname().machine)

    def _manifest(self, repository: Repository, fetched: Fetched) -> oci.Manifest:
        """Return the manifest that was found, or of an index the one for the platform."""
        if fetched.media_type not in oci.INDEXES:
            return oci.parse_manifest(fetched.raw)
        chosen = platforms.choose(oci.parse_index(fetched.raw), self._platform(), self.reference)
        found = repository.manifest(str(chosen.digest))
        if len(found.raw) != chosen.size_bytes or found.media_type not in oci.MANIFESTS:
            raise Corrupt(f"the index of `{self.reference.familiar()}` does not say of a manifest what it is")
        return oci.parse_manifest(found.raw)

    def _config(self, repository: Repository, manifest: oci.Manifest) -> bytes:
        """Fetch the config, and see that it belongs to the manifest and the platform."""
        self._store(repository.blob(manifest.config.digest, manifest.config.size_bytes), manifest.config, ignore)
        raw = Content(self.database.root).read(manifest.config.digest, oci.MAX_CONFIG_BYTES)
        config, name = oci.parse_config(raw), self.reference.familiar()
        if len(config.diff_ids) != len(manifest.layers):
            raise Corrupt(f"the manifest and the config of `{name}` have different numbers of layers")
        if not platforms.fits(config.platform, self._platform()):
            text = f"it is for `{platforms.text(config.platform)}`, not for `{platforms.text(self._platform())}`"
            if self.asked_platform is not None:
                raise NotFound(f"the registry has no `{name}` for that platform: {text}")
            self.sink(Event("warning", name, text))
        return raw

    def _layers(self, repository: Repository, manifest: oci.Manifest) -> None:
        """Fetch the layers that are not here, several at once."""
        content = Content(self.database.root)
        missing: dict[Digest, oci.Descriptor] = {}
        for layer in manifest.layers:
            if _is_here(content, layer):
                self.sink(Event("done", short(layer.digest), "is here"))
            else:
                missing[layer.digest] = layer
        _check_space(self.database.root, sum(layer.size_bytes for layer in missing.values()))
        blobs = [repository.blob(digest, layer.size_bytes) for digest, layer in missing.items()]
        layers = zip(blobs, missing.values(), strict=True)
        tasks = [partial(self._store, blob, layer, self.sink) for blob, layer in layers]
        at_once(tasks, [blob.abort for blob in blobs])

    def _store(self, blob: Blob, descriptor: oci.Descriptor, sink: "Sink") -> None:
        """Put one blob into the store (in a thread: without the database)."""
        subject, size = short(descriptor.digest), descriptor.size_bytes
        content = Content(self.database.root)
        if _is_here(content, descriptor):
            return
        try:
            with blob:
                content.put(Counted(blob, subject, size, sink), descriptor.digest, size_bytes=size)
        except Corrupt as error:
            name = self.reference.familiar()
            raise Corrupt(f"what the registry sent of `{name}` is not what its manifest promises") from error
        sink(Event("done", subject, human_size(size)))


def _check(manifest: oci.Manifest, reference: "Reference") -> None:
    """Raise Unsupported for a layer that no registry has, or that is no tar; Corrupt for a config that is too long."""
    if manifest.config.size_bytes > oci.MAX_CONFIG_BYTES:
        raise Corrupt(f"the config of `{reference.familiar()}` is longer than {oci.MAX_CONFIG_BYTES} bytes")
    for layer in manifest.layers:
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
            raise Unsupported(f"`{reference.familiar()}` has a foreign layer, which is not in the registry")
        if layer.media_type not in oci.LAYERS:
            raise Unsupported(f"`{reference.familiar()}` has a layer of the media type `{layer.media_type[:100]}`")


def _is_here(content: Content, descriptor: oci.Descriptor) -> bool:
    try:
        return content.size_bytes(descriptor.digest) == descriptor.size_bytes
    except NotFound:
        return False


def _check_space(root: str, needed_bytes: int) -> None:
    """Raise Exhausted before a download that cannot come to an end."""
    status = os.statvfs(root)
    if needed_bytes > status.f_bavail * status.f_frsize:
        raise exhausted(root)
