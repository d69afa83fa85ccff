"""Removal: docker's rules for rmi, and only what nobody needs goes, even beside others and when killed."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.database import connection
from sampan.database.connection import Database
from sampan.database.lease import Lease
from sampan.errors import Conflict, NotFound
from sampan.image import removal, unpack
from sampan.image.content import Content
from sampan.image.store import Images
from sampan.oci.reference import Reference
from sampan.settings.configuration import Settings
from tests.image import fleet
from tests.storage import crash

pytestmark = [pytest.mark.first, pytest.mark.root]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


def _contain(database: Database, image_id: str) -> None:
    row = ("c1", "web", image_id, 0, "{}")
    database.execute("INSERT INTO containers(id, name, image_id, created, record) VALUES(?, ?, ?, ?, ?)", row)


def test_the_last_name_takes_the_image_with_it(database: Database) -> None:
    """One of two names is taken away; with the second go the image, its blobs and its snapshots."""
    image = fleet.add(database, "a", 0, 1)
    kept = fleet.add(database, "kept", 0)
    for one in (image, kept):
        unpack.lowers(database, one)
    Images(database).tag(image.id, Reference.parse("b:1"))
    first = removal.remove(database, "a")
    assert (first.untagged, first.deleted) == (("a:latest",), ())
    fleet.check(database)
    second = removal.remove(database, "b:1")
    assert (second.untagged, second.deleted) == (("b:1",), (image.id,))
    assert second.reclaimed_bytes > 0
    fleet.check(database)
    assert [one.id for one in Images(database).list()] == [kept.id]
    assert len(os.listdir(f"{database.root}/snapshots")) == 2


def test_by_id_all_names_must_go(database: Database) -> None:
    """With one name the id suffices; with several only force does."""
    image = fleet.add(database, "a", 0)
    Images(database).tag(image.id, Reference.parse("b"))
    with pytest.raises(Conflict, match="has several names: `a:latest`, `b:latest`") as caught:
        removal.remove(database, image.id)
    assert caught.value.hints[1] == f"or all at once: `sampan rmi -f {image.id}`"
    assert removal.remove(database, image.id[7:19], force=True).untagged == ("a:latest", "b:latest")
    assert Images(database).list() == ()
    fleet.add(database, "a", 0)
    assert removal.remove(database, image.id).deleted == (image.id,)
    fleet.check(database)


@pytest.mark.parametrize("how", ["id", "name"])
def test_a_container_keeps_its_image(database: Database, how: str) -> None:
    """Without force it is refused, by name and by id.

    With force the name goes and the image stays until the container.
    """
    image = fleet.add(database, "a", 0)
    _contain(database, image.id)
    text = image.id if how == "id" else "a"
    with pytest.raises(Conflict, match="is used by container `web`"):
        removal.remove(database, text)
    forced = removal.remove(database, text, force=True)
    assert (forced.untagged, forced.deleted) == (("a:latest",), ())
    fleet.check(database)
    assert removal.prune(database, every=True).deleted == ()
    database.execute("DELETE FROM containers")
    assert removal.prune(database).deleted == (image.id,)
    fleet.check(database)


def test_one_of_several_names_may_go_while_a_container_runs(database: Database) -> None:
    """Docker refuses only the last."""
    image = fleet.add(database, "a", 0)
    Images(database).tag(image.id, Reference.parse("b"))
    _contain(database, image.id)
    assert removal.remove(database, "b").untagged == ("b:latest",)
    with pytest.raises(Conflict):
        removal.remove(database, "a")


def test_what_is_not_here_is_not_found(database: Database) -> None:
    """A wrong name is an error, not silence."""
    with pytest.raises(NotFound):
        removal.remove(database, "absent")


def test_prune_takes_what_has_no_name(database: Database) -> None:
    """Images that lost their name go; with `every` those that nobody uses go too."""
    old, new = fleet.add(database, "app", 0), fleet.add(database, "app", 1)
    assert removal.prune(database).deleted == (old.id,)
    pruned = removal.prune(database, every=True)
    assert (pruned.untagged, pruned.deleted) == (("app:latest",), (new.id,))
    assert pruned.reclaimed_bytes > 0
    fleet.check(database)


def test_a_lease_keeps_what_it_holds(database: Database) -> None:
    """An image, a blob, a snapshot that a living command holds outlive every removal; a dead one's do not."""
    image = fleet.add(database, None, 0)
    with Lease(database, "run") as lease:
        lowers = unpack.lowers(database, image, lease=lease)
        blob, _ = Content(database.root, lease).put(b"half a pull")
        assert removal.prune(database, every=True).deleted == ()
        with pytest.raises(Conflict, match="is used by a `run` that is under way"):
            removal.remove(database, image.id)
        database.execute("DELETE FROM images")
        removal.collect(database)
        assert os.path.exists(lowers[0])
        assert Content(database.root).read(blob) == b"half a pull"
        database.execute("UPDATE leases SET start_time = start_time + 1")
        removal.collect(database)
    fleet.check(database)


def test_a_cached_build_keeps_its_layer(database: Database) -> None:
    """A row in builds is a reference."""
    digest, size = Content(database.root).put(b"layer")
    row = ("key", str(digest), str(digest), size, 0)
    database.execute("INSERT INTO builds(key, layer, diff_id, size_bytes, used) VALUES(?, ?, ?, ?, ?)", row)
    removal.collect(database)
    assert Content(database.root).has(digest)
    database.execute("DELETE FROM builds")
    removal.collect(database)
    fleet.check(database)


def test_a_forgotten_build_takes_its_trace_along(database: Database) -> None:
    """What no image has goes, with how else it was found; what is still there keeps it."""
    layers = {}
    for key in ("gone", "kept"):
        digest, size = Content(database.root).put(key.encode())
        layers[key] = str(digest)
        row = (key, str(digest), str(digest), size, 0)
        database.execute("INSERT INTO builds(key, layer, diff_id, size_bytes, used) VALUES(?, ?, ?, ?, ?)", row)
        database.execute("INSERT INTO traces(key, trace_key, facts, used) VALUES(?, 't', '{}', 0)", (key,))
    database.execute("INSERT INTO images(id, manifest, config, created) VALUES('i', 'm', '{}', 0)")
    layer = ("i", 0, layers["kept"], layers["kept"], "c", "t", 4)
    database.execute("INSERT INTO layers VALUES(?, ?, ?, ?, ?, ?, ?)", layer)
    assert removal.forget_builds(database) == ("gone",)
    assert list(database.execute("SELECT key FROM traces")) == [("kept",)]


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(database: Database) -> None:
    """Files of other processes in blobs/partial are judged by their process."""
    content = Content(database.root)
    content.put(b"x")
    partial = Path(database.root, "blobs", "partial")
    dead = partial / f"1-1-{'0' * 32}-1"
    dead.write_bytes(b"half")
    (partial / "nonsense").write_bytes(b"half")

    class Watched:
        def read(self, size: int, /) -> bytes:
            removal.collect(database)
            return slow.read(size)

    slow = io.BytesIO(b"slow")
    digest, _ = content.put(Watched())
    assert content.has(digest)
    assert os.listdir(partial) == []


def test_kill_at_every_step_of_adding_an_image(settings: Settings) -> None:
    """After each the store is consistent once collected, and a whole add is there."""

    def work() -> None:
        with connection.open(settings) as database:
            fleet.add(database, "a", 0, 1)

    is_there = False
    for _ in crash.points(work):
        with connection.open(settings) as database:
            removal.collect(database)
            fleet.check(database)
            is_there = len(Images(database).list()) == 1
            if is_there:
                removal.remove(database, "a")
    assert is_there


def test_kill_at_every_step_of_a_removal(settings: Settings) -> None:
    """Wherever rmi ends, the other image is whole and the next collect ends the work."""
    with connection.open(settings) as database:
        kept = fleet.add(database, "kept", 0)
        unpack.lowers(database, kept)

    def work() -> None:
        with connection.open(settings) as database:
            removal.remove(database, "a")

    with connection.open(settings) as database:
        unpack.lowers(database, fleet.add(database, "a", 0, 1))
    is_gone = False
    for _ in crash.points(work):
        with connection.open(settings) as database:
            removal.collect(database)
            fleet.check(database)
            assert unpack.lowers(database, Images(database).find("kept"))
            is_gone = len(Images(database).list()) == 1
            unpack.lowers(database, fleet.add(database, "a", 0, 1))
    assert is_gone


def test_adders_and_pruners_at_once(settings: Settings) -> None:
    """Processes that add under a lease while others prune never see a blob vanish."""
    with connection.open(settings):
        pass
    pids = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with connection.open(settings) as database:
                    for turn in range(8):
                        _churn(database, number, turn)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    with connection.open(settings) as database:
        removal.collect(database)
        fleet.check(database)


def _churn(database: Database, number: int, turn: int) -> None:
    if number % 2:
        removal.prune(database, every=turn % 2 == 0)
        return
    with Lease(database, "load") as lease:
        content = Content(database.root, lease)
        config, manifest = fleet.documents(content, turn % 3, number)
        Images(database).add(config, manifest, content, Reference.parse(f"app{number}"))
