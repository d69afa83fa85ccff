"""The ground: a Sampan of its own for each test, and the busybox root file system that tests and benches run."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sampan.kernel import netlink
from sampan.network import bridge, firewall, ipam
from sampan.settings.configuration import Settings

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = os.path.join(os.path.dirname(sys.executable), "sampan")
Command = Callable[..., "subprocess.CompletedProcess[str]"]
_TAKE_DOWN_SECONDS = 3.0


@pytest.fixture(scope="session")
def runc(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of Debian's runc, unpacked."""
    if found := shutil.which("runc"):
        return found
    directory = tmp_path_factory.mktemp("runc")
    subprocess.run(["apt-get", "download", "runc"], cwd=directory, check=True, capture_output=True)
    (package,) = directory.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(directory)], check=True)
    return str(directory / "usr/sbin/runc")


@pytest.fixture
def place() -> Iterator[str]:
    """Yield a short temporary directory: a unix socket's path ends at 108 bytes, which tmp_path eats up."""
    where = tempfile.mkdtemp(prefix="sp-", dir="/tmp")
    yield where
    # Best effort: a mount that a failing test left here must not turn into an error that hides the failure.
    shutil.rmtree(where, ignore_errors=True)


@pytest.fixture
def environment(place: str) -> Iterator[dict[str, str]]:
    """Yield an environment in which sampan keeps everything in `place` and reads no configuration of the person's."""
    with settled(place) as found:
        yield found


@contextmanager
def settled(place: str) -> Iterator[dict[str, str]]:
    """Yield such an environment; take its networks away in the end."""
    yield settle(place)
    take_bridges_down(f"{place}/r")


def settle(place: str) -> dict[str, str]:
    """Make the directories of a Sampan of its own in `place`; return the environment that leads there."""
    os.mkdir(f"{place}/r", 0o700)
    os.mkdir(f"{place}/n", 0o700)
    ours = {"SAMPAN_ROOT": f"{place}/r", "SAMPAN_RUN": f"{place}/n", "SAMPAN_CONFIG": f"{place}/config.toml"}
    ours["DOCKER_CONFIG"] = f"{place}/docker"
    return {key: value for key, value in os.environ.items() if not key.startswith("SAMPAN_")} | ours


def take_bridges_down(root: str) -> None:
    """Take away what a store's networks are on this machine; the next start there brings it up again."""
    for network in _networks(root):
        if netlink.index_of(network.interface) is not None:
            # The kernel takes a namespace's interfaces down in its own time, and a bridge with ports stays.
            deadline = time.monotonic() + _TAKE_DOWN_SECONDS
            while bridge.ports(network.interface) and time.monotonic() < deadline:
                time.sleep(0.01)
            bridge.remove(network)
            firewall.remove(network)


def _networks(root: str) -> list[ipam.Network]:
    """Return the networks of a store; its default one even where there is no store any more."""
    default = ipam.Network("bridge", ipam.interface_of(root), "10.0.0.0", 16)
    if not os.path.exists(f"{root}/sampan.db"):
        return [default]
    with sqlite3.connect(f"{root}/sampan.db") as database:
        try:
            interfaces = [json.loads(row[0])["interface"] for row in database.execute("SELECT record FROM networks")]
        except sqlite3.DatabaseError:
            interfaces = []
    return [default, *(ipam.Network("test", interface, "10.0.0.0", 16) for interface in interfaces)]


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """Return the settings of a Sampan of this test's own."""
    return Settings(environment, os.geteuid())


@pytest.fixture
def sampan(environment: dict[str, str]) -> Command:
    """Return `sampan(*words, timeout=60, check=False, cwd=None, feed="")`: run the real command in this environment."""
    return command_in(environment)


def command_in(environment: dict[str, str]) -> Command:
    """Return what the fixture `sampan` is, for another environment."""

    def command(
        *words: str, timeout: float = 60, check: bool = False, cwd: str | Path | None = None, feed: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [PROGRAM, *words], check=False, capture_output=True, text=True, timeout=timeout, cwd=cwd, input=feed,
            env=environment,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"sampan {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return command


@pytest.fixture(scope="session")
def busybox_tar() -> str:
    """Return the path of a tar of a small root file system: Debian's static busybox with all its applets."""
    argv = [sys.executable, f"{PROJECT}/tools/busybox.py"]
    made = subprocess.run(argv, check=True, capture_output=True, text=True)
    return made.stdout.strip()
