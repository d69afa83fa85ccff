"""Making layers: entries become a tar, the tar gzip members, members a blob. Equal entries, equal digests. Hot.

What a step or COPY made is stored as the tar that it is, and compressed by a push: mostly it never leaves the machine.
Other layers are gzip members one after the other (RFC 1952 2.2): a fragment is some of them, without the tar's end.
zlib at level 6, no file name, no time. A tar is cut into pieces of a fixed size, each a member of its own, which are
compressed on all processors; the cuts do not depend on how many there are. Memory holds some pieces, never a whole tar.
"""

import zlib

from sampan.build import entry as entries
from sampan.build.cache import Result
from sampan.build.scratch import passing_file
from sampan.oci.digest import Digest, new_hasher
from sampan.storage.diff import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from typing import BinaryIO, Protocol, Self

    from sampan.build.entry import Entry
    from sampan.document import Document
    from sampan.image.content import Content
    from sampan.storage.diff import Writable

    class Closable(Protocol):
        """A stream that is closed by whoever reads it."""

        def read(self, size: int, /) -> bytes:
            """Return the next bytes, none at the end."""

        def close(self) -> None:
            """Close it; idempotent."""


_LEVEL = 6
# For stand-ins, which mostly never leave this machine.
QUICK = 1
_GZIP = 31  # zlib.h, deflateInit2: windowBits + 16 writes a gzip header
_PIECE_BYTES = 2 << 20
_IN_MEMORY_BYTES = 32 << 20
_READ_BYTES = 256 << 10
_AHEAD = 8
# Two blocks of zeros, pax(1).
_END = bytes(1024)


def fragment(found: "Iterable[Entry]", into: "Writable") -> int:
    """Write the gzip members of `found` to `into`, without a tar's end; return their unpacked size."""
    with _Packer(into) as packer:
        _write_tar(found, packer)
    return packer.unpacked_bytes


def write(content: "Content", members: "Iterable[Callable[[], Closable]]", record: "Document") -> Result:
    """Store a layer of `members`, each of which opens a fragment, one after the other, with a tar's end after them."""
    import io

    with _Members([*members, lambda: io.BytesIO(_compress(_END))]) as source:
        digest, size = content.put(source)
    return Result(digest, source.diff_id(), size, {**record, "unpacked": source.unpacked_bytes})


def write_entries(content: "Content", found: "Sequence[Entry]", record: "Document", level: int = _LEVEL) -> Result:
    """Store a layer of `found`, packed at zlib's `level`."""
    with _passing_file(content.root, sum(item.size_bytes for item in found)) as packed:
        with _Packer(packed, level) as packer:
            _write_tar(found, packer)
            packer.write(_END)
        packed.seek(0)
        digest, size = content.put(packed)
    return Result(digest, packer.diff_id(), size, {**record, "unpacked": packer.unpacked_bytes})


def write_tar(content: "Content", fill: "Callable[[TarWriter], Document]") -> Result:
    """Store a layer of what `fill` writes as a plain tar, which a push compresses; it returns the record."""
    record: Document = {}

    def write(into: "Writable") -> None:
        writer = TarWriter(into)
        record.update(fill(writer))
        writer.finish()

    digest, size = content.fill(write)
    return Result(digest, digest, size, {**record, "unpacked": size})


def _passing_file(root: str, size_bytes: int) -> "BinaryIO":
    """Return a file that is gone when it is closed: in memory where little goes into it."""
    import io

    return io.BytesIO() if size_bytes <= _IN_MEMORY_BYTES else passing_file(root)


class _Packer:
    """A writable that packs what is written to it, piece by piece, into members in `into`."""

    __slots__ = ("_buffer", "_hasher", "_into", "_level", "_pool", "_waiting", "unpacked_bytes")

    def __init__(self, into: "Writable", level: int = _LEVEL) -> None:
        self._into = into
        self._level = level
        self._buffer = bytearray()
        self._hasher = new_hasher()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: list[Future[bytes]] = []
        self.unpacked_bytes = 0

    def write(self, data: bytes, /) -> None:
        """Take all of `data`."""
        self._buffer += data
        while len(self._buffer) >= _PIECE_BYTES:
            self._submit(bytes(self._buffer[:_PIECE_BYTES]))
            del self._buffer[:_PIECE_BYTES]

    def diff_id(self) -> Digest:
        """Return the digest of all that was written."""
        return Digest("sha256", self._hasher.hexdigest())

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", *exception: object) -> None:
        """Pack the rest; on an error, only end the threads."""
        try:
            if kind is None:
                self._finish()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _finish(self) -> None:
        rest = bytes(self._buffer)
        self._count(rest)
        while self._waiting:
            self._into.write(self._waiting.pop(0).result())
        if rest:
            self._into.write(_compress(rest, self._level))

    def _submit(self, piece: bytes) -> None:
        if self._pool is None:
            import os
            from concurrent.futures import ThreadPoolExecutor  # zlib lets other threads run

            self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._waiting.append(self._pool.submit(_compress, piece, self._level))
        self._count(piece)
        if len(self._waiting) > _AHEAD:
            self._into.write(self._waiting.pop(0).result())

    def _count(self, piece: bytes) -> None:
        self._hasher.update(piece)
        self.unpacked_bytes += len(piece)


class _Members:
    """A readable of members that hashes what they unpack to on the way."""

    __slots__ = ("_hasher", "_members", "_open", "_unpacker", "unpacked_bytes")

    def __init__(self, members: "Iterable[Callable[[], Closable]]") -> None:
        self._members = iter(members)
        self._open: Closable | None = None
        self._hasher = new_hasher()
        self._unpacker = zlib.decompressobj(_GZIP)
        self.unpacked_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while True:
            if self._open is None:
                opener = next(self._members, None)
                if opener is None:
                    return b""
                self._open = opener()
            piece = self._open.read(min(size, _READ_BYTES))
            if piece:
                self._hash(piece)
                return piece
            self._close()

    def diff_id(self) -> Digest:
        """Return the digest of all that was unpacked."""
        return Digest("sha256", self._hasher.hexdigest())

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _hash(self, packed: bytes) -> None:
        while packed:
            piece = self._unpacker.decompress(packed, _PIECE_BYTES)
            self._hasher.update(piece)
            self.unpacked_bytes += len(piece)
            packed = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                packed = self._unpacker.unused_data
                self._unpacker = zlib.decompressobj(_GZIP)


def _compress(piece: bytes, level: int = _LEVEL) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    return packer.compress(piece) + packer.flush()


def _write_tar(found: "Iterable[Entry]", into: _Packer) -> None:
    writer = TarWriter(into)
    for item in found:
        if item.kind == entries.DIRECTORY:
            writer.add_directory(item.path, mode=item.mode, uid=item.uid, gid=item.gid, mtime=item.mtime)
        elif item.kind == entries.LINK:
            writer.add_symlink(item.path, item.target, uid=item.uid, gid=item.gid, mtime=item.mtime)
        else:
            writer.add_file(
                item.path,
                item.content,
                size_bytes=item.size_bytes,
                mode=item.mode,
                uid=item.uid,
                gid=item.gid,
                mtime=item.mtime,
            )
