"""A layer on its way: what is put on top of a stage, checked against what lies below, then written as a tar. Hot.

Rules of COPY, as BuildKit has them: a directory never replaces a file nor a file a directory; directories that are
missing on the way are made 0755; one that is there keeps its mode unless it is copied itself. The layer holds what was
put and no directory that is there already. Its bytes depend on what was put and on nothing else: entries are sorted.
"""

import os
import stat

from sampan.build.tree import Node
from sampan.errors import Conflict, InvalidArgument, Unsupported
from sampan.oci.digest import new_hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from sampan.build.tree import Tree
    from sampan.document import Document
    from sampan.errors import Place
    from sampan.storage.diff import TarWriter

    class Stream(Protocol):
        """What a file's content is read from."""

        def read(self, size: int, /) -> bytes:
            """Return the next bytes, none at the end."""

        def close(self) -> None:
            """Close it."""


_WHITEOUT = ".wh."


class Piece:
    """One entry: a node's kind, with owner, mode and time as they are to be; `open` gives a file's content.

    `hash`, where there is one, is what the content must still be.
    """

    __slots__ = ("gid", "hash", "kind", "mode", "mtime", "open", "size_bytes", "target", "uid", "xattrs")

    def __init__(
        self,
        kind: int,
        mode: int,
        owner: tuple[int, int],
        *,
        mtime: int = 0,
        target: str = "",
        size_bytes: int = 0,
        hash: str = "",
        open: "Callable[[], Stream] | None" = None,
        xattrs: "dict[str, bytes] | None" = None,
    ) -> None:
        self.kind = kind  # of stat.S_IFMT
        self.mode = mode & 0o7777
        self.uid, self.gid = owner
        self.mtime = mtime
        self.target = target
        self.size_bytes = size_bytes
        self.hash = hash
        self.open = open
        self.xattrs = xattrs or {}

    @classmethod
    def directory(cls, owner: tuple[int, int], mtime: int) -> "Piece":
        """Return a directory that is made on the way."""
        return cls(stat.S_IFDIR, 0o755, owner, mtime=mtime)


class Draft:
    """What is put on `below`; `owner` and `mtime` are those of directories that are made on the way."""

    __slots__ = ("_below", "_mtime", "_owner", "_pieces", "_place")

    def __init__(self, below: "Tree", owner: tuple[int, int], mtime: int, at: "Place") -> None:
        self._below = below
        self._owner = owner
        self._mtime = mtime
        self._place = at
        self._pieces: dict[str, Piece] = {}

    def kind(self, path: str) -> int:
        """Return the kind (stat.S_IFMT) of what is at `path`, 0 where nothing is."""
        if path in self._pieces:
            return self._pieces[path].kind
        node = self._below.find(path)
        return stat.S_IFMT(node.mode) if isinstance(node, Node) else 0

    def piece(self, path: str) -> Piece:
        """Return what was put at `path`; raises InvalidArgument where nothing was."""
        if path not in self._pieces:
            raise InvalidArgument(f"a hard link leads to `/{path[:200]}`, which is not there", at=self._place)
        return self._pieces[path]

    def make_directories(self, path: str, owner: tuple[int, int] | None = None) -> None:
        """See to it that `path` and all above it are directories; `owner` is that of new ones, if not the draft's."""
        made = ""
        for part in path.split("/") if path else ():
            made = f"{made}/{part}" if made else part
            kind = self.kind(made)
            if kind == 0:
                self._set(made, Piece.directory(owner or self._owner, self._mtime))
            elif kind != stat.S_IFDIR:
                raise InvalidArgument(f"`/{made}` is there already and is no directory", at=self._place)

    def put(self, path: str, piece: Piece) -> None:
        """Put one entry."""
        self.make_directories(path.rpartition("/")[0])
        kind = self.kind(path)
        if kind and kind != piece.kind and stat.S_IFDIR in {kind, piece.kind}:
            words = ("a directory", "a file") if kind == stat.S_IFDIR else ("a file", "a directory")
            raise InvalidArgument(f"`/{path}` is {words[0]}, which {words[1]} cannot replace", at=self._place)
        self._set(path, piece)

    def write(self, writer: "TarWriter") -> "Document":
        """Write all of it, each directory before what is in it; return the record. One piece at two paths is linked."""
        written: dict[int, str] = {}
        for path in sorted(self._pieces, key=os.fsencode):
            piece = self._pieces[path]
            first = written.setdefault(id(piece), path)
            if first != path and piece.open is not None:
                told = {"uid": piece.uid, "gid": piece.gid, "mtime": piece.mtime}
                writer.add_link(path, first, mode=piece.mode, **told)
            else:
                _write(writer, path, piece)
        return {"entries": len(self._pieces)}

    def is_empty(self) -> bool:
        """Tell whether nothing was put."""
        return not self._pieces

    def _set(self, path: str, piece: Piece) -> None:
        if path.rpartition("/")[2].startswith(_WHITEOUT):
            raise Unsupported(f"`/{path[:200]}` has a name that means a deleted file in a layer", at=self._place)
        self._pieces[path] = piece


class _Checked:
    """A stream that must be what its hash says, where there is one."""

    __slots__ = ("_hash", "_hasher", "_path", "_stream")

    def __init__(self, stream: "Stream", hash: str, path: str) -> None:
        self._stream = stream
        self._hash = hash
        self._path = path
        self._hasher = new_hasher()

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; raises Conflict at the end of what has changed."""
        piece = self._stream.read(size)
        self._hasher.update(piece)
        if not piece and self._hash and self._hasher.hexdigest() != self._hash:
            raise _changed(self._path)
        return piece


def _write(writer: "TarWriter", path: str, piece: Piece) -> None:
    told = {"uid": piece.uid, "gid": piece.gid, "mtime": piece.mtime}
    if piece.kind == stat.S_IFDIR:
        writer.add_directory(path, mode=piece.mode, xattrs=piece.xattrs, **told)
    elif piece.kind == stat.S_IFLNK:
        writer.add_symlink(path, piece.target, **told)
    elif piece.open is not None:
        stream = piece.open()
        checked = _Checked(stream, piece.hash, path)
        try:
            writer.add_file(path, checked, size_bytes=piece.size_bytes, mode=piece.mode, xattrs=piece.xattrs, **told)
        except ValueError as error:
            raise _changed(path) from error
        finally:
            stream.close()
    else:
        raise Unsupported(f"`/{path[:200]}` is a device or pipe, which a layer of a build does not hold")


def _changed(path: str) -> Conflict:
    return Conflict(f"`/{path}` changed while the image was being built", hints=("build again",))
