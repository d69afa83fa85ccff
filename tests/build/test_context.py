"""The context: what of a directory goes into an image."""

import os
import socket

import pytest

from sampan.build import context
from sampan.build.entry import Source
from sampan.errors import Exhausted, InvalidArgument, NotFound

pytestmark = [pytest.mark.first]


def write(place: str, path: str, content: bytes = b"x", mode: int = 0o644) -> None:
    """Write one file."""
    os.makedirs(os.path.dirname(f"{place}/{path}"), exist_ok=True)
    with open(f"{place}/{path}", "wb") as file:
        file.write(content)
    os.chmod(file.name, mode)


def paths(found: context.Context) -> list[str]:
    """Return the paths of the files."""
    return [file.path for file in found.files]


def test_files(place: str) -> None:
    """Files come sorted, ignored ones stay out; the digest knows names, contents and the x bit, no umask or time."""
    write(place, "app.py")
    write(place, "static/a.css")
    write(place, ".git/config")
    write(place, "run.sh", mode=0o755)
    os.mkdir(f"{place}/empty")
    found = context.scan(place)
    assert paths(found) == ["app.py", "run.sh", "static/a.css"]
    assert found.directories == ["empty", "static"]
    digest = found.digest
    os.chmod(f"{place}/app.py", 0o600)
    os.utime(f"{place}/app.py", (1, 1))
    assert context.scan(place).digest == digest
    write(place, "app.py", b"y")
    assert context.scan(place).digest != digest
    write(place, "app.py")
    os.chmod(f"{place}/app.py", 0o744)
    assert context.scan(place).digest != digest


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "a/../../x", "../../../../etc/shadow"])
def test_link_that_leads_out(place: str, target: str) -> None:
    """A link out of the project is refused: its target would not be there."""
    os.symlink(target, f"{place}/link")
    with pytest.raises(InvalidArgument, match="leads out of the project") as caught:
        context.scan(place)
    assert caught.value.at is not None
    assert caught.value.at.path == "link"


def test_link_inside(place: str) -> None:
    """A link inside the project stays a link, also one that goes up and down again."""
    write(place, "a/real")
    os.makedirs(f"{place}/b")
    os.symlink("../a/real", f"{place}/b/link")
    found = next(file for file in context.scan(place).files if file.path == "b/link")
    assert found.target == "../a/real"


def test_special_files(place: str) -> None:
    """A pipe is refused without waiting for a writer; a socket is left out."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{place}/s")
        assert paths(context.scan(place)) == []
    os.mkfifo(f"{place}/pipe")
    with pytest.raises(InvalidArgument, match="device or pipe"):
        context.scan(place)


def test_large_file_is_not_kept(place: str) -> None:
    """A large file is hashed, not kept in memory: it is read again when the layer is written."""
    write(place, "big", b"z" * (3 << 20))
    found = context.scan(place)
    assert found.files[0].content is None
    assert isinstance(found.content(found.files[0]), Source)


def test_depth(place: str) -> None:
    """A tree that is too deep is refused."""
    os.makedirs(f"{place}/" + "d/" * (context.MAX_DEPTH + 2))
    with pytest.raises(Exhausted, match="deep"):
        context.scan(place)


def test_no_directory(place: str) -> None:
    """What is not there is NotFound, a file is InvalidArgument."""
    with pytest.raises(NotFound):
        context.scan(f"{place}/missing")
    write(place, "file")
    with pytest.raises(InvalidArgument):
        context.scan(f"{place}/file")


def test_names_that_are_no_text(place: str) -> None:
    """A file name that is not UTF-8 is kept as it is."""
    with open(os.fsencode(place) + b"/\xff\xfe.bin", "wb") as file:
        file.write(b"x")
    found = context.scan(place)
    assert os.fsencode(found.files[0].path) == b"\xff\xfe.bin"
    assert str(found.digest)
