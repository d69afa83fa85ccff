"""What a process in the middle of its work keeps from being pruned.

Theory of operation. A pull or a build makes blobs and snapshots that nothing refers to yet. It takes a lease, and
before it makes or relies on an object it writes down that it holds it; prune, in its own write transaction, leaves
alone what a live lease holds. A lease dies with its process: pid, start time and boot id name one process and no other,
so what a killed one left is seen to be stale, and is removed by whoever next takes a lease or prunes.
"""

import os

from sampan.identity import boot_id, stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from sampan.database.connection import Database


class Lease:
    """A context that holds objects by name (`blob:DIGEST`, `image:ID`, `chain:CHAINID`) until it ends."""

    __slots__ = ("_database", "_id", "kind")

    def __init__(self, database: "Database", kind: str) -> None:
        """Prepare a lease; `kind` (`pull`, `build`, `run`, `load`) says to people what it is for."""
        self._database = database
        self._id: int | None = None
        self.kind = kind

    def __enter__(self) -> "Self":
        """Record the lease, durably."""
        pid = os.getpid()
        with self._database.transaction() as database:
            sweep(database)
            owner = (self.kind, pid, start_time(pid), boot_id())
            row = database.row(
                "INSERT INTO leases(kind, pid, start_time, boot_id) VALUES(?, ?, ?, ?) RETURNING id", owner
            )
        self._id = row[0] if row else None
        return self

    def hold(self, *objects: str) -> None:
        """Keep `objects` from now on; idempotent. What was pruned before is not brought back: look for it after."""
        with self._database.transaction() as database:
            for name in objects:
                database.execute("INSERT OR IGNORE INTO holds(lease_id, object) VALUES(?, ?)", (self._id, name))

    def __exit__(self, kind: "type[BaseException] | None", *exception: object) -> None:
        """Let go of everything."""
        if kind is not None:
            self._database.abandon()
        self._database.execute("DELETE FROM leases WHERE id = ?", (self._id,))


def sweep(database: "Database") -> int:
    """Remove the leases of processes that are gone; return how many there were."""
    stale = [lease for lease, pid, started, boot in _all(database) if not is_alive(pid, started, boot)]
    with database.transaction():
        for lease in stale:
            database.execute("DELETE FROM leases WHERE id = ?", (lease,))
    return len(stale)


def is_alive(pid: int, started: int, boot: str) -> bool:
    """Tell whether the process that had this pid, start time and boot id still runs."""
    return boot == boot_id() and started == start_time(pid)


def start_time(pid: int) -> int:
    """Return when `pid` started, in clock ticks after boot; 0 where there is no such process (proc_pid_stat(5))."""
    try:
        state, started = stat_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # A zombie has ended its work.
    return 0 if state in {"Z", "X"} else started


def _all(database: "Database") -> "list[tuple[int, int, int, str]]":
    rows = database.execute("SELECT id, pid, start_time, boot_id FROM leases")
    return [(row[0], row[1], row[2], row[3]) for row in rows]
