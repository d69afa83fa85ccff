"""The executors of COPY, ADD and WORKDIR: files of the context, a stage or an image become a layer."""

import io
import stat
from functools import partial

from sampan.build import archive, layer, mode, owner, tree
from sampan.build.draft import Draft, Piece
from sampan.build.pick import Picker
from sampan.build.scratch import passing_file
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from sampan.build.cache import Result
    from sampan.build.graph import Vertex
    from sampan.build.pick import Picked
    from sampan.build.stock import Stock
    from sampan.build.tree import Node, Tree
    from sampan.document import Document
    from sampan.errors import Place

    Work = Sequence[tuple[Vertex, tuple[Result, ...]]]


class Directories:
    """Makes what WORKDIR asks for, where it is not there: the USER's, as BuildKit has it."""

    def __init__(self, stock: "Stock") -> None:
        self._stock = stock

    def make(self, work: "Work") -> "list[Result]":
        """Make each (`solver.Executor`)."""
        return [self._one(vertex, results) for vertex, results in work]

    def _one(self, vertex: "Vertex", results: "tuple[Result, ...]") -> "Result":
        stock, options, at = self._stock, vertex.options, self._stock.place(vertex)
        below = stock.tree(stock.below(vertex, results))
        ids = owner.find(below, options["user"], at) if options["user"] else (0, 0)
        draft = Draft(below, ids, options["epoch"] or 0, at)
        draft.make_directories(tree.resolve(below, options["path"]))
        return finished(stock, draft)


class Copies:
    """Makes what COPY and ADD put."""

    def __init__(self, stock: "Stock") -> None:
        self._stock = stock

    def make(self, work: "Work") -> "list[Result]":
        """Make each (`solver.Executor`)."""
        return [self._one(vertex, results) for vertex, results in work]

    def _one(self, vertex: "Vertex", results: "tuple[Result, ...]") -> "Result":
        stock, options, at = self._stock, vertex.options, self._stock.place(vertex)
        below = stock.tree(stock.below(vertex, results))
        if options["is_context"]:
            source: Tree = stock.context
            picker = stock.picker
        else:
            source = stock.tree(stock.origin(vertex, results))
            picker = Picker(source, "that stage or image")
        found = picker.pick(options["sources"], options["excludes"], at)
        if not found and not options["bodies"]:
            stock.workshop.warn(vertex.subject, "its pattern matches no file")
        if options["chmod"]:
            mode.check(options["chmod"], at)
        copy = _Copy(options, source, picker, below, at)
        for name, text in options["bodies"]:
            copy.body(name, text, has_more=len(found) + len(options["bodies"]) > 1)
        with passing_file(stock.workshop.scratch) as spool:
            for item in found:
                if not (options["unpacks"] and item.node.is_file and copy.unpack(item, spool)):
                    copy.take(item, has_more=len(found) > 1)
            return finished(stock, copy.draft)


class _Copy:
    """One instruction's copying."""

    def __init__(self, options: "Document", source: "Tree", picker: Picker, below: "Tree", at: "Place") -> None:
        self._options = options
        self._source = source
        self._picker = picker
        self._below = below
        self._place = at
        self._epoch: int | None = options["epoch"]
        self._owner = owner.find(below, options["chown"], at) if options["chown"] else None
        self._keeps_owner = not options["is_context"]
        self._is_directory = options["destination"].endswith("/")
        self._destination = tree.resolve(below, options["destination"])
        self._linked: dict[tuple[int, int], Piece] = {}
        self.draft = Draft(below, self._owner or (0, 0), self._epoch or 0, at)

    def body(self, name: str, text: str, *, has_more: bool) -> None:
        """Put a here-document."""
        data = text.encode("utf-8", "surrogateescape")
        permissions = self._mode(0o644, is_directory=False)
        piece = Piece(
            stat.S_IFREG,
            permissions,
            self._owner or (0, 0),
            mtime=self._epoch or 0,
            size_bytes=len(data),
            open=partial(io.BytesIO, data),
        )
        self.draft.put(self._target(self._destination, name, has_more=has_more), piece)

    def take(self, item: "Picked", *, has_more: bool) -> None:
        """Put one match: a file, or what is in a directory."""
        into = self._destination
        self._linked.clear()
        if self._options["parents"] and item.above:
            into = tree.resolve(self._below, f"{into}/{item.above}")
        if not item.node.is_directory:
            is_inside = has_more or (self._options["parents"] and bool(item.above))
            self.draft.put(self._target(into, item.name, has_more=is_inside), self._piece(item.path, item.node))
            return
        if self._options["parents"] and item.name:
            into = f"{into}/{item.name}".lstrip("/")
        self.draft.make_directories(into)
        for relative, node in item.below:
            path = f"{item.path}/{relative}" if item.path else relative
            self.draft.put(f"{into}/{relative}".lstrip("/"), self._piece(path, node))

    def unpack(self, item: "Picked", spool: "BinaryIO") -> bool:
        """Put what is in an archive; tell whether the file is one."""
        with self._source.open(item.path) as file:
            if not archive.is_archive(file):
                return False
            file.seek(0)
            self.draft.make_directories(self._destination)
            archive.put(
                file, spool, self.draft, self._destination, owner=self._owner, epoch=self._epoch, at=self._place
            )
        return True

    def _target(self, into: str, name: str, *, has_more: bool) -> str:
        """Return where one file goes: into a directory, or to the destination itself."""
        kind = self.draft.kind(into) if into else stat.S_IFDIR
        if self._is_directory or kind == stat.S_IFDIR:
            return f"{into}/{name}".lstrip("/")
        if has_more:
            hints = (f"write `{self._options['destination']}/`",)
            what = f"several files match, and `{self._options['destination']}` is no directory"
            raise InvalidArgument(what, hints=hints, at=self._place)
        return into

    def _piece(self, path: str, node: "Node") -> Piece:
        """Return a file's piece, the same for all names that it has in a stage.

        In a context files are told apart: whether a checkout links equal ones is nobody's wish.
        """
        if node.inode is None or not node.is_file or self._options["is_context"]:
            return self._new_piece(path, node)
        return self._linked.setdefault(node.inode, self._new_piece(path, node))

    def _new_piece(self, path: str, node: "Node") -> Piece:
        ids = self._owner or ((node.uid, node.gid) if self._keeps_owner else (0, 0))
        mtime = node.mtime if self._epoch is None else min(node.mtime, self._epoch)
        return Piece(
            stat.S_IFMT(node.mode),
            self._mode(node.mode & 0o7777, is_directory=node.is_directory),
            ids,
            mtime=mtime,
            target=node.target,
            size_bytes=node.size_bytes if node.is_file else 0,
            hash=self._picker.hashes.get(path, ""),
            open=partial(self._source.open, path) if node.is_file else None,
            xattrs={} if node.is_link else self._source.xattrs(path),
        )

    def _mode(self, found: int, *, is_directory: bool) -> int:
        text = self._options["chmod"]
        return mode.changed(text, found, is_directory=is_directory) if text else found


def finished(stock: "Stock", draft: Draft) -> "Result":
    """Store a draft as a layer; one with nothing in it is marked, so that no image gets it."""
    workshop = stock.workshop
    record = {"empty": draft.is_empty(), "created": int(workshop.clock())}
    return layer.write_tar(workshop.content, lambda writer: {**record, **draft.write(writer)})


def shown(stock: "Stock", source: str, at: "Place") -> Draft:
    """Return a draft of what `source` takes of the context, each file at its own path: what a bind mount shows."""
    draft = Draft(stock.tree([]), (0, 0), 0, at)
    [item] = stock.picker.pick([source], [], at)
    root = "/".join(part for part in source.split("/") if part not in {"", ".", ".."})
    found = [("", item.node), *item.below] if root or not item.node.is_directory else item.below
    for relative, node in found:
        path = "/".join(part for part in (item.path, relative) if part)
        piece = Piece(
            stat.S_IFMT(node.mode),
            node.mode & 0o7777,
            (0, 0),
            mtime=node.mtime,
            target=node.target,
            size_bytes=node.size_bytes if node.is_file else 0,
            hash=stock.picker.hashes.get(path, ""),
            open=partial(stock.context.open, path) if node.is_file else None,
        )
        draft.put("/".join(part for part in (root, relative) if part), piece)
    return draft
