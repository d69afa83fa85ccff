"""The attach protocol: what a command and a container's monitor say to each other on one stream socket. Hot path.

A frame is docker's stream header, [type, 0, 0, 0, length in 4 bytes, big endian], and its payload. Docker's types are 0
(stdin), 1 (stdout) and 2 (stderr); the others are ours:

    type      direction            payload
    STDIN     command -> monitor   bytes for the container's stdin; at most WINDOW unacknowledged
    STDOUT    monitor -> command   bytes
    STDERR    monitor -> command   bytes
    ERROR     monitor -> command   a JSON document (`render_error`): the start failed
    RESIZE    command -> monitor   rows, columns: 2 x 16 bits
    SIGNAL    command -> monitor   one byte: the signal to send to the container's process; a second one, 1, where it
                                   asks for the end, whichever signal it is
    CLOSE     command -> monitor   empty: stdin has ended
    EXIT      monitor -> command   one byte: the status; the last frame there is
    STARTED   monitor -> command   empty: the command was executed
    ACK       monitor -> command   32 bits: so many bytes of stdin went to the container, and as many may follow
    READY     monitor -> command   a JSON document: what the ground can do (`assembly.features`), before the request
    TICK      monitor -> command   empty: the log has grown (to FOLLOW clients, in place of the bytes)
    HELLO     command -> monitor   one byte, the first frame on the socket: ATTACH, FOLLOW or CONTROL
    REQUEST   command -> monitor   a JSON document, the first frame on the launch channel: what to start

INVARIANT: a monitor reads all that a client sends without waiting for the container, so that a signal is never stuck
behind input that nobody reads; WINDOW is what bounds that.
"""

import os
from _struct import Struct  # half a millisecond quicker than by way of struct

from sampan import errors, failure
from sampan.document import Malformed, parse, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


STDIN, STDOUT, STDERR, ERROR = 0, 1, 2, 3
RESIZE, SIGNAL, CLOSE, EXIT, STARTED, ACK, TICK, READY = 16, 17, 18, 19, 20, 21, 22, 23
HELLO, REQUEST = 32, 33
ATTACH, FOLLOW, CONTROL = b"a", b"f", b"c"

CHUNK_BYTES = 32 * 1024  # of one frame with stream data
WINDOW_BYTES = 256 * 1024
PAYLOAD_BYTES = 4 * 1024 * 1024  # of any frame: a REQUEST is the largest
_HEADER = Struct(">BxxxI")
_SIZE = Struct(">HH")
_COUNT = Struct(">I")


def pack(kind: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def pack_size(rows: int, columns: int) -> bytes:
    """Return a RESIZE frame."""
    return pack(RESIZE, _SIZE.pack(rows & 0xFFFF, columns & 0xFFFF))


def unpack_size(payload: bytes) -> tuple[int, int]:
    """Return rows and columns of a RESIZE; raises Corrupt."""
    if len(payload) != _SIZE.size:
        raise errors.Corrupt("a frame that resizes a terminal has the wrong length")
    rows, columns = _SIZE.unpack(payload)
    return int(rows), int(columns)


def pack_count(count: int) -> bytes:
    """Return an ACK frame."""
    return pack(ACK, _COUNT.pack(count))


def unpack_count(payload: bytes) -> int:
    """Return the bytes that an ACK speaks of; raises Corrupt."""
    if len(payload) != _COUNT.size:
        raise errors.Corrupt("a frame that acknowledges input has the wrong length")
    return int(_COUNT.unpack(payload)[0])


class Address:
    """A name that a unix socket at `path` can be bound or connected by: sun_path of unix(7) ends at 107 bytes."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        """Return the path, or one through a descriptor of its directory."""
        if len(self._path.encode("utf-8", "surrogateescape")) < 108:
            return self._path
        self._fd = os.open(os.path.dirname(self._path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{os.path.basename(self._path)}"

    def __exit__(self, *exception: object) -> None:
        """Close the directory."""
        if self._fd >= 0:
            os.close(self._fd)


class Decoder:
    """Turns a stream of bytes into frames; holds at most one unfinished frame of at most `limit` bytes."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = PAYLOAD_BYTES) -> None:
        self._buffer = b""
        self._limit = limit

    def is_started(self) -> bool:
        """Tell whether part of a frame is here and the rest is not."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> "Iterator[tuple[int, bytes]]":
        """Yield each frame that `data` completes as (type, payload); raises Corrupt for one that is too long."""
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while len(buffer) - at >= _HEADER.size:
            kind, length = _HEADER.unpack_from(buffer, at)
            if length > self._limit:
                raise errors.Corrupt(f"a frame of {length} bytes is longer than the attach protocol allows")
            end = at + _HEADER.size + length
            if len(buffer) < end:
                break
            # Before the yield: whoever stops reading here and feeds again finds the rest.
            self._buffer, payload = buffer[end:], buffer[at + _HEADER.size : end]
            yield kind, payload
            at = end
        self._buffer = buffer[at:]


def render_error(error: BaseException) -> bytes:
    """Return `error` and its chain of causes as a payload that `parse_error` rebuilds."""
    return render({"version": 1, "chain": failure.describe(error)}).encode()


def parse_error(payload: bytes) -> errors.SampanError:
    """Return the error that `render_error` described, to be raised; its causes hang on it as they did."""
    try:
        return failure.rebuild(parse(payload.decode())["chain"], "the monitor failed to start the container")
    except (Malformed, UnicodeDecodeError, KeyError, TypeError, IndexError) as error:
        raise errors.Corrupt("a monitor's error message is not what the attach protocol promises") from error
