"""docker logs: a container's stored output, and with `follow` what comes after. Hot path.

Theory: following asks the monitor for a TICK frame whenever the log has grown, and reads the files themselves, so a
slow reader holds up nobody. INVARIANT: the channel is opened before the first read, so nothing falls between both.
Files are followed by inode through rotation.
"""

import os

from sampan import units
from sampan.document import Malformed, parse
from sampan.engine import attach, frame, record, state
from sampan.engine.output import LINE_BYTES
from sampan.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.settings.configuration import Settings

_CHUNK_BYTES = 256 * 1024
# A stored line's JSON: each byte may become `\\udc80`, and so may those of its attributes.
_ENTRY_BYTES = 12 * LINE_BYTES + 1024
_BILLION = 1_000_000_000


class Line:
    """One stored piece of output: `stream` is `stdout` or `stderr`, `time` RFC 3339 with nanoseconds.

    `attributes` are what `--log-opt labels`, `env` and `tag` added.
    """

    __slots__ = ("attributes", "data", "stream", "time")

    def __init__(self, stream: str, time: str, data: bytes, attributes: "dict[str, str] | None" = None) -> None:
        self.stream = stream
        self.time = time
        self.data = data
        self.attributes = attributes or {}


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
    durations before `now` (seconds since the epoch) such as `10m`; 0 is neither (docker). Raises NotFound,
    InvalidArgument, Unsupported at once.
    """
    container = record.find(settings, name)
    if container.options.log_driver == "none":
        raise Unsupported(
            f"the container `{container.name}` keeps no log: its logging driver is `none`",
            hints=("make it again without `--log-driver none`",),
        )
    first, last = ("" if word == "0" else moment(word, now) for word in (since, until))
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
        if tail is not None:
            reader.skip_to_last(tail)
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

    def skip_to_last(self, count: int) -> None:
        """Go to where the last `count` lines begin, before anything was read: what is older is not even looked at."""
        for name in self._names():
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            inode = os.fstat(fd).st_ino
            if inode == self._inode:  # rotated between two looks
                os.close(fd)
                continue
            self.close()
            self._fd, self._inode = fd, inode
            count -= _seek_back(fd, count)
            if count <= 0:
                return

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

    def _names(self) -> list[str]:
        """Return the log's files, the newest first; how many are kept is `--log-opt max-file`'s."""
        try:
            oldest = _numbered(os.listdir(os.path.dirname(self._path)))
        except FileNotFoundError:
            oldest = 0
        return [self._path, *(f"{self._path}.{number}" for number in range(1, oldest + 1))]

    def _is_rotated(self) -> bool:
        return _inode(self._path) not in (self._inode, 0)

    def _advance(self) -> bool:
        """Go on to the file after this one, at first to the oldest; tell whether there was one."""
        names = self._names()
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


def _seek_back(fd: int, count: int) -> int:
    """Move to where the last `count` lines of the file begin, or to its beginning; return how many follow."""
    end = os.lseek(fd, 0, os.SEEK_END)
    found, above = 0, b""
    while end > 0:
        begin = max(0, end - _CHUNK_BYTES)
        chunk = os.pread(fd, end - begin, begin)
        # The newline that ends the last line is no beginning.
        place = len(chunk) - (1 if not above and chunk.endswith(b"\n") else 0)
        if count <= 0:
            os.lseek(fd, end, os.SEEK_SET)
            return 0
        while (place := chunk.rfind(b"\n", 0, place)) >= 0:
            found += 1
            if found == count:
                os.lseek(fd, begin + place + 1, os.SEEK_SET)
                return found
        above, end = chunk, begin
    os.lseek(fd, 0, os.SEEK_SET)
    return found + 1 if above else 0


def _numbered(names: list[str]) -> int:
    """Return the highest N of `json.log.N`."""
    return max((int(word) for name in names if (word := name.rpartition(".")[2]).isdecimal()), default=0)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _parse(entry: bytes) -> Line | None:
    """Read one entry; None where a power cut left half of one."""
    try:
        document = parse(entry.decode())
        data = document["log"].encode("utf-8", "surrogateescape")
        return Line(document["stream"], document["time"], data, document.get("attrs"))
    except (Malformed, UnicodeError, KeyError, AttributeError):
        return None


def moment(word: str, now: float) -> str:
    """Return the time that `--since` or `--until` names, as state.timestamp writes it; `""` for none.

    Raises InvalidArgument.
    """
    if not word:
        return ""
    try:
        return state.timestamp(nanoseconds(word, now))
    except (ValueError, OverflowError, OSError) as error:
        raise _no_time(word) from error


def nanoseconds(word: str, now: float) -> int:
    """Return the time that `word` names, since the epoch (docker's GetTimestamp).

    A duration before `now` (`10m`; `-10m` is after it), seconds since the epoch, or a date with as much of a time as
    one likes, in this machine's zone where it names none. Raises InvalidArgument.
    """
    seconds, dot, fraction = word.partition(".")
    if seconds.isdecimal() and seconds.isascii() and (fraction.isdecimal() or not dot) and len(word) < 32:
        return int(seconds) * _BILLION + _fraction(fraction)
    try:
        before = units.parse_duration(word.removeprefix("-")) * (-1 if word.startswith("-") else 1)
    except InvalidArgument:
        return _of_date(word)
    return int((now - before) * _BILLION)


def _of_date(word: str) -> int:
    from datetime import datetime  # only here: it costs more than all of the above

    # A fraction of a second is read apart, since datetime ends at microseconds; a date alone may have a zone.
    whole, dot, rest = word.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    text = whole + rest[len(digits) :] if dot else word
    if len(text) > len("2026-01-31") and text[10] in "Z+-":
        text = f"{text[:10]}T00:00{text[10:]}"
    try:
        return int(datetime.fromisoformat(text).timestamp()) * _BILLION + _fraction(digits)
    except (ValueError, OverflowError) as error:
        raise _no_time(word) from error


def _fraction(digits: str) -> int:
    return int(digits[:9].ljust(9, "0"))


def _no_time(word: str) -> InvalidArgument:
    return InvalidArgument(
        f"`{word}` is no time", hints=("write `10m`, `2026-01-31T10:00:00` or seconds since the epoch",)
    )
