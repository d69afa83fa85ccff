"""Image documents: descriptor, manifest, index and config (image-spec v1.1; docker's schema 2 has the same shape).

What comes from a registry or an archive is hostile: every document has a bound on its size, its counts and its strings,
and only what was checked leaves here. Documents are never written again to get a digest: `raw` is what was read or
built, byte for byte. Built ones are deterministic: keys sorted, no spaces.
"""

from sampan import document
from sampan.errors import Corrupt, InvalidArgument, Unsupported
from sampan.oci import architecture
from sampan.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampan.document import Document

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
LAYERS = (OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP)

# distribution-spec lets a registry refuse manifests above 4 MiB; docker's own bound for a config is 8.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_CONFIG_BYTES = 8 * 1024 * 1024
# The kernel stacks at most 500 lower directories (overlayfs.rst); docker stops at 127.
MAX_LAYERS = 127
MAX_MANIFESTS = 1024
_MAX_BLOB_BYTES = 1 << 50
_MAX_ANNOTATIONS = 1024
_JSON_SPACE = " \t\r\n"

# The time of what is made reproducibly: the same input has the same.
EPOCH = "1970-01-01T00:00:00Z"

REFERENCE_NAME = "org.opencontainers.image.ref.name"


class Platform:
    """What a manifest in an index is for: GOOS and GOARCH words."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        """Name operating system, processor, and its variant (`v8`) where there is one."""
        self.os = os
        self.architecture = architecture
        self.variant = variant

    def document(self) -> "Document":
        """As image-index.md has it."""
        found = {"os": self.os, "architecture": self.architecture}
        return found | ({"variant": self.variant} if self.variant else {})

    def __eq__(self, other: object) -> bool:
        """Compare all three words."""
        return isinstance(other, Platform) and self.document() == other.document()

    def __hash__(self) -> int:
        """Hash all three words."""
        return hash((self.os, self.architecture, self.variant))


class Descriptor:
    """What a blob is: media type, digest and size; in an index also for whom, and remarks (descriptor.md)."""

    __slots__ = ("annotations", "digest", "media_type", "platform", "size_bytes")

    def __init__(
        self,
        media_type: str,
        digest: Digest,
        size_bytes: int,
        *,
        annotations: "Mapping[str, str] | None" = None,
        platform: Platform | None = None,
    ) -> None:
        """Take parts that are known to be right; `parse_descriptor` is for those that are not."""
        self.media_type = media_type
        self.digest = digest
        self.size_bytes = size_bytes
        self.annotations = dict(annotations or {})
        self.platform = platform

    def document(self) -> "Document":
        """As descriptor.md has it."""
        found: Document = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size_bytes}
        if self.annotations:
            found["annotations"] = self.annotations
        if self.platform:
            found["platform"] = self.platform.document()
        return found

    def __eq__(self, other: object) -> bool:
        """Compare every part."""
        return isinstance(other, Descriptor) and self.document() == other.document()

    def __hash__(self) -> int:
        """Hash what identifies the blob."""
        return hash((self.media_type, self.digest, self.size_bytes))


class Manifest:
    """One image: its config and its layers, lowest first. `raw` is the bytes that have the digest."""

    __slots__ = ("annotations", "config", "layers", "media_type", "raw")

    def __init__(
        self,
        raw: bytes,
        config: Descriptor,
        layers: tuple[Descriptor, ...],
        *,
        media_type: str = OCI_MANIFEST,
        annotations: "Mapping[str, str] | None" = None,
    ) -> None:
        """Say what `raw` says."""
        self.raw = raw
        self.config = config
        self.layers = layers
        self.media_type = media_type
        self.annotations = dict(annotations or {})

    def descriptor(
        self, *, annotations: "Mapping[str, str] | None" = None, platform: Platform | None = None
    ) -> Descriptor:
        """Return the descriptor of the manifest itself."""
        return Descriptor(
            self.media_type, Digest.of(self.raw), len(self.raw), annotations=annotations, platform=platform
        )


class Index:
    """Several manifests, one for each platform, or what an OCI layout holds."""

    __slots__ = ("manifests", "media_type", "raw")

    def __init__(self, raw: bytes, manifests: tuple[Descriptor, ...], *, media_type: str = OCI_INDEX) -> None:
        """Say what `raw` says."""
        self.raw = raw
        self.manifests = manifests
        self.media_type = media_type


class Config:
    """What to run and on which layers: `document` is all of it, the rest is what was checked (config.md)."""

    __slots__ = ("diff_ids", "document", "platform", "raw")

    def __init__(self, raw: bytes, document: "Document", diff_ids: tuple[Digest, ...], platform: Platform) -> None:
        """Say what `raw` says."""
        self.raw = raw
        self.document = document
        self.diff_ids = diff_ids
        self.platform = platform


def platform_of(machine: str) -> Platform:
    """Return what images for `machine`, uname(2)'s word, say that they are for."""
    return Platform("linux", architecture.name_of(machine))


def rfc3339(seconds: int) -> str:
    """Print a time as documents have it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def build_manifest(
    config: Descriptor, layers: "Sequence[Descriptor]", *, annotations: "Mapping[str, str] | None" = None
) -> Manifest:
    """Build an OCI manifest."""
    found: Document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.document(),
        "layers": [layer.document() for layer in layers],
    }
    if annotations:
        found["annotations"] = dict(annotations)
    return Manifest(document.render(found).encode(), config, tuple(layers), annotations=annotations)


def build_index(manifests: "Sequence[Descriptor]") -> Index:
    """Build an OCI index."""
    parts = [manifest.document() for manifest in manifests]
    raw = document.render({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts})
    return Index(raw.encode(), tuple(manifests))


def build_config(
    diff_ids: "Sequence[Digest]",
    *,
    platform: Platform,
    settings: "Document | None" = None,
    history: "Sequence[Document]" = (),
    created: str | None = None,
    author: str = "",
) -> Config:
    """Build a config: `settings` is its `config` object (Env, Cmd, …), `created` a time of RFC 3339."""
    found: Document = {
        **platform.document(),
        "config": settings or {},
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]},
        "history": list(history),
    }
    if created:
        found["created"] = created
    if author:
        found["author"] = author
    return Config(document.render(found).encode(), found, tuple(diff_ids), platform)


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest of either media type.

    Raises Corrupt for what is none, Unsupported for an index or an artifact.
    """
    found = _parse(raw, MAX_MANIFEST_BYTES, "manifest")
    media_type = _media_type(found, MANIFESTS, OCI_MANIFEST, "manifest")
    config = parse_descriptor(found.get("config"))
    if config.media_type not in CONFIGS:
        raise Unsupported(f"the manifest is of `{config.media_type[:100]}`, which is no image that can run")
    layers = tuple(parse_descriptor(layer) for layer in _list(found.get("layers"), MAX_LAYERS, "layers"))
    return Manifest(raw, config, layers, media_type=media_type, annotations=_annotations(found.get("annotations")))


def parse_index(raw: bytes) -> Index:
    """Read an index or a docker manifest list; raises Corrupt for what is none."""
    found = _parse(raw, MAX_MANIFEST_BYTES, "index")
    media_type = _media_type(found, INDEXES, OCI_INDEX, "index")
    manifests = _list(found.get("manifests"), MAX_MANIFESTS, "manifests")
    return Index(raw, tuple(parse_descriptor(manifest) for manifest in manifests), media_type=media_type)


def parse_config(raw: bytes) -> Config:
    """Read a config; raises Corrupt for what is none. Keys that Sampan does not know are kept in `document`."""
    found = _parse(raw, MAX_CONFIG_BYTES, "config")
    rootfs = found.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise _corrupt("config", "has no `rootfs` of type `layers`")
    diff_ids = tuple(_digest(text) for text in _list(rootfs.get("diff_ids"), MAX_LAYERS, "diff_ids"))
    if not isinstance(found.get("config") or {}, dict):
        raise _corrupt("config", "has a `config` that is no object")
    return Config(raw, found, diff_ids, _platform(found))


def parse_descriptor(found: object) -> Descriptor:
    """Read one descriptor; raises Corrupt for what is none."""
    if not isinstance(found, dict):
        raise _corrupt("descriptor", "is no object")
    media_type, size = found.get("mediaType"), found.get("size")
    if not isinstance(media_type, str) or not 0 < len(media_type) <= 255:
        raise _corrupt("descriptor", "has no `mediaType`")
    # A bool is an int in Python; a negative size would pass every bound (a known way to exhaust memory).
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_BLOB_BYTES:
        raise _corrupt("descriptor", f"has a `size` that is not between 0 and {_MAX_BLOB_BYTES}")
    platform = _platform(found["platform"]) if isinstance(found.get("platform"), dict) else None
    annotations = _annotations(found.get("annotations"))
    return Descriptor(media_type, _digest(found.get("digest")), size, annotations=annotations, platform=platform)


def _parse(raw: bytes, limit: int, what: str) -> "Document":
    if len(raw) > limit:
        raise _corrupt(what, f"is longer than {limit} bytes")
    try:
        return document.parse(raw.decode().lstrip(_JSON_SPACE))
    except (UnicodeDecodeError, document.Malformed) as error:
        raise _corrupt(what, "is not a JSON object") from error


def _media_type(found: "Document", allowed: tuple[str, ...], default: str, what: str) -> str:
    """Return the document's own media type; an OCI one may leave it out. One that names the other kind is an attack."""
    # SECURITY: a document that can be read as manifest and as index has two meanings under one digest (CVE-2021-41190).
    other = "manifests" if what == "manifest" else "layers"
    if found.get("schemaVersion") != 2 or other in found:
        raise _corrupt(what, "has another version than 2, or is manifest and index at once")
    media_type = found.get("mediaType", default)
    if media_type not in allowed:
        raise Unsupported(f"the {what} has the media type `{str(media_type)[:100]}`")
    return str(media_type)


def _list(found: object, limit: int, what: str) -> list[object]:
    if not isinstance(found, list) or len(found) > limit:
        raise _corrupt("document", f"has no list `{what}` of at most {limit} entries")
    return found


def _digest(found: object) -> Digest:
    if not isinstance(found, str):
        raise _corrupt("document", "has a digest that is no string")
    try:
        return Digest.parse(found)
    except InvalidArgument as error:
        raise _corrupt("document", "has a digest that is malformed") from error


def _annotations(found: object) -> dict[str, str]:
    """Keep the annotations that are strings; docker's tools write none that are not."""
    if not isinstance(found, dict) or len(found) > _MAX_ANNOTATIONS:
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _platform(found: "Document") -> Platform:
    words = [found.get(key, "") for key in ("os", "architecture", "variant")]
    if not all(isinstance(word, str) and len(word) <= 64 for word in words):
        raise _corrupt("document", "has a platform that is not of short strings")
    return Platform(*words)


def _corrupt(what: str, why: str) -> Corrupt:
    return Corrupt(f"the image's {what} {why}")
