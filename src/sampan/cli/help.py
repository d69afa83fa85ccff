"""Help, from the same tables that the parser reads: `sampan help`, `sampan run --help`, and docs/reference/cli.md."""

from sampan.cli import catalog, outermost, summary
from sampan.cli.flags import Command, Flag
from sampan.cli.render import Printer

TITLE = "A daemonless container engine and image builder for Python applications"
_FIRST = (
    ("sampan run .", "understand, build and start the project here"),
    ("sampan run -d -p 8000:5000 hello", "start an image in the background"),
    ("sampan ps", "see what runs"),
)
_KINDS = {"bool": "", "filter": "filter", "mount": "mount"}


def show(words: list[str], printer: Printer) -> int:
    """Print the help of a command, of a management word, or of the whole."""
    if not words:
        printer.out(overview())
        return 0
    if words[0] in catalog.GROUPS and (len(words) == 1 or words[1].startswith("-")):
        printer.out(group(words[0]))
        return 0
    name, rest = catalog.find(words)
    (what,) = catalog.inner(name, rest[0]) if name in catalog.OUTER and rest else (catalog.load(name),)
    printer.out(command(what))
    return 0


def overview() -> str:
    """Return the text of `sampan help`."""
    rows = [(name, summary.of(name)) for name in catalog.FAMILIES]
    return "\n".join(
        [
            TITLE,
            "",
            "usage: sampan [OPTIONS] COMMAND",
            "",
            "to begin with:",
            *_columns(_FIRST),
            "",
            "commands:",
            *_columns(rows),
            "",
            "options:",
            *_columns([(_heading(flag), flag.help) for flag in outermost.FLAGS]),
            "",
            "docker's management forms (`sampan container ls`, `sampan image rm`) mean the same.",
            "`sampan COMMAND --help` shows a command's flags and examples.",
        ]
    )


def group(name: str) -> str:
    """Return the text of a management word such as `container`."""
    rows = [(f"{name} {word}", summary.of(meant)) for word, meant in catalog.GROUPS[name].items()]
    return "\n".join([f"usage: sampan {name} COMMAND", "", "commands:", *_columns(rows)])


def command(what: Command) -> str:
    """Return the text of `sampan NAME --help`."""
    lines = [f"usage: sampan {what.name} {what.usage}".rstrip(), "", what.summary]
    if what.text:
        lines += ["", what.text]
    if what.name in catalog.OUTER:
        inner = [(one.name.removeprefix(f"{what.name} "), one.summary) for one in catalog.inner(what.name)]
        lines += ["", "commands:", *_columns(inner)]
    if what.examples:
        lines += ["", "examples:", *(f"  {example}" for example in what.examples)]
    if what.flags:
        lines += ["", "flags:", *_columns([(_heading(flag), flag.help) for flag in what.flags])]
    return "\n".join(lines)


def reference() -> str:
    """Return docs/reference/cli.md: every command, flag and example, as Markdown."""
    made = "Made from the flag tables by `python -m sampan.cli.help > docs/reference/cli.md`."
    lines = ["# Command line reference", "", made, ""]
    lines += ["| command | what it does |", "|---|---|"]
    commands = [catalog.load(name) for name in catalog.FAMILIES]
    commands += [command for name in catalog.OUTER for command in catalog.inner(name)]
    lines += [f"| [`sampan {c.name}`](#sampan-{c.name.replace(' ', '-')}) | {c.summary} |" for c in commands]
    for what in commands:
        lines += ["", *_chapter(what)]
    return "\n".join(lines) + "\n"


def _chapter(what: Command) -> list[str]:
    """Return the Markdown lines of one command."""
    lines = [f"## sampan {what.name}", "", what.summary + ".", "", "```", f"sampan {what.name} {what.usage}".rstrip()]
    lines += ["```"]
    if what.text:
        lines += ["", what.text]
    if what.flags:
        lines += ["", "| flag | takes | what it does |", "|---|---|---|"]
        lines += [
            f"| `{flag.spelling()}` | {_KINDS.get(flag.kind, flag.kind)} | {_cell(flag.help)} |" for flag in what.flags
        ]
    if what.examples:
        lines += ["", "```console", *(f"$ {example}" for example in what.examples), "```"]
    if what.later:
        lines += [
            "",
            "Not there yet: " + ", ".join(f"`--{name}`" for name in what.later.split() if len(name) > 1) + ".",
        ]
    return lines


def _heading(flag: Flag) -> str:
    """Return `-p, --publish list` as the left column of the help."""
    short = f"-{flag.short}, " if flag.short else "    "
    return f"{short}--{flag.name} {_KINDS.get(flag.kind, flag.kind)}".rstrip()


def _columns(rows: "list[tuple[str, str]] | tuple[tuple[str, str], ...]") -> list[str]:
    """Lay out two columns."""
    width = max(len(left) for left, _ in rows)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Printer({}).out(reference().rstrip("\n"))
