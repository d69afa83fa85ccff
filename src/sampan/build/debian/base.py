"""The base of an image from Debian packages: which ones (a manifest, kept in the lock) and the entries of its layer.

A manifest is resolved once, by a verified index; from then on its packages are fetched by their hashes, so neither the
mirror nor time can change them.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sampan.build.debian import closure, index, layout, shelf
from sampan.build.debian.mirror import Mirror
from sampan.build.debian.pool import Pool
from sampan.build.debian.stanza import Package, check
from sampan.build.entry import Entry
from sampan.document import Malformed, parse, render
from sampan.errors import Corrupt
from sampan.settings import apt as apts
from sampan.settings.configuration import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.events import Sink

_FRESH_SECONDS = 24 * 3600
_ROOTS = (
    "base-files", "libc6", "libc-bin", "libstdc++6", "libgcc-s1", "ca-certificates", "tzdata", "netbase", "media-types",
    "tini",
)  # fmt: skip
# Parts of the standard library that Debian packages apart until bookworm.
_APART = {"3.9": ("python3-distutils",), "3.11": ("python3-distutils",)}
_NO_DEFAULT_PYTHON = frozenset(("python3", "python3-lib2to3"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The packages of a base, each with the suite that has it (`trixie-security`), and the release's `date`."""

    suite: str
    architecture: str
    date: str
    packages: tuple[tuple[str, Package], ...]

    def document(self) -> "Document":
        """Return what a lock records."""
        packages = [{**package.document(), "suite": suite} for suite, package in self.packages]
        return {"suite": self.suite, "architecture": self.architecture, "date": self.date, "packages": packages}


def parse_manifest(document: "Document", subject: str) -> Manifest:
    """Read what `Manifest.document` wrote; raises Corrupt, naming `subject`."""
    try:
        packages = tuple(
            (
                str(item["suite"]),
                Package(
                    name=str(item["name"]),
                    version=str(item["version"]),
                    sha256=str(item["sha256"]),
                    size_bytes=int(item["size"]),
                    file=str(item["file"]),
                ),
            )
            for item in document["packages"]
        )
        manifest = Manifest(
            suite=str(document["suite"]),
            architecture=str(document["architecture"]),
            date=str(document["date"]),
            packages=packages,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"{subject} has a malformed base", hints=("make it anew with `--upgrade`",)) from error
    for _, package in packages:
        check(package, subject)
    return manifest


class Maker:
    """Resolves manifests and fetches their packages, with the machine's settings."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float], sink: "Sink") -> None:
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._cache = f"{settings.root}/cache"

    def resolve(self, suite: str, python: str, architecture: str, *, anew: bool) -> Manifest:
        """Choose the packages of a base with `python`; one that was chosen within a day holds unless `anew`."""
        apt = apts.load(self._settings)
        roots = (f"python{python}", f"libpython{python}-stdlib", *_ROOTS, *_APART.get(python, ()))
        archives = [f"{archive.uri} {' '.join(archive.suites)}" for archive in apt.archives]
        key = hashlib.sha256(render([suite, architecture, list(roots), archives, layout.VERSION]).encode()).hexdigest()
        path = f"{self._cache}/debian/{key}.json"
        kept = None if anew else self._kept(path)
        if kept is not None:
            return kept
        with Mirror(apt, self._settings) as mirror:
            suites = index.load(
                apt,
                mirror,
                suite=suite,
                architecture=architecture,
                cache=f"{self._cache}/debian",
                clock=self._clock,
                sink=self._sink,
            )
        chosen = closure.close(roots, suites, closure.EXCLUDED | _NO_DEFAULT_PYTHON)
        manifest = manifest_of(chosen, suites, suite=suite, architecture=architecture)
        document = {"version": 1, "time": int(self._clock()), "manifest": manifest.document()}
        shelf.keep(path, render(document).encode())
        return manifest

    def entries(self, manifest: Manifest, python: str) -> list[Entry]:
        """Fetch what is missing, check every package, and lay them out."""
        apt = apts.load(self._settings)
        with Mirror(apt, self._settings) as mirror:
            files = Pool(apt, mirror, self._cache).read(manifest.packages, layout.unpack, self._sink)
        return layout.lay_out(files, python=python, architecture=manifest.architecture)

    def _kept(self, path: str) -> Manifest | None:
        try:
            with open(path, encoding="utf-8") as file:
                document = parse(file.read())
            if document["version"] == 1 and 0 <= self._clock() - document["time"] < _FRESH_SECONDS:
                return parse_manifest(document["manifest"], f"`{path}`")
        except (FileNotFoundError, Malformed, KeyError, TypeError, Corrupt, UnicodeDecodeError):
            pass  # a cache that cannot be used is none
        return None


def manifest_of(chosen: Sequence[Package], suites: Sequence[index.Suite], *, suite: str, architecture: str) -> Manifest:
    """Return the manifest of packages that were chosen from `suites`."""
    packages = []
    for package in chosen:
        origin = next(
            other for other in suites if (found := other.find(package.name)) and found.sha256 == package.sha256
        )
        packages.append((origin.name, package))
    date = max(other.date for other in suites)
    return Manifest(suite=suite, architecture=architecture, date=date, packages=tuple(packages))
