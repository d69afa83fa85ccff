"""Leases: they hold while their process lives, and no longer."""

import os
import signal
from collections.abc import Iterator

import pytest

from sampan.database import connection, lease
from sampan.database.connection import Database
from sampan.database.lease import Lease
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]

HELD = "SELECT object FROM holds ORDER BY object"


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


def test_a_lease_holds_until_its_end(database: Database) -> None:
    """Twice is once; an exception ends it as well; two leases on one object are two."""
    with pytest.raises(ValueError, match="x"):
        _hold_and_fail(database)
    assert list(database.execute(HELD)) == []


def test_an_interrupt_between_begin_and_its_block(database: Database) -> None:
    """Ctrl-C comes when it likes: what it left open takes nothing of the lease's end along."""
    with pytest.raises(KeyboardInterrupt):
        _strike(database)
    with connection.open(Settings({"SAMPAN_ROOT": database.root}, 0)) as other:
        assert list(other.execute("SELECT kind FROM leases")) == []


def _strike(database: Database) -> None:
    with Lease(database, "build") as one:
        one.hold("blob:a")
        database.transaction().__enter__()
        database.execute("INSERT INTO leases(kind, pid, start_time, boot_id) VALUES('half', 1, 1, '')")
        raise KeyboardInterrupt


def _hold_and_fail(database: Database) -> None:
    with Lease(database, "pull") as one:
        one.hold("blob:a", "blob:b")
        one.hold("blob:a")
        with Lease(database, "run") as two:
            two.hold("blob:a")
            assert list(database.execute(HELD)) == [("blob:a",), ("blob:a",), ("blob:b",)]
        assert list(database.execute(HELD)) == [("blob:a",), ("blob:b",)]
        assert lease.sweep(database) == 0
        raise ValueError("x")


def test_a_killed_process_s_lease_is_swept(settings: Settings, database: Database) -> None:
    """By the next one that takes a lease; a living one's is left."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with connection.open(settings) as mine, Lease(mine, "pull") as held:
            held.hold("blob:a")
            os.write(write, b"x")
            signal.pause()
    os.read(read, 1)
    assert lease.sweep(database) == 0
    os.kill(pid, signal.SIGKILL)
    # As a zombie it is as dead as after the wait.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with Lease(database, "pull"):
        assert list(database.execute(HELD)) == []
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("change", ["start_time = start_time + 1", "boot_id = 'another'", "pid = 0x3fffffff"])
def test_pid_start_and_boot_name_one_process(database: Database, change: str) -> None:
    """A pid that was used again, and a machine that was started again, are other processes."""
    with Lease(database, "pull"):
        database.execute(f"UPDATE leases SET {change}")  # noqa: S608  the test's own words
        assert lease.sweep(database) == 1


def test_a_command_with_a_hostile_name_has_a_start_time() -> None:
    """The name in /proc/PID/stat may hold spaces and brackets."""
    with open("/proc/self/comm", "r+", encoding="ascii") as file:
        before = file.read()
        started = lease.start_time(os.getpid())
        file.write(") Z 1 (")
        file.flush()
        assert lease.start_time(os.getpid()) == started > 0
        file.write(before.strip())
    assert lease.start_time(0x3FFFFFFF) == 0
