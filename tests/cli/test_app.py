"""The front door: finding a command, exit statuses, and what a person is told."""

import errno
import os
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

from sampan.cli import app, catalog, flags
from sampan.cli import help as texts
from sampan.errors import Exhausted, SampanError, Unsupported

pytestmark = [pytest.mark.first]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("", 0, "usage: sampan [OPTIONS] COMMAND"),
        ("help", 0, "usage: sampan [OPTIONS] COMMAND"),
        ("--help", 0, "usage: sampan [OPTIONS] COMMAND"),
        ("-D --help", 0, "usage: sampan [OPTIONS] COMMAND"),
        ("help run", 0, "usage: sampan run"),
        ("help container ls", 0, "usage: sampan ps"),
        ("run --help", 0, "usage: sampan run"),
        ("container", 0, "usage: sampan container COMMAND"),
        ("image --help", 0, "usage: sampan image COMMAND"),
        ("container ls --help", 0, "usage: sampan ps"),
        ("--version", 0, "sampan "),
        ("version", 0, "Version:"),
        ("--debug version --format json", 0, '"Version":'),
        ("-v", 0, "sampan "),
        ("-Dv", 0, "sampan "),
        ("-H unix:///var/run/docker.sock --tls=false -c default -ldebug version", 0, "Version:"),
        ("-Hunix:///run/docker.sock --context= --log-level=error version", 0, "Version:"),
        ("--config /nowhere version", 0, "Version:"),
    ],
)
def test_what_is_asked_for_goes_to_stdout(sampan: Command, line: str, status: int, words: str) -> None:
    """Help and versions are data: they go to stdout, and stderr stays empty."""
    done = sampan(*line.split())
    assert (done.returncode, done.stderr) == (status, "")
    assert words in done.stdout


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("rnu", 1, ("error: unknown command: `rnu`", "hint: did you mean `sampan run`?")),
        ("xyzzy", 1, ("error: unknown command: `xyzzy`", "hint: `sampan help` lists the commands")),
        ("container lss", 1, ("error: unknown command: `container lss`", "hint: did you mean `sampan container ls`?")),
        (
            "-H tcp://203.0.113.7:2375 ps",
            125,
            ("error: `--host tcp://203.0.113.7:2375` has no meaning", "ssh HOST sampan"),
        ),
        ("--host=ssh://me@boat ps", 125, ("error: `--host ssh://me@boat` has no meaning",)),
        ("-c boat ps", 125, ("error: `--context boat` has no meaning", "without a daemon")),
        ("--tlsverify ps", 125, ("error: `--tlsverify` has no meaning",)),
        ("--tlscacert /x ps", 125, ("error: `--tlscacert` has no meaning",)),
        ("-l loud ps", 125, ("error: `--log-level` cannot be `loud`", "hint: levels: debug, info")),
        ("-H", 125, ("error: `-H, --host` needs a value", "hint: `sampan --help`")),
        ("-x ps", 125, ("error: unknown flag: `-x`", "hint: `sampan --help` shows what it takes")),
        ("--debgu ps", 125, ("error: unknown flag: `--debgu`", "hint: did you mean `--debug`?")),
        ("ps --al", 125, ("error: unknown flag: `--al`", "hint: did you mean `--all`?")),
        ("run --detatch x", 125, ("error: unknown flag: `--detatch`", "hint: did you mean `--detach`?")),
        ("run --gpus all x", 125, ("error: `--gpus` cannot be had here",)),
        ("run", 1, ("error: `sampan run` takes at least 1 argument, not 0", "hint: usage: `sampan run")),
        ("exec web", 1, ("error: `sampan exec` takes at least 2 arguments, not 1",)),
        (
            "cp a b",
            1,
            ("error: neither side of the copy is a container", "hint: write `sampan cp CONTAINER:PATH LOCAL`"),
        ),
        ("cp a:b c:d", 1, ("error: a copy from container to container", "hint: `sampan cp a:b - | sampan cp - c:d`")),
        ("rename a", 1, ("error: `sampan rename` takes 2 arguments, not 1",)),
        ("rm", 1, ("error: `sampan rm` takes at least 1 argument, not 0",)),
        ("ps x", 1, ("error: `sampan ps` takes no arguments, not 1",)),
        ("run -m 12q x", 125, ("error: `-m, --memory` cannot be `12q`", "  caused by: `12q` is not a size")),
        (
            "run --cpus two x",
            125,
            ("error: `--cpus` cannot be `two`", "hint: write it like `0.5` or `2`; at least 0.01"),
        ),
        ("run -p x:y img", 125, ("error: `-p, --publish` cannot be `x:y`",)),
        ("run --name -x- img", 125, ("error: `--name` cannot be `-x-`",)),
        ("run -v a:b:c:d img", 125, ("error: `-v, --volume` cannot be `a:b:c:d`",)),
        ("run --restart never img", 125, ("error: `--restart` cannot be `never`", "on-failure")),
        ("run --pids-limit many img", 125, ("error: `--pids-limit` cannot be `many`",)),
        ("ps --filter colour=red", 1, ("error: unknown filter: `colour=red`", "hint: filters: ancestor")),
        ("ps --filter status=happy", 1, ("error: `happy` is not a state",)),
        (
            "ps --format {{.ID",
            1,
            ("error: `{{` is never closed, at column 1", "\n    1 | {{.ID", "hint: close it with `}}`"),
        ),
        ("doctor --format {{.ID}}", 1, ("error: `--format` cannot be `{{.ID}}`", "hint: it can be `table` or `json`")),
        ("inspect -f {{.ID x", 64, ("error: `{{` is never closed",)),
        ("logs --tail few x", 125, ("error: `-n, --tail` cannot be `few`",)),
        ("build -", 1, ("error: the Dockerfile is empty",)),
        ("build", 1, ("error: `sampan build` takes the PATH of a directory", "hint: `sampan build .` builds what is")),
        ("build -t my_python_app.", 1, ("\nhint: did you mean `sampan build -t my_python_app .`?",)),
        ("build --progress loud .", 1, ("error: `--progress` cannot be `loud`", "hint: it can be auto, plain")),
        ("build -f no/Dockerfile .", 1, ("error: there is no Dockerfile `no/Dockerfile`",)),
        ("build ./no/such", 1, ("error: there is no directory `./no/such`",)),
        ("build --target x ./tests", 1, ("error: `--target` needs a Dockerfile",)),
        ("build --output x .", 125, ("error: the flag `--output` is not there yet",)),
        ("run ./no/such", 125, ("error: there is no directory `./no/such`",)),
        ("import /no/such.tar", 1, ("error: there is no file `/no/such.tar`",)),
        ("load -i /no/such.tar", 1, ("error: there is no file `/no/such.tar`",)),
        ("tag a b@sha256:" + "0" * 64, 1, ("error: `b@sha256:",)),
        ("run -it nothing-here true", 125, ("error: `-t` with `-i` needs a terminal as stdin",)),
    ],
)
def test_mistakes(sampan: Command, line: str, status: int, words: tuple[str, ...]) -> None:
    """A mistake is one error on stderr with the way out, and docker's status."""
    done = sampan(*line.split())
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("run --rm nothing-here true", 125),
        ("create nothing-here", 125),
        ("start nothing-here", 1),
        ("stop nothing-here", 1),
        ("restart nothing-here", 1),
        ("kill nothing-here", 1),
        ("rm nothing-here", 1),
        ("wait nothing-here", 1),
        ("logs nothing-here", 1),
        ("exec nothing-here true", 1),
        ("attach nothing-here", 1),
        ("inspect nothing-here", 1),
        ("cp nothing-here:/etc .", 1),
        ("diff nothing-here", 1),
        ("export nothing-here", 1),
        ("commit nothing-here", 1),
        ("rename nothing-here other", 1),
        ("port nothing-here", 1),
        ("inspect --type image nothing-here", 1),
        ("rmi nothing-here", 1),
        ("tag nothing-here b", 1),
        ("save -o /dev/null nothing-here", 1),
    ],
)
def test_what_is_not_here_is_named(sampan: Command, no_registry: None, line: str, status: int) -> None:
    """A container or image that does not exist is named, and the error says how to go on."""
    done = sampan(*line.split())
    assert done.returncode == status, done.stderr
    assert "`nothing-here`" in done.stderr
    assert "hint: " in done.stderr


def test_a_missing_image_says_where_images_come_from(sampan: Command, no_registry: None) -> None:
    """Where no registry answers, running an image that is not here says which one, and how to get images without it."""
    done = sampan("run", "python:3.9-slim")
    assert done.returncode == 125
    assert "error: the registry `docker.io` cannot be reached for `python:3.9-slim`" in done.stderr
    assert '[registry."docker.io"]` with `mirrors = ["https://' in done.stderr
    assert "`sampan bootstrap python:3.9-slim` makes a stand-in" in done.stderr


def test_an_image_is_not_asked_for_where_nobody_wants_it(sampan: Command) -> None:
    """With `--pull never` no registry is asked."""
    done = sampan("run", "--pull", "never", "nothing-here")
    assert done.returncode == 125
    assert "image `nothing-here` is not here" in done.stderr
    assert "`sampan pull nothing-here` fetches it" in done.stderr


def test_a_directory_typed_without_its_dot(sampan: Command, place: str) -> None:
    """An image that is not here but names a directory suggests `./NAME`."""
    os.mkdir(f"{place}/hello")
    done = sampan("run", "hello", cwd=place)
    assert done.returncode == 125
    assert "hint: `hello` is a directory here: `sampan run ./hello` builds and runs it" in done.stderr


def test_nothing_is_there_at_first(sampan: Command) -> None:
    """On a fresh machine the lists are empty tables, not errors."""
    assert sampan("ps", "-a", check=True).stdout.split("\n") == [
        "CONTAINER ID   IMAGE   COMMAND   CREATED   STATUS   PORTS   NAMES",
        "",
    ]
    assert sampan("images", check=True).stdout == "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n"
    assert sampan("ps", "-aq", check=True).stdout == ""
    assert sampan("images", "--format", "json", check=True).stdout == ""


def test_a_full_disk_under_stdout_is_an_error(environment: dict[str, str]) -> None:
    """Output that cannot be written is one clear error, not silence."""
    with open("/dev/full", "w", encoding="ascii") as full:
        argv = [sys.executable, "-m", "sampan", "version"]
        done = subprocess.run(argv, check=False, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 1
    assert "error: there is no space left" in done.stderr


def test_a_reader_that_left_ends_us_quietly(environment: dict[str, str]) -> None:
    """A closed pipe ends the command with SIGPIPE's status and no words."""
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "sampan", "version"]
    done = subprocess.run(argv, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_debug_shows_the_traceback(sampan: Command) -> None:
    """--debug adds where it went wrong."""
    done = sampan("--debug", "inspect", "nothing-here")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_no_store_where_nothing_can_be_written(sampan: Command, environment: dict[str, str], place: str) -> None:
    """A store below a file is one clear error."""
    with open(f"{place}/file", "w", encoding="ascii"):
        environment["SAMPAN_ROOT"] = f"{place}/file/store"
    done = sampan("ps")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, Exhausted, "`sampan rm` and `sampan rmi` give space back"),
        (errno.EDQUOT, Exhausted, "`sampan rm` and `sampan rmi` give space back"),
        (errno.EMFILE, Exhausted, "raise the limit with `ulimit -n 65536`"),
        (errno.EROFS, Unsupported, "`SAMPAN_ROOT=/other/path` moves the store"),
        (errno.EIO, SampanError, ""),
    ],
)
def test_the_system_s_refusals(number: int, kind: type[SampanError], hint: str) -> None:
    """An error of the system is told by its errno, with the path as its cause."""
    error = OSError(number, os.strerror(number), "/some/path")
    told = app.from_system(error)
    assert type(told) is kind
    assert told.__cause__ is error
    assert told.hints == ((hint,) if hint else ())


def test_the_whole_help(golden: Callable[[str, str], None]) -> None:
    """`sampan help` says what there is."""
    golden("help.txt", texts.overview() + "\n")


@pytest.mark.parametrize("name", list(catalog.FAMILIES))
def test_each_command_explains_itself(name: str) -> None:
    """Every command has a summary, an example that it can parse, and flags in order with a text each."""
    command = catalog.load(name)
    assert command.name == name
    assert command.summary
    assert command.examples
    assert all(flag.help for flag in command.flags)
    shorts = [flag.short for flag in command.flags if flag.short]
    assert len(shorts) == len(set(shorts))
    assert not set(command.later.split()) & {flag.name for flag in command.flags}


def test_management_forms_lead_to_commands() -> None:
    """Every management form names a command of the catalog."""
    for group in catalog.GROUPS.values():
        assert set(group.values()) <= set(catalog.FAMILIES)


def test_the_reference_is_fresh() -> None:
    """docs/reference/cli.md is what the flag tables say now."""
    with open("docs/reference/cli.md", encoding="utf-8") as file:
        assert file.read() == texts.reference()


@pytest.mark.parametrize("name", list(catalog.FAMILIES))
def test_examples_parse(name: str) -> None:
    """What the help shows as an example is understood by the parser."""
    for example in catalog.load(name).examples:
        words = shlex.split(example.rpartition("| ")[2] if "| sampan" in example else example.partition(" | ")[0])
        assert words[0] == "sampan"
        found, rest = catalog.find(words[1:])
        flags.parse(catalog.load(found), rest)
