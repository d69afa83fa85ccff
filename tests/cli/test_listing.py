"""`ps`: whom each of docker's filters takes, and the last ones."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.plugin.ground import Command

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip


@pytest.fixture
def fleet(sampan: Command, busybox_tar: str) -> Iterator[Callable[..., list[str]]]:
    """Yield `names(*words)`: which of four containers `ps` shows. The oldest is `one`."""
    sampan("import", busybox_tar, "busybox", check=True)
    (sampan("import", "-c", 'CMD ["true"]', busybox_tar, "other:1", check=True))
    sampan("network", "create", "lake", check=True)
    one = ("--name", "one", "-p", "127.0.0.1:18080:80", "--expose", "81", "-l", "x=y", "-l", "z=1")
    sampan("run", "-d", *one, "busybox", "sleep", "100", check=True)
    two = ("--name", "two", "--network", "lake", "-v", "hold:/h", "-v", "/tmp:/t", "--health-cmd", "true", "-l", "x=n")
    sampan("run", "-d", *two, "busybox", "sleep", "100", check=True)
    sampan("run", "--name", "three", "--network", "none", "busybox", "sh", "-c", "exit 3")
    sampan("create", "--name", "four", "--network", "none", "other:1", check=True)

    def names(*words: str) -> list[str]:
        return sampan("ps", "--format", "{{.Names}}", *words, check=True).stdout.split()

    yield names
    sampan("rm", "-f", "one", "two", "three", "four")
    sampan("network", "rm", "lake")


def test_filters(fleet: Callable[..., list[str]], sampan: Command) -> None:
    """Each key; of one key any value, of several keys all, of labels all."""
    expected = {
        "publish=18080": "one", "publish=18000-18100/tcp": "one", "publish=80": "", "publish=18080/udp": "",
        "expose=80": "one", "expose=81": "one", "expose=79-81": "one", "expose=82": "",
        "health=starting": "two", "health=none": "four three one",
        "volume=hold": "two", "volume=/h": "two", "volume=/tmp": "two", "volume=/x": "",
        "network=lake": "two", "network=bridge": "one", "network=none": "four three", "network=sea": "",
        "before=two": "one", "since=two": "four three", "since=four": "",
        "ancestor=busybox": "four three two one", "ancestor=other:1": "four three two one", "ancestor=other": "",
        "is-task=true": "", "is-task=false": "four three two one",
        "label=x": "two one", "label=x=y": "one", "exited=3": "three", "exited=0": "", "status=created": "four",
        "name=o": "four two one", "name=^/one$": "one", "status=running": "two one",
    }  # fmt: skip
    got = {word: " ".join(fleet("-a", "--filter", word)) for word in expected if "health" not in word}
    assert got == {word: names for word, names in expected.items() if "health" not in word}
    # It is healthy soon.
    assert fleet("-a", "-f", "health=starting", "-f", "health=healthy") == ["two"]
    assert fleet("-a", "-f", "health=none") == ["four", "three", "one"]
    assert fleet("-f", "label=x", "-f", "label=z") == ["one"]
    assert fleet("-a", "-f", "name=one", "-f", "name=two", "-f", "network=lake") == ["two"]
    identity = sampan("network", "inspect", "-f", "{{.Id}}", "lake").stdout.strip()
    assert fleet("-f", f"network={identity[:12]}") == ["two"]
    for word in ("publish=x", "health=ill", "exited=x", "colour=red", "before=nobody", "status=ill"):
        assert sampan("ps", "--filter", word).returncode == 1


def test_the_last_ones(fleet: Callable[..., list[str]]) -> None:
    """--last and --latest look at all states; 0 is no limit."""
    assert fleet("-l") == ["four"]
    assert fleet("-n", "2") == ["four", "three"]
    assert fleet("--last=3", "--filter", "network=none") == ["four", "three"]
    assert fleet("-n", "0") == ["two", "one"]
    assert fleet("-aqn1", "--format", "{{.ID}}") == fleet("-lq")


def test_size(fleet: Callable[..., list[str]], sampan: Command) -> None:
    """Docker's two numbers: what was written, and that with the image."""
    sampan("exec", "one", "sh", "-c", "head -c 5000 /dev/zero > /written", check=True)
    assert fleet("-s", "--format", "{{.Names}}:{{.Size}}", "-f", "name=one")[0] == "one:5kB"
    header, line = sampan("ps", "-s", "-f", "name=one").stdout.splitlines()
    assert header.endswith("SIZE")
    assert re.search(r"5kB \(virtual [0-9.]+MB\)$", line)
    assert "SIZE" not in sampan("ps").stdout
    assert sampan("ps", "--format", "{{.Size}}", "-f", "name=one").stdout == line[line.index("5kB") :] + "\n"


def test_formats_of_one_s_own(sampan: Command, environment: dict[str, str], busybox_tar: str) -> None:
    """The psFormat and imagesFormat of docker's config.json, unless a flag says otherwise; a mistake there is named."""
    sampan("import", busybox_tar, "busybox", check=True)
    sampan("create", "--name", "box", "busybox", "true", check=True)
    file = Path(environment["DOCKER_CONFIG"], "config.json")
    file.parent.mkdir()
    file.write_text('{"psFormat": "table {{.Names}}", "imagesFormat": "{{.Repository}}!"}')
    assert sampan("ps", "-a").stdout == "NAMES\nbox\n"
    assert sampan("images").stdout == "busybox!\n"
    assert len(sampan("ps", "-aq").stdout) == len(sampan("images", "-q").stdout) == 13
    assert sampan("ps", "-a", "--format", "{{.State}}").stdout == "created\n"
    file.write_text('{"psFormat": 1}')
    done = sampan("ps")
    assert done.returncode == 1
    assert "`psFormat` is no text" in done.stderr
    file.write_text("{")
    assert f"{file}" in sampan("ps").stderr
    assert sampan("ps", "-q").returncode == 0
    sampan("rm", "box", check=True)
