"""A normal user's way out: pasta, attached to the network namespace that the user's holder owns.

Theory. The bridge and its addresses in there are made by the same code as root's; what is missing is a link to the
machine's own network, which only root could make. pasta is that link, in user space: it copies what the namespace sends
to sockets of its own, as the user. Published ports do not go through it (`forward`). The holder ends it with itself;
one whose holder was killed is ended by the next `attach`, which knows it by the file it was told to write its pid to.
"""

import _signal
import os

from sampan.errors import SampanError
from sampan.kernel import program, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

_START_SECONDS = 20
# No port goes in by pasta, and the machine's own loopback is not for containers.
_WORDS = ("--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--quiet")
_ALONE = "containers reach no network but each other's, since"


def attach(pid: int, settings: "Settings") -> tuple[int, str]:
    """Give the network namespace of process `pid` a way out; return the helper's process id, and what is missing.

    0 where there is no way out: then the text says why, with the command that mends it.
    """
    pid_file = f"{settings.run}/pasta.pid"
    _end_stale(pid_file)
    path = program.find("pasta", settings.environment.get("PATH"))
    if path is None:
        return 0, f"{_ALONE} `pasta` is not installed: `apt install passt`"
    try:
        done = program.run([path, *_WORDS, "--pid", pid_file, str(pid)], timeout=_START_SECONDS)
    except SampanError as error:
        return 0, f"{_ALONE} {error.what}"
    helper = _read_pid(pid_file)
    if done.status != 0 or not helper:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return 0, f"{_ALONE} `pasta` failed{': ' if said else ''}{''.join(said)}"
    return helper, ""


def _end_stale(pid_file: str) -> None:
    """End a pasta whose holder was killed; one with another's words is not ours."""
    pid = _read_pid(pid_file)
    if not pid:
        return
    try:
        pidfd = syscalls.pidfd_open(pid)
    except OSError:
        return
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if pid_file.encode() in file.read().split(b"\0"):
                syscalls.pidfd_send_signal(pidfd, _signal.SIGTERM)
    except OSError:
        return
    finally:
        os.close(pidfd)


def _read_pid(pid_file: str) -> int:
    try:
        with open(pid_file, "rb") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return 0
