"""docker commit: an image of what a container has become."""

import json
import os
import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from sampan.engine import committing
from sampan.settings.configuration import Settings
from tests.engine.conftest import Store
from tests.plugin.person import Person

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
]  # fmt: skip
SCRIPT = "echo hi > /made; chown 7:8 /made; rm /etc/group; rm -r /home; mkdir /home; echo no > /data/no; touch /ready"


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_image(sampan: Command, busybox: str, state: str) -> None:
    """Files, owners and deletions are in it, volumes are not; config, changes and history are docker's."""
    words = ("--name", "box", "--network", "none", "-e", "A=1", "-v", "data:/data")
    sampan("run", "-d", *words, busybox, "sh", "-c", f"{SCRIPT}; sleep 1000", check=True)
    deadline = time.monotonic() + 20
    while sampan("exec", "box", "test", "-e", "/ready").returncode != 0:
        assert time.monotonic() < deadline
    if state == "stopped":
        sampan("kill", "box", check=True)
    flags = ("-m", "by hand", "-a", "me", "-c", 'CMD ["cat", "/made"]', "-c", "ENV B=2")
    id = sampan("commit", *flags, "box", "made:1", check=True).stdout.strip()
    (found,) = json.loads(sampan("inspect", "--type", "image", "made:1", check=True).stdout)
    assert (found["Id"], found["Author"]) == (id, "me")
    assert found["Config"]["Env"] == ["A=1", "B=2"]
    assert sampan("run", "--rm", "--network", "none", "made:1", check=True).stdout == "hi\n"
    script = "stat -c %u:%g /made; ls /data /home; test -e /etc/group || echo gone; echo $A$B"
    assert sampan("run", "--rm", "--network", "none", "made:1", "sh", "-c", script, check=True).stdout.split() == [
        "7:8", "/data:", "/home:", "gone", "12",
    ]  # fmt: skip
    if state == "running":
        assert sampan("exec", "box", "echo", "on", check=True, timeout=20).stdout == "on\n"
    for mistake in (("nobody",), ("-c", "RUN x", "box"), ("box", "UPPER:1")):
        assert sampan("commit", *mistake).returncode == 1
    sampan("rm", "-f", "box", check=True)


def test_it_stands_still_and_goes_on(sampan: Command, busybox: str, settings: Settings, store: Store) -> None:
    """While a running container is held its processes are frozen; a command that is killed lets them go on."""
    words = ("--name", "box", "--network", "none", busybox, "sh", "-c")
    id = sampan("run", "-d", *words, "while :; do echo >> /log; done", check=True).stdout.strip()
    log = f"{store.root}/containers/{id}/upper/log"
    deadline = time.monotonic() + 20
    while not os.path.exists(log):
        assert time.monotonic() < deadline
    with committing.hold(settings, "box", pause=True):
        assert "(Paused)" in sampan("ps", check=True).stdout
        size = os.stat(log).st_size
        sampan("ps", check=True)
        assert os.stat(log).st_size == size
    _await_growth(log)
    pid = os.fork()
    if pid == 0:
        committing.hold(settings, "box", pause=True)
        os._exit(9)  # without letting go
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    _await_growth(log)
    sampan("pause", "box", check=True)
    with committing.hold(settings, "box", pause=True):
        pass
    assert "(Paused)" in sampan("ps", check=True).stdout
    sampan("rm", "-f", "box", check=True)


def _await_growth(path: str) -> None:
    """Return once the file grows."""
    size, deadline = os.stat(path).st_size, time.monotonic() + 20
    while os.stat(path).st_size == size:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("ids", ["single", "range"])
def test_a_normal_user(user: Person, request: pytest.FixtureRequest, ids: str) -> None:
    """The same for one who is not root."""
    if ids == "range":
        request.getfixturevalue("subordinate")
    script = "echo hi > /made; rm /etc/group; sleep 1000"
    user("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script, check=True)
    deadline = time.monotonic() + 20
    while user("exec", "box", "test", "-e", "/etc/group").returncode == 0:
        assert time.monotonic() < deadline
    look = ("sh", "-c", "cat /made; test -e /etc/group || echo gone")
    for number in (1, 2):
        user("commit", "box", f"made:{number}", check=True)
        done = user("run", "--rm", "--network", "none", f"made:{number}", *look, check=True)
        assert done.stdout.split() == ["hi", "gone"]
        if number == 1:
            user("kill", "box", check=True)
    user("rm", "-f", "box", check=True)
