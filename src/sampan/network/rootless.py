"""A normal user's way out: pasta, attached to the network namespace that the user's holder owns.

Theory. The bridge and its addresses in there are made by the same code as root's; what is missing is a link to the
machine's own network, which only root could make. pasta is that link, in user space: it copies what the namespace sends
to sockets of its own, as the user. Published ports do not go through it (`forward`). The holder ends it with itself;
one whose holder was killed, or the start of one, is ended by the next `attach`: there is one holder, so a pasta that
was told to write its pid to our file is nobody's. All are looked for: the file tells of the last one only.
"""

import _signal
import os
import time

from sampan.errors import SampanError
from sampan.kernel import program, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

_START_SECONDS = 20
_MOST_ROUNDS = 50
_ROUND_SECONDS = 0.01
_WORDS_BYTES = 1 << 16
# No port goes in by pasta, and the machine's own loopback is not for containers.
_WORDS = ("--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--quiet")
_ALONE = "containers reach no network but each other's, since"


def attach(pid: int, settings: "Settings") -> tuple[int, str]:
    """Give the network namespace of process `pid` a way out; return the helper's process id, and what is missing.

    0 where there is no way out: then the text says why, with the command that mends it.
    """
    pid_file = f"{settings.run}/pasta.pid"
    _end_stale(pid_file.encode())
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


def _end_stale(pid_file: bytes) -> None:
    """End every pasta whose holder was killed; another's words are not ours."""
    for _ in range(_MOST_ROUNDS):  # one may be on its way into the background, under a new pid
        stale = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _end_if_stale(pid, pid_file)]
        if not stale:
            return
        time.sleep(_ROUND_SECONDS)


def _end_if_stale(pid: int, pid_file: bytes) -> bool:
    """End a process that is a stale pasta; tell whether it is one."""
    try:
        pidfd = syscalls.pidfd_open(pid)
    except OSError:
        return False
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(_WORDS_BYTES).split(b"\0")
        is_stale = b"--pid" in words and pid_file in words
        if is_stale:
            syscalls.pidfd_send_signal(pidfd, _signal.SIGTERM)
    except OSError:  # it has ended, or is another user's
        return False
    else:
        return is_stale
    finally:
        os.close(pidfd)


def _read_pid(pid_file: str) -> int:
    try:
        with open(pid_file, "rb") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return 0
