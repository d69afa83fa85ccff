"""Unpacking one layer into a directory: the parent's side. The child's is `unpacker`.

Theory of operation. Two processes and a pipe: this one reads the source, undoes its compression and hashes what comes
out (so both processors work); a forked child whose root directory is the target makes the tree. The child can reach
nothing but the target, the pipe, and descriptors of the layers below. What went wrong comes back as one small document.

SECURITY: after chroot a lazy import would run a file of the layer with our privileges. All that the child needs is
imported here, and the child empties the import system before it enters.
INVARIANT: fork needs a single-threaded caller. On any error the child is killed and waited for; the directory then
holds part of a layer, and its owner (`snapshot`) removes it.
"""

import errno
import fcntl
import os
import signal
import sys

from sampan import document, errors
from sampan.errors import Internal, SampanError
from sampan.kernel.capability import set_parent_death_signal
from sampan.kernel.syscalls import close_range
from sampan.oci.digest import Digest, new_hasher
from sampan.storage.compression import decompressed
from sampan.storage.space import saying_how_to_free_space
from sampan.storage.tape import Bounds, Tape
from sampan.storage.unpacker import Rules, Unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, Self

    from sampan.document import Document
    from sampan.storage.compression import Readable

_RESULT_BYTES = 60_000
_PIPE_BYTES = 1024 * 1024


class Applied:
    """What was unpacked: `size_bytes` of file contents, `entries`, the stream's `diff_id`, and what was left out."""

    __slots__ = ("diff_id", "entries", "size_bytes", "warnings")

    def __init__(self, *, size_bytes: int, entries: int, diff_id: Digest, warnings: tuple[str, ...]) -> None:
        self.size_bytes = size_bytes
        self.entries = entries
        self.diff_id = diff_id
        self.warnings = warnings


def apply(
    source: "Readable",
    directory: str,
    *,
    diff_id: Digest | None = None,
    rules: Rules | None = None,
    below: "Sequence[str]" = (),
    bounds: Bounds | None = None,
) -> Applied:
    """Unpack the tar `source` (plain, gzip, bzip2 or xz), read to its end, into the empty `directory`.

    `below` are the directories of the layers under it, topmost first: a directory that the archive does not name is
    made as it is there. Raises Corrupt for a bad archive or one that is not `diff_id`, Exhausted past a bound or on a
    full disk, Unsupported, OSError. Needs the right to chroot: uid 0, here or in a user namespace.
    """
    with saying_how_to_free_space(directory), _Pipes() as pipes:
        pid = os.fork()
        if pid == 0:
            _child(pipes, directory, rules or Rules(), below, bounds or Bounds())
        try:
            pipes.become_parent()
            found = _pump(source, pipes, diff_id.algorithm if diff_id else "sha256")
            result = _result(pipes)
        except BaseException:
            # Killed even where it has ended: a zombie cannot be, and its pid is ours until we wait.
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            os.waitpid(pid, 0)
        _raise_if_failed(result, directory)
    if diff_id is not None:
        diff_id.verify_hash(found.hex, "the layer, unpacked,")
    return Applied(
        size_bytes=result["size_bytes"], entries=result["entries"], diff_id=found, warnings=tuple(result["warnings"])
    )


class _Pipes:
    """The way down for the archive, the way up for the result."""

    __slots__ = ("data_in", "data_out", "result_in", "result_out")

    def __init__(self) -> None:
        self.data_in, self.data_out = os.pipe()
        try:
            # Sixteen times the usual: fewer changes between the two processes.
            fcntl.fcntl(self.data_out, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            pass  # a normal user may have used up what /proc/sys/fs/pipe-user-pages-soft allows
        self.result_in, self.result_out = os.pipe()

    def become_parent(self) -> None:
        """Close the child's ends, so that its end is seen."""
        os.close(self.data_in)
        os.close(self.result_out)
        self.data_in = self.result_out = -1

    def end_data(self) -> None:
        """Close the archive's way down: its end."""
        os.close(self.data_out)
        self.data_out = -1

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *exception: object) -> None:
        for fd in (self.data_in, self.data_out, self.result_in, self.result_out):
            if fd >= 0:
                os.close(fd)


def _pump(source: "Readable", pipes: _Pipes, algorithm: str) -> Digest:
    """Send the uncompressed stream to the child and return its digest; the child's own failure ends it early."""
    hasher = new_hasher(algorithm)
    try:
        for chunk in decompressed(source):
            hasher.update(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(pipes.data_out, rest) :]
    except BrokenPipeError:
        pass  # the result says why
    pipes.end_data()
    return Digest(algorithm, hasher.hexdigest())


def _result(pipes: _Pipes) -> "Document":
    parts = []
    while part := os.read(pipes.result_in, _RESULT_BYTES):
        parts.append(part)
    if not parts:
        raise Internal("the process that unpacks a layer ended without a word")
    return document.parse(b"".join(parts).decode())


def _raise_if_failed(result: "Document", directory: str) -> None:
    """Raise in the parent what the child reported."""
    if "leaf" in result:
        leaf = getattr(errors, result["leaf"])
        raise leaf(result["what"], hints=tuple(result["hints"]))
    if "errno" in result:
        code = result["errno"]
        raise OSError(code, os.strerror(code), f"{directory}/{result['subject']}")


def _child(pipes: _Pipes, directory: str, rules: Rules, below: "Sequence[str]", bounds: Bounds) -> "NoReturn":
    """Enter `directory` and unpack; never returns."""
    # INVARIANT: whatever happens here, nothing of the parent's clean-up runs twice.
    status = 1
    try:
        set_parent_death_signal()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        rest = memoryview(document.render(_outcome(pipes, directory, rules, below, bounds)).encode())
        while rest:
            rest = rest[os.write(pipes.result_out, rest) :]
        status = 0
    finally:
        os._exit(status)


def _entered(pipes: _Pipes, directory: str, below: "Sequence[str]") -> list[int]:
    """Leave behind all but the pipes and the layers below, and make `directory` the root; return those layers."""
    layers = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in below]
    first = 3
    for fd in sorted({pipes.data_in, pipes.result_out, *layers}):
        if first < fd:
            close_range(first, fd - 1)
        first = fd + 1
    close_range(first)
    for place in (sys.path, sys.meta_path, sys.path_hooks):
        place.clear()
    sys.path_importer_cache.clear()
    os.chroot(directory)
    os.chdir("/")
    return layers


def _outcome(pipes: _Pipes, directory: str, rules: Rules, below: "Sequence[str]", bounds: Bounds) -> "Document":
    """Do the child's work and say what came of it."""
    unpacker = None
    try:
        tape = Tape(lambda size: os.read(pipes.data_in, size), bounds)
        unpacker = Unpacker(tape, rules, _entered(pipes, directory, below))
        unpacker.run()
    except SampanError as error:
        return {"leaf": type(error).__name__, "what": error.what, "hints": list(error.hints)}
    except OSError as error:
        subject = unpacker.subject[:1000].decode("utf-8", "replace") if unpacker else ""
        return {"errno": error.errno or errno.EIO, "subject": subject}
    return {"size_bytes": unpacker.size_bytes, "entries": unpacker.entries, "warnings": unpacker.warnings}
