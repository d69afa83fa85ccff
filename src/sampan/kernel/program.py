"""Host programs: the one door to what is not ours (uv, newuidmap, pasta, runc). Not for the hot path.

A program gets an argument list, never a shell; an environment that is stated; no descriptor but its three. What it
prints is bounded, how long it takes too; on a time-out its whole process group ends.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from sampan.errors import NotFound, Unavailable

_SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin")
_CHUNK_BYTES = 1 << 16
_GRACE_SECONDS = 2.0

# The Debian package that has a program, for the hint of an error.
_PACKAGES = {"newuidmap": "uidmap", "newgidmap": "uidmap", "pasta": "passt", "runc": "runc", "crun": "crun"}


class Completed:
    """What a program left: its exit `status` (negative: the signal that ended it) and what it printed."""

    __slots__ = ("status", "stderr", "stdout")

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


def find(name: str, search: str | None = None) -> str | None:
    """Return the path of the program `name` in `search` (as PATH is written) or a system directory."""
    places = [search if search is not None else os.defpath, *_SYSTEM_DIRECTORIES]
    return shutil.which(name, path=os.pathsep.join(place for place in places if place))


def require(name: str, search: str | None = None) -> str:
    """Return the path of the program `name`; raise NotFound with the package that has it."""
    path = find(name, search)
    if path is None:
        package = _PACKAGES.get(name, name)
        raise NotFound(f"the program `{name}` is not installed", hints=(f"`apt install {package}`",))
    return path


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
    capture_limit: int = 1 << 20,
) -> Completed:
    """Run a program to its end and return what it left; `env` None is the caller's environment.

    Raises NotFound for a program that is not there, Unavailable after `timeout` seconds. Output past `capture_limit`
    bytes is read and dropped, so that the program does not wait for a reader.
    """
    with start(argv, env=env, cwd=cwd) as running:
        return running.finish(stdin, timeout=timeout, capture_limit=capture_limit)


def start(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None) -> "Running":
    """Start a program in a session of its own with pipes for its three files; use it with `with`."""
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise NotFound(f"the program `{argv[0]}` cannot be started") from error
    return Running(argv, child)


class Running:
    """A program that runs; leaving the `with` ends it and its group, if it has not ended."""

    def __init__(self, argv: Sequence[str], child: "subprocess.Popen[bytes]") -> None:
        self._name = os.path.basename(argv[0])
        self._child = child
        self.pid = child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for file in (self._child.stdin, self._child.stdout, self._child.stderr):
            if file is not None:
                file.close()

    def finish(self, stdin: bytes, *, timeout: float | None, capture_limit: int) -> Completed:
        """Feed `stdin`, read both outputs side by side, and wait; see `run`."""
        import selectors
        import time

        deadline = None if timeout is None else time.monotonic() + timeout
        texts = {"stdout": bytearray(), "stderr": bytearray()}
        with selectors.DefaultSelector() as selector:
            self._register(selector, stdin)
            while selector.get_map():
                left = None if deadline is None else deadline - time.monotonic()
                ready = selector.select(left) if left is None or left > 0 else []
                if not ready:
                    raise Unavailable(f"`{self._name}` has not ended after {timeout:g} seconds")
                for key, _ in ready:
                    if key.data == "stdin":
                        stdin = self._feed(selector, stdin)
                        continue
                    piece = os.read(key.fd, _CHUNK_BYTES)
                    if not piece:
                        selector.unregister(key.fd)
                    texts[key.data] += piece[: max(0, capture_limit - len(texts[key.data]))]
        try:
            status = self._child.wait(None if deadline is None else max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"`{self._name}` has not ended after {timeout:g} seconds") from error
        return Completed(status, bytes(texts["stdout"]), bytes(texts["stderr"]))

    def kill(self) -> None:
        """End the program's group: politely, then not; returns when the program is gone."""
        if self._child.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass
            try:
                self._child.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return

    def _register(self, selector: "selectors.BaseSelector", stdin: bytes) -> None:
        import selectors

        for file, name in ((self._child.stdout, "stdout"), (self._child.stderr, "stderr")):
            if file is not None:
                selector.register(file.fileno(), selectors.EVENT_READ, name)
        if self._child.stdin is not None:
            if stdin:
                os.set_blocking(self._child.stdin.fileno(), False)
                selector.register(self._child.stdin.fileno(), selectors.EVENT_WRITE, "stdin")
            else:
                self._child.stdin.close()

    def _feed(self, selector: "selectors.BaseSelector", stdin: bytes) -> bytes:
        pipe = self._child.stdin
        if pipe is None:
            return b""
        try:
            stdin = stdin[os.write(pipe.fileno(), stdin[:_CHUNK_BYTES]) :]
        except BrokenPipeError:
            stdin = b""
        if not stdin:
            selector.unregister(pipe.fileno())
            pipe.close()
        return stdin


TYPE_CHECKING = False
if TYPE_CHECKING:
    import selectors
