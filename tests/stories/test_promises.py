"""What the article promises of containers: versions that do not meet, one image everywhere, and nothing of the machine.

A page is shown by a real browser.
"""

import base64
import http.server
import itertools
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from sampan.settings import trust
from sampan.settings.index import pip_settings, uv_configuration
from tests.plugin.ground import Command, command_in, settled
from tests.stories.conftest import write_project

pytestmark = [
    pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip

PATIENCE_SECONDS = 60


def fetch(url: str) -> str:
    """Return a page, once somebody answers there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def address(sampan: Command, name: str, port: int = 5000) -> str:
    """Return where a container's port is published."""
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    return f"http://127.0.0.1:{found['NetworkSettings']['Ports'][f'{port}/tcp'][0]['HostPort']}/"


# ------------------------------------------------------------------------------------------- versions side by side
VERSIONED = """\
from importlib.metadata import version

from flask import Flask

app = Flask(__name__)


@app.route("/")
def versions():
    return f"Flask {version('flask')}, Werkzeug {version('werkzeug')}"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000)
"""
TWO = """\
services:
  old: {build: ./old, ports: ["127.0.0.1::5000"]}
  new: {build: ./new, ports: ["127.0.0.1::5000"]}
"""


def test_conflicting_versions_side_by_side(shared: Command, tmp_path: Path) -> None:
    """Two services that no one environment can hold, built from their projects: each answers with its own Flask."""
    for name, requirements in (("old", "Flask==2.2.5\nWerkzeug<3\n"), ("new", "Flask==3.*\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text(VERSIONED, encoding="utf-8")
        (tmp_path / name / "requirements.txt").write_text(requirements, encoding="utf-8")
    (tmp_path / "compose.yaml").write_text(TWO, encoding="utf-8")
    shared("compose", "-p", "versions", "up", "-d", cwd=tmp_path, check=True, timeout=300)
    old, new = (fetch(address(shared, f"versions-{name}-1")) for name in ("old", "new"))
    assert re.fullmatch(r"Flask 2\.2\.5, Werkzeug 2\.\d+\.\d+", old)
    assert re.fullmatch(r"Flask 3\.\d+\.\d+, Werkzeug 3\.\d+\.\d+", new)
    shared("compose", "-p", "versions", "down", cwd=tmp_path, check=True)


# ------------------------------------------------------------------------------------------- one image, three settings
SETTINGS_APP = """\
import os

from flask import Flask

SETTINGS = {"development": {"DEBUG": True}, "test": {"TESTING": True}, "production": {}}
name = os.environ["APP_ENV"]
app = Flask(__name__)
app.config.update(SETTINGS[name])


@app.route("/")
def hello_world():
    return f"Hello from {name}!"
"""
OWN_TESTS = """\
import os
import unittest

import app


class Everywhere(unittest.TestCase):
    def test_page(self):
        answer = app.app.test_client().get("/")
        self.assertEqual((answer.status_code, answer.text), (200, f"Hello from {os.environ['APP_ENV']}!"))

    def test_switches(self):
        expected = {"development": (True, False), "test": (False, True), "production": (False, False)}
        self.assertEqual((app.app.debug, app.app.testing), expected[os.environ["APP_ENV"]])
"""
SETTINGS_DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
CMD ["flask", "run", "--host=0.0.0.0"]
"""


@pytest.fixture
def elsewhere() -> Iterator[Command]:
    """Yield `sampan` on another store, as on another machine."""
    where = tempfile.mkdtemp(prefix="sp-", dir="/tmp")
    with settled(where) as environment:
        yield command_in(environment)
    shutil.rmtree(where, ignore_errors=True)


def test_one_image_in_three_settings(shared: Command, elsewhere: Command, python_image: str, tmp_path: Path) -> None:
    """One digest passes its own tests in development, test and production, and again after save and load elsewhere."""
    project = tmp_path / "everywhere"
    project.mkdir()
    for name, text in (
        ("app.py", SETTINGS_APP), ("test_app.py", OWN_TESTS), ("requirements.txt", "Flask\n"),
        ("Dockerfile", SETTINGS_DOCKERFILE),
    ):  # fmt: skip
        (project / name).write_text(text, encoding="utf-8")
    assert python_image in SETTINGS_DOCKERFILE
    shared("build", "-t", "everywhere", ".", cwd=project, check=True, timeout=300)
    (image,) = json.loads(shared("inspect", "everywhere", check=True).stdout)
    _passes_everywhere(shared, image["Id"])
    # The tests can fail: a setting that the application does not have.
    assert shared("run", "--rm", "-e", "APP_ENV=staging", image["Id"], "python", "-m", "unittest").returncode == 1
    archive = f"{tmp_path}/everywhere.tar"
    shared("save", "-o", archive, "everywhere", check=True)
    elsewhere("load", "-i", archive, check=True)
    (loaded,) = json.loads(elsewhere("inspect", "everywhere", check=True).stdout)
    assert (loaded["Id"], loaded["RootFS"]) == (image["Id"], image["RootFS"])
    _passes_everywhere(elsewhere, image["Id"])


def _passes_everywhere(sampan: Command, id: str) -> None:
    for setting in ("development", "test", "production"):
        words = ("run", "--rm", "-e", f"APP_ENV={setting}", id, "python", "-m", "unittest")
        assert "Ran 2 tests" in sampan(*words, check=True).stderr, setting


# ------------------------------------------------------------------------------------------------------- a browser
def test_a_browser_shows_the_page(shared: Command, article_image: str, tmp_path: Path) -> None:
    """Debian's chromium, without a screen, opens the article's application and shows its greeting."""
    shared("run", "-d", "--name", "web", "-p", "127.0.0.1::5000", article_image, check=True)
    url = address(shared, "web")
    fetch(url)
    browser = shutil.which("chromium")
    assert browser, "chromium is missing: `./dev test --rest` brings it"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
            f"--user-data-dir={tmp_path}/profile", "--dump-dom", url,
        ],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "<body>Hello, Docker!</body>" in done.stdout
    assert '"GET / HTTP/1.1" 200' in shared("logs", "web", check=True).stderr
    shared("rm", "-f", "web", check=True)


# ------------------------------------------------------------------------------------------- nothing of the machine
PASSWORD = "pw-of-this-machine-alone"


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that has no package, lets in who has a password, and remembers which was given."""

    given: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        """Answer as an index does for a name that it does not have."""
        self.given.add(self.headers.get("Authorization", ""))
        self.send_response(404 if "Authorization" in self.headers else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def secrets(lasting: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield the environment of a machine that has, beside its own, one more index with a password, and one more CA."""
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=ours alone"]
    argv += ["-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/ours.crt"]
    subprocess.run(argv, check=True, capture_output=True)
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(trust.certificates(lasting) + b"\n" + (tmp_path / "ours.crt").read_bytes())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index = f"http://somebody:{PASSWORD}@127.0.0.1:{server.server_port}/simple"
        more = " ".join([*pip_settings(lasting).get("extra-index-url", "").split(), index])
        yield lasting | {"SSL_CERT_FILE": str(bundle), "PIP_EXTRA_INDEX_URL": more}
        server.shutdown()


def test_nothing_of_the_machine_is_in_the_image(
    secrets: dict[str, str], shared: Command, *, python_image: str, shared_busybox: str, tmp_path: Path
) -> None:
    """Certificates, indexes and passwords that RUN used are in no layer, by name or content, nor in the config."""
    machine = _of_the_machine(secrets, (tmp_path / "ours.crt").read_text(encoding="ascii"))
    project = tmp_path / "project"
    project.mkdir()
    write_project(project)
    assert python_image in (project / "Dockerfile").read_text(encoding="utf-8")
    command_in(secrets)("build", "--no-cache", "-t", "clean", ".", cwd=project, check=True, timeout=300)
    assert f"Basic {base64.b64encode(f'somebody:{PASSWORD}'.encode()).decode()}" in Index.given
    shared("save", "-o", f"{tmp_path}/clean.tar", "clean", check=True)
    names = [name for name, _ in _everything(tmp_path / "clean.tar")]
    assert any(name.endswith("site-packages/flask/app.py") for name in names)
    assert _traces(tmp_path / "clean.tar", machine) == []
    # The same search finds what a RUN keeps of them by its own will.
    keep = f"FROM {shared_busybox}\nRUN cat /run/sampan/pip.conf /run/sampan/ca.crt > /kept\n"
    (project / "Dockerfile").write_text(keep, encoding="utf-8")
    command_in(secrets)("build", "-t", "kept", ".", cwd=project, check=True)
    shared("save", "-o", f"{tmp_path}/kept.tar", "kept", check=True)
    traces = _traces(tmp_path / "kept.tar", machine)
    assert "the CA in kept" in traces
    assert any(trace.startswith("password") and trace.endswith(" in kept") for trace in traces)


def _traces(archive: Path, machine: dict[str, bytes]) -> list[str]:
    """Name what an archive of an image has of a machine, and where."""
    found = []
    for name, content in _everything(archive):
        found += [f"the directory as {name}"] if "run/sampan" in name else []
        found += [f"{what} in {name}" for what, secret in machine.items() if secret in content]
    return found


def _of_the_machine(machine: dict[str, str], certificate: str) -> dict[str, bytes]:
    """Return what a step is given, by what it is."""
    found = {"the path": b"/run/sampan/", "the CA": certificate.splitlines()[5].encode()}
    pip = pip_settings(machine)
    words = [
        word for key in ("index-url", "extra-index-url", "find-links", "proxy") for word in pip.get(key, "").split()
    ]
    words += re.findall(r"[a-z]+://[^\s\"']+", uv_configuration(machine).decode(errors="replace"))
    for number, word in enumerate((*words, *trust.proxy_variables(machine).values())):
        found[f"address {number}"] = word.encode()
        if password := urllib.parse.urlsplit(word).password:
            found[f"password {number}"] = password.encode()
    for number, (key, value) in enumerate(itertools.pairwise(trust.netrc(machine).split())):
        if key == b"password":
            found[f"password {number} of .netrc"] = value
    return found


def _everything(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each document of an archive of an image, and each file of its layers: its name, and what is in it."""
    with tarfile.open(archive) as outer:
        for member in outer:
            file = outer.extractfile(member)
            if file is None:
                continue
            with file:
                try:
                    with tarfile.open(fileobj=file) as layer:
                        for inner in layer:
                            content = layer.extractfile(inner) if inner.isreg() else None
                            yield inner.name, inner.linkname.encode() + (content.read() if content else b"")
                except tarfile.ReadError:
                    file.seek(0)
                    yield member.name, file.read()
