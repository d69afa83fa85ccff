"""A project directory, the real `sampan compose` in it, and a store that must be empty in the end."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.settings.configuration import Settings
from tests.engine.conftest import Store

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SAMPAN = os.path.join(os.path.dirname(sys.executable), "sampan")


class Shop:
    """A project called `shop`: its directory, and `compose` to run commands in it."""

    def __init__(self, sampan: Command, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment
        self.raw = sampan

    def write(self, text: str, name: str = "compose.yaml") -> None:
        """Write a compose file."""
        (self.directory / name).write_text(textwrap.dedent(text), encoding="utf-8")

    def compose(self, *words: str, check: bool = True, feed: str = "") -> "subprocess.CompletedProcess[str]":
        """Run `sampan compose` in the project's directory."""
        return self.raw("compose", *words, cwd=self.directory, check=check, feed=feed)

    def sampan(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run `sampan`."""
        return self.raw(*words, check=check)

    def through(self, name: str, *words: str) -> str:
        """Run the program through a link of another name; return what it prints."""
        link = self.directory.parent / name
        if not link.exists():
            link.symlink_to(SAMPAN)
        argv = [str(link), *words]
        done = subprocess.run(
            argv, cwd=self.directory, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def ids(self) -> dict[str, str]:
        """Return the ids of all containers by name."""
        lines = self.sampan("ps", "-a", "--no-trunc").stdout.splitlines()[1:]
        return {line.split()[-1]: line.split()[0] for line in lines}

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start `sampan compose` in the foreground."""
        return subprocess.Popen(
            [SAMPAN, "compose", *words], cwd=self.directory, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def store(settings: Settings) -> Store:
    """Return the store of this test."""
    return Store(settings)


@pytest.fixture
def shop(sampan: Command, busybox_tar: str, tmp_path: Path, environment: dict[str, str]) -> Iterator[Shop]:
    """Yield the project `shop`, with busybox here; no container outlives the test."""
    sampan("import", "-c", 'CMD ["sh"]', busybox_tar, "busybox", check=True)
    directory = tmp_path / "shop"
    directory.mkdir()
    yield Shop(sampan, directory, environment)
    if left := sampan("ps", "-aq").stdout.split():
        sampan("rm", "-f", *left)
    for line in sampan("network", "ls").stdout.splitlines():
        if "shop_" in line:
            sampan("network", "rm", next(word for word in line.split() if word.startswith("shop_")))
