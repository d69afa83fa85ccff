"""The mistakes that people make in YAML, recognised and put right in the error. Pure.

libyaml says what it could not read and where it noticed. Where one of these explains it better, that is said instead:
no space after a colon (`build:.`), a tab, an indent that fits no line above, a quote that nobody closes.
"""

import re

import yaml

from sampan.compose.model.node import Node, Scalar, Source, kind
from sampan.errors import InvalidArgument

# A key, a colon and no space. Not `http://…`, nor `8080:80` or `name:/path` in a list.
_NO_SPACE = re.compile(r"^(?P<indent>\s*)(?P<key>[A-Za-z_][A-Za-z0-9_.-]*):(?P<value>[^\s:/].*|/(?!/).*)$")
# How far above the line where libyaml gave up the slip may be: a plain word goes on over lines.
_LINES_ABOVE = 3


def explain(source: Source, error: yaml.MarkedYAMLError) -> InvalidArgument:
    """Return the error for a text that is no YAML."""
    line = (error.problem_mark.line if error.problem_mark else 0) + 1
    problem = error.problem or "this cannot be read"
    for number in range(line, max(0, line - _LINES_ABOVE), -1):
        if found := _missing_space(source, number):
            return found
    text = source.lines[line - 1] if line <= len(source.lines) else ""
    indent = text[: len(text) - len(text.lstrip())]
    if "\t" in indent:
        return InvalidArgument(
            "a tab indents this line", at=source.place(line), hints=("YAML wants spaces: replace each tab by two",)
        )
    begun = error.context_mark.line + 1 if error.context_mark else line
    if "quoted scalar" in (error.context or ""):
        return InvalidArgument("a quote is opened here and never closed", at=source.place(begun))
    if "depth" in problem:
        return InvalidArgument("the text is nested too deeply", at=source.place(begun))
    if "flow" in (error.context or ""):
        return InvalidArgument("a bracket is opened here and not closed", at=source.place(begun))
    if "mapping values" in problem and _value_with_colon(text):
        return InvalidArgument(
            "there is a second `: ` in this line", at=source.place(line), hints=("put the value in quotes",)
        )
    if "expected key" in problem or "mapping values" in problem or "'-' indicator" in problem:
        return _broken_indent(source, line, indent)
    return InvalidArgument(f"this is no YAML: {problem}", at=source.place(line))


def not_a_mapping(node: Node, what: str) -> InvalidArgument:
    """Return the error for something that should have keys; a key without a space after its colon is no key."""
    if isinstance(node, Scalar) and (found := _missing_space(node.source, node.line)):
        return found
    is_empty = isinstance(node, Scalar) and node.value is None
    return InvalidArgument(
        f"{what} must be a mapping of keys to values, not {kind(node)}",
        at=node.place,
        hints=("indent what belongs to it by two more spaces" if is_empty else "write it in lines like `KEY: VALUE`",),
    )


def _missing_space(source: Source, line: int) -> InvalidArgument | None:
    """Recognise `build:.`; None where the line is something else."""
    text = source.lines[line - 1] if 0 < line <= len(source.lines) else ""
    match = _NO_SPACE.match(text)
    if match is None:
        return None
    key, value = match["key"], match["value"].strip()
    return InvalidArgument(
        f"there is no space after the colon in `{key}:{value}`",
        at=source.place(line),
        hints=(f"write `{key}: {value}`",),
    )


def _value_with_colon(text: str) -> bool:
    """Return whether a line is `key: value: more`."""
    return bool(re.match(r"^\s*(- )?[^\s:]+: +[^\s'\"].*: ", text))


def _broken_indent(source: Source, line: int, indent: str) -> InvalidArgument:
    """Say how far this line is indented, and how far those before it that it could belong to."""
    levels = _levels_above(source, line)
    depth = len(indent)
    known = " or ".join(str(level) for level in levels)
    hints = (f"lines above it begin after {known} spaces: give it as many as the keys that it belongs to",)
    return InvalidArgument(
        f"this line is indented by {depth} space{'s' * (depth != 1)}, which fits no line above",
        at=source.place(line),
        hints=hints if levels and depth not in levels else ("indent it like the keys that it belongs to",),
    )


def _levels_above(source: Source, line: int) -> list[int]:
    """Return the indents that are open before a line, outermost first."""
    levels: list[int] = []
    for text in source.lines[: line - 1]:
        stripped = text.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        depth = len(text) - len(stripped)
        levels = [level for level in levels if level < depth] + [depth]
    return levels
