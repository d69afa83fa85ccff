"""One tree over another: override files, `extends`, `include` (Compose specification, merge). Pure; both are canonical.

Mappings merge by key, lists are joined and each thing is in them once, all else is replaced. Where two items of a list
are the same thing (a port, a mount, a secret) the later one wins in its place. `!override` replaces whatever was
there, `!reset` takes it away.
"""

from collections.abc import Callable

from sampan.compose.model.node import Mapping, Node, Scalar, Sequence, sequence

# Lists that are one value.
_WHOLE = ("command", "entrypoint", "test")
Identity = tuple[object, ...]


def merge(below: Mapping, above: Mapping, path: str = "") -> Mapping:
    """Return `below` with `above` over it."""
    entries = dict(below.entries)
    lines = dict(below.lines)
    for key, node in above.entries.items():
        if node.tag == "!reset":
            entries.pop(key, None)
            continue
        entries[key] = (
            _over(entries[key], node, f"{path}.{key}".lstrip(".")) if key in entries else without_resets(node)
        )
        lines[key] = above.lines[key]
    return Mapping(above.source, above.line, entries, lines, below.tag)


def without_resets(node: Node) -> Node:
    """Return a tree without what it takes away: there was nothing there."""
    if not isinstance(node, Mapping):
        return node
    kept = {key: without_resets(value) for key, value in node.entries.items() if value.tag != "!reset"}
    return node.with_entries(kept)


def _over(below: Node, above: Node, path: str) -> Node:
    key = path.rpartition(".")[2]
    if above.tag == "!override" or type(below) is not type(above):
        # `environment:` with nothing after it is no wish to lose what was there.
        is_nothing = isinstance(above, Scalar) and above.value is None and not isinstance(below, Scalar)
        return below if is_nothing else without_resets(above)
    match below, above:
        case Mapping(), Mapping():
            return _mappings(below, above, path)
        case Sequence(), Sequence() if key not in _WHOLE:
            return _sequences(below, above, _IDENTITIES.get(key, _text))
        case _:
            return above


def _mappings(below: Mapping, above: Mapping, path: str) -> Mapping:
    """Merge; options of another logging driver are none of this one's."""
    if path.endswith(".logging") and _value(below, "driver") != _value(above, "driver") and "driver" in above.entries:
        return above
    return merge(below, above, path)


def _sequences(below: Sequence, above: Sequence, identity: Callable[[Node], Identity]) -> Sequence:
    items: dict[Identity, Node] = {}
    for item in (*below.items, *above.items):
        items[identity(item)] = item
    return sequence(above, list(items.values()))


def _text(item: Node) -> Identity:
    """A word is itself; anything else is like nothing else."""
    return (item.text,) if isinstance(item, Scalar) else (id(item),)


def _target(item: Node) -> Identity:
    """A mount is where it is mounted; a secret without a target is where its name leads."""
    return (_value(item, "target") or _value(item, "source"),) if isinstance(item, Mapping) else _text(item)


def _port(item: Node) -> Identity:
    if not isinstance(item, Mapping):
        return _text(item)
    return tuple(_value(item, key) for key in ("host_ip", "published", "target", "protocol"))


def _path(item: Node) -> Identity:
    return (_value(item, "path"),) if isinstance(item, Mapping) else _text(item)


def _value(node: Mapping, key: str) -> str:
    found = node.entries.get(key)
    return found.text if isinstance(found, Scalar) else ""


_IDENTITIES: dict[str, Callable[[Node], Identity]] = {
    "ports": _port, "volumes": _target, "secrets": _target, "configs": _target, "env_file": _path,
}  # fmt: skip
