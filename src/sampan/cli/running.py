"""`sampan pause`, `unpause` and `top`: docker's words about containers that run."""

from sampan.cli.container import each
from sampan.cli.flags import Command, Parsed
from sampan.cli.render import visible
from sampan.engine import running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def pause(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Pause containers."""

    def act(name: str) -> str:
        running.pause(settings, name)
        return name

    return each(parsed.arguments, printer, act)


def unpause(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Let paused containers go on."""

    def act(name: str) -> str:
        running.unpause(settings, name)
        return name

    return each(parsed.arguments, printer, act)


def top(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show a container's processes."""
    from sampan.engine import top as engine_top

    titles, rows, more = engine_top.top(settings, parsed.arguments[0], tuple(parsed.arguments[1:]))
    lines = [[visible(cell) for cell in row] for row in (titles, *rows)]
    # docker's columns: at least 20 wide; the last, the command, is no column.
    widths = [max(20, *(len(cell) + 3 for cell in column)) for column in list(zip(*lines, strict=True))[:-1]]
    for line in lines:
        printer.out("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) + line[-1])
    if more:
        printer.warn(f"{more} more processes are not shown")
    return 0


COMMANDS = (
    Command(
        "pause",
        "CONTAINER [CONTAINER...]",
        "Have all processes of containers stand still",
        execute=pause,
        minimum=1,
        text=(
            "The kernel's freezer stops them wherever they are; they keep their memory, ports and connections.\n"
            "`stop`, `kill` and `rm -f` end a paused container too; `exec`, `attach` and `start` refuse it."
        ),
        examples=("sampan pause web", "sampan unpause web"),
    ),
    Command(
        "unpause",
        "CONTAINER [CONTAINER...]",
        "Let the processes of paused containers go on",
        execute=unpause,
        minimum=1,
        examples=("sampan unpause web",),
    ),
    Command(
        "top",
        "CONTAINER [PS OPTIONS]",
        "Show the processes of a container",
        execute=top,
        minimum=1,
        interspersed=False,
        text=(
            "Of the options of ps there are `-ef`, which it is without, `aux`, and `-o` with a list of columns.\n"
            "Process ids are the machine's; users are the container's."
        ),
        examples=("sampan top web", "sampan top web aux", "sampan top web -o pid,rss,etime,cmd"),
    ),
)
