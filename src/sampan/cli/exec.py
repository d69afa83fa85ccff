"""`sampan exec`: a command in a container that runs. Hot."""

from sampan.cli import terminal
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import exec as engine_exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def execute(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Run the command and return its status."""
    options = engine_exec.ExecOptions(
        tuple(parsed.arguments[1:]),
        env=_environment(parsed, settings),
        user=parsed.text("user"),
        workdir=parsed.text("workdir"),
        tty=parsed.is_set("tty"),
        interactive=parsed.is_set("interactive"),
        detach=parsed.is_set("detach"),
        privileged=parsed.is_set("privileged"),
    )
    if not options.detach:
        terminal.check(tty=options.tty, interactive=options.interactive)
    window = terminal.window() if options.tty else None
    with engine_exec.begin(settings, parsed.arguments[0], options, window=window) as client:
        if options.detach:
            return 0
        return terminal.relay(
            client, parsed, settings, stdin=options.interactive, tty=options.tty, signal_proxy=True, left_status=1
        )


def _environment(parsed: Parsed, settings: "Settings") -> tuple[str, ...]:
    own, files = parsed.words("env"), parsed.words("env-file")
    if not own and not files:
        return ()
    from sampan.engine import words  # two milliseconds, which few need

    return words.resolve_environment(own, files, settings.environment)


EXEC = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Run a command in a running container",
    execute=execute,
    flags=(
        Flag("detach", "bool", "run it in the background", short="d"),
        Flag("detach-keys", "string", "keys that leave the command running (`ctrl-p,ctrl-q`)"),
        Flag("env", "list", "set an environment variable", short="e"),
        Flag("env-file", "list", "read environment variables from a file"),
        Flag("interactive", "bool", "keep stdin open", short="i"),
        Flag("privileged", "bool", "give it all capabilities"),
        Flag("tty", "bool", "give it a terminal", short="t"),
        Flag("user", "string", "user name or id, and group", short="u"),
        Flag("workdir", "string", "working directory inside", short="w"),
    ),
    minimum=2,
    interspersed=False,
    examples=("sampan exec web python -c 'print(1)'", "sampan exec -it web python"),
)
COMMANDS = (EXEC,)
