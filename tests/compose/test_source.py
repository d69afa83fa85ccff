"""YAML texts: what words mean, where nodes stand, and that nothing of a hostile text can grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.compose.model import source
from sampan.compose.model.node import Mapping
from sampan.compose.model.schema import plain
from sampan.errors import SampanError

pytestmark = [pytest.mark.first]


def _parse(text: str) -> object:
    (tree,) = source.parse(text.encode(), "compose.yaml")
    return plain(tree)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("true", True), ("False", False), ("~", None), ("", None), ("null", None),
        ("12", 12), ("0440", 288), ("0o17", 15), ("0x10", 16), ("1_000", 1000), ("-3", -3), ("1.5", 1.5),
        ("1e3", 1000.0),
        ("22:22", "22:22"), ("8.0.1", "8.0.1"), ("2020-01-01", "2020-01-01"), ("09", 9.0), ("1.2.3.4", "1.2.3.4"),
        ('"12"', "12"), ("'true'", "true"), ("nan", "nan"), ("-", None), ("+x", "+x"), ("!!str 12", "12"),
    ],
)  # fmt: skip
def test_words(word: str, value: object) -> None:
    """Plain words mean what they mean to docker's reader; quoted ones are text."""
    if word == "-":
        assert _parse("a:\n  -") == {"a": [None]}
    else:
        assert _parse(f"a: {word}") == {"a": value}


def test_each_node_knows_its_line() -> None:
    """Keys and values say where they stand."""
    (tree,) = source.parse(b"a: 1\nb:\n  - x\n  - {c: d}\n", "f.yaml")
    assert (tree.place_of("b").line, tree.place_of("b").text) == (2, "b:")
    assert tree.entries["b"].line == 3


def test_merge_keys_and_anchors() -> None:
    """`<<` adds what is not there, the first mapping wins, and own keys win over all."""
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  c: 3\n"
    assert _parse(text) == {"x": {"a": 1, "b": 1}, "y": {"b": 2, "c": 2}, "z": {"a": 1, "b": 1, "c": 3}}


def test_several_documents() -> None:
    """One file may hold several documents; empty ones are none."""
    assert [plain(tree) for tree in source.parse(b"a: 1\n---\n---\nb: 2\n", "f")] == [{"a": 1}, {"b": 2}]


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "services:\n  web:\n    build:.\n    ports:\n      - x\n",
            3,
            "there is no space after the colon in `build:.`",
        ),
        ("a:\n  b: 1\n c: 2\n", 3, "this line is indented by 1 space, which fits no line above"),
        ("a:\n  b: 1\n   c: 2\n", 3, "this line is indented by 3 spaces, which fits no line above"),
        ("a:\n\tb: 1\n", 2, "a tab indents this line"),
        ("a: [1, 2\nb: 3\n", 1, "a bracket is opened here and not closed"),
        ('a: 1\nb: "x\nc: 3\n', 2, "a quote is opened here and never closed"),
        ("a: b: c\n", 1, "there is a second `: ` in this line"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key `a` stands twice in one mapping"),
        ("a: *x\n", 1, "there is no anchor `&x` before this alias"),
        ("? [a]\n: 1\n", 1, "a key cannot be a list"),
        ("- a\n", 1, "the file must be a mapping of keys to values, not a list"),
        ("a:\n  <<: 1\n", 2, "`<<` merges mappings only"),
        (LAUGHS, 5, "more than 100000 nodes"),
        ("a: " + "[" * 70 + "]" * 70, 1, "nested deeper than 64 levels"),
        ("[" * 100_000, 1, "nested"),
        ("a: &a [*a]\n", 1, "there is no anchor `&a` before this alias"),
    ],
)
def test_mistakes(text: str, line: int, words: str) -> None:
    """Each mistake is one error with its line; the laughs end where the bound is."""
    with pytest.raises(SampanError) as raised:
        source.parse(text.encode(), "compose.yaml")
    assert words in raised.value.what
    assert raised.value.at is not None
    assert (raised.value.at.path, raised.value.at.line) == ("compose.yaml", line)


def test_the_slip_s_hint_is_the_correction() -> None:
    """`build:.` is told as `build: .`, also where YAML itself has nothing against it."""
    with pytest.raises(SampanError) as raised:
        source.parse(b"a:\n  build:.\n  b:\n    c: 1\n", "f")
    assert raised.value.hints == ("write `build: .`",)


def test_what_is_no_text() -> None:
    """Bytes that are not UTF-8, and more than a mebibyte, are refused; the line is named."""
    with pytest.raises(SampanError, match="not UTF-8 in line 2"):
        source.parse("a: 1\n# 数据库\n".encode("gb18030"), "f")
    with pytest.raises(SampanError, match="larger than 1048576 bytes"):
        source.parse(b"a" * (source.BYTES + 1), "f")


@given(st.text(alphabet="ab:-[]{}&*!|>'\"# \n\t,?<0.~", max_size=60))
def test_any_text_is_read_or_explained(text: str) -> None:
    """Whatever stands in a text, it is a list of mappings or one error with a place."""
    try:
        found = source.parse(text.encode(), "f")
    except SampanError as error:
        places = [error.at]
        found = []
    else:
        places = []
    assert None not in places
    assert all(isinstance(tree, Mapping) for tree in found)
