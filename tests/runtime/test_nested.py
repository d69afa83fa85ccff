"""Containers inside a normal user's holder: nested user namespaces with the holder's ids, or with a single one."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.kernel import syscalls
from sampan.oci.runtime import IdMapping, Process
from sampan.runtime import idmap, process, rootfs
from tests.runtime.conftest import CAPABILITIES, Box, read_all

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]
FIRST_ID = 700_000


def _in_holder(box: Box, maps: str, work: Callable[[], str]) -> str:
    """Run `work` in a user and mount namespace like a holder's, unprivileged outside it; return what it returns."""
    for path in (box.directory, f"{box.directory}/upper", f"{box.directory}/top"):
        os.chown(path, FIRST_ID, FIRST_ID)
        os.chmod(path, 0o711)  # noqa: S103 (a holder passes through)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    waiting, going = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    if pid == 0:
        os.close(going)
        os.read(waiting, 1)
        _serve(writing, work)
    os.close(writing)
    if maps.count("\n") < 2 and maps.endswith(" 1\n"):
        Path(f"/proc/{pid}/setgroups").write_text("deny")  # as for a user without newuidmap
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(maps)
    os.close(waiting)
    os.close(going)
    output = read_all(reading)
    os.waitpid(pid, 0)
    os.close(pidfd)
    return output


def _serve(writing: int, work: Callable[[], str]) -> None:
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        result = work()
    except BaseException:  # noqa: BLE001 (a process boundary)
        result = traceback.format_exc()
    os.write(writing, result.encode())
    os._exit(0)


MAPS = {
    "one-range": (f"0 {FIRST_ID} 65536\n", 65536),
    "own-id-and-range": (f"0 {FIRST_ID} 1\n1 {FIRST_ID + 1} 65535\n", 65536),
    "single": (f"0 {FIRST_ID} 1\n", 1),
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_container_runs_in_a_holder(box: Box, kind: str) -> None:
    """It starts, writes files with the holder's ids, has working devices, and a terminal, whatever the map."""
    maps, size = MAPS[kind]
    mappings = (IdMapping(0, 0, size),)

    def work() -> str:
        source = rootfs.RootSource(box.source.lowers, box.source.upper, f"{box.directory}/w", is_idmapped=False)
        os.mkdir(source.work)
        features = idmap.probe(box.directory, f"{box.directory}/features.json")
        reading, writing = os.pipe()
        command = "id -u; echo a > /dev/null; echo b > /new; stat -c %u /new; ls /dev | wc -l"
        spec = box.spec("sh", "-c", command, uid_mappings=mappings, gid_mappings=mappings)
        with open("/dev/null", "rb") as null:
            created = process.create(
                spec,
                root=lambda fd: rootfs.open_root(source, fd, features, userxattr=True),
                stdio=process.Stdio(null.fileno(), writing, writing),
            )
        os.close(writing)
        created.start()
        output = read_all(reading)
        return f"{output}{os.waitstatus_to_exitcode(os.waitpid(created.pid, 0)[1])}"

    output = _in_holder(box, maps, work)
    assert output.split() == ["0", "0", "14", "0"], output
    assert os.stat(f"{box.directory}/upper/new").st_uid == FIRST_ID


@pytest.mark.parametrize("kind", MAPS)
def test_a_further_process_in_a_holder(box: Box, kind: str) -> None:
    """Execute works there too, with a terminal, though nobody could come back from the container's namespaces."""
    maps, size = MAPS[kind]
    mappings = (IdMapping(0, 0, size),)

    def work() -> str:
        source = rootfs.RootSource(box.source.lowers, box.source.upper, f"{box.directory}/w", is_idmapped=False)
        os.mkdir(source.work)
        features = idmap.Features(idmap.NONE, has_detached_overlay=False, has_idmapped_tmpfs=False)
        spec = box.spec("sleep", "100", uid_mappings=mappings, gid_mappings=mappings)
        created = process.create(
            spec,
            root=lambda fd: rootfs.open_root(source, fd, features, userxattr=True),
            stdio=process.Stdio(0, 1, 2),
        )
        created.start()
        command = Process(
            ("sh", "-c", "tty; echo $$; id -u"), env=("PATH=/bin",), capabilities=CAPABILITIES, terminal=True
        )
        stdio = process.Stdio(0, 1, 2)
        pid, _, console = process.execute(
            created.pidfd, command, stdio=stdio, uid_mappings=mappings, gid_mappings=mappings
        )
        output = "" if console is None else read_all(console)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        created.abort()
        return f"{output}{status}"

    output = _in_holder(box, maps, work)
    assert output.split() == ["/dev/pts/0", "2", "0", "0"], output


def test_a_user_outside_a_single_id_is_refused(box: Box) -> None:
    """With a single id there is no user 1000: the error names it."""
    mappings = (IdMapping(0, 0, 1),)
    with pytest.raises(InvalidArgument, match="user id 1000"):
        box.run("true", uid=1000, uid_mappings=mappings, gid_mappings=mappings)
