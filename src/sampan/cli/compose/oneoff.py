"""`sampan compose exec` and `run`: a command in a service's container, and a container for one command."""

import os

from sampan.cli import terminal
from sampan.cli.compose import selection
from sampan.cli.compose.work import Work
from sampan.cli.flags import Command, Flag, Parsed
from sampan.compose import sight, wish
from sampan.engine import container, mount_words, words
from sampan.engine import exec as engine_exec
from sampan.engine.run_options import RestartPolicy
from sampan.errors import NotFound
from sampan.frozen import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.engine.run_options import RunOptions
    from sampan.settings.configuration import Settings


def execute(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Run a command in a service's running container; return its status."""
    name = parsed.arguments[0]
    project = selection.load(parsed, settings, printer, [name])
    number = parsed.number("index")
    running = [one for one in sight.containers(settings, project.name) if one.service == name and one.is_running]
    chosen = [one for one in running if not one.is_one_off and number in {None, one.number}]
    if not chosen:
        raise NotFound(
            f'service "{name}" is not running' if number is None else f'service "{name}" has no container {number}',
            hints=(f"start it with `sampan compose up -d {name}`",),
        )
    tty, interactive = _terminal(parsed)
    options = engine_exec.ExecOptions(
        tuple(parsed.arguments[1:]),
        env=words.resolve_environment(parsed.words("env"), (), settings.environment),
        user=parsed.text("user"),
        workdir=parsed.text("workdir"),
        tty=tty,
        interactive=interactive,
        detach=parsed.is_set("detach"),
        privileged=parsed.is_set("privileged"),
    )
    window = terminal.window() if tty else None
    with engine_exec.begin(settings, chosen[0].id, options, window=window) as client:
        if options.detach:
            return 0
        return terminal.relay(client, parsed, settings, stdin=interactive, tty=tty, signal_proxy=True, left_status=1)


def run(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Run one command in a container of its own, made as the service's are; return its status."""
    name, *command = parsed.arguments
    project = selection.load(parsed, settings, printer, [name])
    service = project.services[name]
    work = Work(parsed, settings, printer, project)
    others = [one for one in work.chosen([name], with_dependencies=True) if one.name != name]
    if parsed.is_set("no-deps"):
        others = []
    images = work.images([*others, service])
    work.converge(others, images)
    work.resources([service])
    work.wait_for(service)
    options = wish.options(settings, project, service, number=1, image_id=images[name], inherited={}, is_one_off=True)
    own_name = f"{project.name}-{name}-run-{os.urandom(6).hex()}"
    options = replace(_applied(parsed, settings, options, command), name=parsed.text("name") or own_name)
    window = terminal.window() if options.tty else None
    with container.run(settings, options, window=window) as started:
        if options.detach:
            printer.out(options.name)
            return 0
        return terminal.relay(
            started.client, parsed, settings, stdin=options.interactive, tty=options.tty, signal_proxy=True
        )


def _applied(parsed: Parsed, settings: "Settings", options: "RunOptions", command: list[str]) -> "RunOptions":
    """Return a service's options with what the flags say over them."""
    from sampan.network import ports

    entrypoint = options.entrypoint
    if "entrypoint" in parsed.values:
        word = parsed.text("entrypoint")
        entrypoint = (word,) if word else ()
    own = words.resolve_environment(parsed.words("env"), parsed.words("env-from-file"), settings.environment)
    published = tuple(mapping for group in parsed.convert_all("publish", ports.parse) for mapping in group)
    tty, interactive = _terminal(parsed)
    return replace(
        options,
        entrypoint=entrypoint,
        command=tuple(command) or (None if "entrypoint" in parsed.values else options.command),
        env=(*options.env, *own),
        user=parsed.text("user") or options.user,
        workdir=parsed.text("workdir") or options.workdir,
        volumes=(*options.volumes, *parsed.convert_all("volume", mount_words.parse_volume)),
        labels={**options.labels, **dict(parsed.convert_all("label", words.parse_pair))},
        ports=(*(options.ports if parsed.is_set("service-ports") else ()), *published),
        restart=RestartPolicy(),
        detach=parsed.is_set("detach"),
        auto_remove=parsed.is_set("rm"),
        tty=tty,
        interactive=interactive,
    )


def _terminal(parsed: Parsed) -> tuple[bool, bool]:
    """Return whether there is a terminal, and whether stdin is passed on: both unless something speaks against it."""
    if parsed.is_set("detach"):
        return False, False
    is_terminal = os.isatty(0) and os.isatty(1)
    tty = is_terminal and not parsed.is_set("no-tty") and not parsed.is_set("no-TTY")
    return tty, parsed.values.get("interactive") is not False


_COMMON = (
    Flag("env", "list", "set an environment variable", short="e"),
    Flag("interactive", "bool", "keep stdin open (on unless `=false`)", short="i"),
    Flag("no-tty", "bool", "give it no terminal", short="T"),
    Flag("no-TTY", "bool", "the same as --no-tty"),
    Flag("user", "string", "user name or id, and group", short="u"),
    Flag("workdir", "string", "working directory inside", short="w"),
)
COMMANDS = (
    Command(
        "compose exec",
        "[OPTIONS] SERVICE COMMAND [ARG...]",
        "Run a command in a running container of a service",
        execute=execute,
        flags=(
            *_COMMON,
            Flag("detach", "bool", "run it in the background", short="d"),
            Flag("index", "int", "which container of the service"),
            Flag("privileged", "bool", "give it all capabilities"),
            Flag("tty", "bool", "taken for docker's sake: there is one where you sit at one", short="t"),
        ),
        minimum=2,
        interspersed=False,
        examples=("sampan compose exec web sh", "sampan compose exec -T db env"),
    ),
    Command(
        "compose run",
        "[OPTIONS] SERVICE [COMMAND] [ARG...]",
        "Run one command in a new container of a service",
        execute=run,
        flags=(
            *_COMMON,
            Flag("build", "bool", "build the image before"),
            Flag("detach", "bool", "run it in the background and print its name", short="d"),
            Flag("entrypoint", "string", "replace the service's entrypoint"),
            Flag("env-from-file", "list", "read environment variables from a file"),
            Flag("label", "list", "set a label (`key=value`)", short="l"),
            Flag("name", "string", "name the container"),
            Flag("no-deps", "bool", "do not start what the service waits for"),
            Flag("publish", "list", "publish a port", short="p"),
            Flag("pull", "string", "`always`, `missing` or `never`"),
            Flag("quiet", "bool", "print no progress", short="q"),
            Flag("remove-orphans", "bool", "remove containers of services that are not in the file any more"),
            Flag("rm", "bool", "remove the container when it ends"),
            Flag("service-ports", "bool", "publish the service's ports", short="P"),
            Flag("volume", "list", "bind a directory or attach a volume", short="v"),
        ),
        minimum=1,
        interspersed=False,
        later="cap-add cap-drop quiet-build quiet-pull use-aliases",
        examples=("sampan compose run --rm web python manage.py migrate",),
    ),
)
