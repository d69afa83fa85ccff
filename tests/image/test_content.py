"""Blobs: whole and verified or not there, however many write them and whoever is killed."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from sampan.database import connection
from sampan.database.connection import Database
from sampan.database.lease import Lease
from sampan.errors import Corrupt, Exhausted, NotFound
from sampan.image.content import Content, VerifiedFile
from sampan.oci.digest import Digest
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


@pytest.fixture
def content(database: Database) -> Content:
    """Return its blobs."""
    return Content(database.root)


def _files(content: Content) -> list[str]:
    return sorted(name for _, _, names in os.walk(f"{content.root}/blobs") for name in names)


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 3_000_000])
@pytest.mark.parametrize("form", [bytes, io.BytesIO])
def test_what_is_put_is_read(content: Content, data: bytes, form: "type[bytes | io.BytesIO]") -> None:
    """Bytes or a stream, once or twice: the blob is there under its digest."""
    digest = Digest.of(data)
    for _ in range(2):
        assert content.put(form(data)) == (digest, len(data))
        assert content.read(digest) == data
        assert content.has(digest)
        assert content.size_bytes(digest) == len(data)
    assert _files(content) == [digest.hex]
    assert os.stat(content.path(digest)).st_mode & 0o077 == 0


def test_what_is_not_expected_is_not_stored(content: Content) -> None:
    """Another digest, another size, or too much is refused and leaves nothing."""
    data, other = b"data", Digest.of(b"other")
    for source in (data, io.BytesIO(data)):
        with pytest.raises(Corrupt, match="is not what its digest says"):
            content.put(source, other)
    with pytest.raises(Corrupt, match="4 bytes long, where 5 were promised"):
        content.put(io.BytesIO(data), size_bytes=5)
    with pytest.raises(Exhausted, match="longer than 3 bytes"):
        content.put(io.BytesIO(data), size_bytes=3)
    with pytest.raises(Exhausted):
        content.put(io.BytesIO(data), limit_bytes=3)
    assert _files(content) == []


def test_a_stream_that_breaks_leaves_nothing(content: Content) -> None:
    """An error of the source passes through."""

    class Broken:
        def read(self, size: int, /) -> bytes:  # noqa: ARG002  the protocol's
            raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        content.put(Broken())
    assert _files(content) == []


def test_damage_on_the_disk_is_seen(content: Content) -> None:
    """A stored blob whose bytes changed cannot be read to its end; putting it again mends it."""
    digest, _ = content.put(b"good")
    Path(content.path(digest)).write_bytes(b"evil")
    with pytest.raises(Corrupt, match="a stored blob is not what its digest says"):
        content.read(digest)
    content.put(b"good")
    assert content.read(digest) == b"good"


def test_what_is_not_there_is_not_found(content: Content) -> None:
    """Reading, opening and measuring say so alike."""
    absent = Digest.of(b"absent")
    assert not content.has(absent)
    for act in (content.read, content.open, content.size_bytes):
        with pytest.raises(NotFound, match="is not in the store"):
            act(absent)


def test_a_blob_is_held_before_it_is_there(database: Database) -> None:
    """With a lease, a prune that comes between sees the hold."""
    with Lease(database, "pull") as lease:
        content = Content(database.root, lease)
        digest, _ = content.put(b"data")
        content.has(Digest.of(b"asked for"))
        held = {row[0] for row in database.execute("SELECT object FROM holds")}
    assert held == {f"blob:{digest}", f"blob:{Digest.of(b'asked for')}"}


@options(deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=10))
def test_a_verified_stream_is_verified_however_it_is_read(data: bytes, steps: list[int]) -> None:
    """In pieces of any size: the end says yes for the digest and no for another."""
    for digest, is_right in ((Digest.of(data), True), (Digest.of(data + b"x"), False)):
        file = VerifiedFile(io.BytesIO(data), digest)
        read = b"".join(file.read(step) for step in steps if len(data) > sum(steps))
        if is_right:
            assert read + file.read() == data
        else:
            with pytest.raises(Corrupt):
                file.read()


def test_two_writers_of_one_blob_do_not_meet(content: Content) -> None:
    """Each writes its own file; the later rename wins, and both succeed."""
    data = b"x" * 100_000
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for _ in range(20):
                    content.put(io.BytesIO(data))
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    assert _files(content) == [Digest.of(data).hex]
