"""What of an image is old: dpkg's records in it, compared with the signed index as it is now.

The records are the image's own (`var/lib/dpkg/status`, or `status.d` in a base without dpkg), so whatever was installed
on top of a stand-in counts too, and an image from a registry is looked at the same way. They are hostile, and only
read: the names of packages and their versions.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sampan.build import unpacking
from sampan.build.cache import Result
from sampan.build.debian import bootstrap, index, root, version
from sampan.build.debian.mirror import Mirror
from sampan.build.debian.stanza import fields_of
from sampan.database.connection import Database
from sampan.database.lease import Lease
from sampan.errors import InvalidArgument, SampanError
from sampan.image.content import Content
from sampan.image.store import Image, Images
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.runtime import target
from sampan.settings import apt as apts
from sampan.settings.configuration import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.events import Sink

_RECORDS = "var/lib/dpkg/status.d"
_MAX_PACKAGES = 50_000
_SUITES = ("bullseye", "bookworm", "trixie", "forky", "sid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A package that the index has newer; `is_security`: the security archive has one that is newer."""

    package: str
    installed: str
    available: str
    is_security: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one image: `date` is that of the index."""

    image: str
    suite: str
    date: str
    packages: int
    updates: tuple[Update, ...]

    def summary(self) -> str:
        """Say it in one line."""
        what = f"{self.image}: {self.packages} packages of Debian's {self.suite}"
        if not self.updates:
            return f"{what}, none behind the index of {self.date}"
        security = sum(update.is_security for update in self.updates)
        how = f", {security} with a security update" if security else ""
        return f"{what}, {len(self.updates)} behind the index of {self.date}{how}"

    def document(self) -> "Document":
        """Say it all, for JSON."""
        return {
            "Image": self.image,
            "Suite": self.suite,
            "Date": self.date,
            "Packages": self.packages,
            "Outdated": [
                {"Package": u.package, "Installed": u.installed, "Available": u.available, "Security": u.is_security}
                for u in self.updates
            ],
        }


def check(
    settings: Settings, database: Database, names: Sequence[str], *, sink: "Sink", clock: Callable[[], float]
) -> list[Report]:
    """Return a report on each image that `names` name, or on all stand-ins.

    Raises NotFound, InvalidArgument for an image without Debian's packages, Unavailable where there is no mirror.
    """
    images = Images(database)
    chosen = [(name, images.find(name)) for name in names] or list(_stand_ins(images))
    apt = apts.load(settings)
    known: dict[str, list[index.Suite]] = {}
    reports = []
    with Lease(database, "outdated") as lease, Mirror(apt, settings) as mirror:
        for name, image in chosen:
            pairs = zip(image.layers, image.diff_ids, strict=True)
            layers = [Result(digest, Digest.parse(diff_id), 0, {}) for digest, diff_id in pairs]
            content, is_root = Content(settings.root, lease), settings.uid == 0
            directories = unpacking.lowers(layers, content, database, lease=lease, is_root=is_root, sink=sink)
            suite, packages = _packages(directories, image, name)
            if suite not in known:
                known[suite] = index.load(
                    apt,
                    mirror,
                    suite=suite,
                    architecture=str(image.config.get("architecture", "")),
                    cache=f"{settings.root}/cache/debian",
                    clock=clock,
                    sink=sink,
                )
            reports.append(compare(name, suite, packages, known[suite]))
    return reports


def _stand_ins(images: Images) -> "list[tuple[str, Image]]":
    found = []
    for image in images.list():
        labels = (image.config.get("config") or {}).get("Labels") or {}
        # A build on top of one has inherited its labels, and not its name.
        stands_for = labels.get(bootstrap.NAME_LABEL, "")
        names = [Reference.parse(name).familiar() for name in image.names]
        if labels.get(bootstrap.KIND_LABEL) == bootstrap.KIND and stands_for in names:
            found.append((stands_for, image))
    return sorted(found, key=lambda pair: pair[0])


def _packages(directories: Sequence[str], image: Image, name: str) -> tuple[str, dict[str, str]]:
    """Return the suite of an image whose layers are unpacked in `directories`, and its packages with their versions."""
    stanzas = bootstrap.read(directories, root.STATUS).split(b"\n\n")
    stanzas += _recorded(directories)
    packages = {}
    for stanza in stanzas[:_MAX_PACKAGES]:
        fields = fields_of(stanza)
        if fields.get("Status", "install ok installed").endswith(" installed") and fields.get("Version"):
            packages[fields.get("Package", "")] = fields["Version"]
    if not packages:
        raise InvalidArgument(f"`{name}` has no records of Debian's packages")
    return _suite(directories, image, name), packages


def _recorded(directories: Sequence[str]) -> list[bytes]:
    """Return the stanzas of a base without dpkg, which keeps one file for each package."""
    for directory in directories:
        root_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = target.find(root_fd, _RECORDS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        finally:
            os.close(root_fd)
        try:
            names = os.listdir(fd)[:_MAX_PACKAGES]
        finally:
            os.close(fd)
        return [bootstrap.read(directories, f"{_RECORDS}/{name}") for name in sorted(names)]
    return []


def _suite(directories: Sequence[str], image: Image, name: str) -> str:
    labels = (image.config.get("config") or {}).get("Labels") or {}
    release = bootstrap.read(directories, "usr/lib/os-release") or bootstrap.read(directories, "etc/os-release")
    words = dict(line.partition("=")[::2] for line in release.decode(errors="replace").splitlines())
    suite = labels.get(bootstrap.SUITE_LABEL) or words.get("VERSION_CODENAME", "").strip('"')
    if suite not in _SUITES:
        raise InvalidArgument(f"`{name}` is not of a release of Debian that is known here: `{str(suite)[:40]}`")
    return str(suite)


def compare(name: str, suite: str, packages: dict[str, str], suites: Sequence[index.Suite]) -> Report:
    """Return the report on `packages` (name -> installed version) against the indexes `suites`."""
    updates = []
    for package, installed in sorted(packages.items()):
        newer = [
            (found.version, other.name.endswith("-security"))
            for other in suites
            if (found := other.find(package)) and _is_newer(found.version, installed)
        ]
        if newer:
            available = max((text for text, _ in newer), key=version.key)
            is_security = any(of_security for _, of_security in newer)
            updates.append(Update(package=package, installed=installed, available=available, is_security=is_security))
    date = max(other.date for other in suites)
    return Report(image=name, suite=suite, date=date, packages=len(packages), updates=tuple(updates))


def _is_newer(available: str, installed: str) -> bool:
    try:
        return version.compare(available, installed) > 0
    except (ValueError, SampanError):
        return False  # what the image calls a version is none
