"""`sampan cp`, `diff` and `export`: the files of a container, running or not."""

import os

from sampan.cli.archive import to_file
from sampan.cli.flags import Command, Flag, Parsed
from sampan.cli.render import visible, write
from sampan.engine import changes, copy, copyrules
from sampan.errors import InvalidArgument
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def cp(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Copy and say how much: on stderr, to a person who sits there, as docker does."""
    source, destination = copyrules.parse(*parsed.arguments)
    copied = _copy(parsed, settings, source, destination)
    for text in copied.warnings:
        printer.warn(text)
    where = f"{destination.container}:{destination.path}" if destination.container else destination.path
    if where != "-" and not parsed.values.get("quiet", not os.isatty(2)):
        printer.note(f"Successfully copied {human_size(copied.size_bytes, 3)} to {where}")
    return 0


def _copy(parsed: Parsed, settings: "Settings", source: copyrules.Side, destination: copyrules.Side) -> copy.Copied:
    follow, archive = parsed.is_set("follow-link"), parsed.is_set("archive")
    if source.container:
        if destination.path != "-":
            path = destination.path
            return copy.to_local(settings, source.container, source.path, path, follow=follow, archive=archive)
        if os.isatty(1):
            hint = f"`sampan cp {source.container}:{source.path} - | tar -t` shows what is in it"
            raise InvalidArgument("an archive does not belong on a terminal", hints=(hint,))
        return copy.to_stream(settings, source.container, source.path, lambda data: write(1, data), follow=follow)
    name, path = destination.container, destination.path
    if source.path != "-":
        return copy.from_local(settings, source.path, name, path, follow=follow, archive=archive)
    if os.isatty(0):
        raise InvalidArgument("an archive does not come from a terminal", hints=("`sampan cp FILE CONTAINER:PATH`",))
    with open(os.dup(0), "rb") as stream:
        return copy.from_stream(settings, stream, name, path)


def diff(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print what a container has changed, a line each."""
    for kind, path in changes.find(settings, parsed.arguments[0]):
        printer.out(f"{kind} {visible(path)}" if os.isatty(1) else f"{kind} {path}")
    return 0


def export(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Write the container's root as a tar."""
    name, path = parsed.arguments[0], parsed.text("output")
    if not path and os.isatty(1):
        hint = f"`sampan export -o root.tar {name}` writes a file"
        raise InvalidArgument("an archive does not belong on a terminal", hints=(hint,))
    warnings: list[str] = []
    if path:
        to_file(path, lambda file: warnings.extend(copy.export(settings, name, file.write).warnings))
    else:
        warnings += copy.export(settings, name, lambda data: write(1, data)).warnings
    for text in warnings:
        printer.warn(text)
    return 0


COMMANDS = (
    Command(
        "cp",
        "[OPTIONS] CONTAINER:PATH LOCAL|-  or  LOCAL|- CONTAINER:PATH",
        "Copy files out of a container, or into one",
        execute=cp,
        flags=(
            Flag("archive", "bool", "keep owner and group", short="a"),
            Flag("follow-link", "bool", "copy what a link at PATH or LOCAL leads to", short="L"),
            Flag("quiet", "bool", "do not say how much was copied", short="q"),
        ),
        minimum=2,
        maximum=2,
        text=(
            "The container runs or is stopped. A directory goes into a directory that is there, and takes the name of "
            "one that is not; `PATH/.` is what is in it. `-` is a tar on stdout or stdin."
        ),
        examples=(
            "sampan cp web:/app/log.txt .",
            "sampan cp ./page.html web:/app/",
            "sampan cp web:/data/. - | tar -t",
        ),
    ),
    Command(
        "diff",
        "CONTAINER",
        "Show which files a container has added (A), changed (C) and deleted (D)",
        execute=diff,
        minimum=1,
        maximum=1,
        examples=("sampan diff web",),
    ),
    Command(
        "export",
        "[OPTIONS] CONTAINER",
        "Write a container's root file system, without its volumes, as a tar",
        execute=export,
        flags=(Flag("output", "string", "write to a file instead of stdout", short="o"),),
        minimum=1,
        maximum=1,
        examples=("sampan export -o root.tar web", "sampan export web | sampan import - web:copy"),
    ),
)
