"""The socket between a container's creator and its first process: short messages, descriptors, and the end.

Theory: one SOCK_SEQPACKET pair. Each message is one byte of kind and a body; descriptors travel beside it. Both ends
are close-on-exec: when execve succeeds the child's end closes and the creator reads the end of file; when the creator
dies the child reads it and leaves. So neither side can wait for one that is gone.

    creator -> child   MAPPED   the id maps are written
                       MOUNTS   u16 mount numbers, each with its descriptor beside it
                       START    go on to execve
    go-between -> creator  CLONED  i32 process id, its pidfd beside it
    child -> creator   READY    all is set up; with a terminal, its master beside it
                       FAILED   errno, step, object
"""

import _socket
import os
import struct

MAPPED, MOUNTS, START, CLONED, READY, FAILED, END = b"M", b"F", b"S", b"C", b"R", b"E", b""
_MESSAGE_SIZE = 8192
_DESCRIPTORS_PER_MESSAGE = 200  # SCM_MAX_FD of net/scm.h is 253
ROOT = 0xFFFF  # the number of the root in MOUNTS


class Failure(Exception):
    """The child said that `step` failed with `errno` on `subject`."""

    def __init__(self, step: str, errno: int, subject: str) -> None:
        super().__init__(step, errno, subject)
        self.step = step
        self.errno = errno
        self.subject = subject


class Channel:
    """One end."""

    __slots__ = ("_former", "_socket")

    def __init__(self, socket: "_socket.socket") -> None:
        self._socket = socket
        self._former: _socket.socket | None = None

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def move(self, fd: int) -> None:
        """Go on with `fd`, a duplicate of this end; the former number is the caller's to close."""
        # Kept: an object that is collected closes its number, whatever has that number by then.
        self._former, self._socket = self._socket, _socket.socket(fileno=fd)

    def close(self) -> None:
        """Close this end; idempotent."""
        self._socket.close()

    def send(self, kind: bytes, body: bytes = b"", fds: "tuple[int, ...]" = ()) -> None:
        """Send one message; a peer that is gone raises BrokenPipeError."""
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        self._socket.sendmsg([kind + body], rights, _socket.MSG_NOSIGNAL)

    def receive(self) -> "tuple[bytes, bytes, tuple[int, ...]]":
        """Return (kind, body, descriptors); kind is END where the peer is gone."""
        space = _socket.CMSG_SPACE(4 * _DESCRIPTORS_PER_MESSAGE)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_MESSAGE_SIZE, space, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return END, b"", ()
        fds: tuple[int, ...] = ()
        for level, kind, rights in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds += struct.unpack(f"{len(rights) // 4}i", rights[: len(rights) // 4 * 4])
        return data[:1], data[1:], fds

    def send_mounts(self, mounts: "dict[int, int]") -> None:
        """Send detached mounts by number, in as many messages as it takes; an empty one ends the list."""
        pairs = list(mounts.items())
        for start in range(0, len(pairs), _DESCRIPTORS_PER_MESSAGE):
            part = pairs[start : start + _DESCRIPTORS_PER_MESSAGE]
            numbers = struct.pack(f"{len(part)}H", *(number for number, _ in part))
            self.send(MOUNTS, numbers, tuple(fd for _, fd in part))
        self.send(MOUNTS)

    def receive_mounts(self) -> "dict[int, int] | None":
        """Return what `send_mounts` sent, or None where the peer is gone."""
        mounts: dict[int, int] = {}
        while True:
            kind, body, fds = self.receive()
            if kind != MOUNTS:
                return None
            if not fds:
                return mounts
            mounts.update(zip(struct.unpack(f"{len(fds)}H", body), fds, strict=True))

    def send_failure(self, step: str, errno: int, subject: str) -> None:
        """Say what failed; called between fork and exec."""
        body = f"{step[:200]}\0{subject[:2000]}".encode("utf-8", "surrogateescape")
        self.send(FAILED, struct.pack("i", errno) + body)

    def send_process(self, pid: int, pidfd: int) -> None:
        """Say which process was cloned."""
        self.send(CLONED, struct.pack("i", pid), (pidfd,))

    def expect_process(self) -> "tuple[int, int]":
        """Return (pid, pidfd) as `send_process` sent them; raise Failure for any other message."""
        kind, body, fds = self.receive()
        if kind != CLONED:
            raise failure_of(kind, body)
        return struct.unpack("i", body)[0], fds[0]

    def expect(self, kind: bytes) -> "tuple[int, ...]":
        """Wait for a message of `kind` and return its descriptors; raise Failure for any other."""
        got, body, fds = self.receive()
        if got == kind:
            return fds
        raise failure_of(got, body)


def failure_of(kind: bytes, body: bytes) -> Failure:
    """Return what a message says that was not the one hoped for."""
    if kind != FAILED:
        return Failure("set up its process, which ended without a word", 0, "")
    step, _, subject = body[4:].decode("utf-8", "surrogateescape").partition("\0")
    return Failure(step, struct.unpack_from("i", body)[0], subject)


def pair() -> "tuple[Channel, Channel]":
    """Return both ends, close-on-exec."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    # The C module sets it in any case; said again since `start` relies on it.
    os.set_inheritable(ours.fileno(), False)
    os.set_inheritable(theirs.fileno(), False)
    return Channel(ours), Channel(theirs)
