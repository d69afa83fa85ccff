"""Variables of a whole tree: each string value, never a key (Compose specification, interpolation). Pure."""

from collections.abc import Callable, Iterator

from sampan.compose.model import template
from sampan.compose.model.node import Mapping, Node, Scalar, Sequence
from sampan.errors import InvalidArgument
from sampan.frozen import replace


def interpolate(node: Node, lookup: template.Lookup, on_unset: Callable[[str], None]) -> Node:
    """Return the tree with its variables filled in; errors name the line."""
    match node:
        case Mapping():
            entries = {key: interpolate(value, lookup, on_unset) for key, value in node.entries.items()}
            return replace(node, entries=entries)
        case Sequence():
            return replace(node, items=tuple(interpolate(item, lookup, on_unset) for item in node.items))
        case Scalar(value=str(value)) if "$" in value:
            return _scalar(node, value, lookup, on_unset)
        case _:
            return node


def variables(node: Node) -> Iterator[template.Variable]:
    """Yield every variable that a tree asks for."""
    match node:
        case Mapping():
            for value in node.entries.values():
                yield from variables(value)
        case Sequence():
            for item in node.items:
                yield from variables(item)
        case Scalar(value=str(value)) if "$" in value:
            yield from template.variables(_parse(node, value))
        case _:
            return


def _scalar(node: Scalar, value: str, lookup: template.Lookup, on_unset: Callable[[str], None]) -> Scalar:
    parts = _parse(node, value)
    try:
        text = template.expand(parts, lookup, on_unset)
    except InvalidArgument as error:
        raise InvalidArgument(error.what, hints=error.hints, at=node.place) from error.__cause__
    return replace(node, value=text, text=text)


def _parse(node: Scalar, value: str) -> template.Template:
    try:
        return template.parse(value)
    except template.Malformed as error:
        raise InvalidArgument(
            f"the variables in `{value[:80]}` are malformed",
            at=node.place,
            hints=("write `$$` for a dollar that is meant as one",),
        ) from error
