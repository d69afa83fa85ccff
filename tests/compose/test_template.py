"""Variables in strings, and the files that set them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.compose.model import dotenv, template
from sampan.errors import InvalidArgument, SampanError

pytestmark = [pytest.mark.first]

SET = {"A": "a", "E": "", "B_1": "b"}


def _expand(text: str) -> tuple[str, list[str]]:
    unset: list[str] = []
    return template.expand(template.parse(text), SET.get, unset.append), unset


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A", "a"), ("${A}", "a"), ("x$A-y", "xa-y"), ("$B_1.", "b."), ("$$A", "$A"), ("$${A}", "${A}"),
        ("plain", "plain"),
        ("${E:-d}", "d"), ("${E-d}", ""), ("${U:-d}", "d"), ("${U-d}", "d"), ("${A:-d}", "a"),
        ("${A:+r}", "r"), ("${E:+r}", ""), ("${E+r}", "r"), ("${U+r}", ""), ("${U:-${A:-c}}", "a"),
        ("${U:-${V:-c}}", "c"), ("${A:?no}", "a"), ("${E?no}", ""), ("${U:-}", ""), ("${U:-a:b/c-d}", "a:b/c-d"),
        ("${U:-$A}", "a"), ("a}b", "a}b"),
    ],
)  # fmt: skip
def test_forms(text: str, result: str) -> None:
    """Every form of the specification."""
    assert _expand(text) == (result, [])


def test_unset_is_empty_and_told() -> None:
    """What nobody set is empty, and named once for each use."""
    assert _expand("$U:${V}") == (":", ["U", "V"])


@pytest.mark.parametrize("text", ["$", "a$ b", "${", "${}", "${A", "${1}", "${A!b}", "${A:-${B}", "$1"])
def test_malformed(text: str) -> None:
    """A dollar that begins nothing is an error."""
    with pytest.raises(template.Malformed):
        template.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${U:?no name}", "`U` is not set: no name"),
        ("${E:?}", "`E` is empty"),
        ("${U?say $A}", "`U` is not set: say a"),
    ],
)
def test_required(text: str, words: str) -> None:
    """A required variable that is missing says what the file says."""
    with pytest.raises(InvalidArgument, match=words.replace("?", ".")):
        _expand(text)


def test_nothing_grows() -> None:
    """Neither nesting nor expansion is without an end."""
    with pytest.raises(template.Malformed, match="nested"):
        template.parse("${A:-" * 100 + "}" * 100)
    with pytest.raises(InvalidArgument, match="grows beyond"):
        template.expand(template.parse("$A" * 300), lambda _name: "x" * 10_000, lambda _name: None)


@given(st.text(max_size=40))
def test_what_has_its_dollars_doubled_is_itself(text: str) -> None:
    """Escaping is the inverse of expanding."""
    assert template.expand(template.parse(text.replace("$", "$$")), SET.get, lambda _name: None) == text


ENV = """
# a comment
export A=1
B = two words   # comment
C="double $A \\"q\\" \\n\\$x" # after
D='single $A # no'
E=
F: colon
G
H=a#b
I="two
lines"
J=${A}${A:-x}${NO:-d}
K=$HOME
"""


def test_dotenv() -> None:
    """The forms of an environment file."""
    found = dotenv.parse(ENV.encode(), ".env", {"G": "caller", "HOME": "/h"})
    assert found == {
        "A": "1", "B": "two words", "C": 'double 1 "q" \n$x', "D": "single $A # no", "E": "", "F": "colon",
        "G": "caller", "H": "a#b", "I": "two\nlines", "J": "11d", "K": "/h",
    }  # fmt: skip
    assert dotenv.parse(b"A='$x' # y\nB", "f", {}, raw=True) == {"A": "'$x' # y", "B": None}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("A=1\nB='x\n", 2, "never closed"),
        ("A=1\n=x\n", 2, "no environment variable"),
        ("two words\n", 1, "no environment variable"),
        ('A="b" c\n', 1, "follows the closing quote"),
        ("A=${B\n", 1, "malformed"),
        ("\n\nA=${B:?needed}\n", 3, "`B` is not set: needed"),
    ],
)
def test_dotenv_mistakes(text: str, line: int, words: str) -> None:
    """A mistake names its line."""
    with pytest.raises(SampanError) as raised:
        dotenv.parse(text.encode(), ".env", {})
    assert words in raised.value.what
    assert raised.value.at is not None
    assert raised.value.at.line == line
