"""Verified indexes: a mirror on loopback, signed with a key of the test's own, and all the ways to tamper with it."""

import lzma
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pysequoia
import pytest

from sampan.build.debian import deb as deb_reader
from sampan.build.debian import index
from sampan.build.debian.mirror import Mirror
from sampan.errors import Corrupt, InvalidArgument, NotFound, SampanError, Unavailable
from sampan.events import Event
from sampan.settings.apt import Apt
from sampan.settings.apt import Archive as Source
from sampan.settings.configuration import Settings
from tests.build.debian.archive import Archive, deb, served

pytestmark = [pytest.mark.first]

NOW = 1_795_000_000.0  # after the release's date


@dataclass
class Bed:
    """A served archive, and what loads an index from it."""

    archive: Archive
    url: str
    settings: Settings
    events: list[Event]

    def load(
        self, suite: str = "trixie", *, keyring: str = "", options: dict[str, str] | None = None
    ) -> list[index.Suite]:
        """Load the index of `suite`."""
        source = Source(uri=self.url, suites=(suite,), keyrings=(keyring or self.archive.keyring,))
        apt = Apt(archives=(source,), options=options or {}, machine_keyrings=(), root=self.archive.root)
        with Mirror(apt, self.settings) as mirror:
            return index.load(
                apt,
                mirror,
                suite=suite,
                architecture="amd64",
                cache=f"{self.settings.root}/cache/debian",
                clock=lambda: NOW,
                sink=self.events.append,
            )


@pytest.fixture
def bed(place: str, settings: Settings) -> Iterator[Bed]:
    """Serve an archive with one package."""
    archive = Archive(f"{place}/archive")
    archive.publish("trixie", {"hello": deb("hello", {"./usr/bin/hello": b"hi"})})
    with served(archive.root) as url:
        yield Bed(archive, url, settings, [])


def test_signed_index(bed: Bed) -> None:
    """A rightly signed index is read; suites that the mirror does not have are warned of."""
    (suite,) = bed.load()
    package = suite.find("hello")
    assert package is not None
    assert (package.name, suite.name, suite.date) == ("hello", "trixie", "2026-11-21")
    assert [event.subject for event in bed.events if event.kind == "warning"] == ["trixie-updates", "trixie-security"]


def test_unchanged_index_is_not_fetched_again(bed: Bed) -> None:
    """Packages.xz is kept under its hash: with the same release it is not asked for a second time."""
    bed.load()
    signed = bed.archive.read("dists/trixie/InRelease")
    bed.archive.publish("trixie", {})
    bed.archive.write("dists/trixie/InRelease", signed)
    assert bed.load()[0].find("hello")


def tampered_release(bed: Bed) -> None:
    """Change one byte of what is signed."""
    signed = bed.archive.read("dists/trixie/InRelease")
    bed.archive.write("dists/trixie/InRelease", signed.replace(b"Codename: trixie", b"Codename: trixiE"))


def unsigned_release(bed: Bed) -> None:
    """Leave the signature out."""
    bed.archive.write("dists/trixie/InRelease", b"Suite: trixie\nCodename: trixie\n")


def appended_release(bed: Bed) -> None:
    """Text before the signed part is not signed: it must not be read as if it were."""
    signed = bed.archive.read("dists/trixie/InRelease")
    bed.archive.write("dists/trixie/InRelease", b"Codename: sid\n" + signed.replace(b"Suite: trixie", b"Suite: trixiE"))


def tampered_packages(bed: Bed) -> None:
    """Put another Packages in the place of the right one."""
    for line in bed.archive.read("dists/trixie/InRelease").splitlines():
        if line.endswith(b"Packages.xz"):
            digest = line.split()[0].decode()
            packages = lzma.compress(b"Package: evil\n")
            bed.archive.write(f"dists/trixie/main/binary-amd64/by-hash/SHA256/{digest}", packages)


def other_suite(bed: Bed) -> None:
    """Answer with another suite's index, rightly signed."""
    bed.archive.publish("bookworm", {})
    bed.archive.write("dists/trixie/InRelease", bed.archive.read("dists/bookworm/InRelease"))


def other_key(bed: Bed) -> None:
    """Sign with a key that nobody here knows."""
    stranger = Archive(f"{bed.archive.root}/stranger")
    stranger.publish("trixie", {})
    bed.archive.write("dists/trixie/InRelease", stranger.read("dists/trixie/InRelease"))


@pytest.mark.parametrize(
    "attack", [tampered_release, unsigned_release, appended_release, tampered_packages, other_suite, other_key]
)
def test_tampered_index(bed: Bed, attack: "object") -> None:
    """Whatever is changed on the way, the index is refused, and the error names it."""
    assert callable(attack)
    attack(bed)
    with pytest.raises(SampanError, match=r"index of Debian's `trixie`") as caught:
        bed.load()
    assert isinstance(caught.value, Corrupt)


def test_foreign_keyring_package(bed: Bed) -> None:
    """Without a key of the archive, its keyring package counts only for keys whose fingerprints are known."""
    key = bytes(bed.archive.key.extract_certificate())
    keyring = deb("debian-archive-keyring", {"./usr/share/keyrings/debian-archive-keyring.gpg": key})
    bed.archive.publish("trixie", {"debian-archive-keyring": keyring})
    stranger = Archive(f"{bed.archive.root}/stranger")
    with pytest.raises(Corrupt, match="no valid signature"):
        bed.load(keyring=stranger.keyring)


def test_expired_index(bed: Bed) -> None:
    """An index past its Valid-Until is refused with a way to go on; going on is the person's choice, and said."""
    bed.archive.publish("trixie", {}, fields="Valid-Until: Sat, 14 Nov 2026 09:15:44 UTC\n")
    with pytest.raises(InvalidArgument, match="valid until Sat, 14 Nov 2026") as caught:
        bed.load()
    assert any("SAMPAN_ALLOW_EXPIRED_INDEX=1" in hint for hint in caught.value.hints)
    bed.load(options={"acquire::check-valid-until": "false"})
    assert any("going on" in event.text for event in bed.events)


def test_index_that_is_valid(bed: Bed) -> None:
    """An index within its Valid-Until is taken without a word."""
    later = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(NOW + 60))
    bed.archive.publish("trixie", {}, fields=f"Valid-Until: {later}\n")
    bed.load()
    assert not any("valid until" in event.text for event in bed.events)


def test_unknown_suite(bed: Bed) -> None:
    """A suite that the mirror does not have is NotFound."""
    with pytest.raises(NotFound):
        bed.load("forky")


def test_unreachable_mirror(bed: Bed) -> None:
    """A mirror that does not answer is Unavailable, with the ways to name another."""
    bed.url = "http://127.0.0.1:9"
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        bed.load()
    assert any("SAMPAN_DEBIAN_MIRROR" in hint for hint in caught.value.hints)


def test_no_mirror(settings: Settings) -> None:
    """On a machine whose apt has no Debian mirror the error says how to name one."""
    apt = Apt(archives=(), options={}, machine_keyrings=())
    with pytest.raises(Unavailable, match="no Debian mirror") as caught:
        index.archive(apt)
    assert caught.value.hints


def test_bomb(bed: Bed) -> None:
    """A Packages.xz that unpacks past the bound is Corrupt, and does not fill memory first."""
    bomb = lzma.compress(bytes(1 << 20))
    with pytest.raises(Corrupt, match="unpacks to more"):
        deb_reader.unxz(bomb, 1 << 16, "the index")


def test_signing_works() -> None:
    """A control: the library takes what is rightly signed and refuses one changed byte."""
    key = pysequoia.Tsk.generate("a@example.org")
    signed = bytes(pysequoia.sign(key.signer(), b"x\n", mode=pysequoia.SignatureMode.CLEAR))
    assert pysequoia.verify(bytes=signed, store=lambda _: [key.extract_certificate()]).bytes == b"x\n"
