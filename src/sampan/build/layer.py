"""Making layers: entries become a tar, the tar gzip members, members a blob. Equal entries, equal digests. Hot.

A layer's blob is gzip members one after the other (RFC 1952 2.2): a fragment is some of them, without the tar's end.
zlib at level 6, no file name, no time. Large tars are cut into pieces of a fixed size that are compressed on all
processors; the cuts do not depend on how many there are.
"""

import zlib

from sampan.build import entry as entries
from sampan.build.cache import Result
from sampan.oci.digest import Digest, new_hasher
from sampan.storage.diff import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sampan.build.entry import Entry
    from sampan.document import Document
    from sampan.image.content import Content

_LEVEL = 6
_GZIP = 31  # zlib.h, deflateInit2: windowBits + 16 writes a gzip header
_PIECE_BYTES = 2 << 20
# Two blocks of zeros, pax(1).
_END = bytes(1024)
_MAX_FRAGMENT_BYTES = 8 * 1024**3


def fragment(found: "Iterable[Entry]") -> tuple[bytes, int]:
    """Return the gzip members of `found`, without a tar's end, and their unpacked size."""
    tar = _tar(found)
    return b"".join(_packed(tar)), len(tar)


def write(content: "Content", members: "Iterable[bytes]", record: "Document") -> Result:
    """Store a layer of `members` (fragments, each gzip members) with a tar's end after them."""
    source = _Members([*members, _compress(_END)])
    digest, size = content.put(source)
    return Result(digest, source.diff_id(), size, {**record, "unpacked": source.unpacked_bytes})


def write_entries(content: "Content", found: "Iterable[Entry]", record: "Document") -> Result:
    """Store a layer of `found`."""
    tar = _tar(found) + _END
    hasher = new_hasher()
    hasher.update(tar)
    packed = b"".join(_packed(tar))
    digest, size = content.put(packed)
    return Result(digest, Digest("sha256", hasher.hexdigest()), size, {**record, "unpacked": len(tar)})


class _Members:
    """A readable of members that hashes what they unpack to on the way."""

    def __init__(self, members: "Sequence[bytes]") -> None:
        self._members = iter(members)
        self._hasher = new_hasher()
        self._rest = memoryview(b"")
        self.unpacked_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while not self._rest:
            member = next(self._members, None)
            if member is None:
                return b""
            self._hash(member)
            self._rest = memoryview(member)
        piece = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return piece

    def diff_id(self) -> Digest:
        """Return the digest of all that was unpacked."""
        return Digest("sha256", self._hasher.hexdigest())

    def _hash(self, members: bytes) -> None:
        while members:
            unpacker = zlib.decompressobj(_GZIP)
            piece = unpacker.decompress(members, _PIECE_BYTES)
            while piece:
                self._hasher.update(piece)
                self.unpacked_bytes += len(piece)
                piece = unpacker.decompress(unpacker.unconsumed_tail, _PIECE_BYTES)
            members = unpacker.unused_data


def _compress(piece: "bytes | memoryview") -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(piece) + packer.flush()


def _packed(tar: bytes) -> "Iterator[bytes]":
    """Yield one member for each piece of `tar`."""
    view = memoryview(tar)
    pieces = [view[start : start + _PIECE_BYTES] for start in range(0, len(tar), _PIECE_BYTES)]
    if len(pieces) < 2:
        yield from map(_compress, pieces)
        return
    import os
    from concurrent.futures import ThreadPoolExecutor  # zlib lets other threads run

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(_compress, pieces)


def _tar(found: "Iterable[Entry]") -> bytes:
    import io

    out = io.BytesIO()
    writer = TarWriter(out)
    for item in found:
        _add(writer, item)
    return out.getvalue()


def _add(writer: TarWriter, item: "Entry") -> None:
    if item.kind == entries.DIRECTORY:
        writer.add_directory(item.path, mode=item.mode, uid=item.uid, gid=item.gid, mtime=item.mtime)
    elif item.kind == entries.LINK:
        writer.add_symlink(item.path, item.target, uid=item.uid, gid=item.gid, mtime=item.mtime)
    else:
        writer.add_file(item.path, item.content, mode=item.mode, uid=item.uid, gid=item.gid, mtime=item.mtime)
