"""The database: durable, one writer at a time, never across a fork, one version at a time, alive on a full disk."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.database import connection, location, reserve, schema
from sampan.database.connection import Database
from sampan.errors import Conflict, Corrupt, Exhausted, Internal, Unsupported
from sampan.settings.configuration import Settings
from tests.storage import crash

pytestmark = [pytest.mark.first]

ADD = "INSERT INTO volumes(name, created) VALUES(?, 0)"
COUNT = "SELECT count(*) FROM volumes"


def test_everything_is_made_and_closed_to_others(tmp_path: Path) -> None:
    """Root and parents, database, reserve: all are there after the first open, and only ours to read."""
    settings = Settings({"SAMPAN_ROOT": f"{tmp_path}/a/b/root"}, os.geteuid())
    with connection.open(settings) as database:
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert database.row("PRAGMA journal_mode") == ("wal",)
        assert database.row("PRAGMA synchronous") == (2,)
        assert database.row("PRAGMA foreign_keys") == (1,)
    root = tmp_path / "a" / "b" / "root"
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()} == {0o600}
    assert (root / "sampan.reserve").stat().st_blocks * 512 >= reserve.SIZE_BYTES
    root.chmod(0o755)
    connection.open(settings).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_transaction_is_all_or_nothing(settings: Settings) -> None:
    """An exception takes back what was done; an inner one is part of the outer."""
    with connection.open(settings) as database:
        with pytest.raises(ValueError, match="no"):
            _fail_inside(database)
        assert database.row(COUNT) == (0,)
        with database.transaction():
            database.execute(ADD, ("a",))
            with database.transaction() as inner:
                inner.execute(ADD, ("b",))
        assert database.row(COUNT) == (2,)
        with pytest.raises(connection.IntegrityError):
            _add_all(database, "c", "c")
        assert database.row(COUNT) == (2,)


def _fail_inside(database: Database) -> None:
    with database.transaction():
        database.execute(ADD, ("a",))
        with database.transaction() as inner:
            inner.execute(ADD, ("b",))
        raise ValueError("no")


def _add_all(database: Database, *names: str) -> None:
    with database.transaction():
        for name in names:
            database.execute(ADD, (name,))


def test_a_container_takes_its_range_and_address_with_it(settings: Settings) -> None:
    """Whoever deletes the row."""
    with connection.open(settings) as database:
        database.execute(
            "INSERT INTO containers(id, name, created, record) VALUES('c', 'n', 0, '{\"interface\":\"x\"}')"
        )
        database.execute("INSERT INTO ranges(start, container_id) VALUES(1, 'c'), (2, 'd')")
        database.execute("INSERT INTO addresses(network, ipv4, container_id) VALUES('b', '1', 'c'), ('b', '2', 'd')")
        database.execute("DELETE FROM containers")
        assert list(
            database.execute("SELECT container_id FROM ranges UNION ALL SELECT container_id FROM addresses")
        ) == [
            ("d",),
            ("d",),
        ]


def test_a_connection_does_not_cross_a_fork(settings: Settings) -> None:
    """The child is refused, its close does nothing, and the parent goes on."""
    with connection.open(settings) as database:
        with database.transaction():
            database.execute(ADD, ("a",))
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    database.execute(COUNT)
                except Internal:
                    database.close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
        assert database.row(COUNT) == (1,)


def test_many_processes_make_and_fill_one_database(settings: Settings) -> None:
    """Eight open it for the first time at once; none fails and nothing is lost."""
    pids = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with connection.open(settings) as database:
                    for turn in range(10):
                        database.execute(ADD, (f"{number}-{turn}",))
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    with connection.open(settings) as database:
        assert database.row(COUNT) == (80,)


def test_kill_at_every_step(settings: Settings) -> None:
    """Making the database and writing to it: what was reported is there, what was not is whole or absent."""

    def work() -> None:
        with connection.open(settings) as database, database.transaction():
            database.execute(ADD, ("a",))
            database.execute(ADD, ("b",))

    count = None
    for _ in crash.points(work):
        with connection.open(settings) as database:
            count = database.row(COUNT)
            assert count in {(0,), (2,)}
        shutil.rmtree(settings.root)
        os.mkdir(settings.root, 0o700)
    assert count == (2,)


def test_a_locked_database_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the wait comes an error with the way to find the other."""
    monkeypatch.setattr(connection, "_BUSY_SECONDS", 0.1)
    with connection.open(settings) as one, connection.open(settings) as two, one.transaction():
        assert two.row(COUNT) == (0,)
        with pytest.raises(Conflict, match="was locked by another process"), two.transaction():
            pass


def test_a_newer_database_is_refused(settings: Settings) -> None:
    """It names both versions and the ways out, and changes nothing."""
    with connection.open(settings) as database:
        database.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    before = Path(settings.root, "sampan.db").read_bytes()
    with pytest.raises(
        Unsupported, match=f"its version is {schema.VERSION + 1}, this one knows {schema.VERSION}"
    ) as caught:
        connection.open(settings)
    assert caught.value.hints[0] == "upgrade with `pip install --upgrade sampan`"
    assert Path(settings.root, "sampan.db").read_bytes() == before


def test_an_older_database_is_migrated_in_one_transaction(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps or none: a step that fails leaves the old version, the mended one brings it up with its rows."""
    with connection.open(settings) as database:
        database.execute(ADD, ("a",))
    now = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", now + 2)
    good, bad = "ALTER TABLE volumes ADD COLUMN x TEXT; CREATE TABLE y(z);", "CREATE TABLE volumes(z);"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, good, bad))
    with pytest.raises(Internal):
        connection.open(settings)
    with sqlite3.connect(f"{settings.root}/sampan.db") as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (now,)
        assert [column[1] for column in raw.execute("PRAGMA table_info(volumes)")] == ["name", "created", "record"]
    raw.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:-1], "CREATE TABLE w(z);"))
    with connection.open(settings) as database:
        assert database.row("PRAGMA user_version") == (now + 2,)
        assert database.row("SELECT name, x FROM volumes") == ("a", None)


def test_networks_of_version_1_have_an_id(settings: Settings) -> None:
    """The row stays what it was: the default network with its subnet; it has an id now."""
    with connection.open(settings) as database:
        fresh = _tables(database)
        database.execute("DROP TABLE traces")
        database.execute("DROP TABLE networks")
        database.execute("CREATE TABLE networks(name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID")
        database.execute("INSERT INTO networks VALUES('bridge', '{\"interface\":\"x\"}')")
        database.execute("PRAGMA user_version=1")
    with connection.open(settings) as database:
        assert database.row("SELECT name, length(id), created, record FROM networks") == (
            "bridge",
            64,
            0,
            '{"interface":"x"}',
        )
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert _tables(database) == fresh


def _tables(database: Database) -> set[str]:
    return {row[0] for row in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}


def test_a_damaged_database_is_named(settings: Settings) -> None:
    """The file and what can be done."""
    Path(settings.root, "sampan.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Corrupt, match="is damaged") as caught:
        connection.open(settings)
    assert caught.value.hints[0].startswith("move it away")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("1 0 0:1 / /srv/data rw - nfs4 server:/x rw", "nfs4"),
        ("1 0 0:1 / /srv/my\\040data rw - fuse.sshfs host: rw", "fuse.sshfs"),
        ("1 0 0:1 / /srv rw shared:1 - 9p share rw", "9p"),
    ],
)
def test_the_file_system_of_a_path_is_read_from_mountinfo(line: str, kind: str) -> None:
    """The nearest mount counts, the later of two on one point, escapes and optional fields are read."""
    text = f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / /srv/data rw - tmpfs tmpfs rw\n{line}\n"
    path = "/srv/my data/root" if "040" in line else "/srv/data/root" if "data" in line else "/srv/root"
    assert location._file_system_in(text, path) == kind
    assert location._file_system_in(text, "/other") == "ext4"


def test_a_network_file_system_is_refused() -> None:
    """With the setting that moves it; a local one passes."""
    for kind in ("nfs4", "fuse.sshfs", "9p"):
        with pytest.raises(Unsupported, match=f"network file system \\(`{kind}`\\)") as caught:
            location._refuse_network("/x", kind)
        assert "SAMPAN_ROOT" in caught.value.hints[0]
    for kind in ("ext4", "btrfs", "overlay", "tmpfs", "fuse.ext4"):
        location._refuse_network("/x", kind)


# --- a full disk --------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Settings]:
    """Yield settings whose root is a file system of 80 MB, where a reserve is kept."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,mode=700", "tmpfs", tmp_path], check=True)
    yield Settings({"SAMPAN_ROOT": str(tmp_path)}, os.geteuid())
    subprocess.run(["umount", tmp_path], check=True)


def _fill(root: str) -> None:
    with open(f"{root}/ballast", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
        try:
            while True:
                file.write(b"x")
        except OSError:
            pass


@pytest.mark.root
def test_on_a_full_disk_what_frees_space_works(small: Settings) -> None:
    """With no byte left the database opens, reads, writes and deletes; with room again the reserve is whole again."""
    with connection.open(small) as database:
        database.execute(ADD, ("a",))
    _fill(small.root)
    for name in ("b", "c"):
        with connection.open(small) as database:
            database.execute(ADD, (name,))
            database.execute("DELETE FROM volumes WHERE name = 'a'")
        _fill(small.root)
    with connection.open(small) as database:
        assert list(database.execute("SELECT name FROM volumes")) == [("b",), ("c",)]
    assert os.stat(f"{small.root}/sampan.reserve").st_size < reserve.SIZE_BYTES
    os.unlink(f"{small.root}/ballast")
    connection.open(small).close()
    assert os.stat(f"{small.root}/sampan.reserve").st_size == reserve.SIZE_BYTES


@pytest.mark.root
def test_without_a_reserve_a_full_disk_is_an_error(small: Settings) -> None:
    """The control: the same disk without the reserve cannot be worked on, and the error says how to free space."""
    connection.open(small).close()
    os.unlink(f"{small.root}/sampan.reserve")
    _fill(small.root)
    with pytest.raises(Exhausted, match="no space is left on the file system of") as caught:
        connection.open(small).execute(COUNT)
    assert caught.value.hints


@pytest.mark.root
def test_a_transaction_that_fills_the_disk_is_taken_back(small: Settings) -> None:
    """It ends in Exhausted, and the database is as it was."""
    with connection.open(small) as database:
        database.execute(ADD, ("a",))
        with pytest.raises(Exhausted):
            _add_all(database, *(str(number) + "x" * 1_000_000 for number in range(200)))
        assert database.row(COUNT) == (1,)


def test_a_process_killed_inside_a_transaction_leaves_no_lock(settings: Settings) -> None:
    """The next writer begins at once and sees nothing of it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with connection.open(settings) as database, database.transaction():
            database.execute(ADD, ("a",))
            os.write(write, b"x")
            signal.pause()
    os.read(read, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with connection.open(settings) as database, database.transaction():
        assert database.row(COUNT) == (0,)
    os.close(read)
    os.close(write)


def test_the_hot_path_s_modules_are_cheap() -> None:
    """Opening the database and looking an image up imports no dear module but _sqlite3's own functools."""
    import sys

    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from sampan.database import connection, lease\n"
        "from sampan.oci import digest, reference\n"
        "from sampan.image import content, store, unpack\n"
        "from sampan.storage import overlay, snapshot, trash\n"
        "dear = 'typing enum contextlib dataclasses re json pathlib subprocess logging signal socket'\n"
        "dear += ' shutil threading tempfile argparse hashlib ctypes'\n"
        "print(*sorted(set(dear.split()) & set(sys.modules)))"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, source], check=True, capture_output=True, text=True
    )
    assert ran.stdout.split() == []


def test_database_is_a_value_with_a_path(settings: Settings) -> None:
    """Rooms ask the database where its files lie."""
    with connection.open(settings) as database:
        assert isinstance(database, Database)
        assert (database.root, database.path) == (settings.root, f"{settings.root}/sampan.db")
