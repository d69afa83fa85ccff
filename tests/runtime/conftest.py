"""What the runtime's tests stand on: a busybox layer, a spec in docker's manner, and a way to run it to its end."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.oci.runtime import Mount, Process, Spec
from sampan.runtime import idmap, process, rootfs

RANGE = idmap.Range(0x6000_0000)
_WORDS = """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
    AUDIT_WRITE
"""
CAPABILITIES = tuple("CAP_" + word for word in _WORDS.split())
MOUNTS = (
    Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
)
MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/not-there")
READ_ONLY = ("/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NAMESPACES = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")


class Box:
    """A busybox image in a directory, and containers of it."""

    def __init__(self, directory: str, layer: str, features: idmap.Features) -> None:
        self.directory = directory
        self.layer = layer
        self.features = features
        self.is_with_userns = True
        self.count = 0
        for name in ("upper", "top"):
            os.mkdir(f"{directory}/{name}", 0o755)
        self.source = rootfs.RootSource(
            (f"{directory}/top", layer), f"{directory}/upper", f"{directory}/work", is_volatile=True
        )

    def spec(self, *args: str, **changes: object) -> Spec:
        """Return a spec that runs `args`; `changes` go to Process or Spec, whichever has the name."""
        ours = {name: changes.pop(name) for name in list(changes) if name in Process.__slots__}
        command = {"env": ("PATH=/bin:/sbin:/usr/bin", "A=b"), "capabilities": CAPABILITIES} | ours
        mappings = RANGE.mappings() if self.is_with_userns else ()
        kinds = NAMESPACES if self.is_with_userns else NAMESPACES[1:]
        whole = {
            "mounts": MOUNTS,
            "namespaces": dict.fromkeys(kinds, ""),
            "uid_mappings": mappings,
            "gid_mappings": mappings,
            "masked_paths": MASKED,
            "readonly_paths": READ_ONLY,
            "hostname": "box",
        } | changes
        return Spec(Process(args, **command), **whole)  # type: ignore[arg-type]  # a test's shorthand

    def root(self, userns_fd: int | None) -> int:
        """Open the root, as storage and engine would; a volatile overlay's work directory is good for one mount."""
        self.count += 1
        self.source.work = f"{self.directory}/work{self.count}"
        os.mkdir(self.source.work)
        return rootfs.open_root(self.source, userns_fd, self.features)

    def create(self, spec: Spec, output: int, program: bytes | None = None) -> process.Created:
        """Create a container whose output goes to the descriptor `output`."""
        with open("/dev/null", "rb") as null:
            stdio = process.Stdio(null.fileno(), output, output)
            return process.create(spec, root=self.root, stdio=stdio, seccomp_program=program)

    def run(self, *args: str, program: bytes | None = None, **changes: object) -> tuple[int, str]:
        """Run `args` to the end; return (exit status as docker has it, output)."""
        return self.finish(self.spec(*args, **changes), program)

    def finish(self, spec: Spec, program: bytes | None = None) -> tuple[int, str]:
        """Create and start `spec`, wait for its end; return (exit status, output)."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            created = self.create(spec, writing, program)
            created.start()
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        output = read_all(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(created.pid, 0)[1])
        os.close(created.pidfd)
        return status, output


def read_all(fd: int) -> str:
    """Read `fd` to its end and close it; a terminal ends with EIO."""
    parts = []
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError:
        pass
    os.close(fd)
    return b"".join(parts).decode()


@pytest.fixture(scope="session")
def busybox_layer(busybox_tar: str) -> Iterator[str]:
    """The busybox root as an unpacked layer, in a directory that everybody may enter, as a holder needs."""
    directory = tempfile.mkdtemp(prefix="busybox-", dir="/tmp")
    os.chmod(directory, 0o711)  # noqa: S103 (a holder passes through)
    subprocess.run(["tar", "-xf", busybox_tar, "-C", directory], check=True)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> idmap.Features:
    """What the test directory's file system can do."""
    directory = tmp_path_factory.mktemp("probe")
    return idmap.probe(str(directory), str(directory / "features.json"))


@pytest.fixture
def box(place: str, busybox_layer: str, features: idmap.Features) -> Box:
    """A busybox image of this test's own."""
    return Box(place, busybox_layer, features)


@pytest.fixture
def plant(box: Box) -> Callable[[str, str], Path]:
    """Return `plant(path, text)`: put a file into the image's top layer."""

    def put(path: str, text: str) -> Path:
        file = Path(f"{box.directory}/top{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return put
