"""docker rename, port and container prune."""

import json
import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.engine.conftest import Store
from tests.plugin.person import Person

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_another_name(sampan: Command, busybox: str, store: Store) -> None:
    """Running or not, it is found by the new name and not by the old one, which another may have; nothing is left."""
    id = sampan("run", "-d", "--name", "old", "--network", "none", busybox, "sleep", "1000", check=True).stdout.strip()
    sampan("rename", "old", "new", check=True)
    assert sampan("exec", "new", "true").returncode == 0
    assert sampan("exec", "old", "true").returncode == 1
    sampan("run", "-d", "--name", "old", "--network", "none", busybox, "sleep", "1000", check=True)
    (found,) = json.loads(sampan("inspect", "new", check=True).stdout)
    assert (found["Id"], found["Name"]) == (id, "/new")
    for words in (("new", "old"), ("new", "new"), ("nobody", "x1"), ("new", "-"), ("new", "a/b"), ("new", "")):
        assert sampan("rename", *words).returncode == 1
    sampan("kill", "new", check=True)
    sampan("rename", id[:12], "newer", check=True)
    sampan("start", "newer", check=True)
    assert sampan("exec", "newer", "true").returncode == 0
    sampan("rm", "-f", "newer", "old", check=True)
    assert store.left(sampan) == []


def test_the_name_outlives_a_restart(sampan: Command, busybox: str, store: Store) -> None:
    """A monitor that starts it again by its restart policy does not bring the old name back, nor its DNS entry."""
    sampan("network", "create", "front", check=True)
    words = ("--network", "front", "--restart", "always")
    script = "while [ ! -e /end ]; do sleep 0.1; done; rm /end"
    sampan("run", "-d", "--name", "old", *words, busybox, "sh", "-c", script, check=True)

    def ask(name: str) -> int:
        return sampan("exec", "new", "nslookup", name).returncode

    sampan("rename", "old", "new", check=True)
    _until(lambda: ask("new") == 0)
    assert ask("old") != 0
    sampan("exec", "new", "touch", "/end", check=True)
    _until(lambda: json.loads(sampan("inspect", "new", check=True).stdout)[0]["RestartCount"] == 1)
    _until(lambda: ask("new") == 0)
    assert ask("old") != 0
    assert sampan("exec", "old", "true").returncode == 1
    sampan("rm", "-f", "new", check=True)
    sampan("network", "rm", "front", check=True)
    assert store.left(sampan) == []


def test_ports(sampan: Command, busybox: str) -> None:
    """Lines as docker's, by number; one that was asked for; what is not published is an error, a stopped one is not."""
    ports = ("-p", "127.0.0.1:45680:80", "-p", "127.0.0.1:45681:443", "-p", "127.0.0.1:45682:53/udp")
    sampan("run", "-d", "--name", "web", *ports, "--expose", "9", busybox, "sleep", "1000", check=True)
    lines = ["53/udp -> 127.0.0.1:45682", "80/tcp -> 127.0.0.1:45680", "443/tcp -> 127.0.0.1:45681"]
    assert sampan("port", "web", check=True).stdout.splitlines() == lines
    assert sampan("port", "web", "80", check=True).stdout == "127.0.0.1:45680\n"
    assert sampan("port", "web", "53/udp", check=True).stdout == "127.0.0.1:45682\n"
    for wanted in ("53", "9", "81", "x"):
        assert sampan("port", "web", wanted).returncode == 1
    sampan("kill", "web", check=True)
    assert sampan("port", "web", check=True).stdout == ""
    assert sampan("port", "nobody").returncode == 1
    sampan("rm", "web", check=True)


def test_prune(sampan: Command, busybox: str, store: Store) -> None:
    """What does not run goes, as far as the filters say; without -f a person is asked; running ones stay."""
    sampan("run", "-d", "--name", "up", "--network", "none", busybox, "sleep", "1000", check=True)
    ids = {}
    for name, label in (("one", "a=1"), ("two", "a=2"), ("three", "b=1")):
        ids[name] = sampan("create", "--name", name, "--label", label, busybox, "true", check=True).stdout
    done = sampan("container", "prune", feed="no\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "every container that does not run" in done.stderr
    assert sampan("container", "prune", "-f", "--filter", "until=1h", check=True).stdout == ""
    assert sampan("container", "prune", "-f", "--filter", "label=a=1", check=True).stdout == ids["one"]
    assert sampan("container", "prune", "-f", "--filter", "label!=b", check=True).stdout == ids["two"]
    for word in ("name=x", "until=soon"):
        assert sampan("container", "prune", "-f", "--filter", word).returncode == 1
    assert sampan("container", "prune", "--filter", "until=0s", feed="yes\n", check=True).stdout == ids["three"]
    assert len(store.containers()) == 1
    sampan("rm", "-f", "up", check=True)


def test_a_normal_user(user: Person) -> None:
    """The same words for one who is not root."""
    user("run", "-d", "--name", "old", "-p", "127.0.0.1:45683:80", "busybox", "sleep", "1000", check=True)
    user("rename", "old", "new", check=True)
    assert user("exec", "new", "true").returncode == 0
    assert user("port", "new", "80", check=True).stdout == "127.0.0.1:45683\n"
    user("kill", "new", check=True)
    assert len(user("container", "prune", "-f", check=True).stdout) == 65
    assert user("ps", "-aq", check=True).stdout == ""
