"""A build container: one program of an image's base, run to its end with bytes in and bytes out.

It sees the base read-only and nothing else: no file of the host, no network, no /proc, no capability, one id that is
nobody's. Everything goes through its standard files, so that there is nothing to mount, to own or to clean up; when
its output ends it is waited for, and on any error it is killed.
"""

import os
import select
import time

from sampan.errors import Exhausted, SampanError
from sampan.kernel import mount
from sampan.oci.runtime import IdMapping, Process, Spec
from sampan.runtime import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from sampan.runtime.process import Created

# As the machine's root: an id just below those that containers get (0x6000_0000 and up).
_HOST_ID = 0x5FFF_FFFF
_SECONDS = 600.0
_CHUNK_BYTES = 1 << 16
_MAX_ERROR_BYTES = 8192
_NAMESPACES = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")


class Sandbox:
    """Runs programs of the root in `directory`, a snapshot. `is_root`: as the machine's root, not below a holder."""

    def __init__(self, directory: str, *, is_root: bool) -> None:
        self._directory = directory
        self._mapping = IdMapping(0, _HOST_ID if is_root else 0, 1)

    def run(self, args: "Sequence[str]", stdin: bytes, *, env: "Sequence[str]" = (), limit_bytes: int) -> bytes:
        """Run `args` with `stdin`, return what it prints; raises SampanError where its status is not 0, Exhausted."""
        with _Pipe() as source, _Pipe() as output, _Pipe() as errors:
            stdio = process.Stdio(source.reading, output.writing, errors.writing)
            created = process.create(self._spec(args, env), root=self._root, stdio=stdio)
            try:
                for end in ((source, "reading"), (output, "writing"), (errors, "writing")):
                    end[0].close(end[1])
                created.start()
                found, said = _exchange(source, output, errors, stdin, limit_bytes)
                _, status = os.waitpid(created.pid, 0)
            except BaseException:
                created.abort()
                raise
            _close(created)
        if status != 0:
            cause = SampanError(said.decode(errors="replace").strip()[-2000:] or f"it ended with status {status}")
            raise SampanError(f"`{args[0]}` failed in a build container") from cause
        return found

    def _spec(self, args: "Sequence[str]", env: "Sequence[str]") -> Spec:
        return Spec(
            Process(tuple(args), env=tuple(env), no_new_privileges=True),
            readonly_root=True,
            hostname="build",
            namespaces=dict.fromkeys(_NAMESPACES, ""),
            uid_mappings=(self._mapping,),
            gid_mappings=(self._mapping,),
        )

    def _root(self, _userns_fd: int | None) -> int:
        # Not idmapped: the files are root's on disk, readable by all, and nothing here needs to own them.
        return mount.clone(self._directory, mount.Options(("ro", "nosuid", "nodev")))


class _Pipe:
    """Both ends of a pipe, closed at the latest when the block ends."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC)

    def close(self, end: str) -> None:
        """Close one end, `reading` or `writing`. Idempotent."""
        fd = getattr(self, end)
        setattr(self, end, -1)
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close("reading")
        self.close("writing")


def _close(created: "Created") -> None:
    os.close(created.pidfd)
    created.pidfd = -1


def _exchange(source: _Pipe, output: _Pipe, errors: _Pipe, stdin: bytes, limit_bytes: int) -> tuple[bytes, bytes]:
    """Write all input while reading both outputs to their ends."""
    os.set_blocking(source.writing, False)
    rest = memoryview(stdin)
    texts = {output.reading: bytearray(), errors.reading: bytearray()}
    reading = set(texts)
    deadline = time.monotonic() + _SECONDS
    while reading:
        writing = [source.writing] if source.writing >= 0 else []
        ready, writable, _ = select.select(list(reading), writing, [], max(0.0, deadline - time.monotonic()))
        if not (ready or writable):
            raise Exhausted(f"a build container has not ended after {_SECONDS:g} seconds")
        if writable:
            rest = _feed(source, rest)
        for fd in ready:
            piece = os.read(fd, _CHUNK_BYTES)
            if not piece:
                reading.discard(fd)
            elif fd == output.reading or len(texts[fd]) < _MAX_ERROR_BYTES:
                texts[fd] += piece
        if len(texts[output.reading]) > limit_bytes:
            raise Exhausted(f"a build container printed more than {limit_bytes} bytes")
    return bytes(texts[output.reading]), bytes(texts[errors.reading])


def _feed(source: _Pipe, rest: memoryview) -> memoryview:
    try:
        rest = rest[os.write(source.writing, rest[: _CHUNK_BYTES * 16]) :] if rest else rest
    except BrokenPipeError:
        rest = memoryview(b"")  # it has ended; its status says why
    if not rest:
        source.close("writing")
    return rest
