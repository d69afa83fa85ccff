"""The command line's grammar: docker's (pflag's) rules, read from tables. Pure and hot.

Theory: a `Command` is a row of facts: its flags, how many arguments it takes, whether flags may follow arguments, and
the function that does its work. `parse` walks the words once:

    --name value   --name=value   --bool   --bool=false        long flags
    -n value   -nvalue   -n=value   -it   -itp80:80            short flags, joined; one that takes a value eats the rest
    --                                                         ends the flags
    -                                                          an argument like any other

Where `interspersed` is false (run, exec) the first argument ends the flags too: what follows belongs to the container's
command. Words that docker knows and Sampan does not have yet are in `later`, so that the error says so instead of
calling them unknown.
"""

from sampan.errors import InvalidArgument, SampanError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

    T = TypeVar("T")
    Execute = Callable[["Parsed", Settings, Printer], int]

# Kinds whose flag may be given many times; each use adds a word.
REPEATED = frozenset({"list", "map", "mount", "ulimit", "filter", "network"})
# strconv.ParseBool, which docker's flags read their `--flag=false` with.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class UsageError(InvalidArgument):
    """A flag is wrong; docker's status for that is 125 whatever the command."""

    exit_status = 125


class NotYet(Unsupported):
    """A flag that docker has and Sampan does not have yet."""

    exit_status = 125


class Flag:
    """One row of a flag table: `kind` is the word that the help shows (`bool`, `string`, `list`, `int`, ...)."""

    __slots__ = ("help", "kind", "name", "short")

    def __init__(self, name: str, kind: str, help: str, *, short: str = "") -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short

    def spelling(self) -> str:
        """Return how a person may write it."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Command:
    """One command: its words for people, its grammar, and the function that does its work.

    `usage` follows the name (`[OPTIONS] IMAGE [COMMAND] [ARG...]`). `maximum` None is any number of arguments.
    `failure_status` replaces an error's exit status of 1 (docker run: 125). `later` names docker's flags that are not
    there yet, apart by spaces.
    """

    __slots__ = (
        "examples",
        "execute",
        "failure_status",
        "flags",
        "interspersed",
        "later",
        "maximum",
        "minimum",
        "name",
        "summary",
        "text",
        "usage",
    )

    def __init__(
        self,
        name: str,
        usage: str,
        summary: str,
        *,
        execute: "Execute",
        flags: tuple[Flag, ...] = (),
        minimum: int = 0,
        maximum: int | None = None,
        interspersed: bool = True,
        failure_status: int = 1,
        text: str = "",
        examples: tuple[str, ...] = (),
        later: str = "",
    ) -> None:
        self.name = name
        self.usage = usage
        self.summary = summary
        self.execute = execute
        self.flags = flags
        self.minimum = minimum
        self.maximum = maximum
        self.interspersed = interspersed
        self.failure_status = failure_status
        self.text = text
        self.examples = examples
        self.later = later


class Parsed:
    """What was typed: the values of the flags that were given, and the arguments. `help` where help was asked for.

    `outer` is what was typed before it where the command is a word of another (`compose -f FILE up`).
    """

    __slots__ = ("arguments", "command", "help", "outer", "values")

    def __init__(self, command: Command, outer: "Parsed | None" = None) -> None:
        self.command = command
        self.outer = outer
        self.values: dict[str, str | bool | list[str]] = {}
        self.arguments: list[str] = []
        self.help = False

    def is_set(self, name: str) -> bool:
        """Return whether a boolean flag is on."""
        return self.values.get(name) is True

    def text(self, name: str, default: str = "") -> str:
        """Return a flag's word, or `default` where it was not given."""
        value = self.values.get(name, default)
        return value if isinstance(value, str) else default

    def words(self, name: str) -> list[str]:
        """Return every word of a flag that may be repeated."""
        value = self.values.get(name)
        return value if isinstance(value, list) else []

    def convert(self, name: str, function: "Callable[[str], T]") -> "T | None":
        """Return `function` of a flag's word, None where it was not given; an error names the flag."""
        value = self.values.get(name)
        return self._apply(name, value, function) if isinstance(value, str) else None

    def convert_all(self, name: str, function: "Callable[[str], T]") -> "tuple[T, ...]":
        """Return `function` of each word of a flag that may be repeated."""
        return tuple(self._apply(name, word, function) for word in self.words(name))

    def number(self, name: str) -> int | None:
        """Return a flag's whole number."""
        return self.convert(name, _whole)

    def _apply(self, name: str, word: str, function: "Callable[[str], T]") -> "T":
        try:
            return function(word)
        except InvalidArgument as error:
            flag = next(flag for flag in self.command.flags if flag.name == name)
            raise UsageError(f"`{flag.spelling()}` cannot be `{word}`", at=error.at) from error


def parse(command: Command, words: "Sequence[str]", outer: Parsed | None = None) -> Parsed:
    """Read `words`, all that stood after the command's name; raises UsageError, NotYet, InvalidArgument."""
    parsed = Parsed(command, outer)
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word == "--":
            parsed.arguments += reversed(waiting)
            break
        if word.startswith("--"):
            _long(parsed, word, waiting)
        elif word.startswith("-") and word != "-":
            _short(parsed, word, waiting)
        else:
            parsed.arguments.append(word)
            if not command.interspersed:
                parsed.arguments += reversed(waiting)
                break
        if parsed.help:
            return parsed
    _check_count(parsed)
    return parsed


def _long(parsed: Parsed, word: str, waiting: list[str]) -> None:
    """Read `--name`, `--name=value` or `--name value`."""
    name, equals, value = word[2:].partition("=")
    for flag in parsed.command.flags:
        if flag.name == name:
            break
    else:
        if name == "help":
            parsed.help = True
            return
        raise _unknown(parsed.command, f"--{name}")
    if equals:
        _store(parsed, flag, value)
    elif flag.kind == "bool":
        parsed.values[name] = True
    else:
        _store(parsed, flag, _next(parsed.command, flag, waiting))


def _short(parsed: Parsed, word: str, waiting: list[str]) -> None:
    """Read `-abc`: each letter a boolean flag until one takes the rest, or the next word, as its value."""
    rest = word[1:]
    while rest:
        letter, rest = rest[0], rest[1:]
        flag = next((flag for flag in parsed.command.flags if flag.short == letter), None)
        if flag is None:
            if letter == "h":
                parsed.help = True
                return
            raise _unknown(parsed.command, f"-{letter}", word)
        if rest.startswith("="):
            _store(parsed, flag, rest[1:])
            return
        if flag.kind == "bool":
            parsed.values[flag.name] = True
            continue
        _store(parsed, flag, rest or _next(parsed.command, flag, waiting))
        return


def _store(parsed: Parsed, flag: Flag, value: str) -> None:
    """Keep a flag's value: the last one wins, repeated kinds collect."""
    if flag.kind in REPEATED:
        parsed.values[flag.name] = [*parsed.words(flag.name), value]
    elif flag.kind != "bool":
        parsed.values[flag.name] = value
    elif value in _TRUE or value in _FALSE:
        parsed.values[flag.name] = value in _TRUE
    else:
        raise UsageError(
            f"`{flag.spelling()}` cannot be `{value}`", hints=(f"write `--{flag.name}` or `--{flag.name}=false`",)
        )


def _next(command: Command, flag: Flag, waiting: list[str]) -> str:
    """Take the next word as a flag's value."""
    if not waiting:
        raise UsageError(f"`{flag.spelling()}` needs a value", hints=(_more(command),))
    return waiting.pop()


def _check_count(parsed: Parsed) -> None:
    """Raise InvalidArgument where there are too few or too many arguments."""
    command, count = parsed.command, len(parsed.arguments)
    if count < command.minimum or (command.maximum is not None and count > command.maximum):
        raise InvalidArgument(
            f"`sampan {command.name}` takes {_expected(command)}, not {count}",
            hints=(f"usage: `sampan {command.name} {command.usage}`", _more(command)),
        )


def _expected(command: Command) -> str:
    """Print how many arguments a command takes."""
    if command.maximum is None:
        return f"at least {command.minimum} argument{'s' * (command.minimum != 1)}"
    if command.maximum == 0:
        return "no arguments"
    if command.minimum == command.maximum:
        return f"{command.minimum} argument{'s' * (command.minimum != 1)}"
    return f"{command.minimum} to {command.maximum} arguments"


def _whole(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError as error:
        raise InvalidArgument(f"`{text}` is not a whole number") from error


def _unknown(command: Command, word: str, among: str = "") -> SampanError:
    """Explain a flag that is not in the table: not there yet, or perhaps misspelt."""
    if word.lstrip("-") in command.later.split():
        return NotYet(f"the flag `{word}` is not there yet", hints=(_more(command),))
    place = f" in `{among}`" if among and among != word else ""
    near = suggest(word, [f"--{flag.name}" for flag in command.flags]) if word.startswith("--") else ""
    hints = (f"did you mean `{near}`?",) if near else ()
    return UsageError(f"unknown flag: `{word}`{place}", hints=(*hints, _more(command)))


def suggest(word: str, known: "Sequence[str]") -> str:
    """Return the known word that `word` was probably meant to be, or `""`."""
    import difflib  # 6 ms, so only after a mistake

    return next(iter(difflib.get_close_matches(word, known, 1)), "")


def _more(command: Command) -> str:
    return f"`{' '.join(('sampan', *command.name.split(), '--help'))}` shows what it takes"
