"""Docker's words mean here what they mean there: the same command lines on both engines, the answers compared."""

import functools
import json
import re

import pytest

from tests.plugin.ground import Command

pytestmark = [pytest.mark.peer, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

RUN = ("run", "--rm")
# Command lines whose exit status and standard output must be the same.
SAME = {
    "status": (*RUN, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"),
    "missing command": (*RUN, "busybox", "nothing-of-this-name"),
    "a directory": (*RUN, "busybox", "/etc"),
    "unknown flag": ("run", "--nonsense", "busybox"),
    "missing image's command": (*RUN, "busybox"),
    "environment": (*RUN, "-e", "A=b", "-e", "PATH=/bin", "-h", "here", "busybox", "sh", "-c", "env | sort"),
    "host name": (*RUN, "--hostname", "boat", "busybox", "hostname"),
    "working directory": (*RUN, "-w", "/new/place", "busybox", "pwd"),
    "user by number": (*RUN, "-u", "1000:5", "busybox", "id"),
    "user by name": (*RUN, "-u", "user", "busybox", "id"),
    "missing user": (*RUN, "-u", "nobody-here", "busybox", "id"),
    "capabilities": (*RUN, "busybox", "grep", "^Cap", "/proc/self/status"),
    "one capability more": (*RUN, "--cap-add", "NET_ADMIN", "busybox", "grep", "^CapEff", "/proc/self/status"),
    "no capability": (*RUN, "--cap-drop", "ALL", "busybox", "grep", "^CapEff", "/proc/self/status"),
    "seccomp": (*RUN, "busybox", "grep", "^Seccomp:", "/proc/self/status"),
    "devices": (*RUN, "busybox", "ls", "/dev"),
    "no network": (*RUN, "--network", "none", "busybox", "ls", "/sys/class/net"),
    "read-only root": (*RUN, "--read-only", "busybox", "touch", "/here"),
    "kernel memory is masked": (*RUN, "busybox", "sh", "-c", "wc -c < /proc/kcore; ls /sys/firmware"),
    "sysctl is read-only": (*RUN, "busybox", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq"),
    "flags after the image": (*RUN, "busybox", "echo", "--rm", "-it"),
    "exec in nothing": ("exec", "no-such-container", "true"),
    "stop nothing": ("stop", "no-such-container"),
    "remove nothing": ("rmi", "no-such-image"),
}

ASKED = (
    "State.Running State.Status State.ExitCode State.OOMKilled Config.Hostname Config.Image Config.Env Config.Cmd "
    "Config.User Config.WorkingDir Config.Labels HostConfig.Memory HostConfig.NanoCpus HostConfig.NetworkMode Path "
    "Args Name RestartCount HostConfig.AutoRemove HostConfig.ReadonlyRootfs HostConfig.Privileged"
).split()


@pytest.mark.parametrize("words", SAME.values(), ids=SAME.keys())
def test_the_same_answer(words: tuple[str, ...], both: dict[str, Command]) -> None:
    """The same words give the same exit status and the same standard output."""
    answers = {name: engine(*words) for name, engine in both.items()}
    docker, ours = answers["docker"], answers["sampan"]
    assert ours.returncode == docker.returncode, f"docker: {docker.stderr}\nsampan: {ours.stderr}"
    assert ours.stdout == docker.stdout


def test_the_words_of_inspect(both: dict[str, Command]) -> None:
    """A running container's document answers the questions that scripts ask, with docker's answers."""
    answers = {}
    for name, engine in both.items():
        made = engine("run", "-d", "--name", "peer", "-h", "boat", "--memory", "64m", "busybox", "sleep", "100")
        assert made.returncode == 0, made.stderr
        assert re.fullmatch(r"[0-9a-f]{64}\n", made.stdout)
        document = json.loads(engine("inspect", "peer").stdout)[0]
        # An empty list and none at all are the same answer to a script.
        answers[name] = [
            functools.reduce(lambda value, key: value[key], path.split("."), document) or None for path in ASKED
        ]
        assert engine("rm", "-f", "peer").stdout == "peer\n"
    assert dict(zip(ASKED, answers["sampan"], strict=True)) == dict(zip(ASKED, answers["docker"], strict=True))
