"""The solver and its cache: what is known is not made, what is made is kept, and kinds are made together."""

from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from sampan.build import layer
from sampan.build.cache import Cache, Result
from sampan.build.entry import file
from sampan.build.graph import Vertex, ordered
from sampan.build.solver import solve
from sampan.database import connection
from sampan.errors import Corrupt
from sampan.events import Event
from sampan.image.content import Content
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


class Recorder:
    """Executors that make a layer or fragment of each vertex's subject, and remember what they were asked for."""

    def __init__(self, content: Content, cache: Cache) -> None:
        self.made: list[list[str]] = []
        self._content = content
        self._cache = cache
        self._kind = ""

    def __getitem__(self, kind: str) -> "Recorder":
        self._kind = kind
        return self

    def make(self, work: Sequence[tuple[Vertex, tuple[Result, ...]]]) -> list[Result]:
        """Make what is asked for, and note it."""
        self.made.append([vertex.subject for vertex, _ in work])
        return [self._one(vertex, inputs) for vertex, inputs in work]

    def _one(self, vertex: Vertex, inputs: tuple[Result, ...]) -> Result:
        if self._kind == "piece":
            made = [file(vertex.subject, b"x")]
            return self._cache.put_fragment(vertex.digest, lambda into: {"unpacked": layer.fragment(made, into)})
        if inputs:
            return layer.write(self._content, [partial(self._cache.open_fragment, item) for item in inputs], {})
        return layer.write_entries(self._content, [file(vertex.subject, b"x")], {})


@pytest.fixture
def bed(settings: Settings) -> Iterator[tuple[Cache, Recorder, list[Event]]]:
    """Return a cache, executors that note what they make, and a list for events."""
    with connection.open(settings) as database:
        content = Content(settings.root)
        cache = Cache(database, content, lambda: 1.0)
        yield cache, Recorder(content, cache), []


def test_everything_once(bed: tuple[Cache, Recorder, list[Event]]) -> None:
    """Pieces of one kind are made in one wave, layers after them; a second time nothing is made."""
    cache, executors, events = bed
    pieces = tuple(Vertex("piece", name, {"name": name}) for name in "abc")
    target = Vertex("whole", "all", {}, pieces)
    first = solve([target], executors, cache, events.append)
    assert executors.made == [["a", "b", "c"], ["all"]]
    again = solve([target], executors, cache, events.append)
    assert executors.made == [["a", "b", "c"], ["all"]]
    assert again[target.digest].digest == first[target.digest].digest
    assert events[-1].text == "cached"


def test_one_piece_changed(bed: tuple[Cache, Recorder, list[Event]]) -> None:
    """A changed piece is made, and the layer that holds it; the other pieces are not."""
    cache, executors, events = bed
    pieces = [Vertex("piece", name, {"name": name}) for name in "abc"]
    solve([Vertex("whole", "all", {}, tuple(pieces))], executors, cache, events.append)
    executors.made.clear()
    pieces[1] = Vertex("piece", "B", {"name": "B"})
    solve([Vertex("whole", "all", {}, tuple(pieces))], executors, cache, events.append)
    assert executors.made == [["B"], ["all"]]


def test_no_cache(bed: tuple[Cache, Recorder, list[Event]]) -> None:
    """Without the cache all is made again, and comes out the same."""
    cache, executors, events = bed
    target = Vertex("whole", "all", {}, (Vertex("piece", "a", {}),))
    first = solve([target], executors, cache, events.append)[target.digest]
    second = solve([target], executors, cache, events.append, no_cache=True)[target.digest]
    assert executors.made == [["a"], ["all"], ["a"], ["all"]]
    assert (first.digest, first.diff_id) == (second.digest, second.diff_id)


def test_lost_layer(bed: tuple[Cache, Recorder, list[Event]], settings: Settings) -> None:
    """A layer whose blob has been pruned is made again."""
    import os

    cache, executors, events = bed
    target = Vertex("single", "x", {})
    result = solve([target], executors, cache, events.append)[target.digest]
    os.unlink(Content(settings.root).path(result.digest))
    solve([target], executors, cache, events.append)
    assert executors.made == [["x"], ["x"]]


def test_damaged_fragment(bed: tuple[Cache, Recorder, list[Event]]) -> None:
    """A fragment that is cut is made again; one whose bytes changed is Corrupt, not a broken layer."""
    cache, executors, events = bed
    piece = Vertex("piece", "a", {})
    result = solve([piece], executors, cache, events.append)[piece.digest]
    path = cache.fragment_path(piece.digest)
    with cache.open_fragment(result) as opened:
        content = opened.read()
    with open(path, "wb") as file:
        file.write(content[:-1] + b"\1")
    with cache.open_fragment(result) as opened, pytest.raises(Corrupt, match="not what its digest says"):
        opened.read()
    with open(path, "wb") as file:
        file.write(b"")
    assert cache.find(piece.digest) is None


def test_digests() -> None:
    """A digest depends on kind, options and inputs, and not on what a vertex is called."""
    assert Vertex("k", "one", {"a": 1}).digest == Vertex("k", "two", {"a": 1}).digest
    others = [
        Vertex("K", "one", {"a": 1}),
        Vertex("k", "one", {"a": 2}),
        Vertex("k", "one", {"a": 1}, (Vertex("k", "", {}),)),
    ]
    assert len({Vertex("k", "one", {"a": 1}).digest, *(vertex.digest for vertex in others)}) == 4


def test_order() -> None:
    """Inputs come before what is made of them, shared ones once."""
    shared = Vertex("k", "shared", {"n": 0})
    left, right = Vertex("k", "left", {"n": 1}, (shared,)), Vertex("k", "right", {"n": 2}, (shared,))
    assert [vertex.subject for vertex in ordered([left, right])] == ["shared", "left", "right"]
