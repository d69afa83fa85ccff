"""The options that stand before the command, docker's: most of them say where a daemon is, and there is none.

    --config DIR       the directory of docker's config.json, as DOCKER_CONFIG
    -D, --debug        operations and tracebacks
    -l, --log-level    `debug` is --debug; the others change nothing
    -H, --host; -c, --context; --tls…    what means this machine is taken, all else is an error that says why

Loaded only where there is one; `catalog` finds the command after them.
"""

from sampan.cli import flags
from sampan.cli.flags import Command, Flag
from sampan.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

LEVELS = ("debug", "info", "warn", "error", "fatal", "panic")
# docker's own name for what needs no address.
DEFAULT_CONTEXT = "default"
FLAGS = (
    Flag("config", "string", "directory of docker's config.json"),
    Flag("context", "string", "`default`: there is no daemon to choose", short="c"),
    Flag("debug", "bool", "show operations, and tracebacks with errors", short="D"),
    Flag("host", "list", "this machine's socket: there is no daemon to reach", short="H"),
    Flag("log-level", "string", f"{', '.join(LEVELS)}; `debug` is --debug", short="l"),
    Flag("tls", "bool", "without a daemon there is nothing to secure"),
    Flag("tlscacert", "string", "the same"),
    Flag("tlscert", "string", "the same"),
    Flag("tlskey", "string", "the same"),
    Flag("tlsverify", "bool", "the same"),
    Flag("version", "bool", "print the version", short="v"),
)


def _nothing(parsed: "Parsed", settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    return 0


GRAMMAR = Command("", "[OPTIONS] COMMAND", "", execute=_nothing, flags=FLAGS, interspersed=False)


class Options:
    """What stood before the command; `words` are what follows."""

    __slots__ = ("config", "debug", "words")

    def __init__(self, words: list[str], *, debug: bool = False, config: str = "") -> None:
        self.words = words
        self.debug = debug
        self.config = config


def read(words: list[str]) -> Options:
    """Read them off the front of `words`; raises UsageError, Unsupported."""
    parsed = flags.parse(GRAMMAR, words)
    for host in parsed.words("host"):
        if not is_here(host):
            raise _no_daemon(f"`--host {host}`", "leave it out, or run `sampan` there, as in `ssh HOST sampan ps`")
    if parsed.text("context", DEFAULT_CONTEXT) not in {"", DEFAULT_CONTEXT}:
        raise _no_daemon(f"`--context {parsed.text('context')}`", "leave it out")
    for name in ("tls", "tlscacert", "tlscert", "tlskey", "tlsverify"):
        if parsed.values.get(name):
            raise _no_daemon(f"`--{name}`", "leave it out")
    level = parsed.text("log-level", "info")
    if level not in LEVELS:
        raise flags.UsageError(f"`--log-level` cannot be `{level}`", hints=(f"levels: {', '.join(LEVELS)}",))
    rest = ["--help"] if parsed.help else ["--version"] if parsed.is_set("version") else parsed.arguments
    return Options(rest, debug=parsed.is_set("debug") or level == "debug", config=parsed.text("config"))


def is_here(host: str) -> bool:
    """Tell whether docker's word for a daemon's address is a socket of this machine."""
    return host == "" or host.startswith(("unix://", "fd://"))


def _no_daemon(what: str, hint: str) -> Unsupported:
    told = Unsupported(f"{what} has no meaning: Sampan works on this machine, without a daemon", hints=(hint,))
    told.exit_status = flags.UsageError.exit_status
    return told
