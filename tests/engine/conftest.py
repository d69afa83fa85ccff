"""A busybox image in this test's own store, the real command, and what a store holds when nobody uses it any more."""

import glob
import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from subprocess import CompletedProcess

import pytest

from sampan.settings.configuration import Settings

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def busybox(sampan: Command, busybox_tar: str) -> str:
    """Import busybox and return the image's name."""
    sampan("import", busybox_tar, "busybox", check=True)
    return "busybox"


def run_until_up(environment: dict[str, str], script: str) -> subprocess.Popen[str]:
    """Start `sampan run --rm` of a shell script in the foreground; return once it has printed `up`."""
    program = os.path.join(os.path.dirname(sys.executable), "sampan")
    argv = [program, "run", "--rm", "--network", "none", "busybox", "sh", "-c", script]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


class Store:
    """What one SAMPAN_ROOT and SAMPAN_RUN hold."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.root
        self.run = settings.run

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows of a query."""
        with closing(sqlite3.connect(f"{self.root}/sampan.db")) as database:
            return list(database.execute(query))

    def containers(self) -> list[str]:
        """Return the ids that have a directory."""
        return sorted(os.path.basename(path) for path in glob.glob(f"{self.root}/containers/*"))

    def state(self, id: str) -> dict[str, object]:
        """Return a container's state file."""
        with open(f"{self.root}/containers/{id}/state.json", encoding="utf-8") as file:
            state: dict[str, object] = json.load(file)
        return state

    def monitor(self, id: str) -> int:
        """Return the pid of a container's monitor."""
        return int(str(self.state(id)["monitor_pid"]))

    def leftovers(self) -> list[str]:
        """Name what containers that are all gone have left in the store, after a monitor's last milliseconds."""
        deadline = time.monotonic() + 3
        while (found := self.now()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def left(self, sampan: Command) -> list[str]:
        """Name what containers that are all gone have left after the next commands, which fold their ends."""
        deadline = time.monotonic() + 5
        while True:
            sampan("ps", "-a", check=True)
            if not (found := self.now()) or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def now(self) -> list[str]:
        """Name what is in the store at this moment."""
        found = [f"directory {id}" for id in self.containers()]
        found += [f"run {path}" for path in os.listdir(self.run) if path not in {"features.json", "names", "networks"}]
        found += [f"name {path}" for path in glob.glob(f"{self.run}/names/*")]
        found += [f"name {path}" for path in glob.glob(f"{self.run}/networks/*/*")]
        for table in ("containers", "ranges", "addresses", "leases", "volumes"):
            found += [f"{table} {row}" for row in self.rows(f"SELECT * FROM {table}")]  # noqa: S608 - names of ours
        found += [f"trash {path}" for path in glob.glob(f"{self.root}/trash/*")]
        return found


@pytest.fixture
def store(settings: Settings) -> Store:
    """Return the store of this test."""
    return Store(settings)


def fetch(url: str) -> bytes:
    """Fetch a page, once its server is there."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
