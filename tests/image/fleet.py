"""Small images for the tests of this room, and what must hold of a store at rest."""

import gzip
import io
import os
from pathlib import Path

from sampan.database.connection import Database
from sampan.image.content import Content
from sampan.image.store import Image, Images
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.storage.diff import TarWriter


def layer(number: int) -> bytes:
    """Return the tar of a layer that holds one file."""
    file = io.BytesIO()
    tar = TarWriter(file)
    tar.add_file(f"file{number}", b"content %d" % number)
    tar.finish()
    return file.getvalue()


def documents(content: Content, *numbers: int) -> tuple[bytes, bytes]:
    """Store layers and return the config and the manifest that go with them."""
    diff_ids, layers = [], []
    for number in numbers:
        raw = layer(number)
        digest, size = content.put(gzip.compress(raw, mtime=0))
        diff_ids.append(Digest.of(raw))
        layers.append(oci.Descriptor(oci.OCI_LAYER_GZIP, digest, size))
    config = oci.build_config(
        diff_ids,
        platform=oci.platform_of(os.uname().machine),
        settings={"Cmd": ["true"]},
        created="2026-01-02T03:04:05Z",
    )
    manifest = oci.build_manifest(oci.Descriptor(oci.OCI_CONFIG, Digest.of(config.raw), len(config.raw)), layers)
    return config.raw, manifest.raw


def add(database: Database, name: str | None, *numbers: int) -> Image:
    """Add an image of these layers."""
    content = Content(database.root)
    config, manifest = documents(content, *numbers)
    return Images(database).add(config, manifest, content, Reference.parse(name) if name else None)


def check(database: Database) -> None:
    """Check that records and files agree, and that nothing is there that no record names."""
    content, root = Content(database.root), Path(database.root)
    named = set()
    for image in Images(database).list():
        blobs = {Digest.parse(image.id), image.manifest, *image.layers}
        for digest in blobs:
            content.read(digest)
        named |= {digest.hex for digest in blobs}
    found = {name for _, _, names in os.walk(root / "blobs") for name in names}
    assert found == named
    assert not (root / "trash").exists() or os.listdir(root / "trash") == []
    numbers = {str(row[0]) for row in database.execute("SELECT number FROM snapshots WHERE ready")}
    directories = set(os.listdir(root / "snapshots")) - {"lock"} if (root / "snapshots").exists() else set()
    assert directories == numbers
    assert list(database.execute("SELECT id FROM leases")) == []
