"""The output of many containers at once: one poll loop over their monitors' channels.

Theory: as in `engine.logs`, a monitor tells that a log has grown (TICK), and the files are read here; INVARIANT: the
channel is opened before the first read, so nothing falls between both. A `Follower` is a `crew.Watch`: output is shown
while others are still being started.
"""

import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field

from sampan.engine import attach, frame, logs, state
from sampan.engine.attach import Client
from sampan.engine.logs import Line, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.settings.configuration import Settings

_CHUNK_BYTES = 1 << 16

Show = Callable[[str, Line], None]


@dataclass(slots=True)
class _Followed:
    container_id: str
    label: str
    client: Client
    reader: Reader
    decoder: frame.Decoder = field(default_factory=frame.Decoder)


@dataclass(slots=True)
class Follower:
    """Shows what containers write from `since` on; `on_end` hears a container's label and exit status."""

    settings: "Settings"
    show: Show
    on_end: Callable[[str, int], None] = lambda _label, _status: None
    since: str = ""
    _followed: dict[int, _Followed] = field(default_factory=dict)

    def add(self, container_id: str, label: str, *, tail: int | None = None) -> None:
        """Follow one more container; one that has ended already is shown and done with."""
        reader = Reader(f"{state.directory(self.settings, container_id)}/logs/json.log")
        try:
            client = attach.connect(state.socket_path(self.settings, container_id), frame.FOLLOW)
        except (FileNotFoundError, ConnectionRefusedError):
            self._lines(label, reader, tail)
            reader.close()
            self.on_end(label, state.read(state.directory(self.settings, container_id)).exit_code)
            return
        self._followed[client.fileno()] = _Followed(container_id, label, client, reader)
        self._lines(label, reader, tail)

    @property
    def is_done(self) -> bool:
        """Return whether all have ended."""
        return not self._followed

    def descriptors(self) -> list[int]:
        """Return what to wait for."""
        return list(self._followed)

    def serve(self, ready: set[int]) -> None:
        """Show what there is of these."""
        for fd in ready & set(self._followed):
            one = self._followed[fd]
            status = self._listen(fd, one)
            self._lines(one.label, one.reader, None)
            if status is not None:
                del self._followed[fd]
                one.client.close()
                self._end(one, status)

    def run(self) -> None:
        """Follow until all have ended."""
        while self._followed:
            poll = select.poll()
            for fd in self._followed:
                poll.register(fd, select.POLLIN)
            self.serve({fd for fd, _ in poll.poll()})

    def _end(self, one: _Followed, status: int) -> None:
        """Be done with a container that ended, unless its restart policy starts it again."""
        if state.read(state.directory(self.settings, one.container_id)).status == state.RESTARTING:
            try:
                client = attach.connect(state.socket_path(self.settings, one.container_id), frame.FOLLOW)
            except (FileNotFoundError, ConnectionRefusedError):
                pass  # it was stopped meanwhile
            else:
                again = _Followed(one.container_id, one.label, client, one.reader)
                self._followed[client.fileno()] = again
                return
        one.reader.close()
        self.on_end(one.label, status)

    def _listen(self, fd: int, one: _Followed) -> int | None:
        """Read what the monitor says; return the exit status where it was that."""
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            return 128 + 9  # the monitor was killed, and the container with it
        for kind, payload in one.decoder.feed(data):
            if kind == frame.EXIT:
                return payload[0]
        return None

    def _lines(self, label: str, reader: Reader, tail: int | None) -> None:
        if tail is not None:
            reader.skip_to_last(tail)
        found = reader.more()
        for line in found if tail is None else logs.last(found, tail):
            if line.time >= self.since:
                self.show(label, line)
