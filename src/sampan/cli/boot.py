"""`sampan boot`: containers come back after a reboot, and end in order before one."""

import os
import sys

from sampan.cli import format as formats
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import boot, unit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

_PROGRAM = "sampan"
_ACTIVE = "active"


def enable(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Put the unit up; what is stopped now stays so until the next boot."""
    if unit.activity(settings) != _ACTIVE:
        boot.skip_next_start(settings)
    try:
        made = unit.enable(settings, _own_command())
    finally:
        boot.forget_skip(settings)
    printer.out(made.path)
    _warn_of_linger(settings, printer)
    return 0


def disable(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001
    """Take the unit away."""
    if unit.disable(settings):
        printer.out(unit.path(settings))
    else:
        printer.note("there was no unit")
    return 0


def status(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show the unit, and what it would start; 1 where there is none, or one that cannot work."""
    is_json = formats.choose_plain(parsed) == formats.JSON
    found = unit.find(settings)
    program = "" if found is None else found.program
    facts = {
        "Enabled": found is not None,
        "Unit": unit.path(settings) if found is not None else "",
        "Program": program,
        "ProgramFound": os.access(program, os.X_OK) if program else False,
        "Root": found.root if found is not None else "",
        "Active": unit.activity(settings),
        "Linger": unit.lingers(settings),
        # Last: a normal user's process is in other namespaces after this.
        "Due": [one.name for one in boot.due(settings)],
    }
    if is_json:
        printer.json(facts)
    else:
        _show(facts, printer)
    if found is None:
        if unit.is_booted():
            printer.note("`sampan boot enable` has containers come back after a reboot")
        else:
            printer.note(
                "systemd does not run this machine: have its own init call `sampan boot start` and `boot stop`"
            )
    elif not facts["ProgramFound"]:
        printer.warn(f"`{program}` is not there any more: `sampan boot enable` puts the unit right")
    else:
        _warn_of_linger(settings, printer)
    return 0 if found is not None and facts["ProgramFound"] else 1


def start(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001
    """Start what is due; one that cannot be started is told of, and is no failure of the others."""
    for name in boot.start(settings, lambda name, error: _tell(printer, name, error)):
        printer.out(name)
    return 0


def stop(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001
    """Stop all that run."""
    boot.stop(settings, lambda name, error: _tell(printer, name, error))
    return 0


def _show(facts: "dict[str, object]", printer: "Printer") -> None:
    due = facts["Due"]
    lines: list[tuple[str, object]] = [("Enabled", "yes" if facts["Enabled"] else "no")]
    if facts["Enabled"]:
        lines += [("Unit", facts["Unit"]), ("Program", facts["Program"]), ("Root", facts["Root"])]
        lines += [("Now", facts["Active"] or "unknown")]
    lines += [("Would start", ", ".join(due) if isinstance(due, list) and due else "nothing that is stopped now")]
    printer.out("\n".join(f"{name + ':':<13}{value}" for name, value in lines))


def _warn_of_linger(settings: "Settings", printer: "Printer") -> None:
    """Say what a normal user lacks: without it his systemd begins at his first login, and ends with his last."""
    if not unit.lingers(settings):
        name = unit.user_name(settings)
        printer.warn(f"`{name}`'s containers start at the first login only: `loginctl enable-linger {name}`")


def _tell(printer: "Printer", name: str, error: Exception) -> None:
    """Print what went wrong with one container."""
    from sampan.cli import app

    printer.note(f"{name}:")
    printer.error(error if isinstance(error, SampanError) else app.from_system(_as_system(error)))


def _as_system(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else OSError(str(error))


def _own_command() -> tuple[str, ...]:
    """Return how this program is called by its absolute path, which outlives an upgrade in place.

    The link that pip, pipx or uv made is kept: it stays where a new version goes elsewhere. A link of another name
    (`docker`) means other words.
    """
    own = os.path.abspath(sys.argv[0])
    if os.path.basename(own) == _PROGRAM:
        return (own,)
    real = os.path.realpath(own)
    if os.path.basename(real) == _PROGRAM and os.access(real, os.X_OK):
        return (real,)
    return (sys.executable, "-m", _PROGRAM)


COMMANDS = (
    Command(
        "boot enable",
        "",
        "Have systemd start containers after a reboot, and stop them in order before one",
        execute=enable,
        maximum=0,
        text=(
            "Puts up one unit of systemd's, the system's for root, your own for you, and prints where it stands.\n"
            "When the machine comes up it starts the containers with a restart policy: those of `always`, those of\n"
            "`unless-stopped` that nobody stopped, those of `on-failure` that failed. Before the machine goes down it\n"
            "stops all containers, each with its own signal and time-out. Nothing is started or stopped now."
        ),
        examples=("sampan boot enable", "sampan boot status"),
    ),
    Command(
        "boot disable",
        "",
        "Take the unit of `boot enable` away; what runs goes on",
        execute=disable,
        maximum=0,
        examples=("sampan boot disable",),
    ),
    Command(
        "boot status",
        "[OPTIONS]",
        "Show whether containers come back after a reboot, and which",
        execute=status,
        flags=(Flag("format", "string", "`json`", short="f"),),
        maximum=0,
        text="The exit status is 1 where nothing would start them.",
        examples=("sampan boot status", "sampan boot status --format json"),
    ),
    Command(
        "boot start",
        "",
        "Start the containers that their restart policies want after a reboot",
        execute=start,
        maximum=0,
        text="This is what the unit does when the machine comes up; where there is no systemd, have its init call it.",
        examples=("sampan boot start",),
    ),
    Command(
        "boot stop",
        "",
        "Stop all containers, as before a reboot: their restart policies bring them back",
        execute=stop,
        maximum=0,
        text=(
            "This is what the unit does before the machine goes down. One that would be waited for without end has\n"
            "90 seconds."
        ),
        examples=("sampan boot stop",),
    ),
)
