"""The front door: find the command, run it, turn what goes wrong into words and an exit status. Hot.

Statuses are docker's: the container's own for run, exec, start --attach and wait; 125 where Sampan failed before a
command of run or create could begin, and for a wrong flag; 126 and 127 where the container's command cannot be invoked
or does not exist; 130 after Ctrl-C; 141 where the reader of our output left; 1 for all else.
"""

import errno
import os
import sys

from sampan.cli import catalog, flags
from sampan.cli.render import OutputGone, Printer
from sampan.errors import Exhausted, Internal, SampanError, Unsupported
from sampan.settings import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.settings.configuration import Settings

INTERRUPTED = 128 + 2
READER_LEFT = 128 + 13
# docker's variables that name another machine's daemon.
_ELSEWHERE = ("DOCKER_HOST", "DOCKER_CONTEXT")
# Commands that a normal user need not enter his namespaces for, or that do so themselves.
_WITHOUT_STORE = (
    "version",
    "doctor",
    "lint",
    "login",
    "logout",
    "completion",
    "boot enable",
    "boot disable",
    "boot status",
    "boot start",
    "boot stop",
    "system reset",
)


def main(words: "Sequence[str] | None" = None) -> int:
    """Run one command line and return the exit status; never raises."""
    words = [*_alias(sys.argv[0]), *sys.argv[1:]] if words is None else list(words)
    debug, config = False, ""
    printer = Printer({})
    try:
        if words and words[0].startswith("-"):
            from sampan.cli import outermost  # only where there is one

            options = outermost.read(words)
            words, debug, config = options.words, options.debug, options.config
        settings = configuration.load({"DOCKER_CONFIG": config} if config else {})
        printer = Printer(settings.environment, debug=debug)
        if any(settings.environment.get(name) for name in _ELSEWHERE):
            _warn_of_elsewhere(settings, printer)
        return _dispatch(words, settings, printer)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputGone:
        return READER_LEFT
    except Exception as error:  # noqa: BLE001  the process boundary: a person gets one clear error, never a traceback
        return _tell(error, printer)


def _warn_of_elsewhere(settings: "Settings", printer: Printer) -> None:
    """Say that a variable of docker's which names another machine is passed over; an error here for --host."""
    from sampan.cli import outermost

    host, context = (settings.environment.get(name, "") for name in _ELSEWHERE)
    if not outermost.is_here(host):
        printer.warn(f"`DOCKER_HOST={host}` is passed over: Sampan works on this machine, without a daemon")
    elif not host and context not in {"", outermost.DEFAULT_CONTEXT}:
        printer.warn(f"`DOCKER_CONTEXT={context}` is passed over: Sampan works on this machine, without a daemon")


def _alias(program: str) -> tuple[str, ...]:
    """Return the words that the program's own name stands for: a link called `docker-compose` means `compose`."""
    return ("compose",) if program.rpartition("/")[2] == "docker-compose" else ()


def from_system(error: OSError) -> SampanError:
    """Turn a system call's error that no room explained into one that says what a person can do about it."""
    told: SampanError
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            told = Exhausted("there is no space left", hints=("`sampan rm` and `sampan rmi` give space back",))
        case errno.EMFILE | errno.ENFILE:
            told = Exhausted("too many files are open", hints=("raise the limit with `ulimit -n 65536`",))
        case errno.ENOMEM:
            told = Exhausted("there is no memory left")
        case errno.EROFS:
            told = Unsupported("the file system is read-only", hints=("`SAMPAN_ROOT=/other/path` moves the store",))
        case errno.EACCES | errno.EPERM:
            told = Unsupported("permission denied", hints=_permission_hints())
        case _:
            told = SampanError("the system refused")
    told.__cause__ = error
    return told


def _dispatch(words: list[str], settings: "Settings", printer: Printer) -> int:
    """Find the command that `words` begin with, parse the rest, and do it."""
    if not words or words[0] in {"help", "-h", "--help"}:
        from sampan.cli import help as texts

        return texts.show(words[1:], printer)
    if words[0] in {"-v", "--version"}:
        words = ["version", "--format=short"]
    name, rest = catalog.find(words)
    if not name:
        from sampan.cli import help as texts

        return texts.show(words, printer)
    command = catalog.load(name)
    parsed = flags.parse(command, rest)
    if parsed.help:
        from sampan.cli import help as texts

        return texts.show([name], printer)
    try:
        if settings.uid != 0 and name not in _WITHOUT_STORE:
            from sampan.engine import rootless

            rootless.enter(settings, lambda event: printer.warn(event.text))
        return command.execute(parsed, settings, printer)
    except OutputGone:
        raise
    except Exception as error:  # noqa: BLE001  as in main; here the command says what its failures are worth
        status = _tell(error, printer)
        return command.failure_status if status == 1 else status


def _tell(error: Exception, printer: Printer) -> int:
    """Print the one error that explains a failure, and return its exit status."""
    told = (
        error
        if isinstance(error, SampanError)
        else from_system(error)
        if isinstance(error, OSError)
        else _broken(error)
    )
    printer.error(told)
    return told.exit_status


def _permission_hints() -> tuple[str, ...]:
    """Say whose the files probably are."""
    return () if os.geteuid() == 0 else ("the state of another user is not yours: see `sampan version`",)


def _broken(error: Exception) -> Internal:
    """Wrap a failure that nobody foresaw."""
    told = Internal("Sampan itself failed", hints=("please report it with the output of `sampan --debug …`",))
    told.__cause__ = error
    return told
