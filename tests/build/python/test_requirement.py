"""Requirements files: pip's format, by name only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.python import requirement
from sampan.errors import InvalidArgument

pytestmark = [pytest.mark.first]


def test_lines() -> None:
    """Comments, continued lines, markers, extras, hashes and index options are read as pip reads them."""
    content = (
        b"# a comment\nFlask==3.1.0  # pinned\nrequests[socks] >= 2 ; python_version > '3.8'\n\n"
        b"--extra-index-url https://example.org/simple\n"
        b"urllib3==2.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n.\n"
    )
    found = requirement.parse_file("requirements.txt", {"requirements.txt": content})
    assert [item.name for item in found.items] == ["flask", "requests", "urllib3"]
    assert found.items[2].text == "urllib3==2.0 --hash=sha256:aa --hash=sha256:bb"
    assert [item.place.line for item in found.items] == [2, 3, 6]
    assert found.options == ["--extra-index-url https://example.org/simple"]


def test_included_files() -> None:
    """-r and -c are followed below the project, relative to the file that has them."""
    files = {
        "requirements.txt": b"-r requirements/base.txt\n-c limits.txt\n",
        "requirements/base.txt": b"-r more.txt\nflask\n",
        "requirements/more.txt": b"Zope.Interface\n",
        "limits.txt": b"flask<4\n",
    }
    found = requirement.parse_file("requirements.txt", files)
    assert [item.name for item in found.items] == ["zope-interface", "flask"]
    assert [item.text for item in found.constraints] == ["flask<4"]


@pytest.mark.parametrize("line", [b"-r ../outside.txt", b"-r /etc/passwd", b"-r missing.txt"])
def test_included_files_outside(line: bytes) -> None:
    """A file outside of the project, or that is not there, is an error with its line."""
    with pytest.raises(InvalidArgument, match="not a file of this project") as caught:
        requirement.parse_file("requirements.txt", {"requirements.txt": b"\n" + line + b"\n"})
    assert caught.value.at is not None
    assert caught.value.at.line == 2


def test_circle() -> None:
    """Files that include each other end in an error."""
    with pytest.raises(InvalidArgument, match="deep"):
        requirement.parse_file("a.txt", {"a.txt": b"-r b.txt\n", "b.txt": b"-r a.txt\n"})


@pytest.mark.parametrize(
    "line",
    [
        b"-e ./lib",
        b"./lib",
        b"git+https://example.org/x",
        b"x @ https://example.org/x.whl",
        b"https://example.org/x.tar.gz",
    ],
)
def test_what_would_be_built(line: bytes) -> None:
    """Paths and addresses are refused: a build script would run on the host."""
    with pytest.raises(InvalidArgument, match="no build script is run"):
        requirement.parse_file("requirements.txt", {"requirements.txt": line})


@pytest.mark.parametrize("line", [b"==1", b"flask what", b"--unknown x", b"\xff\xfe"])
def test_what_is_no_requirement(line: bytes) -> None:
    """What is no requirement is an error with its place."""
    with pytest.raises(InvalidArgument) as caught:
        requirement.parse_file("requirements.txt", {"requirements.txt": line})
    assert caught.value.at is not None


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """Any bytes are requirements or InvalidArgument."""
    try:
        requirement.parse_file("requirements.txt", {"requirements.txt": content})
    except InvalidArgument:
        pass


@given(st.text("abcXYZ019-_.", min_size=1, max_size=20))
def test_normalise(name: str) -> None:
    """Normalising is idempotent and knows no case, dot or underscore."""
    normal = requirement.normalise(name)
    assert requirement.normalise(normal) == normal
    assert requirement.normalise(name.upper().replace(".", "_")) == normal
