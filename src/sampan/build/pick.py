"""Which files a COPY takes: its sources, wildcards and links resolved in a tree, less what is kept out. Hot.

A source that is a directory means what is in it, one that is a link what the link leads to, within the tree. Patterns
are Go's filepath.Match, as docker's are. The digest of what was picked is part of the key of the vertex that copies it:
names, kinds, modes and contents, no times and no owners, since those of a checkout are nobody's wish.
"""

import stat

from sampan.build import ignore, tree
from sampan.errors import Exhausted, InvalidArgument, NotFound
from sampan.oci.digest import Digest, new_hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.build.ignore import Rules
    from sampan.build.tree import Node, Tree
    from sampan.errors import Place

MAX_FILES = 500_000
_CHUNK_BYTES = 1 << 20
_WILD = frozenset("*?[\\")
_NOTHING = ignore.Rules([])


class Picked:
    """One match of a source: `path` in the tree, `name` as it was asked for, `below` what a directory holds."""

    __slots__ = ("above", "below", "name", "node", "path")

    def __init__(self, path: str, name: str, node: "Node", above: str) -> None:
        self.path = path
        self.name = name
        self.node = node
        self.above = above  # the directories that --parents keeps
        self.below: list[tuple[str, Node]] = []


class Picker:
    """Picks from one tree. `rules` are .dockerignore's, relative to the tree's root; `name` is what errors call it."""

    __slots__ = ("_count", "_name", "_rules", "_tree", "hashes")

    def __init__(self, source: "Tree", name: str, rules: "Rules" = _NOTHING) -> None:
        self._tree = source
        self._name = name
        self._rules = rules
        self._count = 0
        # Of each file that went into a digest, so that whoever copies it can see that it is still the same.
        self.hashes: dict[str, str] = {}

    def pick(self, sources: "Sequence[str]", excludes: "Sequence[str]", at: "Place") -> list[Picked]:
        """Return what `sources` take, in their order; raises NotFound for one that is not there."""
        kept_out = ignore.parse("\n".join(excludes).encode(), defaults=()) if excludes else _NOTHING
        found: list[Picked] = []
        for source in sources:
            found += self._one(source, kept_out, at)
        return found

    def digest(self, found: "Sequence[Picked]") -> Digest:
        """Return the digest of what was picked; every file is read."""
        hasher = new_hasher()
        for item in found:
            hasher.update(_encoded("=", item.above, item.name))
            hasher.update(self._said(item.path, "", item.node))
            for relative, node in item.below:
                hasher.update(self._said(f"{item.path}/{relative}" if item.path else relative, relative, node))
        return Digest("sha256", hasher.hexdigest())

    def _one(self, source: str, kept_out: "Rules", at: "Place") -> "list[Picked]":
        pivot, has_pivot, rest = source.partition("/./")
        bare = "/".join(part for part in source.split("/") if part not in {"", "."})
        if ".." in bare.split("/"):
            bare = _clipped(bare)
        matches = list(self._expanded(bare)) if not _WILD.isdisjoint(bare) else [bare]
        skipped = len([part for part in pivot.split("/") if part not in {"", "."}]) if has_pivot and rest else 0
        found = []
        for match in matches:
            picked = self._picked(match, skipped, kept_out)
            if picked is None and match == bare:
                raise self._missing(source, bare, at)
            found += [picked] if picked is not None else []
        return found

    def _picked(self, path: str, skipped: int, kept_out: "Rules") -> Picked | None:
        real = tree.resolve(self._tree, path)
        node = self._tree.find(real)
        if node is None or node.is_link:
            return None
        if real and self._rules.excludes(real) and not (node.is_directory and not self._rules.prunes(real)):
            return None
        above, _, name = path.rpartition("/")
        item = Picked(real, name, node, "/".join(above.split("/")[skipped:]) if above else "")
        if node.is_directory:
            item.below = list(self._walk(real, "", kept_out))
        elif kept_out.excludes(name):
            return None
        return item

    def _walk(self, root: str, relative: str, kept_out: "Rules") -> "Iterator[tuple[str, Node]]":
        """Yield what lies below a directory, each before what is in it; one kept out only if something in it is not."""
        waiting = [relative]
        skipped: dict[str, Node] = {}
        while waiting:
            relative = waiting.pop()
            inside: list[str] = []
            for name, node in self._children(f"{root}/{relative}".strip("/")):
                path = f"{relative}/{name}" if relative else name
                whole = f"{root}/{path}" if root else path
                is_out = self._rules.excludes(whole) or kept_out.excludes(path)
                if node.is_directory and not (self._rules.prunes(whole) or kept_out.prunes(path)):
                    inside.append(path)
                if is_out and node.is_directory:
                    skipped[path] = node
                if is_out or stat.S_ISSOCK(node.mode):
                    continue
                if skipped:
                    yield from [(above, skipped.pop(above)) for above in _above(path) if above in skipped]
                self._count += 1
                if self._count > MAX_FILES:
                    hints = ("keep files out by lines in .dockerignore",)
                    raise Exhausted(f"{self._name} has more than {MAX_FILES} files", hints=hints)
                yield path, node
            waiting += reversed(inside)

    def _children(self, path: str) -> "list[tuple[str, Node]]":
        try:
            return self._tree.children(path)
        except PermissionError as error:
            hints = ("keep it out by a line in .dockerignore",)
            raise InvalidArgument(f"`{path}` cannot be read", hints=hints) from error

    def _expanded(self, pattern: str) -> "Iterator[str]":
        """Yield the paths that a pattern matches, sorted; directories that are links are not entered."""
        waiting = [("", pattern.split("/"))]
        while waiting:
            path, parts = waiting.pop()
            if not parts:
                yield path
                continue
            node = self._tree.find(path)
            if node is None or not node.is_directory:
                continue
            names = [name for name, _ in self._children(path) if ignore.match_name(parts[0], name)]
            waiting += [(f"{path}/{name}" if path else name, parts[1:]) for name in reversed(names)]

    def _said(self, path: str, relative: str, node: "Node") -> bytes:
        """Return what a file adds to the digest."""
        mode = f"{node.mode & 0o7777:o}"
        if node.is_directory:
            return _encoded("d", relative, mode)
        if node.is_link:
            return _encoded("l", relative, node.target)
        if not node.is_file:
            hints = ("keep it out by a line in .dockerignore",)
            raise InvalidArgument(f"`{path}` is a device or pipe, which no layer holds", hints=hints)
        return _encoded("f", relative, mode, self._hash(path))

    def _hash(self, path: str) -> str:
        hasher = new_hasher()
        try:
            with self._tree.open(path) as file:
                while piece := file.read(_CHUNK_BYTES):
                    hasher.update(piece)
        except PermissionError as error:
            hints = ("keep it out by a line in .dockerignore",)
            raise InvalidArgument(f"`{path}` cannot be read", hints=hints) from error
        self.hashes[path] = hasher.hexdigest()
        return self.hashes[path]

    def _missing(self, source: str, path: str, at: "Place") -> NotFound:
        """Explain a source that is not there: kept out, outside, or misspelt."""
        real = tree.resolve(self._tree, path)
        node = self._tree.find(real)
        if node is not None and (pattern := self._rules.cause(real)):
            hint = f"its line `{pattern}` keeps it out; `!{path}` after that line brings it back"
            return NotFound(f"`{source}` is kept out of the build context by .dockerignore", hints=(hint,), at=at)
        hints: tuple[str, ...] = self._near(path)
        if ".." in source.split("/"):
            hints = (
                "COPY cannot leave the build context: build from a directory that holds it, with `-f` for this file",
            )
        elif not hints:
            hints = (f"paths are relative to {self._name}",)
        return NotFound(f"`{source}` is not in {self._name}", hints=hints, at=at)

    def _near(self, path: str) -> tuple[str, ...]:
        """Suggest the name that was perhaps meant."""
        import difflib  # 6 ms, so only after a mistake

        above, _, name = path.rpartition("/")
        real = tree.resolve(self._tree, above)
        node = self._tree.find(real)
        if node is None or not node.is_directory:
            return self._near(above) if above else ()
        found = dict(self._children(real))
        if name in found and found[name].is_link:
            return (f"it is a link to `{found[name].target[:200]}`, which is not there",)
        names = [item for item in found if not self._rules.excludes(f"{real}/{item}".strip("/"))]
        near = difflib.get_close_matches(name, names, 1)
        return (f"did you mean `{above}{'/' * bool(above)}{near[0]}`?",) if near else ()


def _above(path: str) -> list[str]:
    """Return the directories above a path, the highest first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _clipped(path: str) -> str:
    """Return `path` with `..` resolved, which cannot lead above the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return "/".join(parts)


def _encoded(*words: str) -> bytes:
    return "\0".join((*words, "")).encode(errors="surrogateescape")
