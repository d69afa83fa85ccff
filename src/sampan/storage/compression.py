"""Which compression a stream has, by its first bytes, and the stream without it.

gzip in several members is normal: builds concatenate one fragment for each wheel. So are zstd's frames, and those among
them that say nothing (RFC 8878 3.1.2), in which some tools keep an index. Padding of zeros after the last member is
passed over, as GNU tar and tapes leave it; anything else is Corrupt.
"""

import sys
import zlib

from sampan.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Protocol

    class Readable(Protocol):
        """Anything with a file's `read`: up to `size` bytes, none at the end."""

        def read(self, size: int, /) -> bytes:
            """Return the next bytes."""

    class Decompressor(Protocol):
        """What zlib, bz2, lzma and zstd give for one member."""

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
_SKIPPABLE = tuple(bytes((number,)) + b"\x2a\x4d\x18" for number in range(0x50, 0x60))
# zstd's own default: more is asked for by `--ultra --long` only.
_ZSTD_WINDOW_LOG = 27


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
    """Yield the content of `source` to its end, without gzip, bzip2, xz or zstd around it; raises Corrupt."""
    first = source.read(_READ_BYTES)
    # A pipe may give few bytes at first; the longest magic has six.
    while 0 < len(first) < len(_XZ) and (more := source.read(_READ_BYTES)):
        first += more
    for magics, new, failures in _KINDS:
        if first.startswith(magics):
            return _members(source, first, magics, new, failures())
    return _plain(source, first)


def _plain(source: "Readable", first: bytes) -> "Iterator[bytes]":
    while first:
        yield first
        first = source.read(_READ_BYTES)


def _members(
    source: "Readable",
    data: bytes,
    magics: tuple[bytes, ...],
    new: "Callable[[], Decompressor]",
    failures: tuple[type[Exception], ...],
) -> "Iterator[bytes]":
    member = new()
    while data:
        try:
            yield from _pieces(member, data)
        except failures as error:
            raise Corrupt("the compressed stream is damaged") from error
        data = member.unused_data if member.eof else source.read(_READ_BYTES)
        if member.eof:
            data = _after_member(source, data, magics)
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
        # zlib keeps what it was not let to unpack in unconsumed_tail, the others keep it inside.
        piece = member.decompress(getattr(member, "unconsumed_tail", b""), _PIECE_BYTES)


def _after_member(source: "Readable", data: bytes, magics: tuple[bytes, ...]) -> bytes:
    """Return the beginning of the next member; nothing where only zeros follow."""
    data = data.lstrip(b"\0")
    while len(data) < len(magics[0]) and (more := source.read(_READ_BYTES)):
        data = (data + more).lstrip(b"\0")
    if data and not data.startswith(magics):
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


def _zstd() -> "Decompressor":
    zstd = _zstd_module()
    made: Decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
    return made


def _zstd_module() -> "ModuleType":
    # Python's own since 3.14 (PEP 784); before that the same code, as a package.
    from importlib import import_module

    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _gzip_failures() -> tuple[type[Exception], ...]:
    return (zlib.error,)


def _bzip2_failures() -> tuple[type[Exception], ...]:
    return (OSError, EOFError)


def _xz_failures() -> tuple[type[Exception], ...]:
    import lzma

    return (lzma.LZMAError, EOFError)


def _zstd_failures() -> tuple[type[Exception], ...]:
    return (_zstd_module().ZstdError, EOFError)


_KINDS = (
    ((_GZIP,), _gzip, _gzip_failures),
    ((_BZIP2,), _bzip2, _bzip2_failures),
    ((_XZ,), _xz, _xz_failures),
    ((_ZSTD, *_SKIPPABLE), _zstd, _zstd_failures),
)
