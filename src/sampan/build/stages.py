"""The front-end for Dockerfiles: text, context and base images become an image in the store. Hot.

    read -> parse -> group into stages -> lower (bases resolved, the context's files hashed) -> solve -> config -> store

A build in which nothing changed reads the file, hashes what COPY takes and looks each step up: what copies, runs and
unpacks is imported only when a step has to be made. What is made is stored whole before it is recorded, under a lease.
"""

import os

from sampan.build import ignore
from sampan.build.dockerfile import lower as lowering
from sampan.build.dockerfile import parser, stage
from sampan.build.dockerfile.lower import Request, lower
from sampan.build.dockerfile.state import PROXIES, Base
from sampan.build.solver import solve
from sampan.build.stock import Stock, is_empty
from sampan.build.tree import Directory
from sampan.build.workshop import Workshop
from sampan.database.lease import Lease
from sampan.errors import Internal, InvalidArgument, NotFound, Place, SampanError
from sampan.events import Event
from sampan.image.content import Content
from sampan.image.store import Images
from sampan.oci import image as documents
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.settings import preference
from sampan.storage.space import saying_how_to_free_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from sampan.build.cache import Result
    from sampan.build.dockerfile.instruction import Instruction
    from sampan.build.dockerfile.lower import Lowered
    from sampan.build.graph import Vertex
    from sampan.build.ignore import Rules
    from sampan.build.runner import Runs
    from sampan.build.solver import Executor
    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.events import Sink
    from sampan.image.store import Image
    from sampan.settings.configuration import Settings

NAMES = ("Dockerfile", "dockerfile")
COMMENT = "sampan.dockerfile.v0"
_IGNORE_BYTES = 1 << 20
_OCI_LAYERS = {documents.DOCKER_LAYER: documents.OCI_LAYER, documents.DOCKER_LAYER_GZIP: documents.OCI_LAYER_GZIP}


class Options:
    """How to build: `file` is the Dockerfile's path, `content` its text where it came by another way.

    `is_fresh` asks the registry for each base, whether it is here or not.
    """

    __slots__ = ("content", "file", "is_fresh", "no_cache", "request", "secrets", "tags")

    def __init__(
        self,
        request: Request,
        *,
        file: str = "",
        content: bytes | None = None,
        tags: "Sequence[Reference]" = (),
        no_cache: bool = False,
        is_fresh: bool = False,
        secrets: "Mapping[str, bytes] | None" = None,
    ) -> None:
        self.request = request
        self.file = file
        self.content = content
        self.tags = tuple(tags)
        self.no_cache = no_cache
        self.is_fresh = is_fresh
        self.secrets = dict(secrets or {})


def find(directory: str) -> str:
    """Return the path of the Dockerfile in `directory`, `""` where there is none."""
    return next((path for name in NAMES if os.path.isfile(path := f"{directory}/{name}")), "")


def build(
    settings: "Settings",
    database: "Database",
    directory: str,
    options: Options,
    *,
    sink: "Sink",
    clock: "Callable[[], float]",
) -> "Image":
    """Build the Dockerfile with the context `directory`, name the image, and return it.

    Raises InvalidArgument and NotFound with a place for what is wrong with the file, what a pull raises for a base that
    is not here, and what a step's failure is; whatever it raises, the store is as it was.
    """
    shown, content = text(directory, options.file) if options.content is None else (NAMES[0], options.content)
    dockerfile = parser.parse(content, shown)
    if "error=true" in dockerfile.directives.get("check", ""):
        sink(Event("warning", shown, "`# check=error=true`: a build does not check, `sampan lint` does"))
    stages = stage.group(dockerfile)
    with saying_how_to_free_space(settings.root), Lease(database, "build") as lease:
        workshop = Workshop(
            settings=settings,
            database=database,
            content=Content(settings.root, lease),
            lease=lease,
            sink=sink,
            clock=clock,
        )
        context = Directory(directory)
        try:
            with workshop:
                stock = Stock(workshop, context, rules(directory, options.file) or ignore.Rules([]))
                world = _World(workshop, stock, is_fresh=options.is_fresh)
                return _Build(world, options).image(lower(stages, options.request, world))
        finally:
            context.close()


def text(directory: str, file: str) -> tuple[str, bytes]:
    """Return how the Dockerfile is called, and its text; raises NotFound, InvalidArgument."""
    path = file or find(directory)
    if not path:
        raise NotFound(f"there is no Dockerfile in `{directory}`", hints=_near(directory, NAMES[0]))
    try:
        with open(path, "rb") as opened:
            content = opened.read(parser.MAX_BYTES + 1)
    except FileNotFoundError as error:
        above, _, name = path.rpartition("/")
        raise NotFound(f"there is no Dockerfile `{path}`", hints=_near(above or ".", name)) from error
    except IsADirectoryError as error:
        hints = (f"name the file: `-f {path.rstrip('/')}/Dockerfile`",)
        raise InvalidArgument(f"`{path}` is a directory, not a Dockerfile", hints=hints) from error
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative, content


def rules(directory: str, file: str) -> "Rules | None":
    """Read the ignore file: the Dockerfile's own, beside it, else the context's; None where there is neither."""
    path = file or find(directory)
    for place in (f"{path}.dockerignore" if path else "", f"{directory}/.dockerignore"):
        try:
            with open(place, "rb") as opened:
                return ignore.parse(opened.read(_IGNORE_BYTES), place.rpartition("/")[2], defaults=())
        except (FileNotFoundError, IsADirectoryError):
            continue
    return None


def _near(directory: str, name: str) -> tuple[str, ...]:
    """Suggest the file that was perhaps meant."""
    import difflib

    try:
        names = {found.lower(): found for found in os.listdir(directory)}
    except OSError:
        return ()
    near = difflib.get_close_matches(name.lower(), names, 1)
    if not near:
        return ("`-f FILE` names a Dockerfile that is called otherwise",)
    return (f"did you mean `-f {directory.rstrip('/')}/{names[near[0]]}`?",)


class _World:
    """What lowering asks of the machine."""

    def __init__(self, workshop: Workshop, stock: Stock, *, is_fresh: bool) -> None:
        self.workshop = workshop
        self.stock = stock
        self._is_fresh = is_fresh
        self.images: dict[str, Image] = {}

    def image(self, name: str, at: Place) -> Base:
        """Return a base: the image of the store, else what a registry has."""
        try:
            image = self._fetch(name) if self._is_fresh else Images(self.workshop.database).find(name)
        except NotFound as error:
            image = self._fetch_instead(name, at, error)
        except SampanError as error:
            error.at = error.at or at
            raise
        chain_id = self.stock.add(image)
        self.images[chain_id] = image
        return Base(name, image.config, chain_id)

    def _fetch_instead(self, name: str, at: Place, missing: NotFound) -> "Image":
        """Return what a registry has; its error also says what is nearly called so here."""
        try:
            return self._fetch(name)
        except SampanError as error:
            error.at = error.at or at
            error.hints = (*_told(missing), *error.hints)
            raise

    def _fetch(self, name: str) -> "Image":
        """Pull an image."""
        # Only where there is something to fetch: it brings the whole of HTTP.
        from sampan.image import transfer

        workshop = self.workshop
        return transfer.pull(workshop.settings, workshop.database, Reference.parse(name), sink=workshop.sink).image

    def files(self, sources: "Sequence[str]", excludes: "Sequence[str]", item: "Instruction") -> str:
        """Return the digest of what an instruction takes of the context."""
        picker = self.stock.picker
        return picker.digest(picker.pick(sources, excludes, item.statement.at)).hex


def _told(error: NotFound) -> tuple[str, ...]:
    return tuple(hint for hint in error.hints if hint.startswith("did you mean"))


class _Build:
    """From vertices to the image."""

    def __init__(self, world: _World, options: Options) -> None:
        self._world = world
        self._options = options
        self._workshop = world.workshop

    def image(self, lowered: "Lowered") -> "Image":
        """Make what is missing, and record the image under its names."""
        workshop, state = self._workshop, lowered.state
        for place, warning in lowered.warnings:
            workshop.warn(f"{place.path}:{place.line}", warning)
        self._world.stock.places.update(lowered.places)
        with _Executors(self._world.stock, self._options) as executors:
            solved = solve(
                state.chain,
                executors,
                workshop.cache,
                workshop.sink,
                no_cache=self._options.no_cache,
                on_missing=executors.expect,
            )
        raw, made = self._documents(lowered, solved)
        images = Images(workshop.database)
        with workshop.database.transaction():
            image = images.add(raw, made, workshop.content)
            for reference in self._options.tags:
                images.tag(image.id, reference)
        return images.find(image.id)

    def _documents(self, lowered: "Lowered", solved: "Mapping[Digest, Result]") -> tuple[bytes, bytes]:
        """Return config and manifest (image-spec config.md)."""
        state = lowered.state
        under = state.base.config
        layers = [solved[vertex.digest] for vertex in state.chain]
        filled = [layer for layer in layers if not is_empty(layer)]
        created = self._created(under, layers)
        history = [*(under.get("history") or []), *_history(state.history, solved, created)]
        diff_ids = [layer.diff_id for layer in filled if layer.diff_id is not None]
        built = documents.build_config(
            [*self._base_diff_ids(state.base.chain_id), *diff_ids],
            platform=documents.Platform("linux", self._options.request.architecture),
            settings={key: value for key, value in state.config.items() if value not in (None, [], {}, "")},
            history=history,
            created=created,
            author=state.author,
        )
        if len(built.diff_ids) > documents.MAX_LAYERS:
            hints = ("join RUN instructions with `&&`",)
            raise InvalidArgument(f"the image has more than {documents.MAX_LAYERS} layers", hints=hints)
        descriptor = documents.Descriptor(documents.OCI_CONFIG, Digest.of(built.raw), len(built.raw))
        blobs = [layer.descriptor() for layer in filled]
        manifest = documents.build_manifest(descriptor, [*self._base_blobs(state.base.chain_id), *blobs])
        return built.raw, manifest.raw

    def _base_diff_ids(self, chain_id: str) -> list[Digest]:
        return [Digest.parse(diff_id) for diff_id in self._world.images[chain_id].diff_ids] if chain_id else []

    def _base_blobs(self, chain_id: str) -> "list[documents.Descriptor]":
        """Return the base's layers, in OCI's words."""
        if not chain_id:
            return []
        raw = self._workshop.content.read(self._world.images[chain_id].manifest)
        return [
            documents.Descriptor(_OCI_LAYERS.get(layer.media_type, layer.media_type), layer.digest, layer.size_bytes)
            for layer in documents.parse_manifest(raw).layers
        ]

    def _created(self, under: "Document", layers: "Sequence[Result]") -> str:
        """Return the image's time: SOURCE_DATE_EPOCH's, else the newest layer's, so that the cache gives the same."""
        if self._options.request.epoch is not None:
            return documents.rfc3339(self._options.request.epoch)
        newest = max((layer.record.get("created", 0) for layer in layers), default=0)
        if newest:
            return documents.rfc3339(newest)
        found = under.get("created")
        return found if isinstance(found, str) else documents.EPOCH


class _Executors:
    """Kind -> executor, for one build; imported when something has to be made."""

    def __init__(self, stock: Stock, options: Options) -> None:
        self._stock = stock
        self._options = options
        self._runs: Runs | None = None

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._runs is not None:
            self._runs.close()

    def expect(self, kinds: set[str]) -> None:
        """Have made ready what takes a while, if it will be needed."""
        if lowering.RUN in kinds:
            self._run().expect()

    def __getitem__(self, kind: str) -> "Executor":
        """Return the executor for `kind`."""
        match kind:
            case lowering.COPY:
                from sampan.build import copier

                return copier.Copies(self._stock)
            case lowering.DIRECTORY:
                from sampan.build import copier

                return copier.Directories(self._stock)
            case lowering.RUN:
                return self._run()
            case _:
                raise Internal(f"no executor makes `{kind}`")

    def _run(self) -> "Runs":
        if self._runs is None:
            from sampan.build import runner

            options = self._options
            given = preference.proxies(self._stock.workshop.settings.docker_file) | dict(options.request.arguments)
            proxies = [f"{name}={given[name]}" for name in PROXIES if name in given]
            self._runs = runner.Runs(self._stock, options.secrets, proxies, no_cache=options.no_cache)
        return self._runs


def _history(
    entries: "Sequence[tuple[str, Vertex | None]]", solved: "Mapping[Digest, Result]", created: str
) -> "list[Document]":
    found: list[Document] = []
    for command, vertex in entries:
        told: Document = {"created": created, "created_by": command, "comment": COMMENT}
        if vertex is None or is_empty(solved[vertex.digest]):
            told["empty_layer"] = True
        found.append(told)
    return found
