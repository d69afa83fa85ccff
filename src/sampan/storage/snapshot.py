"""Snapshots: which layer is unpacked where, each once, for any number of processes.

Theory of operation. A layer on all layers below it is called by its chain id; unpacked it is `snapshots/N`, a short
number, since mount(2)'s options end at 4 KiB. overlayfs stacks the directories. One layer goes through these states:

    no row -> row, not ready (BEGIN IMMEDIATE: one process makes it) -> N.part is being filled -> synced, renamed to N
           -> row, ready

Whoever fills N.part holds a record lock on byte N of `snapshots/lock`. The kernel lets go of it when the process dies,
however it dies; so who gets the lock and finds the row not ready knows that nobody works on it, and begins anew. Others
who want the same layer wait for the lock. A number is never used twice, so a stale directory is never taken for a new
one.

INVARIANT: a ready row names a whole, synced directory. Rows go first, directories after (`sweep`), through the trash.
Where ids cannot be mapped by mounts, the same layer is unpacked once more with all ids shifted: `shift` is part of the
key.
"""

import errno
import os

from sampan.events import Event, ignore
from sampan.oci.digest import Digest, chain_ids
from sampan.storage import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.events import Sink
    from sampan.storage.compression import Readable
    from sampan.storage.unpacker import Rules

    # A layer: its diff id as text, and what opens its blob for one reading.
    Layer = tuple[str, Callable[[], "Readable"]]


class Snapshots:
    """The unpacked layers of one SAMPAN_ROOT."""

    __slots__ = ("_database", "_root")

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._root = database.root

    def lookup(self, chain_ids: "Sequence[str]", shift: int = 0) -> tuple[str, ...] | None:
        """Return the directories of layers that are all unpacked, topmost first; None if one is not. Hot path."""
        numbers = []
        for chain_id in reversed(chain_ids):
            row = self._database.row(
                "SELECT number FROM snapshots WHERE chain_id = ? AND shift = ? AND ready", (chain_id, shift)
            )
            if row is None:
                return None
            numbers.append(row[0])
        return tuple(self._path(number) for number in numbers)

    def ensure(
        self,
        layers: "Sequence[Layer]",
        *,
        rules: "Rules | None" = None,
        lease: "Lease | None" = None,
        sink: "Sink" = ignore,
    ) -> tuple[str, ...]:
        """Unpack what is not unpacked of `layers`, lowest first, and return their directories, topmost first.

        A `lease` holds them from a prune until a record does. Raises what `apply` raises; then no trace of the layer
        that failed is left, and those below it stay. Single-threaded callers only.
        """
        from sampan.storage.unpacker import Rules

        rules = rules or Rules()
        diff_ids = [Digest.parse(diff_id) for diff_id, _ in layers]
        chain = [str(chain_id) for chain_id in chain_ids(diff_ids)]
        if lease is not None:
            lease.hold(*(f"chain:{chain_id}" for chain_id in chain))
        below: list[str] = []
        for position, (_, open_layer) in enumerate(layers):
            layer = (chain[position], diff_ids[position], open_layer)
            work = _Work(layer, rules=rules, below=tuple(below), sink=sink)
            below.insert(0, self._ensure_one(work))
        return tuple(below)

    def remove(self, chain_ids: "Sequence[str]") -> int:
        """Forget the snapshots of these chain ids, in the caller's transaction.

        `sweep` removes the directories after.
        """
        query = "DELETE FROM snapshots WHERE chain_id = ? AND ready RETURNING size_bytes"
        return sum(row[0] for chain_id in chain_ids for row in list(self._database.execute(query, (chain_id,))))

    def sweep(self) -> None:
        """Remove what killed commands left and `remove` forgot: rows nobody works on, directories without a row."""
        with self._database.transaction(), _Locks(self._root) as locks:
            for number, ready in list(self._database.execute("SELECT number, ready FROM snapshots")):
                gone = not os.path.isdir(self._path(number)) if ready else locks.take_if_free(number)
                if gone:
                    self._database.execute("DELETE FROM snapshots WHERE number = ?", (number,))
            known = {str(row[0]) for row in self._database.execute("SELECT number FROM snapshots")}
            for name in _listed(f"{self._root}/snapshots"):
                if name != "lock" and name.removesuffix(".part") not in known:
                    trash.discard(self._root, f"{self._root}/snapshots/{name}")
        trash.empty(self._root)

    def _ensure_one(self, work: "_Work") -> str:
        while True:
            number, ready = self._row(work)
            if ready:
                return self._path(number)
            with _Locks(self._root) as locks:
                locks.take(number)
                # Whoever had the lock made it ready, or died, or a sweep took the row.
                row = self._database.row("SELECT ready FROM snapshots WHERE number = ?", (number,))
                if row is None or row[0]:
                    continue
                self._unpack(number, work)
                return self._path(number)

    def _row(self, work: "_Work") -> tuple[int, bool]:
        """Return number and state of the layer's row, making one where there is none."""
        key = (work.chain_id, work.rules.shift)
        query = "SELECT number, ready FROM snapshots WHERE chain_id = ? AND shift = ?"
        row = self._database.row(query, key)
        if row is None:
            with self._database.transaction() as database:
                database.execute(
                    "INSERT OR IGNORE INTO snapshots(chain_id, shift, ready, size_bytes) VALUES(?, ?, 0, 0)", key
                )
                row = database.row(query, key) or (0, 0)
        return row[0], bool(row[1])

    def _unpack(self, number: int, work: "_Work") -> None:
        """Fill N.part, sync, rename, record. On an error nothing stays."""
        from sampan.kernel.sync import syncfs
        from sampan.storage.apply import apply
        from sampan.storage.durable import sync_directory
        from sampan.storage.space import saying_how_to_free_space

        work.begin()
        path, part = self._path(number), f"{self._path(number)}.part"
        # What a killed predecessor left; a whole N without a ready row as well, since the record makes it count.
        left = [trash.discard(self._root, part), trash.discard(self._root, path)]
        if any(left):
            trash.empty(self._root)
        try:
            with saying_how_to_free_space(self._root):
                os.mkdir(part, 0o755)
                source = work.open_layer()
                try:
                    applied = apply(source, part, diff_id=work.diff_id, rules=work.rules, below=work.below)
                finally:
                    _close(source)
                syncfs(part)
                os.rename(part, path)
                sync_directory(f"{self._root}/snapshots")
            record = "UPDATE snapshots SET ready = 1, size_bytes = ? WHERE number = ?"
            self._database.execute(record, (applied.size_bytes, number))
        except BaseException:
            # In place: nobody else looks at it, and on a full disk the trash would be one directory more.
            trash.remove_tree(part)
            trash.remove_tree(path)
            self._database.execute("DELETE FROM snapshots WHERE number = ?", (number,))
            raise
        work.warn(applied.warnings)

    def _path(self, number: int) -> str:
        return f"{self._root}/snapshots/{number}"


class _Work:
    """One layer to be unpacked, and on what."""

    __slots__ = ("below", "chain_id", "diff_id", "open_layer", "rules", "sink")

    def __init__(
        self,
        layer: "tuple[str, Digest, Callable[[], Readable]]",
        *,
        rules: "Rules",
        below: tuple[str, ...],
        sink: "Sink",
    ) -> None:
        self.chain_id, self.diff_id, self.open_layer = layer
        self.rules = rules
        self.below = below
        self.sink = sink

    def begin(self) -> None:
        """Say that it begins."""
        self.sink(Event("step", "unpack", str(self.diff_id)))

    def warn(self, warnings: tuple[str, ...]) -> None:
        """Say what was left out."""
        for text in warnings:
            self.sink(Event("warning", "unpack", text))


class _Locks:
    """Record locks on `snapshots/lock`, one byte for each number; all are let go at the end of the `with`.

    NOTE(fcntl(2)): they belong to the process, and closing any descriptor of the file drops them all; so one `_Locks`
    at a time in a process.
    """

    __slots__ = ("_fd",)

    def __init__(self, root: str) -> None:
        os.makedirs(f"{root}/snapshots", 0o700, exist_ok=True)
        self._fd = os.open(f"{root}/snapshots/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, number: int) -> None:
        """Wait for the lock of `number`."""
        os.lseek(self._fd, number, os.SEEK_SET)
        os.lockf(self._fd, os.F_LOCK, 1)

    def take_if_free(self, number: int) -> bool:
        """Take the lock of `number` unless somebody has it; tell whether it was taken."""
        os.lseek(self._fd, number, os.SEEK_SET)
        try:
            os.lockf(self._fd, os.F_TLOCK, 1)
        except OSError as error:
            if error.errno not in {errno.EACCES, errno.EAGAIN}:
                raise
            return False
        return True

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _close(source: "Readable") -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()
