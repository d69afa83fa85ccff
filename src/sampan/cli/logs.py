"""`sampan logs`: what a container wrote, each stream to its own. Hot."""

import time

from sampan.cli import render
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import logs as engine_logs
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def logs(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Copy the stored output, and with --follow what comes."""
    stamped, details = parsed.is_set("timestamps"), parsed.is_set("details")
    lines = engine_logs.read(
        settings,
        parsed.arguments[0],
        follow=parsed.is_set("follow"),
        tail=parsed.convert("tail", tail),
        since=parsed.text("since"),
        until=parsed.text("until"),
        now=time.clock_gettime(time.CLOCK_REALTIME),
    )
    for line in lines:
        data = _details(line) + line.data if details else line.data
        data = f"{line.time} ".encode() + data if stamped else data
        render.write(2 if line.stream == "stderr" else 1, data)
    return 0


def _details(line: "engine_logs.Line") -> bytes:
    """Return what `--log-opt` added to the line, as docker writes it: `key=value,key=value `, quoted as in a URL."""
    from urllib.parse import quote_plus  # rarely asked for

    pairs = sorted(line.attributes.items())
    return ",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs).encode() + b" "


def tail(text: str) -> int | None:
    """Read `all` or a number of lines; docker takes a negative one for all."""
    if text == "all":
        return None
    if not text.lstrip("-").isdecimal():
        raise InvalidArgument(f"`{text}` is not a number of lines", hints=("write a number or `all`",))
    return int(text) if int(text) >= 0 else None


COMMANDS = (
    Command(
        "logs",
        "[OPTIONS] CONTAINER",
        "Show what a container wrote",
        execute=logs,
        flags=(
            Flag("details", "bool", "put what `--log-opt labels`, `env` and `tag` say before each line"),
            Flag("follow", "bool", "go on until it ends", short="f"),
            Flag("since", "string", "only what came after a time (`2026-01-02T13:00:00Z`) or in the last `10m`"),
            Flag("tail", "string", "only the last N lines, or `all`", short="n"),
            Flag("timestamps", "bool", "put the time before each line", short="t"),
            Flag("until", "string", "only what came before a time or until `10m` ago"),
        ),
        minimum=1,
        maximum=1,
        examples=("sampan logs -f web", "sampan logs --tail 20 -t web"),
    ),
)
