"""docker cp, both ways, with a container that runs and one that is stopped; and what a hostile container tries."""

import io
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.engine.conftest import Store
from tests.plugin.ground import PROGRAM
from tests.plugin.person import GID, UID, Person

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
]  # fmt: skip
_MAKE = """
[ -e /ready ] && exec sleep 1000
mkdir -p /tree/sub; echo one > /tree/one; echo two > /tree/sub/two; chown 7:8 /tree/one; chmod 4751 /tree/one
ln -s one /tree/link; ln /tree/one /tree/hard; mkfifo /tree/pipe; ln -s /tree /way; touch -d 2001-02-03 /tree/sub
chmod 1777 /tree/sub
touch /ready
exec sleep 1000
"""


@pytest.fixture(params=["running", "stopped"])
def box(sampan: Command, busybox: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the name of a container with a tree of files, which runs or does not."""
    words = ("--name", "box", "--network", "none", "-v", "data:/data")
    sampan("run", "-d", *words, busybox, "sh", "-c", _MAKE, check=True)
    _await(lambda: sampan("exec", "box", "test", "-e", "/ready").returncode == 0)
    if request.param == "stopped":
        sampan("kill", "box", check=True)
    yield "box"
    sampan("rm", "-f", "box", check=True)


def _await(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline


def _in(sampan: Command, script: str) -> str:
    """Return what a shell in the container prints; one that is stopped is looked at by its next run."""
    sampan("start", "box", check=True)
    _await(lambda: sampan("exec", "box", "test", "-e", "/ready").returncode == 0)
    return sampan("exec", "box", "sh", "-c", script, check=True).stdout


def test_a_file_comes_out(sampan: Command, box: str, tmp_path: Path) -> None:
    """With its content, mode without set-id bits, and time; owned by whoever copies; docker's line for who wants it."""
    assert sampan("cp", "box:/tree/one", str(tmp_path), check=True).stderr == ""
    done = sampan("cp", "--quiet=false", "box:/tree/one", str(tmp_path), check=True)
    assert (done.stdout, done.stderr) == ("", f"Successfully copied 2.05kB to {tmp_path}\n")
    status = os.stat(tmp_path / "one")
    assert (tmp_path / "one").read_text() == "one\n"
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o751, os.getuid(), os.getgid())
    assert sampan("cp", "-q", "box:/tree/one", f"{tmp_path}/other", check=True).stderr == ""
    assert (tmp_path / "other").read_text() == "one\n"


def test_a_tree_comes_out(sampan: Command, box: str, tmp_path: Path) -> None:
    """Links stay links, hard links hard links, times and modes of directories are kept; `/.` is the content."""
    sampan("cp", "box:/tree", f"{tmp_path}/new", check=True)
    sampan("cp", "box:/tree", str(tmp_path), check=True)
    sampan("cp", "box:/tree/.", f"{tmp_path}/content/", check=True)
    sampan("cp", "box:/way/", f"{tmp_path}/through", check=True)
    for name in ("new", "tree", "content", "through"):
        found = tmp_path / name
        assert sorted(os.listdir(found)) == ["hard", "link", "one", "pipe", "sub"]
        assert os.readlink(found / "link") == "one"
        assert os.stat(found / "one").st_ino == os.stat(found / "hard").st_ino
        assert stat.S_ISFIFO(os.stat(found / "pipe").st_mode)
        assert (found / "sub/two").read_text() == "two\n"
        assert stat.S_IMODE(os.stat(found / "sub").st_mode) == 0o1777
        assert time.gmtime(os.stat(found / "sub").st_mtime)[:2] == (2001, 2)


def test_links(sampan: Command, box: str, tmp_path: Path) -> None:
    """A link is copied as one; with -L, or a slash, what it leads to, under the link's name."""
    sampan("cp", "box:/way", str(tmp_path), check=True)
    assert os.readlink(tmp_path / "way") == "/tree"
    os.unlink(tmp_path / "way")
    sampan("cp", "-L", "box:/way", str(tmp_path), check=True)
    assert (tmp_path / "way/one").read_text() == "one\n"
    os.symlink("one", tmp_path / "here")
    (tmp_path / "one").write_text("here\n")
    sampan("cp", f"{tmp_path}/here", "box:/as-link", check=True)
    sampan("cp", "-L", f"{tmp_path}/here", "box:/as-file", check=True)
    assert _in(sampan, "readlink /as-link; cat /as-file").split() == ["one", "here"]


def test_archive_keeps_owners(sampan: Command, box: str, tmp_path: Path) -> None:
    """With -a what comes out and goes in stays whose it was; without, it is the root's of the container."""
    sampan("cp", "-a", "box:/tree/one", f"{tmp_path}/file", check=True)
    status = os.stat(tmp_path / "file")
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o4751)
    sampan("cp", "-a", f"{tmp_path}/file", "box:/kept", check=True)
    sampan("cp", f"{tmp_path}/file", "box:/root-s", check=True)
    found = _in(sampan, "stat -c '%u:%g %a' /kept /root-s").splitlines()
    assert found == ["7:8 4751", "0:0 751"]


def test_what_goes_in(sampan: Command, box: str, tmp_path: Path) -> None:
    """A file to a name, onto a file, into a directory; a directory to a name and into one; content; into a volume."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/new").write_text("new\n")
    (tmp_path / "file").write_text("file\n")
    done = sampan("cp", "-q=false", f"{tmp_path}/file", "box:/made", check=True)
    assert done.stderr == "Successfully copied 2.05kB to box:/made\n"
    sampan("cp", f"{tmp_path}/file", "box:/tree/sub/two", check=True)
    sampan("cp", f"{tmp_path}/file", "box:/tree", check=True)
    sampan("cp", f"{tmp_path}/tree", "box:/", check=True)
    sampan("cp", f"{tmp_path}/tree", "box:/copy/", check=True)
    sampan("cp", f"{tmp_path}/tree/.", "box:way/sub", check=True)
    sampan("cp", f"{tmp_path}/file", "box:/data/", check=True)
    looked = "cat /made /tree/sub/two /tree/file /tree/new /copy/new /tree/sub/new /data/file /tree/one"
    assert _in(sampan, looked).split() == ["file"] * 3 + ["new"] * 3 + ["file", "one"]
    assert _in(sampan, "stat -c %a /tree/sub").split() == ["1777"]


def test_a_tar_comes_out_and_goes_in(sampan: Command, box: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """`-` is a tar: on stdout with the image's owners, from stdin with its own, compressed or not."""
    tar = _raw(environment, "cp", "box:/tree", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        owners = {member.name: (member.uid, member.gid) for member in archive}
    assert owners["tree/one"] == (7, 8)
    assert sorted(owners)[:3] == ["tree", "tree/hard", "tree/link"]
    with tarfile.open(fileobj=io.BytesIO(_raw(environment, "cp", "box:/tree/.", "-").stdout)) as archive:
        assert archive.getnames()[:2] == [".", "./hard"]
    _raw(environment, "cp", "-", "box:/data", feed=tar)
    packed = subprocess.run(["gzip"], input=tar, capture_output=True, check=True).stdout
    _raw(environment, "cp", "-", "box:/", feed=packed)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("way/through"), io.BytesIO())
    _raw(environment, "cp", "-", "box:/", feed=buffer.getvalue())
    found = _in(sampan, "stat -c %u:%g /data/tree/one /tree/one; ls /tree/through").split()
    assert found == ["7:8", "7:8", "/tree/through"]
    done = _raw(environment, "cp", "-", "box:/tree/one", feed=tar, check=False)
    assert (done.returncode, b"must be a directory" in done.stderr) == (1, True)
    done = _raw(environment, "cp", "-", "box:/data", feed=b"no tar" * 200, check=False)
    assert (done.returncode, b"error: the archive " in done.stderr) == (1, True)


def _raw(
    environment: dict[str, str], *words: str, feed: bytes = b"", check: bool = True
) -> "subprocess.CompletedProcess[bytes]":
    done = subprocess.run([PROGRAM, *words], input=feed, capture_output=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0 or not check, done.stderr
    return done


_MISTAKES = (
    ("box:/no", ".", "there is no `/no` in the container `box`"),
    ("box:/tree/one/", "x", "there is no `/tree/one/` in the container `box`"),
    ("box:/tree/one", "no/x", "there is no directory `"),
    ("box:/tree/one", "new/", "there is no directory `new/`"),
    ("box:/tree", "file", "`file` is a file, which a directory cannot replace"),
    ("box:/tree/sub/two", "clash", "`two` is a directory, which a file cannot replace"),
    ("no", "box:/", "there is no file or directory `no`"),
    ("file", "box:/no/x", "there is no directory `/no` in the container `box`"),
    ("file", "box:/new/", "there is no directory `/new/`"),
    ("dir", "box:/tree/one", "`/tree/one` is a file, which a directory cannot replace"),
    ("file", "box:/tree/pipe", "must be a directory or a file"),
    ("file", "nobody:/", "there is no container `nobody`"),
    ("file/", "box:/", "`file/` is no directory"),
)


def test_mistakes(sampan: Command, box: str, tmp_path: Path) -> None:
    """Each is an error with status 1 that names what is wrong."""
    (tmp_path / "file").write_text("file\n")
    os.makedirs(tmp_path / "dir/one")
    os.makedirs(tmp_path / "clash/two")
    for source, destination, words in _MISTAKES:
        done = sampan("cp", source, destination, cwd=tmp_path)
        assert (done.returncode, words in done.stderr) == (1, True), (source, destination, done.stderr)


def test_a_directory_does_not_replace_a_file(sampan: Command, box: str, tmp_path: Path) -> None:
    """Deep in a tree neither takes the other's place."""
    os.makedirs(tmp_path / "dir/one")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/sub").write_text("file\n")
    for name, words in (("dir", "`one` is a file, which a directory"), ("other", "`sub` is a directory, which a file")):
        done = sampan("cp", f"{tmp_path}/{name}/.", "box:/tree")
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr


def test_nothing_is_left(sampan: Command, box: str, tmp_path: Path, store: Store) -> None:
    """No lock is held and nothing is mounted after it; the container goes on, or starts."""
    sampan("cp", "box:/tree", str(tmp_path), check=True)
    assert sampan("cp", "box:/no", str(tmp_path)).returncode == 1
    with open("/proc/mounts", encoding="utf-8") as file:
        assert store.root not in file.read()
    assert _in(sampan, "echo up") == "up\n"


def test_a_new_container(sampan: Command, busybox: str, tmp_path: Path) -> None:
    """One that has never run can be filled, its volume too, which has what the image has; read-only stays so."""
    (tmp_path / "file").write_text("file\n")
    sampan(
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "vol:/etc/more",
        busybox,
        "cat",
        "/file",
        "/etc/more/file",
        check=True,
    )
    sampan("cp", f"{tmp_path}/file", "box:/", check=True)
    sampan("cp", f"{tmp_path}/file", "box:/etc/more", check=True)
    assert sampan("start", "-a", "box", check=True).stdout == "file\nfile\n"
    sampan("rm", "box", check=True)
    sampan("create", "--name", "box", "--read-only", "-v", "vol:/more", busybox, "true", check=True)
    done = sampan("cp", f"{tmp_path}/file", "box:/")
    assert (done.returncode, "read-only" in done.stderr) == (1, True), done.stderr
    sampan("cp", f"{tmp_path}/file", "box:/more/again", check=True)
    sampan("rm", "box", check=True)


@pytest.mark.parametrize("ids", ["single", "range"])
def test_a_normal_user(user: Person, place: str, request: pytest.FixtureRequest, ids: str) -> None:
    """Both ways, of one that runs and one that is stopped; what comes out is his."""
    if ids == "range":
        request.getfixturevalue("subordinate")
    home = f"{place}/home"
    os.mkdir(home)
    os.chown(home, UID, GID)
    Path(f"{home}/file").write_text("file\n", encoding="utf-8")
    os.chown(f"{home}/file", UID, GID)
    user("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000", check=True)
    for number in (1, 2):
        user("cp", f"{home}/file", f"box:/in{number}", check=True)
        user("cp", f"box:/in{number}", home, check=True)
        user("cp", "box:/etc", f"{home}/etc{number}", check=True)
        status = os.stat(f"{home}/in{number}")
        assert (status.st_uid, status.st_gid) == (UID, GID)
        assert Path(f"{home}/in{number}").read_text(encoding="utf-8") == "file\n"
        assert os.stat(f"{home}/etc{number}/passwd").st_uid == UID
        assert user("cp", "box:/no", home).returncode == 1
        user("kill" if number == 1 else "start", "box", check=True)
    assert user("exec", "box", "stat", "-c", "%u:%g", "/in1", "/in2", check=True).stdout.split() == ["0:0", "0:0"]
    user("rm", "-f", "box", check=True)


@pytest.mark.parametrize("way", ["shift", "host", "read-only"])
def test_other_roots(sampan: Command, busybox: str, place: str, tmp_path: Path, way: str) -> None:
    """Files with shifted owners on disk, no user namespace, a read-only root: the owners are right, errors say why."""
    Path(f"{place}/config.toml").write_text('idmap = "shift"\n' if way == "shift" else "", encoding="utf-8")
    words = {"host": ("--userns", "host"), "read-only": ("--read-only",), "shift": ()}[way]
    sampan(
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "data:/data",
        *words,
        busybox,
        "sleep",
        "1000",
        check=True,
    )
    (tmp_path / "file").write_text("file\n")
    os.chown(tmp_path / "file", 7, 8)
    for number in (1, 2):
        for flags in ((), ("-a",)):
            done = sampan("cp", *flags, f"{tmp_path}/file", f"box:/in{number}{''.join(flags)}")
            assert done.returncode == (1 if way == "read-only" else 0), done.stderr
            assert (way == "read-only") == ("is read-only" in done.stderr)
        sampan("cp", "-a", f"{tmp_path}/file", f"box:/data/in{number}", check=True)
        sampan("cp", "-a", f"box:/data/in{number}", f"{tmp_path}/out{number}", check=True)
        sampan("cp", "-a", "box:/etc/passwd", f"{tmp_path}/passwd{number}", check=True)
        owners = [(os.stat(f"{tmp_path}/{name}{number}").st_uid) for name in ("out", "passwd")]
        assert owners == [7, 0]
        sampan("kill" if number == 1 else "start", "box", check=True)
    looked = ["/data/in1", "/data/in2", *(() if way == "read-only" else ("/in1", "/in2", "/in1-a", "/in2-a"))]
    expected = ["7:8", "7:8", *(() if way == "read-only" else ("0:0", "0:0", "7:8", "7:8"))]
    assert sampan("exec", "box", "stat", "-c", "%u:%g", *looked, check=True).stdout.split() == expected
    done = sampan("cp", f"{tmp_path}/file", "box:/etc/hosts")
    assert done.returncode == 1
    assert way == "read-only" or "something is mounted on" in done.stderr
    sampan("rm", "-f", "box", check=True)


def test_large_files(sampan: Command, box: str, tmp_path: Path) -> None:
    """What is larger than every buffer on the way arrives as it was."""
    content = os.urandom(3_000_001)
    (tmp_path / "large").write_bytes(content)
    sampan("cp", f"{tmp_path}/large", "box:/large", check=True)
    sampan("cp", "box:/large", f"{tmp_path}/back", check=True)
    assert (tmp_path / "back").read_bytes() == content


def test_a_killed_copy_leaves_nothing(sampan: Command, busybox: str, environment: dict[str, str], store: Store) -> None:
    """Kill -9 of a copy into a stopped container: its visitor ends too, and the container is free to start."""
    sampan("create", "--name", "box", "--network", "none", busybox, "true", check=True)
    lock = f"{store.root}/containers/{store.containers()[0]}/lock"
    copying = subprocess.Popen([PROGRAM, "cp", "-", "box:/"], stdin=subprocess.PIPE, env=environment)
    _await(lambda: _holders(lock) >= 2)
    copying.kill()
    copying.wait()
    assert copying.stdin is not None
    copying.stdin.close()
    _await(lambda: _holders(lock) == 0)
    assert sampan("start", "-a", "box").returncode == 0
    sampan("rm", "box", check=True)


def _holders(path: str) -> int:
    """Count the processes that have a file open."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        count += path in names
    return count
