"""A hostile container against `cp`: no path and no race leads out of its root; each attack has its control."""

import io
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.engine import visit
from sampan.engine.placer import Placer, Rules
from sampan.errors import SampanError
from sampan.settings.configuration import Settings
from sampan.storage.tape import Bounds, Tape
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.cgroup,
]  # fmt: skip
FILES = 30
SECONDS = 30.0


@pytest.fixture
def outside(place: str) -> Iterator[Path]:
    """Yield a directory of the machine that holds a secret and that no container may reach; it stays as it is."""
    directory = Path(f"{place}/outside")
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    (directory / "secret").write_text("secret")
    yield directory
    assert os.listdir(directory) == ["secret"]
    assert (directory / "secret").read_text() == "secret"


@pytest.fixture(autouse=True)
def clean(sampan: Command) -> Iterator[None]:
    """Leave no container, whatever happened."""
    yield
    if sampan("ps", "-aq").stdout:
        sampan("rm", "-f", "box")


def _run(sampan: Command, script: str) -> None:
    """Run a container called `box` that does `script`; return once it is up."""
    command = f"{script}; touch /ready; while :; do sleep 1000; done"
    sampan("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", command, check=True)
    deadline = time.monotonic() + SECONDS
    while sampan("exec", "box", "test", "-e", "/ready").returncode != 0:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("form", ["absolute", "dots"])
def test_a_link_out_of_the_root(
    sampan: Command, busybox: str, store: Store, *, outside: Path, tmp_path: Path, state: str, form: str
) -> None:
    """A link to the machine's directory leads to the container's own of that name, or nowhere, both ways."""
    to = outside if form == "absolute" else f"../../../../../../..{outside}"
    _run(sampan, f"ln -s {to} /out; ln -s {to}/secret /one; ln -s {to}/made /new")
    (container,) = store.containers()
    # Control: who joins the names walks out.
    assert Path(f"{store.root}/containers/{container}/upper/one").resolve() == outside / "secret"
    if state == "stopped":
        sampan("kill", "box", check=True)
    (tmp_path / "file").write_text("file")
    for words in (("box:/out/secret", "."), ("-L", "box:/one", "."), ("box:/out/.", "."), ("file", "box:/out/secret")):
        assert sampan("cp", *words, cwd=tmp_path).returncode == 1
    assert sampan("cp", "file", "box:/new", cwd=tmp_path).returncode == 1
    sampan("start", "box", check=True)
    sampan("exec", "box", "mkdir", "-p", str(outside), check=True)
    for words in (("file", "box:/out"), ("file", "box:/new"), ("file", "box:/one")):
        sampan("cp", *words, cwd=tmp_path, check=True)
    found = sampan("exec", "box", "ls", str(outside), check=True).stdout.split()
    assert found == ["file", "made", "secret"]
    sampan("cp", "box:/out/secret", "mine", cwd=tmp_path, check=True)
    assert (tmp_path / "mine").read_text() == "file"


def test_links_that_are_swapped_meanwhile(
    sampan: Command, busybox: str, store: Store, outside: Path, tmp_path: Path
) -> None:
    """A directory that becomes a link out and back all the time, on the way in and out: nothing gets out."""
    swap = f"mv /work/sub /work/aside; ln -s {outside} /work/sub; rm /work/sub; mv /work/aside /work/sub"
    _run(sampan, f"mkdir -p /work/sub; (while :; do {swap}; done) 2>/dev/null & true")
    for number in range(FILES):
        (tmp_path / f"tree/sub/{number}").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"tree/sub/{number}").write_text("file")
    (container,) = store.containers()
    _control(f"/proc/{store.state(container)['pid']}/root/work/sub", outside)
    statuses = set()
    for number in range(8):
        statuses.add(sampan("cp", f"{tmp_path}/tree/.", "box:/work").returncode)
        sampan("cp", f"{tmp_path}/tree/sub/0", "box:/work/sub/0")
        sampan("cp", "-L", "box:/work", f"{tmp_path}/{number}")
        sampan("cp", "box:/work/sub/secret", f"{tmp_path}/secret")
        sampan("cp", "box:/work/sub/.", f"{tmp_path}/{number}-content")
        assert os.listdir(outside) == ["secret"]
    found = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {path.read_text() for path in found} == {"file"}
    assert statuses <= {0, 1}


def _control(path: str, outside: Path) -> None:
    """Show that the attack works on who joins names: sooner or later he writes to the machine, and reads from it."""
    deadline = time.monotonic() + SECONDS
    written, read = False, ""
    while not (written and read):
        assert time.monotonic() < deadline
        try:
            Path(f"{path}/leak").write_text("leak")
        except OSError:
            pass
        try:
            read = read or Path(f"{path}/secret").read_text()
        except OSError:
            pass
        if (outside / "leak").exists():
            written = True
            (outside / "leak").unlink()


_HOSTILE = {
    "through a link": (("link", tarfile.SYMTYPE, "OUT"), ("link/leak", tarfile.REGTYPE, "")),
    "over a link": (("link", tarfile.SYMTYPE, "OUT/leak"), ("link", tarfile.REGTYPE, "")),
    "by dots": (("../../outside/leak", tarfile.REGTYPE, ""),),
    "by its root": (("OUT/leak", tarfile.REGTYPE, ""),),
    "by a hard link": (("OUT/../a", tarfile.REGTYPE, ""), ("b", tarfile.LNKTYPE, "OUT/secret"), ("b", b"0", "")),
    "a parent that is a link": (("l", tarfile.SYMTYPE, "OUT"), ("l", tarfile.DIRTYPE, ""), ("l/leak", b"0", "")),
}


@pytest.mark.parametrize("attack", list(_HOSTILE))
def test_a_hostile_stream(outside: Path, place: str, attack: str) -> None:
    """What a container might send as a tar lands in the directory or nowhere, whatever links it made before."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, link in _HOSTILE[attack]:
            member = tarfile.TarInfo(name.replace("OUT", str(outside)))
            member.type, member.linkname = kind, link.replace("OUT", str(outside))
            archive.addfile(member, io.BytesIO())
    os.makedirs(f"{place}/a/b")
    fd = os.open(f"{place}/a/b", os.O_RDONLY | os.O_DIRECTORY)
    stream = io.BytesIO(buffer.getvalue())
    try:
        Placer(Tape(stream.read, Bounds()), fd, ".", Rules(gives=False)).run()
    except (SampanError, OSError):
        pass
    finally:
        os.close(fd)
    assert os.listdir(outside) == ["secret"]
    assert os.stat(outside / "secret").st_nlink == 1


def test_control_of_the_hostile_streams(place: str) -> None:
    """Control: an unpacker that trusts its archive writes where a link leads."""
    os.makedirs(f"{place}/elsewhere")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link, file = tarfile.TarInfo("link"), tarfile.TarInfo("link/leak")
        link.type, link.linkname = tarfile.SYMTYPE, f"{place}/elsewhere"
        archive.addfile(link)
        archive.addfile(file, io.BytesIO())
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        for member in archive:
            archive.extract(member, f"{place}/target", filter="fully_trusted")
    assert os.listdir(f"{place}/elsewhere") == ["leak"]


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_visitor_imports_nothing(sampan: Command, busybox: str, settings: Settings, state: str) -> None:
    """In the root it can import nothing, has few capabilities, no descriptors of ours, and sees no other root."""
    _run(sampan, "mkdir -p /usr/lib; echo 'raise SystemExit(9)' > /usr/lib/antigravity.py")
    if state == "stopped":
        sampan("kill", "box", check=True)
    kept = os.open("/etc", os.O_RDONLY)

    def work(_: visit.Guest) -> dict[str, object]:
        try:
            import antigravity  # noqa: F401

            found = "imported"
        except (ImportError, ImportWarning):
            found = "refused"
        try:
            os.fstat(kept)
            found += ", kept"
        except OSError:
            found += ", closed"
        return {"found": found, "root": sorted(os.listdir("/")), "path": len(sys.path)}

    with visit.open_root(settings, "box") as root, visit.begin(root, work, sends=True, writes=False) as guest:
        told = guest.hear()
    os.close(kept)
    assert (told["found"], told["path"]) == ("refused, closed", 0)
    assert "ready" in told["root"]
    # Control: before it goes in, it finds modules.
    assert len(sys.path) > 0


def test_a_pipe_or_a_growing_file_holds_nobody_up(sampan: Command, busybox: str, tmp_path: Path) -> None:
    """A pipe that nobody writes to is copied as one; a file that grows without end is as long as it was."""
    _run(sampan, "mkfifo /pipe; (while :; do echo more; done) > /grows & true")
    sampan("cp", "box:/pipe", str(tmp_path), check=True, timeout=20)
    sampan("cp", "box:/grows", str(tmp_path), check=True, timeout=20)
    assert (tmp_path / "grows").stat().st_size > 0
