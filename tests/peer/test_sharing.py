"""Namespaces that are shared, links and networks of a container that is there: docker's answers and ours."""

import functools
import json
import re

import pytest

from tests.plugin.ground import Command

pytestmark = [pytest.mark.peer, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

RUN = ("run", "--rm")
JOIN = ("--network", "container:peer-donor")
SAME = {
    "uts": (*RUN, "--uts", "host", "busybox", "hostname"),
    "host network's name": (*RUN, "--network", "host", "busybox", "sh", "-c", "hostname; echo $HOSTNAME"),
    "no shared memory": (*RUN, "--ipc", "none", "busybox", "grep", "-c", "shm", "/proc/mounts"),
    "domain": (*RUN, "--domainname", "example.test", "-h", "a", "busybox", "cat", "/proc/sys/kernel/domainname"),
    "hardware address": (*RUN, "--mac-address", "02:42:ac:11:00:99", "busybox", "cat", "/sys/class/net/eth0/address"),
    "ports": (*RUN, *JOIN, "-p", "80", "busybox", "true"),
    "host name": (*RUN, *JOIN, "-h", "a", "busybox", "true"),
    "name servers": (*RUN, *JOIN, "--dns", "192.0.2.1", "busybox", "true"),
    "hosts": (*RUN, *JOIN, "--add-host", "a:192.0.2.1", "busybox", "true"),
    "exposed": (*RUN, *JOIN, "--expose", "80", "busybox", "true"),
    "links": (*RUN, *JOIN, "--link", "peer-donor", "busybox", "true"),
    "alias": (*RUN, *JOIN, "--network-alias", "a", "busybox", "true"),
    "host name of the machine's": (*RUN, "--uts", "host", "-h", "a", "busybox", "true"),
    "host and links": (*RUN, "--network", "host", "--link", "peer-donor", "busybox", "true"),
    "no such pid mode": (*RUN, "--pid", "other", "busybox", "true"),
    "no such ipc mode": (*RUN, "--ipc", "other", "busybox", "true"),
    "nobody to join": (*RUN, "--network", "container:peer-nobody", "busybox", "true"),
    "nobody's processes": (*RUN, "--pid", "container:peer-nobody", "busybox", "true"),
    "nobody to link": (*RUN, "--link", "peer-nobody", "busybox", "true"),
    "connect to the machine's": ("network", "connect", "host", "peer-donor"),
    "connect nobody": ("network", "connect", "bridge", "peer-nobody"),
    "connect twice": ("network", "connect", "bridge", "peer-donor"),
    "take off what it is not on": ("network", "disconnect", "host", "peer-donor"),
    "no such filter": ("network", "ls", "--filter", "other=a"),
    "remove what is not there": ("network", "rm", "-f", "peer-nothing"),
}
ASKED = (
    "HostConfig.NetworkMode HostConfig.PidMode HostConfig.IpcMode HostConfig.UTSMode HostConfig.UsernsMode "
    "HostConfig.Links Config.Hostname Config.Domainname NetworkSettings.Networks NetworkSettings.IPAddress "
    "NetworkSettings.Ports"
).split()


@pytest.fixture
def donors(both: dict[str, Command]) -> dict[str, Command]:
    """Return both engines, on each of which `peer-donor` runs."""
    for engine in both.values():
        engine("rm", "-f", "peer-donor")
        words = ("--ipc", "shareable", "-h", "donor", "--domainname", "example.test")
        made = engine("run", "-d", "--name", "peer-donor", *words, "busybox", "sleep", "1000")
        assert made.returncode == 0, made.stderr
    return both


def test_the_same_answer(donors: dict[str, Command]) -> None:
    """The same words give the same exit status and the same standard output; what is refused, both refuse."""
    for name, words in SAME.items():
        docker, ours = (donors[engine](*words) for engine in ("docker", "sampan"))
        told = f"{name}\ndocker: {docker.stderr}\nsampan: {ours.stderr}"
        assert ours.returncode == docker.returncode, told
        assert ours.stdout == docker.stdout, told
    for engine in donors.values():
        engine("rm", "-f", "peer-donor")


def test_the_words_of_inspect(donors: dict[str, Command]) -> None:
    """What joins and what is linked says so as with docker."""
    joins = (*JOIN, "--pid", "container:peer-donor", "--ipc", "container:peer-donor")
    for words in (joins, ("--uts", "host", "--link", "peer-donor:db")):
        answers = {name: _ask(engine, words) for name, engine in donors.items()}
        assert answers["sampan"] == answers["docker"]
    for engine in donors.values():
        engine("rm", "-f", "peer-donor")


def _ask(engine: Command, words: tuple[str, ...]) -> dict[str, str]:
    """Return what inspect says of a container with these words, ids and addresses left out."""
    made = engine("run", "-d", "--name", "peer-guest", *words, "busybox", "sleep", "1000")
    assert made.returncode == 0, made.stderr
    (document,) = json.loads(engine("inspect", "peer-guest").stdout)
    engine("rm", "-f", "peer-guest")
    found = {}
    for path in ASKED:
        value = functools.reduce(lambda value, key: value[key], path.split("."), document)
        value = sorted(value) if path.endswith("Networks") else value
        found[path] = re.sub(r"[0-9a-f]{12,64}|10\.[0-9.]+|172\.[0-9.]+", "X", json.dumps(value or None))
    return found
