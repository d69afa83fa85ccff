"""The init that containers get with `--init` where the machine has none: Debian's tini, fetched once, signed."""

import os
from collections.abc import Callable

from sampan.build.debian import deb, index
from sampan.build.debian.mirror import Mirror
from sampan.build.debian.pool import Pool
from sampan.errors import Corrupt, NotFound, Unsupported
from sampan.events import Event
from sampan.oci.architecture import NAMES
from sampan.settings import apt as apts
from sampan.settings.configuration import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.events import Sink

_PACKAGE = "tini"
_MEMBER = "usr/bin/tini-static"


def fetch(settings: Settings, path: str, *, clock: Callable[[], float], sink: "Sink") -> None:
    """Put this machine's static tini at `path`: whole or not at all, and again where it is.

    Raises Unavailable, Corrupt, NotFound, Unsupported.
    """
    machine = os.uname().machine
    if machine not in NAMES:
        raise Unsupported(f"there are no packages for the processor `{machine}`")
    apt, cache = apts.load(settings), f"{settings.root}/cache"
    suite = next((word for word in index.archive(apt).suites if "-" not in word), "stable")
    with Mirror(apt, settings) as mirror:
        suites = index.load(
            apt,
            mirror,
            suite=suite,
            architecture=NAMES[machine],
            cache=f"{cache}/debian",
            clock=clock,
            sink=sink,
        )
        # Its updates and security updates come after the release, and are newer.
        found = [(other.name, package) for other in suites if (package := other.find(_PACKAGE)) is not None]
        if not found:
            raise NotFound(f"Debian's `{suite}` has no package `{_PACKAGE}`")
        contents = Pool(apt, mirror, cache).fetch(*found[-1])
    _keep(path, _program(contents))
    sink(Event("done", "init", f"{_PACKAGE} {found[-1][1].version} of Debian, signed"))


def _program(contents: bytes) -> bytes:
    for header, content in deb.data(contents, f"`{_PACKAGE}`"):
        if header.name == _MEMBER and header.isreg():
            return content
    raise Corrupt(f"the package `{_PACKAGE}` has no `{_MEMBER}`")


def _keep(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o755)
        with open(fd, "wb") as file:
            file.write(content)
            # Whatever the umask is: a container's user executes it.
            os.fchmod(fd, 0o755)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
