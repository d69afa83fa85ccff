"""The closure of a base: dependencies, alternatives, virtual packages, and what is left out."""

import pytest

from sampan.build.debian import closure
from sampan.build.debian.stanza import Package, Packages
from sampan.errors import Corrupt, NotFound

pytestmark = [pytest.mark.first]

HASH = "0" * 64


def stanza(name: str, version: str = "1", **fields: str) -> str:
    """Return one entry of an index."""
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    return f"Package: {name}\nVersion: {version}\nSHA256: {HASH}\nSize: 1\nFilename: pool/{name}_{version}.deb\n{more}"


def suite(*stanzas: str) -> Packages:
    """Return an index of `stanzas`."""
    return Packages("\n".join(stanzas).encode(), "the test index")


def names(found: list[Package]) -> list[str]:
    """Return the names alone."""
    return [package.name for package in found]


def test_dependencies() -> None:
    """Depends and Pre-Depends are followed; the first alternative is taken where none is there already."""
    index = suite(
        stanza("a", Depends="b (>= 1), c | d, e:any", Pre_Depends="f"),
        *(stanza(name) for name in "bcdef"),
    )
    assert names(closure.close(["a"], [index])) == ["a", "b", "c", "e", "f"]
    assert names(closure.close(["a", "d"], [index], frozenset("c"))) == ["a", "b", "d", "e", "f"]


def test_exclusion() -> None:
    """What is excluded is left out with all that only it needs, and an excluded alternative counts as met."""
    index = suite(stanza("a", Depends="sh | c"), stanza("sh", Depends="lib"), stanza("lib"), stanza("c"))
    assert names(closure.close(["a"], [index], frozenset(["sh"]))) == ["a"]


def test_virtual_package() -> None:
    """A virtual package is its first provider, or one that is chosen already."""
    index = suite(stanza("x", Provides="v (= 1), w"), stanza("y", Provides="v"), stanza("a", Depends="v"))
    assert names(closure.close(["a"], [index])) == ["a", "x"]
    assert names(closure.close(["y", "a"], [index])) == ["a", "y"]


def test_newest_of_all_suites() -> None:
    """A security update comes before the release's version, and never an older one before a newer."""
    main, security = (
        suite(stanza("a", "1.0-1"), stanza("b", "2")),
        suite(stanza("a", "1.0-1+deb13u1"), stanza("b", "1")),
    )
    chosen = {package.name: package.version for package in closure.close(["a", "b"], [main, security])}
    assert chosen == {"a": "1.0-1+deb13u1", "b": "2"}


def test_missing() -> None:
    """A package that no suite has is NotFound and named."""
    with pytest.raises(NotFound, match="`gone`"):
        closure.close(["a"], [suite(stanza("a", Depends="gone"))])


@pytest.mark.parametrize(
    "field",
    ["Filename: ../../etc/passwd", "Filename: /etc/passwd", "SHA256: zz", "Size: -1", "Size: 99999999999", "Size: x"],
)
def test_malformed_entry(field: str) -> None:
    """An entry that leads out of the pool, or past a bound, is Corrupt."""
    text = stanza("a").replace(
        next(line for line in stanza("a").splitlines() if line.startswith(field.split(":", maxsplit=1)[0])), field
    )
    with pytest.raises(Corrupt, match="malformed entry"):
        suite(text).find("a")
