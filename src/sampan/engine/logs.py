"""docker logs: a container's stored output, and with `follow` what comes after. Hot path.

Theory: following asks the monitor for a TICK frame whenever the log has grown, and reads the files themselves, so a
slow reader holds up nobody. INVARIANT: the channel is opened before the first read, so nothing falls between both.
Files are followed by inode through rotation.
"""

import os

from sampan import units
from sampan.document import Malformed, parse
from sampan.engine import attach, frame, record, state
from sampan.engine.output import FILES, LINE_BYTES
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.settings.configuration import Settings

_CHUNK_BYTES = 256 * 1024
# A stored line's JSON: each byte may become `\\udc80`, and the rest of the line is short.
_ENTRY_BYTES = 6 * LINE_BYTES + 1024


class Line:
    """One stored piece of output: `stream` is `stdout` or `stderr`, `time` RFC 3339 with nanoseconds."""

    __slots__ = ("data", "stream", "time")

    def __init__(self, stream: str, time: str, data: bytes) -> None:
        self.stream = stream
        self.time = time
        self.data = data


def read(
    settings: "Settings",
    name: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: str = "",
    until: str = "",
    now: float,
) -> "Iterator[Line]":
    """Return the container's output, oldest first; with `follow` until it ends.

    `tail` is the number of last lines (None: all); `since` and `until` are RFC 3339 times, seconds since the epoch, or
    durations before `now` (seconds since the epoch) such as `10m`. Raises NotFound, InvalidArgument at once.
    """
    container = record.find(settings, name)
    first, last = moment(since, now), moment(until, now)
    client = _follow(settings, container.id) if follow else None
    reader = Reader(f"{state.directory(settings, container.id)}/logs/json.log")
    return _filtered(_lines(reader, client, tail), first, last)


def _follow(settings: "Settings", container_id: str) -> attach.Client | None:
    """Open a channel for ticks; None where nothing runs."""
    try:
        return attach.reach(settings, container_id, frame.FOLLOW)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def _filtered(lines: "Iterator[Line]", first: str, last: str) -> "Iterator[Line]":
    for line in lines:
        if last and line.time > last:
            return
        # Both are written by state.timestamp, so they compare as text.
        if line.time >= first:
            yield line


def _lines(reader: "Reader", client: attach.Client | None, tail: int | None) -> "Iterator[Line]":
    try:
        yield from reader.more() if tail is None else last(reader.more(), tail)
        while client is not None:
            found = client.receive()
            yield from reader.more()
            if found is None or found[0] == frame.EXIT:
                return
    finally:
        reader.close()
        if client is not None:
            client.close()


def last(lines: "Iterator[Line]", count: int) -> list[Line]:
    """Return the last `count` lines, holding twice as many at most."""
    kept: list[Line] = []
    for line in lines:
        kept.append(line)
        if len(kept) > 2 * count + 1000:
            del kept[: len(kept) - count]
    return kept[max(0, len(kept) - count) :]


class Reader:
    """Reads a rotated log on, from its oldest file to wherever it has come."""

    __slots__ = ("_fd", "_inode", "_path", "_rest")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._inode = 0
        self._rest = b""

    def more(self) -> "Iterator[Line]":
        """Yield what is there and was not yielded yet."""
        while self._fd >= 0 or self._advance():
            yield from self._read_on()
            if not self._is_rotated():
                return
            # What was appended between the end of the read and the rotation.
            yield from self._read_on()
            if not self._advance():
                return

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_on(self) -> "Iterator[Line]":
        while data := os.read(self._fd, _CHUNK_BYTES):
            entries = (self._rest + data).split(b"\n")
            self._rest = entries.pop()[:_ENTRY_BYTES]
            for entry in entries:
                line = _parse(entry)
                if line is not None:
                    yield line

    def _is_rotated(self) -> bool:
        return _inode(self._path) not in (self._inode, 0)

    def _advance(self) -> bool:
        """Go on to the file after this one, at first to the oldest; tell whether there was one."""
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, FILES))]
        position = len(names)
        if self._fd >= 0:
            position = next((n for n, name in enumerate(names) if _inode(name) == self._inode), len(names))
        for name in reversed(names[:position]):
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            self.close()
            self._fd, self._inode, self._rest = fd, os.fstat(fd).st_ino, b""
            return True
        return False


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _parse(entry: bytes) -> Line | None:
    """Read one entry; None where a power cut left half of one."""
    try:
        document = parse(entry.decode())
        return Line(document["stream"], document["time"], document["log"].encode("utf-8", "surrogateescape"))
    except (Malformed, UnicodeError, KeyError, AttributeError):
        return None


def moment(word: str, now: float) -> str:
    """Return the time that `--since` or `--until` names, as state.timestamp writes it."""
    if not word:
        return ""
    try:
        return state.timestamp(int(float(word) * 1e9))
    except ValueError:
        pass
    try:
        return state.timestamp(int((now - units.parse_duration(word)) * 1e9))
    except InvalidArgument:
        pass
    from datetime import datetime  # only here: it costs more than all of the above

    try:
        return state.timestamp(int(datetime.fromisoformat(word).timestamp() * 1e9))
    except ValueError as error:
        raise InvalidArgument(
            f"`{word}` is no time", hints=("write `10m`, `2026-01-31T10:00:00` or seconds since the epoch",)
        ) from error
