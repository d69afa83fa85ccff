"""Devices, limits and mounts beside docker: the same words, the same document and the same sight from inside."""

import json
import shlex

import pytest

from tests.engine.test_limits import a_disk
from tests.plugin.ground import Command

pytestmark = [
    pytest.mark.peer,
    pytest.mark.root,
    pytest.mark.userns,
    pytest.mark.overlay,
    pytest.mark.netns,
    pytest.mark.network,
]

# What none of the flags is about, and what the engines call their own.
OTHER = (
    "LogConfig NetworkMode Runtime CgroupnsMode IpcMode MaskedPaths ConsoleSize ContainerIDFile Cgroup Links PidMode "
    "UTSMode DnsOptions PortBindings"
).split()
RUN = ("run", "--rm", "--network", "none")


@pytest.mark.parametrize(
    "words",
    [
        "--cpus 0.5",
        "--cpu-period 50000 --cpu-quota 25000 --cpuset-cpus 0 --cpuset-mems 0",
        "--cpu-rt-period 900000 --cpu-rt-runtime 1000",
        "--memory 64m --memory-swappiness 10 --oom-kill-disable",
        "--device /dev/zero:/dev/nought:r --device /dev/null --device-cgroup-rule 'c 1:* r'",
        "--device-read-bps DISK:1mb --device-write-iops DISK:50",
        "--cgroup-parent /batch --annotation a=b",
        "--init --volume-driver local",
        "-v /tmp:/t:ro --mount type=bind,src=/tmp,dst=/b,ro,bind-recursive=writable",
        "--mount type=bind,src=/tmp,dst=/b,bind-propagation=rslave,bind-nonrecursive=true --tmpfs /x:size=1m",
        "--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
    ],
)
def test_host_config(words: str, pair: dict[str, Command]) -> None:
    """`create` records the same HostConfig, but for what is empty and what is the engine's own."""
    answers = {}
    for name, engine in pair.items():
        argv = shlex.split(words.replace("DISK", f"/dev/{a_disk()}"))
        made = engine("create", "--name", "peer", *argv, "busybox", "true")
        assert made.returncode == 0, made.stderr
        document = json.loads(engine("inspect", "peer").stdout)[0]["HostConfig"]
        answers[name] = {key: value for key, value in document.items() if value and key not in OTHER}
        engine("rm", "-v", "peer")
    assert answers["sampan"] == answers["docker"]


@pytest.mark.parametrize(
    "words",
    [
        ("--cpuset-cpus", "0", "busybox", "grep", "Cpus_allowed_list", "/proc/self/status"),
        ("--device", "/dev/zero:/dev/nought", "busybox", "sh", "-c", "ls /dev; head -c 3 /dev/nought | wc -c"),
        ("--cpuset-cpus", "4000", "busybox", "true"),
        ("--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770", "busybox", "stat", "-c", "%a", "/t"),
        ("--mount", "type=bind,src=/nosuch,dst=/t", "busybox", "true"),
        ("--volumes-from", "nosuch", "busybox", "true"),
        ("--init", "busybox", "sh", "-c", "exit 9"),
        ("--init", "busybox", "nosuch"),
        ("--isolation", "hyperv", "busybox", "true"),
        ("--disable-content-trust", "busybox", "echo", "on"),
    ],
)
def test_the_same_answer(words: tuple[str, ...], pair: dict[str, Command]) -> None:
    """The same exit status and standard output."""
    answers = {name: engine(*RUN, *words) for name, engine in pair.items()}
    docker, ours = answers["docker"], answers["sampan"]
    assert ours.returncode == docker.returncode, f"docker: {docker.stderr}\nsampan: {ours.stderr}"
    assert ours.stdout == docker.stdout


def test_volumes_from_another(pair: dict[str, Command]) -> None:
    """The mounts of the other container, with docker's access, and sizes."""
    answers = {}
    for name, engine in pair.items():
        engine("create", "--name", "giver", "-v", "/tmp:/t", "-v", "/anon", "busybox", "true")
        engine("create", "--name", "taker", "--volumes-from", "giver:ro", "busybox", "true")
        found = json.loads(engine("inspect", "--size", "taker").stdout)[0]
        mounts = {(m["Type"], m["Destination"], m["RW"]) for m in found["Mounts"]}
        answers[name] = (mounts, found["SizeRw"], found["HostConfig"]["VolumesFrom"])
        engine("rm", "-v", "taker")
        engine("rm", "-v", "giver")
    assert answers["sampan"] == answers["docker"]
