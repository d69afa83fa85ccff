"""Volumes as things of their own: made, listed, filled, removed; and `--mount` in its forms."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import mount_words
from sampan.errors import InvalidArgument
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip

ALONE = ("run", "--rm", "--network", "none")


def test_a_volume_s_life(sampan: Command, store: Store) -> None:
    """Made with labels, found by them, kept over its containers, not removed while one has it, then gone."""
    assert sampan("volume", "create", "--label", "a=b", "data", check=True).stdout == "data\n"
    assert sampan("volume", "create", "data", check=True).stdout == "data\n"
    (found,) = json.loads(sampan("volume", "inspect", "data", check=True).stdout)
    assert (found["Labels"], found["Driver"]) == ({"a": "b"}, "local")
    sampan(*ALONE, "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/x", check=True)
    sampan("create", "--name", "box", "-v", "data:/d", "busybox", "cat", "/d/x", check=True)
    assert Path(found["Mountpoint"], "x").read_text(encoding="utf-8") == "kept\n"
    assert sampan("volume", "ls", "-q", "-f", "label=a", check=True).stdout == "data\n"
    assert sampan("volume", "ls", "-q", "-f", "dangling=true", check=True).stdout == ""
    refused = sampan("volume", "rm", "data")
    assert refused.returncode == 1
    assert "`box`" in refused.stderr
    assert sampan("start", "-a", "box", check=True).stdout == "kept\n"
    sampan("rm", "-v", "box", check=True)
    assert sampan("volume", "ls", "-q", "-f", "dangling=true", check=True).stdout == "data\n"
    assert sampan("volume", "rm", "data", check=True).stdout == "data\n"
    assert sampan("volume", "rm", "data").returncode == 1
    sampan("volume", "rm", "-f", "data", check=True)
    assert not os.path.exists(found["Mountpoint"])
    assert store.left(sampan) == []


def test_an_empty_volume_is_filled_from_the_image(sampan: Command) -> None:
    """One that was made beforehand too, with owner and mode; not one that has something, nor with nocopy."""
    sampan("volume", "create", "made", check=True)
    listing = "ls -A /etc | wc -l; stat -c '%a %u' /etc"
    plain = sampan(*ALONE, "busybox", "sh", "-c", "ls -A /bin | wc -l; stat -c '%a %u' /bin", check=True).stdout
    for name in ("made", "fresh"):
        shown = sampan(*ALONE, "-v", f"{name}:/bin2", "busybox", "sh", "-c", "ls -A /bin2", check=True).stdout
        assert shown == ""
        script = "ls -A /bin | wc -l; stat -c '%a %u' /bin"
        assert sampan(*ALONE, "-v", f"{name}:/bin", "busybox", "sh", "-c", script, check=True).stdout == plain
        sampan(*ALONE, "-v", f"{name}:/v", "busybox", "rm", "/v/ls", check=True)
        script = "test -e /bin/ls || echo gone"
        assert sampan(*ALONE, "-v", f"{name}:/bin", "busybox", "sh", "-c", script, check=True).stdout == "gone\n"
    word = "type=volume,source=bare,target=/etc,volume-nocopy"
    assert sampan(*ALONE, "--mount", word, "busybox", "sh", "-c", listing, check=True).stdout.split()[0] == "0"


def test_a_volume_that_somebody_has_mounted_is_not_filled(sampan: Command) -> None:
    """It would be another directory for the one than for the other; when nobody has it any more, it is."""
    words = ("run", "-d", "--network", "none", "--name", "box")
    sampan(*words, "-v", "shared:/empty", "busybox", "sleep", "1000", check=True)
    assert sampan(*ALONE, "-v", "shared:/bin", "busybox", "true").returncode == 127
    sampan("rm", "-f", "box", check=True)
    assert sampan(*ALONE, "-v", "shared:/bin", "busybox", "true").returncode == 0


def test_prune_takes_what_nobody_has(sampan: Command, store: Store) -> None:
    """Anonymous volumes, with --all named ones too; `rm -v` and `--rm` take a container's anonymous ones."""
    sampan("create", "--name", "box", "-v", "/a", "-v", "named:/b", "busybox", "true", check=True)
    sampan("start", "-a", "box", check=True)
    sampan(*ALONE, "-v", "/a", "busybox", "true", check=True)
    assert len(sampan("volume", "ls", "-q", check=True).stdout.split()) == 2
    assert sampan("volume", "prune", "-af", check=True).stdout == ""
    sampan("rm", "box", check=True)
    (anonymous,) = sampan("volume", "prune", "-f", check=True).stdout.split()
    assert len(anonymous) == 64
    assert sampan("volume", "prune", "-af", check=True).stdout == "named\n"
    assert store.left(sampan) == []


def test_every_type_of_mount(sampan: Command, place: str) -> None:
    """A bind, a volume and a tmpfs, read-only where that is said."""
    os.mkdir(f"{place}/here")
    words = (
        f"type=bind,src={place}/here,dst=/b,ro,bind-propagation=rslave",
        "source=vv,destination=/v",
        "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770",
    )
    mounts = [word for mount in words for word in ("--mount", mount)]
    script = "touch /b/x || echo ro; touch /v/x; stat -c %a /t; df -k /t | tail -1"
    done = sampan(*ALONE, *mounts, "busybox", "sh", "-c", script, check=True).stdout.split()
    assert done[:2] == ["ro", "1770"]
    assert "1024" in done


@pytest.mark.parametrize(
    "word",
    [
        "type=nfs,target=/x",
        "type=tmpfs,source=a,target=/x",
        "type=volume,source=a/b,target=/x",
        "type=volume,source=a",
        "type=bind,source=/,target=/x,bind-propagation=up",
        "type=bind,source=/,target=/x,tmpfs-size=1",
        "type=volume,target=/x,frobnicate",
    ],
)
def test_what_is_no_mount_is_refused(word: str) -> None:
    """Each with what would be right."""
    with pytest.raises(InvalidArgument):
        mount_words.parse_mount(word)
