"""A normal user: somebody whom Debian has, with a Sampan of his own, who runs commands and programs as himself."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
# He owns nothing and runs nothing; a name, since newuidmap wants one.
USER = "games"
UID, GID = pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid
PROGRAM = "from sampan.cli.app import main; sys.exit(main())"


class Person:
    """Runs `sampan WORDS` when it is called, and `python` text, as a normal user, in `place`."""

    def __init__(self, place: str, environment: dict[str, str]) -> None:
        self.place = place
        self.environment = environment
        self._interpreter = _interpreter()
        subprocess.run([self._interpreter, "-I", "-S", "-m", "compileall", "-q", f"{place}/src"], check=True)

    def __call__(
        self, *words: str, check: bool = False, fault: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of ours."""
        return self.python(PROGRAM, *words, check=check, fault=fault, timeout=timeout)

    def python(
        self, program: str, *words: str, check: bool = False, fault: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python program that finds this package."""
        start = f"import sys; sys.path.insert(0, sys.argv.pop(1))\n{program}"
        done = subprocess.run(
            [self._interpreter, "-I", "-S", "-c", start, f"{self.place}/src", *words],
            env=self.environment | ({"SAMPAN_FAULT": fault} if fault else {}),
            user=UID, group=GID, extra_groups=[], capture_output=True, text=True, timeout=timeout, check=False, cwd="/",
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stderr
        return done


@pytest.fixture
def user(place: str, environment: dict[str, str], busybox_tar: str) -> Iterator[Person]:
    """Yield a normal user who has busybox; in the end his holder is gone too."""
    os.chmod(place, 0o755)  # noqa: S103 - a normal user passes through
    shutil.copytree(f"{SOURCE}/sampan", f"{place}/src/sampan", ignore=shutil.ignore_patterns("__pycache__"))
    tar = shutil.copy(busybox_tar, f"{place}/busybox.tar")
    os.chmod(tar, 0o644)
    for name in ("r", "n"):
        os.chown(f"{place}/{name}", UID, GID)
    ours = {"PATH": "/usr/bin:/bin", "HOME": place, "XDG_RUNTIME_DIR": f"{place}/n"}
    ours |= {key: value for key, value in environment.items() if key.startswith("SAMPAN_")}
    person = Person(place, ours)
    person("import", f"{place}/busybox.tar", "busybox", check=True)
    yield person
    end_holder(f"{place}/n")


@pytest.fixture
def subordinate() -> Iterator[None]:
    """Give the user a range in /etc/subuid and /etc/subgid for the length of a test."""
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed")
    before = {}
    for path in ("/etc/subuid", "/etc/subgid"):
        before[path] = Path(path).read_text(encoding="utf-8") if os.path.exists(path) else ""
        Path(path).write_text(f"{before[path]}{USER}:1500000:65536\n", encoding="utf-8")
    yield
    for path, text in before.items():
        Path(path).write_text(text, encoding="utf-8")


@pytest.fixture(params=["single", "range"])
def subordinates(request: pytest.FixtureRequest) -> str:
    """Have a test for both kinds of user: the one without subordinate ids, "", and the one who has a range of them."""
    if request.param == "single":
        return ""
    request.getfixturevalue("subordinate")
    return "range"


def end_holder(run: str) -> None:
    """End the holder now: its ten seconds of patience are too long for a test."""
    try:
        with open(f"{run}/holder.json", encoding="ascii") as file:
            pid = int(json.load(file)["pid"])
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return
    while _is_alive(pid):
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    """Tell whether a process has not ended; who reaps it may take his time."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in b"ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _interpreter() -> str:
    """Return a Python that a normal user may execute."""
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([path, "-I", "-S", "-c", ""], check=True, user=UID, group=GID, extra_groups=[], cwd="/")
        except OSError:
            continue
        return path
    pytest.skip("no interpreter here is a normal user's to execute")
