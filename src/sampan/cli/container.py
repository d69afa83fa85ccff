"""`sampan start`, `stop`, `restart`, `kill`, `wait`, `rm` and `attach`: a container's life after its creation. Hot.

A command that takes several names goes on after an error and ends with status 1, as docker's does.
"""

from sampan import journal
from sampan.cli import terminal
from sampan.cli.flags import Command, Flag, Parsed
from sampan.engine import container
from sampan.errors import InvalidArgument, NotFound, SampanError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.render import Printer
    from sampan.engine.attach import Client
    from sampan.settings.configuration import Settings

_AT_ONCE = 50  # docker's
_TIME = Flag("timeout", "int", "seconds until it is killed (default: the container's, 10)", short="t")
_SIGNAL = Flag("signal", "string", "the signal that asks it to end (default: the container's, SIGTERM)", short="s")
_TIME_OLD = Flag("time", "int", "the same as --timeout")


def each(names: list[str], printer: "Printer", act: "Callable[[str], str]", *, is_missing_fine: bool = False) -> int:
    """Do `act` to each name and print what it returns; go on after an error.

    `is_missing_fine`: what is not there is told, and the status is 0 all the same (docker's `rm -f`).
    """
    status = 0
    for name in names:
        try:
            printer.out(act(name))
        except SampanError as error:
            printer.error(error)
            if not (is_missing_fine and isinstance(error, NotFound)):
                status = 1
    return status


def each_at_once(
    names: list[str],
    printer: "Printer",
    begin: "Callable[[str], Callable[[], None]]",
    *,
    is_missing_fine: bool = False,
) -> int:
    """Begin with all names, some at a time, and then end with each and print it; go on after an error as `each`."""
    status = 0
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        ends = [_begun(begin, name) for name in some]
        status = _end_each(some, printer, ends, is_missing_fine=is_missing_fine) or status
    return status


def _end_each(names: list[str], printer: "Printer", ends: "list[Callable[[], None]]", *, is_missing_fine: bool) -> int:
    coming = iter(ends)

    def act(name: str) -> str:
        next(coming)()
        return name

    return each(names, printer, act, is_missing_fine=is_missing_fine)


def _begun(begin: "Callable[[str], Callable[[], None]]", name: str) -> "Callable[[], None]":
    """Begin; return what ends it, or what raises the error when its turn has come."""
    try:
        return begin(name)
    except SampanError as error:
        caught = error

    def fail() -> None:
        raise caught

    return fail


def start(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Start containers; with --attach stay with the one."""
    if parsed.is_set("attach") or parsed.is_set("interactive"):
        return _start_attached(parsed, settings)

    def act(name: str) -> str:
        started = container.start(settings, name)
        if started is not None:
            started.client.close()
        return name

    return each(parsed.arguments, printer, act)


def stop(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Stop containers."""
    seconds = _seconds(parsed)

    signal = parsed.text("signal")

    def begin(name: str) -> "Callable[[], None]":
        return container.begin_stop(settings, name, seconds, signal=signal)

    return each_at_once(parsed.arguments, printer, begin)


def restart(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Stop and start containers."""
    seconds = _seconds(parsed)

    def act(name: str) -> str:
        container.restart(settings, name, seconds, signal=parsed.text("signal"))
        return name

    return each(parsed.arguments, printer, act)


def kill(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Send a signal to containers."""

    def act(name: str) -> str:
        container.kill(settings, name, parsed.text("signal", "KILL"))
        return name

    return each(parsed.arguments, printer, act)


def wait(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Wait for containers and print their statuses."""
    return each(parsed.arguments, printer, lambda name: str(container.wait(settings, name)))


def remove(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Remove containers."""
    if parsed.is_set("link"):
        raise Unsupported(
            "a link cannot be taken away from a container that has it",
            hints=("make the container again without `--link`; on a network of one's own names need no links",),
        )
    force, volumes = parsed.is_set("force"), parsed.is_set("volumes")

    def begin(name: str) -> "Callable[[], None]":
        return container.begin_remove(settings, name, force=force, volumes=volumes)

    return each_at_once(parsed.arguments, printer, begin, is_missing_fine=force)


def attach(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Stay with a running container until it ends; return its status."""
    name, stdin = parsed.arguments[0], not parsed.is_set("no-stdin")
    return _relay(parsed, settings, name, container.attach(settings, name), stdin=stdin, left_status=1, is_redrawn=True)


def _start_attached(parsed: Parsed, settings: "Settings") -> int:
    """Start one container and stay with it."""
    if len(parsed.arguments) != 1:
        raise InvalidArgument("`--attach` takes one container", hints=("start the others without it",))
    name = parsed.arguments[0]
    started = container.start(settings, name, window=terminal.window())
    if started is not None:
        journal.note(settings.root, "attach", started.container.id, started.container.attributes)
    client = container.attach(settings, name) if started is None else started.client
    return _relay(parsed, settings, name, client, stdin=parsed.is_set("interactive"), is_redrawn=started is None)


def _relay(
    parsed: Parsed,
    settings: "Settings",
    name: str,
    client: "Client",
    *,
    stdin: bool,
    is_redrawn: bool,
    left_status: int = 0,
) -> int:
    """Copy between the terminal and the container, as it was created."""
    from sampan.engine import inspection

    config = inspection.inspect(settings, name)["Config"]
    proxy = parsed.values.get("sig-proxy") is not False
    stdin, tty = stdin and config["OpenStdin"], bool(config["Tty"])
    with client:
        terminal.check(tty=tty, interactive=stdin)
        return terminal.relay(
            client,
            parsed,
            settings,
            stdin=stdin,
            tty=tty,
            signal_proxy=proxy,
            left_status=left_status,
            is_redrawn=is_redrawn,
        )


def _seconds(parsed: Parsed) -> int | None:
    seconds = parsed.number("timeout")
    return parsed.number("time") if seconds is None else seconds


_SEVERAL = "CONTAINER [CONTAINER...]"
_KEYS = Flag("detach-keys", "string", "keys that leave the container running (`ctrl-p,ctrl-q`)")
_PROXY = Flag("sig-proxy", "bool", "pass signals on to the container (on unless `=false`)")
COMMANDS = (
    Command(
        "attach",
        "[OPTIONS] CONTAINER",
        "Stay with a running container: its output, its input, its end",
        execute=attach,
        flags=(_KEYS, Flag("no-stdin", "bool", "send no input"), _PROXY),
        minimum=1,
        maximum=1,
        examples=("sampan attach web",),
    ),
    Command(
        "start",
        f"[OPTIONS] {_SEVERAL}",
        "Start containers that are stopped or new",
        execute=start,
        flags=(
            Flag("attach", "bool", "stay with it and return its status", short="a"),
            _KEYS,
            Flag("interactive", "bool", "send input too", short="i"),
            _PROXY,
        ),
        minimum=1,
        examples=("sampan start web", "sampan start -ai shell"),
    ),
    Command(
        "stop",
        f"[OPTIONS] {_SEVERAL}",
        "Ask containers to end, and kill them after a time-out",
        execute=stop,
        flags=(_SIGNAL, _TIME, _TIME_OLD),
        minimum=1,
        examples=("sampan stop web", "sampan stop -t 2 web db"),
    ),
    Command(
        "restart",
        f"[OPTIONS] {_SEVERAL}",
        "Stop containers and start them again",
        execute=restart,
        flags=(_SIGNAL, _TIME, _TIME_OLD),
        minimum=1,
        examples=("sampan restart web",),
    ),
    Command(
        "kill",
        f"[OPTIONS] {_SEVERAL}",
        "Send a signal to containers, SIGKILL unless another is named",
        execute=kill,
        flags=(Flag("signal", "string", "name or number of the signal", short="s"),),
        minimum=1,
        examples=("sampan kill web", "sampan kill -s HUP web"),
    ),
    Command(
        "wait",
        _SEVERAL,
        "Wait until containers end and print their exit statuses",
        execute=wait,
        minimum=1,
        examples=("sampan wait web",),
    ),
    Command(
        "rm",
        f"[OPTIONS] {_SEVERAL}",
        "Remove containers",
        execute=remove,
        flags=(
            Flag("force", "bool", "kill it first where it runs", short="f"),
            Flag("link", "bool", "remove a link: not possible here", short="l"),
            Flag("volumes", "bool", "remove its anonymous volumes too", short="v"),
        ),
        minimum=1,
        examples=("sampan rm web", "sampan rm -fv web db"),
    ),
)
