"""Longer words for mounts: parts of volumes, trees below binds, volumes of other containers, options of volumes."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import mount_words
from sampan.errors import InvalidArgument, Unsupported
from sampan.kernel import mount, syscalls
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip
ALONE = ("run", "--rm", "--network", "none")


def test_a_part_of_a_volume(sampan: Command, busybox: str) -> None:
    """A directory or a file of it, which must be there; a link in it leads nowhere else."""
    sampan(
        *ALONE, "-v", "data:/d", busybox, "sh", "-c", "mkdir -p /d/a/b; echo 1 > /d/a/b/f; ln -s / /d/out", check=True
    )

    def part(path: str, script: str) -> "CompletedProcess[str]":
        return sampan(*ALONE, "--mount", f"source=data,target=/v,volume-subpath={path}", busybox, "sh", "-c", script)

    assert part("a/b", "cat /v/f; echo 2 > /v/g").stdout == "1\n"
    assert part("a/b/g", "cat /v").stdout == "2\n"
    for path in ("nosuch", "out/etc", "out/../a"):
        done = part(path, "echo ran")
        assert (done.returncode, done.stdout) == (125, ""), path
    (found,) = json.loads(sampan("volume", "inspect", "data", check=True).stdout)
    assert sorted(os.listdir(f"{found['Mountpoint']}/a/b")) == ["f", "g"]


@pytest.fixture
def tree(place: str) -> Iterator[str]:
    """A directory with another file system mounted below it."""
    path = f"{place}/tree"
    os.makedirs(f"{path}/below")
    fd = mount.filesystem("tmpfs", ("mode=0777",))
    syscalls.move_mount(fd, "", syscalls.AT_FDCWD, f"{path}/below", syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(fd)
    Path(f"{path}/below/here").write_text("", encoding="ascii")
    os.chmod(path, 0o777)  # noqa: S103 - the container's root is somebody else
    yield path
    syscalls.umount2(f"{path}/below", 0)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", "here top below"),
        ("bind-recursive=disabled", "top below"),
        ("bind-nonrecursive=true", "top below"),
        ("ro", "here"),
        ("readonly=true,bind-recursive=enabled", "here"),
        ("ro,bind-recursive=writable", "here below"),
        ("ro,bind-recursive=readonly", "here"),
        ("ro=false", "here top below"),
    ],
)
def test_what_is_mounted_below_a_bind(sampan: Command, busybox: str, tree: str, words: str, wanted: str) -> None:
    """It comes along unless it may not, and is read-only with the rest unless it may be written."""
    word = ",".join(filter(None, (f"type=bind,source={tree},target=/b", words)))
    script = "ls /b/below; touch /b/x && echo top; touch /b/below/y && echo below; rm -f /b/x /b/below/y"
    done = sampan(*ALONE, "--mount", word, busybox, "sh", "-c", script, check=True)
    assert done.stdout.split() == wanted.split()


def test_volumes_of_another_container(sampan: Command, busybox: str, place: str, store: Store) -> None:
    """Binds, named and anonymous volumes at their places; its own come first; nothing of them goes with it."""
    os.mkdir(f"{place}/here")
    words = ("-v", "data:/data", "-v", f"{place}/here:/here", "-v", "/anon", "--tmpfs", "/gone")
    sampan("create", "--name", "web", *words, busybox, "true", check=True)
    script = "for d in /data /here /anon /own; do echo x > $d/x && echo $d; done; mount | grep -c ' /gone '"
    done = sampan(*ALONE, "-v", "/own", "--volumes-from", "web", "-v", "other:/data", busybox, "sh", "-c", script)
    assert done.stdout.split() == ["/data", "/here", "/anon", "/own", "0"], done.stderr
    assert sampan(*ALONE, "-v", "data:/d", busybox, "ls", "/d", check=True).stdout == ""
    done = sampan(*ALONE, "--volumes-from", "web:ro", busybox, "sh", "-c", "cat /anon/x; touch /here/y /anon/y")
    assert (done.returncode, done.stdout) == (1, "x\n")
    sampan("create", "--name", "job", "--volumes-from", "web:ro", busybox, "true", check=True)
    (found,) = json.loads(sampan("inspect", "job", check=True).stdout)
    assert found["HostConfig"]["VolumesFrom"] == ["web:ro"]
    assert {m["Destination"]: m["RW"] for m in found["Mounts"]} == {"/data": False, "/here": False, "/anon": False}
    # The last of both takes the anonymous one with it, and none takes the named one.
    sampan("rm", "-v", "job", check=True)
    assert len(store.rows("SELECT name FROM volumes WHERE length(name) = 64")) == 1
    sampan("rm", "-v", "web", check=True)
    assert {row[0] for row in store.rows("SELECT name FROM volumes")} == {"data", "other"}
    assert sampan(*ALONE, "--volumes-from", "web", busybox, "true").returncode == 125


def test_a_volume_that_is_a_directory(sampan: Command, busybox: str, place: str) -> None:
    """`o=bind` shows the device, wherever the volume is mounted; one that is not there is an error."""
    os.mkdir(f"{place}/here")
    Path(f"{place}/here/f").write_text("hi", encoding="ascii")
    words = ("-o", "type=none", "-o", "o=bind,ro", "-o", f"device={place}/here")
    assert sampan("volume", "create", *words, "box", check=True).stdout == "box\n"
    done = sampan(*ALONE, "-v", "box:/x", busybox, "sh", "-c", "cat /x/f; touch /x/g", check=False)
    assert (done.returncode, done.stdout) == (1, "hi")
    (found,) = json.loads(sampan("volume", "inspect", "box", check=True).stdout)
    assert found["Options"] == {"type": "none", "o": "bind,ro", "device": f"{place}/here"}
    os.unlink(f"{place}/here/f")
    os.rmdir(f"{place}/here")
    done = sampan(*ALONE, "-v", "box:/x", busybox, "true")
    assert done.returncode == 125
    assert "does not exist" in done.stderr


def test_a_volume_that_is_a_tmpfs(sampan: Command, busybox: str) -> None:
    """With size and owner, also by --mount; one container at a time has it."""
    word = 'target=/t,source=quick,volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=1m,uid=1000"'
    script = "stat -c %u /t; df -k /t | tail -1; cp /bin/busybox /t/true && /t/true; exec sleep 60"
    sampan("run", "-d", "--network", "none", "--name", "box", "--mount", word, busybox, "sh", "-c", script, check=True)
    done = sampan(*ALONE, "-v", "quick:/q", busybox, "true")
    assert done.returncode == 125
    assert "one container at a time" in done.stderr
    sampan("rm", "-f", "box", check=True)
    done = sampan(*ALONE, "-v", "quick:/q", busybox, "sh", "-c", "stat -c %u /q; df -k /q | tail -1", check=True)
    assert done.stdout.split()[:3] == ["1000", "tmpfs", "1024"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-o type=nfs -o device=:/x -o o=addr=192.0.2.1", "of the type `nfs`"),
        ("-o size=1g", "the size of a volume"),
        ("-o type=tmpfs", "no `device`"),
        ("-o colour=red", "`colour` is unknown"),
        ("-o type=none -o o=bind -o device=here", "no absolute path"),
        ("-d flocker", "`flocker` is not there"),
    ],
)
def test_options_that_cannot_be_had(sampan: Command, words: str, told: str, store: Store) -> None:
    """Each is an error, and no volume is made."""
    done = sampan("volume", "create", *words.split(), "box")
    assert done.returncode == 1
    assert told in done.stderr
    assert sampan("volume", "ls", "-q", check=True).stdout == ""
    del store


def test_labels_of_a_volume_and_inspect(sampan: Command, busybox: str, place: str) -> None:
    """A volume that a --mount makes has its labels; inspect shows a --mount as docker does, apart from binds."""
    words = (
        *("--mount", "source=box,target=/v,volume-label=a=b,volume-nocopy", "-v", f"{place}:/old:ro"),
        *("--mount", f"type=bind,source={place},target=/b,ro,bind-recursive=writable,bind-propagation=rslave"),
        *("--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", "--tmpfs", "/u:size=1m"),
    )
    sampan("run", "-d", "--network", "none", "--name", "web", *words, busybox, "true", check=True)
    assert sampan("volume", "inspect", "box", "-f", "{{json .Labels}}", check=True).stdout == '{"a":"b"}\n'
    (found,) = json.loads(sampan("inspect", "web", check=True).stdout)
    told = found["HostConfig"]
    assert told["Binds"] == [f"{place}:/old:ro"]
    assert told["Tmpfs"] == {"/u": "size=1m"}
    assert told["Mounts"] == [
        {"Type": "volume", "Source": "box", "Target": "/v", "VolumeOptions": {"Labels": {"a": "b"}, "NoCopy": True}},
        {"Type": "bind", "Source": place, "Target": "/b", "ReadOnly": True,
         "BindOptions": {"Propagation": "rslave", "ReadOnlyNonRecursive": True}},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}},
    ]  # fmt: skip
    sampan("rm", "-f", "web", check=True)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("type=image,source=aa,target=/x", Unsupported),
        ("source=aa,target=/x,volume-driver=flocker", Unsupported),
        ("type=bind,source=/,target=/x,bind-recursive=writable", InvalidArgument),
        ("type=bind,source=/,target=/x,ro,bind-recursive=readonly,bind-propagation=rslave", InvalidArgument),
        ("type=bind,source=/,target=/x,bind-recursive=perhaps", InvalidArgument),
        ("type=bind,source=/,target=/x,readonly=perhaps", InvalidArgument),
        ("type=bind,source,target=/x", InvalidArgument),
        ("type=tmpfs,target=/x,tmpfs-mode=999", InvalidArgument),
        ("type=tmpfs,target=/x,tmpfs-size=big", InvalidArgument),
        ("source=aa,target=/x,volume-subpath=/etc", InvalidArgument),
        ("source=aa,target=/x,volume-subpath=../b", InvalidArgument),
    ],
)
def test_mounts_that_cannot_be_had(word: str, kind: type[Exception]) -> None:
    """Each is refused as what it is."""
    with pytest.raises(kind):
        mount_words.parse_mount(word)
