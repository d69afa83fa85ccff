"""What a process finds inside, and what `inspect` says of its container, is what docker 28 gives it.

One script (inside.sh) looks around in containers of both engines, with the same flags. Lines are compared as sets under
their heading. What differs on purpose is named in ON_PURPOSE, each entry with its reason, and in docs/differences.md;
nothing else may differ.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.peer.conftest import at_once
from tests.plugin.ground import Command

if TYPE_CHECKING:
    import subprocess

_NEEDS = ("peer", "root", "userns", "overlay", "netns", "cgroup")
pytestmark = [getattr(pytest.mark, name) for name in _NEEDS]

SCRIPT = Path(__file__).with_name("inside.sh")
FLAGS = {
    "plain": "",
    "limits": "--memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --pids-limit 50",
    "ulimits": "--ulimit nofile=100:200 --ulimit core=0 --oom-score-adj 500 --shm-size 8m",
    "another user": "-u 1000:5 --group-add 7 -w /new/place -h boat -e A=b -e EMPTY=",
    "a name for a user": "-u user",
    "capabilities": "--cap-add NET_ADMIN --cap-drop CHOWN",
    "no capabilities": "--cap-drop ALL",
    "read-only": "--read-only --tmpfs /scratch:size=1m --tmpfs /run",
    "volumes": "-v /data -v named-inside:/named:ro",
    "no network": "--network none",
    "names": "--add-host a:1.2.3.4 --dns 9.9.9.9 --dns-search x.y --dns-option ndots:2",
    "the machine's network": "--network host",
    "no new privileges": "--security-opt no-new-privileges --security-opt seccomp=unconfined",
    "parameters": "--sysctl net.core.somaxconn=99 --sysctl kernel.msgmax=4096",
    "the machine's users": "--userns host",
}
# Taken out of a line on either side before it is compared: (pattern, what stands for it, why).
ON_PURPOSE = (
    (r"^environment: HOSTNAME=[0-9a-f]{12}$", "environment: HOSTNAME=ID", "the id"),
    (r":/docker/[0-9a-f]{64}$", ":/", "a cgroup namespace of its own, also on cgroup v1"),
    (r",idmapped\b", "", "a user namespace: ids are mapped"),
    (r"^(mounts: / overlay r[ow]),nodev", r"\1", "a user namespace: a device node of the image does not open"),
    (r"^(mounts: /proc/\w+) (tmpfs rw,nosuid|devtmpfs rw,relatime)$", r"\1 MASK", "masked by another file of nothing"),
    (r"^(mounts: /sys/fs/cgroup tmpfs) r[ow]", r"\1", "nothing is to be made there"),
    (r"^written: /sys/fs/cgroup$", "", "the same"),
    (r"^(devices: /(proc|sys) 555) \d+:\d+$", r"\1", "a user namespace: they are the machine's root's"),
    (r"^(sysctls: net/ipv4/ping_group_range) .*", r"\1", "a user namespace: groups beyond it cannot stand there"),
    (r"^descriptors: .*", "", "`ls` and the shell have as many as they like"),
    (r"^processes: .*", "", "how many the shell has at that instant"),
)
# Of single flags: whole headings or lines that differ, and why.
MORE = {
    # The machine's sysfs, since one of a user namespace's own cannot be mounted for another network namespace.
    "the machine's network": r"^(mounts: /sys|cgroup: |sysctls: |written: )",
}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script's path where both engines see it."""
    directory = tmp_path_factory.mktemp("inside")
    path = directory / "inside.sh"
    path.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    path.chmod(0o755)
    directory.chmod(0o755)
    return str(path)


def _lines(text: str, name: str) -> list[str]:
    """Return what was found, each line under its heading, sorted, without what differs on purpose."""
    found, heading = [], ""
    for line in text.splitlines():
        if line.startswith("== "):
            heading = line[3:]
            continue
        told = f"{heading}: {' '.join(line.split())}".rstrip()
        for pattern, instead, _ in ON_PURPOSE:
            told = re.sub(pattern, instead, told)
        if told and not told.endswith(":") and not (name in MORE and re.match(MORE[name], told)):
            found.append(told)
    return sorted(found)


@pytest.mark.parametrize("name", FLAGS)
def test_what_a_process_finds(name: str, pair: dict[str, Command], script: str) -> None:
    """Capabilities, ids, limits, environment, mounts, devices, files of /etc, parameters, masks, cgroup, network."""

    def look(_: str, engine: Command) -> "subprocess.CompletedProcess[str]":
        return engine(
            "run", "--rm", *FLAGS[name].split(), "-v", f"{script}:/inside.sh:ro", "busybox", "sh", "/inside.sh"
        )

    done = at_once(pair, look)
    for engine in pair.values():
        engine("volume", "rm", "named-inside")
    for engine_name, answer in done.items():
        assert answer.returncode == 0, f"{engine_name}: {answer.stderr}"
        assert answer.stdout.count("== ") > 15, f"{engine_name}: {answer.stdout}"
    docker, ours = (_lines(answer.stdout, name) for answer in done.values())
    assert ours == docker


# What leads to the same exit status, of a command in a container that is there.
STATUSES = {
    "a status": ("sh", "-c", "exit 42"),
    "a signal": ("sh", "-c", "kill -9 $$"),
    "a signal that is not fatal here": ("sh", "-c", "kill -15 $$; exit 3"),
    "no such command": ("nothing-of-this-name",),
    "no such path": ("/nothing/of/this/name",),
    "a directory": ("/etc",),
    "not executable": ("/etc/passwd",),
    "status 256": ("sh", "-c", "exit 256"),
    "nobody reads": ("sh", "-c", "yes | head -n 1 > /dev/null"),
}


@pytest.mark.parametrize("words", STATUSES.values(), ids=STATUSES.keys())
def test_exit_statuses(words: tuple[str, ...], pair: dict[str, Command]) -> None:
    """`run` and `exec` of the same command return the same status."""

    def ask(_: str, engine: Command) -> tuple[int, int]:
        engine("run", "-d", "--name", "peer-status", "busybox", "sleep", "100")
        try:
            return engine("run", "--rm", "busybox", *words).returncode, engine("exec", "peer-status", *words).returncode
        finally:
            engine("rm", "-f", "peer-status")

    answers = at_once(pair, ask)
    assert answers["sampan"] == answers["docker"]


EXECS = {
    "no such directory": ("-w", "/none", "peer-exec", "pwd"),
    "a directory that is a file": ("-w", "/etc/passwd", "peer-exec", "pwd"),
    "a descriptor for a directory": ("-w", "/proc/self/fd/9", "peer-exec", "pwd"),
    "no such user": ("-u", "nobody-here", "peer-exec", "id"),
    "another user": ("-u", "1000:7", "peer-exec", "id"),
    "environment": ("-e", "B=c", "peer-exec", "env"),
    "privileged": ("--privileged", "peer-exec", "grep", "Seccomp:", "/proc/self/status"),
    "capabilities": ("peer-exec", "grep", "^Cap", "/proc/self/status"),
}


@pytest.mark.parametrize("words", EXECS.values(), ids=EXECS.keys())
def test_what_exec_gives(words: tuple[str, ...], pair: dict[str, Command]) -> None:
    """Status and output of `exec` are the same."""

    def ask(_: str, engine: Command) -> tuple[int, list[str]]:
        engine("run", "-d", "--name", "peer-exec", "-h", "boat", "busybox", "sleep", "100")
        try:
            done = engine("exec", *words)
            # What docker's client complains of, it prints to stdout where a command was to print.
            return done.returncode, sorted(done.stdout.splitlines()) if done.returncode == 0 else []
        finally:
            engine("rm", "-f", "peer-exec")

    answers = at_once(pair, ask)
    assert answers["sampan"] == answers["docker"]


ASKED = (
    "-d --name peer-inspect -p 127.0.0.1::80 -v /data --memory 64m --cpus 0.5 -e A=b --label x=y --health-cmd true "
    "--dns 9.9.9.9 --dns-option ndots:2 --add-host a:1.2.3.4 --cap-add NET_ADMIN --ulimit nofile=100:200 -u 5 -w /tmp "
    "--restart on-failure:3 --read-only --tmpfs /scratch --group-add 7 --sysctl net.core.somaxconn=99 --stop-timeout 3"
)
# The fields that hold what nobody else has: a path, an id, an address, a time, a driver's name.
OWN = re.compile(
    r"\.(Id|Created|Image|.*Path|Driver|GraphDriver\..*|State\.(Pid|StartedAt|FinishedAt|Health.*)|Config\.Hostname|"
    r"Mounts\..*\.(Name|Source)|HostConfig\.(Runtime|LogConfig.*|CgroupnsMode|Init)|NetworkSettings\.(Bridge|EndpointID|"
    r"Gateway|IPAddress|IPPrefixLen|MacAddress|Sandbox.*|Ports.*HostPort|Networks\.bridge\.(EndpointID|Gateway|IPAddress|"
    r"IPPrefixLen|MacAddress|NetworkID|DNSNames)))$"
)


def test_the_fields_of_inspect(pair: dict[str, Command]) -> None:
    """Every field that docker's document has ours has, of the same kind; and where it is no id or path, the same."""

    def ask(_: str, engine: Command) -> dict[str, Any]:
        made = engine("run", *ASKED.split(), "busybox", "sleep", "100")
        assert made.returncode == 0, made.stderr
        try:
            document: dict[str, Any] = json.loads(engine("inspect", "peer-inspect").stdout)[0]
            return document
        finally:
            engine("rm", "-f", "-v", "peer-inspect")

    answers = at_once(pair, ask)
    docker, ours = (dict(_fields(document)) for document in answers.values())
    # Docker's `overlay2` has more to say of its directories.
    assert {path for path in docker if path not in ours and not OWN.search(path)} == set()
    differing = {path: (told, ours.get(path)) for path, told in docker.items()
                 if not OWN.search(path) and ours.get(path) != told}  # fmt: skip
    assert differing == {}


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # what JSON holds
    """Yield every leaf with its path; of a list that has an order of its own, sorted."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _fields(inner, f"{path}.{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from _fields(inner, f"{path}.{number}")
    elif isinstance(value, list):
        yield path, sorted(map(str, value)) or None
    else:
        # An empty object and none at all are the same answer to a script.
        yield path, value or None
