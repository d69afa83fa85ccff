"""What compose tells while it works: a line for each thing that is done, as docker compose's plain progress.

    Network shop_default  Created
    Container shop-db-1  Waiting

On a terminal what is finished has a tick, and what only begins is not shown unless it takes time.
"""

from sampan.cli import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed
    from sampan.cli.render import Printer

_GREEN = "32"
# The beginnings of what ends at once.
_BEGINNINGS = ("Creating", "Starting", "Removing", "Recreate", "Killing")
_SLOW = ("Waiting", "Stopping")


class Telling:
    """A `crew.Say` that writes to stderr; `quiet` writes nothing."""

    __slots__ = ("_is_quiet", "_is_terminal", "_printer")

    def __init__(self, printer: "Printer", parsed: "Parsed") -> None:
        word = parsed.outer.text("progress", "auto") if parsed.outer else "auto"
        self._printer = printer
        self._is_quiet = word == "quiet" or parsed.is_set("quiet")
        self._is_terminal = printer.err_colour and word != "plain"

    def __call__(self, subject: str, status: str) -> None:
        """Tell one thing."""
        if self._is_quiet or (self._is_terminal and status in _BEGINNINGS):
            return
        mark = ""
        if self._is_terminal:
            mark = (
                f"{self._printer.paint('…', render.YELLOW)} "
                if status in _SLOW
                else f"{self._printer.paint('✔', _GREEN)} "
            )
        self._printer.note(f" {mark}{render.visible(subject)}  {status}")

    def warn(self, text: str) -> None:
        """Warn, however quiet."""
        self._printer.warn(text)
