"""What the flags of run and create ask for."""

import os
import shlex

import pytest

from sampan.cli import flags, request, run, terminal
from sampan.engine.run_options import RunOptions
from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]
_NOBODY = Settings({"HOME": "/nowhere"}, 7)


def _options(line: str) -> RunOptions:
    parsed = flags.parse(run.RUN, shlex.split(line))
    return request.options(parsed, Settings({"CALLER": "me"}, os.geteuid()), parsed.arguments[0])


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        ("img", "command", None),
        ("img sh -c 'a b'", "command", ("sh", "-c", "a b")),
        ("img -d", "command", ("-d",)),
        ("--entrypoint sh img", "entrypoint", ("sh",)),
        ("--entrypoint '' img", "entrypoint", ()),
        ("img", "entrypoint", None),
        ("-e A=b -eCALLER -e GONE img", "env", ("A=b", "CALLER=me")),
        ("-e A=1 -e A=2 img", "env", ("A=2",)),
        ("-m 256m img", "memory_bytes", 256 << 20),
        ("--memory=1g img", "memory_bytes", 1 << 30),
        ("--memory-swap -1 img", "memory_swap_bytes", -1),
        ("--cpus 0.5 img", "nano_cpus", 500_000_000),
        ("--cpu-quota 25000 img", "cpu_quota_us", 25_000),
        ("--cpu-quota 25000 --cpu-period 50000 img", "cpu_period_us", 50_000),
        ("--cpu-quota -1 img", "cpu_quota_us", -1),
        ("--cpuset-cpus 0-2,4 img", "cpuset_cpus", "0-2,4"),
        ("--memory-swappiness -1 img", "memory_swappiness", None),
        ("--memory-swappiness 0 img", "memory_swappiness", 0),
        ("--blkio-weight-device /dev/sda:200 img", "blkio_weight_device", (("/dev/sda", 200),)),
        ("--device-read-bps /dev/sda:1mb img", "device_read_bps", (("/dev/sda", 1 << 20),)),
        ("--device-write-iops /dev/sda:90 img", "device_write_iops", (("/dev/sda", 90),)),
        ("--device /dev/fuse img", "devices", (("/dev/fuse", "/dev/fuse", "rwm"),)),
        ("--device /dev/fuse:r img", "devices", (("/dev/fuse", "/dev/fuse", "r"),)),
        ("--device /dev/a:/dev/b img", "devices", (("/dev/a", "/dev/b", "rwm"),)),
        ("--device /dev/a:/dev/b:rw img", "devices", (("/dev/a", "/dev/b", "rw"),)),
        ("--device-cgroup-rule 'c 1:* r' img", "device_cgroup_rules", ("c 1:* r",)),
        ("--annotation a=b --isolation default --disable-content-trust img", "annotations", {"a": "b"}),
        ("-c 512 img", "cpu_shares", 512),
        ("--pids-limit 10 img", "pids_limit", 10),
        ("--shm-size 1m img", "shm_size_bytes", 1 << 20),
        ("--network none img", "network_mode", "none"),
        ("--net host img", "network_mode", "host"),
        ("img", "network_mode", "bridge"),
        ("--label a=b -l c img", "labels", {"a": "b", "c": ""}),
        ("--sysctl net.core.somaxconn=9 img", "sysctl", {"net.core.somaxconn": "9"}),
        ("--security-opt seccomp=unconfined img", "seccomp", "unconfined"),
        ("--security-opt no-new-privileges img", "no_new_privileges", True),
        ("-itd img", "tty", True),
        ("-itd img", "interactive", True),
        ("-itd img", "detach", True),
        ("--rm img", "auto_remove", True),
        ("--rm=false img", "auto_remove", False),
        ("--read-only img", "read_only", True),
        ("-u 1:2 img", "user", "1:2"),
        ("--userns host img", "userns", "host"),
        ("--runtime runc img", "runtime", "runc"),
        ("-w /x img", "workdir", "/x"),
        ("--stop-timeout 3 img", "stop_timeout_seconds", 3),
        ("--restart no img", "image", "img"),
    ],
)
def test_one_flag_asks_for_one_thing(line: str, attribute: str, value: object) -> None:
    """Each flag of docker run ends in the option that means it."""
    assert getattr(_options(line), attribute) == value


def test_every_port_of_a_range_is_asked_for() -> None:
    """-p is repeated, and a range is one mapping for each port."""
    ports = _options("-p 127.0.0.1:8000:5000 -p 9000-9001:80-81/udp img").ports
    assert [(p.host_ip, p.host_port, p.container_port, p.protocol) for p in ports] == [
        ("127.0.0.1", 8000, 5000, "tcp"),
        ("0.0.0.0", 9000, 80, "udp"),
        ("0.0.0.0", 9001, 81, "udp"),
    ]


def test_volumes_binds_and_tmpfs_are_mounts() -> None:
    """-v, --mount and --tmpfs all end in one list."""
    volumes = _options("-v /tmp:/a:ro -v data:/b --mount type=bind,source=/tmp,target=/c --tmpfs /d img").volumes
    assert [(v.kind, v.source, v.destination, v.read_only) for v in volumes] == [
        ("bind", "/tmp", "/a", True),
        ("volume", "data", "/b", False),
        ("bind", "/tmp", "/c", False),
        ("tmpfs", "", "/d", False),
    ]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("--cpus 1 --cpu-quota 5 img", InvalidArgument),
        ("--pull sometimes img", InvalidArgument),
        ("--security-opt label=x img", Unsupported),
        ("--gpus all img", Unsupported),
        ("--storage-opt size=1g img", Unsupported),
        ("--kernel-memory 50m img", Unsupported),
        ("--use-api-socket img", Unsupported),
        ("--isolation hyperv img", InvalidArgument),
        ("--device a.b/c=d img", Unsupported),
        ("--device /dev/a:/dev/b:rwx img", InvalidArgument),
        ("--device a:/b img", InvalidArgument),
        ("--device-cgroup-rule x img", InvalidArgument),
        ("--device-cgroup-rule 'c 1:3 q' img", InvalidArgument),
        ("--device-read-bps /dev/sda img", InvalidArgument),
        ("--cpuset-cpus 0-x img", InvalidArgument),
        ("--cpuset-cpus 3-1 img", InvalidArgument),
        ("--ulimit nofile=2:1 img", InvalidArgument),
        ("--ulimit files=1 img", InvalidArgument),
        ("-p 70000:1 img", InvalidArgument),
    ],
)
def test_what_cannot_be_asked_for(line: str, kind: type[SampanError]) -> None:
    """Contradictions and what is not there yet are refused before anything happens."""
    with pytest.raises(kind):
        _options(line)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("--detach-keys ctrl-a", b"\x01"),
        ("--detach-keys a,b", b"ab"),
        ("--detach-keys ctrl-@,ctrl-_", b"\x00\x1f"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    """--detach-keys are docker's words for bytes."""
    assert terminal.detach_keys(flags.parse(run.RUN, [*text.split(), "img"]), _NOBODY) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "alt-x", "ab"])
def test_wrong_detach_keys(text: str) -> None:
    """A key that is none is refused."""
    with pytest.raises(InvalidArgument):
        terminal.detach_keys(flags.parse(run.RUN, ["--detach-keys", text, "img"]), _NOBODY)


@pytest.mark.parametrize("word", [".", "./x", "../x", "/x", "~/x", "~"])
def test_a_path_begins_with_a_dot_a_slash_or_a_tilde(word: str) -> None:
    """Such words are projects."""
    assert run.is_path(word)


@pytest.mark.parametrize("word", ["x", "x/y", "docker.io/x", "localhost:5000/x", "sha256:00"])
def test_all_else_is_an_image(word: str) -> None:
    """All other words are references."""
    assert not run.is_path(word)
