"""`RUN pip install` with what a beginner gets wrong in it: pip's own words, the line, the way out, and no image."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.ground import Command
from tests.stories.conftest import refused, write_project

pytestmark = [
    pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip

NOWHERE = "no-such-package-anywhere"


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        (f"Flask\n{NOWHERE}==1.0\n", f"No matching distribution found for {NOWHERE}==1.0"),
        ("Flask==0.0.99\n", "No matching distribution found for Flask==0.0.99"),
        ("Flask=3.0\n", "Invalid requirement: 'Flask=3.0'"),
        (None, "No such file or directory: 'requirements.txt'"),
    ],
)
def test_what_pip_refuses(
    shared: Command, images: Callable[[], set[str]], *, python_image: str, tmp_path: Path, requirements: str | None,
    words: str,
) -> None:  # fmt: skip
    """The error has what pip says and leads to the line of the RUN; status 1, nothing is made."""
    write_project(tmp_path)
    if requirements is None:
        (tmp_path / "requirements.txt").unlink()
    else:
        (tmp_path / "requirements.txt").write_text(requirements, encoding="utf-8")
    before = images()
    done = shared("build", "-t", "never", ".", cwd=tmp_path, timeout=120)
    refused(done, 1, "error: `pip install -r requirements.txt` ended with status 1\n", words, "\n  at Dockerfile:11\n")
    assert images() == before
