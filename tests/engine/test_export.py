"""docker export: a container's root as a tar."""

import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.plugin.person import Person

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
]  # fmt: skip
SCRIPT = "echo hi > /made; chown 7:8 /made; echo no > /data/no; echo no > /dev/shm/no; touch /ready; sleep 1000"


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_whole_root(sampan: Command, busybox: str, tmp_path: Path, state: str) -> None:
    """All of it with the image's owners, and nothing that is mounted in it; it can be imported and run again."""
    words = ("--name", "box", "--network", "none", "-v", "data:/data", busybox, "sh", "-c", SCRIPT)
    sampan("run", "-d", *words, check=True)
    deadline = time.monotonic() + 20
    while sampan("exec", "box", "test", "-e", "/ready").returncode != 0:
        assert time.monotonic() < deadline
    if state == "stopped":
        sampan("kill", "box", check=True)
    sampan("export", "-o", f"{tmp_path}/root.tar", "box", check=True)
    with tarfile.open(tmp_path / "root.tar") as archive:
        members = {member.name: member for member in archive}
    assert (members["made"].uid, members["made"].gid) == (7, 8)
    below = [name for name in members if name.startswith(("data/", "dev/", "proc/", "sys/"))]
    assert below == []
    assert {"data", "dev", "proc", "etc/passwd", "bin"} <= set(members)
    assert sampan("export", "nobody").returncode == 1
    sampan("import", f"{tmp_path}/root.tar", "again", check=True)
    assert sampan("run", "--rm", "--network", "none", "again", "cat", "/made", check=True).stdout == "hi\n"
    sampan("rm", "-f", "box", check=True)


@pytest.mark.parametrize("ids", ["single", "range"])
def test_a_normal_user(user: Person, place: str, request: pytest.FixtureRequest, ids: str) -> None:
    """The same for one who is not root."""
    if ids == "range":
        request.getfixturevalue("subordinate")
    user(
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo hi > /made; sleep 1000",
        check=True,
    )
    names: list[str] = []
    for number in (1, 2):
        user("export", "-o", f"{place}/n/{number}.tar", "box", check=True)
        with tarfile.open(f"{place}/n/{number}.tar") as archive:
            names = archive.getnames()
        assert "etc/passwd" in names
        assert [name for name in names if name.startswith("proc/")] == []
        if number == 1:
            user("kill", "box", check=True)
    assert "made" in names
    user("rm", "-f", "box", check=True)
