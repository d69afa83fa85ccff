"""The article's own project, on both engines: build, rebuild, first answered request, compose up to the first page.

Both build the article's Dockerfile on one base, the stand-in that `rebuild` makes, and run one image's application.
What the application itself needs until it answers is measured too, under runc on the same files, and taken off both.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.measure import Failed, Result, interleave
from bench.rebuild import DOCKERFILE, EXAMPLE, base
from bench.side import Side, door

IMAGE, DATABASE = "bench-hello", "mysql:8.0"
PORT = 5080
ANSWER_SECONDS = 60.0
TRY_SECONDS = 0.002
COMPOSE = f"""\
name: bench
services:
  web:
    image: {IMAGE}
    ports:
      - "127.0.0.1:{PORT}:5000"
    depends_on:
      - db
  db:
    image: {DATABASE}
    environment:
      MYSQL_ROOT_PASSWORD: rootpassword
      MYSQL_DATABASE: mydatabase
      MYSQL_USER: myuser
      MYSQL_PASSWORD: mypassword
"""


def article(sides: list[Side], rounds: int) -> list[Result]:
    """Walk the article's way on each side, step by step."""
    directories = {side.name: _project(side) for side in sides}
    cold = {side.name: _build(side, directories[side.name], "--no-cache") for side in sides}
    results = [
        Result(name="the article's build, cold", unit="ms", goal="at most 0.7 of docker's time",
               figures=interleave(cold, max(2, rounds // 3)), notes=("pip downloads on both sides",)),
        Result(name="a rebuild after a change in app.py", unit="ms", goal="at most 0.7 of docker's time",
               figures=interleave({side.name: _edit(side, directories[side.name]) for side in sides}, rounds)),
    ]  # fmt: skip
    results += _first_request(sides, rounds)
    results.append(_compose(sides, max(2, rounds // 3)))
    return results


def _project(side: Side) -> str:
    """Return the article's project in a directory of the side's own, with the base imported."""
    directory = f"{side.place}/article-{side.name}"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("sampan.lock"))
    Path(directory, "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    environment = "ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore"
    side.ask("import", "--change", environment, base(), "bench-python")
    return directory


def _build(side: Side, directory: str, *flags: str) -> Callable[[], None]:
    """Return the act of building; docker's RUN gets the host's network, as a build on this machine needs it."""
    words = ("build", *(("--network", "host") if side.name == "docker" else ()), *flags, "-t", IMAGE, directory)
    return lambda: side.do(*words)


def _edit(side: Side, directory: str) -> Callable[[], None]:
    build = _build(side, directory)

    def act() -> None:
        with open(f"{directory}/app.py", "a", encoding="utf-8") as file:
            file.write(f"# change {time.time_ns()}\n")
        build()

    return act


def _first_request(sides: list[Side], rounds: int) -> list[Result]:
    """Measure from `run` to the first answer, with and without what the application needs by itself."""
    samples: dict[str, list[float]] = {"runc": [], **{side.name: [] for side in sides}}
    runc = _Runc(next(side for side in sides if side.name == "docker"))
    try:
        for number in range(rounds + 1):
            found = {"runc": runc.first_answer(), **{side.name: _run_and_ask(side) for side in sides}}
            for name, value in found.items():
                if number:
                    samples[name].append(value)
    finally:
        runc.close()
    whole = Result(
        name="from run to the first answered request", unit="ms", goal="at most 0.7 of docker's time",
        figures={name: tuple(values) for name, values in samples.items()},
    )  # fmt: skip
    return [whole, _less(samples)]


def _less(samples: Mapping[str, list[float]]) -> Result:
    """Take the application's own time, its median under runc, off both sides' medians."""
    own = statistics.median(samples["runc"])
    figures = {name: (statistics.median(samples[name]) - own,) for name in samples if name != "runc"}
    return Result(
        name="from run to the first answered request, less the application's own time", unit="ms",
        goal="at most 0.3 of docker's time", figures=figures, notes=(f"the application under runc: {own:.1f} ms",),
    )  # fmt: skip


def _run_and_ask(side: Side) -> float:
    started = time.perf_counter()
    side.do("run", "-d", "--name", "bench", "-p", f"127.0.0.1:{PORT}:5000", IMAGE)
    _answer(PORT)
    spent = (time.perf_counter() - started) * 1000
    side.do("rm", "-f", "bench")
    return spent


def _answer(port: int) -> None:
    """Return once the page is there; raises Failed after a minute."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        try:
            with opener.open(f"http://127.0.0.1:{port}", timeout=5) as answer:
                if b"Hello, Docker!" in answer.read():
                    return
        except OSError:
            time.sleep(TRY_SECONDS)
    raise Failed(f"nothing answers at port {port}")


class _Runc:
    """The image's files under the peers' runc, with the host's network: what the application needs by itself."""

    def __init__(self, docker: Side) -> None:
        self._bundle = f"{docker.place}/bundle"
        os.makedirs(f"{self._bundle}/rootfs")
        identity = docker.ask("create", IMAGE)
        archive = f"{docker.place}/rootfs.tar"
        docker.ask("export", "-o", archive, identity)
        docker.ask("rm", identity)
        subprocess.run(["tar", "-xf", archive, "-C", f"{self._bundle}/rootfs"], check=True)
        os.unlink(archive)
        self._do("spec", "--bundle", self._bundle)
        path = Path(self._bundle, "config.json")
        spec = json.loads(path.read_text(encoding="utf-8"))
        spec["process"] |= {"terminal": False, "cwd": "/app", "args": ["python", "app.py"]}
        spec["root"]["readonly"] = False
        kept = [each for each in spec["linux"]["namespaces"] if each["type"] not in {"network", "cgroup"}]
        spec["linux"]["namespaces"] = kept
        path.write_text(json.dumps(spec), encoding="utf-8")

    def _do(self, *words: str) -> None:
        argv = [*door(), "/usr/sbin/runc", *words]
        with open(f"{self._bundle}.log", "wb") as log:
            if subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode:
                raise Failed(Path(f"{self._bundle}.log").read_text(encoding="utf-8", errors="replace"))

    def first_answer(self) -> float:
        """Run it until it answers, and end it; return the milliseconds."""
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 5000)) == 0:
                raise Failed("port 5000 of this machine is in use")
        started = time.perf_counter()
        self._do("run", "--detach", "--bundle", self._bundle, "bench-runc")
        _answer(5000)
        spent = (time.perf_counter() - started) * 1000
        self.close()
        return spent

    def close(self) -> None:
        """Take away what runs. Idempotent."""
        subprocess.run([*door(), "/usr/sbin/runc", "delete", "--force", "bench-runc"], check=False, capture_output=True)


def _compose(sides: list[Side], rounds: int) -> Result:
    """Measure from `compose up -d` to the first page; each round begins with nothing but the images."""
    ours = next(side for side in sides if side.name == "sampan")
    ours.do("bootstrap", DATABASE)
    archive = f"{ours.place}/database.tar"
    ours.do("save", "-o", archive, DATABASE)
    acts = {}
    samples: dict[str, list[float]] = {side.name: [] for side in sides}
    for side in sides:
        if side.name == "docker":
            side.do("load", "-i", archive)
        file = f"{side.place}/compose-{side.name}.yaml"
        Path(file).write_text(COMPOSE, encoding="utf-8")
        acts[side.name] = (side, ("compose", "-f", file))
    os.unlink(archive)
    for number in range(rounds + 1):
        for name, (side, words) in acts.items():
            started = time.perf_counter()
            side.do(*words, "up", "-d")
            _answer(PORT)
            if number:
                samples[name].append((time.perf_counter() - started) * 1000)
            side.do(*words, "down", "-v", "-t", "0")
    return Result(
        name="compose up to the first page", unit="ms", goal="at most 0.7 of docker's time",
        figures={name: tuple(values) for name, values in samples.items()},
        notes=(f"{DATABASE} is the stand-in of `sampan bootstrap` on both sides",),
    )  # fmt: skip
