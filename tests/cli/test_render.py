"""How errors, tables and hostile text look to a person."""

import errno

import pytest

from sampan.cli import render
from sampan.errors import InvalidArgument, NotFound, Place, SampanError, Unavailable

pytestmark = [pytest.mark.first]


CHAIN = """\
error: the index cannot be reached
  caused by: the proxy is wrong
  caused by: ValueError: no port

hint: look at the proxy"""


def _caused(error: SampanError, cause: BaseException) -> SampanError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NotFound("there is no image `x`"), "error: there is no image `x`"),
        (
            NotFound("there is no image `x`", hints=("`sampan images` lists them", "`sampan load` brings one")),
            "error: there is no image `x`\n\nhint: `sampan images` lists them\nhint: `sampan load` brings one",
        ),
        (
            _caused(
                Unavailable("the index cannot be reached", hints=("look at the proxy",)),
                _caused(InvalidArgument("the proxy is wrong", hints=("look at the proxy",)), ValueError("no port")),
            ),
            CHAIN,
        ),
        (
            _caused(SampanError("the record cannot be read"), PermissionError(errno.EACCES, "Permission denied", "/x")),
            "error: the record cannot be read\n  caused by: permission denied: `/x`",
        ),
        (
            InvalidArgument("this is no requirement", hints=("mend it",), at=Place("./req.txt", 3, "flask===9")),
            "error: this is no requirement\n  at ./req.txt:3\n    3 | flask===9\n\nhint: mend it",
        ),
        (InvalidArgument("this is not TOML", at=Place("./a.toml")), "error: this is not TOML\n  at ./a.toml"),
        (
            _caused(SampanError("it failed"), InvalidArgument("here", at=Place("f", 1, "x"))),
            "error: it failed\n  caused by: here\n  at f:1\n    1 | x",
        ),
        (_caused(SampanError("same"), SampanError("same")), "error: same"),
        (KeyError("k"), "error: KeyError: 'k'"),
        (NotFound("no `a\x1b[2Jb\u202e`"), "error: no `a\\x1b[2Jb\\u202e`"),
    ],
)
def test_errors(error: BaseException, text: str) -> None:
    """An error shows what, why, where and the ways out, in that order and each once."""
    assert render.explain(error) == text


def test_a_loop_of_causes_ends() -> None:
    """A cause chain that bites its own tail is cut."""
    first, second = SampanError("a"), SampanError("b")
    first.__cause__, second.__cause__ = second, first
    assert render.explain(first) == "error: a\n  caused by: b"


def test_a_table_is_laid_out_as_docker_lays_it_out() -> None:
    """Columns are as wide as their widest cell, three spaces apart, with nothing at a line's end."""
    assert render.table(("ID", "NAMES"), [("1", "web"), ("22", "")]) == "ID   NAMES\n1    web\n22"


@pytest.mark.parametrize("width", [20, 33, 40, 60, 80])
def test_a_table_fits_the_terminal(width: int) -> None:
    """With a width the widest columns are cut, never below what can be read."""
    rows = [("a" * 12, "b" * 50, "c" * 30), ("1", "2", "3")]
    lines = render.table(("ID", "IMAGE", "COMMAND"), rows, width).splitlines()
    assert max(map(len, lines)) <= max(width, 3 * render.COLUMN_AT_LEAST + 2 * len(render.GAP))
    assert lines[1].startswith("a" * 12)
    assert "…" in lines[1]


def test_hostile_cells_cannot_drive_the_terminal() -> None:
    """Control characters in a cell are spelled out and a line break does not break the table."""
    text = render.table(("A", "B"), [("x\x1b]0;title\x07", "two\nlines")])
    assert "\x1b" not in text
    assert "\\x1b]0;title\\x07   two lines" in text


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}, {}])
def test_no_colour_where_it_is_unwanted(environment: dict[str, str]) -> None:
    """NO_COLOR, a dumb terminal and no terminal at all mean no colour."""
    printer = render.Printer(environment)
    assert printer.paint("error:", render.RED) == "error:"
