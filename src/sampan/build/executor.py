"""The executors that a build's graph needs: base, packs of wheels, the application. Hot: imports when it makes.

`Executors` hands out one for each kind of vertex. The rules that make bytes of entries are in `layer`.
"""

import io
import os
from functools import partial

from sampan.build import entry as entries
from sampan.build import layer
from sampan.build.python import lower
from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sampan.build.cache import Result
    from sampan.build.context import Context
    from sampan.build.entry import Entry
    from sampan.build.graph import Vertex
    from sampan.build.layer import Closable
    from sampan.build.python.plan import Plan
    from sampan.build.session import Session
    from sampan.build.solver import Executor
    from sampan.document import Document

    Work = Sequence[tuple[Vertex, tuple[Result, ...]]]

WORKDIR = "app"


class Executors:
    """Kind -> executor, for one build. `manifest` is the base's."""

    __slots__ = ("_manifest", "_plan", "_session")

    def __init__(self, session: "Session", plan: "Plan", manifest: "Document") -> None:
        self._session = session
        self._plan = plan
        self._manifest = manifest

    def __getitem__(self, kind: str) -> "Executor":
        """Return the executor for `kind`."""
        match kind:
            case lower.BASE:
                return _Base(self._session, self._plan.release.python, self._manifest)
            case lower.WHEEL:
                from sampan.build import pin
                from sampan.build.python import wheel

                return wheel.Maker(pin.uv(self._session, self._plan), self._session)
            case lower.BYTECODE:
                from sampan.build.python import bytecode

                return bytecode.Maker(self._session, self._plan.release.python)
            case lower.WHEELS:
                return _Pack(self._session, self._plan.site)
            case lower.APPLICATION:
                return _Application(self._session)
            case _:
                raise Internal(f"no executor makes `{kind}`")


class _Base:
    """Makes the base layer of the manifest's packages."""

    def __init__(self, session: "Session", python: str, manifest: "Document") -> None:
        self._session = session
        self._python = python
        self._manifest = manifest

    def make(self, work: "Work") -> "list[Result]":
        from sampan.build.debian import base

        # That it is there tells the next build, if this one is killed, to look for files that it left in the caches.
        os.makedirs(self._session.scratch, exist_ok=True)
        maker = base.Maker(self._session.settings, clock=self._session.clock, sink=self._session.sink)
        manifest = base.parse_manifest(self._manifest, "`sampan.lock`")
        found = maker.entries(manifest, self._python)
        record = {"packages": len(manifest.packages), "date": manifest.date}
        return [layer.write_entries(self._session.content, found, record) for _ in work]


class _Pack:
    """Puts the fragments of wheels into one layer, after the directories that all of them need."""

    def __init__(self, session: "Session", site: str) -> None:
        self._session = session
        self._site = site

    def make(self, work: "Work") -> "list[Result]":
        return [self._layer(fragments) for _, fragments in work]

    def _layer(self, fragments: "tuple[Result, ...]") -> "Result":
        site = f"{self._site.lstrip('/')}/x"
        needed = {*entries.parents([site, "usr/local/bin/x"])}
        needed.update(*(fragment.record["directories"] for fragment in fragments))
        above = [entries.directory(path) for path in sorted(needed)]
        head = io.BytesIO()
        layer.fragment(above, head)
        head.seek(0)
        openers: list[Callable[[], Closable]] = [lambda: head]
        openers += [partial(self._session.cache.open_fragment, fragment) for fragment in fragments]
        return layer.write(self._session.content, openers, {"wheels": [item.record["wheel"] for item in fragments]})


class _Application:
    """Makes the layer of the project's own files: root's, readable by all, written by none."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def make(self, work: "Work") -> "list[Result]":
        context = self._session.context
        record = {"files": len(context.files)}
        return [layer.write_entries(self._session.content, list(_entries(context)), record) for _ in work]


def _entries(context: "Context") -> "Iterator[Entry]":
    yield entries.directory(WORKDIR)
    for path in sorted({*context.directories, *entries.parents([file.path for file in context.files])}):
        yield entries.directory(f"{WORKDIR}/{path}")
    for file in context.files:
        path = f"{WORKDIR}/{file.path}"
        if file.target:
            yield entries.link(path, file.target)
        else:
            yield entries.stamped(path, context.content(file), file.hash, 0o755 if file.is_executable else 0o644)
