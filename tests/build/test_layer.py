"""Layers: fragments put one after the other are one tar, whose digest follows from its entries alone."""

import gzip
import hashlib
import io
import tarfile
from functools import partial
from typing import Any

import pytest

from sampan.build import entry, layer
from sampan.errors import Conflict
from sampan.image.content import Content
from sampan.oci import image as oci
from sampan.settings.configuration import Settings
from sampan.storage.diff import TarWriter

pytestmark = [pytest.mark.first]


def names(blob: bytes) -> list[str]:
    """Return the names in a layer."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        return archive.getnames()


def test_fragments_make_a_layer(settings: Settings) -> None:
    """A layer of fragments is read as one tar, and its diff-id is the digest of what it unpacks to."""
    content = Content(settings.root)
    pieces = [io.BytesIO(), io.BytesIO()]
    for name, piece in zip("ab", pieces, strict=True):
        layer.fragment([entry.directory(name), entry.file(f"{name}/f", name.encode())], piece)
        piece.seek(0)
    result = layer.write(content, [partial(lambda piece: piece, piece) for piece in pieces], {})
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


def test_a_layer_that_is_a_tar(settings: Settings) -> None:
    """What a step makes is stored as it is, under its diff-id, and a manifest says so; what entries make is packed."""
    content = Content(settings.root)

    def fill(writer: TarWriter) -> dict[str, Any]:
        writer.add_file("a", b"x" * 3_000_000)
        return {"entries": 1}

    plain = layer.write_tar(content, fill)
    with content.open(plain.digest) as file, tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
        assert archive.getnames() == ["a"]
    assert plain.digest == plain.diff_id
    assert (plain.record["entries"], plain.record["unpacked"]) == (1, plain.size_bytes)
    assert plain.descriptor().media_type == oci.OCI_LAYER
    assert layer.write_entries(content, [entry.file("a", b"x")], {}).descriptor().media_type == oci.OCI_LAYER_GZIP


def test_file_that_is_read_late(settings: Settings, place: str) -> None:
    """A large file is read when the layer is written, to the same bytes; one that has changed by then is a Conflict."""
    data = b"z" * (3 << 20)
    with open(f"{place}/big", "wb") as file:
        file.write(data)
    content, digest = Content(settings.root), hashlib.sha256(data).hexdigest()
    late = layer.write_entries(content, [entry.stamped("big", entry.Source(file.name, len(data), digest), digest)], {})
    assert late.digest == layer.write_entries(content, [entry.stamped("big", data, digest)], {}).digest
    with pytest.raises(Conflict, match="changed while"):
        layer.write_entries(content, [entry.stamped("big", entry.Source(file.name, len(data), "0" * 64), digest)], {})


def test_times_follow_contents() -> None:
    """A file's time changes with its content, so that servers give another ETag, and lies after 1980 for zip files."""
    one, two = (entry.stamped("f", content, hashlib.sha256(content).hexdigest()) for content in (b"a", b"b"))
    assert one.mtime != two.mtime
    assert min(one.mtime, two.mtime) > 315_532_800


def test_parents() -> None:
    """Every directory above a path comes once, sorted."""
    assert entry.parents(["a/b/c", "a/d", "e", "a/b/f/g"]) == ["a", "a/b", "a/b/f"]
