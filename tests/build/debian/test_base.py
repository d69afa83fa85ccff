"""Bases: packages by their hashes, from the cache or a mirror; what a mirror changed is refused."""

import hashlib
import os
from collections.abc import Iterator, Mapping

import pytest

from sampan.build.debian import base
from sampan.build.debian.stanza import Package
from sampan.build.entry import Entry
from sampan.errors import Corrupt, NotFound
from sampan.events import ignore
from sampan.settings.configuration import Settings
from tests.build.debian.archive import Archive, deb, served

pytestmark = [pytest.mark.first]

DEBS = {
    "one": deb(
        "one",
        {"./bin/python3.13": b"elf", "./lib/x86_64-linux-gnu/libz.so.1": b"z", "./usr/share/doc/one/changelog": b"-"},
    ),
    "two": deb(
        "two", {"./usr/share/ca-certificates/mozilla/A.crt": b"cert A", "./usr/share/doc/two/copyright": b"(c)"}
    ),
}


class Served(Archive):
    """An archive and the address where it is served."""

    def __init__(self, root: str, url: str) -> None:
        super().__init__(root)
        self.url = url


@pytest.fixture
def archive(place: str) -> Iterator[Served]:
    """Serve the packages."""
    with served(f"{place}/archive") as url:
        made = Served(f"{place}/archive", url)
        made.publish("trixie", DEBS)
        yield made


def manifest(debs: Mapping[str, bytes] = DEBS) -> base.Manifest:
    """Return the manifest of `debs`."""
    packages = tuple(
        (
            "trixie",
            Package(
                name=name,
                version="1",
                sha256=hashlib.sha256(contents).hexdigest(),
                size_bytes=len(contents),
                file=f"pool/main/{name}_1_amd64.deb",
            ),
        )
        for name, contents in debs.items()
    )
    return base.Manifest(suite="trixie", architecture="amd64", date="2026-11-21", packages=packages)


def entries(archive: Served, settings: Settings, wanted: base.Manifest) -> dict[str, Entry]:
    """Return the base of `wanted`, fetched from `archive`, by path."""
    settings.debian_mirror = archive.url
    maker = base.Maker(settings, clock=lambda: 0.0, sink=ignore)
    return {item.path: item for item in maker.entries(wanted, "3.13")}


def test_layout(archive: Served, settings: Settings) -> None:
    """Directories are merged into /usr, documents go, licences stay, and what scripts would have made is there."""
    found = entries(archive, settings, manifest())
    assert list(found) == sorted(found)
    assert (found["bin"].target, found["usr/bin/python3.13"].content) == ("usr/bin", b"elf")
    assert found["usr/bin/python"].target == "python3"
    assert found["etc/ssl/certs/ca-certificates.crt"].content == b"cert A\n"
    assert b"libz.so.1\0/usr/lib/x86_64-linux-gnu/libz.so.1" in found["etc/ld.so.cache"].data
    assert "usr/share/doc/two/copyright" in found
    assert "usr/share/doc/one/changelog" not in found
    assert found["var/lib/dpkg/status.d/one"].data.startswith(b"Package: one")
    assert (found["home/nonroot"].uid, found["tmp"].mode) == (65532, 0o1777)
    assert {item.uid for item in found.values()} == {0, 65532}


def test_no_network_when_cached(archive: Served, settings: Settings) -> None:
    """Packages that were fetched once are taken from the cache; one that is damaged there is fetched again."""
    entries(archive, settings, manifest())
    kept = f"{settings.root}/cache/debs"
    url, archive.url = archive.url, "http://127.0.0.1:9"
    entries(archive, settings, manifest())
    archive.url = url
    for name in os.listdir(kept):
        with open(f"{kept}/{name}", "wb") as file:
            file.write(b"damaged")
    entries(archive, settings, manifest())


def test_tampered_package(archive: Served, settings: Settings) -> None:
    """A package with another hash than the signed index says is Corrupt and named, and nothing of it is kept."""
    archive.write("pool/main/two_1_amd64.deb", DEBS["one"][: len(DEBS["two"])])
    with pytest.raises(Corrupt, match="the package `two` 1 is not what the signed index says"):
        entries(archive, settings, manifest())
    assert f"{manifest().packages[1][1].sha256}.deb" not in os.listdir(f"{settings.root}/cache/debs")


def test_package_that_grew(archive: Served, settings: Settings) -> None:
    """A package that is longer than its index says is not read to its end."""
    archive.write("pool/main/two_1_amd64.deb", DEBS["two"] + bytes(1 << 20))
    with pytest.raises(Corrupt, match="longer than"):
        entries(archive, settings, manifest())


def test_vanished_package(archive: Served, settings: Settings) -> None:
    """A package that the mirror no longer has is NotFound, with the way to newer ones."""
    os.unlink(f"{archive.root}/pool/main/two_1_amd64.deb")
    with pytest.raises(NotFound, match="no longer has `two` 1") as caught:
        entries(archive, settings, manifest())
    assert any("--upgrade" in hint for hint in caught.value.hints)


def test_manifest_round_trip() -> None:
    """A manifest is read as it was written, and a changed path or hash is Corrupt."""
    document = manifest().document()
    assert base.parse_manifest(document, "`sampan.lock`").document() == document
    document["packages"][0]["file"] = "../../etc/passwd"
    with pytest.raises(Corrupt, match=r"`sampan.lock` has a malformed entry"):
        base.parse_manifest(document, "`sampan.lock`")
