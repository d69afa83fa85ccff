"""`sampan stats`: what containers use, as a table that renews itself each second, or once."""

import os
import time

from sampan.cli import format as formats
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.render import write
from sampan.engine import usage
from sampan.errors import NotFound
from sampan.units import binary_size, decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.document import Document
    from sampan.engine.usage import Sample
    from sampan.settings.configuration import Settings

INTERVAL_SECONDS = 1.0  # docker's
FIELDS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_UNKNOWN = "--"
# ECMA-48: home, and erase to the end of the screen.
_CLEAR = b"\x1b[H\x1b[2J"


def stats(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show what containers use, until Ctrl-C or once."""
    return follow(parsed, settings, printer, parsed.arguments)


def follow(parsed: Parsed, settings: "Settings", printer: "Printer", names: list[str]) -> int:
    """Show what those containers use, or all where none is named, as the flags of `stats` say."""
    everything = parsed.is_set("all")
    before = usage.samples(settings, names, all=everything)
    _warn(before, printer)
    is_screen = os.isatty(1) and not parsed.is_set("no-stream")
    if is_screen:
        _show(parsed, printer, before, [], is_screen=True)
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            now = usage.samples(settings, names, all=everything)
        except NotFound:
            # One of those that were named has been removed; the others go on.
            names = usage.left(settings, names)
            if not names:
                return 0
            continue
        _show(parsed, printer, now, before, is_screen=is_screen)
        if parsed.is_set("no-stream"):
            return 0
        before = now


def _warn(samples: "list[Sample]", printer: "Printer") -> None:
    """Say why some cells will stay empty."""
    uncounted = [s.container.name for s in samples if s.usage is not None and s.usage.memory_bytes is None]
    if uncounted:
        printer.warn(
            f"nobody counts what {', '.join(f'`{name}`' for name in uncounted)} uses: there is no cgroup of its own; "
            "`sampan doctor` says how to get one"
        )


def _show(parsed: Parsed, printer: "Printer", now: "list[Sample]", before: "list[Sample]", *, is_screen: bool) -> None:
    earlier = {sample.container.id: sample for sample in before}
    whole = parsed.is_set("no-trunc")
    rows = [document(sample, earlier.get(sample.container.id), whole=whole) for sample in now]
    if is_screen:
        write(1, _CLEAR)
    form = formats.choose(parsed)
    if form == formats.JSON:
        for row in rows:
            printer.json(row)
    elif form != formats.TABLE:
        formats.show(form, printer, FIELDS, [(row, {}) for row in rows])
    else:
        printer.table([FIELDS[name] for name in _COLUMNS], [[row[name] for name in _COLUMNS] for row in rows])


def document(sample: "Sample", before: "Sample | None", *, whole: bool = False) -> "Document":
    """Return docker's `stats --format json` object; `--` is what cannot be known."""
    used = sample.usage
    cpu = sample.cpu_percent(before)
    memory, limit = (0, 0) if used is None else (used.memory_bytes, used.memory_limit_bytes)
    if used is not None:
        machine = usage.memory_bytes()
        limit = machine if limit is None else min(limit, machine)
    share = None if memory is None else 100 * memory / limit if limit else 0.0
    disks = (0, 0) if used is None else (used.read_bytes, used.written_bytes)
    return {
        "BlockIO": " / ".join(map(decimal_size, disks)),
        "CPUPerc": _percent(cpu),
        "Container": sample.word,
        "ID": sample.container.id if whole else sample.container.short_id,
        "MemPerc": _percent(share),
        "MemUsage": f"{_UNKNOWN if memory is None else binary_size(memory)} / {binary_size(limit or 0)}",
        "Name": sample.container.name,
        "NetIO": f"{decimal_size(sample.received_bytes)} / {decimal_size(sample.sent_bytes)}",
        "PIDs": "0" if used is None else _UNKNOWN if used.pids is None else str(used.pids),
    }


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


FLAGS = (
    Flag("all", "bool", "stopped and new ones too", short="a"),
    Flag("format", "string", formats.HELP),
    Flag("no-stream", "bool", "show it once, after a second"),
    Flag("no-trunc", "bool", "cut nothing short"),
)
COMMANDS = (
    Command(
        "stats",
        "[OPTIONS] [CONTAINER...]",
        "Show what running containers use of processors, memory, network and disks",
        execute=stats,
        flags=FLAGS,
        text=(
            "The per cents of CPU are of one processor: 200% are two that are busy. Memory is without the file cache\n"
            "that nobody has used lately. On a terminal the table renews itself each second until Ctrl-C."
        ),
        examples=(
            "sampan stats --no-stream",
            "sampan stats web db",
            "sampan stats --no-stream --format 'table {{.Name}}\\t{{.MemUsage}}'",
        ),
    ),
)
