r"""A container's output on disk: docker's json-file lines, rotated. The monitor writes, `logs` reads. Hot path.

    logs/json.log      the newest; logs/json.log.1 and .2 are older
    {"log":"...","stream":"stdout","time":"..."}    one line of output, its newline included, or a piece of a longer one

Bytes that are not UTF-8 are kept as lone surrogates (\udc80 to \udcff), so what is read back is what was written. A
line is cut into pieces of LINE_BYTES, and a whole log ends at FILES x FILE_BYTES, or at what `--log-opt` says. On a
full disk lines are dropped, never waited for: a container goes on whatever becomes of its log.
"""

import os

from sampan.document import escape, render
from sampan.engine.state import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

FILE_BYTES = 10 * 1024 * 1024
FILES = 3
LINE_BYTES = 16 * 1024
STDOUT, STDERR = "stdout", "stderr"


class OutputLog:
    """The writing end; one for each container. Close it."""

    __slots__ = ("_extra", "_fd", "_file_bytes", "_files", "_partial", "_path", "_size", "dropped")

    def __init__(
        self,
        directory: str,
        *,
        file_bytes: int = FILE_BYTES,
        files: int = FILES,
        attributes: "dict[str, str] | None" = None,
    ) -> None:
        """Append to the log in `directory`, which is made where it is not there; `attributes` stand in each line."""
        self._path = f"{directory}/json.log"
        self._file_bytes = file_bytes
        self._files = files
        self._extra: Document = {"attrs": attributes} if attributes else {}
        self._partial = {STDOUT: b"", STDERR: b""}
        # Lines that found no room on the disk.
        self.dropped = 0
        try:
            self._fd = _opened(self._path)
        except FileNotFoundError:
            os.mkdir(directory, 0o700)
            self._fd = _opened(self._path)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, data: bytes, nanoseconds: int) -> bool:
        """Take output of `stream` that came at `nanoseconds` since the epoch; tell whether the file has grown.

        What has no newline yet is held back, up to LINE_BYTES, until the rest comes or `finish`.
        """
        lines = _pieces(self._partial[stream] + data)
        self._partial[stream] = lines.pop()
        if lines:
            self._append(stream, lines, timestamp(nanoseconds))
        return bool(lines)

    def finish(self, nanoseconds: int) -> None:
        """Write what was held back: there will be no more output."""
        for stream, rest in self._partial.items():
            if rest:
                self._append(stream, [rest], timestamp(nanoseconds))
            self._partial[stream] = b""

    def held_back(self) -> dict[str, str]:
        """Return what `write` holds back, as text for `hold_back` of another interpreter."""
        return {stream: rest.decode("latin-1") for stream, rest in self._partial.items()}

    def hold_back(self, held: dict[str, str]) -> None:
        """Take over what another one held back."""
        self._partial |= {stream: rest.encode("latin-1") for stream, rest in held.items()}

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _append(self, stream: str, lines: list[bytes], time: str) -> None:
        entries = _entries(lines, self._extra, {"stream": stream, "time": time})
        text = "".join(entries)
        # Where all of it does not fit each line is looked at alone: a file ends with the line that fills it.
        for one in [text] if self._size + len(text) <= self._file_bytes else entries:
            try:
                if self._size and self._size + len(one) > self._file_bytes:
                    self._rotate()
                self._size += _write_whole(self._fd, one.encode(), self._size)
            except OSError:
                self.dropped += one.count("\n")

    def _rotate(self) -> None:
        """Move each file one further; the oldest goes."""
        if self._files == 1:
            os.unlink(self._path)
        for number in range(self._files - 1, 0, -1):
            older = f"{self._path}.{number}"
            newer = f"{self._path}.{number - 1}" if number > 1 else self._path
            try:
                os.rename(newer, older)
            except FileNotFoundError:
                continue
        fd = _opened(self._path)
        os.close(self._fd)
        self._fd, self._size = fd, 0


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _pieces(data: bytes) -> list[bytes]:
    """Part `data` after each newline and each LINE_BYTES without one; the last piece is unfinished, maybe empty."""
    pieces = []
    start = 0
    while True:
        at = data.find(b"\n", start, start + LINE_BYTES)
        end = at + 1 if at >= 0 else start + LINE_BYTES
        if at < 0 and end > len(data):
            pieces.append(data[start:])
            return pieces
        pieces.append(data[start:end])
        start = end


def _entries(lines: list[bytes], before: "Document", after: "Document") -> list[str]:
    """Return an entry for each line, as `document.render` has it: keys before `log`, and after it.

    A container that prints waits for this: all but the line is rendered once.
    """
    head = f"{render(before)[:-1]}," if before else "{"
    tail = f",{render(after)[1:]}\n"
    return [f'{head}"log":{escape(line.decode("utf-8", "surrogateescape"))}{tail}' for line in lines]


def _write_whole(fd: int, data: bytes, size: int) -> int:
    """Append all of `data`, or nothing: half a line is taken back. Raises OSError."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.ftruncate(fd, size)
        raise
    return len(data)
