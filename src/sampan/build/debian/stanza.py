"""Debian control data: one package's fields, and a Packages file that is not parsed as a whole. Pure.

A Packages file has 60,000 stanzas, of which a base needs 35: names and offsets are found once (30 ms), stanzas are
parsed when they are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sampan.build.debian import version
from sampan.errors import Corrupt

MAX_DEB_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What an index says of one .deb. `depends` is the list of groups of alternatives, Pre-Depends first."""

    name: str
    version: str
    sha256: str
    size_bytes: int
    file: str
    depends: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return what a lock records."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "size": self.size_bytes,
            "file": self.file,
        }


class Packages:
    """The packages of one suite and architecture, found by name or by what they provide."""

    def __init__(self, contents: bytes, subject: str) -> None:
        """Index `contents`, a Packages file that `subject` names in errors."""
        self._contents = contents
        self._subject = subject
        self._offsets: dict[str, list[int]] = {}
        self._providers: dict[str, list[str]] | None = None
        for offset in _starts(contents, b"Package: "):
            end = contents.find(b"\n", offset)
            name = contents[offset + 9 : end].decode(errors="replace").strip()
            self._offsets.setdefault(name, []).append(offset)

    def find(self, name: str) -> Package | None:
        """Return the newest package of this name."""
        found = [self._parse(offset) for offset in self._offsets.get(name, ())]
        return max(found, key=lambda package: version.key(package.version), default=None)

    def providers(self, name: str) -> list[str]:
        """Return the names of packages that provide the virtual package `name`, in the index's order."""
        if self._providers is None:
            self._providers = {}
            for offset in _starts(self._contents, b"Provides: "):
                stanza = self._contents.rfind(b"\n\n", 0, offset)
                try:
                    package = self._parse(stanza + 2 if stanza >= 0 else 0)
                except Corrupt:
                    continue  # larger than we take; whoever asks for it by its own name is told
                for provided in package.provides:
                    self._providers.setdefault(provided, []).append(package.name)
        return self._providers.get(name, [])

    def required(self) -> list[str]:
        """Return the names of the packages that every Debian has: essential ones, and those of priority required."""
        found = set()
        for field in (b"Essential: yes\n", b"Priority: required\n"):
            for offset in _starts(self._contents, field):
                stanza = self._contents.rfind(b"\n\n", 0, offset)
                found.add(self._parse(stanza + 2 if stanza >= 0 else 0).name)
        return sorted(found)

    def _parse(self, offset: int) -> Package:
        end = self._contents.find(b"\n\n", offset)
        fields = fields_of(self._contents[offset : end if end >= 0 else None])
        try:
            package = Package(
                name=fields["Package"],
                version=fields["Version"],
                sha256=fields["SHA256"],
                size_bytes=int(fields["Size"]),
                file=fields["Filename"],
                depends=tuple(_groups(fields.get("Pre-Depends", ""))) + tuple(_groups(fields.get("Depends", ""))),
                provides=tuple(group[0] for group in _groups(fields.get("Provides", ""))),
            )
        except (KeyError, ValueError) as error:
            raise Corrupt(f"{self._subject} has a malformed entry") from error
        check(package, self._subject)
        return package


def check(package: Package, subject: str) -> None:
    """Raise Corrupt, naming `subject`, where the entry could lead out of the pool or past a bound."""
    is_hash = len(package.sha256) == 64 and not package.sha256.strip("0123456789abcdef")
    # SECURITY: the file name becomes part of a URL: it stays below the archive's root.
    is_below = not package.file.startswith("/") and ".." not in package.file.split("/") and package.file.isprintable()
    if not (
        is_hash and is_below and 0 < package.size_bytes <= MAX_DEB_BYTES and "/" not in package.name and package.name
    ):
        raise Corrupt(f"{subject} has a malformed entry for `{package.name[:100]}`")


def fields_of(stanza: bytes) -> dict[str, str]:
    """Return the fields of one stanza; of folded fields the first line."""
    fields = {}
    for line in stanza.decode(errors="replace").split("\n"):
        if line[:1] not in {" ", "\t", ""}:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _starts(contents: bytes, field: bytes) -> Iterator[int]:
    """Yield the offsets at which a line begins with `field`."""
    if contents.startswith(field):
        yield 0
    offset = contents.find(b"\n" + field)
    while offset >= 0:
        yield offset + 1
        offset = contents.find(b"\n" + field, offset + 1)


def _groups(value: str) -> Iterator[tuple[str, ...]]:
    """Yield the alternatives of each clause, without versions and architectures."""
    for clause in value.split(","):
        names = tuple(part.strip().partition(" ")[0].partition("(")[0].partition(":")[0] for part in clause.split("|"))
        if names and names[0]:
            yield names
