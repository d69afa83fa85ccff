"""YAML text to nodes that know their line (YAML 1.2 core schema, as Compose reads it).

Theory: libyaml's parser (PyYAML's C half) yields events, and the nodes are put together here, so that nothing of a
hostile text can grow: a text has at most BYTES bytes, DEPTH levels and NODES nodes, and an alias counts as all that it
stands for ("billion laughs"). A key that stands twice is an error, not a surprise. `<<` merges mappings, and keys of
the mapping itself win. Plain words resolve as docker's reader resolves them: `yes` and `on` are strings, `0440` is
octal, `22:22` is text and not a number of base 60.

libyaml's own words for a mistake name the place where it gave up; `slip` looks for the mistakes that people make.
"""

from collections.abc import Iterator

import yaml
from yaml import _yaml

from sampan.compose.model import slip
from sampan.compose.model.node import Mapping, Node, Scalar, Sequence, Source, Value, kind
from sampan.errors import InvalidArgument, Unsupported

BYTES = 1 << 20
DEPTH = 64
NODES = 100_000
_TAGS = ("!reset", "!override")
_CONSTANTS: dict[str, Value] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan"),
}  # fmt: skip
_TAGGED = (yaml.ScalarEvent, yaml.CollectionStartEvent)
_NUMBER_START = frozenset("0123456789+-.")


def parse(content: bytes, path: str) -> list[Mapping]:
    """Return the documents of a text, each a mapping; raises InvalidArgument with file, line and what to write."""
    source = Source(path, _lines(content, path))
    try:
        return list(_documents(_Events(_yaml.CParser(content.decode("utf-8-sig")), source)))
    except yaml.MarkedYAMLError as error:
        # Without the cause: libyaml's words for it name the same line, and say less.
        raise slip.explain(source, error) from None
    except yaml.YAMLError as error:
        raise InvalidArgument(f"`{path}` is no YAML text", at=source.place(1)) from error


def _lines(content: bytes, path: str) -> tuple[str, ...]:
    if len(content) > BYTES:
        raise InvalidArgument(f"`{path}` is larger than {BYTES} bytes")
    try:
        return tuple(content.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidArgument(
            f"`{path}` is not UTF-8 in line {line}",
            hints=(f"`iconv -f gb18030 -t utf-8 {path}` rewrites a Chinese one",),
        ) from error


class _Events:
    """The stream of events, with what was counted and named so far."""

    __slots__ = ("anchors", "depth", "nodes", "parser", "source")

    def __init__(self, parser: _yaml.CParser, source: Source) -> None:
        self.parser = parser
        self.source = source
        self.nodes = 0
        self.depth = 0
        # Anchor -> what it names, and how many nodes that is.
        self.anchors: dict[str, tuple[Node, int]] = {}

    def next(self) -> yaml.Event:
        event = self.parser.get_event()
        # The stream's end is an event too, and nobody asks beyond it.
        return yaml.StreamEndEvent() if event is None else event

    def count(self, number: int, line: int) -> None:
        self.nodes += number
        if self.nodes > NODES:
            raise InvalidArgument(
                f"the text has more than {NODES} nodes, counting each alias as what it stands for",
                at=self.source.place(line),
            )


def _documents(events: _Events) -> Iterator[Mapping]:
    while not isinstance(event := events.next(), yaml.StreamEndEvent):
        if not isinstance(event, yaml.DocumentStartEvent):
            continue
        events.anchors.clear()
        node = _node(events, events.next())
        if isinstance(node, Scalar) and node.value is None:
            continue  # an empty document
        if not isinstance(node, Mapping):
            raise slip.not_a_mapping(node, "the file")
        yield node


def _node(events: _Events, event: yaml.Event) -> Node:
    line = _line(event)
    events.count(1, line)
    if isinstance(event, yaml.AliasEvent):
        return _alias(events, event, line)
    events.depth += 1
    if events.depth > DEPTH:
        raise InvalidArgument(f"the text is nested deeper than {DEPTH} levels", at=events.source.place(line))
    before = events.nodes
    node = _content(events, event, line)
    events.depth -= 1
    if isinstance(event, yaml.NodeEvent) and event.anchor:
        events.anchors[event.anchor] = (node, events.nodes - before + 1)
    return node


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _alias(events: _Events, event: yaml.AliasEvent, line: int) -> Node:
    if event.anchor not in events.anchors:
        raise InvalidArgument(f"there is no anchor `&{event.anchor}` before this alias", at=events.source.place(line))
    node, size = events.anchors[event.anchor]
    events.count(size, line)
    return node


def _content(events: _Events, event: yaml.Event, line: int) -> Node:
    source = events.source
    tag = event.tag if isinstance(event, _TAGGED) and event.tag in _TAGS else ""
    match event:
        case yaml.ScalarEvent():
            quoted = event.style is not None and event.style != ""
            value = event.value if quoted or event.tag == "tag:yaml.org,2002:str" else resolve(event.value)
            return Scalar(source, line, value, event.value, quoted=quoted, tag=tag)
        case yaml.SequenceStartEvent():
            items = []
            while not isinstance(inner := events.next(), yaml.SequenceEndEvent):
                items.append(_node(events, inner))
            return Sequence(source, line, tuple(items), tag)
        case yaml.MappingStartEvent():
            return _mapping(events, line, tag)
        case _:
            raise Unsupported(f"`{type(event).__name__}` in a compose file", at=source.place(line))


def _mapping(events: _Events, line: int, tag: str) -> Mapping:
    """Put a mapping together: its own keys in order, then those of `<<` that it has not."""
    entries: dict[str, Node] = {}
    lines: dict[str, int] = {}
    merged: list[Mapping] = []
    while not isinstance(event := events.next(), yaml.MappingEndEvent):
        key_line = _line(event)
        key = _node(events, event)
        value = _node(events, events.next())
        if not isinstance(key, Scalar):
            raise InvalidArgument(f"a key cannot be {kind(key)}", at=events.source.place(key_line))
        if key.text == "<<" and not key.quoted:
            merged += _merged(value)
        elif key.text in entries:
            raise InvalidArgument(
                f"the key `{key.text}` stands twice in one mapping",
                at=events.source.place(key_line),
                hints=(f"it stands in line {lines[key.text]} too: keep one of them",),
            )
        else:
            entries[key.text], lines[key.text] = value, key_line
    for other in merged:
        for name, value in other.entries.items():
            if name not in entries:
                entries[name], lines[name] = value, other.lines[name]
    return Mapping(events.source, line, entries, lines, tag)


def _merged(node: Node) -> list[Mapping]:
    nodes = node.items if isinstance(node, Sequence) else (node,)
    found = [item for item in nodes if isinstance(item, Mapping)]
    if len(found) != len(nodes):
        raise InvalidArgument("`<<` merges mappings only", at=node.place, hints=("write it like `<<: *name`",))
    return found


def resolve(text: str) -> Value:
    """Return what a plain word means: null, a boolean, a number, or the word itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_START:
        return text
    number = text.replace("_", "")
    for base in (0, 8):
        # `0440` is octal for docker's reader (Go's base 0), which Python's base 0 refuses.
        if base == 8 and not number.lstrip("+-").startswith("0"):
            continue
        try:
            return int(number, base)
        except ValueError:
            continue
    try:
        return float(number) if number.lstrip("+-.")[:1].isdigit() else text
    except ValueError:
        return text
