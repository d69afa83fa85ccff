"""Images in a file: saved as an OCI layout in a tar, which docker reads as well; loaded from that or docker's old form.

Saved: `oci-layout`, `index.json` and `blobs/ALGORITHM/HEX` (image-spec v1.1, image-layout.md), and docker's
`manifest.json` naming the same blobs. The same images have the same bytes.
Loaded: the archive is read once, as a stream, and every file in it becomes a blob at once; what it was called is only a
key in memory, so no name can lead anywhere. Then the documents say which blobs are an image. What turns out to belong
to none is collected. Each blob is verified against its name, each image against its digests; layers once more when
unpacked.
"""

import json
import os

from sampan.database.lease import Lease
from sampan.document import render
from sampan.errors import Corrupt, Exhausted, InvalidArgument, Unsupported
from sampan.image.content import Content
from sampan.image.removal import collect
from sampan.image.store import Images
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.storage import compression, tape
from sampan.storage.diff import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.database.connection import Database
    from sampan.image.store import Image
    from sampan.storage.compression import Readable
    from sampan.storage.diff import Writable

_CONTAINERD_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_FILES = 20_000
_MAX_IMAGES = 1000
_MAX_JSON_BYTES = 8 * 1024 * 1024
_MAX_LINKS = 8
_LAYER_TYPES = {"": oci.OCI_LAYER, "zstd": oci.OCI_LAYER_ZSTD}


class Loaded:
    """One image that came out of an archive, and the names that it got."""

    __slots__ = ("image", "names")

    def __init__(self, image: "Image", names: tuple[Reference, ...]) -> None:
        self.image = image
        self.names = names


def save(database: "Database", names: "Sequence[str]", file: "Writable") -> None:
    """Write the images that `names` (references or ids) name to `file`, as one archive.

    An image keeps the names it is asked for by; asked for by id it has none, as with docker. Raises NotFound, Corrupt.
    """
    content, images = Content(database.root), Images(database)
    wanted: dict[str, list[Reference]] = {}
    for text in names:
        id, name = images.identify(text)
        references = wanted.setdefault(id, [])
        references += [Reference.parse(name)] if name is not None else []
    with Lease(database, "save") as lease:
        lease.hold(*(f"image:{id}" for id in wanted))
        chosen = [(images.find(id), references) for id, references in wanted.items()]
        _write(TarWriter(file), content, [_Saved(image, references, content) for image, references in chosen])
    for id in wanted:
        images.note("save", id, id)


def load(database: "Database", source: "Readable") -> list[Loaded]:
    """Add every image in the archive `source` (plain or compressed, read to its end) and name it as it says.

    Idempotent. Raises Corrupt, Unsupported, Exhausted; the images before the one that failed stay.
    """
    try:
        with Lease(database, "load") as lease:
            loaded = _loaded(database, Content(database.root, lease), source)
        for one in loaded:
            Images(database).note("load", one.image.id, one.image.id)
        return loaded
    finally:
        collect(database)


def _loaded(database: "Database", content: Content, source: "Readable") -> list[Loaded]:
    files = _Files(content)
    files.read(source)
    if "index.json" in files.digests:
        return _load_layout(Images(database), content, files)
    if "manifest.json" in files.digests:
        return _load_docker(Images(database), content, files)
    raise InvalidArgument(
        "this is no archive of images: it has neither `index.json` nor `manifest.json`",
        hints=("a root file system becomes an image with `sampan import`",),
    )


class _Saved:
    """An image on its way into an archive."""

    __slots__ = ("image", "manifest", "references")

    def __init__(self, image: "Image", references: "list[Reference]", content: Content) -> None:
        self.image = image
        self.references = references
        self.manifest = oci.parse_manifest(content.read(image.manifest))

    def blobs(self) -> list[Digest]:
        """Return the digests of all that it is made of."""
        return [Digest.parse(self.image.id), self.image.manifest, *self.image.layers]

    def descriptors(self) -> list[oci.Descriptor]:
        """Return what the index says: one entry for each name."""
        config = self.image.config
        platform = oci.Platform(config.get("os", ""), config.get("architecture", ""), config.get("variant", ""))
        names = [
            {_CONTAINERD_NAME: str(reference), oci.REFERENCE_NAME: reference.tag or ""} for reference in self.references
        ]
        return [self.manifest.descriptor(annotations=name, platform=platform) for name in names or [{}]]


def _write(tar: TarWriter, content: Content, saved: list[_Saved]) -> None:
    tar.add_directory("blobs")
    tar.add_directory("blobs/sha256")
    for digest in sorted({digest for one in saved for digest in one.blobs()}):
        with content.open(digest) as blob:
            path = f"blobs/{digest.algorithm}/{digest.hex}"
            tar.add_file(path, blob, size_bytes=content.size_bytes(digest), mode=0o444)
    index = oci.build_index([descriptor for one in saved for descriptor in one.descriptors()])
    legacy = [
        {
            "Config": _path(Digest.parse(one.image.id)),
            "RepoTags": [reference.familiar() for reference in one.references if reference.tag],
            "Layers": [_path(digest) for digest in one.image.layers],
        }
        for one in saved
    ]
    tar.add_file("index.json", index.raw, mode=0o444)
    tar.add_file("manifest.json", render(legacy).encode(), mode=0o444)
    tar.add_file("oci-layout", _LAYOUT, mode=0o444)
    tar.finish()


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


class _Files:
    """What an archive held: names to blobs, and links to names."""

    __slots__ = ("_content", "_links", "digests", "media_types")

    def __init__(self, content: Content) -> None:
        self._content = content
        self._links: dict[str, str] = {}
        self.digests: dict[str, Digest] = {}
        self.media_types: dict[Digest, str] = {}

    def read(self, source: "Readable") -> None:
        """Store every file of the archive."""
        stream = compression.Pieces(compression.decompressed(source))
        archive = tape.Tape(stream.read, tape.Bounds(entries=_MAX_FILES))
        while entry := archive.next():
            name = _normalised(entry.name.decode("utf-8", "replace"))
            if entry.kind == tape.FILE:
                self._store(name, archive)
            elif entry.kind in {tape.SYMLINK, tape.LINK}:
                # docker before 25 saved a layer that two images share as a link to the first.
                target = entry.link.decode("utf-8", "replace")
                base = name.rpartition("/")[0] if entry.kind == tape.SYMLINK else ""
                self._links[name] = _normalised(f"{base}/{target}")
        archive.drain()

    def digest(self, name: str) -> Digest:
        """Return the blob that was called `name`; raises Corrupt where there was none."""
        name = _normalised(name)
        for _ in range(_MAX_LINKS):
            if name in self.digests:
                return self.digests[name]
            name = self._links.get(name, "")
        raise Corrupt("the archive's documents name a file that is not in it")

    def document(self, name: str) -> object:
        """Parse the file `name`, which is JSON; raises Corrupt."""
        try:
            return json.loads(self._content.read(self.digest(name), _MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise Corrupt(f"`{name}` in the archive is not JSON") from error

    def _store(self, name: str, archive: tape.Tape) -> None:
        pieces = _Sniffed(compression.Pieces(bytes(piece) for piece in archive.contents()))
        digest, _ = self._content.put(pieces, _promised(name))
        self.digests[name] = digest
        self.media_types[digest] = _LAYER_TYPES.get(compression.name_of(pieces.first), oci.OCI_LAYER_GZIP)


class _Sniffed:
    """A stream whose first bytes are remembered."""

    __slots__ = ("_source", "first")

    def __init__(self, source: "Readable") -> None:
        self._source = source
        self.first = b""

    def read(self, size: int, /) -> bytes:
        """Read on."""
        piece = self._source.read(size)
        self.first = self.first or piece[:8]
        return piece


def _promised(name: str) -> Digest | None:
    """Return the digest that a file's name in an OCI layout promises."""
    parts = name.split("/")
    return Digest.parse(f"{parts[1]}:{parts[2]}") if len(parts) == 3 and parts[0] == "blobs" else None


def _normalised(name: str) -> str:
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def _load_layout(images: Images, content: Content, files: _Files) -> list[Loaded]:
    index = oci.parse_index(content.read(files.digest("index.json"), oci.MAX_MANIFEST_BYTES))
    if len(index.manifests) > _MAX_IMAGES:
        raise Exhausted(f"the archive has more than {_MAX_IMAGES} images")
    loaded: dict[str, Loaded] = {}
    for descriptor in index.manifests:
        manifest = _manifest(content, descriptor)
        config = content.read(manifest.config.digest)
        name = _name(descriptor)
        image = images.add(config, manifest.raw, content, name)
        before = loaded[image.id].names if image.id in loaded else ()
        loaded[image.id] = Loaded(image, before + ((name,) if name else ()))
    return list(loaded.values())


def _manifest(content: Content, descriptor: oci.Descriptor) -> oci.Manifest:
    """Return the manifest itself, or of an index the one for this machine."""
    raw = content.read(descriptor.digest, oci.MAX_MANIFEST_BYTES)
    if descriptor.media_type not in oci.INDEXES:
        return oci.parse_manifest(raw)
    wanted = oci.platform_of(os.uname().machine)
    for inner in oci.parse_index(raw).manifests:
        found = inner.platform
        if found is not None and (found.os, found.architecture) == (wanted.os, wanted.architecture):
            return oci.parse_manifest(content.read(inner.digest, oci.MAX_MANIFEST_BYTES))
    raise Unsupported(f"the archive has no image for `{wanted.os}/{wanted.architecture}`")


def _name(descriptor: oci.Descriptor) -> Reference | None:
    """Return what the archive calls the image; a bare tag, as OCI's annotation may be, is no name."""
    text = descriptor.annotations.get(_CONTAINERD_NAME) or descriptor.annotations.get(oci.REFERENCE_NAME, "")
    return Reference.parse(text) if ":" in text or "/" in text else None


def _load_docker(images: Images, content: Content, files: _Files) -> list[Loaded]:
    entries = files.document("manifest.json")
    if not isinstance(entries, list) or len(entries) > _MAX_IMAGES:
        raise Corrupt("`manifest.json` in the archive is no list of images")
    return [_load_entry(images, content, files, entry) for entry in entries]


def _load_entry(images: Images, content: Content, files: _Files, entry: object) -> Loaded:
    """Add one image of docker's old form, which has no manifest of its own."""
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        raise Corrupt("`manifest.json` in the archive has an entry without a config")
    raw = content.read(files.digest(entry["Config"]))
    config = oci.parse_config(raw)
    digests = [files.digest(name) for name in _strings(entry.get("Layers"))]
    # A layer that is not compressed has its diff id for a digest; others are verified when they are unpacked.
    for digest, diff_id in zip(digests, config.diff_ids, strict=False):
        if files.media_types[digest] == oci.OCI_LAYER and digest != diff_id:
            raise Corrupt(f"a layer in the archive is not what the config says: expected `{diff_id}`, found `{digest}`")
    layers = [oci.Descriptor(files.media_types[d], d, content.size_bytes(d)) for d in digests]
    manifest = oci.build_manifest(oci.Descriptor(oci.OCI_CONFIG, Digest.of(raw), len(raw)), layers)
    names = tuple(Reference.parse(name) for name in _strings(entry.get("RepoTags")))
    image = images.add(raw, manifest.raw, content)
    for name in names:
        images.name(image.id, name)
    return Loaded(images.find(image.id), names)


def _strings(found: object) -> list[str]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found) or len(found) > _MAX_IMAGES:
        raise Corrupt("`manifest.json` in the archive has a list that is not of names")
    return found
