"""The front-end for Python projects: a directory becomes an image in the store. Hot.

    scan files -> detect -> plan -> lock (resolve what it lacks) -> graph -> solve -> config and manifest -> store

A change of code touches the application's layer and nothing else, in some 20 ms: so what resolves, fetches and installs
is imported only when something is missing. Whatever is made is stored whole before it is recorded, under a lease, so
that a build can be killed at any point, run beside others, and be repeated.
"""

import os

from sampan.build import config, pin
from sampan.build import context as contexts
from sampan.build import lock as locks
from sampan.build.executor import Executors
from sampan.build.graph import Vertex
from sampan.build.options import Options
from sampan.build.python import detect, lower
from sampan.build.python import plan as plans
from sampan.build.session import Session
from sampan.build.solver import solve
from sampan.database.lease import Lease
from sampan.errors import NotFound
from sampan.events import Event
from sampan.image.content import Content
from sampan.image.store import Images
from sampan.oci import image as documents
from sampan.storage.space import saying_how_to_free_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.build.cache import Result
    from sampan.build.context import Context
    from sampan.build.lock import Lock
    from sampan.build.python.plan import Plan
    from sampan.database.connection import Database
    from sampan.document import Document
    from sampan.events import Sink
    from sampan.image.store import Image
    from sampan.oci.digest import Digest
    from sampan.oci.reference import Reference
    from sampan.settings.configuration import Settings

# How inputs become bytes, by kind: part of keys, raised when the bytes for the same input change.
APPLICATION_VERSION = 1
WHEEL_VERSION = 2
BYTECODE_VERSION = 2
LAYOUT_VERSION = 1


def build(
    settings: "Settings",
    database: "Database",
    directory: str,
    *,
    tags: "Sequence[Reference]",
    options: Options,
    epoch: int | None,
    sink: "Sink",
    clock: "Callable[[], float]",
) -> "tuple[Image, Plan]":
    """Build the project in `directory`, name the image by `tags`, and return it with the plan behind it.

    Raises NotFound and InvalidArgument for what is wrong with the project, Unavailable where index or mirror cannot be
    reached, Corrupt for what was tampered with. Whatever it raises, store and project are as they were.
    """
    context = contexts.scan(directory)
    plan = _plan(directory, context)
    for choice in plan.choices:
        sink(Event("choice", choice.what, choice.text()))
    with saying_how_to_free_space(settings.root), Lease(database, "build") as lease:
        content = Content(settings.root, lease)
        with Session(
            settings=settings,
            database=database,
            content=content,
            lease=lease,
            context=context,
            options=options,
            sink=sink,
            clock=clock,
        ) as session:
            return _Build(session, plan, epoch).image(tags), plan


def emit_dockerfile(directory: str) -> str:
    """Return the plan for the project in `directory` as a Dockerfile."""
    from sampan.build.python import dockerfile

    return dockerfile.emit(_plan(directory, contexts.scan(directory)))


def _plan(directory: str, context: "Context") -> "Plan":
    """Understand the project."""
    paths = [file.path for file in context.files]
    files = {}
    for file in context.files:
        if not file.target and file.size_bytes <= detect.MAX_FILE_BYTES and detect.is_interesting(file.path):
            files[file.path] = context.read(file)
    return plans.make(detect.detect(_shown(directory), files, paths))


def _shown(directory: str) -> str:
    """Return a directory as a person would type it here."""
    relative = os.path.relpath(directory)
    return directory if relative.startswith("..") else "." if relative == "." else f"./{relative}"


class _Build:
    """One build, from pins to the image."""

    def __init__(self, session: Session, plan: "Plan", epoch: int | None) -> None:
        self._session = session
        self._plan = plan
        self._created = documents.EPOCH if epoch is None else documents.rfc3339(epoch)
        self._lock: Lock = locks.read(session.context.root)

    def image(self, tags: "Sequence[Reference]") -> "Image":
        """Make what is missing, and record the image under its names."""
        session = self._session
        pinned = pin.wheels(session, self._plan, self._lock)
        manifest, base = self._base()
        vertices = lower.wheels(self._plan, pinned, manifest, WHEEL_VERSION)
        solved = self._solve(vertices)
        targets = [
            lower.bytecode(self._plan, manifest, BYTECODE_VERSION),
            *lower.pack(vertices, [solved[vertex.digest] for vertex in vertices]),
            Vertex(
                lower.APPLICATION, "application", {"version": APPLICATION_VERSION, "files": session.context.digest.hex}
            ),
        ]
        solved = self._solve(targets)
        pin.write(session, self._lock)
        layers = [base, *((vertex, solved[vertex.digest]) for vertex in targets)]
        raw, made = config.build(self._plan, layers, architecture=session.options.architecture, created=self._created)
        images = Images(session.database)
        with session.database.transaction():
            image = images.add(raw, made, session.content)
            for reference in tags:
                images.tag(image.id, reference)
        return images.find(image.id)

    def _base(self) -> "tuple[Document, tuple[Vertex, Result]]":
        """Return the base's manifest and layer, chosen anew where a locked package has gone from the mirror."""
        manifest = pin.base(self._session, self._plan, self._lock)
        try:
            return manifest, self._base_of(manifest)
        except NotFound as error:
            manifest = pin.base_vanished(self._session, self._plan, self._lock, error)
            return manifest, self._base_of(manifest)

    def _base_of(self, manifest: "Document") -> "tuple[Vertex, Result]":
        vertex = lower.base(self._plan, manifest, LAYOUT_VERSION)
        result = self._solve([vertex], manifest)[vertex.digest]
        self._session.base = result
        return vertex, result

    def _solve(self, targets: "Sequence[Vertex]", manifest: "Document | None" = None) -> "dict[Digest, Result]":
        session = self._session
        executors = Executors(session, self._plan, manifest or {})
        return solve(targets, executors, session.cache, session.sink, no_cache=session.options.no_cache)
