"""The tar writer: deterministic, read back by our reader and by Python's, exact at every border of the format."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.oci.digest import Digest
from sampan.storage.diff import TarWriter
from sampan.storage.tape import Bounds, Tape

pytestmark = [pytest.mark.first]

_PART = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60)
_PATH = st.lists(_PART.filter(lambda part: part not in {".", ".."}), min_size=1, max_size=5).map("/".join)
_ID = st.sampled_from([0, 1, 65532, 0o7777777, 0o7777777 + 1, 0xFFFFFFFE])
_TIME = st.sampled_from([0, 1, 0o77777777777, 0o77777777777 + 1, -1])
_XATTRS = st.dictionaries(
    st.from_regex(r"user\.[a-z]{1,9}", fullmatch=True), st.binary(max_size=300), max_size=3
)  # fmt: skip


@given(_PATH, st.binary(max_size=1500), st.tuples(st.integers(0, 0o7777), _ID, _ID), _TIME, _XATTRS)
def test_a_file_is_read_back(
    path: str, content: bytes, owner: tuple[int, int, int], mtime: int, xattrs: dict[str, bytes]
) -> None:
    """Whatever its name, ids, time and attributes, both readers find what was written."""
    mode, uid, gid = owner
    file = io.BytesIO()
    tar = TarWriter(file)
    tar.add_file(path, content, mode=mode, uid=uid, gid=gid, mtime=mtime, xattrs=xattrs)
    tar.finish()
    archive = Tape(io.BytesIO(file.getvalue()).read, Bounds())
    entry = archive.next()
    assert entry is not None
    found = (entry.name.decode(), entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.size_bytes)
    assert found == (path, mode, uid, gid, mtime * 10**9, len(content))
    assert b"".join(bytes(piece) for piece in archive.contents()) == content
    assert entry.xattrs == {key.encode(): value for key, value in xattrs.items()}
    assert archive.next() is None
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as theirs:
        member = theirs.next()
    assert member is not None
    assert (member.name.rstrip("/"), member.mode, member.uid, member.gid) == (path.rstrip("/"), mode, uid, gid)


@given(_PATH, _PATH)
def test_links_and_directories_are_read_back(path: str, target: str) -> None:
    """Names and targets of any length survive."""
    file = io.BytesIO()
    tar = TarWriter(file)
    tar.add_directory(path, mode=0o1777)
    tar.add_symlink(path, target)
    tar.add_link(path, target)
    tar.finish()
    archive = Tape(io.BytesIO(file.getvalue()).read, Bounds())
    kinds = []
    while entry := archive.next():
        kinds.append((entry.kind, entry.name.decode().rstrip("/"), entry.link.decode()))
    assert kinds == [(b"5", path, ""), (b"2", path, target), (b"1", path, target)]


def test_the_bytes_never_change() -> None:
    """The digest of a fixed archive is a promise: every layer that was ever made stands on it."""
    file = io.BytesIO()
    tar = TarWriter(file)
    tar.add_directory("app", mode=0o755)
    tar.add_file("app/main.py", b"print()\n", mode=0o644, uid=65532, gid=65532, mtime=1)
    tar.add_file("app/" + "long/" * 60 + "name", b"", xattrs={"user.b": b"2", "user.a": b"1"})
    tar.add_symlink("app/ünïcode", "main.py")
    tar.add_link("app/link", "app/main.py")
    tar.finish()
    assert str(Digest.of(file.getvalue())) == "sha256:4c8945f1f376af6d3f5099420ecf74b75fa2d4fde5c97793cf7e2fadfd8a38b5"


def test_a_stream_must_keep_its_size() -> None:
    """A file that grew or shrank while it was read is refused, not cut."""
    for size in (2, 4):
        with pytest.raises(ValueError, match="changed its size"):
            TarWriter(io.BytesIO()).add_file("a", io.BytesIO(b"abc"), size_bytes=size)
    TarWriter(io.BytesIO()).add_file("a", io.BytesIO(b"abc"), size_bytes=3)
