"""The pipes between a process in a container and who keeps it. Hot path."""

import os

from sampan.runtime.process import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Pipes:
    """Both ends; in a `with`, which closes the container's: when its processes end, our ends must see that.

    With a terminal there are none: the process takes the slave of a terminal of its own.
    """

    __slots__ = ("_ours", "_theirs")

    def __init__(self, *, has_terminal: bool, has_stdin: bool) -> None:
        """Make pipes for stdout and stderr, and for stdin where it is wanted; /dev/null stands for what is not."""
        self._ours = [-1, -1, -1]
        self._theirs = [-1, -1, -1]
        for number in range(3):
            if has_terminal or (number == 0 and not has_stdin):
                self._theirs[number] = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
                continue
            reading, writing = os.pipe2(os.O_CLOEXEC)
            pair = (writing, reading) if number == 0 else (reading, writing)
            self._ours[number], self._theirs[number] = pair

    def theirs(self) -> Stdio:
        """Return the container's ends."""
        return Stdio(*self._theirs)

    def ours(self) -> tuple[int, int, int]:
        """Return our ends: stdin (-1 for none), stdout, stderr."""
        return self._ours[0], self._ours[1], self._ours[2]

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the container's ends."""
        for fd in self._theirs:
            os.close(fd)
