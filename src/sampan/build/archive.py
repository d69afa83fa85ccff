"""ADD of an archive: a tar, compressed or not, is put as what is in it.

Whether a file is one is decided by its content. SECURITY: names are hostile; `..` does not lead above the destination,
and nothing is put below what is no directory. Contents wait in one passing file until the layer is written.
"""

import os
import stat

from sampan.build.draft import Piece
from sampan.errors import Corrupt, InvalidArgument, Unsupported
from sampan.storage import compression, tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from sampan.build.draft import Draft
    from sampan.errors import Place
    from sampan.storage.compression import Readable

_KINDS = {tape.DIRECTORY: stat.S_IFDIR, tape.SYMLINK: stat.S_IFLNK, tape.FILE: stat.S_IFREG}


def is_archive(file: "Readable") -> bool:
    """Tell whether a tar with something in it begins here."""
    try:
        return _tape(file).next() is not None
    except (Corrupt, Unsupported):
        return False


def put(
    file: "Readable",
    spool: "BinaryIO",
    draft: "Draft",
    into: str,
    *,
    owner: tuple[int, int] | None,
    epoch: int | None,
    at: "Place",
) -> None:
    """Put what is in the tar `file` into the directory `into`; contents go to `spool`, which the draft reads later."""
    archive = _tape(file)
    try:
        while entry := archive.next():
            path = _inside(into, entry.name)
            if path != into:
                # A directory that the archive does not hold is root's, whoever is to own what it does.
                draft.make_directories(path.rpartition("/")[0], (0, 0))
                draft.put(path, _piece(entry, archive, spool, draft, into, owner=owner, epoch=epoch))
    except (Corrupt, Unsupported) as error:
        raise InvalidArgument("the archive cannot be read to its end", at=at) from error


def _piece(
    entry: tape.Entry,
    archive: tape.Tape,
    spool: "BinaryIO",
    draft: "Draft",
    into: str,
    *,
    owner: tuple[int, int] | None,
    epoch: int | None,
) -> Piece:
    if entry.kind == tape.LINK:
        return draft.piece(_inside(into, entry.link))
    if entry.kind not in _KINDS:
        raise Unsupported(f"`{os.fsdecode(entry.name)[:200]}` is a device or pipe")
    mtime = max(0, entry.mtime_ns // 1_000_000_000)
    begin = spool.seek(0, os.SEEK_END)
    for chunk in archive.contents():
        spool.write(chunk)
    size = spool.tell() - begin
    spool.flush()
    return Piece(
        _KINDS[entry.kind],
        entry.mode,
        owner or (entry.uid, entry.gid),
        mtime=mtime if epoch is None else min(mtime, epoch),
        target=os.fsdecode(entry.link),
        size_bytes=size,
        open=(lambda: _Slice(spool.fileno(), begin, size)) if entry.kind == tape.FILE else None,
    )


def _inside(into: str, name: bytes) -> str:
    """Return the path of a member below `into`."""
    parts: list[str] = []
    for part in os.fsdecode(name).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join([into, *parts] if into else parts)


def _tape(file: "Readable") -> tape.Tape:
    return tape.Tape(compression.Pieces(compression.decompressed(file)).read, tape.Bounds())


class _Slice:
    """A part of the passing file."""

    __slots__ = ("_at", "_fd", "_left")

    def __init__(self, fd: int, at: int, size: int) -> None:
        self._fd = fd
        self._at = at
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end."""
        piece = os.pread(self._fd, min(size, self._left), self._at)
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Do nothing: the passing file is its owner's."""
