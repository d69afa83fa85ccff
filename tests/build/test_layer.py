"""Layers: fragments put one after the other are one tar, whose digest follows from its entries alone."""

import gzip
import hashlib
import io
import tarfile

import pytest

from sampan.build import entry, layer
from sampan.image.content import Content
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


def names(blob: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        return archive.getnames()


def test_fragments_make_a_layer(settings: Settings) -> None:
    """A layer of fragments is read as one tar, and its diff-id is the digest of what it unpacks to."""
    content = Content(settings.root)
    pieces = [layer.fragment([entry.directory(name), entry.file(f"{name}/f", name.encode())])[0] for name in "ab"]
    result = layer.write(content, pieces, {})
    blob = content.read(result.digest)
    assert names(blob) == ["a", "a/f", "b", "b/f"]
    assert result.diff_id is not None
    assert result.diff_id.hex == hashlib.sha256(gzip.decompress(blob)).hexdigest()
    assert result.record["unpacked"] == len(gzip.decompress(blob))


def test_large_layer(settings: Settings) -> None:
    """A large layer is cut into members that are compressed side by side; it is the same each time."""
    content = Content(settings.root)
    data = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(2000)) * 100
    found = [entry.file("big", data), entry.link("l", "big")]
    first, second = layer.write_entries(content, found, {}), layer.write_entries(content, found, {})
    assert first.digest == second.digest
    blob = content.read(first.digest, 1 << 24)
    assert gzip.decompress(blob).startswith(b"big\0")
    assert names(blob) == ["big", "l"]


def test_times_follow_contents() -> None:
    """A file's time changes with its content, so that servers give another ETag, and lies after 1980 for zip files."""
    one, two = (entry.stamped("f", content, hashlib.sha256(content).hexdigest()) for content in (b"a", b"b"))
    assert one.mtime != two.mtime
    assert min(one.mtime, two.mtime) > 315_532_800


def test_parents() -> None:
    """Every directory above a path comes once, sorted."""
    assert entry.parents(["a/b/c", "a/d", "e", "a/b/f/g"]) == ["a", "a/b", "a/b/f"]
