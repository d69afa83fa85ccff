"""The machines that most people have: the demo and Docker's words on Debian 12 and 13, as root and as a normal user."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.ground import PROJECT, Command
from tests.stories.test_promises import OWN_TESTS, SETTINGS_APP

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.network]

EXAMPLE = "examples/hello-flask"
MACHINE_SECONDS = 2400
# Those that are booted twice, to see what becomes of containers: as root, and as a normal user, who lingers.
REBOOTS = ("bookworm-bare", "trixie")


@pytest.fixture
def clone() -> Iterator[Path]:
    """Yield a copy of what a clone of this checkout would hold, readable by a guest's normal user.

    Not below tmp_path: the machine holds files there open, which is what the leak check of another test looks for.
    """
    where = Path(tempfile.mkdtemp(prefix="sampan-clone-", dir="/tmp"))
    argv = ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (PROJECT / name).is_file():
            os.makedirs((where / name).parent, exist_ok=True)
            shutil.copy(PROJECT / name, where / name)
    subprocess.run(["chmod", "-R", "a+rX", where], check=True)
    yield where
    shutil.rmtree(where)


@pytest.fixture
def expected(clone: Path, sampan: Command) -> None:
    """Build the example, and put its lock and digest where the guest finds them; and an image with its own tests."""
    project = clone / ".expected"
    shutil.copytree(PROJECT / EXAMPLE, project, ignore=shutil.ignore_patterns("sampan.lock"))
    sampan("build", "-t", "hello", str(project), check=True, timeout=300)
    identity = json.loads(sampan("inspect", "hello", check=True).stdout)[0]["Id"]
    (project / "id").write_text(f"{identity}\n", encoding="ascii")
    everywhere = clone / ".everywhere"
    everywhere.mkdir()
    for name, text in (("app.py", SETTINGS_APP), ("test_app.py", OWN_TESTS), ("requirements.txt", "Flask\n")):
        (everywhere / name).write_text(text, encoding="utf-8")
    sampan("build", "-t", "everywhere", str(everywhere), check=True, timeout=300)
    identity = json.loads(sampan("inspect", "everywhere", check=True).stdout)[0]["Id"]
    (everywhere / "id").write_text(f"{identity}\n", encoding="ascii")
    sampan("save", "-o", str(everywhere / "image.tar"), "everywhere", check=True)


def _machine(suite: str, *, share: Path, as_user: bool, script: str = "guest.sh") -> None:
    """Boot a machine, run the guest's script, and fail with its words unless every check was ok."""
    options = ["--timeout", str(MACHINE_SECONDS), "--share", str(share), *(["--user"] if as_user else [])]
    if suite in REBOOTS:
        (share / ".reboot").touch()
        options.append("--reboot")
    argv = [sys.executable, str(PROJECT / "tools/vm.py"), *options, suite, f"bash /share/tests/vm/{script}"]
    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    assert done.returncode == 0
    assert "not ok" not in done.stdout
    assert "\n0 checks failed" in done.stdout


def test_the_wheel_on_a_fresh_machine(clone: Path) -> None:
    """venv, pipx and uv install the wheel, it works, and its removal leaves nothing. First: it takes longest."""
    uv = Path(sys.executable).parent / "uv"
    argv = [str(uv), "build", "-q", "--wheel", "--offline", "--out-dir", str(clone / "dist"), str(PROJECT)]
    subprocess.run(argv, check=True)
    _machine("trixie-bare", share=clone, as_user=False, script="install.sh")


@pytest.mark.parametrize("suite", ["bookworm-bare", "trixie-bare"])
def test_root_on_a_fresh_machine(suite: str, clone: Path, expected: None) -> None:
    """Root on a fresh Debian has the demo, Docker's words, and an image of the digest that this machine builds."""
    _machine(suite, share=clone, as_user=False)


@pytest.mark.parametrize("suite", ["bookworm-bare", "trixie-bare"])
def test_a_normal_user_on_a_fresh_machine(suite: str, clone: Path) -> None:
    """A normal user of a fresh Debian, without uidmap and passt, has the demo and Docker's words without limits."""
    _machine(suite, share=clone, as_user=True)


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_normal_user_with_uidmap(suite: str, clone: Path) -> None:
    """A normal user whose machine has newuidmap and pasta has the same, over a whole range of ids."""
    (clone / ".uidmap").touch()
    _machine(suite, share=clone, as_user=True)
