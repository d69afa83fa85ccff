"""Reading a .deb: an ar archive of a control and a data tar (deb(5)). Pure, and bounded: its maker may err.

Members are read into memory; tar entries come as (header, content) with names made relative and checked. Nothing is
written here.
"""

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator

from sampan.errors import Corrupt

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
MAX_ENTRIES = 100_000
_CHUNK_BYTES = 1 << 20


def data(contents: bytes, subject: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield each entry of the data tar with its content; names are relative, without `./`. Raises Corrupt."""
    tar = _member(contents, "data.tar", subject)
    yield from _entries(tar, subject)


def control(contents: bytes, subject: str) -> dict[str, bytes]:
    """Return the files of the control tar by name. Raises Corrupt."""
    tar = _member(contents, "control.tar", subject)
    return {header.name: content for header, content in _entries(tar, subject) if header.isreg()}


def _member(contents: bytes, prefix: str, subject: str) -> bytes:
    """Return the unpacked member whose name begins with `prefix`."""
    if not contents.startswith(_MAGIC):
        raise Corrupt(f"{subject} is not a .deb")
    offset = len(_MAGIC)
    while offset + _HEADER_BYTES <= len(contents):
        header = contents[offset : offset + _HEADER_BYTES]
        size_text = header[48:58].strip()
        if header[58:60] != b"`\n" or not size_text.isdigit():
            raise Corrupt(f"{subject} has a malformed ar header")
        size = int(size_text)
        start = offset + _HEADER_BYTES
        name = header[:16].decode("ascii", errors="replace").strip().rstrip("/")
        if name.startswith(prefix):
            if start + size > len(contents):
                break
            return _unpacked(name, contents[start : start + size], subject)
        offset = start + size + (size & 1)
    raise Corrupt(f"{subject} has no member `{prefix}`")


def _unpacked(name: str, packed: bytes, subject: str) -> bytes:
    try:
        match name.rpartition(".")[2]:
            case "xz":
                return unxz(packed, MAX_UNPACKED_BYTES, subject)
            case "gz":
                with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
                    return _bounded(file.read(MAX_UNPACKED_BYTES + 1), subject)
            case "tar":
                return _bounded(packed, subject)
            case _:
                pass
    except (lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise Corrupt(f"{subject} cannot be unpacked") from error
    raise Corrupt(f"{subject} is packed as `{name[:20]}`, which no .deb of Debian is")


def unxz(packed: bytes, limit: int, subject: str) -> bytes:
    """Unpack xz data of at most `limit` bytes; raises Corrupt, LZMAError."""
    unpacker = lzma.LZMADecompressor(memlimit=256 * 1024 * 1024)
    out = io.BytesIO()
    piece = unpacker.decompress(packed, _CHUNK_BYTES)
    while piece or not unpacker.eof:
        out.write(piece)
        if out.tell() > limit:
            raise Corrupt(f"{subject} unpacks to more than {limit} bytes")
        if unpacker.needs_input and not unpacker.eof:
            raise Corrupt(f"{subject} ends too early")
        piece = b"" if unpacker.eof else unpacker.decompress(b"", _CHUNK_BYTES)
    return out.getvalue()


def _bounded(contents: bytes, subject: str) -> bytes:
    if len(contents) > MAX_UNPACKED_BYTES:
        raise Corrupt(f"{subject} unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return contents


def _entries(tar: bytes, subject: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield entries; reading headers only, contents are slices of what is in memory already."""
    count = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            for header in archive:
                count += 1
                name = header.name.removeprefix("./").rstrip("/")
                if count > MAX_ENTRIES or ".." in name.split("/") or name.startswith("/"):
                    raise Corrupt(f"{subject} has too many entries, or one that leads out of it")
                header.name = name
                content = tar[header.offset_data : header.offset_data + header.size] if header.isreg() else b""
                if name and name != ".":
                    yield header, content
    except (tarfile.TarError, ValueError) as error:
        raise Corrupt(f"{subject} holds a malformed tar") from error
