"""Texts to one tree: parsed, variables filled in, made canonical, merged, with what they include and extend. Pure.

Other texts are asked for by path (`Request.read`), so nothing is opened here. Each text's relative paths begin at its
own project directory; variables are the caller's, over those of the project's `.env`.

    texts --parse--> documents --interpolate--> --canonical--> --merge--> one tree --include--> --extends--> tree
"""

import os
from collections.abc import Callable, Mapping

from sampan.compose.model import canonical, dotenv, interpolate, source
from sampan.compose.model.canonical import Base
from sampan.compose.model.merge import merge, without_resets
from sampan.compose.model.node import Mapping as Tree
from sampan.compose.model.node import Node, Scalar, Sequence, mapping
from sampan.compose.model.schema import plain
from sampan.errors import InvalidArgument, NotFound
from sampan.frozen import frozen

# A chain of `extends`, or of files that include files.
CHAIN_AT_MOST = 32
SECTIONS = ("services", "networks", "volumes", "secrets", "configs")


@frozen
class Text:
    """One compose file: what it is called, and what stands in it."""

    path: str
    content: bytes


@frozen
class Request:
    """What is to be loaded: `texts` in order, the later over the earlier.

    `directory` is the project's. `environment` is the caller's over the project's `.env`. `read` returns the content of
    a file and raises NotFound. `name` is the project's where the person gave it.
    """

    texts: tuple[Text, ...]
    directory: str
    environment: Mapping[str, str]
    read: Callable[[str], bytes]
    name: str = ""
    home: str = "/"
    is_interpolated: bool = True


class Loader:
    """Loads one request; `unset` collects the variables that nobody set."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.unset: dict[str, None] = {}

    def documents(self) -> list[Tree]:
        """Return the parsed texts."""
        return [tree for text in self.request.texts for tree in source.parse(text.content, text.path)]

    def tree(self, documents: list[Tree], environment: Mapping[str, str]) -> Tree:
        """Return the one tree of these documents."""
        base = Base(self.request.directory, self.request.home)
        return self._whole(documents, base, environment, ())

    def _whole(self, documents: list[Tree], base: Base, environment: Mapping[str, str], chain: tuple[str, ...]) -> Tree:
        merged: Tree | None = None
        for document in documents:
            ready = self._ready(document, base, environment)
            ready = self._including(ready, base, environment, chain)
            merged = _first(ready) if merged is None else merge(merged, ready)
        if merged is None:
            raise InvalidArgument("the compose file is empty", hints=("it needs a key `services:`",))
        return self._extended(merged, environment)

    def _ready(self, document: Tree, base: Base, environment: Mapping[str, str]) -> Tree:
        """Fill variables in, and make the long forms."""
        if self.request.is_interpolated:
            found = interpolate.interpolate(document, environment.get, self._note_unset)
            document = found if isinstance(found, Tree) else document
        return canonical.canonical(document, base)

    def _note_unset(self, name: str) -> None:
        self.unset[name] = None

    # ------------------------------------------------------------------------------------------------------- include

    def _including(self, tree: Tree, base: Base, environment: Mapping[str, str], chain: tuple[str, ...]) -> Tree:
        """Add what a text includes; a thing that both have must be the same in both."""
        wanted = tree.entries.get("include")
        if wanted is None:
            return tree
        rest = tree.with_entries({key: node for key, node in tree.entries.items() if key != "include"})
        if not isinstance(wanted, Sequence):
            raise InvalidArgument("`include` must be a list of files", at=wanted.place)
        for item in wanted.items:
            rest = _joined(rest, self._included(item, base, environment, chain))
        return rest

    def _included(self, item: Node, base: Base, environment: Mapping[str, str], chain: tuple[str, ...]) -> Tree:
        paths, directory, files = _include_words(item, base)
        for path in paths:
            if path in chain or len(chain) > CHAIN_AT_MOST:
                raise InvalidArgument(
                    f"files include each other in a circle: {' -> '.join([*chain, path])}", at=item.place
                )
        inner = dict(self._environment_of(files, directory, environment)) | dict(environment)
        documents = [tree for path in paths for tree in source.parse(self._read(path, item), path)]
        return self._whole(documents, Base(directory, base.home), inner, (*chain, *paths))

    def _environment_of(
        self, files: list[str] | None, directory: str, environment: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Return the variables of an included project's own `.env`."""
        found: dict[str, str] = {}
        for path in [f"{directory}/.env"] if files is None else files:
            try:
                content = self.request.read(path)
            except NotFound:
                if files is None:
                    continue
                raise
            told = dotenv.parse(content, path, found | dict(environment))
            found |= {key: value for key, value in told.items() if value is not None}
        return found

    # ------------------------------------------------------------------------------------------------------- extends

    def _extended(self, tree: Tree, environment: Mapping[str, str]) -> Tree:
        services = tree.entries.get("services")
        if not isinstance(services, Tree):
            return tree
        found = {name: self._service(services, name, environment, ()) for name in services.entries}
        return tree.with_entries(tree.entries | {"services": services.with_entries(found)})

    def _service(
        self, services: Tree, name: str, environment: Mapping[str, str], chain: tuple[tuple[str, str], ...]
    ) -> Node:
        """Return a service over the one that it extends."""
        node = services.entries[name]
        if not isinstance(node, Tree) or not isinstance(extends := node.entries.get("extends"), Tree):
            return node
        own = node.with_entries({key: value for key, value in node.entries.items() if key != "extends"})
        target, file = _word(extends, "service"), _word(extends, "file")
        link = (services.source.path, name)
        if link in chain or len(chain) > CHAIN_AT_MOST:
            way = " -> ".join(service for _, service in (*chain, link))
            raise InvalidArgument(f"services extend each other in a circle: {way}", at=node.place_of("extends"))
        others = self._services_of(file, extends, environment) if file else services
        if target not in others.entries:
            where = f" in `{file}`" if file else ""
            raise NotFound(f"there is no service `{target}` to extend{where}", at=extends.place)
        below = self._service(others, target, environment, (*chain, link))
        return merge(below, own, f"services.{name}") if isinstance(below, Tree) else own

    def _services_of(self, file: str, at: Node, environment: Mapping[str, str]) -> Tree:
        """Return the services of another file, whose paths are relative to itself."""
        base = Base(os.path.dirname(file), self.request.home)
        merged: Tree | None = None
        for document in source.parse(self._read(file, at), file):
            ready = self._ready(document, base, environment)
            merged = ready if merged is None else merge(merged, ready)
        services = merged.entries.get("services") if merged else None
        return services if isinstance(services, Tree) else mapping(at, {})

    def _read(self, path: str, at: Node) -> bytes:
        try:
            return self.request.read(path)
        except NotFound as error:
            raise NotFound(error.what, hints=error.hints, at=at.place) from error.__cause__


def _first(tree: Tree) -> Tree:
    """Return a first text without what it takes away."""
    found = without_resets(tree)
    return found if isinstance(found, Tree) else tree


def _include_words(item: Node, base: Base) -> tuple[list[str], str, list[str] | None]:
    """Return the paths, project directory and environment files of one item of `include`."""
    if isinstance(item, Scalar) and isinstance(item.value, str):
        path = base.path(item.value)
        return [path], os.path.dirname(path), None
    if not isinstance(item, Tree) or not set(item.entries) <= {"path", "project_directory", "env_file"}:
        raise InvalidArgument(
            "an item of `include` must be a path, or have `path`, `project_directory` and `env_file`", at=item.place
        )
    paths = _words(item, "path", base)
    if not paths:
        raise InvalidArgument("an item of `include` has no `path`", at=item.place)
    directories = _words(item, "project_directory", base)
    files = _words(item, "env_file", base) if "env_file" in item.entries else None
    return paths, directories[0] if directories else os.path.dirname(paths[0]), files


def _words(item: Tree, key: str, base: Base) -> list[str]:
    """Return the paths that a key holds, one or a list."""
    node = item.entries.get(key)
    nodes = node.items if isinstance(node, Sequence) else () if node is None else (node,)
    found = [one.value for one in nodes if isinstance(one, Scalar) and isinstance(one.value, str)]
    if len(found) != len(nodes):
        raise InvalidArgument(f"`{key}` must be a path or a list of paths", at=item.place_of(key))
    return [base.path(word) for word in found]


def _joined(tree: Tree, included: Tree) -> Tree:
    """Add the sections of an included tree."""
    entries = dict(tree.entries)
    for section in SECTIONS:
        theirs = included.entries.get(section)
        if not isinstance(theirs, Tree):
            continue
        ours = entries.get(section)
        known = dict(ours.entries) if isinstance(ours, Tree) else {}
        for name, node in theirs.entries.items():
            if name in known and plain(known[name]) != plain(node):
                raise InvalidArgument(
                    f"`{section}.{name}` stands in an included file too, and differs",
                    at=known[name].place,
                    hints=(f"the other is in {node.source.path}, line {node.line}: rename one of them",),
                )
            known[name] = node
        entries[section] = (ours if isinstance(ours, Tree) else mapping(theirs, {})).with_entries(known)
    return tree.with_entries(entries)


def _word(tree: Tree, key: str) -> str:
    node = tree.entries.get(key)
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""
