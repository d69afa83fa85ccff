"""Showing long work: choices with their reasons, what was done, warnings, and on a terminal bars for what takes time.

A `Listener` is the sink that operations are given (`events.Sink`) and a context that clears the bars at its end. Lines
stay; bars do not. What was found in a cache is only counted, for a rebuild finds nearly everything there. `rich` costs
27 ms, so it is imported at the first bar, and only on a terminal.
"""

import os
import sys

from sampan.cli import render
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from rich.progress import Progress, TaskID

    from sampan.cli.render import Printer
    from sampan.events import Event

# The left column: most wheels' names fit.
SUBJECT_WIDTH = 20
# A step of a Dockerfile may be a page long.
SUBJECT_AT_MOST = 100
# What the solver says of a step that it did not have to do.
CACHED = "cached"


class Listener:
    """A sink that shows events on stderr; `quiet` shows warnings only, `plain` lines even where bars could be."""

    __slots__ = ("_bars", "_cached", "_done", "_printer", "_progress", "_quiet", "_speaker", "_terminal")

    def __init__(self, printer: "Printer", *, quiet: bool = False, plain: bool = False) -> None:
        self._printer = printer
        self._quiet = quiet
        self._terminal = printer.err_colour and os.isatty(2) and not plain
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._done: set[str] = set()
        self._cached = 0
        self._speaker = ""  # the step whose output was shown last

    def __call__(self, event: "Event") -> None:
        """Show one event (`events.Sink`)."""
        if event.kind == "warning":
            self._line(f"{self._printer.paint('warning:', render.YELLOW)} {render.visible(_words(event))}")
        elif self._quiet:
            return
        elif event.kind == "choice":
            self._row(event.subject, event.text)
        elif event.kind == "done":
            self._end(event)
        elif event.kind == "output" and not self._terminal:
            self._output(event)
        else:
            self._advance(event)

    def __enter__(self) -> "Self":
        """Begin; nothing is shown yet."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Clear the bars, and say how much was found in the cache."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._cached:
            self._row("cached", f"{self._cached} step{'s' * (self._cached != 1)} that nothing changed for")

    def _end(self, event: "Event") -> None:
        """Show that a step ended; the cache's are counted, and each subject is shown once."""
        bar = self._bars.pop(event.subject, None)
        if self._progress is not None and bar is not None:
            self._progress.remove_task(bar)
        if event.subject in self._done:
            return
        self._done.add(event.subject)
        if event.text == CACHED:
            self._cached += 1
        else:
            self._row(event.subject, event.text or (human_size(event.current) if event.current else "done"))

    def _output(self, event: "Event") -> None:
        """Show a line of a command's output, below the step that it belongs to."""
        if self._speaker != event.subject:
            self._speaker = event.subject
            self._row(event.subject, "")
        self._line(f"  {self._printer.paint('|', render.DIM)} {render.visible(event.text)}")

    def _row(self, subject: str, text: str) -> None:
        """Write one line of two columns."""
        first = subject.partition("\n")[0][:SUBJECT_AT_MOST]
        left = self._printer.paint(render.visible(first).ljust(SUBJECT_WIDTH), render.CYAN)
        self._line(f"  {left}  {render.visible(text)}")

    def _line(self, text: str) -> None:
        """Write one line, above the bars where there are some."""
        if self._progress is None:
            render.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
            return
        from rich.text import Text

        self._progress.console.print(Text.from_ansi(text), highlight=False, soft_wrap=True)

    def _advance(self, event: "Event") -> None:
        """Move the subject's bar; without a terminal there are no bars, and only what says something is a line."""
        if not self._terminal:
            if event.kind == "step" and event.text:
                self._row(event.subject, event.text)
            return
        progress = self._progress or self._start()
        if event.subject not in self._bars:
            name = render.visible(event.subject.partition("\n")[0][:SUBJECT_AT_MOST])
            self._bars[event.subject] = progress.add_task(name, total=None, detail="")
        detail = event.text[:SUBJECT_AT_MOST] or (human_size(event.current) if event.current else "")
        total = event.total or None
        bar = self._bars[event.subject]
        progress.update(bar, completed=event.current, total=total, detail=render.visible(detail))
        if total and event.current >= total:
            progress.remove_task(self._bars.pop(event.subject))

    def _start(self) -> "Progress":
        """Open the area of bars below the lines."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        self._progress = Progress(*columns, console=Console(file=sys.stderr), transient=True, refresh_per_second=8)
        self._progress.start()
        return self._progress


def _words(event: "Event") -> str:
    return f"{event.subject}: {event.text}" if event.text else event.subject
