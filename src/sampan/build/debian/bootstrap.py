"""Making a stand-in for an image from signed Debian packages, where no registry can be reached.

Theory of operation. An image is a chain of stages: `debian`, and what stands on it. Each stage is two layers: the files
of its packages, laid out by our own code (`root`), and what configuring them changed, by `dpkg --configure` and the
recipe's script in a step without a network. Both are in the build cache under a digest of the packages' hashes, so a
stage is made once for all images that stand on it, and a second bootstrap asks the mirror for what is newer and makes
nothing that is not. Times in the layers end with the newest file of the packages: equal packages, equal layers.

The image's labels say what it stands in for and what is inside; dpkg's own records in it say the rest (`outdated`).
"""

import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sampan.build import entry as entries
from sampan.build import layer, step, unpacking
from sampan.build.cache import Cache, Result
from sampan.build.debian import closure, index, recipe, root
from sampan.build.debian.base import Manifest, manifest_of
from sampan.build.debian.mirror import Mirror, unreachable_hints
from sampan.build.debian.pool import Pool
from sampan.build.debian.recipe import Recipe, Release
from sampan.build.debian.stanza import Package
from sampan.build.entry import Entry
from sampan.build.graph import Vertex
from sampan.build.scratch import Scratch
from sampan.build.scratch import sweep as sweep_scratch
from sampan.database.connection import Database
from sampan.database.lease import Lease
from sampan.errors import Internal, NotFound, SampanError, Unsupported
from sampan.events import Event
from sampan.image.content import Content
from sampan.image.store import Image, Images
from sampan.kernel import syscalls
from sampan.oci import image as documents
from sampan.oci.architecture import NAMES
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.runtime import target
from sampan.runtime.holder import is_single_id
from sampan.settings import apt as apts
from sampan.settings.configuration import Settings
from sampan.storage.space import saying_how_to_free_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.events import Sink

KIND_LABEL = "io.sampan.kind"
KIND = "bootstrap"
NAME_LABEL = "io.sampan.stands-in-for"
SUITE_LABEL = "io.sampan.debian.suite"
# Raised when the script below, or how a recipe is applied, changes.
_VERSION = 1
_MAX_FILE_BYTES = 64 << 20
_CONFIGURE_SECONDS = 1800.0
_NO_SERVICES = b"#!/bin/sh\n# an image's services are not started while it is made\nexit 101\n"
_SCRIPT = """
if [ -n "$BEFORE" ]; then /bin/sh -c "$BEFORE" || exit; fi
dpkg --configure -a || exit
ldconfig
if [ -n "$RECIPE" ]; then /bin/sh -c "$RECIPE" || exit; fi
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old
rm -rf /var/lib/dpkg/*-old /var/log/apt /var/log/*.log /var/log/faillog /var/log/lastlog /var/log/btmp /var/log/wtmp
rm -rf /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /root/.cache
find /tmp /var/tmp /run -mindepth 1 -maxdepth 1 ! -path /run/sampan ! -path /run/lock -exec rm -rf {} +
if [ -s /etc/machine-id ]; then : > /etc/machine-id; fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A stand-in as it is stored, what is inside (`MySQL 9.7.4`), and how many packages."""

    image: Image
    inside: str
    packages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What a stage came to: its layers on all below, its packages, and their newest time."""

    layers: tuple[Result, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    packages: tuple[Package, ...] = ()
    newest: int = 0


def bootstrap(
    settings: Settings,
    database: Database,
    reference: Reference,
    *,
    no_cache: bool = False,
    sink: "Sink",
    clock: Callable[[], float],
) -> Made:
    """Make the stand-in that `reference` names, tag it so, and return it.

    Raises NotFound and InvalidArgument for what there is no recipe for, Unavailable where the mirror cannot be reached.
    """
    found = recipe.find(reference)
    machine = os.uname().machine
    if machine not in NAMES:
        raise Unsupported(f"there are no packages for the processor `{machine}`")
    sweep_scratch(settings.root)
    with (
        saying_how_to_free_space(settings.root),
        Lease(database, "bootstrap") as lease,
        Scratch(settings.root) as scratch,
        Mirror(apts.load(settings), settings) as mirror,
    ):
        ground = _Ground(settings, database, Content(settings.root, lease), lease, scratch.path, sink, clock)
        return _Bootstrap(ground, mirror, NAMES[machine], no_cache=no_cache).image(found, reference)


@dataclass(frozen=True, slots=True)
class _Ground:
    """All that a step needs (`step.Ground`), and a clock."""

    settings: Settings
    database: Database
    content: Content
    lease: Lease
    scratch: str
    sink: "Sink"
    clock: Callable[[], float]


class _Bootstrap:
    """One bootstrap, from the index to the image."""

    def __init__(self, ground: _Ground, mirror: Mirror, architecture: str, *, no_cache: bool) -> None:
        self._ground = ground
        self._mirror = mirror
        self._apt = apts.load(ground.settings)
        self._architecture = architecture
        self._no_cache = no_cache
        self._cache = Cache(ground.database, ground.content, ground.clock)
        self._is_root = ground.settings.uid == 0
        self._pool = Pool(self._apt, mirror, f"{ground.settings.root}/cache")
        self._suites: dict[str, list[index.Suite]] = {}

    def image(self, wanted: Recipe, reference: Reference) -> Made:
        """Make the image and record it under its name."""
        release = self._release(wanted)
        for text in wanted.warnings:
            self._ground.sink(Event("warning", reference.familiar(), text))
        stage = self._stage(wanted, release)
        main = next(package for package in stage.packages if package.name == release.main)
        version = _upstream(main.version)
        inside = release.product if wanted.repository == "debian" else f"{release.product.split()[0]} {version}"
        self._ground.sink(Event("choice", "inside", f"{inside}, of Debian's {release.suite}"))
        if wanted.is_other(release, version):
            named = wanted.title if not wanted.version[:1].isdigit() else f"{wanted.title} {wanted.version}"
            text = f"{inside} is inside, where the name says {named}"
            self._ground.sink(Event("warning", reference.familiar(), text))
        raw, manifest = self._documents(wanted, release, stage, reference, main)
        images, database = Images(self._ground.database), self._ground.database
        with database.transaction():
            image = images.add(raw, manifest, self._ground.content)
            images.tag(image.id, reference)
        return Made(image=images.find(image.id), inside=inside, packages=len(stage.packages))

    def _release(self, wanted: Recipe) -> Release:
        """Return the first release that the mirror has with the packages that are asked for."""
        failure: SampanError | None = None
        for number, release in enumerate(wanted.releases, 1):
            try:
                suites = self._load(release.suite)
                if any(suite.find(release.main) for suite in suites):
                    return release
                failure = NotFound(f"Debian's {release.suite} has no package `{release.main}`")
            except NotFound as error:
                failure = error
            if number < len(wanted.releases):
                text = f"{release.product} of {release.suite} cannot be had here: {failure.what}"
                self._ground.sink(Event("choice", "release", text))
        raise failure or Internal(f"the recipe of `{wanted.repository}` has no releases")

    def _load(self, suite: str) -> list[index.Suite]:
        if suite not in self._suites:
            cache = f"{self._ground.settings.root}/cache/debian"
            try:
                self._suites[suite] = index.load(
                    self._apt,
                    self._mirror,
                    suite=suite,
                    architecture=self._architecture,
                    cache=cache,
                    clock=self._ground.clock,
                    sink=self._ground.sink,
                )
            except NotFound as error:
                hints = ("a mirror drops old releases: name one that keeps them", *unreachable_hints()[1:])
                raise NotFound(f"the Debian mirror of this machine has no release `{suite}`", hints=hints) from error
        return self._suites[suite]

    def _stage(self, wanted: Recipe, release: Release) -> _Stage:
        """Make what `wanted` consists of, from the lowest layer on."""
        below = _Stage()
        if wanted.below:
            name = Reference.parse(f"{wanted.below}:{release.suite}-slim")
            lower = recipe.find(name)
            below = self._stage(lower, lower.releases[0])
        suites = self._load(release.suite)
        roots = [*release.packages, *wanted.packages]
        if not wanted.below:
            roots = [*suites[0].packages.required(), "apt", "debian-archive-keyring", *roots]
        chosen = closure.close(roots, suites, frozenset(), below.packages)
        manifest = manifest_of(chosen, suites, suite=release.suite, architecture=self._architecture)
        files, newest = self._files(wanted, manifest, below)
        under = [*below.layers, files]
        configured = self._configured(wanted, under, max(newest, below.newest))
        return _Stage(
            layers=(*under, configured),
            manifests=(*below.manifests, manifest),
            packages=(*below.packages, *chosen),
            newest=max(newest, below.newest),
        )

    def _files(self, wanted: Recipe, manifest: Manifest, below: _Stage) -> tuple[Result, int]:
        """Return the layer of the packages' files, and their newest time."""
        is_slim, is_lowest = not wanted.has_documents, not below.layers
        options: Document = {
            "layout": root.VERSION,
            "packages": [package.sha256 for _, package in manifest.packages],
            "below": [str(result.diff_id) for result in below.layers],
            "slim": is_slim,
            "sources": self._sources(manifest.suite) if is_lowest else "",
            "files": [[file.path, Digest.of(file.content).hex, file.mode] for file in wanted.files],
        }
        subject = f"{wanted.title} packages"
        key = Vertex("debian files", subject, options).digest
        kept = self._kept(key, subject)
        if kept is not None:
            return kept, kept.record["newest"]
        self._ground.sink(Event("step", subject))
        unpacked = self._pool.read(manifest.packages, root.unpack, self._ground.sink)
        found = root.lay_out(unpacked, self._reader(below.layers), is_slim=is_slim)
        if is_lowest:
            sources = self._sources(manifest.suite).encode()
            found = root.merge(found, root.accounts(found), root.skeleton(sources, is_slim=is_slim))
        newest = max((package.newest for package in unpacked), default=0)
        added = [entries.file(file.path.lstrip("/"), file.content, file.mode) for file in wanted.files]
        found = root.merge(found, added)
        record: Document = {"newest": newest}
        result = layer.write_entries(self._ground.content, _not_after(found, newest), record, layer.QUICK)
        self._cache.store(key, result)
        self._ground.sink(Event("done", subject, f"{len(unpacked)} packages", current=result.size_bytes))
        return result, newest

    def _configured(self, wanted: Recipe, under: Sequence[Result], newest: int) -> Result:
        """Return the layer of what configuring the packages changes."""
        env = {
            "DEBIAN_FRONTEND": "noninteractive",
            "DEBCONF_NONINTERACTIVE_SEEN": "true",
            "LC_ALL": "C.UTF-8",
            # Else the order of sets, and with it compiled files, would differ from run to run.
            "PYTHONHASHSEED": "0",
            "BEFORE": wanted.before,
            "RECIPE": wanted.script,
            "VERSION": wanted.version,
            "SOURCE_DATE_EPOCH": str(newest),
        }
        options: Document = {
            "version": _VERSION,
            "script": _SCRIPT,
            "env": env,
            "below": [str(result.diff_id) for result in under],
            # With a single id all files belong to it: another layer.
            "ids": "one" if not self._is_root and is_single_id() else "all",
        }
        subject = f"{wanted.title} configured"
        key = Vertex("debian configured", subject, options).digest
        kept = self._kept(key, subject)
        if kept is not None:
            return kept
        self._ground.sink(Event("step", subject))
        what = step.Step(
            args=("/bin/sh", "-c", _SCRIPT),
            env=tuple(f"{name}={value}" for name, value in env.items()),
            mounts=(step.File(target="/usr/sbin/policy-rc.d", content=_NO_SERVICES, mode=0o755),),
            network=step.NONE,
        )
        lines = _Lines(lambda text: self._ground.sink(Event("progress", subject, text)))
        try:
            result = step.run(
                self._ground, under, what, output=lines.take, timeout_seconds=_CONFIGURE_SECONDS, epoch=newest
            )
        except step.StepFailed as error:
            raise SampanError(f"the packages of {wanted.title} could not be configured") from error.__cause__
        self._cache.store(key, result)
        self._ground.sink(Event("done", subject, current=result.size_bytes))
        return result

    def _kept(self, key: Digest, subject: str) -> Result | None:
        result = None if self._no_cache else self._cache.find(key)
        if result is not None:
            self._ground.sink(Event("done", subject, "cached", current=result.size_bytes))
        return result

    def _reader(self, layers: Sequence[Result]) -> Callable[[str], bytes]:
        """Return what reads files of a chain of layers."""
        ground = self._ground
        directories: tuple[str, ...] = ()
        if layers:
            directories = unpacking.lowers(
                layers, ground.content, ground.database, lease=ground.lease, is_root=self._is_root, sink=ground.sink
            )
        return lambda path: read(directories, path)

    def _sources(self, suite: str) -> str:
        """Return debian.sources for the image: the mirror that it was made from, without a password."""
        main = index.archive(self._apt).uri
        security = next((other.uri for other in self._apt.archives if other.is_security()), "")
        stanzas = [(main, f"{suite} {suite}-updates"), (security, f"{suite}-security")]
        if suite in index.ROLLING:
            stanzas = [(main, suite)]
        return "\n".join(
            f"Types: deb\nURIs: {_without_password(uri)}\nSuites: {names}\nComponents: main\n"
            for uri, names in stanzas
            if uri.startswith(("http://", "https://"))
        )

    def _documents(
        self, wanted: Recipe, release: Release, stage: _Stage, reference: Reference, main: Package
    ) -> tuple[bytes, bytes]:
        """Return config and manifest."""
        words = {"version": wanted.version, "main_version": _upstream(main.version)}
        config = recipe.fill(wanted.config, words)
        config["Labels"] = {
            KIND_LABEL: KIND,
            NAME_LABEL: reference.familiar(),
            "io.sampan.inside": f"{main.name} {main.version}",
            SUITE_LABEL: release.suite,
            "io.sampan.debian.date": max(manifest.date for manifest in stage.manifests),
            "org.opencontainers.image.version": _upstream(main.version),
        }
        created = _timestamp(stage.newest)
        names = ["packages", "configured"] * (len(stage.layers) // 2)
        history = [{"created": created, "created_by": f"sampan bootstrap: {name}"} for name in names]
        diff_ids = [result.diff_id for result in stage.layers if result.diff_id is not None]
        platform = documents.Platform("linux", self._architecture)
        built = documents.build_config(diff_ids, platform=platform, settings=config, history=history, created=created)
        descriptor = documents.Descriptor(documents.OCI_CONFIG, Digest.of(built.raw), len(built.raw))
        blobs = [result.descriptor() for result in stage.layers]
        return built.raw, documents.build_manifest(descriptor, blobs).raw


class _Lines:
    """Gives each whole line of a step's output to a listener."""

    def __init__(self, listener: Callable[[str], None]) -> None:
        self._listener = listener
        self._rest = b""

    def take(self, piece: bytes) -> None:
        """Take more output."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[-1000:]
        for line in lines:
            if line.strip():
                self._listener(line.decode("utf-8", "replace").strip()[:200])


def read(directories: Sequence[str], path: str) -> bytes:
    """Return a file of a chain of unpacked layers, topmost first; nothing where it is not there, or is no plain file.

    SECURITY: an image's links are not followed.
    """
    rules = syscalls.RESOLVE_NO_SYMLINKS
    for directory in directories:
        root_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = target.find(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, resolve=rules)
        except FileNotFoundError:
            continue
        except OSError:
            return b""
        finally:
            os.close(root_fd)
        with open(fd, "rb") as file:
            return file.read(_MAX_FILE_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    return b""


def _not_after(found: list[Entry], newest: int) -> list[Entry]:
    """Give what has no time of its own the newest of the packages'."""
    for item in found:
        item.mtime = min(item.mtime or newest, newest)
    return found


def _upstream(version: str) -> str:
    """Return the upstream part of a Debian version: `1:10.11.6-0+deb12u1` is 10.11.6."""
    without_epoch = version.rpartition(":")[2]
    upstream = without_epoch.rpartition("-")[0] or without_epoch
    return upstream.partition("+")[0].partition("~")[0]


def _timestamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _without_password(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
