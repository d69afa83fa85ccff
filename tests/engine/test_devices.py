"""--device and its kin: nodes with their owner, what may be done with them, and what a normal user has."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.engine.test_restart import until
from tests.plugin.person import Person

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip
# Says `r` and `w` where the device opens so.
OPEN = "(exec 3<{0}) 2>/dev/null && echo r; (exec 3>{0}) 2>/dev/null && echo w; true"


def _fuse() -> str:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    return "/dev/fuse"


@pytest.mark.parametrize("userns", ["", "--userns host"])
@pytest.mark.parametrize(("access", "opened"), [("", "rw"), (":rwm", "rw"), (":r", "r"), (":w", "w")])
def test_a_device_and_its_access(sampan: Command, busybox: str, userns: str, access: str, opened: str) -> None:
    """It opens as was allowed, and no other way, with and without a user namespace; its mode is the machine's."""
    path = _fuse()
    words = ("--network", "none", *userns.split(), "--device", f"{path}{access}")
    script = f"{OPEN.format(path)}; stat -c '%a %u %g %t:%T' {path}"
    *ways, shown = sampan("run", "--rm", *words, busybox, "sh", "-c", script, check=True).stdout.split("\n")[:-1]
    assert "".join(ways) == opened
    status = os.stat(path)
    mode, number = stat.S_IMODE(status.st_mode), f"{os.major(status.st_rdev):x}:{os.minor(status.st_rdev):x}"
    assert shown == f"{mode:o} {status.st_uid} {status.st_gid} {number}"


@pytest.mark.parametrize("userns", ["", "--userns host"])
def test_another_place_and_a_directory(sampan: Command, busybox: str, tmp_path: Path, userns: str) -> None:
    """Another name, a place outside /dev, a link to one, and all devices of a directory."""
    (tmp_path / "link").symlink_to(_fuse())
    (tmp_path / "many" / "deep").mkdir(parents=True)
    os.mknod(tmp_path / "many" / "one", 0o660 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(tmp_path / "many" / "deep" / "two", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    (tmp_path / "many" / "text").write_text("no device", encoding="ascii")
    words = ["--device", f"{tmp_path}/link:/dev/other", "--device", f"{_fuse()}:/opt/fuse", *userns.split()]
    words += ["--device", f"{tmp_path}/many:/dev/many"]
    script = f"{OPEN.format('/dev/other')}; {OPEN.format('/opt/fuse')}; ls -A /dev/many /dev/many/deep; ls -A /dev"
    done = sampan("run", "--rm", "--network", "none", *words, busybox, "sh", "-c", script, check=True).stdout
    assert done.startswith("r\nw\nr\nw\n/dev/many:\ndeep\none\n\n/dev/many/deep:\ntwo\n")
    assert ".sampan" not in done


def test_rules_of_access(sampan: Command, busybox: str) -> None:
    """Without one a node that the container makes does not open; a rule opens it, as far as it goes."""
    status = os.stat(_fuse())
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    script = f"mknod /node c {number.replace(':', ' ')}; {OPEN.format('/node')}"
    for words, ways in (
        ((), ""),
        (("--device-cgroup-rule", f"c {number} r"), "r"),
        (("--device-cgroup-rule", "c *:* rw"), "rw"),
        (("--device-cgroup-rule", "b *:* rwm"), ""),
        (("--device-cgroup-rule", f"a {number} w"), "w"),
        (("--device-cgroup-rule", "a *:* rwm"), "rw"),
        (("--privileged",), "rw"),
    ):
        argv = ("--rm", "--userns", "host", "--network", "none", *words, busybox, "sh", "-c", script)
        done = sampan("run", *argv, check=True)
        assert done.stdout.replace("\n", "") == ways, words


def test_a_privileged_container_has_all_devices(sampan: Command, busybox: str) -> None:
    """Every node of the machine's /dev, and its own terminals."""
    done = sampan("run", "--rm", "--privileged", "--network", "none", busybox, "ls", "/dev", check=True)
    here = {n for n in os.listdir("/dev") if stat.S_ISBLK(os.lstat(f"/dev/{n}").st_mode)}
    assert {*here, "null", "pts", "shm"} <= set(done.stdout.split())


def test_inspect_and_a_restart(sampan: Command, busybox: str) -> None:
    """Docker's words in inspect, and the same device and rules after a restart by policy."""
    path = _fuse()
    words = ("--device", f"{path}:/dev/here:r", "--device-cgroup-rule", "c 1:* r", "--restart", "on-failure:1")
    script = f"{OPEN.format('/dev/here')}; exit 1"
    sampan("run", "-d", *words, "--network", "none", "--name", "box", busybox, "sh", "-c", script, check=True)
    until(sampan, "box", lambda told: told["Status"] == "exited" and told["RestartCount"] == 1)
    assert sampan("logs", "box", check=True).stdout == "r\nr\n"
    (found,) = json.loads(sampan("inspect", "box", check=True).stdout)
    device = {"PathOnHost": path, "PathInContainer": "/dev/here", "CgroupPermissions": "r"}
    assert found["HostConfig"]["Devices"] == [device]
    assert found["HostConfig"]["DeviceCgroupRules"] == ["c 1:* r"]
    sampan("rm", "box", check=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--device /dev/nosuch", "the device `/dev/nosuch` does not exist"),
        ("--device /etc/passwd", "neither a device nor a directory"),
        ("--device /sys/kernel", "there are no devices in"),
    ],
)
def test_what_is_no_device(sampan: Command, busybox: str, words: str, told: str) -> None:
    """One error, and no container that runs without it."""
    done = sampan("run", "--rm", *words.split(), busybox, "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert told in done.stderr


def test_a_normal_user_s_devices(user: Person) -> None:
    """They are bound, and open as their mode on the machine says; he can rule nothing."""
    done = user(
        "run",
        "--rm",
        "--network",
        "none",
        "--device",
        "/dev/zero:/dev/nought",
        "busybox",
        "sh",
        "-c",
        "head -c 3 /dev/nought | wc -c",
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    for words in (("--device", "/dev/zero:r"), ("--device-cgroup-rule", "c 1:3 r")):
        done = user("run", "--rm", *words, "busybox", "true")
        assert done.returncode == 125
        assert "a normal user cannot rule" in done.stderr
