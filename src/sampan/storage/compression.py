"""Which compression a stream has, by its first bytes, and the stream without it.

gzip in several members is normal: builds concatenate one fragment for each wheel. Padding of zeros after the last
member is passed over, as GNU tar and tapes leave it; anything else is Corrupt.
"""

import zlib

from sampan.errors import Corrupt, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class Readable(Protocol):
        """Anything with a file's `read`: up to `size` bytes, none at the end."""

        def read(self, size: int, /) -> bytes:
            """Return the next bytes."""

    class Decompressor(Protocol):
        """What zlib, bz2 and lzma give for one member."""

        @property
        def eof(self) -> bool:
            """Tell whether the member has ended."""

        @property
        def unused_data(self) -> bytes:
            """Return what follows the member."""

        def decompress(self, data: bytes, max_length: int, /) -> bytes:
            """Return at most `max_length` bytes more."""


_READ_BYTES = 256 * 1024
# What a hostile member can make of one piece at a time: memory is bounded whatever it claims.
_PIECE_BYTES = 1024 * 1024

_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


def name_of(first: bytes) -> str:
    """Return `gzip`, `bzip2`, `xz`, `zstd` or nothing for a stream that begins with the six bytes `first`."""
    names = ((_GZIP, "gzip"), (_BZIP2, "bzip2"), (_XZ, "xz"), (_ZSTD, "zstd"))
    return next((name for magic, name in names if first.startswith(magic)), "")


class Pieces:
    """A stream made of an iterator of pieces: `read` returns at most `size` bytes, none at the end."""

    __slots__ = ("_left", "_pieces")

    def __init__(self, pieces: "Iterator[bytes]") -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; a piece is parted where it is longer than `size`."""
        piece = self._left or next(self._pieces, b"")
        self._left = piece[size:]
        return piece[:size]


def decompressed(source: "Readable") -> "Iterator[bytes]":
    """Yield the content of `source` to its end, without gzip, bzip2 or xz around it; raises Corrupt, Unsupported."""
    first = source.read(_READ_BYTES)
    # A pipe may give few bytes at first; the longest magic has six.
    while 0 < len(first) < len(_XZ) and (more := source.read(_READ_BYTES)):
        first += more
    if first.startswith(_ZSTD):
        hint = "fetch or save the image with gzip layers, or unpack the file with `unzstd` first"
        raise Unsupported("this is compressed with zstd, which Sampan does not read yet", hints=(hint,))
    for magic, new in ((_GZIP, _gzip), (_BZIP2, _bzip2), (_XZ, _xz)):
        if first.startswith(magic):
            return _members(source, first, magic, new)
    return _plain(source, first)


def _plain(source: "Readable", first: bytes) -> "Iterator[bytes]":
    while first:
        yield first
        first = source.read(_READ_BYTES)


def _members(source: "Readable", data: bytes, magic: bytes, new: "Callable[[], Decompressor]") -> "Iterator[bytes]":
    member = new()
    failures = _failures()
    while data:
        try:
            yield from _pieces(member, data)
        except failures as error:
            raise Corrupt("the compressed stream is damaged") from error
        data = member.unused_data if member.eof else source.read(_READ_BYTES)
        if member.eof:
            data = _after_member(source, data, magic)
            member = new() if data else member
    if not member.eof:
        raise Corrupt("the compressed stream ends too early")


def _pieces(member: "Decompressor", data: bytes) -> "Iterator[bytes]":
    """Yield what `data` unpacks to, a bounded piece at a time."""
    piece = member.decompress(data, _PIECE_BYTES)
    while piece:
        yield piece
        if member.eof:
            return
        # zlib keeps what it was not let to unpack in unconsumed_tail, bz2 and lzma keep it inside.
        piece = member.decompress(getattr(member, "unconsumed_tail", b""), _PIECE_BYTES)


def _after_member(source: "Readable", data: bytes, magic: bytes) -> bytes:
    """Return the beginning of the next member; nothing where only zeros follow."""
    data = data.lstrip(b"\0")
    while len(data) < len(magic) and (more := source.read(_READ_BYTES)):
        data = (data + more).lstrip(b"\0")
    if data and not data.startswith(magic):
        raise Corrupt("the compressed stream is followed by something else")
    return data


def _gzip() -> "Decompressor":
    return zlib.decompressobj(wbits=31)


def _bzip2() -> "Decompressor":
    import bz2

    return bz2.BZ2Decompressor()


def _xz() -> "Decompressor":
    import lzma

    # An xz header may ask for 4 GiB of dictionary.
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 * 1024 * 1024)


def _failures() -> tuple[type[Exception], ...]:
    import lzma

    # bz2 raises OSError.
    return (zlib.error, lzma.LZMAError, OSError, EOFError)
