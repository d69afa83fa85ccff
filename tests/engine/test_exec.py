"""docker exec: one more process in a container that runs."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip


@pytest.fixture
def box(sampan: Command, busybox: str) -> Iterator[str]:
    """Yield the id of a container that sleeps."""
    words = ("--name", "box", "--network", "none", "-e", "A=container", "-e", "B=container", "-w", "/tmp")
    yield sampan("run", "-d", *words, busybox, "sleep", "1000", check=True).stdout.strip()
    sampan("rm", "-f", "box", check=True)


def test_it_is_in_the_container(sampan: Command, box: str) -> None:
    """Its namespaces, directory, environment, capabilities and filter are the container's; its status comes back."""
    script = "pwd; echo $A $B; grep -e CapEff -e Seccomp: /proc/self/status; cat /proc/1/comm; hostname; exit 5"
    done = sampan("exec", "-e", "B=exec", "box", "sh", "-c", script)
    assert done.returncode == 5
    lines = done.stdout.splitlines()
    assert lines[:2] == ["/tmp", "container exec"]
    assert [line.split()[1] for line in lines[2:4]] == ["00000000a80425fb", "2"]
    assert lines[4:] == ["sleep", box[:12]]


def test_both_streams_and_input(sampan: Command, box: str) -> None:
    """Stdout and stderr stay apart; with -i input goes in to its end, however much."""
    done = sampan("exec", "box", "sh", "-c", "echo out; echo err >&2", check=True)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    text = "x" * 1_000_000
    assert sampan("exec", "-i", "box", "wc", "-c", feed=text, check=True).stdout.strip() == "1000000"
    assert sampan("exec", "box", "cat", feed="not for it", check=True).stdout == ""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("box", "no-such"), 127),
        (("box", "/etc/passwd"), 126),
        (("no-such-box", "true"), 1),
        (("-u", "no-such", "box", "true"), 1),
    ],
)
def test_statuses_are_docker_s(sampan: Command, box: str, words: tuple[str, ...], status: int) -> None:
    """126 and 127 for a command that cannot run, 1 for what is not there."""
    assert sampan("exec", *words).returncode == status


def test_as_somebody_else(sampan: Command, box: str) -> None:
    """-u takes a name or number of the container's own passwd; HOME follows, -w says where."""
    done = sampan("exec", "-u", "user", "-w", "/home", "box", "sh", "-c", "id -u; pwd; echo $HOME", check=True)
    assert done.stdout == "1000\n/home\n/home\n"


def test_it_counts_within_the_limits(sampan: Command, store: Store, box: str) -> None:
    """A process that is exec'd is in the container's cgroup."""
    sampan("exec", "-d", "box", "sleep", "1000", check=True)
    time.sleep(0.1)
    group = store.state(box)["cgroup"]
    assert isinstance(group, dict)
    directory = group["directories"]["memory"] if group["cgroup"] == 1 else group["directory"]
    with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
        assert len(file.read().split()) == 2


def test_detached_it_goes_on_and_is_recorded(sampan: Command, store: Store, box: str) -> None:
    """-d returns at once; the record says what became of it."""
    sampan("exec", "-d", "box", "sh", "-c", "sleep 0.3; exit 6", check=True)
    directory = f"{store.root}/containers/{box}/execs"
    (name,) = os.listdir(directory)
    assert json.loads(_text(f"{directory}/{name}"))["running"] is True
    (found,) = json.loads(sampan("inspect", "box").stdout)
    assert found["ExecIDs"] == [name.removesuffix(".json")]
    time.sleep(0.8)
    record = json.loads(_text(f"{directory}/{name}"))
    assert (record["running"], record["exit_code"]) == (False, 6)


def test_it_ends_with_the_container(sampan: Command, box: str) -> None:
    """Killing the container ends a command in it, whose caller is told."""
    program = ["sh", "-c", "touch /up; sleep 1000"]
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(sampan("exec", "box", *program).returncode))
    thread.start()
    while sampan("exec", "box", "ls", "/up").returncode != 0:
        time.sleep(0.1)
    sampan("kill", "box", check=True)
    thread.join(10)
    assert results == [137]


def test_not_in_one_that_is_stopped(sampan: Command, box: str) -> None:
    """A stopped container is a conflict, with docker's status."""
    sampan("stop", "-t", "0", "box", check=True)
    done = sampan("exec", "box", "true")
    assert done.returncode == 1
    assert "not running" in done.stderr


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.mark.network
def test_a_container_of_another_runtime(sampan: Command, store: Store, busybox: str, runc: str) -> None:
    """What runc started is entered like any other, with its user, filter and cgroup; nothing of it stays."""
    id = sampan("run", "-d", "--runtime", runc, "--name", "box", busybox, "sleep", "1000", check=True).stdout.strip()
    done = sampan("exec", "box", "sh", "-c", "id -u; cat /proc/self/cgroup; grep Seccomp: /proc/self/status; exit 3")
    assert done.returncode == 3
    assert done.stdout.startswith("0\n")
    assert "Seccomp:\t2" in done.stdout
    cgroup = store.state(id)["cgroup"]
    assert id in str(cgroup)
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []
