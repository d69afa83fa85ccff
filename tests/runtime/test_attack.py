"""A hostile image or container against the runtime; each attack has a control that shows that it is one."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.errors import SampanError
from sampan.kernel import syscalls
from sampan.oci.runtime import Mount, Process
from sampan.runtime import init, namespaces, process, target
from sampan.runtime.joined import Joined
from tests.runtime.conftest import CAPABILITIES, MOUNTS, Box

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]
Plant = Callable[[str, str], Path]
SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def _link(box: Box, path: str, destination: str) -> None:
    """Put a symbolic link into the image."""
    place = Path(f"{box.directory}/top{path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(destination)


@pytest.fixture
def outside(place: str) -> Iterator[str]:
    """A directory of the machine that no container may reach."""
    os.mkdir(f"{place}/outside", 0o777)
    yield f"{place}/outside"
    assert os.listdir(f"{place}/outside") == []


@pytest.mark.parametrize("form", ["absolute", "dots"])
def test_a_link_at_a_mount_target_stays_inside(box: Box, outside: str, form: str) -> None:
    """A mount target that is a link out of the root is taken as inside it: the machine's directory stays empty."""
    destination = outside if form == "absolute" else f"../../../../../..{outside}"
    _link(box, "/data", destination)
    bind = Mount("/data/deep/file", "bind", "/etc/hostname", ("bind", "ro"))
    status, output = box.run("sh", "-c", f"grep -c {outside}/deep/file /proc/mounts", mounts=(*MOUNTS, bind))
    assert (status, output) == (0, "1\n")
    # Control: joining the names, as anybody would, walks out of the root.
    assert os.path.realpath(f"{box.directory}/top/data") == outside


def test_the_host_name_of_a_link_is_not_followed(box: Box, outside: str) -> None:
    """The working directory is made inside the root where the image has a link to the machine's directory there."""
    _link(box, "/work", outside)
    assert box.run("pwd", cwd="/work/made") == (0, f"{outside}/made\n")


@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev"])
def test_the_kernels_file_systems_are_not_moved(box: Box, path: str) -> None:
    """An image whose /proc, /sys or /dev is a link, so that no mask would match, is refused."""
    _link(box, path, "/elsewhere")
    with pytest.raises(SampanError, match=f"could not mount `{path}`"):
        box.run("true")


@pytest.mark.parametrize("is_with_userns", [True, False])
def test_a_device_node_of_the_image_does_not_open(box: Box, *, is_with_userns: bool) -> None:
    """A node that is everybody's in the image is EACCES; control: without a user namespace, and its device program."""
    os.mknod(f"{box.directory}/top/node", 0o020666, os.makedev(1, 5))
    os.chmod(f"{box.directory}/top/node", 0o666)  # noqa: S103 (the attack)
    box.is_with_userns = is_with_userns
    status, output = box.run("head", "-c", "3", "/node")
    assert (status, output) == ((1, output) if is_with_userns else (0, "\0\0\0"))


def test_a_planted_module_is_not_imported(box: Box, plant: Plant) -> None:
    """Modules at every path where Python would look run in no start, no failure and no exec."""
    trap = "import os; os.close(os.open('/caught', os.O_CREAT))"
    for directory in {os.path.dirname(os.__file__), SOURCE, *filter(None, sys.path)}:
        for name in ("encodings/idna", "encodings/ascii", "traceback", "sitecustomize", "sampan/errors", "warnings"):
            plant(f"{directory}/{name}.py", trap)
    box.run("true")
    with pytest.raises(SampanError):
        box.run("absent")
    with pytest.raises(SampanError):
        box.run("true", sysctl={"net.nope": "1"})
    assert not os.path.exists(f"{box.directory}/upper/caught")


def test_nothing_can_be_imported_any_more(place: str) -> None:
    """After forget_imports every import fails; control: before it, the same import works in the same process."""
    code = (
        "import sys; from sampan.runtime import init\n"
        "import this_is_control\n"
        "del sys.modules['this_is_control']; init.forget_imports()\n"
        "try: import this_is_control\n"
        "except ImportError: print('refused')\n"
    )
    Path(place, "this_is_control.py").write_text("")
    environment = {"PYTHONPATH": f"{SOURCE}:{place}"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "refused\n"


def test_the_child_side_needs_no_import_after_entering(box: Box) -> None:
    """All that a start, an exec, a terminal and an error use was loaded before: sys.modules does not grow.

    The child's imports fail loudly, so a missing one would be an error of the start; what remains is the creator's.
    """
    before = set(sys.modules)
    box.run("true")
    assert not {name for name in set(sys.modules) - before if name.startswith("sampan")}


@pytest.mark.parametrize("number", range(3, 12))
def test_no_directory_leaks_into_the_container(box: Box, number: int) -> None:
    """/proc/self/fd/N as working directory never reaches the machine, whatever is open (CVE-2024-21626)."""
    leaked = os.open("/", os.O_RDONLY)  # inheritable or not, it is there until execve
    high = fcntl.fcntl(leaked, fcntl.F_DUPFD, number)
    os.set_inheritable(high, True)
    try:
        with pytest.raises(SampanError):
            box.run("ls", cwd=f"/proc/self/fd/{number}")
        # Control: the descriptor that leaked is the machine's root.
        assert os.path.samefile(f"/proc/self/fd/{high}", "/")
    finally:
        os.close(high)
        os.close(leaked)


def test_the_command_has_three_descriptors(box: Box) -> None:
    """The command has 0, 1 and 2 and nothing else, though the creator has inheritable ones."""
    leaked = [os.open("/etc", os.O_RDONLY) for _ in range(5)]
    for fd in leaked:
        os.set_inheritable(fd, True)
    _, output = box.run("sh", "-c", "cd /proc/self/fd; echo *")
    for fd in leaked:
        os.close(fd)
    # 3 is the shell's own, of the directory that it lists.
    assert output.split() == ["0", "1", "2", "3"]


def test_a_terminal_is_the_kernels(box: Box) -> None:
    """A container that put its own file at /dev/pts/ptmx gets no terminal from exec."""
    created = box.create(box.spec("sleep", "100", mounts=tuple(m for m in MOUNTS if m.destination != "/dev/pts")), 2)
    created.start()
    try:
        root = f"/proc/{created.pid}/root"
        Path(f"{root}/dev/pts/ptmx").touch()
        command = Process(("true",), env=("PATH=/bin",), capabilities=CAPABILITIES, terminal=True)
        mappings = box.spec("true").uid_mappings
        with pytest.raises(SampanError, match="open a terminal"):
            process.execute(
                created.pidfd, command, stdio=process.Stdio(0, 1, 2), uid_mappings=mappings, gid_mappings=mappings
            )
    finally:
        created.abort()


def test_a_container_may_not_look_into_a_joining_process(box: Box) -> None:
    """While a process joins, it is not dumpable: its memory, descriptors and program are closed to the container.

    The last state before execve is what init.run_joined sets first; read it back in a child of our own.
    """
    pid = os.fork()
    if pid == 0:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        os._exit(syscalls.prctl(syscalls.PR_GET_DUMPABLE))
    assert os.waitpid(pid, 0)[1] == 0
    assert "PR_SET_DUMPABLE, 0" in Path(init.__file__).read_text()


def test_paths_are_resolved_by_the_kernel(place: str) -> None:
    """find_or_make follows links and dots inside the root alone, makes what dangles inside it, and bounds a chain."""
    root, outside = f"{place}/root", f"{place}/out"
    os.mkdir(root)
    os.mkdir(outside)
    os.symlink(outside, f"{root}/link")
    os.symlink("loop2", f"{root}/loop1")
    os.symlink("loop1", f"{root}/loop2")
    root_fd = os.open(root, os.O_PATH)
    for path in ("/link/a", "/../../link/b", "link/c/d"):
        fd = target.find_or_make(root_fd, path, is_directory=True)
        assert os.readlink(f"/proc/self/fd/{fd}").startswith(f"{root}{outside}/")
        os.close(fd)
    with pytest.raises(OSError, match="Too many levels"):
        target.find_or_make(root_fd, "/loop1/x", is_directory=True)
    os.close(root_fd)
    assert os.listdir(outside) == []


def _seen_by_donor(box: Box, monkeypatch: pytest.MonkeyPatch, *, is_hidden: bool) -> tuple[str, str]:
    """Create a container in another's pid namespace; return which program that sees it run at its birth, and later."""
    monkeypatch.setattr(Joined, "is_seen", is_hidden)
    spy = ("sh", "-c", "while read pid; do readlink /proc/$pid/exe || echo hidden; done")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    entering, telling = os.pipe2(os.O_CLOEXEC)
    stdio = process.Stdio(entering, writing, writing)
    donor = process.create(box.spec(*spy, capabilities=(*CAPABILITIES, "CAP_SYS_PTRACE")), root=box.root, stdio=stdio)
    donor.start()
    joined = Joined()
    joined.entered = [(os.dup(donor.pidfd), syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWPID)]
    for kind in ("user", "pid"):
        joined.namespaces[kind] = namespaces.open_of(donor.pid, kind)
    seen = []

    def look(pid: int, _: object) -> None:
        os.write(telling, f"{_inner_pid(pid)}\n".encode())
        seen.append(_line(reading))

    paths = {"user": "-", "pid": "-"} | dict.fromkeys(("mount", "network", "ipc", "uts", "cgroup"), "")
    with monkeypatch.context() as moment:
        # What is done with the child while it waits for its creator's first word, and has changed nothing yet.
        moment.setattr(process, "_adjust_oom", look)
        guest = process.create(box.spec("sleep", "1000", namespaces=paths), root=box.root, stdio=stdio, joined=joined)
    try:
        guest.start()
        look(guest.pid, None)
    finally:
        joined.close()
        for created in (guest, donor):
            created.abort()
        for fd in (reading, writing, entering, telling):
            os.close(fd)
    return seen[0], seen[-1]


def _inner_pid(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])


def _line(fd: int) -> str:
    text = b""
    while not text.endswith(b"\n"):
        text += os.read(fd, 1)
    return text.decode()


def test_a_container_cannot_look_into_what_comes_to_join_it(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with CAP_SYS_PTRACE: until its command runs, a guest has its creator's memory and the machine's files."""
    assert _seen_by_donor(box, monkeypatch, is_hidden=True) == ("hidden\n", "/bin/busybox\n")
    # Control: one that can be dumped is open to whoever may trace in the user namespace that it was born in.
    assert os.path.basename(sys.executable)[:6] in _seen_by_donor(box, monkeypatch, is_hidden=False)[0]
