"""docker cp's rules of what lands where."""

import pytest

from sampan.engine import copyrules
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError

pytestmark = [pytest.mark.first]


@pytest.mark.parametrize(
    ("source", "destination", "sides"),
    [
        ("web:/a", ".", (("web", "/a"), ("", "."))),
        ("web:a", "-", (("web", "/a"), ("", "-"))),
        ("web:", "x", (("web", "/"), ("", "x"))),
        ("./a:b", "web:/", (("", "./a:b"), ("web", "/"))),
        ("/a:b", "web:/c", (("", "/a:b"), ("web", "/c"))),
        ("-", "web:/c:d", (("", "-"), ("web", "/c:d"))),
    ],
)
def test_sides(source: str, destination: str, sides: tuple[tuple[str, str], tuple[str, str]]) -> None:
    """A word with a colon is a container's, unless it begins as a path does; its path is from the root."""
    found = copyrules.parse(source, destination)
    assert tuple((side.container, side.path) for side in found) == sides


@pytest.mark.parametrize(("source", "destination"), [("a", "b"), ("c:a", "d:b"), ("", "c:a"), ("c:a", "")])
def test_what_is_no_copy(source: str, destination: str) -> None:
    """One side is a container, and one is not."""
    with pytest.raises(InvalidArgument):
        copyrules.parse(source, destination)


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/etc", "etc"),
        ("/etc/", "etc"),
        ("/etc/.", "."),
        (".", "."),
        ("./", "."),
        ("/", "."),
        ("a/../b", "b"),
        ("x", "x"),
    ],
)
def test_base(path: str, base: str) -> None:
    """The archive calls things by the last part of their path; content has no name."""
    assert copyrules.base(path) == base


@pytest.mark.parametrize(
    ("is_directory", "destination", "exists", "to_directory", "expected"),
    [
        (False, "/x/new", False, False, "new"),
        (False, "/x/new/", False, False, NotFound),
        (False, "/x/file", True, False, "new"),
        (False, "/x/dir", True, True, None),
        (True, "/x/new", False, False, "new"),
        (True, "/x/new/", False, False, "new"),
        (True, "/x/file", True, False, Conflict),
        (True, "/x/dir", True, True, None),
    ],
)
def test_the_table(
    *, is_directory: bool, destination: str, exists: bool, to_directory: bool, expected: str | type[SampanError] | None
) -> None:
    """Each line of docker's table."""
    arguments = {"is_directory": is_directory, "exists": exists, "to_directory": to_directory}
    if isinstance(expected, type):
        with pytest.raises(expected):
            copyrules.name_for(destination=destination, name="new", **arguments)
    else:
        assert copyrules.name_for(destination=destination, name="new", **arguments) == expected
