"""Solving a graph: what the cache has is taken, the rest is made, inputs first, all of one kind together. Hot.

Theory of operation. A vertex's digest is its key. Going from the targets towards the inputs, a key that the cache knows
ends the search there: what it was made from need not be. The rest is handed to executors by kind, in waves: each wave
is every vertex whose inputs are solved. Kinds are made together since one run of uv installs ten wheels as fast as one.
An executor stores what it makes before it returns, so a build that is killed leaves whole results or none.
"""

from sampan.errors import Internal
from sampan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from sampan.build.cache import Cache, Result
    from sampan.build.graph import Vertex
    from sampan.events import Sink
    from sampan.oci.digest import Digest

    class Executor(Protocol):
        """Makes vertices of one kind.

        `make` gets vertices with the results of their inputs, and returns a result for each, in their order.
        """

        def make(self, work: "Sequence[tuple[Vertex, tuple[Result, ...]]]") -> "Sequence[Result]":
            """Make every vertex of `work`; raises what went wrong with the first that could not be made."""

    class Executors(Protocol):
        """Hands out the executor of each kind."""

        def __getitem__(self, kind: str, /) -> Executor:
            """Return the executor for `kind`."""


def solve(
    targets: "Sequence[Vertex]",
    executors: "Executors",
    cache: "Cache",
    sink: "Sink",
    *,
    no_cache: bool = False,
    on_missing: "Callable[[set[str]], None]" = lambda _: None,
) -> "dict[Digest, Result]":
    """Return the result of each target by its digest, and of all else that had to be looked at.

    `on_missing` is told of which kinds something is missing, before anything is made.
    """
    solved: dict[Digest, Result] = {}
    with cache.at_once():
        missing = _missing(targets, cache, solved, sink, no_cache=no_cache)
    on_missing({vertex.kind for vertex in missing})
    while missing:
        ready = [vertex for vertex in missing if all(item.digest in solved for item in vertex.inputs)]
        if not ready:
            raise Internal("a build graph has a circle")
        kind = ready[0].kind
        wave = [vertex for vertex in ready if vertex.kind == kind]
        for vertex in wave:
            sink(Event("step", vertex.subject))
        results = executors[kind].make(
            [(vertex, tuple(solved[item.digest] for item in vertex.inputs)) for vertex in wave]
        )
        for vertex, result in zip(wave, results, strict=True):
            cache.store(vertex.digest, result)
            solved[vertex.digest] = result
            sink(Event("done", vertex.subject, current=result.size_bytes))
        missing = [vertex for vertex in missing if vertex.digest not in solved]
    return solved


def _missing(
    targets: "Sequence[Vertex]",
    cache: "Cache",
    solved: "dict[Digest, Result]",
    sink: "Sink",
    *,
    no_cache: bool,
) -> "list[Vertex]":
    """Return the vertices that must be made, and put what the cache has into `solved`."""
    found: dict[Digest, Vertex] = {}
    stack = list(reversed(targets))
    while stack:
        vertex = stack.pop()
        if vertex.digest in solved or vertex.digest in found:
            continue
        result = None if no_cache else cache.find(vertex.digest)
        if result is not None:
            solved[vertex.digest] = result
            sink(Event("done", vertex.subject, "cached", current=result.size_bytes))
        else:
            found[vertex.digest] = vertex
            stack += reversed(vertex.inputs)
    return list(found.values())
