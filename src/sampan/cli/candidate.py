"""What the last word of a line may become: commands, flags, their values, and the names of what is here.

Theory: the words before it are walked as `flags.parse` walks them, but nothing is an error: whoever types is not done
yet. That leaves a command, how many arguments stand already, and perhaps a flag that waits for its value. The
command's `usage` says what an argument there is (`[OPTIONS] CONTAINER COMMAND [ARG...]`). Nothing is loaded that the
word does not ask for: the first word needs the tables of names only.
"""

import os

from sampan.cli import catalog, flags, summary
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.cli.flags import Command, Flag, Parsed
    from sampan.settings.configuration import Settings

    # A word, and what it is.
    Candidate = tuple[str, str]

# Flags whose words are few and known; what other flags take is a file, or the person's to know.
_CHOICES = {
    "ansi": "always auto never",
    "progress": "auto plain quiet tty",
    "pull": "always missing never",
    "restart": "always no on-failure unless-stopped",
    "rmi": "all local",
    "signal": "HUP INT KILL QUIT TERM USR1 USR2",
    "status": "created exited restarting running",
}
# How a path begins: the shell completes it.
_PATHS = (".", "/", "~")
# Commands whose argument is a name that is not there yet.
_NEW = ("network create", "volume create")
_GLOBALS = (("--debug", "say more"), ("--help", "show the commands"), ("--version", "print the version"))
# Flags that take a name of what is here -> the word that a usage has for it.
_NAMES = {
    "attach": "SERVICE",
    "exit-code-from": "SERVICE",
    "network": "NETWORK",
    "no-attach": "SERVICE",
    "profile": "PROFILE",
    "project-name": "PROJECT",
}


def candidates(words: list[str], settings: "Settings") -> "Iterator[Candidate]":
    """Yield what the last of `words` may become; nothing where a file's name is meant, or nobody knows."""
    *before, current = words
    before = _after_globals(before)
    if not before:
        if current.startswith("-"):
            yield from _GLOBALS
            return
        yield from ((name, summary.of(name)) for name in catalog.FAMILIES if " " not in name)
        yield from ((name, f"commands about {name}") for name in catalog.GROUPS if name not in catalog.FAMILIES)
        return
    if before[0] in catalog.GROUPS and len(before) == 1:
        yield from ((word, summary.of(meant)) for word, meant in catalog.GROUPS[before[0]].items())
        return
    try:
        name, rest = catalog.find(before)
        command = catalog.load(name)
    except (SampanError, KeyError):
        return
    line = _Line(command, rest)
    if name in catalog.OUTER and line.arguments:
        inner, *rest = line.arguments
        try:
            (command,) = catalog.inner(name, inner)
        except SampanError:
            return
        line = _Line(command, rest, outer=line)
    yield from _of_line(line, current, settings)


class _Line:
    """The words of one command so far: its arguments, the flag that waits for its value, whether flags have ended."""

    def __init__(self, command: "Command", words: list[str], outer: "_Line | None" = None) -> None:
        self.command = command
        self.words = words
        self.outer = outer
        self.arguments: list[str] = []
        self.waiting: Flag | None = None
        self.is_ended = False
        self._walk(list(reversed(words)))

    def _walk(self, left: list[str]) -> None:
        while left:
            word = left.pop()
            self.waiting = None
            if word == "--":
                self.is_ended = True
            elif word.startswith("-") and word != "-":
                self.waiting = _waits(self.command, word)
                if self.waiting and left:
                    left.pop()
                    self.waiting = None
            else:
                self.arguments.append(word)
                self.is_ended = not self.command.interspersed
            if self.is_ended:
                self.arguments += reversed(left)
                return

    def expected(self) -> str:
        """Return the usage's word for the argument that comes next; empty where none does."""
        words = [word for word in self.command.usage.split() if word != "[OPTIONS]"]
        count = len(self.arguments)
        if count < len(words):
            return words[count]
        return words[-1] if words and "..." in words[-1] else ""

    def within(self) -> "Parsed":
        """Return the command with nothing but the flags before it (`compose -f FILE`); raises SampanError."""
        outer = self.outer or self
        words = outer.words[:-1] if outer.waiting else outer.words
        return flags.Parsed(self.command, flags.parse(outer.command, words))


def _after_globals(words: list[str]) -> list[str]:
    """Return the words from the command on."""
    return next((words[at:] for at, word in enumerate(words) if not word.startswith("-")), [])


def _waits(command: "Command", word: str) -> "Flag | None":
    """Return the flag in `--name` or `-abc` that takes the next word as its value."""
    for flag in command.flags:
        if flag.kind != "bool" and word == f"--{flag.name}":
            return flag
    if word.startswith("--"):
        return None
    for at, letter in enumerate(word[1:], start=2):
        found = next((flag for flag in command.flags if flag.short == letter), None)
        if found is None or found.kind != "bool":
            return found if at == len(word) else None
    return None


def _of_line(line: _Line, current: str, settings: "Settings") -> "Iterator[Candidate]":
    command = line.command
    if line.waiting:
        yield from _values(line, line.waiting, settings)
    elif current.startswith("-") and not line.is_ended:
        name, equals, _ = current.removeprefix("--").partition("=")
        if equals:
            flag = next((flag for flag in command.flags if flag.name == name), None)
            values = _values(line, flag, settings) if flag else ()
            yield from ((f"--{name}={word}", meaning) for word, meaning in values)
            return
        yield from ((f"--{flag.name}", flag.help) for flag in command.flags)
    elif command.name in catalog.OUTER:
        inner = f"{command.name} "
        names = [name for name in summary.SUMMARIES if name.startswith(inner)]
        yield from ((name.removeprefix(inner), summary.SUMMARIES[name]) for name in names)
    elif command.name not in _NEW and not current.startswith(_PATHS):
        found = _here(line, line.expected(), settings)
        yield from ((word, meaning) for word, meaning in found if word not in line.arguments)


def _values(line: _Line, flag: "Flag", settings: "Settings") -> "Iterator[Candidate]":
    yield from ((word, "") for word in _CHOICES.get(flag.name, "").split())
    if flag.name in _NAMES:
        yield from _here(line, _NAMES[flag.name], settings)


def _here(line: _Line, what: str, settings: "Settings") -> "Iterator[Candidate]":
    """Yield the names of what is here of a thing that a usage names; a failure is for the command to tell."""
    for word, find in _FINDERS:
        if word in what:
            try:
                yield from find(line, settings)
            except (SampanError, OSError):
                return


def _containers(line: _Line, settings: "Settings") -> "Iterator[Candidate]":
    if _has_store(settings):
        from sampan.engine import inspection

        # `cp` takes a path in it.
        colon = ":" if "CONTAINER:" in line.command.usage else ""
        yield from ((row["Names"][0] + colon, row["Image"]) for row in inspection.summaries(settings, all=True))


def _images(_line: _Line, settings: "Settings") -> "Iterator[Candidate]":
    if _has_store(settings):
        from sampan.database import connection
        from sampan.image.store import Images
        from sampan.oci.reference import Reference
        from sampan.units import human_size

        with connection.open(settings) as database:
            for image in Images(database).list():
                yield from ((Reference.parse(name).familiar(), human_size(image.size_bytes)) for name in image.names)


def _networks(_line: _Line, settings: "Settings") -> "Iterator[Candidate]":
    if _has_store(settings):
        from sampan.engine import network

        yield from ((one.name, one.subnet) for one in network.every(settings))


def _volumes(_line: _Line, settings: "Settings") -> "Iterator[Candidate]":
    if _has_store(settings):
        from sampan.engine import volume

        yield from ((one["Name"], one["Driver"]) for one in volume.every(settings))


def _services(line: _Line, settings: "Settings") -> "Iterator[Candidate]":
    """Yield the services of the files; where there are none, those of which there are containers."""
    if not line.command.name.startswith("compose"):
        return
    from sampan.cli.compose import selection
    from sampan.compose import files, wish
    from sampan.errors import NotFound

    parsed = line.within()
    try:
        project = files.project(selection.of(parsed), settings.environment)
    except NotFound:
        yield from _services_seen(parsed, settings)
        return
    for name, service in (project.services | project.disabled).items():
        yield name, wish.image_name(project, service)


def _services_seen(parsed: "Parsed", settings: "Settings") -> "Iterator[Candidate]":
    name = parsed.outer.text("project-name") if parsed.outer else ""
    if name and _has_store(settings):
        from sampan.compose import sight

        yield from ((one.service, one.row["Image"]) for one in sight.containers(settings, name))


def _profiles(line: _Line, settings: "Settings") -> "Iterator[Candidate]":
    from sampan.cli.compose import selection
    from sampan.compose import files

    project = files.project(selection.of(line.within()), settings.environment)
    for name, service in (project.services | project.disabled).items():
        yield from ((profile, name) for profile in service.profiles)


def _projects(_line: _Line, settings: "Settings") -> "Iterator[Candidate]":
    if _has_store(settings):
        from sampan.compose import sight

        for name, seen in sight.projects(settings).items():
            yield name, f"containers: {len(seen)}"


def _has_store(settings: "Settings") -> bool:
    """Tell whether there is anything here: a Tab shall make no store."""
    return os.path.exists(f"{settings.root}/sampan.db")


def _recipes(_line: _Line, _settings: "Settings") -> "Iterator[Candidate]":
    from sampan.build.debian import recipe

    yield from ((name, "") for name in recipe.names())


# What a usage calls it -> who knows what is here. `NAME` alone is an image too: push, pull and inspect take it.
_FINDERS: "tuple[tuple[str, Callable[[_Line, Settings], Iterator[Candidate]]], ...]" = (
    ("CONTAINER", _containers),
    ("LOCAL|-", _containers),
    ("NAME|ID", _containers),
    ("IMAGE", _images),
    ("NAME|ID", _images),
    ("NAME[:TAG", _images),
    ("REPOSITORY", _images),
    ("NAME...", _recipes),
    ("NETWORK", _networks),
    ("VOLUME", _volumes),
    ("SERVICE", _services),
    ("PROFILE", _profiles),
    ("PROJECT", _projects),
)
