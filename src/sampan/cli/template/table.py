"""`table …` templates: a first line of docker's headers, and columns that tabs part (text/tabwriter)."""

from collections.abc import Mapping

from sampan.cli.template import function
from sampan.cli.template.evaluator import Evaluator
from sampan.cli.template.fault import TemplateError, UnknownField
from sampan.cli.template.node import Template
from sampan.cli.template.value import Struct

COLUMN_AT_LEAST = 10
GAP = 3


def header(template: Template, names: Mapping[str, str]) -> str:
    """Return the first line: the template filled with headers.

    What cannot be done to a header ends it, as docker's does; raises UnknownField, which is a mistake for every line.
    """
    running = Evaluator(template, Struct(names, methods={"Label": _label}), function.HEADERS, str)
    try:
        running.run()
    except UnknownField:
        raise
    except TemplateError:
        pass
    return running.output


def aligned(lines: list[str]) -> str:
    """Lay out lines; what follows a line's last tab is no column."""
    rows = [line.split("\t") for text in lines for line in text.split("\n")]
    widths: list[int] = []
    for row in rows:
        for i, cell in enumerate(row[:-1]):
            widths += [COLUMN_AT_LEAST] * (i == len(widths))
            widths[i] = max(widths[i], len(cell) + GAP)
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] for row in rows
    )


def _label(name: str) -> str:
    """Return a label's header: its last part, with spaces for dashes."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
