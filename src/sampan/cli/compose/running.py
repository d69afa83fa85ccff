"""`sampan compose pause`, `unpause`, `stats` and `top`: what is about a project's containers that run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sampan.cli import stats as one_stats
from sampan.cli.compose.life import members
from sampan.cli.compose.progress import Telling
from sampan.cli.compose.work import parallel
from sampan.cli.flags import Command, Parsed
from sampan.compose import sight, teardown
from sampan.compose.crew import Say
from sampan.engine import running
from sampan.engine import top as engine_top

if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.compose.sight import Seen
    from sampan.settings.configuration import Settings


def pause(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Pause the containers that run."""

    def act(one: "Seen", say: Say) -> None:
        running.pause(settings, one.id)
        say(f"Container {one.name}", "Paused")

    return _each(parsed, settings, printer, sight.RUNNING, act)


def unpause(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Let the paused containers go on."""

    def act(one: "Seen", say: Say) -> None:
        running.unpause(settings, one.id)
        say(f"Container {one.name}", "Unpaused")

    return _each(parsed, settings, printer, sight.PAUSED, act)


def stats(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show what the project's containers use."""
    _, seen = members(parsed, settings, printer)
    chosen = [one.row["Id"][:12] for one in seen if one.is_running or parsed.is_set("all")]
    if not chosen:
        printer.note("no container of the project runs")
        return 0
    return one_stats.follow(parsed, settings, printer, chosen)


def top(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show the processes of the project's containers, with docker compose's columns."""
    _, seen = members(parsed, settings, printer)
    titles, rows = list[str](), list[list[str]]()
    for one in [one for one in seen if one.is_running]:
        titles, found, _ = engine_top.top(settings, one.id)
        rows += [[one.service, str(one.number), *row] for row in found]
    if rows:
        printer.table(["SERVICE", "#", *titles], rows)
    return 0


def _each(
    parsed: Parsed, settings: "Settings", printer: "Printer", state: str, act: Callable[["Seen", Say], None]
) -> int:
    """Do something to the containers that are in a state."""
    _, seen = members(parsed, settings, printer)
    chosen = [one for one in seen if one.state == state]
    teardown.each({}, chosen, act, Telling(printer, parsed), parallel=parallel(parsed, settings))
    return 0


_SERVICES = "[SERVICE...]"
COMMANDS = (
    Command("compose pause", _SERVICES, "Have all processes of services stand still", execute=pause),
    Command("compose unpause", _SERVICES, "Let the processes of paused services go on", execute=unpause),
    Command(
        "compose stats",
        f"[OPTIONS] {_SERVICES}",
        "Show what services use of processors, memory, network and disks",
        execute=stats,
        flags=one_stats.FLAGS,
    ),
    Command("compose top", _SERVICES, "Show the processes of services", execute=top),
)
