"""A nursery: one process that has imported the monitor's half of the engine, and forks a monitor whenever one is asked.

Theory. A monitor that is forked off a command imports its half first (`launch`), some 30 ms of the 60 that a start
takes. Who starts several containers opens a nursery as its first act: that imports while the command reads its files,
on another processor, and every monitor is there at once. Asking is one message with one end of a socket pair beside it
(SCM_RIGHTS), whole or not at all (SOCK_SEQPACKET), so that forks of the command may ask at the same time. The nursery
itself has left the caller as a monitor does, holds nothing, and ends when the command closes it or ends.
"""

import _socket
import gc
import os

from sampan.engine import launch, rootless, sealing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

_SHUT_RDWR = 2
_open: "list[_socket.socket]" = []


def open(settings: "Settings") -> None:
    """Let this process, and those that it forks, have their monitors from a nursery; it has one thread."""
    rootless.enter(settings)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        launch.leave_caller(theirs.fileno())
        launch.end(lambda: _nurse(theirs, settings))
    theirs.close()
    _open.append(ours)
    launch.nursery = _ask


def close() -> None:
    """End the nursery, also for those forked off this process; the monitors go on. Idempotent."""
    launch.nursery = None
    while _open:
        channel = _open.pop()
        try:
            channel.shutdown(_SHUT_RDWR)
        except OSError:
            pass  # it has ended already
        channel.close()


def _ask() -> "launch.Launch | None":
    """Return a monitor that waits, None where the nursery is gone."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, launch.FD.pack(theirs.fileno()))]
    try:
        _open[-1].sendmsg([b"\0"], rights)
    except OSError:
        ours.close()
        return None
    finally:
        theirs.close()
    return launch.Launch(ours, None)


def _nurse(channel: _socket.socket, settings: "Settings") -> None:
    """Import what a monitor needs, and fork one for each message."""
    try:
        # What this process is for; `monitor` brings most of it, some only once it has a request.
        from sampan.engine import monitor  # noqa: F401
        from sampan.network import bridge, dns, firewall, ports, redirect  # noqa: F401
        from sampan.runtime import cgroupfs  # noqa: F401
    except Exception:  # noqa: BLE001, S110  each monitor meets it too, and tells the command
        pass
    # What all have stays shared between them: the collector must not write into it.
    gc.freeze()
    while True:
        data, ancillary, _, _ = channel.recvmsg(1, _socket.CMSG_SPACE(launch.FD.size), _socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        for _, _, rights in ancillary:
            fd = launch.FD.unpack(rights[: launch.FD.size])[0]
            if os.fork() == 0:
                channel.close()
                os.setsid()
                launch.serve(sealing.MONITOR, _socket.socket(fileno=fd), settings)
                return
            os.close(fd)
        _reap()


def _reap() -> None:
    """Forget the monitors that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # there is none
