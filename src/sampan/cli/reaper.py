"""Has the init of `--init` fetched where this machine has none, before a container needs it."""

import time

from sampan.cli.progress import Listener
from sampan.engine import reaper
from sampan.errors import NotFound, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings


def ensure(settings: "Settings", printer: "Printer", *, quiet: bool = False) -> None:
    """Fetch it unless it is here; raises Unavailable with every way out where that cannot be."""
    try:
        reaper.find(settings)
    except NotFound as missing:
        from sampan.build.debian import tini

        try:
            with Listener(printer, quiet=quiet) as sink:
                tini.fetch(settings, reaper.kept(settings), clock=_now, sink=sink)
        except (NotFound, Unavailable) as error:
            raise Unavailable(
                "there is no init for `--init` on this machine, and none can be fetched", hints=missing.hints[1:]
            ) from error


def _now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)
