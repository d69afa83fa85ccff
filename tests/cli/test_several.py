"""A command that takes several names goes on after an error and ends with 1; what `--force` forgives, docker's way."""

import pytest

from tests.plugin.ground import Command

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip


def test_it_goes_on(sampan: Command, busybox_tar: str) -> None:
    """Of three names the middle one is none: the others are done and printed, the status is 1, the error names it."""
    sampan("import", busybox_tar, "busybox", check=True)
    for name in ("one", "two"):
        sampan("create", "--network", "none", "--name", name, "busybox", "sleep", "1000", check=True)
        sampan("volume", "create", name, check=True)
        sampan("network", "create", name, check=True)
        sampan("tag", "busybox", name, check=True)
    lines = ("start", "update --pids-limit 100", "restart -t 0", "stop -t 0", "start", "kill", "rm", "volume rm")
    for line in (*lines, "network rm"):
        done = sampan(*line.split(), "one", "nobody", "two")
        assert (done.returncode, done.stdout) == (1, "one\ntwo\n"), line
        assert done.stderr.count("error:") == 1
        assert "nobody" in done.stderr
    done = sampan("inspect", "-f", "{{index .RepoTags 0}}", "one", "nobody", "two")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    done = sampan("rmi", "one", "nobody", "two")
    assert (done.returncode, done.stdout) == (1, "Untagged: one:latest\nUntagged: two:latest\n")


@pytest.mark.parametrize("line", ["rm -f", "rmi -f", "volume rm -f"])
def test_what_force_forgives(sampan: Command, line: str) -> None:
    """What is not there is gone, as asked: scripts begin with `rm -f`."""
    done = sampan(*line.split(), "nobody")
    assert done.returncode == 0
    assert sampan(*line.split()[:-1], "nobody").returncode == 1


def test_ids_by_their_beginning(sampan: Command, busybox_tar: str) -> None:
    """A unique beginning of an id is a name; one of two containers is an error."""
    sampan("import", busybox_tar, "busybox", check=True)
    ids = [sampan("create", "busybox", "true", check=True).stdout.strip() for _ in range(17)]
    first = {id[0] for id in ids}
    twice = next(letter for letter in first if sum(id[0] == letter for id in ids) > 1)
    done = sampan("rm", twice)
    assert done.returncode == 1
    assert sampan("inspect", "-f", "{{.Id}}", ids[0][:12], check=True).stdout.strip() == ids[0]
    assert sampan("rm", ids[0][:20], check=True).stdout == f"{ids[0][:20]}\n"


def test_inspect_finds_all_kinds(sampan: Command, busybox_tar: str) -> None:
    """Containers, then images, networks and volumes; --type looks among one kind, --size measures a container."""
    sampan("import", busybox_tar, "busybox", check=True)
    sampan("create", "--name", "boat", "busybox", "true", check=True)
    sampan("network", "create", "lake", check=True)
    sampan("volume", "create", "boat", check=True)
    done = sampan("inspect", "-f", "{{.Name}}", "boat", "lake", "bridge", check=True)
    assert done.stdout == "/boat\nlake\nbridge\n"
    assert sampan("inspect", "--type", "volume", "-f", "{{.Driver}}", "boat", check=True).stdout == "local\n"
    assert "no network `boat`" in sampan("inspect", "--type", "network", "boat").stderr
    assert "no container, image, network or volume `none-such`" in sampan("inspect", "none-such").stderr
    rw, whole = sampan("inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "boat", check=True).stdout.split()
    assert int(whole) > int(rw) == 0
    assert sampan("inspect", "-f", "{{.SizeRw}}", "boat").returncode == 1
    sampan("rm", "boat", check=True)
    sampan("network", "rm", "lake", check=True)
