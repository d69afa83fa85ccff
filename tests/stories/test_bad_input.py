"""Bad input, as people give it: each ends with one clear error and docker's status, and leaves nothing behind.

What one room alone can show is tested there: flags and commands in cli, tampered packages in build, crashes in engine.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Store
from tests.stories.conftest import refused

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip

SAMPAN = os.path.join(os.path.dirname(sys.executable), "sampan")
FLASK = "from flask import Flask\n\napp = Flask(__name__)\n\nif __name__ == '__main__':\n    app.run(port=5000)\n"
PROJECTS = {
    "empty": {},
    "hello": {"app.py": FLASK, "requirements.txt": "Flask\n"},
    "typo": {"app.py": FLASK, "requirements.txt": "# ours\nFlask\nno-such-package-anywhere==1.0\n"},
    "future": {"main.py": "", "pyproject.toml": '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.99"\n'},
    "past": {"main.py": "", "pyproject.toml": '[project]\nname = "x"\nversion = "1"\nrequires-python = "==3.10.*"\n'},
    "script": {"main.py": "print('hello')\n"},
    "broken": {"main.py": "print('hello'\n"},
}


@pytest.fixture
def projects(place: str) -> str:
    """Make all the projects; return the directory that they are in."""
    for name, files in PROJECTS.items():
        os.mkdir(f"{place}/{name}")
        for path, content in files.items():
            Path(f"{place}/{name}/{path}").write_text(content, encoding="utf-8")
    return place


def leftovers(sampan: Command, store: Store) -> list[str]:
    """Name what is left after the next commands: one folds the end of a --rm container whose monitor has left."""
    deadline = time.monotonic() + 5
    while sampan("ps", "-aq", check=True).stdout or store.containers():
        assert time.monotonic() < deadline, f"containers stay: {store.containers()}"
    return store.leftovers()


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("run ./empty", 125, ("there is no Python project in `./empty`", "looked for: ")),
        ("build ./empty", 1, ("there is no Python project in `./empty`",)),
        ("run hello", 125, ("image `hello` is not here", "`sampan run ./hello` builds and runs it")),
        ("run ./future", 125, ("`>=3.99`", "at pyproject.toml:4\n", "Debian's releases have 3.13, 3.11, 3.9")),
        ("run ./past", 125, ("`==3.10.*`", "at pyproject.toml:4\n")),
        ("build ./broken", 1, ("`main.py` is not valid Python", "at main.py:1\n    1 | print('hello'\n")),
        ("run --memry 64m ./hello", 125, ("unknown flag: `--memry`", "did you mean `--memory`?")),
        ("rnu ./hello", 1, ("unknown command: `rnu`", "did you mean `sampan run`?")),
    ],
)
def test_projects_and_words(sampan: Command, projects: str, line: str, status: int, words: tuple[str, ...]) -> None:
    """What is wrong before anything is made makes nothing, not even a store, and names place and way out."""
    refused(sampan(*line.split(), cwd=projects), status, *words)
    assert not os.path.exists(f"{projects}/hello/sampan.lock")
    assert sampan("images", "-q", check=True).stdout == ""


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("run --rm --memory 1 busybox true", 125, ("a memory limit must be at least 6 MiB", "`--memory 64m`")),
        ("run --rm --cpus 1000 busybox true", 125, ("processor", "`--cpus` is 0.01 to ")),
        ("run --rm busybox no-such", 127, ("`no-such` was not found in the container's `PATH`",)),
        ("run --rm busybox /no/such", 127, ("`/no/such`",)),
        ("run --rm busybox /etc", 126, ("`/etc` cannot be executed",)),
        ("run --rm busybox /etc/passwd", 126, ("`/etc/passwd` cannot be executed",)),
        ("run --rm -v PLACE:/x busybox /x/garbage", 126, ("`/x/garbage` cannot be executed",)),
        ("run --rm --mount type=bind,source=/no/such,target=/x busybox true", 125, ("`/no/such`",)),
        ("run --rm -v /proc:/x busybox true", 125, ("`/proc` (proc) cannot be idmapped", "`--userns=host`")),
        ("run --rm -v PLACE/garbage:/etc busybox true", 125, ("mount `/etc`", "is a directory", "a file can")),
        ("run --rm --dns nonsense busybox true", 125, ("`--dns` cannot be `nonsense`", "`192.0.2.53`")),
        ("run --rm -u nobody-here busybox true", 125, ("`nobody-here`",)),
        ("run --rm --network nowhere busybox true", 125, ("`nowhere`",)),
        ("run --rm --cap-add FLY busybox true", 125, ("`FLY`",)),
        ("run --rm --security-opt seccomp=/no/such busybox true", 125, ("`/no/such`",)),
        ("run --rm --runtime no-such-runtime busybox true", 125, ("`no-such-runtime`",)),
    ],
)
def test_what_cannot_run(
    sampan: Command, store: Store, place: str, *, busybox: str, line: str, status: int, words: tuple[str, ...]
) -> None:
    """A run that cannot begin has docker's status, says why, and leaves no container, id, address or directory."""
    with open(f"{place}/garbage", "wb", opener=lambda path, flags: os.open(path, flags, 0o755)) as file:
        file.write(b"\0garbage")
    done = sampan(*line.replace("PLACE", place).split())
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    if status == 125:
        assert "\nhint: " in done.stderr
    assert leftovers(sampan, store) == []


def test_what_cannot_run_stays_as_created(sampan: Command, store: Store, busybox: str) -> None:
    """Without --rm a container that could not begin stays, as with docker: it is shown, inspected and removed."""
    assert sampan("run", "--name", "bad", "busybox", "no-such").returncode == 127
    assert "Created" in sampan("ps", "-a", check=True).stdout
    assert "no-such" in sampan("inspect", "bad", check=True).stdout
    assert sampan("start", "bad").returncode == 1
    assert sampan("rm", "bad", check=True).stdout == "bad\n"
    assert leftovers(sampan, store) == []


@pytest.mark.parametrize(
    ("line", "status"), [("exec web no-such", 127), ("exec web /etc", 126), ("exec -u nobody-here web true", 1)]
)
def test_what_cannot_be_executed_inside(sampan: Command, store: Store, busybox: str, line: str, status: int) -> None:
    """An exec that cannot begin has docker's status, and the container goes on."""
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "1000", check=True)
    done = sampan(*line.split())
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert sampan("exec", "web", "echo", "on", check=True).stdout == "on\n"
    sampan("rm", "-f", "web", check=True)
    assert leftovers(sampan, store) == []


@pytest.fixture
def taken() -> Iterator[int]:
    """Yield a port on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_port_in_use(sampan: Command, store: Store, busybox: str, taken: int) -> None:
    """A port that somebody listens on is refused with that process's name, and another is suggested."""
    done = sampan("run", "--rm", "-p", f"{taken}:80", "busybox", "true")
    refused(done, 125, f"port {taken} is in use by `", f"(pid {os.getpid()})", f"`-p {taken + 1}:80`")
    assert leftovers(sampan, store) == []


def test_a_port_of_another_container(sampan: Command, store: Store, busybox: str, taken: int) -> None:
    """Two containers cannot publish one port; when the first is gone the second can."""
    port = f"127.0.0.1:{taken + 1}:80"
    sampan("run", "-d", "--name", "first", "-p", port, "busybox", "sleep", "1000", check=True)
    refused(sampan("run", "--rm", "-p", port, "busybox", "true"), 125, f"port {taken + 1} is in use")
    sampan("rm", "-f", "first", check=True)
    sampan("run", "--rm", "-p", port, "busybox", "true", check=True)
    assert leftovers(sampan, store) == []


@pytest.fixture
def unmappable(place: str) -> Iterator[str]:
    """Yield a directory on a file system that no kernel idmaps: an overlay with a file in it."""
    where = f"{place}/overlay"
    for name in ("", "/lower", "/upper", "/work", "/merged"):
        os.mkdir(f"{where}{name}")
    Path(f"{where}/lower/file").write_text("content\n", encoding="ascii")
    options = f"lowerdir={where}/lower,upperdir={where}/upper,workdir={where}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", f"{where}/merged"], check=True)
    yield f"{where}/merged"
    subprocess.run(["umount", f"{where}/merged"], check=True)


def test_a_bind_source_that_cannot_be_idmapped(sampan: Command, store: Store, busybox: str, unmappable: str) -> None:
    """A directory of an overlay is refused with a hint, and what the hint says works."""
    bind = ("-v", f"{unmappable}:/x")
    done = sampan("run", "--rm", *bind, "busybox", "cat", "/x/file")
    refused(done, 125, f"`{unmappable}` (overlay) cannot be idmapped", "`--userns=host`")
    done = sampan("run", "--rm", "--userns=host", *bind, "busybox", "cat", "/x/file", check=True)
    assert done.stdout == "content\n"
    assert leftovers(sampan, store) == []


@pytest.mark.parametrize("missing", ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"])
def test_a_limit_without_its_controller(
    sampan: Command, environment: dict[str, str], store: Store, busybox: str, missing: str
) -> None:
    """Where the memory controller is missing, --memory is refused, and nobody who asked for none is bothered."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        script = f'umount --lazy {missing} || umount --lazy /sys/fs/cgroup; exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", script, "sh", SAMPAN, "run", "--rm", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)

    done = run("--memory", "64m", "busybox", "true")
    refused(done, 125, "`--memory` cannot be applied here", "`memory` is not available", "run without `--memory`")
    assert run("busybox", "echo", "ran").stdout == "ran\n"
    assert leftovers(sampan, store) == []


# A user namespace that has all ids and may have no further one; the caller's ids are written from outside it.
NO_USERNS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    # Device rules of cgroup v1 are for the machine's own root.
    assert libc.unshare(0x20000) == 0
    libc.mount(b"", b"/", b"", 0x44000, None)
    libc.umount2(b"/sys/fs/cgroup/devices", 2)
    assert libc.unshare(0x10000000 | 0x20000 | 0x40000000) == 0, os.strerror(ctypes.get_errno())
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    os.execv(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write("0 0 4294967295")
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_kernel_without_user_namespaces(
    sampan: Command, environment: dict[str, str], store: Store, busybox: str
) -> None:
    """Where no user namespace can be made the error names the sysctl, and --userns=host works."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-c", NO_USERNS, SAMPAN, "run", "--rm", "--network", "none", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)

    refused(run("busybox", "true"), 125, "user namespace", "`sysctl user.max_user_namespaces=", "`--userns=host`")
    done = run("--userns=host", "busybox", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert leftovers(sampan, store) == []


def _without_network(environment: dict[str, str], cwd: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a network namespace of its own, in which there is not even a loopback."""
    return subprocess.run(
        ["unshare", "--net", SAMPAN, *words], env=environment | {"UV_HTTP_RETRIES": "0"}, cwd=cwd,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("project", "words"),
    [
        ("hello", ("the Python package index cannot be reached", "`pip config set global.index-url URL`")),
        ("script", ("the Debian mirror cannot be reached", "`apt-get update`")),
    ],
)
def test_no_network(
    environment: dict[str, str], sampan: Command, projects: str, project: str, words: tuple[str, ...]
) -> None:
    """Without a network a first build says which of the two it cannot reach and how to see that, and makes nothing."""
    refused(_without_network(environment, projects, "build", f"./{project}"), 1, *words)
    refused(_without_network(environment, projects, "run", f"./{project}"), 125, *words)
    assert not os.path.exists(f"{projects}/{project}/sampan.lock")
    assert _of_builds(environment["SAMPAN_ROOT"]) == []
    assert sampan("images", "-q", check=True).stdout == ""


@pytest.mark.network
def test_a_requirement_that_does_not_exist(sampan: Command, environment: dict[str, str], projects: str) -> None:
    """A requirement that no index has is named with the line that asks for it, and the project is as it was."""
    done = sampan("build", "./typo", cwd=projects)
    refused(done, 1, "`no-such-package-anywhere`", "at requirements.txt:3\n    3 | no-such-package-anywhere==1.0\n")
    assert sorted(os.listdir(f"{projects}/typo")) == ["app.py", "requirements.txt"]
    assert _of_builds(environment["SAMPAN_ROOT"]) == []


def _of_builds(root: str) -> list[str]:
    """Name what a build left in its scratch directory, or half written in the store."""
    return [
        f"{directory}/{name}"
        for directory in ("cache/scratch", "blobs/partial")
        if os.path.isdir(f"{root}/{directory}")
        for name in os.listdir(f"{root}/{directory}")
    ]
