"""The only printer: data to stdout, everything else to stderr. Hot.

Theory: text goes out by write(2), unbuffered, so that a full disk or a closed pipe shows where it happens and nothing
is left for the interpreter's end. Colour is decoration: only on a terminal, never with NO_COLOR (no-color.org) or a
dumb one, and what it says stands in the words too. SECURITY: names, labels and messages come from images and
containers, so control characters are spelled out and cannot drive the person's terminal; only a container's own output
(`logs`, `run`) is passed on as it is.
"""

import os

from sampan import document
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sampan.errors import Place

RED, GREEN, YELLOW, CYAN, BOLD, DIM = "31", "32", "33", "36", "1", "2"
# A cause chain longer than this is a loop or noise.
CAUSES_AT_MOST = 8
# Between two columns, as docker's tables have.
GAP = "   "
# Below this a column is not cut further, whatever the terminal's width.
COLUMN_AT_LEAST = 12


class OutputGone(Exception):
    """Whoever read our stdout has left (EPIPE): end quietly, as SIGPIPE would."""


class Printer:
    """Where a command's words go. `debug` lets tracebacks and operations through; `quiet` drops notes."""

    __slots__ = ("debug", "err_colour", "out_colour", "quiet")

    def __init__(self, environment: "Mapping[str, str]", *, debug: bool = False, quiet: bool = False) -> None:
        plain = bool(environment.get("NO_COLOR")) or environment.get("TERM", "dumb") == "dumb"
        self.out_colour = not plain and os.isatty(1)
        self.err_colour = not plain and os.isatty(2)
        self.debug = debug
        self.quiet = quiet

    def out(self, text: str) -> None:
        """Write one piece of data, a line or many, to stdout."""
        write(1, f"{text}\n".encode("utf-8", "surrogateescape"))

    def note(self, text: str) -> None:
        """Tell the person something on stderr; `quiet` drops it."""
        if not self.quiet:
            self._say(text)

    def warn(self, text: str) -> None:
        """Warn on stderr."""
        self._say(f"{self.paint('warning:', YELLOW)} {visible(text)}")

    def json(self, value: object) -> None:
        """Write one value as a line of JSON."""
        self.out(document.render(value))

    def error(self, error: BaseException) -> None:
        """Explain a failure: what, why, where, and the ways out."""
        self._say(explain(error, self.paint))
        if self.debug:
            import traceback

            self._say("".join(traceback.format_exception(error)).rstrip())

    def table(self, headers: "Sequence[str]", rows: "Iterable[Sequence[str]]") -> None:
        """Write a table with headers; on a terminal it is cut to fit the width."""
        self.out(table(headers, rows, _columns() if os.isatty(1) else 0))

    def paint(self, text: str, colour: str) -> str:
        """Colour `text` for stderr."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.err_colour else text

    def _say(self, text: str) -> None:
        try:
            write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
        except (OSError, OutputGone):
            return  # there is nobody left to tell


def write(fd: int, data: bytes) -> None:
    """Write all of `data`; raises OutputGone where the reader has left."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BrokenPipeError as error:
            raise OutputGone from error


def visible(text: str) -> str:
    """Return `text` with its control characters spelled out, so that it cannot drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in text)


def explain(error: BaseException, paint: object = None) -> str:
    """Print an error as people read it: `error:`, `caused by:`, the place with its line, then hints."""
    colour = paint if callable(paint) else _plain
    chain = _chain(error)
    lines = [f"{colour('error:', RED + ';' + BOLD)} {visible(_what(error))}"]
    said = {_what(error)}
    for cause in chain[1:]:
        if (text := _what(cause)) not in said:
            lines.append(f"  {colour('caused by:', DIM)} {visible(text)}")
            said.add(text)
    place = next((e.at for e in chain if isinstance(e, SampanError) and e.at), None)
    if place:
        lines += _place(place)
    hints = dict.fromkeys(hint for e in chain if isinstance(e, SampanError) for hint in e.hints)
    if hints:
        lines += ["", *(f"{colour('hint:', CYAN)} {visible(hint)}" for hint in hints)]
    return "\n".join(lines)


def table(headers: "Sequence[str]", rows: "Iterable[Sequence[str]]", width: int = 0) -> str:
    """Lay out columns; with a `width` the widest ones are cut until a line fits."""
    lines = [[visible(cell).replace("\n", " ") for cell in row] for row in (headers, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    while width and _total(widths) > width and max(widths) > COLUMN_AT_LEAST:
        widest = widths.index(max(widths))
        # Shrink the widest to the second widest at most, so that several wide columns share the loss.
        excess = _total(widths) - width
        rival = max([w for w in widths if w < widths[widest]], default=COLUMN_AT_LEAST)
        widths[widest] -= max(1, min(excess, widths[widest] - max(rival, COLUMN_AT_LEAST)))
    return "\n".join(GAP.join(_cell(c, w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _total(widths: list[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _cell(text: str, width: int) -> str:
    """Fit one cell to its column."""
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _columns() -> int:
    """Return the width of the terminal at stdout; 0 where it does not say."""
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return 0


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, outermost first."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and len(chain) < CAUSES_AT_MOST:
        chain.append(cause)
    return chain


def _what(error: BaseException) -> str:
    """Say one error of a chain in one clause."""
    if isinstance(error, SampanError):
        return error.what
    if isinstance(error, OSError) and error.strerror:
        path = error.filename
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        return f"{error.strerror.lower()}: `{name}`" if name else error.strerror.lower()
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _place(place: "Place") -> list[str]:
    """Show the guilty line below its file and number."""
    if place.line is None:
        return [f"  at {visible(place.path)}"]
    lines = [f"  at {visible(place.path)}:{place.line}"]
    if place.text is not None:
        lines.append(f"    {place.line} | {visible(place.text)}")
    return lines


def _escape(character: str) -> str:
    """Spell a control or lone surrogate character."""
    return character.encode("unicode_escape").decode()


def _plain(text: str, _colour: str) -> str:
    return text
