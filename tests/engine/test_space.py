"""system df, system prune and info: what the store holds, what goes, and what stays."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import space
from sampan.settings.configuration import Settings
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]
_MIB = 1 << 20


@pytest.fixture
def full(sampan: Command, busybox: str, busybox_tar: str) -> Iterator[Command]:
    """A store with one of everything that is used, and one of everything that is not."""
    script = (
        "dd if=/dev/zero of=/own bs=1M count=2 2>/dev/null; dd if=/dev/zero of=/data/kept bs=1M count=3 2>/dev/null"
    )
    sampan("network", "create", "used", check=True)
    sampan("network", "create", "idle", check=True)
    sampan("run", "--name", "old", "-v", "/data", "--network", "none", busybox, "sh", "-c", script, check=True)
    volume = ("-v", "named:/data")
    sampan("run", "-d", "--name", "web", "--network", "used", *volume, busybox, "sleep", "60", check=True)
    sampan("import", "-c", "LABEL a=b", busybox_tar, "other", check=True)
    yield sampan
    sampan("rm", "-f", "web", "old")


def _df(sampan: Command) -> dict[str, dict[str, str]]:
    lines = sampan("system", "df", "--format", "json", check=True).stdout.splitlines()
    return {row["Type"]: row for row in map(json.loads, lines)}


def test_df(full: Command) -> None:
    """Docker's four lines: how many, how many in use, how large, and what could be had back."""
    rows = _df(full)
    assert list(rows) == ["Images", "Containers", "Local Volumes", "Build Cache"]
    assert (rows["Images"]["TotalCount"], rows["Images"]["Active"]) == ("2", "1")
    # Both images have the same layer: nothing could be had back.
    assert rows["Images"]["Reclaimable"] == "0B (0%)"
    assert (rows["Containers"]["TotalCount"], rows["Containers"]["Active"]) == ("2", "1")
    assert (rows["Containers"]["Size"], rows["Containers"]["Reclaimable"]) == ("2.097MB", "2.097MB (100%)")
    assert (rows["Local Volumes"]["TotalCount"], rows["Local Volumes"]["Active"]) == ("2", "2")
    assert rows["Local Volumes"]["Size"] == "3.146MB"
    table = full("system", "df").stdout.splitlines()
    assert table[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert len(table) == 5
    told = full("system", "df", "-v", check=True).stdout
    for word in ("Images space usage:", "other", "web", "named", "2.097MB", "3.146MB", "Build cache usage: 0B"):
        assert word in told
    assert full("system", "df", "--format", "{{.Type}}={{.TotalCount}}").stdout.split("\n")[0] == "Images=2"


def test_prune_asks_and_takes_what_is_stopped(full: Command, store: Store) -> None:
    """Without a yes nothing goes; then stopped containers and idle networks do, and what is used stays."""
    done = full("system", "prune", feed="n\n")
    assert done.returncode == 1
    assert "all stopped containers" in done.stderr
    assert len(store.containers()) == 2
    done = full("system", "prune", feed="yes\n")
    assert done.returncode == 0
    assert "Deleted Containers:\n" in done.stdout
    assert "Deleted Networks:\nidle\n" in done.stdout
    assert done.stdout.endswith("Total reclaimed space: 2.097MB\n")
    assert full("ps", "-a", "--format", "{{.Names}}").stdout == "web\n"
    assert {row[0] for row in store.rows("SELECT name FROM networks")} >= {"used"}
    assert len(full("volume", "ls", "-q").stdout.split()) == 2
    assert len(full("images", "-q").stdout.split()) == 2


def test_prune_all(full: Command, store: Store) -> None:
    """With -a images that no container has, with --volumes anonymous volumes; named ones stay, as with docker."""
    done = full("system", "prune", "-af", "--volumes", check=True)
    assert "untagged: other:latest" in done.stdout
    assert full("images", "--format", "{{.Repository}}").stdout == "busybox\n"
    assert full("volume", "ls", "-q").stdout == "named\n"
    assert full("exec", "web", "echo", "alive").stdout == "alive\n"
    assert full("system", "prune", "-af", check=True).stdout == "Total reclaimed space: 0B\n"
    assert store.rows("SELECT * FROM leases") == []


def test_the_build_cache_goes(sampan: Command, busybox: str, tmp_path: Path, store: Store) -> None:
    """What a removed image's build has left goes without -a; what an image has, only with it."""
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nCOPY Dockerfile /\n", encoding="utf-8")
    sampan("build", "-t", "made", str(tmp_path), check=True, timeout=120)
    assert _df(sampan)["Build Cache"]["TotalCount"] == "1"
    assert sampan("system", "prune", "-f", check=True).stdout == "Total reclaimed space: 0B\n"
    sampan("rmi", "made", check=True)
    told = sampan("system", "prune", "-f", check=True).stdout
    assert "Deleted build cache objects:\n" in told
    assert store.rows("SELECT * FROM builds") == []
    sampan("build", "-t", "made", str(tmp_path), check=True, timeout=120)
    sampan("system", "prune", "-af", check=True)
    assert store.rows("SELECT * FROM builds") == []
    assert [path for path in Path(store.root).glob("blobs/sha256/*") if path.is_file()] == []


def test_info(full: Command, settings: Settings) -> None:
    """Docker's keys, with this store's numbers."""
    facts = json.loads(full("info", "--format", "json", check=True).stdout)
    assert (facts["Containers"], facts["ContainersRunning"], facts["ContainersStopped"]) == (2, 1, 1)
    assert (facts["Images"], facts["DockerRootDir"]) == (2, settings.root)
    assert facts["KernelVersion"] == os.uname().release
    assert facts["CgroupVersion"] in {"1", "2"}
    assert full("info", "-f", "{{.NCPU}} {{.OSType}}").stdout == f"{os.cpu_count()} linux\n"
    told = full("info").stdout
    assert "\n Running: 1\n" in told
    assert f"Root Dir: {settings.root}\n" in told


def test_a_tree_counts_a_file_once(tmp_path: Path) -> None:
    """Hard links count once, symbolic links are not followed, and what is not there is nothing."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(b"x" * 1000)
    os.link(tmp_path / "deep" / "er" / "file", tmp_path / "link")
    (tmp_path / "away").symlink_to("/usr")
    assert space.tree_bytes(str(tmp_path)) == 1000 + len("/usr")
    assert space.tree_bytes(str(tmp_path / "nowhere")) == 0


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_share_is_a_per_cent(size: int, reclaimable: int) -> None:
    """Never more than the whole, and no division by nothing."""
    from sampan.cli import df

    part = min(size, reclaimable)
    row = df.document(space.Total("Images", 1, 0, size, part))
    assert ("%" in row["Reclaimable"]) == (size > 0)
    assert not size or 0 <= int(row["Reclaimable"].split("(")[1].rstrip("%)")) <= 100


def test_sizes_of_containers(sampan: Command, busybox: str) -> None:
    """`ps --size` and `inspect --size`: what a container has written, and that with its image; else nobody counts."""
    script = "head -c 5000 /dev/zero > /own"
    sampan("run", "--name", "box", "--network", "none", busybox, "sh", "-c", script, check=True)
    header, row = sampan("ps", "-as", check=True).stdout.splitlines()
    assert header.endswith("SIZE")
    (found,) = json.loads(sampan("inspect", "--size", "box", check=True).stdout)
    assert found["SizeRw"] == 5000
    assert found["SizeRootFs"] > 1_000_000
    assert "5kB (virtual " in row
    assert sampan("ps", "-a", "--format", "{{.Size}}", check=True).stdout.startswith("5kB (virtual ")
    assert "SIZE" not in sampan("ps", "-a", check=True).stdout
    assert "SizeRw" not in json.loads(sampan("inspect", "box", check=True).stdout)[0]
    sampan("rm", "box", check=True)
