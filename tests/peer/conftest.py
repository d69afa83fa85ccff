"""The peers: docker and skopeo behind the door that `./dev peers up` leaves, and an image that both sides have."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import pytest

from tests.plugin.ground import Command, command_in, settled

PEERS = Path(
    os.environ.get("PEERS") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sampan-peers")
)
Answer = TypeVar("Answer")
Peer = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def peer() -> Peer:
    """Return `peer(program, *words, cwd="/tmp")`: run a peer's program, its output captured as text."""
    if not (PEERS / "docker.sock").exists():
        pytest.skip("docker is not up: ./dev peers up")

    def run(
        program: str, *words: str, cwd: str | Path = "/tmp", stdin: IO[bytes] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        # The door's --wdns wants a directory that the peers' root has.
        argv = [str(PEERS / "bin" / program), *words]
        return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120, cwd=cwd, stdin=stdin)

    return run


@pytest.fixture(scope="session")
def _docker_busybox(peer: Peer, busybox_tar: str) -> Iterator[None]:
    """Give docker the busybox image."""
    # By a pipe: the peers' root need not have the directory.
    with open(busybox_tar, "rb") as tar:
        made = peer("docker", "import", "-", "busybox", stdin=tar)
    assert made.returncode == 0, made.stderr
    yield
    peer("docker", "rmi", "-f", "busybox")


@pytest.fixture
def both(_docker_busybox: None, peer: Peer, sampan: Command, busybox_tar: str) -> dict[str, Command]:
    """Return both engines' commands by name; each has the busybox image."""
    sampan("import", busybox_tar, "busybox", check=True)
    return {"docker": lambda *words: peer("docker", *words), "sampan": sampan}


@pytest.fixture(scope="module")
def pair(_docker_busybox: None, peer: Peer, busybox_tar: str) -> Iterator[dict[str, Command]]:
    """Yield what `both` returns, with one store for a whole module: for many small questions."""
    place = tempfile.mkdtemp(prefix="sp-", dir="/tmp")
    try:
        with settled(place) as environment:
            sampan = command_in(environment)
            sampan("import", busybox_tar, "busybox", check=True)
            # The bridge of a store stays: it is there before the first test, so that it is none's leak.
            sampan("run", "--rm", "busybox", "true", check=True)
            yield {"docker": lambda *words, **options: peer("docker", *words, **options), "sampan": sampan}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def at_once(engines: dict[str, Command], do: Callable[[str, Command], Answer]) -> dict[str, Answer]:
    """Return what `do(name, engine)` returns for each engine; they work side by side."""
    with ThreadPoolExecutor(len(engines)) as pool:
        waiting = {name: pool.submit(do, name, engine) for name, engine in engines.items()}
        return {name: future.result() for name, future in waiting.items()}
