"""`sampan boot`: which program the unit runs."""

import os
import sys
from pathlib import Path

import pytest

from sampan.cli import boot

pytestmark = [pytest.mark.first]


def test_the_program_by_a_name_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link that pipx or uv made is kept, one called `docker` is followed, and `python -m sampan` is itself."""
    real, link, docker = tmp_path / "venv" / "sampan", tmp_path / "bin" / "sampan", tmp_path / "bin" / "docker"
    real.parent.mkdir()
    real.touch(0o755)
    link.parent.mkdir()
    link.symlink_to(real)
    docker.symlink_to(real)
    for called, wanted in ((real, (str(real),)), (link, (str(link),)), (docker, (str(real),))):
        monkeypatch.setattr(sys, "argv", [str(called), "boot", "enable"])
        assert boot._own_command() == wanted
    monkeypatch.chdir(link.parent)
    monkeypatch.setattr(sys, "argv", ["./sampan"])
    assert boot._own_command() == (str(link),)
    monkeypatch.setattr(sys, "argv", [os.path.join(os.path.dirname(boot.__file__), "..", "__main__.py")])
    assert boot._own_command() == (sys.executable, "-m", "sampan")
