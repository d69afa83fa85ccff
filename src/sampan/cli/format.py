"""The door of `--format`: `table`, `json`, or a Go template as docker has them. Hot: templates load what they need.

A listing's template sees one row at a time, with docker's field names and the method `Label`; `table TEMPLATE` aligns
its columns below docker's headers. `inspect`'s sees the document that is shown without it.
"""

import os

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sampan.cli.flags import Parsed
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.settings.configuration import Settings

TABLE, JSON = "table", "json"
HELP = "`table`, `json`, or a Go template like `{{.ID}}` or `table {{.ID}}`"
INSPECT_HELP = "`json`, one object a line, or a Go template like `{{.Id}}`"
# docker inspect's status for a template that cannot be read.
UNREADABLE = 64


def choose_preferred(parsed: "Parsed", settings: "Settings", key: str) -> str:
    """Do what `choose` does; where neither --format nor --quiet was given docker's config.json may name a format."""
    if "format" in parsed.values or parsed.is_set("quiet") or not os.path.exists(settings.docker_file):
        return choose(parsed)
    from sampan.settings import preference  # only where somebody has some

    return _form(preference.text(settings.docker_file, key))


def choose(parsed: "Parsed") -> str:
    """Return TABLE, JSON, or a template's text."""
    return _form(parsed.text("format", TABLE))


def _form(word: str) -> str:
    if word.strip() in {"", TABLE}:
        return TABLE
    return JSON if "".join(word.split()) in {JSON, "{{json.}}"} else word


def choose_plain(parsed: "Parsed") -> str:
    """Return TABLE or JSON, for what has no rows to fill a template with; raises InvalidArgument."""
    form = choose(parsed)
    if form not in {TABLE, JSON}:
        raise InvalidArgument(f"`--format` cannot be `{form[:80]}`", hints=("it can be `table` or `json`",))
    return form


def show(
    form: str,
    printer: "Printer",
    headers: "Mapping[str, str]",
    rows: "Iterable[tuple[Document, Mapping[str, str]]]",
) -> None:
    """Print rows, each with its labels, by the template `form`; `headers` go by field. Raises TemplateError."""
    from functools import partial

    from sampan.cli.template import document as documents
    from sampan.cli.template import evaluator, parser, table

    is_table = form.startswith(TABLE)
    template = parser.parse(form.removeprefix(TABLE).strip(" ") if is_table else form.strip(" "), escapes=True)
    lines = [table.header(template, headers)] if is_table else []
    for document, labels in rows:
        row = documents.struct(dict(sorted(document.items())), {"Label": partial(_label, labels)})
        lines.append(evaluator.execute(template, row, shown=_shown()))
    if lines:
        _print(printer, table.aligned(lines) if is_table else "\n".join(lines))


def filled(form: str) -> "Callable[[Printer, Document], None]":
    """Return what prints a document by the template `form`; raises Malformed, whose status is docker inspect's."""
    from sampan.cli.template import document as documents
    from sampan.cli.template import evaluator, parser
    from sampan.cli.template.fault import Malformed

    try:
        template = parser.parse(form)
    except Malformed as error:
        error.exit_status = UNREADABLE
        raise

    def show_one(printer: "Printer", document: "Document") -> None:
        _print(printer, evaluator.execute(template, documents.struct(document), shown=_shown()))

    return show_one


def _label(labels: "Mapping[str, str]", name: str) -> str:
    return labels.get(name, "")


def _shown() -> "Callable[[str], str]":
    """Return what is done to values: on a terminal control characters are spelled out, for a script nothing is."""
    from sampan.cli import render

    return render.visible if os.isatty(1) else str


def _print(printer: "Printer", text: str) -> None:
    """Print text that may hold halves of surrogate pairs."""
    from sampan.cli.template.value import decoded, encoded

    printer.out(decoded(encoded(text)))
