"""--init: an init that reaps, passes signals on and keeps exit statuses, whatever the image and the user."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import reaper
from sampan.errors import NotFound
from sampan.settings.configuration import Settings
from tests.engine.test_restart import until
from tests.plugin.person import Person

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip
NO_MIRROR = {"SAMPAN_DEBIAN_MIRROR": "http://127.0.0.1:9", "http_proxy": "", "https_proxy": "", "no_proxy": "*"}
# A child of a shell that has ended is the first process's: print its state once it is no process that runs any more.
ORPHAN = """
p=$(sh -c 'sleep 0.05 >/dev/null & echo $!')
while grep -q 'State:.[RSD]' /proc/$p/status 2>/dev/null; do :; done
"""


@pytest.fixture(scope="session")
def tini(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of an init that was fetched from the machine's mirror, or is installed here."""
    root = tmp_path_factory.mktemp("init")
    settings = Settings({**os.environ, "SAMPAN_ROOT": str(root), "SAMPAN_CONFIG": f"{root}/none"}, os.geteuid())
    try:
        return reaper.find(settings)
    except NotFound:
        from sampan.build.debian import tini
        from sampan.events import ignore

        tini.fetch(settings, reaper.kept(settings), clock=lambda: 0.0, sink=ignore)
        return reaper.find(settings)


@pytest.fixture
def init(tini: str, settings: Settings) -> str:
    """Put it where this test's store keeps it; return its path there."""
    place = reaper.kept(settings)
    os.makedirs(os.path.dirname(place))
    return str(shutil.copy(tini, place))


def test_children_of_the_dead_are_reaped(sampan: Command, busybox: str, init: str) -> None:
    """With an init nothing of them stays; without one (the control) a zombie does."""
    sampan("run", "-d", "--init", "--network", "none", "--name", "box", busybox, "sleep", "60", check=True)
    sampan("exec", "box", "sh", "-c", f"{ORPHAN} while [ -d /proc/$p ]; do :; done", check=True, timeout=20)
    assert sampan("exec", "box", "cat", "/proc/1/comm", check=True).stdout == "docker-init\n"
    sampan("run", "-d", "--network", "none", "--name", "bare", busybox, "sleep", "60", check=True)
    left = sampan("exec", "bare", "sh", "-c", f"{ORPHAN} cat /proc/$p/status", check=True, timeout=20)
    assert "State:\tZ" in left.stdout
    sampan("rm", "-f", "box", "bare", check=True)


def test_signals_arrive_and_statuses_are_kept(sampan: Command, busybox: str, init: str) -> None:
    """A command without a handler dies of SIGTERM, which a first process would not; one with a handler has its say."""
    assert sampan("run", "--rm", "--init", busybox, "sh", "-c", "exit 7").returncode == 7
    assert sampan("run", "--rm", "--init", busybox, "nosuch").returncode == 127
    sampan("run", "-d", "--init", "--name", "box", busybox, "sleep", "60", check=True)
    sampan("kill", "-s", "TERM", "box", check=True)
    assert sampan("wait", "box", check=True).stdout == "143\n"
    script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    sampan("run", "-d", "--init", "--name", "other", busybox, "sh", "-c", script, check=True)
    until(sampan, "other", lambda _: "up" in sampan("logs", "other").stdout)
    sampan("kill", "-s", "USR1", "other", check=True)
    assert sampan("wait", "other", check=True).stdout == "9\n"
    (found,) = json.loads(sampan("inspect", "other", check=True).stdout)
    assert (found["Path"], found["HostConfig"]["Init"]) == ("sh", True)
    sampan("rm", "box", "other", check=True)


@pytest.mark.parametrize(
    "words", ["--read-only", "--userns host", "--user 1000", "-t", "--privileged", "--tmpfs /sbin"]
)
def test_whatever_the_container(sampan: Command, busybox: str, init: str, words: str) -> None:
    """It is the first process of a read-only one, of one without a user namespace, of one with a terminal, …"""
    done = sampan("run", "--rm", "--init", "--network", "none", *words.split(), busybox, "cat", "/proc/1/comm")
    assert (done.returncode, done.stdout.strip()) == (0, "docker-init"), done.stderr


def test_an_image_without_a_directory_for_it(sampan: Command, busybox_tar: str, tmp_path: Path, init: str) -> None:
    """An image that holds one program gets the place made."""
    (tmp_path / "root").mkdir()
    shutil.unpack_archive(busybox_tar, tmp_path / "whole")
    shutil.copy(tmp_path / "whole" / "bin" / "busybox", tmp_path / "root" / "busybox")
    tar = shutil.make_archive(str(tmp_path / "small"), "tar", tmp_path / "root")
    sampan("import", tar, "small", check=True)
    done = sampan("run", "--rm", "--init", "--network", "none", "small", "/busybox", "cat", "/proc/1/comm")
    assert (done.returncode, done.stdout) == (0, "docker-init\n"), done.stderr


def test_a_restart_has_it_too(sampan: Command, busybox: str, init: str) -> None:
    """By a policy, when its monitor was renewed, and by `start`."""
    script = "cat /proc/1/comm; exit 3"
    words = ("--init", "--network", "none", "--restart", "on-failure:2", "--name", "box")
    sampan("run", "-d", *words, busybox, "sh", "-c", script, check=True)
    until(sampan, "box", lambda told: told["Status"] == "exited" and told["RestartCount"] == 2)
    assert sampan("start", "-a", "box").returncode == 3
    assert set(sampan("logs", "box", check=True).stdout.split()) == {"docker-init"}
    sampan("rm", "-f", "box", check=True)


def test_a_normal_user_has_it(user: Person, settings: Settings, init: str) -> None:
    """In his own containers, out of his own cache."""
    os.chmod(settings.root, 0o755)  # noqa: S103 - in here it is he who owns it
    done = user("run", "--rm", "--init", "--network", "none", "busybox", "cat", "/proc/1/comm")
    assert (done.returncode, done.stdout) == (0, "docker-init\n"), done.stderr


def test_a_foreign_runtime_has_it(sampan: Command, busybox: str, init: str, runc: str) -> None:
    """Under runc as under ours."""
    done = sampan("run", "--rm", "--init", "--runtime", runc, "--network", "none", busybox, "cat", "/proc/1/comm")
    assert (done.returncode, done.stdout) == (0, "docker-init\n"), done.stderr


def test_it_is_fetched_once(sampan: Command, busybox: str, settings: Settings) -> None:
    """Where the machine has none, the first container waits for it and says so; the next asks nobody."""
    try:
        reaper.find(settings)
        pytest.skip("this machine has an init installed")
    except NotFound:
        pass
    first = sampan("run", "--rm", "--init", busybox, "true", check=True)
    assert "tini" in first.stderr
    assert os.stat(reaper.kept(settings)).st_mode & 0o777 == 0o755
    assert sampan("run", "--rm", "--init", busybox, "true", check=True).stderr == ""


def test_without_a_mirror_there_is_one_clear_error(
    busybox: str, sampan: Command, settings: Settings, environment: dict[str, str]
) -> None:
    """It names what to do, and nothing was made."""
    try:
        reaper.find(settings)
        pytest.skip("this machine has an init installed")
    except NotFound:
        environment |= NO_MIRROR
    done = sampan("run", "--init", "--name", "box", busybox, "true")
    assert done.returncode == 125
    assert "there is no init for `--init`" in done.stderr
    assert "apt install tini" in done.stderr
    assert sampan("ps", "-aq", check=True).stdout == ""


def test_a_named_one_must_be_static(sampan: Command, busybox: str, environment: dict[str, str], tini: str) -> None:
    """The settings' one is taken, and refused where a container could not run it."""
    environment["SAMPAN_INIT"] = tini
    assert sampan("run", "--rm", "--init", busybox, "true", check=True).stderr == ""
    environment["SAMPAN_INIT"] = "/bin/ls"
    done = sampan("run", "--rm", "--init", busybox, "true")
    assert done.returncode == 125
    assert "`/bin/ls`" in done.stderr


def test_compose_has_it(sampan: Command, busybox: str, init: str, tmp_path: Path) -> None:
    """`init: true` is the flag."""
    file = tmp_path / "compose.yaml"
    service = f"{{image: {busybox}, init: true, command: cat /proc/1/comm, network_mode: none}}"
    file.write_text(f"services: {{web: {service}}}", encoding="utf-8")
    assert "docker-init" in sampan("compose", "-f", str(file), "up", check=True).stdout
    sampan("compose", "-f", str(file), "down", check=True)
