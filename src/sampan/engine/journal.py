"""docker events: what happened, from the journal in SAMPAN_ROOT, and what happens from now on.

Who does something to a container, image, network or volume writes a line (`sampan.journal`): commands and monitors
append to one file, which the kernel orders. When it is full it is put away under another name, in the place of the one
before, and the next writer begins a new one; so there is always the last megabyte. A follower reads on where it was;
when the file in the journal's place is another one, it reads its own to the end, and goes on in the new.
"""

import os
import time

from sampan.document import Malformed, parse
from sampan.engine import state
from sampan.journal import CONTAINER, EVENT_BYTES, IMAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.document import Document
    from sampan.settings.configuration import Settings

_POLL_SECONDS = 0.1
_BILLION = 1_000_000_000


class Event:
    """One event; `kind` and `action` are docker's words, `attributes` docker's Actor.Attributes."""

    __slots__ = ("action", "attributes", "id", "kind", "time_ns")

    def __init__(self, document: "Document") -> None:
        self.action: str = document["action"]
        self.id: str = document["id"]
        self.kind: str = document.get("type", CONTAINER)
        self.attributes: Document = document["attributes"]
        self.time_ns: int = document["time_ns"]

    def document(self) -> "Document":
        """Return docker's event message, with the Engine API's keys."""
        # docker: what was there before Type, Action and Actor stays with those who had it.
        old: Document = {"status": self.action, "id": self.id} if self.kind in {CONTAINER, IMAGE} else {}
        if self.kind == CONTAINER:
            old["from"] = self.attributes.get("image", "")
        return old | {
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": self.attributes},
            "scope": "local",
            "time": self.time_ns // _BILLION,
            "timeNano": self.time_ns,
        }


def events(settings: "Settings", *, since: str = "", until: str = "") -> "Iterator[Event]":
    """Yield events from `since` on, and then what happens until `until`, for ever without it.

    Times are written as state.timestamp does. docker: with neither only what is new; with `until` alone, in the past,
    all up to it.
    """
    tail = _Tail(f"{settings.root}/events.log", from_start=bool(since) or _has_passed(until))
    while True:
        has_passed = _has_passed(until)
        for line in tail.lines():
            event = _event(line)
            if event is not None and since <= (at := state.timestamp(event.time_ns)) and (not until or at <= until):
                yield event
        if has_passed:
            return
        time.sleep(_POLL_SECONDS)


def _has_passed(until: str) -> bool:
    return bool(until) and until <= state.timestamp(time.time_ns())


def _event(line: bytes) -> Event | None:
    """Read one line; a torn one, of a disk that was full, is none."""
    try:
        return Event(parse(line.decode()))
    except (Malformed, UnicodeDecodeError, KeyError, TypeError):
        return None


class _Tail:
    """A reader of the journal that goes with it from file to file."""

    def __init__(self, path: str, *, from_start: bool) -> None:
        self._path = path
        self._rest = b""
        self._fd = -1
        self._from_start = from_start
        # What is to be read before the file in the journal's place.
        self._before = _open(f"{path}.1") if from_start else -1
        self._fd = _open(path)
        if self._fd >= 0 and not from_start:
            os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self) -> "Iterator[bytes]":
        """Yield the whole lines that have come."""
        if self._before >= 0:
            yield from self._read(self._before)
            os.close(self._before)
            self._before = -1
        while True:
            if self._fd < 0:
                self._fd = _open(self._path)
                if self._fd < 0:
                    return
            is_current = self._is_current()
            yield from self._read(self._fd)
            if is_current:
                return
            os.close(self._fd)
            self._fd, self._rest = -1, b""

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except FileNotFoundError:
            # Put away, and nobody has written since.
            return True

    def _read(self, fd: int) -> "Iterator[bytes]":
        while data := os.read(fd, EVENT_BYTES):
            *whole, self._rest = (self._rest + data).split(b"\n")
            # A line without an end is no event of ours.
            self._rest = self._rest[-EVENT_BYTES:]
            yield from whole


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1
