"""Variables: each form of the Dockerfile reference, quotes and escapes, and values that grow without end."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.dockerfile import expand
from sampan.errors import Exhausted, InvalidArgument, Place, SampanError

pytestmark = [pytest.mark.first]

AT = Place("Dockerfile", 1)
VARIABLES = {"A": "apple", "E": "", "P": "a/b/c.tar.gz", "W": "one two", "S": "x y", "N": "foobarbaz", "STAR": "a*b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "apple"),
        ("${A}s", "apples"),
        ("$A-$A", "apple-apple"),
        ("$AX", ""),
        ("${X:-word}", "word"),
        ("${E:-word}", "word"),
        ("${E-word}", ""),
        ("${X-word}", "word"),
        ("${A:+word}", "word"),
        ("${E:+word}", ""),
        ("${E+word}", "word"),
        ("${X+word}", ""),
        ("${A:?no}", "apple"),
        ("${E?no}", ""),
        ("${X:-${A:-z}}", "apple"),
        ("${X:-$A b}", "apple b"),
        ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "a/b/c.tar"),
        ("${P%%.*}", "a/b/c"),
        ("${P#x}", "a/b/c.tar.gz"),
        ("${P%%/*}", "a"),
        ("${A#?}", "pple"),
        ("${STAR#a\\*}", "b"),
        ("${N/ba/X}", "fooXrbaz"),
        ("${N//ba/X}", "fooXrXz"),
        ("${N//b?/}", "foorz"),
        ("${P//\\//-}", "a-b-c.tar.gz"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "apple b"),
        ('"\\$A \\" \\x"', '$A " \\x'),
        ("a\\ b", "a b"),
        ("$", "$"),
        ("$ a", "$ a"),
        ("$1$@${2}", ""),
        ('"it\'s"', "it's"),
        ("中$A", "中apple"),
    ],
)
def test_word(text: str, expected: str) -> None:
    """Each form gives what a shell gives."""
    assert expand.word(text, VARIABLES, AT) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$W", ["one", "two"]),
        ('"$W"', ["one two"]),
        ("a$W b", ["aone", "two", "b"]),
        ("'x y' z\\ w", ["x y", "z w"]),
        ("  ", []),
        ("$X $E", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    """Unquoted values are split, quoted ones are not."""
    assert expand.words(text, VARIABLES, AT) == expected


def test_document() -> None:
    """In a here-document quotes are characters; only `$` and the backslash before it mean something."""
    assert expand.document('it\'s "$A" \\$A \\n\n', VARIABLES, AT) == 'it\'s "apple" $A \\n\n'


def test_escape_character() -> None:
    """With the backtick as escape a backslash is a character."""
    assert expand.word("c:\\$A `$A", VARIABLES, AT, escape="`") == "c:\\apple $A"


def test_unset_names_are_told() -> None:
    """Who asks hears of each name without a value, not of those that say what then."""
    found: list[str] = []
    expand.word("$X ${Y} ${Z:-1} $A", VARIABLES, AT, unset=found.append)
    assert found == ["X", "Y"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("${A", "`}` is missing"),
        ("${", "no name"),
        ("${}", "no name"),
        ("${A:", "`}` is missing"),
        ("${A!x}", "no substitution"),
        ("${A:#x}", "no substitution"),
        ("${A:-b", "`}` is missing"),
        ("${A/b}", "missing"),
        ("'a", "no second one"),
        ('"a', "no second one"),
        ("${X:?must be given}", "must be given"),
        ("${X?}", "must have one"),
    ],
)
def test_what_is_wrong(text: str, complaint: str) -> None:
    """A broken form is an error at the line."""
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        expand.word(text, VARIABLES, AT)
    assert caught.value.at is AT


def test_bounds() -> None:
    """What would grow, nest or backtrack for ever ends in an error, soon."""
    began = time.monotonic()
    with pytest.raises(Exhausted):
        expand.word("$B" * 1000, {"B": "x" * 100_000}, AT)
    with pytest.raises(Exhausted):
        expand.word("${A:+" * 100 + "}" * 100, VARIABLES, AT)
    with pytest.raises(Exhausted):
        expand.word("${B//" + "*a" * 200 + "b/}", {"B": "a" * 50_000}, AT)
    assert time.monotonic() - began < 5


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Any text comes to something or to one clear error."""
    with contextlib.suppress(SampanError):
        expand.word(text, VARIABLES, AT)
        expand.words(text, VARIABLES, AT)


@given(st.text(max_size=60))
def test_quoted_text_is_itself(text: str) -> None:
    """Between single quotes everything is itself."""
    bare = text.replace("'", "")
    assert expand.word(f"'{bare}'", VARIABLES, AT) == bare
