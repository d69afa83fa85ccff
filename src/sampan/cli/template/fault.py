"""What is wrong with a template, and where in it: every error has its line and column."""

from sampan.errors import Exhausted, InvalidArgument, Place

PATH = "--format"
# Of a long line only so much is shown on each side of the fault.
AROUND = 60


class TemplateError(InvalidArgument):
    """The template does not fit what it is filled with."""


class Malformed(TemplateError):
    """The template cannot be read."""


class UnknownField(TemplateError):
    """There is no such field."""


class Misuse(Exception):
    """A function was called with what it does not take; the evaluator adds the place."""


def malformed(text: str, at: int, what: str, *hints: str) -> Malformed:
    """Return the error of a template that cannot be read, at the offset `at`."""
    return Malformed(f"{what}{_column(text, at)}", hints=hints, at=place(text, at))


def unfit(text: str, at: int, what: str, *hints: str) -> TemplateError:
    """Return the error of a template that does not fit its value."""
    return TemplateError(f"{what}{_column(text, at)}", hints=hints, at=place(text, at))


def unknown_field(text: str, at: int, what: str, *hints: str) -> UnknownField:
    """Return the error of a field that is not there."""
    return UnknownField(f"{what}{_column(text, at)}", hints=hints, at=place(text, at))


def exhausted(text: str, at: int, what: str) -> Exhausted:
    """Return the error of a template that passed a bound."""
    return Exhausted(f"{what}{_column(text, at)}", at=place(text, at))


def place(text: str, at: int) -> Place:
    """Return the line of `text` that the offset `at` is in."""
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    first, last = max(begin, at - AROUND), min(end, at + AROUND)
    shown = ("…" if first > begin else "") + text[first:last] + ("…" if last < end else "")
    return Place(PATH, text.count("\n", 0, at) + 1, shown)


def _column(text: str, at: int) -> str:
    return f", at column {at - text.rfind(chr(10), 0, at)}"
