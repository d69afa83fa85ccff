"""What is old: versions compared with an index, security updates told from others."""

import pytest

from sampan.build.debian import index, outdated
from sampan.build.debian.stanza import Packages

pytestmark = [pytest.mark.first]


def suite(name: str, versions: dict[str, str], date: str = "2026-11-21") -> index.Suite:
    """Return the index of a suite that has these packages."""
    stanzas = [
        f"Package: {package}\nVersion: {version}\nSHA256: {'0' * 64}\nSize: 1\nFilename: pool/{package}.deb\n"
        for package, version in versions.items()
    ]
    packages = Packages("\n".join(stanzas).encode(), "a test's index")
    return index.Suite(root="", name=name, date=date, packages=packages)


def test_compare() -> None:
    """The newest of all suites counts; it is a security update if the security archive has one that is newer."""
    suites = [
        suite("trixie", {"a": "1:1.0-1", "b": "2.0-1", "c": "3.0", "d": "4.0~rc1"}),
        suite("trixie-security", {"a": "1:1.0-1+deb13u2", "c": "2.9"}, "2026-11-23"),
    ]
    installed = {"a": "1:1.0-1", "b": "1.9-7", "c": "3.0", "d": "4.0", "gone": "1"}
    report = outdated.compare("image", "trixie", installed, suites)
    assert [(u.package, u.installed, u.available, u.is_security) for u in report.updates] == [
        ("a", "1:1.0-1", "1:1.0-1+deb13u2", True),
        ("b", "1.9-7", "2.0-1", False),
    ]
    assert report.summary() == (
        "image: 5 packages of Debian's trixie, 2 behind the index of 2026-11-23, 1 with a security update"
    )
    assert report.document()["Outdated"][0]["Security"] is True


def test_nothing_is_old() -> None:
    """What is as new as the index, or newer, is not old; a version that is none is passed over."""
    report = outdated.compare("image", "trixie", {"a": "2", "b": "²³", "": ""}, [suite("trixie", {"a": "1", "b": "1"})])
    assert report.updates == ()
    assert report.summary() == "image: 3 packages of Debian's trixie, none behind the index of 2026-11-21"
