"""How a monitor or keeper is executed, and anew where its program must not be open to a container. Hot path."""

import _socket
import os
import sys

from sampan.document import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document
    from sampan.settings.configuration import Settings

    # Waits for the request and the descriptor beside it; None where the command has gone.
    Receive = Callable[[], tuple[Document, int] | None]

MONITOR, KEEPER = "monitor", "keeper"
# What a spawned monitor runs: -I -S keep site, the environment and the directory out; the path of this package goes in.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from sampan.engine.launch import main; main()"


def seal(kind: str, channel: _socket.socket, settings: "Settings", request: "Document", passed_fd: int) -> None:
    """Execute this process anew from a read-only mount of the interpreter, unless that is done, and be it again.

    SECURITY: a container without a user namespace may open the program of a process that enters it (`interpreter`).
    """
    from sampan.runtime import interpreter

    if interpreter.is_sealed():
        return
    memfd = os.memfd_create("sampan-request")
    write(memfd, render(request).encode())
    for fd in (memfd, channel.fileno(), passed_fd):
        os.set_inheritable(fd, True)
    numbers = (str(channel.fileno()), str(memfd), str(passed_fd))
    interpreter.execute_sealed(sys.executable, tuple(argv(settings, kind, *numbers)), environment(settings))


def argv(settings: "Settings", kind: str, *numbers: str) -> list[str]:
    """Return the words of a fresh interpreter that is a process of that kind; `numbers` are its descriptors."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, package, str(settings.uid), kind, *numbers]


def environment(settings: "Settings") -> dict[str, str]:
    """Return its environment: the caller's, and the places that hold for this command."""
    return dict(settings.environment) | {"SAMPAN_ROOT": settings.root, "SAMPAN_RUN": settings.run}


def write(fd: int, data: bytes) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
