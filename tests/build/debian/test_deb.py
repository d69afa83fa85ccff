"""Reading .debs: whole ones, and hostile ones."""

import io
import lzma
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.debian import deb
from sampan.errors import Corrupt
from tests.build.debian import archive

pytestmark = [pytest.mark.first]

HELLO = archive.deb("hello", {"./usr/bin/hello": b"hi", "usr/share/doc/hello/copyright": b"free"})


def test_contents() -> None:
    """Files come with relative names, the control stanza beside them."""
    found = {header.name: content for header, content in deb.data(HELLO, "it")}
    assert found == {"usr/bin/hello": b"hi", "usr/share/doc/hello/copyright": b"free"}
    assert deb.control(HELLO, "it")["control"].startswith(b"Package: hello")


def leaving(name: str) -> bytes:
    """Return a package with one file called `name`."""
    return archive.deb("x", {name: b"x"})


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"PK\x03\x04",
        HELLO[:100],
        HELLO.replace(b"data.tar.xz", b"data.tar.zz"),
        HELLO[:-60],
        HELLO.replace(b"`\n", b"xx", 1),
        b"!<arch>\n" + archive.member("data.tar.xz", lzma.compress(b"x" * 512)),
        b"!<arch>\n" + archive.member("data.tar.xz", b"\xfd7zXZ\x00 broken"),
        b"!<arch>\n" + archive.member("data.tar.gz", b"\x1f\x8b\x08\x00 broken"),
        leaving("../../etc/passwd"),
        leaving("/etc/passwd"),
        leaving("usr/../../x"),
    ],
)
def test_hostile(contents: bytes) -> None:
    """What is cut, packed otherwise, broken or leads out is Corrupt and named."""
    with pytest.raises(Corrupt, match="the package"):
        list(deb.data(contents, "the package `x`"))


@given(st.binary(max_size=400), st.integers(0, len(HELLO)))
def test_any_bytes(noise: bytes, at: int) -> None:
    """Any bytes are a .deb or Corrupt."""
    try:
        list(deb.data(HELLO[:at] + noise + HELLO[at + len(noise) :], "the package `x`"))
    except Corrupt:
        pass


def test_bomb() -> None:
    """A member that unpacks past the bound is Corrupt."""
    bomb = lzma.compress(bytes(4 << 20))
    with pytest.raises(Corrupt, match="unpacks to more"):
        deb.unxz(bomb, 1 << 20, "the package `x`")


def test_uncompressed_member() -> None:
    """A data.tar without compression is read too."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        made.addfile(tarfile.TarInfo("./x"))
    contents = b"!<arch>\n" + archive.member("data.tar", out.getvalue())
    assert [header.name for header, _ in deb.data(contents, "it")] == ["x"]
