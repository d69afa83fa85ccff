"""`sampan compose [OPTIONS] COMMAND`: the flags that say which project, then one of its commands.

A program called `docker-compose` that leads here means the same.
"""

from sampan.cli import catalog, flags
from sampan.cli import help as texts
from sampan.cli.flags import Command, Flag, Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

# Command -> module of this package, whose COMMANDS has it; so that a command imports its own family and no other.
FAMILIES = {
    "attach": "life",
    "build": "life",
    "config": "model",
    "cp": "life",
    "create": "life",
    "down": "life",
    "events": "life",
    "exec": "oneoff",
    "images": "show",
    "kill": "life",
    "logs": "show",
    "ls": "show",
    "pause": "running",
    "port": "show",
    "ps": "show",
    "pull": "life",
    "push": "life",
    "restart": "life",
    "rm": "life",
    "run": "oneoff",
    "start": "life",
    "stats": "running",
    "stop": "life",
    "top": "running",
    "unpause": "running",
    "up": "life",
    "version": "model",
    "wait": "life",
    "watch": "life",
}
# Those that start containers: what the monitors need is imported while the command reads its files.
_STARTING = ("restart", "run", "start", "up")


def execute(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Find the command that follows, and do it."""
    if parsed.is_set("version"):
        (version,) = catalog.inner("compose", "version")
        return version.execute(flags.parse(version, []), settings, printer)
    if not parsed.arguments or parsed.arguments[0] == "help":
        return texts.show(["compose", *parsed.arguments[1:]], printer)
    if parsed.arguments[0] not in _STARTING or {"-h", "--help"} & set(parsed.arguments):
        return _perform(parsed, settings, printer)
    from sampan.engine import nursery

    nursery.open(settings)
    try:
        return _perform(parsed, settings, printer)
    finally:
        nursery.close()


def _perform(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    (command,) = catalog.inner("compose", parsed.arguments[0])
    inner = flags.parse(command, parsed.arguments[1:], parsed)
    if inner.help:
        printer.out(texts.command(command))
        return 0
    return command.execute(inner, settings, printer)


COMPOSE = Command(
    "compose",
    "[OPTIONS] COMMAND",
    "Run a project of several containers from a compose file",
    execute=execute,
    flags=(
        Flag("all-resources", "bool", "taken for docker's sake: what no service uses is not made"),
        Flag("ansi", "string", "`auto`, `never` or `always` colours"),
        Flag("env-file", "list", "read the project's variables from here instead of `.env`"),
        Flag("file", "list", "a compose file; several are merged, `-` is stdin", short="f"),
        Flag("parallel", "int", "how many containers are worked on at once; -1 is no limit"),
        Flag("profile", "list", "switch on the services of a profile; `*` is all"),
        Flag("progress", "string", "`auto`, `tty`, `plain` or `quiet`"),
        Flag("project-directory", "string", "what relative paths are relative to"),
        Flag("project-name", "string", "name the project", short="p"),
        Flag("version", "bool", "print the version", short="v"),
    ),
    interspersed=False,
    later="compatibility dry-run verbose",
    examples=("sampan compose up -d", "sampan compose -f compose.yaml -p shop ps", "sampan compose up --help"),
)
COMMANDS = (COMPOSE,)
