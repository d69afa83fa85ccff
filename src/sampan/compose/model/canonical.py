"""Short forms to long ones, and relative paths to whole ones, so that what follows knows one form of each thing. Pure.

    ports: ["8000:80"]           ports: [{target: 80, published: "8000", protocol: tcp, mode: ingress}]
    environment: [A=b]           environment: {A: b}
    depends_on: [db]             depends_on: {db: {condition: service_started, required: true}}
    volumes: [./data:/data]      volumes: [{type: bind, source: /project/data, target: /data, …}]
    command: run "a b"           command: [run, a b]

A form that is neither short nor long is left as it is: `schema` says what is wrong with it. A path is relative to the
directory of the text that it stands in (`Base`).
"""

import os
import shlex
from collections.abc import Callable

from sampan.compose.model import shortform
from sampan.compose.model.node import Mapping, Node, Scalar, Sequence, mapping, sequence, text
from sampan.errors import InvalidArgument
from sampan.frozen import frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Long = TypeVar("_Long", Mapping, Sequence)

_EXTENSION = "x-"
# Of one service; what a monitor holds.
PORTS_AT_MOST = 1024


@frozen
class Base:
    """Where a text's relative paths begin: its project's `directory`, and the person's `home` for `~`."""

    directory: str
    home: str

    def path(self, word: str) -> str:
        """Return the whole path that a word means."""
        if word == "~" or word.startswith("~/"):
            word = self.home + word[1:]
        return os.path.normpath(os.path.join(self.directory, word))


Rule = Callable[[Node, Base], Node]


def canonical(document: Mapping, base: Base) -> Mapping:
    """Return one text's tree in long forms."""
    rules: dict[str, Rule] = {
        "services": lambda node, base: _each(node, base, lambda item, base: _by_key(item, base, _SERVICE)),
        "networks": lambda node, base: _each(node, base, lambda item, base: _by_key(item, base, _RESOURCE)),
        "volumes": lambda node, base: _each(node, base, lambda item, base: _by_key(item, base, _RESOURCE)),
        "secrets": lambda node, base: _each(node, base, lambda item, base: _by_key(item, base, _FILE_RESOURCE)),
        "configs": lambda node, base: _each(node, base, lambda item, base: _by_key(item, base, _FILE_RESOURCE)),
    }
    found = _by_key(document, base, rules)
    return found if isinstance(found, Mapping) else document


def _by_key(node: Node, base: Base, rules: dict[str, Rule]) -> Node:
    """Apply to each key the rule that it has."""
    if not isinstance(node, Mapping):
        return node
    entries = {key: rules[key](value, base) if key in rules else value for key, value in node.entries.items()}
    # An `external: {name: x}` of old says the name too.
    external = entries.get("external")
    if isinstance(external, Mapping) and rules is not _SERVICE:
        if "name" in external.entries:
            entries["name"] = external.entries["name"]
        entries["external"] = text(external, value=True)
    return node.with_entries(entries)


def _each(node: Node, base: Base, rule: Rule) -> Node:
    """Apply a rule to every value of a mapping but extensions."""
    if not isinstance(node, Mapping):
        return node
    return node.with_entries(
        {key: value if key.startswith(_EXTENSION) else rule(value, base) for key, value in node.entries.items()}
    )


def _list(node: Node, _base: Base) -> Node:
    """A single word is a list of one."""
    return sequence(node, [node]) if isinstance(node, Scalar) and node.value is not None else node


def _pairs(node: Node, _base: Base) -> Node:
    """A list of `KEY=value` is a mapping; `KEY` alone has no value."""
    if not isinstance(node, Sequence):
        return node
    entries: dict[str, Node] = {}
    for item in node.items:
        if not isinstance(item, Scalar) or item.value is None:
            raise InvalidArgument("an item of this list must be like `KEY=value`", at=item.place)
        key, equals, value = item.text.partition("=")
        entries[key] = text(item, value if equals else None)
    return _retagged(mapping(node, entries), node)


def _names(node: Node, _base: Base) -> Node:
    """A list of names is a mapping of them to nothing."""
    if not isinstance(node, Sequence):
        return node
    return _retagged(mapping(node, {_word(item): text(item, None) for item in node.items}), node)


def _depends(node: Node, _base: Base) -> Node:
    """Each service that another waits for has a condition and whether it is required."""
    if isinstance(node, Sequence):
        node = _retagged(mapping(node, {_word(item): mapping(item, {}) for item in node.items}), node)
    if not isinstance(node, Mapping):
        return node
    entries: dict[str, Node] = {}
    for name, told in node.entries.items():
        value = told
        if isinstance(told, Mapping):
            defaults: dict[str, Node] = {
                "condition": text(value, "service_started"), "required": text(value, value=True)
            }  # fmt: skip
            value = told.with_entries(defaults | told.entries)
        entries[name] = value
    return node.with_entries(entries)


def _hosts(node: Node, _base: Base) -> Node:
    """`name:address` and `name=address` lines are a mapping of names to lists of addresses."""
    if isinstance(node, Sequence):
        entries: dict[str, Node] = {}
        for item in node.items:
            name, address = shortform.host(item)
            known = entries.get(name)
            before = known.items if isinstance(known, Sequence) else ()
            entries[name] = sequence(item, (*before, text(item, address)))
        return _retagged(mapping(node, entries), node)
    return _each(node, _base, _list)


def _command(node: Node, _base: Base) -> Node:
    """A command in one string is split as a shell splits it."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return node
    try:
        words = shlex.split(node.value)
    except ValueError as error:
        raise InvalidArgument("a quote in this command is never closed", at=node.place) from error
    return _retagged(sequence(node, [text(node, word) for word in words]), node)


def _build(node: Node, base: Base) -> Node:
    if isinstance(node, Scalar) and isinstance(node.value, str):
        node = _retagged(mapping(node, {"context": node}), node)
    if not isinstance(node, Mapping):
        return node
    defaults: dict[str, Node] = {"context": text(node, "."), "dockerfile": text(node, "Dockerfile")}
    node = node.with_entries(defaults | node.entries)
    return _by_key(node, base, _BUILD)


def _context(node: Node, base: Base) -> Node:
    """A build context is a directory, unless it is an address."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and "://" not in node.value and ":" not in node.value:
        return text(node, base.path(node.value))
    return node


def _path(node: Node, base: Base) -> Node:
    return text(node, base.path(node.value)) if isinstance(node, Scalar) and isinstance(node.value, str) else node


def _test(node: Node, _base: Base) -> Node:
    """A health check in one string is for the shell."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return sequence(node, [text(node, "CMD-SHELL"), node])
    return node


def _environment_files(node: Node, base: Base) -> Node:
    found = _list(node, base)
    if not isinstance(found, Sequence):
        return found
    items: list[Node] = []
    for item in found.items:
        long: Node = mapping(item, {"path": item}) if isinstance(item, Scalar) else item
        if isinstance(long, Mapping):
            long = long.with_entries({"required": text(item, value=True), **long.entries})
            long = _by_key(long, base, {"path": _path})
        items.append(long)
    return _retagged(sequence(found, items), node)


def _ports(node: Node, _base: Base) -> Node:
    if not isinstance(node, Sequence):
        return node
    items: list[Node] = []
    for item in node.items:
        items += shortform.ports(item)
        if len(items) > PORTS_AT_MOST:
            raise InvalidArgument(f"a service publishes more than {PORTS_AT_MOST} ports", at=item.place)
    return _retagged(sequence(node, items), node)


def _volumes(node: Node, base: Base) -> Node:
    if not isinstance(node, Sequence):
        return node
    return _retagged(sequence(node, [_volume(shortform.volume(item), base) for item in node.items]), node)


def _volume(node: Node, base: Base) -> Node:
    """Make the source of a bind whole; docker makes a missing one unless the long form says otherwise."""
    if not isinstance(node, Mapping):
        return node
    kind = node.entries.get("type")
    if isinstance(kind, Scalar) and kind.value == "bind" and "source" in node.entries:
        return node.with_entries(node.entries | {"source": _path(node.entries["source"], base)})
    return node


def _devices(node: Node, _base: Base) -> Node:
    """`/dev/here:/dev/inside:rwm` is source, target and permissions."""
    if not isinstance(node, Sequence):
        return node
    items = [shortform.device(item) if isinstance(item, Scalar) and item.value else item for item in node.items]
    return _retagged(sequence(node, items), node)


def _paths(node: Node, base: Base) -> Node:
    found = _list(node, base)
    return sequence(found, [_path(item, base) for item in found.items]) if isinstance(found, Sequence) else found


def _grants(node: Node, _base: Base) -> Node:
    """A secret or config by name alone is mounted under that name."""
    if not isinstance(node, Sequence):
        return node
    items: list[Node] = [mapping(item, {"source": item}) if isinstance(item, Scalar) else item for item in node.items]
    return _retagged(sequence(node, items), node)


def _extends(node: Node, base: Base) -> Node:
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return mapping(node, {"service": node})
    return _by_key(node, base, {"file": _path})


def _retagged(node: "_Long", like: Node) -> "_Long":
    """Return a long form with the `!reset` or `!override` of its short one."""
    return replace(node, tag=like.tag) if like.tag else node


def _word(item: Node) -> str:
    """Return the name that an item of a list is."""
    if isinstance(item, Scalar) and item.value is not None:
        return item.text
    raise InvalidArgument("an item of this list must be a name", at=item.place)


_BUILD: dict[str, Rule] = {
    "context": _context,
    "args": _pairs,
    "labels": _pairs,
    "ssh": _pairs,
    "additional_contexts": _pairs,
    "extra_hosts": _hosts,
    "secrets": _grants,
    "cache_from": _list,
}
_SERVICE: dict[str, Rule] = {
    "annotations": _pairs,
    "build": _build,
    "command": _command,
    "configs": _grants,
    "depends_on": _depends,
    "deploy": lambda node, base: _by_key(node, base, {"labels": _pairs}),
    "devices": _devices,
    "dns": _list,
    "dns_search": _list,
    "entrypoint": _command,
    "env_file": _environment_files,
    "environment": _pairs,
    "extends": _extends,
    "extra_hosts": _hosts,
    "healthcheck": lambda node, base: _by_key(node, base, {"test": _test}),
    "label_file": _paths,
    "labels": _pairs,
    "models": _names,
    "networks": _names,
    "ports": _ports,
    "secrets": _grants,
    "sysctls": _pairs,
    "tmpfs": _list,
    "volumes": _volumes,
}
_RESOURCE: dict[str, Rule] = {"labels": _pairs}
_FILE_RESOURCE: dict[str, Rule] = {"labels": _pairs, "file": _path}
