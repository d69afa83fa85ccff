"""The monitor from STARTED on: it watches over a container that runs, records its end, and takes down what was put up.

Theory. All that is known here is one document and some descriptors (`monitor` lists its states), so that `renewal` may
carry both into a fresh interpreter. Nothing of what made the container is imported any more; what takes it down is
imported when it is needed, from the package or, after a renewal, from memory. Hot path.
"""

import _socket
import os
import time

from sampan.engine import fault, frame, renewal, state
from sampan.engine.output import OutputLog
from sampan.engine.switchboard import Switchboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.switchboard import Companion

VERSION = 1
# A container that has been quiet for so long is one that stays: now memory is worth more than time.
_QUIET_SECONDS = 1.0


class Watch:
    """One running container; `document` has the keys that `monitor.watched` writes."""

    __slots__ = ("_board", "_document", "_fds", "_log", "_state")

    def __init__(self, document: "Document") -> None:
        """Take over the descriptors that the document names."""
        self._document = document
        self._fds: Document = document["fds"]
        self._state = state.State(**document["state"])
        self._log = OutputLog(f"{document['directory']}/logs")
        listener = _socket.socket(fileno=self._fds["listener"])
        self._board = Switchboard(self._fds["pidfd"], self._log, listener)
        if self._fds["terminal"] >= 0:
            self._board.connect_terminal(self._fds["terminal"], has_stdin=document["has_stdin"])
        else:
            self._board.connect_pipes(self._fds["stdin"], self._fds["stdout"], self._fds["stderr"])
        self._board.is_stdin_once = document["is_stdin_once"]
        self._board.on_termination = document["stop_signal"]
        if document["network"].get("dns"):
            self._board.accompany(_resolver(document["network"]["dns"], document["run"]))

    def begin(self, channel: _socket.socket) -> None:
        """Take the launcher as the first client and tell it that the container runs; then go on."""
        if self._document["window"]:
            self._board.resize(*self._document["window"])
        self._board.add(channel, is_launcher=True)
        self._board.tell(frame.pack(frame.STARTED))
        # A foreign runtime is told of the end by code that is not in a renewal's list.
        may_renew = self._state.runtime is None
        if not self._board.run(_QUIET_SECONDS, None if may_renew else _rest):
            renewal.renew(self._carried(), self._descriptors(), self._extra())
            # Where that cannot be, we go on as we are.
            self._board.run(_QUIET_SECONDS, _rest)
        self._end()

    def go_on(self) -> None:
        """Go on in a fresh interpreter, to the end."""
        self._board.resume(self._document["board"])
        self._log.hold_back(self._document["held_back"])
        self._board.run(_QUIET_SECONDS, _rest)
        self._end()

    def _carried(self) -> "Document":
        return self._document | {"board": self._board.document(), "held_back": self._log.held_back()}

    def _descriptors(self) -> list[int]:
        return [
            *self._board.descriptors(),
            self._fds["lock"],
            *self._fds["holder"],
            *self._document["network"]["held"],
            *(self._document["network"]["dns"] or {}).get("sockets", ()),
        ]

    def _end(self) -> None:
        """Go from `ended` to `gone`; see monitor."""
        self._reach(fault.MONITOR_ENDED)
        status = self._record_end()
        self._reach(fault.MONITOR_RECORDED)
        self._board.farewell(status)
        # Late: this is what the years before need not carry.
        from sampan.engine import takedown

        is_clean = takedown.all(self._document, self._reach)
        self._state.clean = is_clean
        try:
            state.write(self._document["directory"], self._state, durable=False)
        except OSError:
            pass  # a full disk: the next command's sweep looks once more, and finds nothing
        # The lock goes before the last output has been taken: nobody's `start` or `rm` waits for a slow reader.
        os.close(self._fds["lock"])
        self._board.flush()

    def _record_end(self) -> int:
        """Let the ports go, write the exit record, and return docker's exit status."""
        _, wait_status = os.waitpid(self._state.pid, 0)
        status = os.waitstatus_to_exitcode(wait_status)
        status = 128 - status if status < 0 else status
        if self._document["network"]["held"] or self._document["network"]["forwarder"]:
            from sampan.engine import takedown

            takedown.release(self._document)
        self._state.status = state.EXITED
        self._state.exit_code = status
        self._state.oom_killed = _oom_kills(self._document["oom_file"]) > 0
        self._state.finished_at = state.timestamp(time.time_ns())
        # The record of a container that is about to vanish need not outlive a power cut.
        state.write(self._document["directory"], self._state, durable=not self._document["auto_remove"])
        return status

    def _reach(self, point: str) -> None:
        fault.reach(point, self._document["fault"])

    def _extra(self) -> tuple[str, ...]:
        """Return the modules that this container's monitor needs and others do not."""
        return renewal.RESOLVER if self._document["network"]["dns"] else ()


def _resolver(dns: "Document", run: str) -> "Companion":
    from sampan.network import dns as resolver
    from sampan.network import record

    udp, tcp = (_socket.socket(fileno=fd) for fd in dns["sockets"])
    names = resolver.Names([(record.directory(run, id), name) for id, name in dns["networks"]])
    return resolver.Resolver(udp, tcp, names, tuple(dns["servers"]))


def _rest() -> None:
    """Nothing moves, and may not for days: be small."""
    from sampan.kernel import memory

    memory.drop_code()


def _oom_kills(path: str) -> int:
    """Return the kernel's count of OOM kills in the container's cgroup; 0 where nobody counts."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), default=0)
