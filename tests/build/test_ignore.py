"""Ignore files: Docker's own examples, the defaults, and patterns that would make a matcher slow."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build import ignore
from sampan.errors import InvalidArgument

pytestmark = [pytest.mark.first]


@pytest.mark.parametrize(
    ("pattern", "out", "kept"),
    [
        ("*/temp*", ["a/temporary.txt", "a/temp"], ["temp", "a/b/temp"]),
        ("*/*/temp*", ["a/b/temporary.txt"], ["a/temp"]),
        ("temp?", ["tempa", "tempb"], ["temp", "tempab"]),
        ("**/*.go", ["a.go", "a/b.go", "a/b/c.go"], ["a.gox", "go"]),
        ("docs", ["docs", "docs/a.md", "docs/b/c"], ["doc", "a/docs"]),
        ("/docs/", ["docs/a"], ["a/docs"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["b/z", "az"]),
        ("*.md\n!README*.md", ["x.md"], ["README.md", "README-1.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["x.md", "README-secret.md"], ["README.md"]),
        ("# comment\n\n  padded  ", ["padded"], ["# comment"]),
        ("[a-c]x\n[^a]y", ["ax", "by"], ["dx", "ay"]),
        (r"\*literal", ["*literal"], ["xliteral"]),
        ("**", ["a", "a/b"], []),
    ],
)
def test_patterns(pattern: str, out: list[str], kept: list[str]) -> None:
    """Patterns mean what Docker's documentation says they mean."""
    rules = ignore.parse(pattern.encode())
    assert [path for path in out if not rules.excludes(path)] == []
    assert [path for path in kept if rules.excludes(path)] == []


def test_defaults() -> None:
    """Version control, environments, caches, the lock and secrets stay out; an exception brings them back."""
    rules = ignore.parse(b"")
    for path in (".git/config", "a/__pycache__/b.pyc", ".venv/bin/python", "sampan.lock", ".env", "a/.env", "x.pyc"):
        assert rules.excludes(path), path
    assert not rules.excludes("app.py")
    assert not ignore.parse(b"!.env\n").excludes(".env")


def test_pruning() -> None:
    """A directory that is out is not entered, unless an exception may lie below it."""
    assert ignore.parse(b"data\n").prunes("data")
    rules = ignore.parse(b"data\n!data/keep\n")
    assert not rules.prunes("data")
    assert rules.excludes("data/drop")
    assert not rules.excludes("data/keep/x")


def test_hostile_pattern() -> None:
    """A pattern that takes backtracking matchers for ever costs nothing."""
    rules = ignore.parse(b"*a" * 300 + b"b\n" + b"**/" * 100 + b"x\n")
    began = time.monotonic()
    assert not rules.excludes("a" * 250 + "/" + "/".join("a" * 100))
    assert time.monotonic() - began < 2


def test_bounds() -> None:
    """More patterns than anyone writes are refused."""
    with pytest.raises(InvalidArgument):
        ignore.parse(b"x\n" * 2000)


@given(st.binary(max_size=60), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30))
def test_any_bytes(content: bytes, path: str) -> None:
    """Any ignore file and any path have an answer."""
    ignore.parse(content).excludes(path)
