"""`sampan doctor`: what this machine can do for containers, what is missing, and the command that mends it."""

from sampan.cli import format as formats
from sampan.cli import render
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import doctor as engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

_COLOURS = {engine.OK: render.GREEN, engine.LIMITED: render.YELLOW, engine.MISSING: render.RED}


def doctor(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show each finding as it is made; 1 where something that every container needs is missing."""
    is_json = formats.choose_plain(parsed) == formats.JSON
    is_missing = False
    for finding in engine.examine(settings):
        is_missing = is_missing or finding.state == engine.MISSING
        if is_json:
            printer.json({name: getattr(finding, name) for name in ("name", "state", "what", "mending")})
            continue
        mark = printer.paint(f"{finding.state:<8}", _COLOURS[finding.state])
        printer.out(f"{mark}{finding.name:<17}{finding.what}")
        for line in finding.mending:
            printer.out(f"{'':<25}{line}")
    return 1 if is_missing else 0


COMMANDS = (
    Command(
        "doctor",
        "[OPTIONS]",
        "Show what this machine can do, what is missing, and how to mend it",
        execute=doctor,
        flags=(Flag("format", "string", "`json`", short="f"),),
        maximum=0,
        text="`limited` works with less; the exit status is 1 where something that every container needs is missing.",
        examples=("sampan doctor", "sampan doctor --format json"),
    ),
)
