"""Whole builds, with the machine's own package index and Debian mirror: what is made, made again, and goes wrong.

All tests of this file share one store, filled by whichever comes first; those that must begin with nothing say so.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sampan.build import builder
from sampan.database import connection
from sampan.document import parse
from sampan.errors import Exhausted, InvalidArgument, NotFound, Unavailable
from sampan.events import Event
from sampan.image.content import Content
from sampan.oci.reference import Reference
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first, pytest.mark.network, pytest.mark.root, pytest.mark.userns]

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello-flask"
APP = (EXAMPLE / "app.py").read_bytes()
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "UV_OFFLINE": "1"}


@dataclass
class Bench:
    """A store, a project directory, and a way to build the one into the other."""

    root: str
    project: str
    environment: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def write(self, path: str, content: bytes) -> None:
        """Write a file of the project."""
        os.makedirs(os.path.dirname(f"{self.project}/{path}"), exist_ok=True)
        with open(f"{self.project}/{path}", "wb") as file:
            file.write(content)

    @property
    def settings(self) -> Settings:
        """The settings of this store."""
        ours = {"SAMPAN_ROOT": self.root, "SAMPAN_RUN": f"{self.root}/run", "SAMPAN_CONFIG": f"{self.root}/none"}
        return Settings({**os.environ, **ours, **self.environment}, os.geteuid())

    def build(self, **options: Any) -> builder.BuildResult:  # noqa: ANN401 -- each has its own type
        """Build the project."""
        self.events.clear()
        with connection.open(self.settings) as database:
            return builder.build(self.settings, database, self.project, sink=self.events.append, **options)

    def made(self) -> list[str]:
        """Return the subjects of the layers and wheels that the last build made, not found."""
        return [event.subject for event in self.events if event.kind == "done" and event.current and not event.text]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Yield the root of a store that holds the example."""
    where = tempfile.mkdtemp(prefix="sp-", dir="/tmp")
    bench = Bench(where, f"{where}/first")
    shutil.copytree(EXAMPLE, bench.project)
    bench.build()
    yield where
    shutil.rmtree(where, ignore_errors=True)


@pytest.fixture
def bench(store: str, place: str) -> Bench:
    """Return a copy of the example, with its lock, and the shared store."""
    shutil.copytree(f"{store}/first", f"{place}/hello")
    return Bench(store, f"{place}/hello")


def test_article(bench: Bench) -> None:
    """The article's project becomes a small image of four layers that runs gunicorn as nobody, without a shell."""
    result = bench.build(tags=(Reference.parse("hello"),))
    config = result.image.config["config"]
    assert result.port == 5000
    assert config["Entrypoint"] == ["/usr/bin/tini", "--"]
    assert config["Cmd"][0] == "gunicorn"
    assert config["User"] == "65532:65532"
    assert config["ExposedPorts"] == {"5000/tcp": {}}
    assert config["Labels"]["io.sampan.workers"] == "auto"
    assert result.image.names == ("docker.io/library/hello:latest",)
    assert len(result.image.layers) == len(result.image.config["history"]) == 4
    content = Content(bench.root)
    assert sum(content.size_bytes(digest) for digest in result.image.layers) < 22_000_000
    assert not any(event.kind == "warning" for event in bench.events)


def test_size_and_contents(bench: Bench, place: str) -> None:
    """Unpacked it is below 60 MB, has no shell and no package manager, and compiled modules beside their sources."""
    result = bench.build()
    root = f"{place}/root"
    os.mkdir(root)
    content = Content(bench.root)
    for digest in result.image.layers:
        subprocess.run(["tar", "-xzf", content.path(digest), "-C", root], check=True)
    files = {os.path.relpath(path, root): path.stat(follow_symlinks=False).st_size for path in Path(root).rglob("*")}
    assert sum(files.values()) < 60_000_000
    assert (
        not {"usr/bin/sh", "usr/bin/bash", "usr/bin/dash", "usr/bin/dpkg", "usr/bin/apt", "usr/bin/perl"} & files.keys()
    )
    site = "usr/local/lib/python3.13/dist-packages"
    assert f"{site}/flask/__pycache__/app.cpython-313.pyc" in files
    assert "usr/lib/python3.13/__pycache__/typing.cpython-313.pyc" in files
    assert Path(f"{root}/usr/local/bin/gunicorn").read_bytes().startswith(b"#!/usr/bin/python3.13\n")
    assert Path(f"{root}/app/app.py").read_bytes() == APP


def test_nothing_changed(bench: Bench) -> None:
    """A second build makes nothing, needs no network, gives the same image, and loads nothing heavy."""
    first = bench.build()
    bench.environment = NO_NETWORK
    assert bench.build().image_id == first.image_id
    assert bench.made() == []
    program = (
        "import sys\nfrom sampan.database import connection\nfrom sampan.build import builder\n"
        "from sampan.settings import configuration\nsettings = configuration.load()\n"
        "with connection.open(settings) as database:\n    builder.build(settings, database, sys.argv[1])\n"
        "heavy = {'urllib3', 'pysequoia', 'uv', 'subprocess', 'ast', 'json', 'typing', 'dataclasses', 're', 'enum'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    environment = {**bench.settings.environment, "PYTHONPATH": str(Path(builder.__file__).parents[2])}
    argv = [sys.executable, "-c", program, bench.project]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_changed_code(bench: Bench) -> None:
    """A change in app.py makes the application's layer and no other, in some milliseconds and without a network."""
    first = bench.build()
    bench.environment = NO_NETWORK
    bench.write("app.py", APP.replace(b"Docker", b"Sampan"))
    began = time.perf_counter()
    second = bench.build()
    seconds = time.perf_counter() - began
    assert bench.made() == ["application"]
    assert first.image.layers[:-1] == second.image.layers[:-1]
    assert first.image.layers[-1] != second.image.layers[-1]
    assert seconds < 0.5  # 0.01 on a quiet machine


def test_changed_requirement(bench: Bench) -> None:
    """One more requirement makes its wheel, the layer that holds it, and the application's, for requirements.txt."""
    first = bench.build()
    bench.write("requirements.txt", b"Flask\nsix\n")
    second = bench.build()
    assert [subject.split()[0] for subject in bench.made()] == ["six", "9", "application"]
    same = [one == other for one, other in zip(first.image.layers, second.image.layers, strict=True)]
    assert same == [True, True, False, False]


def test_same_lock_same_digests(bench: Bench, place: str) -> None:
    """With the lock, an empty store comes to the same image, layer by layer, whatever the directory is called."""
    first = bench.build()
    other = Bench(f"{place}/other", f"{place}/elsewhere")
    shutil.copytree(bench.project, other.project)
    second = other.build(locked=True)
    assert second.image_id == first.image_id
    assert second.image.layers == first.image.layers
    assert second.image.manifest == first.image.manifest


def test_lock_names_no_host(bench: Bench) -> None:
    """The lock pins wheels and packages by hash, and no address is in it."""
    text = Path(f"{bench.project}/sampan.lock").read_text(encoding="utf-8")
    assert "://" not in text
    platform = parse(text)["platforms"]["linux/amd64"]
    assert {wheel["name"] for wheel in platform["wheels"]["wheels"]} >= {"flask", "gunicorn"}
    assert all(len(package["sha256"]) == 64 for package in platform["base"]["packages"])


def test_locked(bench: Bench) -> None:
    """--locked refuses a lock that does not match the project, and one that is not there."""
    bench.write("requirements.txt", b"Flask\nsix\n")
    with pytest.raises(InvalidArgument, match="`--locked` was given"):
        bench.build(locked=True)
    os.unlink(f"{bench.project}/sampan.lock")
    with pytest.raises(InvalidArgument, match="`--locked` was given"):
        bench.build(locked=True)
    assert not os.path.exists(f"{bench.project}/sampan.lock")


def test_vanished_package(bench: Bench) -> None:
    """A locked package that is gone from the mirror is an error under --locked; else the base is chosen anew, aloud."""
    path = Path(f"{bench.project}/sampan.lock")
    text = path.read_text(encoding="utf-8")
    package = next(
        item for item in parse(text)["platforms"]["linux/amd64"]["base"]["packages"] if item["name"] == "netbase"
    )
    path.write_text(
        text.replace(package["sha256"], "0" * 64).replace(package["file"], "pool/gone.deb"), encoding="utf-8"
    )
    with pytest.raises(NotFound, match="no longer has `netbase`"):
        bench.build(locked=True)
    bench.build()
    assert any(event.kind == "warning" and "choosing packages anew" in event.text for event in bench.events)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("requirements", "error", "complaint", "line"),
    [
        (b"Flask\nno-such-package-anywhere\n", NotFound, "no release of `no-such-package-anywhere`", 2),
        (b"# pinned\nFlask==99.9\n", NotFound, "`Flask==99.9` asks for", 2),
        (b"Flask==3.1.0\nwerkzeug<2\n", InvalidArgument, "cannot all be met", None),
        (b"Flask ==\n", InvalidArgument, "`Flask ==` is not a requirement", 1),
    ],
)
def test_bad_requirements(
    bench: Bench, requirements: bytes, error: type[Exception], complaint: str, line: int | None
) -> None:
    """What no index has is named with its line; conflicts show uv's reasons; the project is as it was."""
    bench.write("requirements.txt", requirements)
    lock = Path(f"{bench.project}/sampan.lock").read_bytes()
    with pytest.raises(error, match=complaint) as caught:
        bench.build()
    place = getattr(caught.value, "at")  # noqa: B009 -- which error it is comes from the parameter
    assert (place.line if place else None) == line
    assert caught.value.__cause__ is not None
    assert Path(f"{bench.project}/sampan.lock").read_bytes() == lock
    assert os.listdir(f"{bench.root}/cache/scratch") == []


def test_did_you_mean(bench: Bench) -> None:
    """A slip in a well-known name is suggested."""
    bench.write("requirements.txt", b"Flsk-cors-nosuch\nfalsk-sqlalchemy\n")
    with pytest.raises(NotFound) as caught:
        bench.build()
    assert caught.value.hints


def test_no_network(bench: Bench, place: str) -> None:
    """Without a network the error says whether it is the index or the mirror that cannot be reached."""
    empty = Bench(f"{place}/empty", bench.project, {**NO_NETWORK, "UV_OFFLINE": "0", "UV_HTTP_RETRIES": "0"})
    bench.write("requirements.txt", b"Flask\nsix\n")
    with pytest.raises(Unavailable, match="Python package index") as index:
        empty.build()
    assert index.value.hints
    os.unlink(f"{bench.project}/sampan.lock")
    bench.write("requirements.txt", b"")
    bench.write("app.py", b"print('hello')\n")
    with pytest.raises(Unavailable, match="Debian mirror cannot be reached"):
        empty.build()


def test_plain_script(bench: Bench, place: str) -> None:
    """A script without requirements is an image of base, compiled library and application."""
    script = Bench(bench.root, f"{place}/script")
    script.write("main.py", b"print('hello')\n")
    result = script.build()
    assert result.image.config["config"]["Cmd"] == ["python", "main.py"]
    assert "ExposedPorts" not in result.image.config["config"]
    assert len(result.image.layers) == 3


def test_read_only_project(bench: Bench) -> None:
    """A project that cannot be written to is built; that there will be no lock is said."""
    os.unlink(f"{bench.project}/sampan.lock")
    subprocess.run(["mount", "--bind", bench.project, bench.project], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", bench.project], check=True)
        bench.build()
    finally:
        subprocess.run(["umount", bench.project], check=True)
    assert any(event.kind == "warning" and event.subject == "sampan.lock" for event in bench.events)


def command(bench: Bench, *, no_cache: bool = False) -> "subprocess.Popen[bytes]":
    """Start a build in a process of its own."""
    program = (
        "import sys\nfrom sampan.database import connection\nfrom sampan.build import builder\n"
        "from sampan.settings import configuration\nsettings = configuration.load()\n"
        "with connection.open(settings) as database:\n"
        f"    print(builder.build(settings, database, sys.argv[1], no_cache={no_cache}).image_id)\n"
    )
    environment = {**bench.settings.environment, "PYTHONPATH": str(Path(builder.__file__).parents[2])}
    argv = [sys.executable, "-c", program, bench.project]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_two_builds_at_once(bench: Bench) -> None:
    """Two builds of one project at the same time both work and come to the same image."""
    first = bench.build().image_id
    with command(bench, no_cache=True) as one, command(bench, no_cache=True) as other:
        printed = [one.communicate()[0].decode().strip(), other.communicate()[0].decode().strip()]
    assert printed == [first, first]
    assert os.listdir(f"{bench.root}/cache/scratch") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after_seconds", [0.15, 0.7, 1.5])
def test_interrupted(bench: Bench, number: signal.Signals, after_seconds: float) -> None:
    """A build that is interrupted or killed leaves nothing half-done: the next one comes to the same image."""
    first = bench.build().image_id
    with command(bench, no_cache=True) as running:
        time.sleep(after_seconds)
        running.send_signal(number)
        running.communicate(timeout=10)
    assert bench.build().image_id == first
    with connection.open(bench.settings) as database:
        assert list(database.execute("SELECT kind FROM leases")) == []
    assert os.listdir(f"{bench.root}/cache/scratch") == []


def test_full_disk(bench: Bench, place: str) -> None:
    """On a full disk the error says so and how to go on; nothing half-done is left, and with room the build works."""
    small = Bench(f"{place}/small/root", bench.project)
    os.mkdir(f"{place}/small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", f"{place}/small"], check=True)
    try:
        with pytest.raises(Exhausted, match="no space is left") as caught:
            small.build()
        assert caught.value.hints
        assert os.listdir(f"{small.root}/cache/scratch") == []
        with connection.open(small.settings) as database:
            assert list(database.execute("SELECT kind FROM leases")) == []
        subprocess.run(["mount", "-o", "remount,size=200m", f"{place}/small"], check=True)
        assert small.build().image_id == bench.build().image_id
    finally:
        subprocess.run(["umount", f"{place}/small"], check=True)


def test_source_date_epoch(bench: Bench) -> None:
    """SOURCE_DATE_EPOCH is the time of the image; without it an image has none: equal inputs are equal images."""
    assert bench.build().image.config["created"] == "1970-01-01T00:00:00Z"
    bench.environment = {"SOURCE_DATE_EPOCH": "1700000000"}
    assert bench.build().image.config["created"] == "2023-11-14T22:13:20Z"
    bench.environment = {"SOURCE_DATE_EPOCH": "soon"}
    with pytest.raises(InvalidArgument, match="SOURCE_DATE_EPOCH"):
        bench.build()
