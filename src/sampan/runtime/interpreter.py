"""Our own program, out of a container's reach (CVE-2019-5736).

A process that enters a container is for a moment our interpreter, and `/proc/PID/exe` is a way back to its file. With a
user namespace the container has no right to that file. Without one its root may open it for writing, so whoever creates
or joins such a container first executes itself anew from a read-only mount that only a descriptor holds.
"""

import os

from sampan.kernel import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def execute_sealed(path: str, args: "tuple[str, ...]", environment: "dict[str, str]") -> "NoReturn":
    """Replace this process by the program at `path`, whose `/proc/self/exe` nobody can write to; 7 to 9 ms for Python.

    `args` begins with the program's usual path: Python finds its library from there.
    """
    fd = mount.clone(os.path.realpath(path), mount.Options(("ro",)))
    os.execve(f"/proc/self/fd/{fd}", args, environment)  # noqa: S606 (that is what this is for)


def is_sealed() -> bool:
    """Tell whether this process's program lies on a read-only mount, so that a container may see it."""
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)
