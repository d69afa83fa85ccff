"""What a YAML text says, with the line of each part: scalars, sequences and mappings. Values; a change makes a new one.

A scalar keeps the text that stood there beside the value it resolves to, since a variable may still change it. `tag` is
`!reset` or `!override` where one stood (Compose specification, merge). Two texts can be in one tree: each node knows
its own.
"""

from sampan.errors import Place
from sampan.frozen import frozen, replace

TEXT_SHOWN = 200

Value = str | int | float | bool | None


@frozen
class Source:
    """One text: the path that a person knows it by, and its lines."""

    path: str
    lines: tuple[str, ...]

    def place(self, line: int) -> Place:
        """Return the place of a 1-based line."""
        text = self.lines[line - 1][:TEXT_SHOWN] if 0 < line <= len(self.lines) else None
        return Place(self.path, line, text)


@frozen
class Scalar:
    """A single value; `text` is how it was written, `quoted` whether in quotes or as a block."""

    source: Source
    line: int
    value: Value
    text: str
    quoted: bool = False
    tag: str = ""

    @property
    def place(self) -> Place:
        """Return where it stands."""
        return self.source.place(self.line)


@frozen
class Sequence:
    """A list."""

    source: Source
    line: int
    items: tuple["Node", ...]
    tag: str = ""

    @property
    def place(self) -> Place:
        """Return where it begins."""
        return self.source.place(self.line)


@frozen
class Mapping:
    """Keys and values in the order of the text; `lines` says where each key stands."""

    source: Source
    line: int
    entries: dict[str, "Node"]
    lines: dict[str, int]
    tag: str = ""

    @property
    def place(self) -> Place:
        """Return where it begins."""
        return self.source.place(self.line)

    def place_of(self, key: str) -> Place:
        """Return where a key stands."""
        node = self.entries[key]
        # A key that was merged in from another text stands there.
        return node.source.place(self.lines.get(key, node.line))

    def with_entries(self, entries: dict[str, "Node"]) -> "Mapping":
        """Return it with other entries; keys that it did not have stand where their values do."""
        lines = {key: self.lines.get(key, node.line) for key, node in entries.items()}
        return replace(self, entries=entries, lines=lines)


Node = Scalar | Sequence | Mapping


def text(like: Node, value: Value) -> Scalar:
    """Return a scalar that stands where `like` stands: what a short form meant."""
    return Scalar(like.source, like.line, value, "" if value is None else str(value), quoted=isinstance(value, str))


def mapping(like: Node, entries: dict[str, Node]) -> Mapping:
    """Return a mapping that stands where `like` stands."""
    return Mapping(like.source, like.line, entries, {key: node.line for key, node in entries.items()})


def sequence(like: Node, items: "list[Node] | tuple[Node, ...]") -> Sequence:
    """Return a list that stands where `like` stands."""
    return Sequence(like.source, like.line, tuple(items))


def kind(node: Node) -> str:
    """Name what a node is, for an error."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return "a boolean"
        case Scalar(value=int() | float()):
            return "a number"
        case _:
            return "a string"
