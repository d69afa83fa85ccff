"""Completion: what the shells are told; bash itself, and Debian's zsh and fish, unpacked under .cache/."""

import os
import pty
import select
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sampan.cli import catalog, summary
from tests.plugin import debian
from tests.plugin.ground import PROJECT, Command
from tests.plugin.person import Person, end_holder

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]

# The shells, and what they need beside the C library.
SHELLS = "zsh zsh-common fish fish-common libcap2 libgcc-s1 libpcre2-32-0 libstdc++6 libtinfo6"


def _words(sampan: Command, *words: str) -> list[str]:
    done = sampan("completion", "words", "--", *words, check=True)
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


def test_commands_and_management_words(sampan: Command) -> None:
    """The first word is a command, the second after a management word one of its own."""
    first = _words(sampan, "")
    assert {"run", "ps", "container", "completion"} <= set(first)
    assert "words" not in first
    assert {"ls", "rm", "inspect"} <= set(_words(sampan, "container", ""))


def test_flags_and_their_values(sampan: Command) -> None:
    """A dash asks for flags; after a flag that takes a value the shell's own file names are meant."""
    assert {"--detach", "--publish"} <= set(_words(sampan, "run", "--"))
    assert _words(sampan, "run", "--volume", "") == []
    assert "--filter" in _words(sampan, "image", "ls", "-")


def test_containers_and_images(sampan: Command, busybox_tar: str) -> None:
    """Where the usage says CONTAINER or IMAGE, the names of those that are here."""
    assert _words(sampan, "rm", "") == []
    sampan("import", busybox_tar, "busy/box:1.0", check=True)
    sampan("create", "--name", "one", "busy/box:1.0", "true", check=True)
    assert _words(sampan, "rm", "") == ["one"]
    assert _words(sampan, "exec", "-it", "") == ["one"]
    assert _words(sampan, "cp", "file", "") == ["one:"]
    assert _words(sampan, "run", "-it", "") == ["busy/box:1.0"]
    sampan("rm", "one", check=True)


def test_a_normal_user(user: Person, place: str) -> None:
    """A Tab starts no holder of namespaces, unless it asks for the names of containers."""
    end_holder(f"{place}/n")
    os.unlink(f"{place}/n/holder.json")
    assert "run" in user("completion", "words", "--", "", check=True).stdout
    assert "busybox" in user("completion", "words", "--", "run", "", check=True).stdout
    assert not os.path.exists(f"{place}/n/holder.json")
    user("create", "--name", "one", "busybox", "true", check=True)
    assert user("completion", "words", "--", "rm", "", check=True).stdout == "one\tbusybox\n"
    user("rm", "one", check=True)


def test_no_words_for_what_is_unknown(sampan: Command) -> None:
    """An unknown command completes to nothing and is no error: it is the person's to see when they press Enter."""
    assert _words(sampan, "rnu", "") == []
    assert sampan("completion", "tcsh").returncode == 1


def test_summaries() -> None:
    """The table that lists of commands are made of says what the commands say."""
    commands = [catalog.load(name) for name in catalog.FAMILIES]
    commands += [command for name in catalog.OUTER for command in catalog.inner(name)]
    there = {command.name: command.summary for command in commands if command.summary != "Not there yet"}
    assert there == summary.SUMMARIES


def test_the_first_word_loads_no_command(environment: dict[str, str]) -> None:
    """The first Tab reads tables of names; no command's own module, nothing dear."""
    program = (
        "import sys; from sampan.cli import app; before = set(sys.modules); "
        "app.main(['completion', 'words', '--', '']); print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["sampan.cli.candidate", "sampan.cli.completion", "sampan.cli.summary"]


def test_a_path_and_what_is_given_already(sampan: Command, busybox_tar: str) -> None:
    """What begins like a path is the shell's; what stands on the line is not offered again."""
    sampan("import", busybox_tar, "busybox", check=True)
    for name in ("one", "two"):
        sampan("create", "--name", name, "busybox", "true", check=True)
    assert _words(sampan, "rm", "one", "") == ["two"]
    assert _words(sampan, "exec", "one", "") == []
    assert _words(sampan, "run", "./") == []
    assert _words(sampan, "run", "--network", "") == _words(sampan, "network", "inspect", "") == ["bridge"]
    assert _words(sampan, "network", "create", "") == []
    assert "--network=bridge" in _words(sampan, "run", "--network=")
    assert _words(sampan, "inspect", "") == ["busybox:latest", "one", "two"]
    sampan("rm", "one", "two", check=True)


COMPOSE = """
services:
  web: {image: busybox, command: sleep 60}
  mail: {image: busybox, profiles: [full]}
"""


def test_compose(sampan: Command, busybox_tar: str, tmp_path: Path) -> None:
    """Compose's commands, their flags, the services and profiles of the files, the projects that are here."""
    sampan("import", busybox_tar, "busybox", check=True)
    (tmp_path / "shop.yaml").write_text(COMPOSE, encoding="utf-8")

    def words(*line: str) -> list[str]:
        told = sampan("completion", "words", "--", "compose", *line, cwd=tmp_path, check=True)
        return [each.split("\t")[0] for each in told.stdout.splitlines()]

    assert {"up", "down", "exec"} <= set(words(""))
    assert not {"watch", "attach"} & set(words(""))
    assert {"--file", "--profile"} <= set(words("--"))
    assert {"--detach", "--scale"} <= set(words("up", "-"))
    assert words("-f", "") == words("up", "") == words("-f", "nothing.yaml", "up", "") == []
    assert words("-f", "shop.yaml", "up", "") == words("--file=shop.yaml", "exec", "-T", "") == ["mail", "web"]
    assert words("-f", "shop.yaml", "stop", "web", "") == ["mail"]
    assert words("-f", "shop.yaml", "exec", "web", "") == []
    assert words("-f", "shop.yaml", "up", "--attach", "") == ["mail", "web"]
    assert words("-f", "shop.yaml", "--profile", "") == ["full"]
    sampan("compose", "-f", "shop.yaml", "-p", "shop", "create", cwd=tmp_path, check=True)
    assert words("-p", "") == ["shop"]
    # Without the file: what its containers say.
    assert words("-p", "shop", "rm", "") == ["web"]
    sampan("compose", "-p", "shop", "down", check=True)


def test_compose_files_with_a_mistake(sampan: Command, tmp_path: Path) -> None:
    """A file that cannot be read completes to nothing; what is wrong in it the command says."""
    (tmp_path / "compose.yaml").write_text("services: [", encoding="utf-8")
    done = sampan("completion", "words", "--", "compose", "up", "", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_bash(sampan: Command, environment: dict[str, str], busybox_tar: str, place: str) -> None:
    """Bash offers commands, and image names with a colon, which bash takes for a word's end."""
    sampan("import", busybox_tar, "busybox:1.36", check=True)
    with open(f"{place}/completion", "w", encoding="utf-8") as file:
        file.write(sampan("completion", "bash", check=True).stdout)

    def complete(line: str) -> list[str]:
        typed = f'COMP_LINE="{line}" COMP_POINT={len(line)}'
        program = f'. "{place}/completion"; {typed}; _sampan; echo "${{COMPREPLY[*]}}"'
        here = environment | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", program], env=here, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("sampan imp") == ["import"]
    assert complete("sampan run busyb") == ["busybox:1.36"]
    assert complete("sampan run busybox:1") == ["1.36"]


@pytest.fixture(scope="session")
def shells() -> Path:
    """Return where zsh and fish are unpacked."""
    place = PROJECT / ".cache" / "shell"
    with debian.once(place, "files") as new:
        if new is not None:
            debian.unpack(tuple(SHELLS.split()), new, root=place / "root")
            # fish looks for both beside its own `bin`.
            (new / "usr" / "etc").symlink_to("../etc")
    return place / "files"


@pytest.fixture
def here(shells: Path, sampan: Command, environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Return the environment of a person whose home is `tmp_path`, in which the unpacked shells run."""
    for shell in ("zsh", "fish"):
        (tmp_path / shell).write_text(sampan("completion", shell, check=True).stdout, encoding="utf-8")
    machine = f"{os.uname().machine}-linux-gnu"
    return (
        environment
        | {
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{shells}/lib/{machine}:{shells}/usr/lib/{machine}",
            "HOME": str(tmp_path),
            "ZDOTDIR": str(tmp_path),
            "TERM": "xterm",
        }
        | {f"XDG_{name}_HOME": str(tmp_path) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    )


@pytest.mark.network
def test_fish(shells: Path, here: dict[str, str], sampan: Command, busybox_tar: str, tmp_path: Path) -> None:
    """In fish: commands with what they are, image names with a colon, and files only where nothing else is known."""
    sampan("import", busybox_tar, "busybox:1.36", check=True)
    (tmp_path / "busybody").mkdir()

    def complete(line: str) -> list[str]:
        program = f"source {tmp_path}/fish; complete -C '{line}'"
        argv = [str(shells / "usr/bin/fish"), "--no-config", "-c", program]
        done = subprocess.run(argv, env=here, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert complete("sampan imp") == [f"import\t{summary.SUMMARIES['import']}"]
    assert [line.split("\t")[0] for line in complete("sampan container r")] == [
        "remove",
        "rename",
        "restart",
        "rm",
        "run",
    ]
    assert [line.split("\t")[0] for line in complete("sampan run busyb")] == ["busybox:1.36"]
    assert [line.split("\t")[0] for line in complete("sampan run --detach busyb")] == ["busybox:1.36"]
    assert [line.split("\t")[0] for line in complete("sampan run --interac")] == ["--interactive"]
    assert complete("sampan run --volume ./busyb") == ["./busybody/"]
    assert complete("sampan compose -f busyb") == ["busybody/"]


ZSHENV = """
module_path=({shells}/usr/lib/{machine}/zsh/5.9)
fpath=({shells}/usr/share/zsh/functions/**/*(/) {home}/functions)
"""
ZSHRC = """
PS1='> '
setopt no_auto_menu
autoload -Uz compinit
compinit -u
{load}
# What stands on the line goes where the test reads it.
tell() {{ print -r -- "$BUFFER" >&{fd}; BUFFER=; }}
zle -N tell
bindkey '^T' tell
"""


class Zsh:
    """An interactive zsh at a pseudo-terminal: `complete` types a line and Tab, and returns the line then."""

    def __init__(self, terminal: int, told: int) -> None:
        self._terminal = terminal
        self._told = told
        self.shown = ""

    def complete(self, line: str) -> str:
        """Return the line after a Tab; what the terminal showed meanwhile is in `shown`."""
        self.shown = ""
        os.write(self._terminal, f"{line}\t\x14".encode())
        found = b""
        while not found.endswith(b"\n"):
            for fd in select.select([self._terminal, self._told], [], [])[0]:
                piece = os.read(fd, 4096)
                assert piece, self.shown
                if fd == self._told:
                    found += piece
                else:
                    self.shown += piece.decode(errors="replace")
        return found.decode().removesuffix("\n")


@contextmanager
def _zsh(shells: Path, here: dict[str, str], load: str) -> Iterator[Zsh]:
    """Run zsh, with the completion loaded by the line `load` of its .zshrc."""
    home = here["HOME"]
    told, tells = os.pipe()
    words = {"shells": shells, "machine": f"{os.uname().machine}-linux-gnu", "home": home, "load": load, "fd": 9}
    Path(home, ".zshenv").write_text(textwrap.dedent(ZSHENV.format(**words)), encoding="utf-8")
    Path(home, ".zshrc").write_text(textwrap.dedent(ZSHRC.format(**words)), encoding="utf-8")
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(tells, 9)
        os.chdir(home)
        os.execve(shells / "bin/zsh", ["zsh", "-d", "-i"], here)  # noqa: S606  no shell is wanted but this
    os.close(tells)
    try:
        yield Zsh(terminal, told)
    finally:
        os.close(terminal)
        os.close(told)
        os.waitpid(pid, 0)


@pytest.mark.network
@pytest.mark.parametrize("way", ["source", "fpath"])
def test_zsh(shells: Path, here: dict[str, str], sampan: Command, busybox_tar: str, way: str) -> None:
    """In zsh it completes from the first Tab on, whether .zshrc sources the script or $fpath has it."""
    sampan("import", busybox_tar, "busybox:1.36", check=True)
    home = Path(here["HOME"])
    (home / "busybody").mkdir()
    (home / "functions").mkdir()
    if way == "fpath":
        (home / "zsh").rename(home / "functions" / "_sampan")
    with _zsh(shells, here, f"source {home}/zsh" if way == "source" else "") as zsh:
        assert zsh.complete("sampan imp") == "sampan import "
        assert zsh.complete("sampan container re") == "sampan container re"
        assert "restart" in zsh.shown
        assert summary.SUMMARIES["rm"] in zsh.shown
        assert zsh.complete("sampan run busyb") == "sampan run busybox:1.36 "
        assert zsh.complete("sampan run --interac") == "sampan run --interactive "
        assert zsh.complete("sampan run --volume ./busyb") == "sampan run --volume ./busybody/"
        assert zsh.complete("sampan compose --file=busyb") == "sampan compose --file=busybody/"
