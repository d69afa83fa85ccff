"""The caller's terminal while it is a container's: raw mode, its size, and signals as bytes on a pipe. Hot path."""

import _signal
import os
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

# termios(3), cfmakeraw
_IFLAG = (
    termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
    | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
)  # fmt: skip
_LFLAG = termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN


def window(fd: int) -> tuple[int, int] | None:
    """Return rows and columns of the terminal `fd`; None where it is none."""
    try:
        return termios.tcgetwinsize(fd)
    except (termios.error, OSError):
        return None


class Raw:
    """A terminal in raw mode for the length of a `with`; nothing happens for `fd` None or no terminal."""

    __slots__ = ("_fd", "_saved")

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._saved: list[object] | None = None

    def __enter__(self) -> "Self":
        """Switch echo, line editing and keyboard signals off."""
        if self._fd is None or not os.isatty(self._fd):
            return self
        self._saved = termios.tcgetattr(self._fd)
        raw = termios.tcgetattr(self._fd)
        raw[0] &= ~_IFLAG
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~_LFLAG
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, raw)
        return self

    def __exit__(self, *exception: object) -> None:
        """Put everything back as it was."""
        if self._fd is not None and self._saved is not None:
            # The elements are what tcgetattr gave: typeshed wants a narrower list than it returns.
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]


class Signals:
    """Turns `numbers` into bytes on `fd` for the length of a `with`, so that a poll loop sees them in order."""

    __slots__ = ("_numbers", "_previous", "_writer", "fd")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers
        self.fd, self._writer = -1, -1
        self._previous: list[tuple[int, object]] = []

    def __enter__(self) -> "Self":
        """Catch."""
        self.fd, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous = [(number, _signal.signal(number, _nothing)) for number in self._numbers]
        _signal.set_wakeup_fd(self._writer)
        return self

    def pending(self) -> bytes:
        """Return the numbers that arrived, one byte each."""
        try:
            return os.read(self.fd, 64)
        except BlockingIOError:
            return b""

    def __exit__(self, *exception: object) -> None:
        """Let go."""
        _signal.set_wakeup_fd(-1)
        for number, handler in self._previous:
            # What signal() returned is what it takes.
            _signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._writer)


def _nothing(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor has the signal already."""
