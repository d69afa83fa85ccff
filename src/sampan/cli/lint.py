"""`sampan lint`: what is not good in a Dockerfile, and how to mend it."""

import os
import time

from sampan.cli import format as formats
from sampan.cli import render
from sampan.cli.build import directory_of
from sampan.cli.flags import Command, Flag, Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.dockerfile.finding import Finding
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

FOUND = 1


def lint(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Print what was found; the status is 1 where that is something."""
    from sampan.build import linting

    form = formats.choose_plain(parsed)
    word = parsed.arguments[0] if parsed.arguments else "."
    path = os.path.expanduser(word)
    is_file = os.path.isfile(path)
    file = parsed.text("file") or (path if is_file else "")
    directory = os.path.dirname(os.path.realpath(path)) if is_file else directory_of(word)
    today = time.strftime("%Y-%m-%d", time.gmtime(time.clock_gettime(time.CLOCK_REALTIME)))
    found = linting.check(directory, file, today)
    for finding in found:
        if form == formats.JSON:
            printer.json(finding.document())
        else:
            printer.out(_shown(finding))
    if form != formats.JSON:
        printer.note(f"{len(found)} finding{'s' * (len(found) != 1)}" if found else "nothing to find fault with")
    return FOUND if found else 0


def _shown(finding: "Finding") -> str:
    """Return a finding as people read it: where and what, the line, why, and how to mend it."""
    place = finding.place
    lines = [f"{render.visible(place.path)}:{place.line}: {finding.rule}: {render.visible(finding.what)}"]
    if place.text:
        lines.append(f"    {place.line} | {render.visible(place.text)}")
    lines.append(f"  why:  {render.visible(finding.why)}")
    lines.append(f"  mend: {render.visible(finding.mend)}")
    return "\n".join([*lines, ""])


COMMANDS = (
    Command(
        "lint",
        "[OPTIONS] [PATH|FILE]",
        "Say what is not good in a Dockerfile, and how to mend it",
        execute=lint,
        flags=(
            Flag("file", "string", "the Dockerfile of the context PATH", short="f"),
            Flag("format", "string", "`table`, for people, or `json`, one finding a line"),
        ),
        maximum=1,
        text=(
            "Nothing is built or run. The status is 1 where something was found.\n"
            "`# check=skip=RULE,RULE` at the top of the Dockerfile leaves rules out."
        ),
        examples=("sampan lint", "sampan lint docker/Dockerfile", "sampan lint --format json ."),
    ),
)
