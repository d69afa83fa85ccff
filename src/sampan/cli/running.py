"""`sampan pause` and `unpause`: docker's words about containers that run."""

from sampan.cli.container import each
from sampan.cli.flags import Command, Parsed
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
)
