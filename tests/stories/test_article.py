"""The walk of docs/article.md, every command as it stands in the text, on real servers."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.ground import PROJECT

pytestmark = [
    pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip

TEXT = PROJECT / "docs/article.md"
TRANSLATION = PROJECT / "docs/zh/article.md"
SECONDS = 600
_FENCE = re.compile(r"(?:^`(?P<file>[^`\n]+)`:\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (file name or "", language, body) of each fenced block."""
    for found in _FENCE.finditer(text):
        yield found["file"] or "", found["language"], found["body"]


def commands(body: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a console block with the pieces of output that the text shows."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, *output = part.rstrip("\n").split("\n")
        yield command, [line.strip() for line in output]


def test_every_command_of_the_text(environment: dict[str, str], place: str) -> None:
    """In a directory with a Chinese name, under LANG=C: each command ends with 0 and shows what the text shows."""
    project = Path(place, "我的项目")
    project.mkdir()
    here = environment | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", "LANG": "C", "LC_ALL": "C"}
    for name, language, body in blocks(TEXT.read_text(encoding="utf-8")):
        if name:
            Path(project, name).write_text(body, encoding="utf-8")
        if language != "console":
            continue
        for command, shown in commands(body):
            done = subprocess.run(
                ["bash", "-c", command], cwd=project, env=here, check=False, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=SECONDS,
            )  # fmt: skip
            print(f"$ {command}\n{done.stdout}")
            assert done.returncode == 0, command
            _assert_shows(done.stdout, shown, command)


def _assert_shows(output: str, shown: list[str], command: str) -> None:
    """Check that `output` has the pieces, in their order."""
    at = 0
    for piece in shown:
        found = output.find(piece, at)
        assert found >= 0, f"`{command}` shows no `{piece}`"
        at = found + len(piece)


def test_the_translation_has_the_same_blocks() -> None:
    """docs/zh/article.md has the files and commands of the English text, one by one."""
    english, chinese = (list(blocks(path.read_text(encoding="utf-8"))) for path in (TEXT, TRANSLATION))
    assert english == chinese
