"""Import: a root file system becomes an image of one layer, or one error and nothing."""

import bz2
import gzip
import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.database import connection
from sampan.database.connection import Database
from sampan.errors import Corrupt, Exhausted, InvalidArgument
from sampan.image import removal, unpack
from sampan.image.change import config_with
from sampan.image.importer import import_root
from sampan.image.store import Images
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.settings.configuration import Settings
from sampan.storage.diff import TarWriter
from tests.image import fleet

pytestmark = [pytest.mark.first, pytest.mark.root]

NOW = 1767323045.0


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_a_root_file_system_becomes_an_image(database: Database, pack: Callable[[bytes], bytes]) -> None:
    """Plain or compressed: one layer with the stream's diff id, named, made now, for this machine."""
    raw = fleet.layer(0)
    reference = Reference.parse("busybox")
    image = import_root(database, io.BytesIO(pack(raw)), reference, now=NOW, changes=["CMD sh", "ENV A=b"])
    assert image.diff_ids == (str(Digest.of(raw)),)
    assert image.names == ("docker.io/library/busybox:latest",)
    assert image.config["created"] == "2026-01-02T03:04:05Z"
    assert image.config["config"] == {"Cmd": ["/bin/sh", "-c", "sh"], "Env": ["A=b"]}
    assert image.config["history"][0]["comment"] == "Imported from -"
    assert (Path(unpack.lowers(database, image)[0]) / "file0").read_bytes() == b"content 0"
    fleet.check(database)


def test_a_slow_stream_is_taken_as_it_comes(database: Database) -> None:
    """A pipe may give one byte at a time."""

    class Slow:
        def read(self, size: int, /) -> bytes:
            return packed.read(min(size, 7))

    packed = io.BytesIO(gzip.compress(fleet.layer(0)))
    assert import_root(database, Slow(), now=NOW).names == ()


@pytest.mark.parametrize("raw", [b"this is no archive, by no means" * 99, gzip.compress(b"x" * 999), b"", b"\x1f\x8b"])
def test_what_is_no_archive_is_refused(database: Database, raw: bytes) -> None:
    """At once, not at the first start; a collect leaves nothing of it."""
    if raw == b"":
        assert import_root(database, io.BytesIO(raw), now=NOW).id  # an empty root file system, as docker has it
        removal.prune(database)
    else:
        with pytest.raises(Corrupt):
            import_root(database, io.BytesIO(raw), now=NOW)
    removal.collect(database)
    assert Images(database).list() == ()
    fleet.check(database)


def test_every_change_is_a_dockerfile_s() -> None:
    """Exec and shell forms, pairs old and new, ports, volumes and words."""
    changes = [
        'ENTRYPOINT ["/init", "-x"]', "cmd a  b", "ENV A=1 B='2 3'", "ENV A other value", "LABEL k=v", "LABEL l=w",
        "EXPOSE 80 53/udp", 'VOLUME ["/data"]', "VOLUME /x /y", "USER 1:2", "WORKDIR /w", "STOPSIGNAL SIGINT",
    ]  # fmt: skip
    assert config_with(changes) == {
        "Entrypoint": ["/init", "-x"],
        "Cmd": ["/bin/sh", "-c", "a  b"],
        "Env": ["A=other value", "B=2 3"],
        "Labels": {"k": "v", "l": "w"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}, "/x": {}, "/y": {}},
        "User": "1:2",
        "WorkingDir": "/w",
        "StopSignal": "SIGINT",
    }


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("CDM sh", "did you mean `CMD`?"),
        ("RUN make", "it can be one of CMD, "),
        *((bad, "write it as in a Dockerfile") for bad in ("ENV", "EXPOSE http", "ENV A=1 B", "USER", "LABEL a='")),
    ],
)  # fmt: skip
def test_a_change_that_is_none_is_named(change: str, hint: str) -> None:
    """The error shows it and what could be meant."""
    with pytest.raises(InvalidArgument) as caught:
        config_with([change])
    assert f"`{change}`" in caught.value.what
    assert caught.value.hints[0].startswith(hint)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Database]:
    """Yield the database of a Sampan on a file system of 16 MB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", tmp_path], check=True)
    with connection.open(Settings({"SAMPAN_ROOT": str(tmp_path)}, os.geteuid())) as database:
        yield database
    subprocess.run(["umount", tmp_path], check=True)


def _large(content: bytes) -> bytes:
    file = io.BytesIO()
    tar = TarWriter(file)
    tar.add_file("large", content)
    tar.finish()
    return file.getvalue()


def test_a_full_disk_ends_an_import_cleanly(small: Database) -> None:
    """What does not fit is refused with the way out, and the space is free again."""
    with pytest.raises(Exhausted, match="no space is left on the file system of") as caught:
        import_root(small, io.BytesIO(_large(os.urandom(24 * 1024 * 1024))), now=NOW)
    assert caught.value.hints
    fleet.check(small)
    assert import_root(small, io.BytesIO(fleet.layer(0)), now=NOW).id


def test_a_full_disk_ends_an_unpacking_cleanly(small: Database) -> None:
    """A blob that fits and a layer that does not: no snapshot is left, and the image is whole for another try."""
    image = import_root(small, io.BytesIO(gzip.compress(_large(bytes(24 * 1024 * 1024)))), now=NOW)
    for _ in range(2):
        with pytest.raises(Exhausted, match="no space is left on the file system of"):
            unpack.lowers(small, image)
        fleet.check(small)
