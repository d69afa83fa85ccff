"""`sampan run` and `sampan create`: the engine, then the person's terminal. Hot."""

from sampan.cli import cidfile, request, terminal
from sampan.cli.flags import Command, Parsed
from sampan.engine import container
from sampan.engine.run_options import RunOptions
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

    T = TypeVar("T")


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
    request.ensure_init(wanted, parsed, settings, printer)
    made = with_image(parsed, settings, printer, lambda: container.create(settings, wanted))
    cidfile.write(parsed, made.id)
    printer.out(made.id)
    return 0


def start(parsed: Parsed, wanted: RunOptions, settings: "Settings", printer: "Printer") -> int:
    """Run `wanted` in the background, or in the foreground until it ends; return the command's exit status."""
    if not wanted.detach:
        terminal.check(tty=wanted.tty, interactive=wanted.interactive)
    elif parsed.words("attach"):
        raise InvalidArgument("`--attach` and `--detach` exclude each other", hints=("leave one of both out",))
    cidfile.refuse(parsed)
    request.ensure_init(wanted, parsed, settings, printer)
    window = terminal.window() if wanted.tty else None

    def act() -> container.Started:
        # As soon as there is an id: whoever asked for it may remove a container that cannot be started, too.
        return container.run(settings, wanted, window=window, announce=lambda made: cidfile.write(parsed, made.id))

    with with_image(parsed, settings, printer, act) as started:
        if wanted.detach:
            printer.out(started.container.id)
            return 0
        proxy = parsed.values.get("sig-proxy") is not False
        return terminal.relay(
            started.client, parsed, settings, stdin=wanted.interactive, tty=wanted.tty, signal_proxy=proxy
        )


def is_path(word: str) -> bool:
    """Return whether `word` names a project directory; all else is an image reference."""
    return word.startswith((".", "/", "~"))


def with_image(parsed: Parsed, settings: "Settings", printer: "Printer", act: "Callable[[], T]") -> "T":
    """Return what `act` does; an image that is not here, or that `--pull always` asks for, is fetched before it."""
    image = parsed.arguments[0]
    if parsed.text("pull") == "always":
        from sampan.cli import registry

        registry.fetch(settings, printer, image, parsed=parsed)
    try:
        return act()
    except NotFound as error:
        from sampan.cli import registry

        registry.fetch_missing(error, settings, printer, image, parsed=parsed)
    return act()


RUN = Command(
    "run",
    "[OPTIONS] IMAGE|PATH [COMMAND] [ARG...]",
    "Create a container from an image, or from the project at PATH, and run a command in it",
    execute=run,
    flags=request.RUN_FLAGS,
    minimum=1,
    interspersed=False,
    failure_status=125,
    text=(
        "A PATH begins with `.`, `/` or `~`: the project there is built first, its port is published on 127.0.0.1,\n"
        "and Ctrl-C stops and removes it. All else is an image, which is pulled if it is not here.\n"
        "Flags after IMAGE belong to the command."
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
    text="Takes the flags of `sampan run`; `sampan start` runs it.",
    examples=("sampan create --name web -p 8000:5000 hello", "sampan start web"),
)
COMMANDS = (RUN, CREATE)
