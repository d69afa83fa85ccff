"""A monitor renews itself: it goes on in a fresh interpreter that holds only what it still needs. Hot path.

Theory. To start a container takes a megabyte and more of code that its monitor never needs again, and a fork of the
command has the command's as well. Memory of an interpreter does not shrink, but execve(2) keeps process id, children,
descriptors and locks and drops the rest. So when a container has been quiet for a while its monitor packs its document,
and the code of every module that it will ever need, into a memfd, and executes `python -I -S`, which finds the modules
there. Hence an upgrade or the removal of the package does not touch a monitor. What fails before the execve leaves it
as it was.

The parent-death signal that binds the container to its monitor is about the end of a thread, which this is not; SIGTERM
and SIGHUP are ignored meanwhile.
"""

import _signal
import marshal
import os
import sys
from _frozen_importlib_external import SourceFileLoader

from sampan.engine import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

# What `watch` imports, and what it may import in the end; packages before their modules.
MODULES = (
    "sampan",
    "sampan.errors",
    "sampan.document",
    "sampan.failure",
    "sampan.journal",
    "sampan.engine",
    "sampan.engine.fault",
    "sampan.engine.frame",
    "sampan.engine.output",
    "sampan.engine.renewal",
    "sampan.engine.state",
    "sampan.engine.switchboard",
    "sampan.engine.watch",
    "sampan.kernel",
    "sampan.kernel.memory",
    # In the end:
    "sampan.engine.connection",
    "sampan.engine.takedown",
    "sampan.kernel.netlink",
    "sampan.kernel.nftables",
    "sampan.kernel.syscalls",
    "sampan.network",
    "sampan.network.bridge",
    "sampan.network.endpoint",
    "sampan.network.firewall",
    "sampan.network.ipam",
    "sampan.runtime",
    "sampan.runtime.cgroup",
    "sampan.runtime.cgroup_v1",
    "sampan.runtime.cgroup_v2",
    "sampan.runtime.cgroupfs",
    "sampan.settings",
    "sampan.settings.configuration",
    "sampan.storage",
    "sampan.storage.trash",
)
# With a resolver.
RESOLVER = ("sampan.network.dns", "sampan.network.record")
# With a health check: what a probe's runner imports, each time it is forked.
PROBE = (
    "sampan.engine.health",
    "sampan.engine.probe",
    "sampan.kernel.capability",
    "sampan.kernel.mount",
    "sampan.oci",
    "sampan.oci.runtime",
    "sampan.runtime.channel",
    "sampan.runtime.device",
    "sampan.runtime.filesystem",
    "sampan.runtime.idmap",
    "sampan.runtime.init",
    "sampan.runtime.namespaces",
    "sampan.runtime.process",
    "sampan.runtime.recipe",
    "sampan.runtime.rootfs",
    "sampan.runtime.target",
)
# With a restart policy: all that starts a container once more.
START = (
    "sampan.engine.assembly",
    "sampan.engine.config",
    "sampan.engine.linking",
    "sampan.engine.liveness",
    "sampan.engine.monitor",
    "sampan.engine.partner",
    "sampan.engine.privilege",
    "sampan.engine.rootless",
    "sampan.engine.run_options",
    "sampan.engine.sealing",
    "sampan.engine.specification",
    "sampan.engine.stdio",
    "sampan.engine.words",
    "sampan.events",
    "sampan.frozen",
    "sampan.identity",
    "sampan.kernel.bpf",
    "sampan.kernel.capability",
    "sampan.kernel.conntrack",
    "sampan.kernel.dbus",
    "sampan.kernel.mount",
    "sampan.kernel.program",
    "sampan.kernel.seccomp",
    "sampan.kernel.seccomp_default",
    "sampan.kernel.syscall_table",
    "sampan.network.dns",
    "sampan.network.etc",
    "sampan.network.forward",
    "sampan.network.redirect",
    "sampan.oci",
    "sampan.oci.runtime",
    "sampan.runtime.bundle",
    "sampan.runtime.channel",
    "sampan.runtime.delegation",
    "sampan.runtime.device",
    "sampan.runtime.filesystem",
    "sampan.runtime.foreign",
    "sampan.runtime.idmap",
    "sampan.runtime.init",
    "sampan.runtime.interpreter",
    "sampan.runtime.joined",
    "sampan.runtime.namespaces",
    "sampan.runtime.process",
    "sampan.runtime.recipe",
    "sampan.runtime.rootfs",
    "sampan.runtime.standard",
    "sampan.runtime.target",
    "sampan.runtime.user",
    "sampan.settings.resolver",
    "sampan.network.record",
)
# Where a fresh interpreter goes on.
WATCH, START_AGAIN = 0, 1
# All that stands on the fresh interpreter's command line; the words after it tell people whose monitor it is.
_BOOTSTRAP = "import os,sys;exec(os.pread(int(sys.argv[1]),int(sys.argv[2]),0))"
# What the memfd begins with: a finder of the modules in it, then the way on.
_PROGRAM = """
import marshal, os, sys
fd, _, at, length, document, entry = map(int, sys.argv[1:7])
table = marshal.loads(os.pread(fd, length, at))
from _frozen_importlib import ModuleSpec
class Memory:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in table:
            return ModuleSpec(name, Memory, is_package=table[name][2])
    @staticmethod
    def create_module(spec):
        return None
    @staticmethod
    def exec_module(module):
        at, length, is_package = table[module.__name__]
        exec(marshal.loads(os.pread(fd, length, at)), vars(module))
sys.meta_path.insert(0, Memory)
with open(document, "rb") as file:
    document = marshal.load(file)
if entry:
    from sampan.engine import monitor
    monitor.again(document)
else:
    from sampan.engine.watch import Watch
    Watch(document).go_on()
os._exit(0)
"""


def pack(extra: tuple[str, ...]) -> list[int]:
    """Return a program in memory, MODULES and the `extra` ones: the memfd, and where in it is what.

    Raises OSError, ImportError where the package has gone.
    """
    memfd = os.memfd_create("sampan-monitor", os.MFD_CLOEXEC)
    at = size = _write(memfd, _PROGRAM.encode())
    places: dict[str, tuple[int, int, bool]] = {}
    for name in dict.fromkeys((*MODULES, *extra)):
        code, is_package = _code(name)
        places[name] = (at, len(code), is_package)
        at += _write(memfd, code)
    return [memfd, size, at, _write(memfd, marshal.dumps(places))]


def go_on(
    program: list[int],
    entry: int,
    document: "Document",
    descriptors: list[int],
    *,
    environment: "dict[str, str] | None" = None,
    is_sealed: bool = False,
) -> None:
    """Go on with `document` and the descriptors, and no others, in a fresh interpreter; return where that cannot be.

    `entry` is WATCH or START_AGAIN. `is_sealed`: no container that this process enters may write to its program
    (`interpreter`).
    """
    try:
        memfd = os.memfd_create("sampan-document", os.MFD_CLOEXEC)
        _write(memfd, marshal.dumps(document))
        os.lseek(memfd, 0, os.SEEK_SET)
        kept = {*descriptors, program[0], memfd, 0, 1, 2}
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                os.set_inheritable(fd, fd in kept)
            except OSError:
                continue  # the one that listed the directory
        for number in (_signal.SIGTERM, _signal.SIGHUP):
            _signal.signal(number, _signal.SIG_IGN)
        words = [str(number) for number in (*program, memfd, entry)]
        argv = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *words, state.MONITOR_WORD, document["directory"]]
        if is_sealed:
            from sampan.runtime import interpreter

            interpreter.execute_sealed(sys.executable, tuple(argv), environment or {})
        os.execve(sys.executable, argv, environment or {})  # noqa: S606 - that is what this is for
    except (OSError, ImportError, ValueError):
        return


def _write(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


def _code(name: str) -> tuple[bytes, bool]:
    """Return a module's marshalled code, from where this process would import it, and whether it is a package."""
    # What importlib.util.find_spec does, which brings a hundred modules, 40 ms, a second after every start.
    parent = name.rpartition(".")[0]
    path = __import__(parent, fromlist=["__path__"]).__path__ if parent else None
    found = (finder.find_spec(name, path) for finder in sys.meta_path)
    spec = next((spec for spec in found if spec is not None), None)
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        raise ImportError(name)
    return marshal.dumps(spec.loader.get_code(name)), spec.submodule_search_locations is not None
