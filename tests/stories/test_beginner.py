"""Each command and file of the article as a beginner mistypes it: one error with the way out, and nothing is made.

Three tables: words, Dockerfiles, compose files. No registry is in reach; a place in a file is `file:line`.
"""

import os
import signal
import socket
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.ground import PROGRAM, Command, command_in
from tests.stories.conftest import refused, write_project

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip

Images = Callable[[], set[str]]

NO_CONTAINER = ("there is no container `web`", "`sampan ps -a`")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the article's directory: an application that every build here finds, on busybox."""
    directory = tmp_path / "my_python_project"
    directory.mkdir()
    write_project(directory)
    (directory / "Dockerfile").write_text("FROM busybox\nWORKDIR /app\nCOPY . /app\n", encoding="utf-8")
    return directory


@pytest.fixture
def beginner(shared: Command, lasting: dict[str, str], shared_busybox: str) -> Command:
    """Return `sampan` where `busybox` and `my_python_app` are here, and no registry is in reach."""
    shared("tag", shared_busybox, "my_python_app", check=True)
    return command_in(lasting | dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:1"))


# ------------------------------------------------------------------------------------------------------------ words
@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        # Build
        ("build", 1, ("takes the PATH of a directory", "`sampan build .`")),
        ("build -t", 125, ("`-t, --tag` needs a value", "`sampan build --help`")),
        ("build -t my_python_app", 1, ("none was given", "`sampan build .`")),
        ("build -t my_python_app.", 1, ("none was given", "did you mean `sampan build -t my_python_app .`?")),
        ("build -t My_App .", 125, ("has upper-case letters", "write `my_app`")),
        ("build -t my_python_app . .", 1, ("takes 0 to 1 arguments, not 2", "usage: ")),
        ("build -t x ../my_python_projekt", 1, ("`../my_python_projekt`", "did you mean `../my_python_project`?")),
        ("build -t x my_python_project", 1, ("there is no directory `my_python_project`", "which is `.`")),
        ("build -t x app.py", 1, ("`app.py` is not a directory", "the context is often the directory here: `.`")),
        ("build -f Dockerfil .", 1, ("there is no Dockerfile `Dockerfil`", "did you mean `-f ./Dockerfile`?")),
        ("biuld .", 1, ("unknown command: `biuld`", "did you mean `sampan build`?")),
        ("lint nowhere", 1, ("there is no directory `nowhere`", "which is `.`")),
        # Run
        ("run", 1, ("`sampan run` takes at least 1 argument, not 0", "usage: `sampan run [OPTIONS] IMAGE|PATH")),
        ("run -p 5000:5000", 1, ("`sampan run` takes at least 1 argument, not 0", "IMAGE|PATH")),
        ("run -p my_python_app", 1, ("takes at least 1 argument, not 0", "IMAGE|PATH")),
        ("run -p 5000:5OOO my_python_app", 125, ("`5OOO` is not a port", "`8000:5000`")),
        ("run -p 50000000:5000 my_python_app", 125, ("`50000000` is not a port", "`8000:5000`")),
        ("run my_python_ap", 125, ("`my_python_ap:latest`", "did you mean `my_python_app`?")),
        ("run my_python_app:1.0", 125, ("`my_python_app:1.0`", "did you mean `my_python_app`?")),
        ("run My_Python_App", 125, ("has upper-case letters", "write `my_python_app`")),
        ("run python:3.9-slim", 125, ("`docker.io` cannot be reached", "`sampan bootstrap python:3.9-slim`")),
        ("run hello-world", 125, ("the registry `docker.io` cannot be reached", "`mirrors = ")),
        ("run ./my_python_projekt", 125, ("there is no directory `./my_python_projekt`", "which is `.`")),
        ("run my_python_app -p 5000:5000", 127, ("the command `-p` was not found", "stand before the image")),
        ("run my_python_app pyhton app.py", 127, ("the command `pyhton` was not found", "the image must have it")),
        ("run -v", 125, ("`-v, --volume` needs a value", "`sampan run --help`")),
        ("run -v data:container/path my_python_app", 125, ("`data:container/path` is no volume", "`name:/in/it`")),
        ("run -v host/path:/container my_python_app", 125, ("`host/path` cannot be a name", "`./host/path`")),
        ("run -v /host/path:/x:rw0 my_python_app", 125, ("`rw0` in the volume", "`ro` makes it read-only")),
        ("run --memory=512x my_python_app", 125, ("`512x` is not a size", "`64m`, `1.5g`, `512k`")),
        ("run --memory my_python_app true", 125, ("`-m, --memory` cannot be `my_python_app`", "`64m`")),
        ("run --memory=512 my_python_app", 125, ("a memory limit must be at least 6 MiB", "`--memory 64m`")),
        ("run --memmory=512m my_python_app", 125, ("unknown flag: `--memmory`", "did you mean `--memory`?")),
        ("run --cpus=abc my_python_app", 125, ("`abc` is not a number of CPUs", "`0.5` or `2`")),
        ("run --cpus=0,5 my_python_app", 125, ("`0,5` is not a number of CPUs", "`0.5` or `2`")),
        ("run --cpus=1000 my_python_app", 125, ("processor", "`--cpus` is 0.01 to ")),
        ("run --cpu=0.5 my_python_app", 125, ("unknown flag: `--cpu`", "did you mean `--cpus`?")),
        # Containers
        ("exec web python", 1, NO_CONTAINER),
        ("exec web", 1, ("`sampan exec` takes at least 2 arguments, not 1", "usage: ")),
        ("logs web", 1, NO_CONTAINER),
        ("logs", 1, ("`sampan logs` takes 1 argument, not 0", "usage: ")),
        ("stop web", 1, NO_CONTAINER),
        ("stop", 1, ("`sampan stop` takes at least 1 argument, not 0", "usage: ")),
        ("rm web", 1, NO_CONTAINER),
        ("volume rm nots", 1, ("there is no volume `nots`", "`sampan volume ls`")),
        # Images
        ("rmi my_python_ap", 1, ("`my_python_ap` is not here", "did you mean `my_python_app`?")),
        ("save -o x.tar my_python_ap", 1, ("`my_python_ap` is not here", "did you mean `my_python_app`?")),
        ("load -i app.tar", 1, ("there is no file `app.tar`", "`-` is stdin")),
        ("bootstrap", 1, ("takes at least 1 argument, not 0", "usage: ")),
        ("bootstrap pyton:3.9-slim", 1, ("no recipe for a stand-in of `pyton:3.9-slim`", "did you mean `python`?")),
        ("bootstrap python:3.10-slim", 1, ("no Python 3.10", "3.9 (bullseye), 3.11 (bookworm), 3.13 (trixie)")),
        # Compose
        ("compose up -d", 1, ("there is no compose file here", "make a `compose.yaml`")),
        ("compose -f docker-compose.yml up -d", 1, ("there is no file `docker-compose.yml`", "`ls .`")),
        ("compose upp", 1, ("unknown command: `compose upp`", "did you mean `sampan compose up`?")),
        ("compose -d up", 125, ("unknown flag: `-d`", "`sampan compose --help`")),
        ("compose exec web", 1, ("takes at least 2 arguments, not 1", "usage: ")),
    ],
)  # fmt: skip
def test_words(
    beginner: Command, images: Images, project: Path, *, line: str, status: int, words: tuple[str, ...]
) -> None:
    """A command with a word that is missing, too many or wrong has docker's status, and names the right one."""
    before = images()
    refused(beginner(*line.split(), cwd=project), status, *words)
    assert images() == before
    if status == 127:  # as with docker it stays as created
        beginner("rm", *beginner("ps", "-aq", check=True).stdout.split(), check=True)
    assert sorted(os.listdir(project)) == ["Dockerfile", "app.py", "requirements.txt"]


def test_a_port_in_use(beginner: Command) -> None:
    """The article's port, that another program has: who has it, and the port beside it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = beginner("run", "--rm", "-p", f"{port}:5000", "my_python_app", "true")
        refused(done, 125, f"port {port} is in use by `", f"(pid {os.getpid()})", f"`-p {port + 1}:5000`")


def test_a_volume_without_a_slash(beginner: Command) -> None:
    """`-v name:/path` is a named volume, as with docker, and no directory here: `volume ls` shows it."""
    beginner("run", "--rm", "-v", "relative:/x", "busybox", "touch", "/x/file", check=True)
    assert beginner("volume", "ls", "-q", check=True).stdout == "relative\n"
    assert beginner("run", "--rm", "-v", "relative:/x", "busybox", "ls", "/x", check=True).stdout == "file\n"
    beginner("volume", "rm", "relative", check=True)


# ------------------------------------------------------------------------------------------------------ Dockerfiles
@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM busybox\nCOPY. /app\n", 2, ("there is no blank after `COPY`", "did you mean `COPY . /app`?")),
        ("FROM busybox\nCOPY /app\n", 2, ("COPY needs a source and a destination", "`COPY SOURCE DESTINATION`")),
        ("FROM busybox\nCOPY requirement.txt /app/\n", 2, ("not in the build context", "mean `requirements.txt`?")),
        ("FROM busybox\nCOPY app.py config.py /app\n", 2, ("ends in no slash", "write `/app/`")),
        ("FROM busybox\nCOPY ../config.py /app\n", 2, ("not in the build context", "COPY cannot leave")),
        ("FRM busybox\n", 1, ("unknown instruction `FRM`", "did you mean `FROM`?")),
        ("FROM\n", 1, ("FROM has nothing after it", "`FROM python:3.13-slim`")),
        ("FROM python 3.9\n", 1, ("not `python 3.9`", "write `FROM IMAGE`")),
        ("FROM python:3.9-slim\n", 1, ("`docker.io` cannot be reached", "`sampan bootstrap python:3.9-slim`")),
        ("RUN true\nFROM busybox\n", 1, ("RUN stands before the first FROM", "begin with a base")),
        ("\n", None, ("the Dockerfile is empty", "`FROM python:3.13-slim`")),
        ("FROM busybox\nWORKDIR\n", 2, ("WORKDIR has nothing after it", "`WORKDIR /app`")),
        ("FROM busybox\nEXPOSE five\n", 2, ("`five` is no port", "`EXPOSE 5000`")),
        ("FROM busybox\nRUN\n", 2, ("RUN has nothing after it", "`RUN pip install -r requirements.txt`")),
        ("FROM busybox\nRUNN true\n", 2, ("unknown instruction `RUNN`", "did you mean `RUN`?")),
        ("FROM busybox\nRUN pip install Flask\n", 2, ("ended with status 127", "pip: not found", "take a base that")),
        ("FROM busybox\nCOPY app.py /\nRUN cat requirements.txt\n", 3, ("can't open", "build again")),
        ("FROM busybox\nRUN exit 7\n", 2, ("`exit 7` ended with status 7", "build again")),
    ],
)  # fmt: skip
def test_dockerfiles(
    beginner: Command, images: Images, project: Path, *, text: str, line: int | None, words: tuple[str, ...]
) -> None:
    """A Dockerfile with a slip ends the build with 1, at its line; no image is made."""
    (project / "Dockerfile").write_text(text, encoding="utf-8")
    before = images()
    where = "Dockerfile" if line is None else f"Dockerfile:{line}"
    refused(beginner("build", "-t", "never", ".", cwd=project), 1, f"\n  at {where}\n", *words)
    assert images() == before


# ---------------------------------------------------------------------------------------------------- compose files
WEB = "services:\n  web:\n    image: busybox\n"


@pytest.mark.parametrize(
    ("text", "words", "line", "said"),
    [
        ("services:\n  web:\n    build:.\n", "up -d", 3, ("no space after the colon", "write `build: .`")),
        ("services:\n\tweb:\n\t\timage: busybox\n", "up -d", 2, ("a tab indents this line", "YAML wants spaces")),
        ("services:\n  web:\n  image: busybox\n", "up -d", 2, ("`services.web` must be a mapping", "two more spaces")),
        ("services:\nweb:\n  image: busybox\n", "up -d", 1, ("`services` must be a mapping", "two more spaces")),
        (f"{WEB}   ports:\n      - '5000:5000'\n", "up -d", 4, ("indented by 3 spaces", "after 0 or 2 or 4 spaces")),
        ("service:\n  web:\n    image: busybox\n", "up -d", 1, ("the key `service` is unknown", "mean `services`?")),
        ("", "up -d", None, ("the compose file is empty", "it needs a key `services:`")),
        (f"{WEB}    port: ['5000:5000']\n", "up -d", 4, ("the key `port` in `services.web`", "mean `ports`?")),
        (f"{WEB}    ports: 5000:5000\n", "up -d", 4, ("`services.web.ports` must be a list", "as `- VALUE`")),
        (f"{WEB}    ports:\n      - '5000:abc'\n", "up -d", 5, ("`5000:abc` is no port", '`"8000:80"`')),
        (f"{WEB}    ports:\n      - '70000:5000'\n", "up -d", 5, ("not within 1 to 65535", '`"8000:80"`')),
        (f"{WEB}    depends_on:\n      - db\n", "up -d", 4, ("there is no service `db`", "add it under `services:`")),
        (f"{WEB}    environment:\n      A= x\n", "up -d", 5, ("must be a mapping", "`KEY: VALUE`")),
        (f"{WEB}    volumes:\n      - data:/data\n", "up -d", 4, ("there is no volume `data`", "`volumes: {data: }`")),
        (f"{WEB}    mem_limit: 512x\n", "up -d", 4, ("`512x` is not a size", "`64m`, `1.5g`, `512k`")),
        ("services:\n  web:\n    command: x\n", "up -d", 2, ("neither an image nor a build context", "`build: .`")),
        ("services:\n  web:\n    build: ./nowhere\n", "up -d", 3, ("there is no directory", "`.` is that directory")),
        (WEB, "up -d wbe", None, ("no such service: `wbe`", "did you mean `web`?")),
        (WEB, "logs wbe", None, ("no such service: `wbe`", "did you mean `web`?")),
        (WEB, "stop wbe", None, ("no such service: `wbe`", "did you mean `web`?")),
        (WEB, "exec wbe sh", None, ("no such service: `wbe`", "did you mean `web`?")),
        (WEB, "exec web sh", None, ('service "web" is not running', "`sampan compose up -d web`")),
        ("services:\n  db:\n    image: mysql:8.0\n", "up -d", 3, ("`mysql:8.0`", "`sampan bootstrap mysql:8.0`")),
    ],
)  # fmt: skip
def test_compose_files(
    beginner: Command, tmp_path: Path, text: str, *, words: str, line: int | None, said: tuple[str, ...]
) -> None:
    """A compose file with a slip, or a service that it does not have, ends with 1, at its line; nothing is made."""
    (tmp_path / "docker-compose.yml").write_text(text, encoding="utf-8")
    places = () if line is None else (f"\n  at docker-compose.yml:{line}\n",)
    refused(beginner("compose", *words.split(), cwd=tmp_path), 1, *places, *said)


# ------------------------------------------------------------------------------------------- a database that sleeps
NOT_READY = """\
services:
  web:
    image: busybox
    command: sh -c 'nc -w 1 db 3306 </dev/null || { echo "cannot connect to the database on db"; exit 1; }'
    depends_on: [db]
  db:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
"""


def compose(beginner: Command, directory: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return `sampan compose` in a directory."""
    return lambda *words, **more: beginner("compose", *words, cwd=directory, **more)


def test_a_database_that_is_not_ready(beginner: Command, lasting: dict[str, str], tmp_path: Path) -> None:
    """A web service that ends since its database does not answer yet: `up`, `ps` and `logs` say so, with its status."""
    (tmp_path / "docker-compose.yml").write_text(NOT_READY, encoding="utf-8")
    run = compose(beginner, tmp_path)
    with subprocess.Popen(
        [PROGRAM, "compose", "up"], cwd=tmp_path, env=lasting, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as up:
        assert up.stdout is not None
        while "exited with code" not in (line := up.stdout.readline()):
            assert line, "up ended before the web service did"
        assert line == "web-1 exited with code 1\n"
        up.send_signal(signal.SIGINT)
        _, complaint = up.communicate(timeout=30)
    assert up.returncode in {0, 130}
    assert "Traceback" not in complaint
    assert "Exited (1)" in run("ps", "-a", check=True).stdout
    assert "web-1  | cannot connect to the database on db\n" in run("logs", "web", check=True).stdout
    run("down", check=True)


@pytest.mark.parametrize(
    ("command", "said"),
    [("sleep 1000", "container {}-db-1 is unhealthy"), ("sh -c 'exit 1'", "container {}-db-1 exited (1)")],
)
def test_a_database_that_never_is(beginner: Command, tmp_path: Path, command: str, said: str) -> None:
    """A service that waits for a healthy database is not begun where that cannot be; the error leads to its log."""
    project = tmp_path / "shop"
    project.mkdir()
    (project / "docker-compose.yml").write_text(
        textwrap.dedent(f"""\
        services:
          web:
            image: busybox
            command: "true"
            depends_on: {{db: {{condition: service_healthy}}}}
          db:
            image: busybox
            command: {command}
            stop_grace_period: 0s
            healthcheck: {{test: "exit 1", interval: 0.2s, retries: 2}}
        """),
        encoding="utf-8",
    )
    run = compose(beginner, project)
    done = run("up", "-d")
    refused(done, 1, f"dependency failed to start: {said.format('shop')}", "`sampan logs shop-db-1`", ":2\n")
    assert "shop-web-1" not in beginner("ps", "-a", check=True).stdout
    run("down", check=True)
