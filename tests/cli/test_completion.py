"""Completion: what the shells are told, and bash itself."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


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


def test_no_words_for_what_is_unknown(sampan: Command) -> None:
    """An unknown command completes to nothing and is no error: it is the person's to see when they press Enter."""
    assert _words(sampan, "rnu", "") == []
    assert sampan("completion", "tcsh").returncode == 1


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
