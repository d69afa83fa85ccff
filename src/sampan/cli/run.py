"""`sampan run` and `sampan create`: the engine, then the person's terminal. Hot."""

import os

from sampan.cli import cidfile, request, terminal
from sampan.cli.flags import Command, Parsed
from sampan.engine import container
from sampan.engine.run_options import RunOptions
from sampan.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def run(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Create, start, and stay with a container; or, with a PATH, build the project there first."""
    image = parsed.arguments[0]
    if is_path(image):
        from sampan.cli import project

        return project.start(parsed, settings, printer)
    return start(parsed, request.options(parsed, settings, image), settings, printer)


def create(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Record a container and print its id."""
    wanted = request.options(parsed, settings, parsed.arguments[0])
    cidfile.refuse(parsed)
    try:
        made = container.create(settings, wanted)
    except NotFound as error:
        raise explain_missing(error, settings, wanted.image) from error.__cause__
    cidfile.write(parsed, made.id)
    printer.out(made.id)
    return 0


def start(parsed: Parsed, wanted: RunOptions, settings: "Settings", printer: "Printer") -> int:
    """Run `wanted` in the background, or in the foreground until it ends; return the command's exit status."""
    if not wanted.detach:
        terminal.check(tty=wanted.tty, interactive=wanted.interactive)
    cidfile.refuse(parsed)
    try:
        started = container.run(settings, wanted, window=terminal.window() if wanted.tty else None)
    except NotFound as error:
        raise explain_missing(error, settings, wanted.image) from error.__cause__
    with started:
        cidfile.write(parsed, started.container.id)
        if wanted.detach:
            printer.out(started.container.id)
            return 0
        proxy = parsed.values.get("sig-proxy") is not False
        return terminal.relay(started.client, parsed, stdin=wanted.interactive, tty=wanted.tty, signal_proxy=proxy)


def is_path(word: str) -> bool:
    """Return whether `word` names a project directory; all else is an image reference."""
    return word.startswith((".", "/", "~"))


def explain_missing(error: NotFound, settings: "Settings", image: str) -> NotFound:
    """Return the error with what to do where it is the image that is missing: perhaps `./` was forgotten."""
    from sampan.database import connection
    from sampan.image.store import Images

    with connection.open(settings) as database:
        try:
            Images(database).identify(image)
        except NotFound as missing:
            error = missing
        else:
            return error
    if os.path.isdir(image):
        hint = f"`{image}` is a directory here: `sampan run ./{image}` builds and runs it"
    else:
        hint = "there are no registries yet: `sampan build`, `sampan load` and `sampan import` make images"
    return NotFound(error.what, hints=(hint, *error.hints), at=error.at)


RUN = Command(
    "run",
    "[OPTIONS] IMAGE|PATH [COMMAND] [ARG...]",
    "Create a container from an image, or from the project at PATH, and run a command in it",
    execute=run,
    flags=request.RUN_FLAGS,
    minimum=1,
    interspersed=False,
    failure_status=125,
    later=request.LATER,
    text=(
        "A PATH begins with `.`, `/` or `~`: the project there is built first, its port is published on 127.0.0.1,\n"
        "and Ctrl-C stops and removes it. All else is an image. Flags after IMAGE belong to the command."
    ),
    examples=(
        "sampan run .",
        "sampan run -d --name web -p 8000:5000 --memory 256m --cpus 0.5 hello",
        'sampan run --rm -it -v "$PWD/data:/data" hello python',
        "sampan run --rm -e A=b --network none hello env",
    ),
)
CREATE = Command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a container without starting it",
    execute=create,
    flags=request.CREATE_FLAGS,
    minimum=1,
    interspersed=False,
    failure_status=125,
    later=request.LATER,
    text="Takes the flags of `sampan run`; `sampan start` runs it.",
    examples=("sampan create --name web -p 8000:5000 hello", "sampan start web"),
)
COMMANDS = (RUN, CREATE)
