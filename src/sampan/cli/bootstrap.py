"""`sampan bootstrap` and `sampan outdated`: stand-ins from signed Debian packages, and what is old in an image."""

import time

from sampan.cli import format as formats
from sampan.cli import image
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.progress import Listener
from sampan.database import connection
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.oci.reference import Reference
    from sampan.settings.configuration import Settings

HEADERS = ("IMAGE", "PACKAGE", "INSTALLED", "AVAILABLE", "SECURITY")


def bootstrap(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Make stand-ins, one after the other; with --quiet print their ids alone."""
    references = [image.parse_name(word) for word in parsed.arguments]
    for reference in references:
        _make(reference, parsed, settings, printer)
    return 0


def _make(reference: "Reference", parsed: Parsed, settings: "Settings", printer: "Printer") -> None:
    from sampan.build.debian import bootstrap as makers

    began = time.monotonic()
    quiet = parsed.is_set("quiet")
    with Listener(printer, quiet=quiet) as sink, connection.open(settings) as database:
        made = makers.bootstrap(
            settings, database, reference, no_cache=parsed.is_set("no-cache"), sink=sink, clock=_now
        )
    if quiet:
        printer.out(made.image.id)
        return
    size, seconds = human_size(made.image.size_bytes), time.monotonic() - began
    printer.note(f"made {reference.familiar()}: {made.inside}, {made.packages} packages, {size}, in {seconds:.2f} s")


def outdated(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Show what the signed index has newer than an image has; 1 where there is something."""
    from sampan.build.debian import outdated as checks

    form = formats.choose_plain(parsed)
    with Listener(printer, quiet=True) as sink, connection.open(settings) as database:
        reports = checks.check(settings, database, parsed.arguments, sink=sink, clock=_now)
    rows = [(report.image, update) for report in reports for update in report.updates]
    if form == formats.JSON:
        for report in reports:
            printer.json(report.document())
        return 1 if rows else 0
    if rows:
        cells = [(name, u.package, u.installed, u.available, "yes" if u.is_security else "") for name, u in rows]
        printer.table(HEADERS, cells)
    for report in reports:
        printer.note(report.summary())
    if not reports:
        printer.note("no image here was made by `sampan bootstrap`")
    return 1 if rows else 0


def _now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


COMMANDS = (
    Command(
        "bootstrap",
        "[OPTIONS] NAME...",
        "Make stand-ins for images from signed Debian packages",
        execute=bootstrap,
        flags=(
            Flag("no-cache", "bool", "make everything again"),
            Flag("quiet", "bool", "print the image's id and nothing else", short="q"),
        ),
        minimum=1,
        text=(
            "For where no registry can be reached. An image gets the name that it stands in for, so that Dockerfiles\n"
            "and compose files find it; its labels say what is inside. Made once more, it has what is newer."
        ),
        examples=(
            "sampan bootstrap python:3.11-slim",
            "sampan bootstrap debian:bookworm-slim",
            "sampan bootstrap nginx redis mysql:8.0",
        ),
    ),
    Command(
        "outdated",
        "[OPTIONS] [IMAGE...]",
        "Show which Debian packages of an image are behind the signed index",
        execute=outdated,
        flags=(Flag("format", "string", "`table` or `json`"),),
        text="Without IMAGE: all that `sampan bootstrap` has made. The exit status is 1 where something is outdated.",
        examples=("sampan outdated", "sampan outdated python:3.11-slim", "sampan outdated --format json app"),
    ),
)
