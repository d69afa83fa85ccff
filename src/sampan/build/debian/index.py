"""A Debian release's package indexes, verified: main, its updates, and security updates where apt here has them.

Theory of operation. InRelease is fetched and its signature verified; only the bytes that the verification returns are
parsed. They name the hash of Packages.xz, which is kept on disk under that hash, so an unchanged index is not fetched
again. The release must be the one that was asked for (a mirror could answer with an older suite's, rightly signed), and
not past its Valid-Until, unless apt here is told not to mind, which is then said aloud.
"""

import calendar
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from sampan.build.debian import deb, keyring, shelf
from sampan.build.debian.mirror import Mirror, unreachable_hints
from sampan.build.debian.stanza import Package, Packages
from sampan.errors import Corrupt, InvalidArgument, NotFound, Unavailable
from sampan.events import Event
from sampan.settings.apt import Apt, Archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.events import Sink

MAX_RELEASE_BYTES = 4 * 1024 * 1024
MAX_PACKED_BYTES = 64 * 1024 * 1024
MAX_PACKAGES_BYTES = 512 * 1024 * 1024
# Updates of these come in the suite itself.
ROLLING = ("sid", "unstable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One verified suite: the archive it came from, its Packages, and the date of its release (`2026-11-21`)."""

    root: str
    name: str
    date: str
    packages: Packages

    def find(self, name: str) -> Package | None:
        """Return the newest package of this name."""
        return self.packages.find(name)

    def providers(self, name: str) -> list[str]:
        """Return the names of those that provide the virtual package `name`."""
        return self.packages.providers(name)


def load(
    apt: Apt, mirror: Mirror, *, suite: str, architecture: str, cache: str, clock: Callable[[], float], sink: "Sink"
) -> list[Suite]:
    """Fetch and verify the indexes of the release `suite` for Debian's `architecture`, the main one first.

    `cache` is a directory for indexes by hash. Raises Unavailable, Corrupt, InvalidArgument for one that has expired.
    """
    reader = _Reader(_apt=apt, _mirror=mirror, _architecture=architecture, _cache=cache, _clock=clock, _sink=sink)
    main = archive(apt)
    found = [reader.suite(main, suite)]
    security = next((other for other in apt.archives if other.is_security()), None)
    if suite in ROLLING:
        return found
    for other, name in ((main, f"{suite}-updates"), (security, f"{suite}-security")):
        if other is not None:
            try:
                found.append(reader.suite(other, name))
            except NotFound as error:
                # SECURITY: a mirror that hides the updates that this machine's own apt takes is no small matter.
                if name in other.suites:
                    raise
                sink(Event("warning", name, f"this mirror does not have it: {error.what}"))
    if security is None:
        sink(Event("warning", f"{suite}-security", "apt here has no archive of security updates"))
    return found


def archive(apt: Apt) -> Archive:
    """Return the archive that releases come from; raises Unavailable where the machine's apt has none of Debian's."""
    main = next((other for other in apt.archives if not other.is_security()), None)
    if main is None:
        raise Unavailable("apt on this machine has no Debian mirror", hints=unreachable_hints()[1:])
    return main


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """What all suites of one load have in common."""

    _apt: Apt
    _mirror: Mirror
    _architecture: str
    _cache: str
    _clock: Callable[[], float]
    _sink: "Sink"

    def suite(self, archive: Archive, name: str) -> Suite:
        """Fetch and verify one suite."""
        subject = f"the index of Debian's `{name}`"
        self._sink(Event("step", f"Debian index {name}"))
        signed = self._mirror.fetch(archive.uri, f"dists/{name}/InRelease", limit=MAX_RELEASE_BYTES)
        certificates = keyring.from_files(archive.keyrings or self._apt.machine_keyrings)
        release = keyring.verify(signed, subject, certificates, lambda: self._more_keys(archive, name, signed))
        fields, hashes = _parse(release)
        self._check(archive, fields, name, subject)
        contents = self._packages(archive, fields, hashes, name, subject)
        date = time.strftime("%Y-%m-%d", time.gmtime(_time(fields.get("Date", ""), subject)))
        self._sink(Event("done", f"Debian index {name}", f"signed, of {date}"))
        return Suite(root=archive.uri, name=name, date=date, packages=Packages(contents, subject))

    def _check(self, archive: Archive, fields: dict[str, str], name: str, subject: str) -> None:
        if fields.get("Codename") != name and fields.get("Suite") != name:
            raise Corrupt(f"{subject} is the index of `{fields.get('Codename', '')[:40]}`")
        until = fields.get("Valid-Until")
        if until is None or _time(until, subject) >= self._clock():
            return
        text = f"{subject} was valid until {until}: the mirror is behind, or somebody withholds updates"
        if self._apt.check_valid_until and archive.check_valid_until:
            hints = ("try another mirror", "to go on with what it has: `SAMPAN_ALLOW_EXPIRED_INDEX=1 sampan build …`")
            raise InvalidArgument(text, hints=hints)
        self._sink(Event("warning", name, f"{text}; going on, as this machine is set"))

    def _packages(
        self, archive: Archive, fields: dict[str, str], hashes: dict[str, tuple[str, int]], name: str, subject: str
    ) -> bytes:
        """Return the unpacked Packages file, from the cache where it is there."""
        path = f"main/binary-{self._architecture}/Packages.xz"
        if path not in hashes:
            raise NotFound(f"{subject} has no packages for `{self._architecture}`")
        digest, size = hashes[path]
        kept = f"{self._cache}/{digest}.xz"
        packed = shelf.read(kept, MAX_PACKED_BYTES)
        if packed is None or hashlib.sha256(packed).hexdigest() != digest:
            by_hash = f"main/binary-{self._architecture}/by-hash/SHA256/{digest}"
            source = by_hash if fields.get("Acquire-By-Hash", "").lower() == "yes" else path
            packed = self._fetch_index(archive, f"dists/{name}/{source}", min(size, MAX_PACKED_BYTES), subject)
            if hashlib.sha256(packed).hexdigest() != digest:
                raise Corrupt(f"{subject} is not what its signed release says: `{path}` has another hash")
            shelf.keep(kept, packed)
        return deb.unxz(packed, MAX_PACKAGES_BYTES, subject)

    def _more_keys(self, archive: Archive, name: str, signed: bytes) -> keyring.Certificates:
        """Return the known keys of the mirror's keyring package; none where there is no way to it."""
        try:
            return self._keys_of_mirror(archive, name, signed)
        except (NotFound, Unavailable, Corrupt):
            return ()

    def _fetch_index(self, archive: Archive, path: str, limit: int, subject: str) -> bytes:
        try:
            return self._mirror.fetch(archive.uri, path, limit=limit)
        except NotFound as error:
            hints = ("the mirror is perhaps being updated: try again in some minutes",)
            raise Unavailable(f"{subject} names a file that the mirror does not have", hints=hints) from error

    def _keys_of_mirror(self, archive: Archive, name: str, signed: bytes) -> keyring.Certificates:
        """Fetch the keyring package by an index that nothing has verified yet; its keys are chosen by fingerprint."""
        subject = f"the index of Debian's `{name}`"
        # A -security suite has no keyring package: the release's own does, on whichever archive.
        source = archive if not archive.is_security() else _main_of(self._apt)
        release = name.removesuffix("-security").removesuffix("-updates")
        if release != name:
            signed = self._mirror.fetch(source.uri, f"dists/{release}/InRelease", limit=MAX_RELEASE_BYTES)
        fields, hashes = _parse(signed)
        path = f"main/binary-{self._architecture}/Packages.xz"
        if path not in hashes:
            raise Corrupt(f"{subject} has no valid signature of a key that this machine trusts")
        packages = Packages(self._packages(source, fields, hashes, release, subject), subject)
        package = packages.find(keyring.PACKAGE)
        if package is None:
            raise Corrupt(f"{subject} has no valid signature, and the mirror has no `{keyring.PACKAGE}`")
        self._sink(Event("step", "Debian keyring", "this machine has no key of the archive; taken by fingerprint"))
        return keyring.from_package(self._mirror.fetch(source.uri, package.file, limit=package.size_bytes))


def _main_of(apt: Apt) -> Archive:
    return archive(apt)


def _parse(release: bytes) -> tuple[dict[str, str], dict[str, tuple[str, int]]]:
    """Return the fields of a release file, and of its SHA256 section path -> (hash, size)."""
    fields: dict[str, str] = {}
    hashes: dict[str, tuple[str, int]] = {}
    name = ""
    for line in release.decode(errors="replace").splitlines():
        if line[:1] != " ":
            name, _, value = line.partition(":")
            fields.setdefault(name, value.strip())
        elif name == "SHA256":
            words = line.split()
            if (
                len(words) == 3
                and len(words[0]) == 64
                and not words[0].strip("0123456789abcdef")
                and words[1].isdigit()
            ):
                hashes[words[2]] = (words[0], int(words[1]))
    return fields, hashes


def _time(text: str, subject: str) -> float:
    """Return the seconds since the epoch of a release's date, which is always UTC."""
    try:
        return calendar.timegm(
            time.strptime(text.removesuffix("UTC").removesuffix("+0000").strip(), "%a, %d %b %Y %H:%M:%S")
        )
    except ValueError as error:
        raise Corrupt(f"{subject} has a malformed date") from error
