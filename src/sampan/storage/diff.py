"""Writing tar so that equal content has equal bytes: what built layers and saved archives are made of.

POSIX ustar, and a PAX header only where ustar cannot say it (long or non-ASCII names, large numbers, extended
attributes), its records sorted. Nothing comes from the machine: no clock, no names of users, no order but the caller's.
The bytes are part of every digest that was ever recorded, so a change of them is a new FORMAT. (POSIX pax, ustar
interchange format)
"""

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from sampan.storage.compression import Readable

    class Writable(Protocol):
        """Anything with a file's `write`."""

        def write(self, data: bytes, /) -> object:
            """Take all of `data`."""


# Goes into the cache keys of who writes layers.
FORMAT = 1

_BLOCK = 512
_COPY_BYTES = 1024 * 1024
_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")


class TarWriter:
    """Writes one archive to a file-like, entry by entry in the caller's order.

    Paths are relative, `/` between their parts; `mtime` is whole seconds. The archive ends with `finish`; without it,
    it is a piece that others can follow.
    """

    __slots__ = ("_file",)

    def __init__(self, file: "Writable") -> None:
        """Write to `file`, which stays the caller's."""
        self._file = file

    def add_directory(
        self,
        path: str,
        *,
        mode: int = 0o755,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
        xattrs: "Mapping[str, bytes] | None" = None,
    ) -> None:
        """Add a directory; its name gets the slash that readers of old formats look for."""
        name = os.fsencode(path.rstrip("/") or ".") + b"/"
        self._entry(b"5", name, mode=mode, owner=(uid, gid), mtime=mtime, xattrs=xattrs)

    def add_file(
        self,
        path: str,
        content: "bytes | Readable",
        *,
        size_bytes: int | None = None,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
        xattrs: "Mapping[str, bytes] | None" = None,
    ) -> None:
        """Add a regular file: bytes, or a stream that must give exactly `size_bytes`.

        Raises ValueError where it does not.
        """
        if isinstance(content, bytes):
            size_bytes = len(content)
        elif size_bytes is None:
            msg = "the size of a stream must be told"
            raise ValueError(msg)
        name = os.fsencode(path)
        self._entry(b"0", name, size_bytes=size_bytes, mode=mode, owner=(uid, gid), mtime=mtime, xattrs=xattrs)
        if isinstance(content, bytes):
            self._file.write(content)
        else:
            self._copy(content, size_bytes)
        self._file.write(bytes(-size_bytes % _BLOCK))

    def add_symlink(self, path: str, target: str, *, uid: int = 0, gid: int = 0, mtime: int = 0) -> None:
        """Add a symbolic link."""
        self._entry(b"2", os.fsencode(path), link=os.fsencode(target), mode=0o777, owner=(uid, gid), mtime=mtime)

    def add_link(
        self, path: str, target: str, *, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 0
    ) -> None:
        """Add a hard link to `target`, which the archive has brought before."""
        self._entry(b"1", os.fsencode(path), link=os.fsencode(target), mode=mode, owner=(uid, gid), mtime=mtime)

    def add_fifo(self, path: str, *, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 0) -> None:
        """Add a named pipe."""
        self._entry(b"6", os.fsencode(path), mode=mode, owner=(uid, gid), mtime=mtime)

    def finish(self) -> None:
        """Write the end of the archive: two blocks of zeros."""
        self._file.write(bytes(2 * _BLOCK))

    def _copy(self, source: "Readable", size: int) -> None:
        left = size
        while left and (chunk := source.read(min(left, _COPY_BYTES))):
            self._file.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            msg = "a file changed its size while it was put into an archive"
            raise ValueError(msg)

    def _entry(
        self,
        kind: bytes,
        name: bytes,
        *,
        mode: int,
        owner: tuple[int, int],
        mtime: int,
        link: bytes = b"",
        size_bytes: int = 0,
        xattrs: "Mapping[str, bytes] | None" = None,
    ) -> None:
        """Write the header of one entry, after a PAX header if it needs one."""
        pax = {b"SCHILY.xattr." + os.fsencode(key): value for key, value in (xattrs or {}).items()}
        prefix, short = _split(name)
        if short is None:
            pax[b"path"], prefix, short = name, b"", name[:100]
        if not _fits(link):
            pax[b"linkpath"], link = link, link[:100]
        numbers = (
            _octal(pax, b"uid", owner[0], _MAX_OCTAL_ID),
            _octal(pax, b"gid", owner[1], _MAX_OCTAL_ID),
            _octal(pax, b"size", size_bytes, _MAX_OCTAL_SIZE),
            _octal(pax, b"mtime", mtime, _MAX_OCTAL_SIZE),
        )
        if pax:
            self._pax(name, pax)
        self._file.write(_header(kind, (short, prefix, link), mode, numbers))

    def _pax(self, name: bytes, records: "Mapping[bytes, bytes]") -> None:
        content = b"".join(_record(key, records[key]) for key in sorted(records))
        place = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2]
        self._file.write(_header(b"x", (place[:100], b"", b""), 0o644, (0, 0, len(content), 0)))
        self._file.write(content + bytes(-len(content) % _BLOCK))


def _header(kind: bytes, names: tuple[bytes, bytes, bytes], mode: int, numbers: tuple[int, int, int, int]) -> bytes:
    name, prefix, link = names
    uid, gid, size, mtime = numbers
    block = _HEADER.pack(
        name,
        b"%07o\0" % (mode & 0o7777),
        b"%07o\0" % uid,
        b"%07o\0" % gid,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b"        ",
        kind,
        link,
        b"ustar\0",
        b"00",
        b"",
        b"",
        b"0000000\0",
        b"0000000\0",
        prefix,
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Part a name into ustar's prefix and name; no name where ustar cannot hold it."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    # The first slash that leaves at most 100 bytes, and not at the very end of a directory's name.
    slash = name.find(b"/", len(name) - 101, len(name) - 1)
    if slash < 1 or slash > 155:
        return b"", None
    return name[:slash], name[slash + 1 :]


def _fits(link: bytes) -> bool:
    return len(link) <= 100 and link.isascii()


def _octal(pax: dict[bytes, bytes], key: bytes, value: int, limit: int) -> int:
    """Return what the header's field holds: the value, or 0 where a PAX record has to say it."""
    if 0 <= value <= limit:
        return value
    pax[key] = b"%d" % value
    return 0


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE` and a line feed; the length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(b"%d" % len(rest))
    if len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest
