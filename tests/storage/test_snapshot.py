"""Snapshots: each layer unpacked once for any number of processes, whole or not at all, whoever is killed."""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.database import connection
from sampan.database.connection import Database
from sampan.database.lease import Lease
from sampan.errors import Corrupt
from sampan.oci.digest import Digest, chain_ids
from sampan.settings.configuration import Settings
from sampan.storage.diff import TarWriter
from sampan.storage.snapshot import Snapshots
from sampan.storage.unpacker import Rules
from tests.storage import crash

Layer = tuple[str, Callable[[], io.BytesIO]]

pytestmark = [pytest.mark.first, pytest.mark.root]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


def layer(number: int, opened: list[int] | None = None) -> Layer:
    """Make a layer with one directory and one file, and count how often it is opened."""
    file = io.BytesIO()
    tar = TarWriter(file)
    tar.add_directory("d", mode=0o750 + number)
    tar.add_file(f"d/{number}", b"content %d" % number)
    tar.finish()
    raw = file.getvalue()

    def open_layer() -> io.BytesIO:
        if opened is not None:
            opened.append(number)
        return io.BytesIO(raw)

    return str(Digest.of(raw)), open_layer


def _chain(layers: list[Layer]) -> list[str]:
    return [str(chain_id) for chain_id in chain_ids([Digest.parse(diff_id) for diff_id, _ in layers])]


def check(database: Database) -> None:
    """Check what must hold whenever nobody is at work: rows and directories agree, and nothing else is there."""
    root = Path(database.root)
    rows = {row[0]: row[1] for row in database.execute("SELECT number, ready FROM snapshots")}
    assert all(rows.values())
    names = (
        {name for name in os.listdir(root / "snapshots") if name != "lock"} if (root / "snapshots").exists() else set()
    )
    assert names == {str(number) for number in rows}
    for name in names:
        (found,) = list((root / "snapshots" / name / "d").iterdir())
        assert found.read_bytes() == b"content " + found.name.encode()
    assert not (root / "trash").exists() or os.listdir(root / "trash") == []


def test_a_layer_is_unpacked_once(database: Database) -> None:
    """The second time it is looked up; directories come topmost first under short numbers."""
    opened: list[int] = []
    layers = [layer(0, opened), layer(1, opened)]
    snapshots = Snapshots(database)
    assert snapshots.lookup(_chain(layers)) is None
    lowers = snapshots.ensure(layers)
    assert lowers == (f"{database.root}/snapshots/2", f"{database.root}/snapshots/1")
    assert snapshots.ensure(layers) == snapshots.lookup(_chain(layers)) == lowers
    assert opened == [0, 1]
    check(database)


def test_the_same_layer_on_another_is_another_snapshot(database: Database) -> None:
    """A chain id names a layer on all below it."""
    snapshots = Snapshots(database)
    one, two = snapshots.ensure([layer(0), layer(1)]), snapshots.ensure([layer(1)])
    assert len({*one, *two}) == 3
    check(database)


def test_a_shifted_snapshot_stands_beside_the_plain_one(database: Database) -> None:
    """Both are kept, each with its owners."""
    snapshots = Snapshots(database)
    (plain,) = snapshots.ensure([layer(0)])
    (shifted,) = snapshots.ensure([layer(0)], rules=Rules(shift=0x60000000))
    assert os.stat(f"{plain}/d/0").st_uid == 0
    assert os.stat(f"{shifted}/d/0").st_uid == os.stat(shifted).st_uid == 0x60000000
    assert snapshots.lookup(_chain([layer(0)]), 0x60000000) == (shifted,)
    check(database)


def test_a_bad_layer_leaves_nothing_and_those_below_stay(database: Database) -> None:
    """What is not its diff id is refused; the good layer under it needs no second unpacking."""
    opened: list[int] = []
    good = layer(0, opened)
    with pytest.raises(Corrupt):
        Snapshots(database).ensure([good, (str(Digest.of(b"x")), layer(1)[1])])
    check(database)
    Snapshots(database).ensure([good])
    assert opened == [0]


def test_a_lease_holds_what_is_ensured(database: Database) -> None:
    """The chain ids are held before the first byte is unpacked."""
    layers = [layer(0)]
    with Lease(database, "run") as lease:
        Snapshots(database).ensure(layers, lease=lease)
        held = [row[0] for row in database.execute("SELECT object FROM holds")]
    assert held == [f"chain:{chain_id}" for chain_id in _chain(layers)]


def test_removal_takes_rows_first_and_directories_after(database: Database) -> None:
    """Between the two a crash leaves a directory that the sweep finds; its number is not used again."""
    snapshots = Snapshots(database)
    snapshots.ensure([layer(0)])
    with database.transaction():
        snapshots.remove(_chain([layer(0)]))
    assert os.path.isdir(f"{database.root}/snapshots/1")
    snapshots.sweep()
    check(database)
    assert snapshots.ensure([layer(0)]) == (f"{database.root}/snapshots/2",)


def test_a_directory_that_somebody_removed_is_made_again(database: Database) -> None:
    """A sweep forgets the row of a snapshot that is gone."""
    snapshots = Snapshots(database)
    (path,) = snapshots.ensure([layer(0)])
    os.rename(path, f"{database.root}/elsewhere")
    snapshots.sweep()
    assert snapshots.ensure([layer(0)]) == (f"{database.root}/snapshots/2",)


def _spawn(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def test_many_processes_unpack_one_layer_once(settings: Settings) -> None:
    """All wait for the first, and all get the same directory."""
    counter = f"{settings.root}/opened"

    def work() -> None:
        diff_id, open_layer = layer(0)

        def counted() -> io.BytesIO:
            with open(counter, "ab") as file:
                file.write(b"x")
            time.sleep(0.1)
            return open_layer()

        with connection.open(settings) as database:
            assert Snapshots(database).ensure([(diff_id, counted)]) == (f"{database.root}/snapshots/1",)

    for pid in [_spawn(work) for _ in range(6)]:
        assert os.waitpid(pid, 0)[1] == 0
    assert Path(counter).read_bytes() == b"x"
    os.unlink(counter)
    with connection.open(settings) as database:
        check(database)


def test_a_waiter_takes_over_from_a_killed_process(settings: Settings) -> None:
    """The lock falls with its process, and the next one begins anew; meanwhile a sweep lets the living work."""
    read, write = os.pipe()

    def stuck() -> None:
        def forever() -> io.BytesIO:
            os.write(write, b"x")
            signal.pause()
            raise AssertionError

        with connection.open(settings) as database:
            Snapshots(database).ensure([(layer(0)[0], forever)])

    def waiting() -> None:
        with connection.open(settings) as database:
            Snapshots(database).ensure([layer(0)])

    first = _spawn(stuck)
    os.read(read, 1)
    second = _spawn(waiting)
    time.sleep(0.2)
    with connection.open(settings) as database:
        Snapshots(database).sweep()
        assert os.path.isdir(f"{database.root}/snapshots/1.part")
    assert os.waitpid(second, os.WNOHANG) == (0, 0)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert os.waitpid(second, 0)[1] == 0
    with connection.open(settings) as database:
        check(database)
    os.close(read)
    os.close(write)


def test_kill_at_every_step_of_an_unpacking(settings: Settings) -> None:
    """After each a sweep leaves a consistent store, and what was ready stays."""

    def work() -> None:
        with connection.open(settings) as database:
            Snapshots(database).ensure([layer(0), layer(1)])

    is_whole = False
    for _ in crash.points(work):
        with connection.open(settings) as database:
            Snapshots(database).sweep()
            check(database)
            is_whole = Snapshots(database).lookup(_chain([layer(0), layer(1)])) is not None
            if not is_whole:
                with database.transaction():
                    Snapshots(database).remove(_chain([layer(0), layer(1)]))
                Snapshots(database).sweep()
    assert is_whole


def test_kill_at_every_step_of_a_removal(settings: Settings) -> None:
    """Rows go, then directories, then the trash: wherever it ends, the next sweep ends it."""

    def work() -> None:
        with connection.open(settings) as database:
            with database.transaction():
                Snapshots(database).remove(_chain([layer(0), layer(1)]))
            Snapshots(database).sweep()

    for _ in crash.points(work):
        with connection.open(settings) as database:
            Snapshots(database).sweep()
            check(database)
            Snapshots(database).ensure([layer(0), layer(1)])
