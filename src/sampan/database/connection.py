"""Opening the database, and transactions on it.

Theory of operation. One file, WAL mode, synchronous=FULL: what was committed outlives a power cut, and readers never
wait for the writer. A connection belongs to one process: after a fork the child must not touch it (SQLite's locks are
the process's), so the pid is recorded and anything else is refused. On a full disk a piece of the reserve is given up
(`reserve`) and the statement runs once more.

INVARIANT: BEGIN IMMEDIATE is the lock of the whole store. Files that rows name are renamed into and out of their places
only inside a write transaction or under a name that no row has yet, so rows and files seen together in a transaction
agree.
"""

import _sqlite3
import errno
import os

from sampan.database import location, reserve, schema
from sampan.errors import Conflict, Corrupt, Exhausted, Internal, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Self

    from sampan.errors import SampanError
    from sampan.settings.configuration import Settings

    Value = str | int | float | bytes | None
    # Any, since a column's type is known only to the room that wrote the query.
    Row = tuple[Any, ...]

# What a UNIQUE or REFERENCES clause refuses: the rooms that own the rows turn it into AlreadyExists or Conflict.
IntegrityError = _sqlite3.IntegrityError

_BUSY_SECONDS = 30.0

# Primary result codes, sqlite3.h. The extended ones hold them in their low byte.
_SQLITE_BUSY = 5
_SQLITE_READONLY = 8
_SQLITE_IOERR = 10
_SQLITE_CORRUPT = 11
_SQLITE_FULL = 13
_SQLITE_CANTOPEN = 14
_SQLITE_NOTADB = 26


class Database:
    """One process's connection. Close it, or use it in a `with`. Not for threads: each opens its own."""

    __slots__ = ("_connection", "_depth", "_pid", "path", "root")

    def __init__(self, root: str) -> None:
        """Open the database in the directory `root`, which exists; make or migrate it. See `open`."""
        self.root = root
        self.path = f"{root}/sampan.db"
        self._pid = os.getpid()
        self._depth = 0
        reserve.keep(root)
        self._connection = self._opened()

    def execute(self, sql: str, parameters: "Sequence[Value]" = ()) -> "Iterator[Row]":
        """Run one statement and return an iterator over its rows.

        Outside a transaction a statement is its own. Raises IntegrityError, Exhausted on a full disk, Conflict where
        another process kept the database locked for half a minute, Corrupt, and Internal in a forked child.
        """
        if os.getpid() != self._pid:
            raise Internal("a database connection crossed a fork")
        # Inside a transaction SQLite may have rolled back already: only its caller can begin again.
        may_try_again = self._depth == 0
        while True:
            try:
                return self._connection.execute(sql, parameters)
            except IntegrityError:
                raise
            except _sqlite3.DatabaseError as error:
                if not (may_try_again and self._made_room(error)):
                    raise self._translated(error) from error
                may_try_again = False

    def row(self, sql: str, parameters: "Sequence[Value]" = ()) -> "Row | None":
        """Run one statement and return its first row, or None."""
        return next(iter(self.execute(sql, parameters)), None)

    def transaction(self) -> "Transaction":
        """Return a context: BEGIN IMMEDIATE at its start, COMMIT (durable) at its end, ROLLBACK on an exception.

        A transaction inside a transaction is part of the outer one.
        """
        return Transaction(self)

    def abandon(self) -> None:
        """Roll back a transaction that was cut off from its block: Ctrl-C may come between BEGIN and the block."""
        self._depth = 0
        if self._connection.in_transaction:
            _roll_back(self)

    def close(self) -> None:
        """Close the connection; idempotent. In a forked child nothing happens: its close would harm the parent's."""
        if os.getpid() == self._pid:
            self._connection.close()

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    def _opened(self) -> "_sqlite3.Connection":
        """Connect; once more after a piece of the reserve has gone, if the disk was full."""
        may_try_again = True
        while True:
            try:
                return _connect(self.path)
            except _sqlite3.DatabaseError as error:
                if not (may_try_again and self._made_room(error)):
                    raise self._translated(error) from error
                may_try_again = False

    def _made_room(self, error: "_sqlite3.Error") -> bool:
        """Give up a piece of the reserve if `error` comes of a full disk; tell whether it makes sense to try again."""
        return self._is_full(_code(error)) and reserve.give_up_piece(self.root)

    def _is_full(self, code: int) -> bool:
        # Without room for the index file SQLite says IOERR or CANTOPEN, not FULL.
        return code == _SQLITE_FULL or (code in {_SQLITE_IOERR, _SQLITE_CANTOPEN} and reserve.is_full(self.root))

    def _translated(self, error: "_sqlite3.Error") -> "SampanError | OSError":
        """Return the leaf that says what to do about SQLite's error."""
        code = _code(error)
        if self._is_full(code):
            reserve.give_up_piece(self.root)
            hints = ("free space: remove images with `sampan rmi` and containers with `sampan rm`", location.MOVE_HINT)
            return Exhausted(f"no space is left on the file system of `{self.root}`", hints=hints)
        if code == _SQLITE_BUSY:
            hint = f"see who holds it with `fuser -v {self.path}`, then try again"
            return Conflict(
                f"`{self.path}` was locked by another process for {_BUSY_SECONDS:.0f} seconds", hints=(hint,)
            )
        if code in {_SQLITE_CORRUPT, _SQLITE_NOTADB}:
            hint = f"move it away with `mv {self.path} {self.path}.damaged`; images and containers must be made again"
            return Corrupt(f"`{self.path}` is damaged", hints=(hint,))
        if code in {_SQLITE_CANTOPEN, _SQLITE_READONLY}:
            return PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.path)
        return Internal("the database refused a statement")


class Transaction:
    """See Database.transaction."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        """Belong to `database`; nothing begins yet."""
        self._database = database

    def __enter__(self) -> Database:
        """Begin, waiting for another writer, and return the database."""
        database = self._database
        if database._depth == 0:
            database.execute("BEGIN IMMEDIATE")
        database._depth += 1
        return database

    def __exit__(self, kind: "type[BaseException] | None", *exception: object) -> None:
        """Commit the outermost transaction, or roll it back."""
        database = self._database
        database._depth -= 1
        if database._depth:
            return
        if kind is not None:
            _roll_back(database)
            return
        try:
            database._depth += 1  # so that a full disk is reported, not tried again
            database.execute("COMMIT")
        except BaseException:
            _roll_back(database)
            raise
        finally:
            database._depth -= 1


def open(settings: "Settings") -> Database:
    """Open the database of SAMPAN_ROOT, making root (0700), file and tables where they are not there.

    Raises Unsupported for a network file system or a database of a newer Sampan, Corrupt, OSError.
    """
    root = os.path.abspath(settings.root)
    location.prepare(root)
    return Database(root)


def _connect(path: str) -> "_sqlite3.Connection":
    """Connect, set what holds for a connection, and bring the schema up to date."""
    # SECURITY: the database names every container's environment; nobody else may read it, whatever umask says.
    if not os.path.exists(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = _sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if _version(connection) != schema.VERSION:
            _bring_up(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up(connection: "_sqlite3.Connection", path: str) -> None:
    """Make or migrate the tables in one transaction; several processes may come here at once."""
    _refuse_newer(connection, path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _refuse_newer(connection, path)
        version = _version(connection)
        steps = (schema.CREATE,) if version == 0 else schema.MIGRATIONS[version - 1 :]
        if version != schema.VERSION:
            for statement in (statement for step in steps for statement in _statements(step)):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_newer(connection: "_sqlite3.Connection", path: str) -> None:
    version = _version(connection)
    if version > schema.VERSION:
        raise Unsupported(
            f"`{path}` was written by a newer Sampan: its version is {version}, this one knows {schema.VERSION}",
            hints=("upgrade with `pip install --upgrade sampan`", location.MOVE_HINT),
        )


def _version(connection: "_sqlite3.Connection") -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _statements(script: str) -> "Iterator[str]":
    """Part a script: executescript() would commit the transaction that it runs in."""
    part = ""
    for piece in script.split(";"):
        part += piece + ";"
        if _sqlite3.complete_statement(part):
            if part.strip(" \n;"):
                yield part
            part = ""


def _roll_back(database: Database) -> None:
    """Roll back, unless SQLite has done so by itself on the error that brings us here."""
    if database._connection.in_transaction:
        database._connection.execute("ROLLBACK")


def _code(error: "_sqlite3.Error") -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
