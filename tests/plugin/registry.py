"""A registry: Debian's docker-registry, unpacked under .cache/ from its signed package, run on loopback, ended by pid.

Nothing is installed. Each `Registry` has a directory, a port and an access log of its own; `registry` is shared by the
tests of a session, which therefore name their repositories apart.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.plugin import debian
from tests.plugin.ground import PROJECT

PACKAGE = "docker-registry"
CACHE = PROJECT / ".cache" / "registry"
PROGRAM = CACHE / "files" / "usr/bin/docker-registry"
START_SECONDS = 20.0

CONFIGURATION = """
version: 0.1
log: {{level: info, formatter: text}}
storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:0", secret: unimportant{tls}}}
{more}
"""


class Registry:
    """A running registry: its `address` (host and port), and what it was asked."""

    def __init__(self, address: str, log: Path, directory: Path) -> None:
        self.address = address
        self.directory = directory
        self._log = log

    def asked(self, *words: str) -> list[str]:
        """Return the requests so far, as `GET /v2/…`, that have all these words in them."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        found = [line.split('"')[1].rsplit(" ", 1)[0] for line in lines if '" ' in line and " HTTP/" in line]
        return [line for line in found if all(word in line for word in words)]


Start = Callable[..., Registry]


@contextmanager
def running(directory: Path, *, more: str = "", tls: str = "") -> Iterator[Registry]:
    """Run a registry with its data in `directory`; `more` and `tls` are pieces of its configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    config, log = directory / "config.yml", directory / "log"
    config.write_text(CONFIGURATION.format(directory=directory, more=more, tls=tls), encoding="utf-8")
    with log.open("wb") as file:
        server = subprocess.Popen(
            [PROGRAM, "serve", config], stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/",
            env={"OTEL_TRACES_EXPORTER": "none"},
        )  # fmt: skip
    try:
        yield Registry(_address(server, log), log, directory)
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture(scope="session")
def registry_program() -> Path:
    """Return the path of docker-registry, unpacked unless it is."""
    with debian.once(CACHE, "files") as new:
        if new is not None:
            debian.unpack((PACKAGE,), new, root=CACHE / "root")
    return PROGRAM


@pytest.fixture(scope="session")
def registry(registry_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Yield a registry that lets everybody in."""
    with running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def no_registry(environment: dict[str, str]) -> None:
    """Lead the way to every registry into a proxy that nobody listens at."""
    environment.update(dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:1"))


@pytest.fixture
def start_registry(registry_program: Path, tmp_path: Path) -> Iterator[Start]:
    """Return `start(more="", tls="")`: run one more registry for the length of a test."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        count = 0

        def start(**pieces: str) -> Registry:
            nonlocal count
            count += 1
            return stack.enter_context(running(tmp_path / f"registry{count}", **pieces))

        yield start


def _address(server: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until the registry says where it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        _, mark, rest = log.read_text(encoding="utf-8").partition("listening on ")
        if mark and '"' in rest:
            return rest.partition('"')[0].partition(",")[0]
        time.sleep(0.02)
    raise AssertionError(log.read_text(encoding="utf-8"))
