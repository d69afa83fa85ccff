"""docker diff: what a container has changed in its root."""

import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.plugin.person import Person

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
]  # fmt: skip
# With what docker 28 prints of the same script and the same image, sorted.
SCRIPT = """
mkdir -p /a/b/c; echo x > /a/b/c/f; echo new >> /etc/passwd; rm /etc/group; rm -r /home; mkdir /home; touch /home/x
chmod 711 /root; ln -s x /etc/link; rm -rf /var/tmp; touch /tmp/t; mkfifo /p; touch "/sp ace"; rm /a/b/c/f
touch /etc/A; echo hi > /dev/shm/x; cat /etc/hosts > /dev/null
"""
CHANGES = """A /a
A /a/b
A /a/b/c
C /etc
A /etc/A
D /etc/group
A /etc/link
C /etc/passwd
C /home
A /home/x
A /p
C /root
A /sp ace
C /tmp
A /tmp/t
C /var
D /var/tmp
"""


def test_what_has_changed(sampan: Command, busybox: str) -> None:
    """Added, changed and deleted, parents first; not what a start makes for its own mounts; running and stopped."""
    words = ("--name", "box", "--network", "none", busybox, "sh", "-c")
    sampan("run", "-d", *words, f"{SCRIPT}\nsleep 1000", check=True)
    deadline = time.monotonic() + 20
    while sampan("diff", "box", check=True).stdout != CHANGES:
        assert time.monotonic() < deadline
    sampan("kill", "box", check=True)
    assert sampan("diff", "box", check=True).stdout == CHANGES
    sampan("rm", "box", check=True)


def test_nothing_has_changed(sampan: Command, busybox: str) -> None:
    """One that has never run, and one that has changed nothing, print nothing; one that is not there is an error."""
    sampan("create", "--name", "box", "--network", "none", busybox, "true", check=True)
    assert sampan("diff", "box", check=True).stdout == ""
    sampan("start", "-a", "box", check=True)
    assert sampan("diff", "box", check=True).stdout == ""
    assert sampan("diff", "nobody").returncode == 1
    sampan("rm", "box", check=True)


@pytest.mark.parametrize("ids", ["single", "range"])
def test_a_normal_user(user: Person, request: pytest.FixtureRequest, ids: str) -> None:
    """The same lines for one who is not root."""
    if ids == "range":
        request.getfixturevalue("subordinate")
    user("run", "--name", "box", "--network", "none", "busybox", "sh", "-c", SCRIPT, check=True)
    assert user("diff", "box", check=True).stdout == CHANGES
    user("rm", "box", check=True)
