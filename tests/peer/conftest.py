"""The peers: docker and skopeo behind the door that `./dev peers up` leaves, and an image that both sides have."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.plugin.ground import Command

PEERS = Path(
    os.environ.get("PEERS") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sampan-peers")
)
Peer = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def peer() -> Peer:
    """Return `peer(program, *words)`: run a peer's program, its output captured as text."""
    if not (PEERS / "docker.sock").exists():
        pytest.skip("docker is not up: ./dev peers up")

    def run(program: str, *words: str) -> "subprocess.CompletedProcess[str]":
        # The door's --wdns wants a directory that the peers' root has.
        argv = [str(PEERS / "bin" / program), *words]
        return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120, cwd="/tmp")

    return run


@pytest.fixture(scope="session")
def _docker_busybox(peer: Peer, busybox_tar: str) -> Iterator[None]:
    """Give docker the busybox image."""
    made = peer("docker", "import", busybox_tar, "busybox")
    assert made.returncode == 0, made.stderr
    yield
    peer("docker", "rmi", "-f", "busybox")


@pytest.fixture
def both(_docker_busybox: None, peer: Peer, sampan: Command, busybox_tar: str) -> dict[str, Command]:
    """Return both engines' commands by name; each has the busybox image."""
    sampan("import", busybox_tar, "busybox", check=True)
    return {"docker": lambda *words: peer("docker", *words), "sampan": sampan}
