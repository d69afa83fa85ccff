"""The same spec under runc: Debian's package, unpacked and not installed."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan import document
from sampan.errors import CommandNotExecutable, CommandNotFound, NotFound
from sampan.oci.runtime import Mount, Resources, Spec
from sampan.runtime import bundle, foreign, process
from tests.runtime.conftest import MOUNTS, Box, read_all

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.network]
CGROUP = "/sampan-foreign"


def _in_monitor(work: Callable[[], str]) -> str:
    """Run `work` in a process of its own, as a monitor is: it leaves the mount namespace for good."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            result = work()
        except BaseException:  # noqa: BLE001 (a process boundary)
            result = traceback.format_exc()
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    output = read_all(reading)
    os.waitpid(pid, 0)
    _remove_cgroups()
    return output


def _remove_cgroups() -> None:
    for directory, _, _ in os.walk("/sys/fs/cgroup"):
        if directory.endswith(CGROUP):
            os.rmdir(directory)


@pytest.mark.parametrize("is_with_terminal", [False, True])
@pytest.mark.parametrize("is_with_userns", [True, False])
def test_runc_runs_the_same_spec(box: Box, runc: str, is_with_userns: bool, is_with_terminal: bool) -> None:  # noqa: FBT001
    """Runc runs it, ids on disk are the image's, the exit status is the monitor's, and runc's record goes away."""
    box.is_with_userns = is_with_userns
    os.mkdir(f"{box.directory}/data", 0o700)
    os.mkdir(f"{box.directory}/bundle")
    idmap = ("idmap",) * is_with_userns
    bind = Mount("/data", "bind", f"{box.directory}/data", ("rbind", "rprivate", *idmap))

    def work() -> str:
        runtime = foreign.Runtime(runc, f"{box.directory}/state")
        command = "id -u; hostname; echo a > /data/f; echo b > /new; exit 7"
        spec = box.spec(
            "sh", "-c", command, mounts=(*MOUNTS, bind), cgroups_path=f"{CGROUP}/x", terminal=is_with_terminal
        )
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with open("/dev/null", "rb") as null:
            created = foreign.create(
                runtime, "x", spec, directory=f"{box.directory}/bundle", root=box.root,
                stdio=process.Stdio(null.fileno(), writing, writing),
            )  # fmt: skip
        os.close(writing)
        state = created.state()["status"]
        created.start()
        output = read_all(reading if created.console_fd is None else created.console_fd)
        status = os.waitstatus_to_exitcode(os.waitpid(created.pid, 0)[1])
        created.delete()
        return f"{state} {output} {status} {os.listdir(f'{box.directory}/state')}"

    assert _in_monitor(work).split() == ["created", "0", "box", "7", "[]"]
    assert os.stat(f"{box.directory}/data/f").st_uid == 0
    assert os.stat(f"{box.directory}/upper/new").st_uid == 0


def test_runcs_errors_are_ours(box: Box, runc: str) -> None:
    """A command that is missing or cannot be executed has the same errors as under our own runtime; no record stays."""
    os.mkdir(f"{box.directory}/bundle")

    def work() -> str:
        runtime, kinds = foreign.Runtime(runc, f"{box.directory}/state"), []
        for name in ("absent", "/bin"):
            spec = box.spec(name, cgroups_path=f"{CGROUP}/x")
            stdio = process.Stdio(0, 1, 1)
            try:
                foreign.create(runtime, "x", spec, directory=f"{box.directory}/bundle", root=box.root, stdio=stdio)
            except (CommandNotFound, CommandNotExecutable) as error:
                kinds.append(type(error).__name__)
        return f"{' '.join(kinds)} {os.listdir(f'{box.directory}/state')}"

    assert _in_monitor(work) == "CommandNotFound CommandNotExecutable []"


def test_the_bundle_is_the_spec(box: Box, place: str) -> None:
    """config.json reads back as the spec that was written, with all devices denied that were not asked for."""
    spec = box.spec("true")
    bundle.write(place, spec)
    written = document.parse(Path(place, bundle.CONFIG).read_text())
    assert written["linux"]["resources"].pop("devices") == [{"allow": False, "access": "rwm"}]
    assert Spec.parse(written).document() == spec.document()
    spec.resources = Resources(device_rules=(("c", 1, None, "r"),))
    told = bundle.document_of(spec)["linux"]["resources"]["devices"]
    assert told == [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "access": "r"}]
    assert not [name for name in os.listdir(place) if name.startswith(".")]


def test_a_runtime_that_is_not_there(place: str) -> None:
    """A runtime that is not installed is named, with the command that installs it."""
    with pytest.raises(NotFound, match="`crun` is not installed") as caught:
        foreign.find("crun", place)
    assert caught.value.hints == ("install it, as root: `apt install crun`",)
