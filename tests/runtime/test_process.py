"""Starting containers on the real kernel: isolation, ids, limits, errors, and nothing left behind."""

import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, NotFound, SampanError, Unsupported
from sampan.oci.runtime import Device, Mount, Process
from sampan.runtime import idmap, process
from tests.runtime.conftest import CAPABILITIES, MOUNTS, NAMESPACES, RANGE, Box, read_all

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]
Plant = Callable[[str, str], Path]


@pytest.fixture(params=[True, False], ids=["userns", "host"])
def any_box(request: pytest.FixtureRequest, box: Box) -> Box:
    """A box with a user namespace of its own, and one without."""
    box.is_with_userns = request.param
    return box


def test_the_process_is_alone(any_box: Box) -> None:
    """It is process 1, root, with the host name asked for, no network but loopback, and none of the host's mounts."""
    status, output = any_box.run(
        "sh", "-c", "echo $$; id -u; hostname; ls /sys/class/net; grep -c /dev/vda /proc/mounts"
    )
    assert output.split() == ["1", "0", "box", "lo", "0"]
    assert status == 1


def test_ids_on_disk_are_the_images(box: Box) -> None:
    """What the container's root and user write belongs to 0 and 1000 on disk, and they are high ids while it runs."""
    status, output = box.run("sh", "-c", "echo a > /new && chown 1000:1001 /new && cat /proc/self/uid_map")
    assert status == 0
    assert output.split() == ["0", str(RANGE.start), "65536"]
    written = os.stat(f"{box.directory}/upper/new")
    assert (written.st_uid, written.st_gid) == (1000, 1001)


@pytest.mark.parametrize("recipe", [idmap.DETACHED, idmap.ATTACHED])
def test_every_overlay_recipe_makes_a_writable_root(box: Box, recipe: str) -> None:
    """Each kernel's recipe gives a root that shows the image's ids and can be written to."""
    if recipe == idmap.DETACHED and box.features.overlay_recipe != recipe:
        pytest.skip("this kernel has no detached recipe")
    box.features = idmap.probe(box.directory, "", forced=recipe)
    assert box.run("sh", "-c", "echo a > /bin/new && stat -c %u /bin/busybox /bin/new") == (0, "0\n0\n")


def test_a_file_system_without_idmapping_is_named(box: Box) -> None:
    """Where the probe says that nothing can be idmapped, the error names the path, the type and the way out."""
    box.features = idmap.probe(box.directory, "", forced=idmap.NONE)
    with pytest.raises(Unsupported, match="cannot be idmapped") as caught:
        box.run("true")
    assert any("--userns=host" in hint for hint in caught.value.hints)


def test_capabilities_are_limited(any_box: Box) -> None:
    """Root has docker's fourteen and no others, in every set; the ambient and inheritable sets are empty."""
    _, output = any_box.run("grep", "Cap", "/proc/self/status")
    sets = {line.split()[0]: int(line.split()[1], 16) for line in output.splitlines()}
    assert sets == {"CapInh:": 0, "CapPrm:": 0xA80425FB, "CapEff:": 0xA80425FB, "CapBnd:": 0xA80425FB, "CapAmb:": 0}


def test_a_user_has_no_capabilities(any_box: Box) -> None:
    """A user that is not root has its groups, umask and directory, and no capability."""
    command = "id -u; id -G; umask; pwd; grep CapEff /proc/self/status"
    status, output = any_box.run(
        "sh", "-c", command, uid=1000, gid=1001, additional_gids=(7,), umask=0o027, cwd="/made/for/it"
    )
    assert status == 0
    assert output.split() == ["1000", "1001", "7", "0027", "/made/for/it", "CapEff:", "0000000000000000"]


def test_no_new_privileges_and_limits_are_set(box: Box) -> None:
    """no_new_privs, a resource limit and the OOM score reach the process."""
    limits = (("RLIMIT_NOFILE", 100, 200),)
    command = "grep NoNewPrivs /proc/self/status; ulimit -n; ulimit -Hn; cat /proc/1/oom_score_adj"
    _, output = box.run("sh", "-c", command, no_new_privileges=True, rlimits=limits, oom_score_adj=500)
    assert output.split() == ["NoNewPrivs:", "1", "100", "200", "500"]


def _deny(number: int) -> bytes:
    """Return a filter that answers EACCES to the system call `number` and allows the rest."""
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K of linux/bpf_common.h
    steps = ((load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, 0x50000 | 13), (answer, 0, 0, 0x7FFF0000))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="has the number of x86_64's chdir")
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_filter_holds(any_box: Box, no_new_privileges: bool) -> None:  # noqa: FBT001
    """A seccomp filter holds for the command, with and without no_new_privs."""
    status, output = any_box.run(
        "sh", "-c", "grep Seccomp: /proc/self/status; mkdir /x", program=_deny(83), no_new_privileges=no_new_privileges
    )
    assert status == 1
    assert "Seccomp:\t2" in output
    assert "Permission denied" in output


def test_devices_work(any_box: Box) -> None:
    """The default devices can be used, the links are there, and no new node can be made or used."""
    command = "echo x > /dev/null && head -c4 /dev/zero | wc -c && ls -l /dev/fd /dev/ptmx | wc -l && cat /dev/full"
    status, output = any_box.run("sh", "-c", "head -c1 /dev/urandom | wc -c; " + command + " | head -c1 | wc -c")
    assert (status, output.split()) == (0, ["1", "4", "2", "1"])


def test_a_device_that_was_asked_for(box: Box) -> None:
    """An extra device has the path, mode and owner that were asked for."""
    device = Device("/dev/net/extra", "c", 1, 3, mode=0o600, uid=1000, gid=5)
    status, output = box.run(
        "sh", "-c", "stat -c '%a %u %g %t:%T' /dev/net/extra; echo > /dev/net/extra", devices=(device,)
    )
    assert (status, output) == (0, "600 1000 5 1:3\n")


def test_masked_and_read_only_paths(any_box: Box) -> None:
    """Masked files are empty, masked directories too, and /proc/sys cannot be written."""
    command = "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/domainname"
    status, output = any_box.run("sh", "-c", command)
    assert status == 1
    assert output.split()[:2] == ["0", "0"]
    assert "Read-only" in output


def test_a_read_only_root(any_box: Box) -> None:
    """A read-only root refuses to be written while mounts in it may be."""
    status, output = any_box.run("sh", "-c", "echo > /dev/shm/a && echo > /a", readonly_root=True)
    assert status == 1
    assert "Read-only" in output


def test_sysctl_is_set_in_its_own_namespace(box: Box) -> None:
    """A kernel parameter of the network namespace is set inside and stays as it was outside."""
    before = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    _, output = box.run("cat", "/proc/sys/net/ipv4/ip_default_ttl", sysctl={"net.ipv4.ip_default_ttl": "33"})
    assert output == "33\n"
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == before


def test_a_bind_shows_its_ids(box: Box, place: str) -> None:
    """An idmapped bind is owned inside as on disk, also where the path to it is closed to everybody else."""
    os.mkdir(f"{place}/data", 0o700)
    bind = Mount("/made/data", "bind", f"{place}/data", ("rbind", "rprivate", "idmap"))
    command = "stat -c %u /made/data && echo hi > /made/data/f"
    assert box.run("sh", "-c", command, mounts=(*MOUNTS, bind)) == (0, "0\n")
    assert os.stat(f"{place}/data/f").st_uid == 0


def test_a_bind_can_be_read_only_and_a_file(any_box: Box, place: str) -> None:
    """A file can be bound where there is none; with `ro` it cannot be written."""
    Path(f"{place}/file").write_text("text")
    bind = Mount("/etc/new", "bind", f"{place}/file", ("bind", "ro"))
    status, output = any_box.run("sh", "-c", "cat /etc/new; echo > /etc/new", mounts=(*MOUNTS, bind))
    assert status == 1
    assert output.startswith("text")
    assert "Read-only" in output


def test_a_bind_that_cannot_be_idmapped_is_named(box: Box) -> None:
    """A source on proc cannot be idmapped: the error names it, its file system and the way out."""
    bind = Mount("/data", "bind", "/proc/sys", ("rbind", "idmap"))
    with pytest.raises(Unsupported, match=r"`/proc/sys` \(proc\) cannot be idmapped") as caught:
        box.run("true", mounts=(*MOUNTS, bind))
    assert any("--userns=host" in hint for hint in caught.value.hints)


def test_a_bind_source_that_is_not_there(box: Box, place: str) -> None:
    """A missing source is NotFound with its path."""
    with pytest.raises(NotFound, match="does not exist"):
        box.run("true", mounts=(*MOUNTS, Mount("/data", "bind", f"{place}/absent", ("rbind",))))


def test_errors_of_execve(any_box: Box, plant: Plant) -> None:
    """A command that is not there and one that cannot be executed have docker's exit statuses, by name and by path."""
    plant("/bin/plain", "text").chmod(0o644)
    plant("/bin/odd", "no program").chmod(0o755)
    for name in ("absent", "/bin/absent", "/bin/true/absent"):
        with pytest.raises(CommandNotFound) as absent:
            any_box.run(name)
        assert absent.value.exit_status == 127
    for name in ("plain", "/bin", "odd"):
        with pytest.raises(CommandNotExecutable) as refused:
            any_box.run(name)
        assert refused.value.exit_status == 126


def test_what_cannot_be_is_refused_before_anything_is_made(box: Box) -> None:
    """An id outside the map, an unknown capability and an empty command are the person's errors."""
    with pytest.raises(InvalidArgument, match="65536"):
        box.run("true", uid=65536)
    with pytest.raises(InvalidArgument, match="CAP_NOPE"):
        box.run("true", capabilities=("CAP_NOPE",))
    with pytest.raises(InvalidArgument, match="no command"):
        box.finish(box.spec())


def test_a_failing_step_is_named(box: Box) -> None:
    """An error in the child crosses to its creator with the step, the object and the errno."""
    with pytest.raises(SampanError, match="could not set the kernel parameter") as caught:
        box.run("true", sysctl={"net.nope": "1"})
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_it_waits_for_start(box: Box) -> None:
    """Between create and start the network namespace is there and the command has not run."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    created = box.create(box.spec("echo", "ran"), writing)
    os.close(writing)
    os.set_blocking(reading, False)
    assert os.fstat(created.namespace_fd("net")).st_ino != os.stat("/proc/self/ns/net").st_ino
    time.sleep(0.02)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    os.set_blocking(reading, True)
    created.start()
    assert read_all(reading) == "ran\n"
    os.waitpid(created.pid, 0)
    os.close(created.pidfd)


def test_abort_leaves_nothing(box: Box) -> None:
    """A container that is aborted before its start is gone, and so are its descriptors."""
    before = os.listdir("/proc/self/fd")
    created = box.create(box.spec("true"), 2)
    created.namespace_fd("user")
    created.abort()
    created.abort()
    assert os.listdir("/proc/self/fd") == before
    assert not os.path.exists(f"/proc/{created.pid}")


def test_no_descriptor_is_lost(box: Box) -> None:
    """Neither a run nor one that fails leaves a descriptor open in its creator."""
    before = os.listdir("/proc/self/fd")
    box.run("true")
    with pytest.raises(CommandNotFound):
        box.run("absent")
    with pytest.raises(SampanError):
        box.run("true", sysctl={"net.nope": "1"})
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("is_started", [True, False])
def test_it_dies_with_its_creator(box: Box, is_started: bool) -> None:  # noqa: FBT001
    """When the creator is killed, so is the container, whether it had been started or not."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    creator = os.fork()
    if creator == 0:
        try:
            created = box.create(box.spec("sleep", "100"), writing)
            if is_started:
                created.start()
            os.write(writing, f"{created.pid} ".encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    pid = int(os.read(reading, 16))
    os.kill(creator, signal.SIGKILL)
    os.waitpid(creator, 0)
    assert read_all(reading) == ""  # its standard output is closed: it is gone
    deadline = time.monotonic() + 2
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_terminal(any_box: Box) -> None:
    """With a terminal the process has one of its own devpts as its controlling terminal and as /dev/console."""
    created = any_box.create(
        any_box.spec("sh", "-c", "tty; stat -c '%u %g' $(tty); ls /dev/console; id -u", uid=1000, terminal=True), 2
    )
    created.start()
    assert created.console_fd is not None
    output = read_all(created.console_fd)
    assert output.split() == ["/dev/pts/0", "1000", "5", "/dev/console", "1000"]
    os.waitpid(created.pid, 0)
    os.close(created.pidfd)


def _execute(box: Box, pidfd: int, *args: str, **changes: object) -> tuple[int, str]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    command = {"env": ("PATH=/bin",), "capabilities": CAPABILITIES} | changes
    mappings = RANGE.mappings() if box.is_with_userns else ()
    try:
        pid, child_pidfd, console = process.execute(
            pidfd,
            Process(args, **command),  # type: ignore[arg-type]  # a test's shorthand
            stdio=process.Stdio(writing, writing, writing),
            uid_mappings=mappings,
            gid_mappings=mappings,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    output = read_all(reading) if console is None else read_all(console)
    if console is not None:
        os.close(reading)
    os.close(child_pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def test_a_further_process(any_box: Box) -> None:
    """Execute joins every namespace, limits capabilities, reports exit statuses, and has a terminal where asked for."""
    created = any_box.create(any_box.spec("sleep", "100"), 2)
    created.start()
    try:
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
            status, output = _execute(any_box, created.pidfd, "readlink", f"/proc/self/ns/{kind}")
            assert (status, output.strip()) == (0, os.readlink(f"/proc/{created.pid}/ns/{kind}"))
        command = "id -u; grep CapBnd /proc/self/status; echo again > /dev/stdout; exit 7"
        status, output = _execute(any_box, created.pidfd, "sh", "-c", command, uid=1000, gid=1000)
        assert (status, output.split()) == (7, ["1000", "CapBnd:", "00000000a80425fb", "again"])
        assert _execute(any_box, created.pidfd, "tty", terminal=True) == (0, "/dev/pts/0\r\n")
        with pytest.raises(CommandNotFound):
            _execute(any_box, created.pidfd, "absent")
        with pytest.raises(SampanError, match="working directory `/absent`"):
            _execute(any_box, created.pidfd, "true", cwd="/absent")
    finally:
        created.abort()


def test_a_namespace_can_be_shared(box: Box) -> None:
    """A container may join another's network namespace."""
    first = box.create(box.spec("sleep", "100"), 2)
    first.start()
    try:
        path = f"/proc/{first.pid}/ns/net"
        second = Box(f"{box.directory}/top", box.layer, box.features)
        namespaces = dict.fromkeys(NAMESPACES, "") | {"network": path}
        assert second.run("readlink", "/proc/self/ns/net", namespaces=namespaces) == (0, f"{os.readlink(path)}\n")
    finally:
        first.abort()


def test_a_shared_pid_namespace_never_shows_the_machines(box: Box) -> None:
    """Where the kernel grants no /proc of a joined pid namespace there is an error, and not the machine's own /proc."""
    first = box.create(box.spec("sleep", "100"), 2)
    first.start()
    try:
        second = Box(f"{box.directory}/top", box.layer, box.features)
        namespaces = dict.fromkeys(NAMESPACES, "") | {"pid": f"/proc/{first.pid}/ns/pid"}
        with pytest.raises(SampanError, match="`/proc`"):
            second.run("true", namespaces=namespaces)
    finally:
        first.abort()


def test_the_hosts_network_can_be_kept(any_box: Box) -> None:
    """Without a network namespace of its own the container sees the host's interfaces."""
    kinds = [kind for kind in NAMESPACES if kind != "network" and (any_box.is_with_userns or kind != "user")]
    _, output = any_box.run("ls", "/sys/class/net", namespaces=dict.fromkeys(kinds, ""))
    assert sorted(output.split()) == sorted(name for _, name in socket.if_nameindex())
