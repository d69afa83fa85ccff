"""The mirrors of a step: its layers of the context, shown by a process that notes what is asked of them (`trace`).

    the step's parent                                 the mirrors' process
    -----------------------------------------------   -------------------------------------------------------
    mounts a mirror for each layer in its own mount
    namespace, forks, forgets the devices         ->  answers the kernel (`kernel.fuse`)
    when nothing of the step runs any more: asks  ->  writes what was asked for into a file, ends

Whoever of the two ends first takes the mirrors along: what looks into them then gets an error, and the parent says so.
Imports only what is cheap: a build waits for it.
"""

import _signal
import _socket
import os
import resource
import select

from sampan.document import render
from sampan.errors import SampanError
from sampan.kernel import capability, fuse, mount, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from sampan.document import Document
    from sampan.kernel.fuse import Owners


# Names that are not there, of one layer: whoever asks for more depends on all of it.
MAX_ABSENT = 4_000


class Lost(SampanError):
    """The mirrors' process ended before the step: nobody knows what the step saw."""


class Mirrors:
    """Mirrors that stand below `memory`; `places` says under which path each of the `sources` is shown."""

    def __init__(self, memory: str, sources: "Mapping[int, str]", owners: "Owners", output: str) -> None:
        """Mount and serve; raises OSError where there is no FUSE, and then nothing stands.

        `sources` are directories by a number of the caller's. What was asked for goes to the file `output`.
        """
        self.places: dict[int, str] = {}
        devices: dict[int, int] = {}
        try:
            for number in sources:
                devices[number], mounted = fuse.mount(memory)
                self.places[number] = _attach(mounted, f"{memory}/mirror-{number}")
            self._channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
            self._pid = os.fork()
            if self._pid == 0:
                _serve(
                    [fuse.Mirror(devices[key], sources[key], owners, limit=MAX_ABSENT) for key in sources],
                    theirs,
                    output,
                )
            theirs.close()
        except BaseException:
            # Nobody serves: a path that was left would make who looks at it wait for ever.
            for place in self.places.values():
                syscalls.umount2(place, syscalls.MNT_DETACH)
            raise
        finally:
            for device in devices.values():
                os.close(device)

    def finish(self) -> None:
        """Have it written down what was asked for, and end; raises Lost."""
        try:
            self._channel.send(b"\n", _socket.MSG_NOSIGNAL)
        except OSError:
            pass  # its status tells
        self._channel.close()
        _, status = os.waitpid(self._pid, 0)
        if status:
            raise Lost("it did not write down what was asked for")


def _attach(mounted: int, place: str) -> str:
    try:
        os.mkdir(place, 0o755)
        target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mount.attach(mounted, target)
        finally:
            os.close(target)
    finally:
        os.close(mounted)
    return place


def _serve(mirrors: "list[fuse.Mirror]", channel: _socket.socket, output: str) -> "NoReturn":
    """Be the mirrors' process."""
    status = 1
    try:
        capability.set_parent_death_signal()
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
        # As many files as the step may open at once.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        syscalls.close_others([0, 1, 2, channel.fileno(), *(mirror.fileno() for mirror in mirrors)])
        if _serve_until_asked(mirrors, channel):
            told = {str(number): _told(mirror) for number, mirror in enumerate(mirrors)}
            with open(output, "w", encoding="ascii") as file:
                file.write(render(told))
            status = 0
    finally:
        os._exit(status)


def _serve_until_asked(mirrors: "list[fuse.Mirror]", channel: _socket.socket) -> bool:
    """Answer the kernel; True when the parent asks for the end, False where it has gone."""
    by_fd = {mirror.fileno(): mirror for mirror in mirrors}
    poll = select.poll()
    for fd in (*by_fd, channel.fileno()):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            mirror = by_fd.get(fd)
            if mirror is None:
                return bool(channel.recv(1))
            if not mirror.serve():
                poll.unregister(fd)


def _told(mirror: fuse.Mirror) -> "Document":
    return {
        "is_over": mirror.is_over,
        "seen": list(mirror.seen),
        "read": list(mirror.read),
        "listed": list(mirror.listed),
    }
