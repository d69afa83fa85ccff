"""The package is removed, and another version installed, while containers run; and an older one's database."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.database import schema
from tests.engine.conftest import Store
from tests.plugin.ground import PROJECT

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip

UV = str(Path(sys.executable).parent / "uv")
# What takes a database of version 3 back to what a Sampan of version 1 wrote.
BACK_TO_1 = """
DROP TABLE traces;
ALTER TABLE networks RENAME TO networks_2;
CREATE TABLE networks(name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO networks SELECT name, record FROM networks_2;
DROP TABLE networks_2;
PRAGMA user_version=1;
"""


class Installation:
    """A venv with a Sampan in it, and nothing else: what runs containers needs no other package."""

    def __init__(self, place: str, environment: dict[str, str]) -> None:
        self.venv = f"{place}/venv"
        self.environment = environment
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)

    def install(self, wheel: str) -> None:
        """Put this wheel in, in place of the one before."""
        self._uv("pip", "install", "-q", "--offline", "--no-deps", wheel)

    def uninstall(self) -> None:
        """Take it away."""
        self._uv("pip", "uninstall", "-q", "sampan")

    def _uv(self, *words: str) -> None:
        environment = {**os.environ, "VIRTUAL_ENV": self.venv}
        subprocess.run([UV, *words], check=True, env=environment, capture_output=True)

    def __call__(self, *words: str, check: bool = False) -> CompletedProcess[str]:
        """Run its program."""
        done = subprocess.run(
            [f"{self.venv}/bin/sampan", *words], capture_output=True, text=True, env=self.environment, check=False,
            timeout=60,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the wheel of this checkout, and one of the same with a later version's number."""
    place = tmp_path_factory.mktemp("wheels")
    found = []
    for number in ("", "99.1.0"):
        source, out = place / f"source{number}", place / f"dist{number}"
        shutil.copytree(PROJECT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("README.md", "LICENSE"):
            shutil.copy(PROJECT / name, source)
        text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
        if number:
            head, _, rest = text.partition('\nversion = "')
            text = f'{head}\nversion = "{number}"{rest.partition(chr(34))[2]}'
        (source / "pyproject.toml").write_text(text, encoding="utf-8")
        argv = [UV, "build", "-q", "--wheel", "--offline", "--out-dir", str(out), str(source)]
        subprocess.run(argv, check=True, capture_output=True)
        found += [str(path) for path in out.glob("*.whl")]
    return found[0], found[1]


@pytest.fixture
def installation(place: str, environment: dict[str, str], busybox: str, wheels: tuple[str, str]) -> Installation:
    """Return an installation of this checkout, whose store has busybox; its containers end with the test."""
    made = Installation(place, environment)
    made.install(wheels[0])
    return made


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_container_outlives_its_package(
    installation: Installation, sampan: Command, store: Store, wheels: tuple[str, str]
) -> None:
    """With the package gone its log grows and its policy restarts it; the next version finds, stops and starts it."""
    script = "echo run; while [ ! -e /end ]; do sleep 0.1; done; rm /end"
    words = ("--network", "none", "--restart", "always", "busybox", "sh", "-c", script)
    installation("run", "-d", "--name", "box", *words, check=True)
    (id,) = store.containers()
    monitor = store.monitor(id)
    _until(lambda: b"sampan-monitor" in Path(f"/proc/{monitor}/cmdline").read_bytes())
    installation.uninstall()
    assert not Path(installation.venv, "bin/sampan").exists()
    log = Path(store.root, "containers", id, "logs", "json.log")
    # What no package is needed for: its own end, and its next run.
    os.kill(int(str(store.state(id)["pid"])), signal.SIGKILL)
    _until(lambda: log.read_text(encoding="utf-8").count("run") == 2 and store.state(id)["status"] == "running")
    assert store.monitor(id) == monitor
    installation.install(wheels[1])
    assert "99.1.0" in installation("version", check=True).stdout
    assert "box" in installation("ps", check=True).stdout
    assert installation("logs", "box", check=True).stdout == "run\nrun\n"
    assert installation("exec", "box", "echo", "hello", check=True).stdout == "hello\n"
    installation("exec", "box", "touch", "/end", check=True)
    _until(lambda: installation("logs", "box", check=True).stdout == "run\n" * 3)
    installation("stop", "-t", "0", "box", check=True)
    installation("start", "box", check=True)
    installation("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_a_monitor_that_is_not_quiet_yet(installation: Installation, sampan: Command, store: Store) -> None:
    """The package goes in the moment after a start: the end is recorded all the same, and nothing is left."""
    installation("run", "-d", "--name", "box", "-p", "127.0.0.1::80", "busybox", "sleep", "1000", check=True)
    (id,) = store.containers()
    installation.uninstall()
    os.kill(int(str(store.state(id)["pid"])), signal.SIGKILL)
    _until(lambda: store.state(id)["clean"] is True)
    assert (store.state(id)["status"], store.state(id)["exit_code"]) == ("exited", 137)
    sampan("rm", "box", check=True)
    assert store.left(sampan) == []


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_database_with_a_running_container(sampan: Command, store: Store, busybox: str, version: int) -> None:
    """It is brought up by the next command, beside the container, which is found, stopped and started as before."""
    sampan("run", "-d", "--name", "box", "-p", "127.0.0.1::80", "busybox", "sleep", "1000", check=True)
    with closing(sqlite3.connect(f"{store.root}/sampan.db", isolation_level=None)) as database:
        database.executescript(BACK_TO_1 if version == 1 else "DROP TABLE traces; PRAGMA user_version=2;")
    assert sampan("exec", "box", "echo", "hello", check=True).stdout == "hello\n"
    (found,) = json.loads(sampan("inspect", "box", check=True).stdout)
    assert found["State"]["Running"] is True
    assert store.rows("PRAGMA user_version") == [(schema.VERSION,)]
    sampan("stop", "-t", "0", "box", check=True)
    sampan("start", "box", check=True)
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_a_newer_database_is_one_clear_error(sampan: Command, store: Store, busybox: str) -> None:
    """Every command that needs it says so, with the way out; what runs goes on, and is there for the newer version."""
    sampan("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000", check=True)
    with closing(sqlite3.connect(f"{store.root}/sampan.db", isolation_level=None)) as database:
        database.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    for words in (("ps",), ("run", "busybox", "true"), ("stop", "box"), ("rm", "-f", "box"), ("boot", "start")):
        done = sampan(*words)
        assert done.returncode == (125 if words[0] == "run" else 1)
        assert done.stderr.count("error:") == 1
        assert "was written by a newer Sampan" in done.stderr
        assert "pip install --upgrade sampan" in done.stderr
    with closing(sqlite3.connect(f"{store.root}/sampan.db", isolation_level=None)) as database:
        database.execute(f"PRAGMA user_version={schema.VERSION}")
    assert "box" in sampan("ps", check=True).stdout
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []
