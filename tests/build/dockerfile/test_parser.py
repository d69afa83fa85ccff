"""The parser: what BuildKit's documentation says of directives, continuations, here-documents; and hostile text."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.dockerfile import parser
from sampan.errors import Exhausted, InvalidArgument, SampanError

pytestmark = [pytest.mark.first]


def parse(text: str) -> list[tuple[str, list[str], str]]:
    """Return each statement's keyword, flags and rest."""
    return [(item.keyword, item.flags, item.rest) for item in parser.parse(text.encode()).statements]


def rests(text: str) -> list[str]:
    """Return each statement's rest."""
    return [rest for _, _, rest in parse(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from a as b\n", [("FROM", [], "a as b")]),
        ("  RUN   echo  a \n", [("RUN", [], "echo  a")]),
        ("RUN a \\\n  b\n", [("RUN", [], "a   b")]),
        ("RUN a \\  \t\nb\n", [("RUN", [], "a b")]),
        ("RUN a && \\\n# comment\n  # another\nb\n", [("RUN", [], "a && b")]),
        ("RUN a \\\n\n\nb\n", [("RUN", [], "a b")]),
        ("RUN echo # no comment\n", [("RUN", [], "echo # no comment")]),
        ("RUN a\\\\\nUSER b\n", [("RUN", [], "a\\\\"), ("USER", [], "b")]),
        ("\\\nRUN a", [("RUN", [], "a")]),
        ("RUN a \\", [("RUN", [], "a")]),
        ("# escape=`\nRUN a `\nb c:\\\n", [("RUN", [], "a b c:\\")]),
        ("#\n# escape=`\nRUN a `\n", [("RUN", [], "a `")]),
        ("RUN a\r\nUSER b\r\n", [("RUN", [], "a"), ("USER", [], "b")]),
        ("RUN a \\\r\nb\r\n", [("RUN", [], "a b")]),
        ("COPY --from=x --chown='a b' c d\n", [("COPY", ["--from=x", "--chown=a b"], "c d")]),
        ('RUN --mount=type=bind,x="a b" -- --y\n', [("RUN", ["--mount=type=bind,x=a b"], "--y")]),
        ("RUN -x --y\n", [("RUN", [], "-x --y")]),
        ("#!/usr/bin/env sampan\n# escape=`\nRUN a`\n b", [("RUN", [], "a b")]),
        ("# 使用官方镜像\nFROM a # 是\n", [("FROM", [], "a # 是")]),
    ],
)  # fmt: skip
def test_statements(text: str, expected: list[tuple[str, list[str], str]]) -> None:
    """A line is an instruction, its flags and the rest, as BuildKit parts them."""
    assert parse(text) == expected


def test_directives() -> None:
    """Directives are read without regard to case and blanks, before anything else only, and each once."""
    found = parser.parse(
        b"\xef\xbb\xbf#SYNTAX = docker/dockerfile:1\n# check=skip=all;error=true\n# no = more\n# escape=`\nUSER a"
    )
    assert found.directives == {"syntax": "docker/dockerfile:1", "check": "skip=all;error=true"}
    with pytest.raises(InvalidArgument, match="stands here twice") as caught:
        parser.parse(b"# escape=`\n# escape=`\n")
    assert caught.value.at is not None
    assert caught.value.at.line == 2
    with pytest.raises(InvalidArgument, match="escape character"):
        parser.parse(b"# escape=x\n")


def test_places() -> None:
    """Each statement knows the line that it begins in; a blank line within one is remembered."""
    found = parser.parse(b"\nFROM a\n\nRUN b \\\n\n c\nUSER d\n")
    assert [(item.at.line, item.at.text) for item in found.statements] == [
        (2, "FROM a"),
        (4, "RUN b \\"),
        (7, "USER d"),
    ]
    assert [place.line for place in found.gaps] == [4]


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        ("RUN <<EOF\n# kept \\\n$x\nEOF\n", [("EOF", "# kept \\\n$x\n", True)]),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n", [("EOF", "a\nb\n", True)]),
        ("RUN <<'A' cat <<\"B\"\na\nA\nb\nB\n", [("A", "a\n", False), ("B", "b\n", False)]),
        ("RUN python3 <<E\nprint()\nE\n", [("E", "print()\n", True)]),
        ("RUN 3<<E cat <&3\nx\nE\n", [("E", "x\n", True)]),
        ("COPY <<a.txt <<b.txt /d/\n1\na.txt\n2\nb.txt\n", [("a.txt", "1\n", True), ("b.txt", "2\n", True)]),
        ("ONBUILD RUN <<E\nx\nE\n", [("E", "x\n", True)]),
        ("RUN <<EOF\r\na\r\nEOF\r\n", [("EOF", "a\r\n", True)]),
    ],
)
def test_heredocs(text: str, bodies: list[tuple[str, str, bool]]) -> None:
    """Here-documents belong to the statement that names them, byte for byte; quotes say whether they expand."""
    first, *others = parser.parse(f"{text}USER after\n".encode()).statements
    assert [(item.name, item.data, item.expands) for item in first.heredocs] == bodies
    assert [item.keyword for item in others] == ["USER"]


@pytest.mark.parametrize("text", ["RUN cat <<<word\n", 'RUN echo "<<EOF"\n', 'RUN ["cat", "<<EOF"]\n', "ENV A=<<B\n"])
def test_what_is_no_heredoc(text: str) -> None:
    """Here-strings, quoted ones, JSON lists and other instructions have none."""
    assert [item.heredocs for item in parser.parse(text.encode()).statements] == [[]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"# nothing\n\n", "has no instructions"),
        (b"RUN <<EOF\nx\n", "has no end"),
        (b"\xff\xfeF\0R\0", "not UTF-8"),
        (b"FROM a\0b", "not UTF-8"),
    ],
)
def test_what_is_refused(content: bytes, complaint: str) -> None:
    """What is no Dockerfile is one error with its place and a way out."""
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        parser.parse(content, "x/Dockerfile")
    assert caught.value.at is not None
    assert caught.value.at.path == "x/Dockerfile"
    assert caught.value.hints


def test_bounds() -> None:
    """A line of a mebibyte is read at once; more text or statements than anyone writes are refused."""
    began = time.monotonic()
    assert len(rests("RUN " + "a b\t" * (1 << 18))[0]) > 1 << 19
    assert len(rests("RUN a \\\n" + "b \\\n" * 200_000)) == 1
    assert time.monotonic() - began < 5
    with pytest.raises(Exhausted):
        parser.parse(b"#" * (parser.MAX_BYTES + 1))
    with pytest.raises(Exhausted):
        parser.parse(b"USER a\n" * (parser.MAX_STATEMENTS + 1))


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """Any bytes are a Dockerfile or one clear error."""
    with contextlib.suppress(SampanError):
        parser.parse(content)
