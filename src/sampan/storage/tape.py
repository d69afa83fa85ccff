"""Reading tar, as a stream: ustar, GNU long names, PAX with extended attributes. Hostile input is normal here.

`Tape.next` gives one entry after the other; between two calls `contents` gives its bytes. Names are bytes throughout,
as the kernel's are, so no encoding can fail. Every size, length and count has a bound. Sparse files are refused: no
layer that a builder makes has them, and their maps are where readers disagree. Raises Corrupt, Unsupported, Exhausted.
(POSIX pax, ustar interchange format; tar(5); image-spec v1.1 layer.md)
"""

import struct

from sampan.errors import Corrupt, Exhausted, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
_READ_BYTES = 1024 * 1024
_ZERO = bytes(BLOCK)
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_XATTR = b"SCHILY.xattr."

# Type flags, tar(5).
FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_WITHOUT_CONTENT = (LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)
_OLD_FILES = (b"\0", b"7")
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK, _GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"


class Bounds:
    """What one archive may ask of us."""

    __slots__ = ("depth", "entries", "name_bytes", "pax_bytes", "total_bytes", "xattr_bytes", "xattrs")

    def __init__(
        self,
        *,
        entries: int = 2_000_000,
        total_bytes: int = 256 * 1024**3,
        name_bytes: int = 4095,
        depth: int = 256,
        pax_bytes: int = 1024 * 1024,
        xattrs: int = 64,
        xattr_bytes: int = 65536,
    ) -> None:
        self.entries = entries
        self.total_bytes = total_bytes  # of the uncompressed stream
        self.name_bytes = name_bytes  # PATH_MAX, limits.h
        self.depth = depth
        self.pax_bytes = pax_bytes
        self.xattrs = xattrs
        self.xattr_bytes = xattr_bytes  # XATTR_SIZE_MAX, limits.h


class Entry:
    """One member of the archive, with long names and PAX records applied."""

    __slots__ = ("gid", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "size_bytes", "uid", "xattrs")

    def __init__(self, header: bytes) -> None:
        """Read a header block whose checksum was right."""
        fields = _HEADER.unpack(header)
        name, self.link, prefix = _string(fields[0]), _string(fields[8]), b""
        # Only POSIX ustar has a prefix; GNU's header has other things in its place.
        if fields[9] == b"ustar\0":
            prefix = _string(fields[15])
        self.name = prefix + b"/" + name if prefix else name
        self.mode = _number(fields[1]) & 0o7777
        self.uid = _number(fields[2])
        self.gid = _number(fields[3])
        self.size_bytes = _number(fields[4])
        self.mtime_ns = _number(fields[5]) * 1_000_000_000
        self.kind = fields[7]
        self.major = _number(fields[13]) if fields[9][:5] == b"ustar" else 0
        self.minor = _number(fields[14]) if fields[9][:5] == b"ustar" else 0
        self.xattrs: dict[bytes, bytes] = {}


class Tape:
    """An archive, read once from beginning to end."""

    __slots__ = ("_buffer", "_entries", "_left", "_offset", "_padding", "_read", "_total", "bounds")

    def __init__(self, read: "Callable[[int], bytes]", bounds: Bounds) -> None:
        """Get the stream from `read`, which returns at most so many bytes, and none at the end."""
        self._read = read
        self.bounds = bounds
        self._buffer = b""
        self._offset = 0
        self._left = 0
        self._padding = 0
        self._entries = 0
        self._total = 0

    def next(self) -> Entry | None:
        """Return the next entry, or None at the end of the archive."""
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        pax: dict[bytes, bytes] = {}
        name = link = None
        while True:
            header = self._header()
            if header is None:
                return None
            kind = header[156:157]
            if kind not in {_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK}:
                return self._finished(Entry(header), pax, name, link)
            content = self._extension(_number(header[124:136]))
            if kind == _PAX:
                pax |= _records(content)
            elif kind == _GNU_NAME:
                name = _string(content)
            elif kind == _GNU_LINK:
                link = _string(content)
            # A global header is read over, as docker does: git archive's is a comment.

    def contents(self) -> "Iterator[memoryview]":
        """Yield what is left of the current entry's content, piece by piece; a piece is valid until the next."""
        while self._left:
            if self._offset == len(self._buffer) and not self._fill():
                raise Corrupt("the archive ends in the middle of a file")
            piece = memoryview(self._buffer)[self._offset : self._offset + self._left]
            self._offset += len(piece)
            self._left -= len(piece)
            yield piece

    def relative(self, name: bytes) -> bytes:
        """Return an entry's `name` below the root, without `.`, `..` and empty parts: a `..` ends at the root.

        Raises Exhausted for one that is too deep.
        """
        parts: list[bytes] = []
        for part in name.split(b"/"):
            if part == b"..":
                del parts[-1:]
            elif part not in {b"", b"."}:
                parts.append(part)
        if len(parts) > self.bounds.depth:
            raise Exhausted(f"a path in the archive has more than {self.bounds.depth} parts")
        return b"/".join(parts)

    def drain(self) -> None:
        """Read the rest of the stream, which follows the end of the archive."""
        while self._fill():
            self._offset = len(self._buffer)

    def _header(self) -> bytes | None:
        """Return the next header block, its checksum verified; None for two blocks of zeros or the stream's end."""
        self._entries += 1
        if self._entries > self.bounds.entries:
            raise Exhausted(f"the archive has more than {self.bounds.entries} entries")
        header = self._take(BLOCK)
        if header == _ZERO:
            if self._take(BLOCK) not in {_ZERO, b""}:
                raise Corrupt("the archive goes on after a block of zeros")
            return None
        if not header:
            return None
        if len(header) < BLOCK:
            raise Corrupt("the archive ends in the middle of a header")
        _verify_checksum(header)
        return header

    def _extension(self, size: int) -> bytes:
        """Return the content of an entry that describes the next one."""
        if not 0 <= size <= self.bounds.pax_bytes:
            raise Exhausted(f"the archive has an extended header of {size} bytes; the limit is {self.bounds.pax_bytes}")
        content = self._take(size)
        if len(content) < size:
            raise Corrupt("the archive ends in the middle of a header")
        self._skip(-size % BLOCK)
        return content

    def _finished(self, entry: Entry, pax: dict[bytes, bytes], name: bytes | None, link: bytes | None) -> Entry:
        """Apply what the extended headers said, and prepare for the content."""
        entry.name = name if name is not None else entry.name
        entry.link = link if link is not None else entry.link
        if pax:
            _apply_pax(entry, pax)
        if entry.kind == _GNU_SPARSE or any(key.startswith(b"GNU.sparse.") for key in pax):
            hint = "make the archive again without `--sparse`"
            raise Unsupported(f"the archive holds a sparse file, `{_shown(entry.name)}`", hints=(hint,))
        if entry.kind in _OLD_FILES:
            entry.kind = DIRECTORY if entry.name.endswith(b"/") else FILE
        if entry.kind in _WITHOUT_CONTENT:
            entry.size_bytes = 0
        self._check(entry)
        self._left = entry.size_bytes
        self._padding = -entry.size_bytes % BLOCK
        return entry

    def _check(self, entry: Entry) -> None:
        bounds = self.bounds
        if len(entry.name) > bounds.name_bytes or len(entry.link) > bounds.name_bytes:
            raise Exhausted(f"the archive has a name longer than {bounds.name_bytes} bytes")
        if b"\0" in entry.name or b"\0" in entry.link:
            raise Corrupt("the archive has a name with a zero byte")
        if not 0 <= entry.size_bytes <= bounds.total_bytes:
            raise Exhausted(f"`{_shown(entry.name)}` in the archive has {entry.size_bytes} bytes")
        # -1 would mean "leave it as it is" to chown(2).
        if not (0 <= entry.uid < 0xFFFFFFFF and 0 <= entry.gid < 0xFFFFFFFF):
            raise Corrupt(f"`{_shown(entry.name)}` in the archive has an owner that is no id")
        if len(entry.xattrs) > bounds.xattrs or any(len(v) > bounds.xattr_bytes for v in entry.xattrs.values()):
            raise Exhausted(f"`{_shown(entry.name)}` in the archive has too many extended attributes, or too long ones")

    def _take(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the stream."""
        end = self._offset + size
        if end <= len(self._buffer):
            taken = self._buffer[self._offset : end]
            self._offset = end
            return taken
        parts = [self._buffer[self._offset :]]
        missing = size - len(parts[0])
        while missing and self._fill():
            parts.append(self._buffer[:missing])
            self._offset = len(parts[-1])
            missing -= self._offset
        if missing:
            self._offset = len(self._buffer)
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            if self._offset == len(self._buffer) and not self._fill():
                raise Corrupt("the archive ends in the middle of a file")
            step = min(size, len(self._buffer) - self._offset)
            self._offset += step
            size -= step

    def _fill(self) -> bool:
        """Read the next piece of the stream; False at its end."""
        self._buffer = self._read(_READ_BYTES)
        self._offset = 0
        self._total += len(self._buffer)
        if self._total > self.bounds.total_bytes:
            raise Exhausted(f"the archive is longer than {self.bounds.total_bytes} bytes when unpacked")
        return bool(self._buffer)


def _verify_checksum(header: bytes) -> None:
    # Eight spaces stand for the checksum while it is computed; some old tars summed signed bytes.
    spaces = header[:148] + b"        " + header[156:]
    promised = _number(header[148:156])
    if sum(spaces) != promised and sum(struct.unpack("512b", spaces)) != promised:
        raise Corrupt("this is no tar archive, or it is damaged: a header's checksum is wrong")


def _apply_pax(entry: Entry, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        match key:
            case b"path":
                entry.name = value
            case b"linkpath":
                entry.link = value
            case b"size":
                entry.size_bytes = _decimal(value)
            case b"uid":
                entry.uid = _decimal(value)
            case b"gid":
                entry.gid = _decimal(value)
            case b"mtime":
                entry.mtime_ns = _nanoseconds(value)
            case _ if key.startswith(_XATTR):
                entry.xattrs[key[len(_XATTR) :]] = value
            case _:
                pass  # atime, comment and the like: POSIX lets a reader pass them over


def _records(content: bytes) -> dict[bytes, bytes]:
    """Read records `LENGTH KEY=VALUE` and a line feed; LENGTH counts all of it."""
    records: dict[bytes, bytes] = {}
    offset = 0
    while offset < len(content):
        digits, space, _ = content[offset : offset + 12].partition(b" ")
        length = _decimal(digits) if space else 0
        record = content[offset + len(digits) + 1 : offset + length]
        key, equals, value = record[:-1].partition(b"=")
        # INVARIANT: a record without its own digits, space, `=` and line feed would not move us on.
        if length <= len(digits) + 1 or offset + length > len(content) or not equals or record[-1:] != b"\n":
            raise Corrupt("the archive has an extended header that is no list of records")
        records[key] = value
        offset += length
    return records


def _string(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Read octal digits, or GNU's base 256 for what does not fit."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        # The next bit is the sign.
        bits = 8 * len(field) - 1
        return value - (1 << bits) if field[0] & 0x40 else value
    digits = field.strip(b"\0 ")
    if not digits:
        return 0
    if not digits.isdigit():
        raise Corrupt("the archive has a number that is none")
    try:
        return int(digits, 8)
    except ValueError as error:
        raise Corrupt("the archive has a number that is none") from error


def _decimal(text: bytes) -> int:
    # The length first: Python's own bound on digits raises another error.
    if not 0 < len(text) <= 20 or not text.isdigit():
        raise Corrupt("the archive has a number that is none")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    negative = text.startswith(b"-")
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    value = _decimal(whole) * 1_000_000_000 + (_decimal(fraction[:9].ljust(9, b"0")) if fraction else 0)
    return -value if negative else value


def _shown(name: bytes) -> str:
    return name[:200].decode("utf-8", "replace")
