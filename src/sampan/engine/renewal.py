"""A monitor renews itself: it goes on in a fresh interpreter that holds only what it still needs. Hot path.

Theory. To start a container takes a megabyte and more of code that its monitor never needs again, and a fork of the
command has the command's as well. Memory of an interpreter does not shrink, but execve(2) keeps process id, children,
descriptors and locks and drops the rest. So when a container has been quiet for a while its monitor packs its document,
and the code of every module that it will ever need, into a memfd, and executes `python -I -S`, which finds the modules
there. Hence an upgrade or the removal of the package does not touch a monitor. What fails before the execve leaves it
as it was.

The parent-death signal that binds the container to its monitor is about the end of a thread, which this is not; SIGTERM
is ignored meanwhile.
"""

import _signal
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

# What `watch` imports, and what it may import in the end; packages before their modules.
MODULES = (
    "sampan",
    "sampan.errors",
    "sampan.document",
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
# All that stands on the fresh interpreter's command line; the words after it tell people whose monitor it is.
_BOOTSTRAP = "import os,sys;exec(os.pread(int(sys.argv[1]),int(sys.argv[2]),0))"
# What the memfd begins with: a finder of the modules in it, then `go_on`.
_PROGRAM = """
import marshal, os, sys
fd = int(sys.argv[1])
table = marshal.loads(os.pread(fd, int(sys.argv[4]), int(sys.argv[3])))
from _frozen_importlib import ModuleSpec
class Memory:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in table["modules"]:
            return ModuleSpec(name, Memory, is_package=table["modules"][name][2])
    @staticmethod
    def create_module(spec):
        return None
    @staticmethod
    def exec_module(module):
        at, length, is_package = table["modules"][module.__name__]
        exec(marshal.loads(os.pread(fd, length, at)), vars(module))
sys.meta_path.insert(0, Memory)
from sampan.engine.watch import Watch
Watch(table["document"]).go_on()
os._exit(0)
"""


def renew(document: "Document", descriptors: list[int], extra: tuple[str, ...]) -> None:
    """Go on with `document` and the descriptors in a fresh interpreter; return where that cannot be.

    It has MODULES and the `extra` ones.
    """
    try:
        memfd = os.memfd_create("sampan-monitor", os.MFD_CLOEXEC)
        numbers = [memfd, *_pack(memfd, document, (*MODULES, *extra))]
        for fd in (*descriptors, memfd):
            os.set_inheritable(fd, True)
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
        words = [str(number) for number in numbers]
        argv = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *words, "sampan-monitor", document["directory"]]
        os.execve(sys.executable, argv, {})  # noqa: S606 - that is what this is for
    except (OSError, ImportError, ValueError, AttributeError):
        return  # as it was: larger, and no worse


def _pack(memfd: int, document: "Document", modules: tuple[str, ...]) -> tuple[int, int, int]:
    """Write program, code and table to the memfd; return the program's length, the table's place and its length."""
    at = _write(memfd, _PROGRAM.encode())
    size = at
    places: dict[str, tuple[int, int, bool]] = {}
    for name in modules:
        code, is_package = _code(name)
        places[name] = (at, len(code), is_package)
        at += _write(memfd, code)
    return size, at, _write(memfd, marshal.dumps({"modules": places, "document": document}))


def _write(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


def _code(name: str) -> tuple[bytes, bool]:
    """Return a module's marshalled code, from where this process would import it, and whether it is a package."""
    # Large, and gone in a moment.
    from importlib.abc import SourceLoader
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        raise ImportError(name)
    return marshal.dumps(spec.loader.get_code(name)), spec.submodule_search_locations is not None
