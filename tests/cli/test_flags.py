"""The grammar of the command line, row by row."""

import pytest

from sampan.cli import flags
from sampan.cli.flags import Command, Flag, NotYet, Parsed, UsageError
from sampan.cli.render import Printer
from sampan.errors import InvalidArgument
from sampan.settings.configuration import Settings
from sampan.units import parse_size

pytestmark = [pytest.mark.first]


def _nothing(_parsed: Parsed, _settings: Settings, _printer: Printer) -> int:
    return 0


_FLAGS = (
    Flag("detach", "bool", "", short="d"),
    Flag("env", "list", "", short="e"),
    Flag("hostname", "string", "", short="h"),
    Flag("interactive", "bool", "", short="i"),
    Flag("memory", "bytes", "", short="m"),
    Flag("name", "string", ""),
    Flag("publish", "list", "", short="p"),
    Flag("rm", "bool", ""),
    Flag("tty", "bool", "", short="t"),
    Flag("timeout", "int", ""),
)
RUN = Command(
    "run", "IMAGE", "", execute=_nothing, flags=_FLAGS, minimum=1, interspersed=False, later="gpus Z"
)  # fmt: skip
PS = Command(
    "ps", "[OPTIONS]", "", execute=_nothing, flags=(Flag("all", "bool", "", short="a"), *_FLAGS[4:6]), maximum=2
)  # fmt: skip

Values = dict[str, str | bool | list[str]]


@pytest.mark.parametrize(
    ("line", "values", "arguments"),
    [
        ("img", {}, ["img"]),
        ("-it img", {"interactive": True, "tty": True}, ["img"]),
        ("-dit img sh", {"detach": True, "interactive": True, "tty": True}, ["img", "sh"]),
        ("-p80:80 img", {"publish": ["80:80"]}, ["img"]),
        ("-p 80:80 img", {"publish": ["80:80"]}, ["img"]),
        ("-p=80:80 img", {"publish": ["80:80"]}, ["img"]),
        ("-itp80:80 img", {"interactive": True, "tty": True, "publish": ["80:80"]}, ["img"]),
        ("-itp 80:80 img", {"interactive": True, "tty": True, "publish": ["80:80"]}, ["img"]),
        ("-eA=b img", {"env": ["A=b"]}, ["img"]),
        ("-e=A=b img", {"env": ["A=b"]}, ["img"]),
        ("-e A=b -eC --env D=e --env=F=g=h img", {"env": ["A=b", "C", "D=e", "F=g=h"]}, ["img"]),
        ("--env= img", {"env": [""]}, ["img"]),
        ("--name web img", {"name": "web"}, ["img"]),
        ("--name=web img", {"name": "web"}, ["img"]),
        ("--name a --name b img", {"name": "b"}, ["img"]),
        ("--name --rm img", {"name": "--rm"}, ["img"]),
        ("--name -- img", {"name": "--"}, ["img"]),
        ("-h box img", {"hostname": "box"}, ["img"]),
        ("-hbox img", {"hostname": "box"}, ["img"]),
        ("--rm img", {"rm": True}, ["img"]),
        ("--rm=true img", {"rm": True}, ["img"]),
        ("--rm=false img", {"rm": False}, ["img"]),
        ("--rm --rm=0 img", {"rm": False}, ["img"]),
        ("-d=false img", {"detach": False}, ["img"]),
        ("-d=T img", {"detach": True}, ["img"]),
        ("--rm false img", {"rm": True}, ["false", "img"]),
        ("-- img -d", {}, ["img", "-d"]),
        ("--rm -- -img", {"rm": True}, ["-img"]),
        ("img -- -d", {}, ["img", "--", "-d"]),
        ("img -d --foo", {}, ["img", "-d", "--foo"]),
        ("img --help", {}, ["img", "--help"]),
        ("- -d", {}, ["-", "-d"]),
        ("-m 64m -m 128m img", {"memory": "128m"}, ["img"]),
        ("-m-1 img", {"memory": "-1"}, ["img"]),
        ("--timeout -1 img", {"timeout": "-1"}, ["img"]),
    ],
)
def test_words_of_run(line: str, values: Values, arguments: list[str]) -> None:
    """Flags of a command whose arguments end them are read as docker reads them."""
    parsed = flags.parse(RUN, line.split(" "))
    assert (parsed.values, parsed.arguments) == (values, arguments)


@pytest.mark.parametrize(
    ("line", "values", "arguments"),
    [
        ("", {}, []),
        ("x -a", {"all": True}, ["x"]),
        ("x -a y", {"all": True}, ["x", "y"]),
        ("x --name n y", {"name": "n"}, ["x", "y"]),
        ("x -- -a", {}, ["x", "-a"]),
    ],
)
def test_words_between_arguments(line: str, values: Values, arguments: list[str]) -> None:
    """Where a command allows it, flags may stand after and between arguments."""
    parsed = flags.parse(PS, line.split())
    assert (parsed.values, parsed.arguments) == (values, arguments)


@pytest.mark.parametrize("line", ["--help", "-d --help img", "--help --nonsense", "--rm --help"])
def test_help_is_noticed(line: str) -> None:
    """--help before the image asks for help, whatever follows."""
    assert flags.parse(RUN, line.split()).help


def test_h_is_help_unless_taken() -> None:
    """-h means help only for a command that has no -h of its own."""
    assert flags.parse(PS, ["-h"]).help
    assert not flags.parse(RUN, ["-h", "box", "img"]).help


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("--detatch img", "unknown flag: `--detatch`", "did you mean `--detach`?"),
        ("--nam=web img", "unknown flag: `--nam`", "did you mean `--name`?"),
        ("--xyzzy img", "unknown flag: `--xyzzy`", "`sampan run --help` shows what it takes"),
        ("-x img", "unknown flag: `-x`", "`sampan run --help` shows what it takes"),
        ("-itx img", "unknown flag: `-x` in `-itx`", "`sampan run --help` shows what it takes"),
        ("--name", "`--name` needs a value", "`sampan run --help` shows what it takes"),
        ("-dp", "`-p, --publish` needs a value", "`sampan run --help` shows what it takes"),
        ("--rm=perhaps img", "`--rm` cannot be `perhaps`", "write `--rm` or `--rm=false`"),
        ("--gpus all img", "the flag `--gpus` is not there yet", "`sampan run --help` shows what it takes"),
        ("-Z img", "the flag `-Z` is not there yet", "`sampan run --help` shows what it takes"),
    ],
)
def test_wrong_flags(line: str, what: str, hint: str) -> None:
    """A wrong flag is named, its remedy too, and the status is docker's 125."""
    with pytest.raises((UsageError, NotYet)) as caught:
        flags.parse(RUN, line.split())
    assert caught.value.what == what
    assert caught.value.hints[0] == hint
    assert caught.value.exit_status == 125


@pytest.mark.parametrize(
    ("command", "line", "what"),
    [
        (RUN, "", "`sampan run` takes at least 1 argument, not 0"),
        (RUN, "-d", "`sampan run` takes at least 1 argument, not 0"),
        (PS, "a b c", "`sampan ps` takes 0 to 2 arguments, not 3"),
        (Command("x", "", "", execute=_nothing, maximum=0), "a", "`sampan x` takes no arguments, not 1"),
        (Command("x", "", "", execute=_nothing, minimum=2, maximum=2), "a", "`sampan x` takes 2 arguments, not 1"),
    ],
)
def test_number_of_arguments(command: Command, line: str, what: str) -> None:
    """Too few or too many arguments are an error with the usage and docker's status 1."""
    with pytest.raises(InvalidArgument) as caught:
        flags.parse(command, line.split())
    assert caught.value.what == what
    assert caught.value.hints[0].startswith("usage: `sampan")
    assert caught.value.exit_status == 1


def test_a_converted_value_names_its_flag() -> None:
    """A value that its type refuses is an error that names the flag and keeps the cause."""
    parsed = flags.parse(RUN, ["--memory", "12q", "img"])
    with pytest.raises(UsageError) as caught:
        parsed.convert("memory", parse_size)
    assert caught.value.what == "`-m, --memory` cannot be `12q`"
    assert isinstance(caught.value.__cause__, InvalidArgument)


def test_typed_values() -> None:
    """Values come out as their types, absent ones as None, empty or the default."""
    parsed = flags.parse(RUN, ["-m", "64m", "--timeout=3", "-e", "A", "img"])
    assert parsed.convert("memory", parse_size) == 64 << 20
    assert parsed.number("timeout") == 3
    assert parsed.words("env") == ["A"]
    assert parsed.words("publish") == []
    assert parsed.number("memory-swap") is None
    assert parsed.text("name", "none") == "none"
    assert not parsed.is_set("rm")
