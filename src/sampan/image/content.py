"""Blobs: files named by the digest of what is in them, as in an OCI layout (image-layout.md#blobs).

Theory of operation. A blob is written beside its place, hashed on the way, synced, renamed, and the directory synced;
so a file under `blobs/ALGORITHM/HEX` is whole, whoever killed whom. Two writers of one blob each write their own file
and the later rename wins: the bytes are equal. Given a lease, the blob is held *before* the rename, so a prune sees
either the hold or no file. What a killed writer left is named after its process and is found by `removal.collect`.
"""

import os

from sampan.database import lease as leases
from sampan.errors import Corrupt, Exhausted, NotFound
from sampan.identity import boot_id
from sampan.oci.digest import Digest, new_hasher
from sampan.storage.durable import sync_directory
from sampan.storage.space import saying_how_to_free_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO, Self

    from sampan.database.lease import Lease
    from sampan.storage.compression import Readable
    from sampan.storage.diff import Writable

MAX_BLOB_BYTES = 64 * 1024**3
_CHUNK_BYTES = 1024 * 1024


class Content:
    """The blobs of one SAMPAN_ROOT. Holds nothing open; any number of processes may have one."""

    __slots__ = ("_lease", "root")

    def __init__(self, root: str, lease: "Lease | None" = None) -> None:
        """Use `root`/blobs.

        Who puts blobs gives a lease: without one a prune may take them before a record names them.
        """
        self.root = root
        self._lease = lease

    def path(self, digest: Digest) -> str:
        """Return where the blob is or would be."""
        return f"{self.root}/blobs/{digest.algorithm}/{digest.hex}"

    def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here; with a lease it is held first, so that yes stays true."""
        self._hold(digest)
        return os.path.exists(self.path(digest))

    def size_bytes(self, digest: Digest) -> int:
        """Return the blob's size; raises NotFound."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def put(
        self,
        source: "bytes | Readable",
        expected: Digest | None = None,
        *,
        size_bytes: int | None = None,
        limit_bytes: int = MAX_BLOB_BYTES,
    ) -> tuple[Digest, int]:
        """Store `source`, bytes or a stream read to its end; return digest and size.

        Idempotent, atomic, durable on return. Raises Corrupt where digest or size is not the expected one, Exhausted
        past `limit_bytes` or on a full disk; then nothing is left.
        """
        if isinstance(source, bytes) and (found := self._known(source, expected)):
            return found, len(source)
        with saying_how_to_free_space(self.root), _Writer(self.root) as writer:
            algorithm = expected.algorithm if expected else "sha256"
            limit = limit_bytes if size_bytes is None else min(limit_bytes, size_bytes)
            written, value = writer.copy(source, algorithm, limit)
            if size_bytes is not None and written != size_bytes:
                raise Corrupt(f"a blob is {written} bytes long, where {size_bytes} were promised")
            if expected is not None:
                expected.verify_hash(value, "a blob")
            digest = Digest(algorithm, value)
            self._hold(digest)
            writer.finish(self.path(digest))
        return digest, written

    def fill(self, write: "Callable[[Writable], None]") -> tuple[Digest, int]:
        """Store what `write` writes to the file that it is given; return digest and size. See `put`."""
        with saying_how_to_free_space(self.root), _Writer(self.root) as writer:
            hashing = _Hashing(writer)
            write(hashing)
            digest = Digest("sha256", hashing.finish())
            self._hold(digest)
            writer.finish(self.path(digest))
        return digest, hashing.size_bytes

    def open(self, digest: Digest) -> "VerifiedFile":
        """Open a blob for reading; the read that comes to the end raises Corrupt unless all was as the digest says."""
        try:
            return VerifiedFile(open(self.path(digest), "rb", buffering=0), digest)
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def read(self, digest: Digest, limit_bytes: int = 8 * 1024 * 1024) -> bytes:
        """Return a whole small blob, verified; raises NotFound, Corrupt, Exhausted."""
        size = self.size_bytes(digest)
        if size > limit_bytes:
            raise Exhausted(f"the blob `{digest}` is {size} bytes long; the limit here is {limit_bytes}")
        with self.open(digest) as file:
            return file.read()

    def _known(self, source: bytes, expected: Digest | None) -> Digest | None:
        """Return the digest of `source` if it is stored already, byte for byte."""
        digest = Digest.of(source, expected.algorithm if expected else "sha256")
        if expected is not None:
            expected.verify_hash(digest.hex, "a blob")
        if not self.has(digest):
            return None
        with open(self.path(digest), "rb") as file:
            return digest if file.read(len(source) + 1) == source else None

    def _hold(self, digest: Digest) -> None:
        if self._lease is not None:
            self._lease.hold(f"blob:{digest}")


class VerifiedFile:
    """A stream that cannot be read to its end unless it is what its digest says. Close it, or use a `with`."""

    __slots__ = ("_digest", "_file", "_hash")

    def __init__(self, file: "BinaryIO | Readable", digest: Digest) -> None:
        """Take over `file`, at its beginning."""
        self._file = file
        self._digest = digest
        self._hash = digest.hasher()

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, all that are left for -1, and none at the end, which is then verified."""
        if size < 0:
            return b"".join(self._chunks())
        chunk = self._file.read(size)
        if chunk:
            self._hash.update(chunk)
        elif size:
            self._digest.verify_hash(self._hash.hexdigest(), "a stored blob")
        return chunk

    def close(self) -> None:
        """Close the file; says nothing about what was not read."""
        close = getattr(self._file, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _chunks(self) -> "Iterator[bytes]":
        while chunk := self.read(_CHUNK_BYTES):
            yield chunk


def is_abandoned(name: str) -> bool:
    """Tell whether `name`, of a file in blobs/partial, belongs to a process that is gone."""
    parts = name.split("-")
    if len(parts) != 4 or not parts[0].isdigit() or not parts[1].isdigit():
        return True
    return not leases.is_alive(int(parts[0]), int(parts[1]), _long_boot_id(parts[2]))


class _Writer:
    """A file in blobs/partial that is renamed to its place or removed."""

    __slots__ = ("_fd", "_path", "_root")

    _count = 0

    def __init__(self, root: str) -> None:
        self._root = root
        self._fd = -1
        self._path = ""

    def __enter__(self) -> "Self":
        directory = f"{self._root}/blobs/partial"
        os.makedirs(directory, 0o700, exist_ok=True)
        while self._fd < 0:
            _Writer._count += 1
            pid = os.getpid()
            name = f"{pid}-{leases.start_time(pid)}-{boot_id().replace('-', '')}-{_Writer._count}"
            self._path = f"{directory}/{name}"
            try:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
        return self

    def copy(self, source: "bytes | Readable", algorithm: str, limit_bytes: int) -> tuple[int, str]:
        """Write `source` to its end; return its length and the value of its digest."""
        hasher, written = new_hasher(algorithm), 0
        for chunk in _chunks_of(source):
            written += len(chunk)
            if written > limit_bytes:
                raise Exhausted(f"a blob is longer than {limit_bytes} bytes")
            hasher.update(chunk)
            self.write(chunk)
        return written, hasher.hexdigest()

    def write(self, data: "bytes | bytearray") -> None:
        """Write all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def finish(self, path: str) -> None:
        """Sync, and rename to `path`."""
        os.fsync(self._fd)
        directory = os.path.dirname(path)
        os.makedirs(directory, 0o700, exist_ok=True)
        os.rename(self._path, path)
        self._path = ""
        sync_directory(directory)

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)
        if self._path:
            os.unlink(self._path)


class _Hashing:
    """A writable that hashes on the way to a `_Writer`; what comes in small pieces is written in large ones."""

    __slots__ = ("_buffer", "_hasher", "_writer", "size_bytes")

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer
        self._buffer = bytearray()
        self._hasher = new_hasher("sha256")
        self.size_bytes = 0

    def write(self, data: bytes, /) -> None:
        """Take all of `data`; raises Exhausted past what a blob may be."""
        self.size_bytes += len(data)
        if self.size_bytes > MAX_BLOB_BYTES:
            raise Exhausted(f"a blob is longer than {MAX_BLOB_BYTES} bytes")
        self._buffer += data
        if len(self._buffer) >= _CHUNK_BYTES:
            self._flush()

    def finish(self) -> str:
        """Write the rest; return the value of the digest."""
        self._flush()
        return self._hasher.hexdigest()

    def _flush(self) -> None:
        self._hasher.update(self._buffer)
        self._writer.write(self._buffer)
        self._buffer = bytearray()


def _chunks_of(source: "bytes | Readable") -> "Iterator[bytes]":
    if isinstance(source, bytes):
        yield source
        return
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk


def _long_boot_id(short: str) -> str:
    return f"{short[:8]}-{short[8:12]}-{short[12:16]}-{short[16:20]}-{short[20:]}"


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"the blob `{digest}` is not in the store")
