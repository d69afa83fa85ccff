"""Stand-ins from this machine's own mirror: made, run, made again, and looked at for what is old."""

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Command = Callable[..., CompletedProcess[str]]

NEEDS = [
    pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip
KEPT = Path(__file__).resolve().parents[3] / ".cache" / "debs"


@pytest.fixture
def mirror(environment: dict[str, str]) -> Iterator[None]:
    """Have packages that an earlier test fetched; they are checked by their hashes all the same."""
    kept = f"{environment['SAMPAN_ROOT']}/cache/debs"
    KEPT.mkdir(parents=True, exist_ok=True)
    shutil.copytree(KEPT, kept)
    yield
    for path in Path(kept).iterdir():
        if not (KEPT / path.name).exists():
            shutil.copy(path, KEPT / f"{path.name}.new")
            os.replace(KEPT / f"{path.name}.new", KEPT / path.name)


def lines(done: CompletedProcess[str]) -> list[str]:
    """Return what a command printed."""
    return done.stdout.splitlines()


@pytest.mark.first
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("mirror")
class TestPython:
    """One image for all that is asked of it: it takes half a minute to make."""

    pytestmark = NEEDS

    def test_python(self, sampan: Command) -> None:
        """Commands and paths as people's Dockerfiles use them; labels say what it is; twice is once; nothing is old."""
        sampan("bootstrap", "python:3.13-slim", check=True, timeout=300)
        script = (
            "command -v python python3 pip bash; python -V; pip --version; apt-get --version | head -1;"
            " python -c 'import ssl, sqlite3, venv, ctypes, lzma, sys; print(sys.prefix)'; dpkg --audit;"
            " ls /usr/lib/python3.13/EXTERNALLY-MANAGED 2>/dev/null; dpkg -s python3.13 | grep Status;"
            " python -m venv /tmp/v && /tmp/v/bin/pip --version; ls /usr/sbin/policy-rc.d 2>/dev/null;"
            " find /var/log /var/lib/apt/lists -type f; cat /etc/machine-id 2>/dev/null || true"
        )
        done = sampan("run", "--rm", "--network", "none", "python:3.13-slim", "bash", "-c", script, check=True)
        found = lines(done)
        assert found[:4] == [f"/usr/local/bin/{name}" for name in ("python", "python3", "pip")] + ["/usr/bin/bash"]
        assert found[4].startswith("Python 3.13.")
        assert "/usr/local/lib/python3.13/site-packages/pip" in found[5]
        assert found[6].startswith("apt ")
        assert found[7:9] == ["/usr/local", "Status: install ok installed"]
        assert "/tmp/v/lib" in found[9]
        assert found[10:] == []
        (image,) = json.loads(sampan("inspect", "python:3.13-slim", check=True).stdout)
        labels = image["Config"]["Labels"]
        assert labels["io.sampan.stands-in-for"] == "python:3.13-slim"
        assert labels["io.sampan.debian.suite"] == "trixie"
        assert labels["io.sampan.inside"].startswith("python3.13 3.13.")
        assert image["Config"]["Cmd"] == ["python3"]
        assert "PYTHONUNBUFFERED=1" not in image["Config"]["Env"]
        again = sampan("bootstrap", "-q", "python:3.13-slim", check=True, timeout=120)
        assert again.stdout.strip() == image["Id"]
        old = sampan("outdated", "--format", "json", check=True)
        (report,) = [json.loads(line) for line in lines(old)]
        assert (report["Image"], report["Outdated"]) == ("python:3.13-slim", [])
        assert report["Packages"] > 80


@pytest.mark.first
def test_errors(sampan: Command) -> None:
    """A Python that Debian does not have, a name without a recipe, an image without Debian: one clear error each."""
    done = sampan("bootstrap", "python:3.12-slim")
    assert done.returncode == 1
    assert "needs an image from a registry" in done.stderr
    done = sampan("bootstrap", "postgres")
    assert done.returncode == 1
    assert "there is no recipe" in done.stderr
    done = sampan("outdated", "nothing-here")
    assert done.returncode == 1
    assert "is not here" in done.stderr


@pytest.mark.bulk
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("mirror")
class TestServers:
    """The servers, each as a compose file uses it."""

    pytestmark = NEEDS

    def test_mysql(self, sampan: Command, tmp_path: Path) -> None:
        """Root, database, user and scripts as told; data outlives the container; a killed start begins anew."""
        (tmp_path / "1.sql").write_text("CREATE TABLE t (n INT); INSERT INTO t VALUES (7);", encoding="utf-8")
        tmp_path.chmod(0o755)
        sampan("bootstrap", "mysql:8.0", check=True, timeout=600)
        words = ["-e", "MYSQL_ROOT_PASSWORD=ro'o\"t\\", "-e", "MYSQL_DATABASE=my_db", "-e", "MYSQL_USER=user",
                 "-e", "MYSQL_PASSWORD=pass", "-v", "data:/var/lib/mysql",
                 "-v", f"{tmp_path}:/docker-entrypoint-initdb.d:ro"]  # fmt: skip
        sampan("run", "-d", "--name", "db", *words, "mysql:8.0", check=True)
        time.sleep(1.5)
        sampan("kill", "db", check=True)
        sampan("start", "db", check=True)
        assert _query(sampan, "SELECT n FROM t") == "7"
        assert _query(sampan, "INSERT INTO t VALUES (8); SELECT current_user()") == "user@%"
        sampan("rm", "-f", "db", check=True)
        sampan("run", "-d", "--name", "db", "-v", "data:/var/lib/mysql", "mysql:8.0", check=True)
        assert _query(sampan, "SELECT count(*) FROM t") == "2"
        refused = sampan("exec", "db", "mysql", "-h127.0.0.1", "-uroot", "-pwrong", "-e", "SELECT 1")
        assert refused.returncode != 0
        assert "999" in sampan("exec", "db", "sh", "-c", "grep Uid /proc/1/status", check=True).stdout
        sampan("rm", "-f", "db", check=True)
        done = sampan("run", "--rm", "mysql:8.0")
        assert done.returncode == 1
        assert "MYSQL_ROOT_PASSWORD" in done.stderr

    def test_redis(self, sampan: Command) -> None:
        """Others reach it without a password, its data outlive it, and it is nobody's root."""
        sampan("bootstrap", "redis", check=True, timeout=600)
        sampan("run", "-d", "--name", "cache", "-v", "cache:/data", "redis", check=True)
        address = _address(sampan, "cache")
        assert _eventually(sampan, "run", "--rm", "redis", "redis-cli", "-h", address, "set", "a", "5") == "OK"
        assert "999" in sampan("exec", "cache", "sh", "-c", "grep Uid /proc/1/status", check=True).stdout
        sampan("stop", "cache", check=True)
        sampan("start", "cache", check=True)
        assert _eventually(sampan, "exec", "cache", "redis-cli", "get", "a") == "5"
        sampan("rm", "-f", "cache", check=True)

    def test_nginx(self, sampan: Command, tmp_path: Path) -> None:
        """Pages, templates, logs on stdout, a stop at once."""
        sampan("bootstrap", "nginx:alpine", check=True, timeout=600)
        (tmp_path / "default.conf.template").write_text(
            'server { listen 80; location /who { return 200 "${WHO}"; } location / { root /usr/share/nginx/html; } }',
            encoding="utf-8",
        )
        tmp_path.chmod(0o755)
        sampan("run", "-d", "--name", "web", "-e", "WHO=me", "-p", "127.0.0.1:18099:80",
               "-v", f"{tmp_path}:/etc/nginx/templates:ro", "nginx:alpine", check=True)  # fmt: skip
        assert _fetch("http://127.0.0.1:18099/who") == b"me"
        assert b"nginx" in _fetch("http://127.0.0.1:18099/")
        assert "GET /who" in sampan("logs", "web", check=True).stdout
        began = time.monotonic()
        sampan("stop", "web", check=True)
        assert time.monotonic() - began < 9, "it was killed after ten seconds"
        sampan("rm", "web", check=True)


def _query(sampan: Command, statement: str) -> str:
    """Return the last line of what the server answers over the network."""
    words = ("exec", "db", "mysql", "-h127.0.0.1", "-uuser", "-ppass", "-N", "my_db", "-e", statement)
    return _eventually(sampan, *words)


def _eventually(sampan: Command, *words: str) -> str:
    deadline = time.monotonic() + 120
    while True:
        done = sampan(*words)
        if done.returncode == 0 or time.monotonic() > deadline:
            assert done.returncode == 0, done.stderr
            return lines(done)[-1]
        time.sleep(0.3)


def _address(sampan: Command, name: str) -> str:
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    return str(found["NetworkSettings"]["IPAddress"])


def _fetch(url: str) -> bytes:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
