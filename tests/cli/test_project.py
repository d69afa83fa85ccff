"""`sampan run PATH` and `sampan build`, from a directory to an answer on a port."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.network]

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SAMPAN = os.path.join(os.path.dirname(sys.executable), "sampan")
APP = """\
from flask import Flask

app = Flask(__name__)

@app.route('/')
def hello_world():
    return 'Hello, Docker!'

if __name__ == '__main__':
    app.run(debug=True, host='0.0.0.0', port=%d)
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def port(place: str) -> int:
    """Make a Flask project at PLACE/hello that listens on a port nobody has; return the port."""
    found = _free_port()
    os.mkdir(f"{place}/hello")
    with open(f"{place}/hello/app.py", "w", encoding="ascii") as file:
        file.write(APP % found)
    with open(f"{place}/hello/requirements.txt", "w", encoding="ascii") as file:
        file.write("Flask\n")
    return found


@pytest.fixture
def clean(sampan: Command) -> Iterator[Command]:
    """Return `sampan`; no container outlives the test."""
    yield sampan
    if left := sampan("ps", "-aq").stdout.split():
        sampan("rm", "-f", *left)


def _fetch(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5) as answer:
        return bytes(answer.read())


def test_a_directory_becomes_a_service(clean: Command, environment: dict[str, str], place: str, port: int) -> None:
    """Run PATH says what it found and why, answers at its URL, ends at once on Ctrl-C, and leaves no container.

    Then the image is in the cache: -d, a build by name, and its id alone by -q come from the same layers.
    """
    argv = [SAMPAN, "run", "./hello"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=place, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "running at" in line:
                break
        assert f"running at http://127.0.0.1:{port} (Ctrl-C stops it)" in said
        assert "app:app: a Flask object is bound here (app.py:3)" in said
        assert "never the debugger or the reloader" in said
        assert _fetch(port) == b"Hello, Docker!"
        row = json.loads(clean("ps", "--format", "json").stdout)
        assert row["Ports"] == f"127.0.0.1:{port}->{port}/tcp"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        # A second for the person; the rest is for a busy machine.
        assert time.monotonic() - began < 2
    assert clean("ps", "-aq").stdout == ""

    done = clean("run", "-d", "--name", "web", "./hello", cwd=place, check=True)
    assert len(done.stdout) == 65
    assert f"running at http://127.0.0.1:{port}\n" in done.stderr
    assert _fetch(port) == b"Hello, Docker!"
    taken = clean("run", "./hello", cwd=place)
    assert taken.returncode == 125
    assert f"error: port {port} is in use" in taken.stderr
    assert f"hint: `sampan run -p 127.0.0.1:{port + 1}:{port} ./hello`" in taken.stderr

    built = clean("build", "-t", "hello:1", "-q", "./hello", cwd=place, check=True)
    assert json.loads(clean("inspect", "hello:1").stdout)[0]["Id"] == built.stdout.strip()
    assert built.stderr == ""
    told = clean("build", "-t", "hello:2", "--locked", "--iidfile", f"{place}/iid", "./hello", cwd=place, check=True)
    assert "built hello:2 (" in told.stderr
    with open(f"{place}/iid", encoding="ascii") as file:
        assert file.read() == built.stdout.strip()
    assert clean("run", "--rm", "hello:1", "python", "-c", "print(6*7)").stdout == "42\n"


def test_the_plan_as_a_dockerfile(sampan: Command, place: str, port: int) -> None:
    """--emit-dockerfile prints the plan and builds nothing."""
    done = sampan("build", "--emit-dockerfile", "./hello", cwd=place, check=True)
    assert f"EXPOSE {port}\n" in done.stdout
    assert sampan("images", "-q").stdout == ""
    assert not os.path.exists(f"{place}/hello/sampan.lock")


@pytest.mark.parametrize("command", [("run",), ("build",)])
def test_a_directory_that_is_no_project(sampan: Command, place: str, command: tuple[str, ...]) -> None:
    """A directory without Python in it is one clear error that says what was looked for."""
    os.mkdir(f"{place}/empty")
    done = sampan(*command, "./empty", cwd=place)
    assert done.returncode == (125 if command == ("run",) else 1)
    assert "error: there is no Python project in `./empty`" in done.stderr
    assert "hint: looked for: " in done.stderr


def test_a_wrong_flag_is_told_before_the_build(sampan: Command, place: str, port: int) -> None:
    """What is wrong in run's flags shows before anything is built."""
    done = sampan("run", "-m", "12q", "./hello", cwd=place)
    assert done.returncode == 125
    assert "`-m, --memory` cannot be `12q`" in done.stderr
    assert "Flask" not in done.stderr


def test_a_script_that_ends_is_a_status(clean: Command, place: str) -> None:
    """A project without a port runs like a command: its output, its arguments, its status, and nothing left."""
    os.mkdir(f"{place}/job")
    with open(f"{place}/job/main.py", "w", encoding="ascii") as file:
        file.write("import sys\nprint('done', sys.argv[1:])\nsys.exit(4)\n")
    done = clean("run", "./job", cwd=place)
    assert (done.returncode, done.stdout) == (4, "done []\n")
    assert "running at" not in done.stderr
    assert clean("ps", "-aq").stdout == ""
    assert clean("run", "-q", "./job", "python", "-c", "print(1)", cwd=place).stdout == "1\n"
