"""A D-Bus client in one socket: authenticate, call a method, read its reply. D-Bus Specification 0.42.

Only what asking systemd for a unit needs: EXTERNAL authentication, method calls and their replies, the basic types,
arrays, structs and variants, little-endian. Messages are bounded; signals are passed over.
"""

import os
import struct
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from sampan.errors import Corrupt, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_LONGEST = 1 << 20  # of a message; the specification allows 128 MiB, systemd's replies have a few hundred bytes
_DEEPEST = 8
_TIMEOUT_SECONDS = 25.0
_METHOD_CALL, _METHOD_RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_ALIGNMENT = {"y": 1, "b": 4, "u": 4, "i": 4, "s": 4, "o": 4, "g": 1, "a": 4, "(": 8, "v": 1, "t": 8, "x": 8, "{": 8}
_FIXED = {"y": "<B", "u": "<I", "i": "<i", "b": "<I", "t": "<Q", "x": "<q"}


class Refused(Exception):  # the peer's answer, not a fault of ours
    """The peer answered with an error: its D-Bus `name`, and what it says."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Connection:
    """A connection to the message bus at the unix socket `path`, as user `uid`; use it with `with`."""

    __slots__ = ("_serial", "_socket")

    def __init__(self, path: str, uid: int) -> None:
        self._serial = 0
        self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self._socket.settimeout(_TIMEOUT_SECONDS)
        try:
            self._socket.connect(path)
            self._authenticate(uid)
            bus = "org.freedesktop.DBus"
            self.call(bus, "/org/freedesktop/DBus", bus, "Hello", "", ())
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"the message bus at `{path}` cannot be reached") from error

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(  # noqa: PLR0917  # the order of a method call in every D-Bus tool
        self, destination: str, path: str, interface: str, member: str, signature: str, arguments: "tuple[object, ...]"
    ) -> list[object]:
        """Call a method and return the values of its reply; raises Refused, or Unavailable where none comes."""
        self._serial += 1
        fields = [
            (_PATH, ("o", path)),
            (_INTERFACE, ("s", interface)),
            (_MEMBER, ("s", member)),
            (_DESTINATION, ("s", destination)),
        ]
        if signature:
            fields.append((_SIGNATURE, ("g", signature)))
        body = _Writer()
        for kind, value in zip(_split(signature), arguments, strict=True):
            body.write(kind, value)
        head = _Writer()
        head.data += struct.pack("<cBBBII", b"l", _METHOD_CALL, 0, 1, len(body.data), self._serial)
        head.write("a(yv)", fields)
        head.align(8)
        try:
            self._socket.sendall(bytes(head.data + body.data))
            return self._reply()
        except OSError as error:
            raise Unavailable(f"the message bus does not answer `{member}`") from error

    def _reply(self) -> list[object]:
        while True:
            kind, fields, body = self._message()
            if fields.get(_REPLY_SERIAL) != self._serial:
                continue
            signature = str(fields.get(_SIGNATURE, ""))
            values = _Reader(body).values(signature)
            if kind == _ERROR:
                raise Refused(str(fields.get(_ERROR_NAME, "")), str(values[0]) if values else "")
            if kind == _METHOD_RETURN:
                return values

    def _message(self) -> tuple[int, dict[int, object], bytes]:
        fixed = self._receive(16)
        endian, kind, _, _, body_length, _, fields_length = struct.unpack("<cBBBIII", fixed)
        if endian != b"l" or body_length + fields_length > _LONGEST:
            raise Corrupt("the message bus sent a message that is too long or not little-endian")
        padded = (fields_length + 7) & ~7
        rest = self._receive(padded + body_length)
        fields: dict[int, object] = {}
        reader = _Reader(fixed[12:] + rest[:fields_length], offset=12)
        for entry in reader.value("a(yv)"):  # type: ignore[attr-defined]  # an array is a list
            fields[entry[0]] = entry[1]
        return kind, fields, rest[padded:]

    def _authenticate(self, uid: int) -> None:
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\n")
        line = b""
        while not line.endswith(b"\r\n") and len(line) < 512:
            line += self._receive(1)
        if not line.startswith(b"OK "):
            raise Unavailable("the message bus refuses this user")
        self._socket.sendall(b"BEGIN\r\n")

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError(104, os.strerror(104))
            data += piece
        return data


class _Writer:
    """Values to bytes; `data` begins at a message's start or at one that is aligned to 8."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, to: int) -> None:
        self.data += bytes(-len(self.data) % to)

    def write(self, kind: str, value: object) -> None:
        self.align(_ALIGNMENT[kind[0]])
        if kind in _FIXED:
            self.data += struct.pack(_FIXED[kind], value)
        elif kind in ("s", "o", "g"):
            text = str(value).encode()
            self.data += struct.pack("<B" if kind == "g" else "<I", len(text)) + text + b"\0"
        elif kind == "v":
            self._write_variant(value)
        elif kind[0] == "a":
            self._write_array(kind[1:], value)
        else:
            for inner, content in zip(_split(kind[1:-1]), value, strict=True):  # type: ignore[call-overload]  # a tuple
                self.write(inner, content)

    def _write_variant(self, value: object) -> None:
        if not isinstance(value, tuple):
            raise TypeError(f"a variant is (signature, value), not {type(value).__name__}")
        self.write("g", value[0])
        self.write(str(value[0]), value[1])

    def _write_array(self, kind: str, value: object) -> None:
        at = len(self.data)
        self.data += bytes(4)
        self.align(_ALIGNMENT[kind[0]])
        start = len(self.data)
        for item in value:  # type: ignore[attr-defined]  # a list
            self.write(kind, item)
        struct.pack_into("<I", self.data, at, len(self.data) - start)


class _Reader:
    """Bytes to values; `offset` is where `data` begins in its message, modulo 8 at least."""

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self._at = 0
        self._offset = offset

    def values(self, signature: str) -> list[object]:
        try:
            return [self.value(kind) for kind in _split(signature)]
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
            raise Corrupt("the message bus sent a malformed message") from error

    def value(self, kind: str, depth: int = 0) -> object:
        if depth > _DEEPEST:
            raise Corrupt("the message bus sent a value that is nested too deeply")
        self._at += -(self._at + self._offset) % _ALIGNMENT[kind[0]]
        if kind in _FIXED:
            (number,) = struct.unpack_from(_FIXED[kind], self._data, self._at)
            self._at += struct.calcsize(_FIXED[kind])
            return bool(number) if kind == "b" else number
        if kind in ("s", "o", "g"):
            return self._text("y" if kind == "g" else "u")
        if kind == "v":
            return self.value(self._text("y"), depth + 1)
        if kind[0] == "a":
            return self._array(kind[1:], depth)
        inner = kind[1:-1]
        return tuple(self.value(part, depth + 1) for part in _split(inner))

    def _text(self, length_kind: str) -> str:
        length = int(str(self.value(length_kind)))
        text = self._data[self._at : self._at + length]
        self._at += length + 1
        return text.decode()

    def _array(self, kind: str, depth: int) -> list[object]:
        length = int(str(self.value("u")))
        self._at += -(self._at + self._offset) % _ALIGNMENT[kind[0]]
        end = self._at + length
        if end > len(self._data):
            raise Corrupt("the message bus sent an array that is longer than its message")
        items = []
        while self._at < end:
            items.append(self.value(kind, depth + 1))
        return items


def _split(signature: str) -> list[str]:
    """Part a signature into its single complete types."""
    kinds = []
    at = 0
    while at < len(signature):
        end = _end(signature, at)
        kinds.append(signature[at:end])
        at = end
    return kinds


def _end(signature: str, at: int) -> int:
    while signature[at] == "a":
        at += 1
    if signature[at] not in "({":
        return at + 1
    depth = 0
    for index in range(at, len(signature)):
        depth += (signature[index] in "({") - (signature[index] in ")}")
        if depth == 0:
            return index + 1
    raise Corrupt(f"`{signature}` is not a D-Bus signature")
