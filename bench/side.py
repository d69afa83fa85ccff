"""The two sides: sampan in a root of its own, and docker behind the door that `./dev peers` leaves."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Failed, run

PROJECT = Path(__file__).resolve().parents[1]
PEERS = Path(
    os.environ.get("PEERS") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sampan-peers")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One engine: its name, the words before its own, the environment, and a directory for what it says."""

    name: str
    prefix: tuple[str, ...]
    environment: dict[str, str]
    place: str

    def do(self, *words: str) -> None:
        """Run one command; raises Failed with what it said."""
        run([*self.prefix, *words], self.environment, f"{self.place}/{self.name}.log")

    def ask(self, *words: str) -> str:
        """Return what one command prints; raises Failed with what it complained of."""
        argv = [*self.prefix, *words]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=self.environment)
        if done.returncode:
            raise Failed(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stderr}")
        return done.stdout.strip()

    def pid(self, name: str) -> int:
        """Return the process id of a container's first process."""
        return int(json.loads(self.ask("inspect", name))[0]["State"]["Pid"])

    def try_to(self, *words: str) -> None:
        """Run one command whose failure says that there was nothing to do."""
        subprocess.run([*self.prefix, *words], check=False, capture_output=True, env=self.environment)

    def version(self) -> str:
        """Return the version that a person compares."""
        if self.name == "docker":
            return f"docker {self.ask('version', '--format', '{{.Server.Version}}')}"
        return self.ask("--version")


@contextmanager
def both(place: str) -> Iterator[list[Side]]:
    """Yield sampan and docker with the busybox image imported as `bench-busybox`; what was started is taken away."""
    busybox = subprocess.run([sys.executable, PROJECT / "tools/busybox.py"], check=True, capture_output=True, text=True)
    # Here docker sees it, whichever checkout it was brought up from.
    archive = shutil.copy(busybox.stdout.strip(), f"{place}/busybox.tar")
    sides = [_sampan(place), _docker(place)]
    for side in sides:
        side.ask("import", archive, "bench-busybox:latest")
    try:
        yield sides
    finally:
        for side in sides:
            if left := side.ask("ps", "-aq", "--filter", "name=bench").split():
                side.try_to("rm", "-f", *left)
            for image in ("bench-busybox", "bench-hello", "bench-python"):
                side.try_to("rmi", "-f", image)
        # Its bridge would outlive the directory.
        sides[0].try_to("system", "reset", "--force")


def _sampan(place: str) -> Side:
    """Return sampan with its state in `place`."""
    ours = {"SAMPAN_ROOT": f"{place}/root", "SAMPAN_RUN": f"{place}/run", "SAMPAN_CONFIG": f"{place}/config.toml"}
    for name in ("root", "run"):
        os.makedirs(f"{place}/{name}", mode=0o700, exist_ok=True)
    program = os.path.join(os.path.dirname(sys.executable), "sampan")
    return Side(name="sampan", prefix=(program,), environment=dict(os.environ) | ours, place=place)


def _docker(place: str) -> Side:
    """Return docker, whose client runs inside the peers' root."""
    if not (PEERS / "docker.sock").exists():
        raise Failed("docker is not up; run: ./dev peers up")
    return Side(name="docker", prefix=(*door(), "/usr/bin/docker", "-H", f"unix://{PEERS}/docker.sock"),
                environment=dict(os.environ), place=place)  # fmt: skip


def door() -> tuple[str, ...]:
    """Return the words that enter the peers' root: a millisecond or two, on docker's account."""
    return ("/usr/bin/nsenter", f"--mount={PEERS}/ns/mnt", "--")
