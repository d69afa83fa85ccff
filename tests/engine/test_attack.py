"""A hostile image or container against the real commands; each attack has a control that shows that it is one.

What is tried against the runtime alone is in tests/runtime/test_attack.py, what against `cp` in test_copy_attack.py.
"""

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.runtime import standard
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]
Plant = Callable[..., str]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip
SOURCE = str(Path(__file__).resolve().parents[2] / "src")
SECONDS = 30.0


@pytest.fixture(autouse=True)
def clean(sampan: Command) -> Iterator[None]:
    """Leave no container, whatever happened."""
    yield
    if left := sampan("ps", "-aq").stdout.split():
        sampan("rm", "-f", "-v", *left)


@pytest.fixture
def outside(place: str) -> Iterator[Path]:
    """Yield a directory of the machine that holds a secret and that no container may reach; it stays as it is."""
    directory = Path(f"{place}/outside")
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "secret").write_text("secret")
    yield directory
    assert os.listdir(directory) == ["secret"]
    assert (directory / "secret").read_text() == "secret"


@pytest.fixture
def plant(sampan: Command, busybox_tar: str, place: str) -> Plant:
    """Return `plant(*members, change=())`: import busybox with more in it as `hostile`, what is there replaced."""

    def make(*members: tuple[tarfile.TarInfo, bytes], change: tuple[str, ...] = ()) -> str:
        path, taken = f"{place}/hostile.tar", {member.name for member, _ in members}
        with tarfile.open(path, "w") as tar, tarfile.open(busybox_tar) as busybox:
            for member in busybox:
                if member.name.rstrip("/") not in taken:
                    tar.addfile(member, busybox.extractfile(member) if member.isreg() else None)
            for member, content in members:
                tar.addfile(member, io.BytesIO(content))
        sampan("import", *(word for line in change for word in ("--change", line)), path, "hostile", check=True)
        return "hostile"

    return make


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member, b""


def _file(name: str, content: bytes, *, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def _fifo(name: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type = tarfile.FIFOTYPE
    return member, b""


# ------------------------------------------------------------------------------------------- the program of who joins
# Look at every process, again and again; say its name before and after an attempt to open its program for writing.
# Nothing is ever written: where the kernel says "Text file busy" the attack works, once that process has ended.
WATCH = """
touch /ready
while :; do
  for p in /proc/[0-9]*; do
    before= after=
    read before < $p/comm
    echo "> $before"
    true >> $p/exe
    read after < $p/comm
    echo "< $after"
  done
done > /seen 2>&1
"""


@pytest.mark.parametrize("userns", ["private", "host"])
def test_the_program_of_who_joins_cannot_be_written(sampan: Command, busybox: str, userns: str) -> None:
    """CVE-2019-5736: through /proc/N/exe the interpreter that joins a container is closed to it, or read-only.

    Control: the same eyes see that the container's own programs are open to it.
    """
    words = ("--userns", "host") if userns == "host" else ()
    sampan("run", "-d", "--name", "box", *words, "busybox", "sh", "-c", WATCH, check=True)
    answers: set[str] = set()
    own: set[str] = set()
    deadline = time.monotonic() + SECONDS
    while not (answers and own):
        assert time.monotonic() < deadline, (answers, own)
        for _ in range(10):
            sampan("exec", "box", "true", check=True)
        joining, others = _answers(sampan("exec", "box", "cat", "/seen", check=True).stdout)
        answers, own = answers | joining, own | others
    assert answers <= {"Permission denied", "Read-only file system", "No such file or directory"}
    assert "Text file busy" in own


def _answers(seen: str) -> tuple[set[str], set[str]]:
    """Return what was answered for processes that were Sampan's before and after, and for the container's own."""
    joining: set[str] = set()
    others: set[str] = set()
    before, answer = "", ""
    for line in seen.splitlines():
        if line.startswith("> "):
            before, answer = line[2:], ""
        elif line.startswith("< "):
            if answer and before and before == line[2:]:
                (others if before in {"sh", "true", "cat"} else joining).add(answer)
        elif "exe" in line:
            answer = line.rpartition(": ")[2]
    return joining, others


# ---------------------------------------------------------------------------------------------------- the directory
def test_no_descriptor_is_a_working_directory(sampan: Command, plant: Plant) -> None:
    """CVE-2024-21626: `-w`, the image's WORKDIR and `exec -w` into /proc/self/fd/N never reach the machine."""
    plant(change=("CMD sleep 1000",))
    # Control: a directory of /proc/self is one that can be had.
    assert sampan("run", "--rm", "-w", "/proc/self/task", "hostile", "pwd").returncode == 0
    sampan("run", "-d", "--name", "box", "hostile", "sleep", "1000", check=True)
    assert sampan("exec", "-w", "/proc/self/task", "box", "pwd").returncode == 0
    for number in range(3, 16):
        joined = sampan("exec", "-w", f"/proc/self/fd/{number}", "box", "ls")
        assert (joined.returncode != 0, joined.stdout) == (True, ""), (number, joined)
        deeper = sampan("exec", "-w", f"/proc/self/fd/{number}/../../..", "box", "ls", "-d", "etc/shadow-", "root/.ssh")
        assert deeper.stdout == "", number
    sampan("rm", "-f", "box", check=True)
    for number in range(3, 12):
        started = sampan("run", "--rm", "-w", f"/proc/self/fd/{number}", "hostile", "ls")
        assert (started.returncode != 0, started.stdout) == (True, ""), (number, started)
    plant(change=("WORKDIR /proc/self/fd/8", "CMD ls"))
    assert sampan("run", "--rm", "hostile").stdout == ""


# -------------------------------------------------------------------------------------------------- links in images
@pytest.mark.parametrize("form", ["absolute", "dots"])
def test_links_where_things_are_mounted(sampan: Command, plant: Plant, outside: Path, form: str) -> None:
    """Links of the image at /etc/hosts, at a bind's target and at a volume's path lead nowhere out of it."""
    to = str(outside) if form == "absolute" else f"../../../../../../../..{outside}"
    names = ("etc/hosts", "etc/resolv.conf", "etc/hostname")
    members = [_link(name, f"{to}/secret") for name in names] + [_link("bound", to), _link("vol", to)]
    plant(*members, change=("VOLUME /vol",))
    Path(f"{outside}/../given").mkdir()
    given = str(outside.parent / "given")
    leak = "; ".join(f"echo leak > {path}" for path in ("/vol/leak", "/bound/leak", "/etc/hosts"))
    script = f"ls -A /bound /vol; cat /etc/hosts | wc -l; {leak}"
    done = sampan("run", "--rm", "-v", f"{given}:/bound/deep", "-v", "named:/vol", "hostile", "sh", "-c", script)
    assert "secret" not in done.stdout, done
    assert sampan("volume", "rm", "named").returncode in {0, 1}
    # Control: who joins the names walks out.
    assert os.path.realpath(f"{given}/{'../' * 12}{to}") == str(outside)


@pytest.mark.parametrize("path", ["dev", "proc", "sys", "dev/pts", "sys/fs/cgroup"])
def test_links_at_the_kernels_file_systems(sampan: Command, plant: Plant, outside: Path, path: str) -> None:
    """An image whose /dev, /proc or /sys is a link is refused; one below them is hidden by what is mounted."""
    plant(_link(path, str(outside)))
    done = sampan("run", "--rm", "hostile", "sh", "-c", f"ls /{path}; echo leak > /{path}/leak")
    assert "secret" not in done.stdout
    if "/" not in path:
        assert (done.returncode, f"`/{path}`" in done.stderr) == (125, True), done


# --------------------------------------------------------------------------------------------------- files of images
# `id` would open the trap itself.
WHO = ("stat", "-L", "-c", "%u", "/proc/self")


def test_a_passwd_that_never_ends(sampan: Command, plant: Plant) -> None:
    """A FIFO, the kernel's zeros and a file of 900 GB hold nobody up: a name is not there, a number works."""
    plant(_fifo("etc/passwd"), _fifo("etc/group"))
    assert sampan("run", "--rm", "-u", "web", "hostile", "true", timeout=20).returncode == 125
    assert sampan("run", "--rm", "-u", "1000:1000", "hostile", *WHO, timeout=20).stdout == "1000\n"
    # Control: whoever opens it as a file waits for ever.
    with pytest.raises(subprocess.TimeoutExpired):
        sampan("run", "--rm", "hostile", "cat", "/etc/passwd", timeout=1)
    (left,) = sampan("ps", "-q").stdout.split()
    sampan("rm", "-f", left, check=True)
    sampan("run", "-d", "--name", "box", "hostile", "sleep", "1000", check=True)
    for trap in ("ln -s /dev/zero /etc/passwd", "truncate -s 900G /etc/passwd", "ln -s passwd /etc/passwd",
                 "ln -s /proc/self/fd/0 /etc/passwd", "mkdir /etc/passwd"):  # fmt: skip
        sampan("exec", "box", "sh", "-c", f"rm -rf /etc/passwd; {trap}", check=True)
        assert sampan("exec", "-u", "web", "box", "true", timeout=20).returncode != 0, trap
        assert sampan("exec", "-u", "1000", "box", *WHO, timeout=20).stdout == "1000\n", trap


def test_planted_modules(sampan: Command, plant: Plant, place: str, tmp_path: Path) -> None:
    """Python modules of the image, at every path where ours would look, run in no command."""
    trap = b"import os; os.close(os.open('/caught', os.O_CREAT | os.O_WRONLY))\n"
    names = ("encodings/__init__", "encodings/idna", "encodings/ascii", "sitecustomize", "usercustomize", "traceback",
             "warnings", "sampan/__init__", "sampan/errors", "site")  # fmt: skip
    directories = {os.path.dirname(os.__file__), SOURCE, *filter(os.path.isdir, sys.path)} | {"/", "/root"}
    members = [_file(f"{directory}/{name}.py".lstrip("/"), trap) for directory in directories for name in names]
    plant(*members)
    sampan("run", "-d", "--name", "box", "-w", "/", "-e", "PYTHONPATH=/", "hostile", "sleep", "1000", check=True)
    sampan("exec", "box", "true", check=True)
    sampan("exec", "-u", "nobody-there", "box", "true")
    sampan("exec", "-w", "/none", "box", "nothing")
    sampan("top", "box", check=True)
    sampan("cp", "box:/etc", str(tmp_path), check=True)
    sampan("cp", f"{tmp_path}/etc", "box:/copied", check=True)
    sampan("diff", "box", check=True)
    sampan("commit", "box", "copy", check=True)
    sampan("stop", "-t", "0", "box", check=True)
    sampan("start", "box", check=True)
    assert sampan("exec", "box", "ls", "/caught").returncode == 1
    assert not os.path.exists("/caught")
    # Control: the trap works on a Python that looks there.
    trapped = Path(place, "trapped")
    trapped.mkdir()
    (trapped / "sitecustomize.py").write_bytes(trap.replace(b"/caught", f"{place}/caught".encode()))
    subprocess.run([sys.executable, "-c", ""], check=True, env={"PYTHONPATH": str(trapped)})
    assert os.path.exists(f"{place}/caught")


# ------------------------------------------------------------------------------------------------- what it may not do
def test_a_fork_bomb(sampan: Command, busybox: str, store: Store) -> None:
    """Under --pids-limit a bomb gets no further, the machine's own commands go on, and `rm -f` ends it."""
    bomb = "bomb() { bomb | bomb & sleep 1000; }; bomb"
    sampan("run", "-d", "--name", "box", "--pids-limit", "40", "busybox", "sh", "-c", f"sleep 1; {bomb}", check=True)
    deadline = time.monotonic() + SECONDS
    while "can't fork" not in sampan("logs", "box", check=True).stderr:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 2 <= len(sampan("top", "box", check=True).stdout.splitlines()) - 1 <= 40
    assert sampan("ps", "-q", check=True).stdout
    assert sampan("run", "--rm", "busybox", "echo", "on", check=True).stdout == "on\n"
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def test_the_pids_limit_is_what_stops_a_bomb(sampan: Command, busybox: str) -> None:
    """Control of the bomb: a hundred forks, which the limit stops, all work without it."""
    forks = "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; echo all; wait"
    sampan("run", "-d", "--name", "box", "busybox", "sh", "-c", forks, check=True)
    deadline = time.monotonic() + SECONDS
    while sampan("logs", "box", check=True).stdout != "all\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(sampan("top", "box", check=True).stdout.splitlines()) - 1 == 101


def test_no_masked_path_can_be_written_or_read(sampan: Command, busybox: str) -> None:
    """Every masked path is empty or not there, and none of them nor of the read-only ones takes a write."""
    script = """
    for path in "$@"; do
      [ -e "$path" ] || continue
      if [ -d "$path" ]; then touch "$path/leak" 2>/dev/null && echo "made in $path"
      elif [ "$path" = /proc/sysrq-trigger ]; then true 2>/dev/null >> "$path" && echo "opened $path"
      else (echo 1 > "$path") 2>/dev/null && [ -s "$path" ] && echo "wrote $path"
      fi
    done
    for path in $MASKED; do
      [ ! -d "$path" ] || [ -z "$(ls -A $path)" ] || echo "full $path"
      [ ! -f "$path" ] || [ -z "$(head -c 1 $path 2>/dev/null | tr '\\0' x)" ] || echo "told $path"
    done
    umount /proc/kcore 2>/dev/null && echo unmounted
    mount -o remount,rw /proc/sys 2>/dev/null && echo remounted
    mount --bind /tmp /proc/keys 2>/dev/null && echo bound
    for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /sys/kernel/uevent_helper; do
      (true >> $file) 2>/dev/null && echo "wrote $file"
    done
    true
    """
    paths = (*standard.MASKED_PATHS, *standard.READONLY_PATHS)
    masked = " ".join(standard.MASKED_PATHS)
    words = ("-e", f"MASKED={masked}", "busybox", "sh", "-c", script, "sh", *paths)
    assert sampan("run", "--rm", *words, check=True).stdout == ""
    # The capability that mounting needs is of no use behind the filter, which a container with it has opened.
    assert "told" not in sampan("run", "--rm", "--cap-add", "SYS_ADMIN", *words, check=True).stdout
    # Control: with nothing masked the same words find what is there to find.
    open_words = ("sh", "-c", "head -c 1 /proc/keys | wc -c; ls /sys/firmware | wc -l; ls /proc/interrupts")
    found = sampan("run", "--rm", "--privileged", "busybox", *open_words, check=True).stdout.split()
    assert int(found[0]) + int(found[1]) > 0
    assert found[2] == "/proc/interrupts"


def test_no_process_of_the_machine_is_reached(sampan: Command, busybox: str, store: Store) -> None:
    """No signal, no ptrace and no memory of a process outside: not even with the machine's ids and the capability."""
    with subprocess.Popen(["sleep", "1000"]) as victim:
        script = f"""
        for number in 0 9 15 19; do kill -$number {victim.pid} 2>/dev/null && echo signalled; done
        ls -d /proc/{victim.pid} 2>/dev/null; cat /proc/{victim.pid}/environ 2>/dev/null | wc -c
        kill -9 -1; true
        """
        able = ("--cap-add", "SYS_PTRACE", "--cap-add", "KILL")
        for flags in ((), able, ("--userns", "host", *able)):
            done = sampan("run", "--rm", *flags, "busybox", "sh", "-c", script)
            assert "signalled" not in done.stdout
            assert done.stdout.split()[:1] in ([], ["0"]), done
        # Control: the same signals reach who is inside, and the victim lives, to be ended here.
        inside = "sleep 1000 & kill -9 $! && wait $!; echo $?"
        assert sampan("run", "--rm", "busybox", "sh", "-c", inside).stdout.split()[-1] == "137"
        assert victim.poll() is None
        victim.kill()


def test_release_agent(sampan: Command, busybox: str, place: str) -> None:
    """CVE-2022-0492: no container writes a release_agent, with the capability to mount and no filter either."""
    script = """
    mkdir -p /cg && mount -t cgroup -o none,name=sampan-attack cgroup /cg 2>/dev/null && echo mounted
    for file in /cg/release_agent $(find /sys/fs/cgroup -name release_agent 2>/dev/null); do
      [ -e $file ] && (echo /leak > $file) 2>/dev/null && echo "wrote $file"
    done
    umount /cg 2>/dev/null; true
    """
    for words in (
        (),
        ("--cap-add", "SYS_ADMIN"),
        ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"),
    ):
        done = sampan("run", "--rm", *words, "busybox", "unshare", "-m", "-C", "sh", "-c", script)
        assert "wrote" not in done.stdout, words
        done = sampan("run", "--rm", *words, "busybox", "sh", "-c", script)
        assert "wrote" not in done.stdout, words
    # Control: with the machine's own root the hierarchy is mounted and the file is there to be written.
    look = script.replace("(echo /leak > $file)", "[ -w $file ]")
    assert "wrote" in sampan("run", "--rm", "--privileged", "busybox", "sh", "-c", look).stdout
