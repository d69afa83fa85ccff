"""Typed instructions: what each takes, and the errors for what people get wrong."""

import pytest

from sampan.build.dockerfile import instruction, parser, stage
from sampan.errors import InvalidArgument

pytestmark = [pytest.mark.first]


def read(text: str) -> instruction.Instruction:
    """Read one instruction."""
    return instruction.parse(parser.parse(text.encode()).statements[0])


@pytest.mark.parametrize(
    ("text", "complaint", "hint"),
    [
        ("COPY. /app", "no blank after `COPY`", "did you mean `COPY . /app`?"),
        ('RUN["x"]', "no blank after `RUN`", 'did you mean `RUN ["x"]`?'),
        ("FROM\u3000python:3.9", "wide blank", "did you mean `FROM python:3.9`?"),
        ("FORM python:3.9", "unknown instruction `FORM`", "did you mean `FROM`?"),
        ("ENTRYPONT x", "unknown instruction", "did you mean `ENTRYPOINT`?"),
        ("&& echo b", "unknown instruction `&&`", "if the line before goes on here, end it with `\\`"),
        ("COPY app.py", "needs a source and a destination", "write `COPY SOURCE DESTINATION`, as in `COPY app.py .`"),
        ("COPY", "nothing after it", "write it like `COPY . /app`"),
        ("COPY --form=a b c", "unknown flag `--form` of COPY", "did you mean `--from=a`?"),
        ("COPY --chown a b c", "`--chown` of COPY has no value", "write `--chown=VALUE`, with `=` and no blank"),
        ("COPY --from=a --from=b c d", "twice", "leave one out"),
        ("USER --x a", "unknown flag `--x` of USER", "USER takes no flags"),
        ("ADD --checksum=sha256:1 a b", "not there yet", "leave it out"),
        ("ENV A", "gives `A` no value", "write `ENV A=VALUE`"),
        ("ENV A=1 B", "`B` in ENV is no KEY=VALUE", "write KEY=VALUE, with quotes"),
        ("FROM a b", "FROM takes an image", "write `FROM IMAGE` or `FROM IMAGE AS NAME`"),
        ("FROM a AS 1x", "cannot be the name of a stage", "a name begins with a letter"),
        ("SHELL bash", "JSON list", 'write it like `SHELL ["/bin/bash", "-c"]`'),
        ("HEALTHCHECK curl x", "takes `CMD` or `NONE`", "write `HEALTHCHECK CMD curl x`"),
        ("HEALTHCHECK CMD", "has no command", "write"),
        ("ONBUILD FROM x", "cannot hold FROM", ""),
        ("ONBUILD ONBUILD RUN x", "cannot hold ONBUILD", ""),
        ("ONBUILD COPPY a b", "unknown instruction", "did you mean `COPY`?"),
        ("RUN --network=bridge x", "unknown", "it can be `default`, `none` or `host`"),
        ("RUN --security=insecure x", "not there yet", "leave it out"),
        ("WORKDIR", "nothing after it", "write it like `WORKDIR /app`"),
        ("EXPOSE", "nothing after it", "write it like `EXPOSE 5000`"),
    ],
)  # fmt: skip
def test_mistakes(text: str, complaint: str, hint: str) -> None:
    """Each slip is one error with file, line, and the correction."""
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        read(text)
    assert caught.value.at is not None
    assert (caught.value.at.path, caught.value.at.line) == ("Dockerfile", 1)
    assert caught.value.at.text == text
    assert any(told.startswith(hint) for told in caught.value.hints) or not hint


def test_exec_and_shell_form() -> None:
    """A JSON list of strings is the exec form; any other list is refused; all else is a line for the shell."""
    for text, is_exec, words in (
        ('CMD ["python", "app.py"]', True, ["python", "app.py"]),
        ("CMD python app.py", False, ["python app.py"]),
        ("CMD ['python', 'app.py']", False, ["['python', 'app.py']"]),
        ("CMD []", True, []),
        ('CMD ["\\u0041\\"\\\\"]', True, ['A"\\']),
    ):
        found = read(text)
        assert isinstance(found, instruction.Exec)
        assert (found.is_exec, found.words) == (is_exec, words)
    with pytest.raises(InvalidArgument, match="more than strings"):
        read('CMD ["a", 1]')
    assert instruction.looks_like_json("['python', 'app.py']")
    assert instruction.looks_like_json("[\u201cpython\u201d]")
    assert not instruction.looks_like_json("[ -f x ] && echo")


def test_pairs() -> None:
    """ENV and LABEL take KEY=VALUE words with quotes, or the old form; ARG names with or without a default."""
    found = read('ENV A=1 B="x y" C=a\\ b')
    assert isinstance(found, instruction.Pairs)
    assert found.items == [("A", "1"), ("B", '"x y"'), ("C", "a\\ b")]
    old = read("LABEL key the rest of it")
    assert isinstance(old, instruction.Pairs)
    assert (old.items, old.is_old) == ([("key", "the rest of it")], True)
    arg = read("ARG A B=1 C=")
    assert isinstance(arg, instruction.Arg)
    assert arg.items == [("A", None), ("B", "1"), ("C", "")]


def test_copy() -> None:
    """COPY takes words or a JSON list, flags, and here-documents as sources."""
    found = read('COPY --from=b --chown=1:2 --chmod=755 --exclude=*.md --exclude=x --link --parents ["a b", "c/"]')
    assert isinstance(found, instruction.Copy)
    assert (found.sources, found.destination, found.origin, found.chown) == (["a b"], "c/", "b", "1:2")
    assert (found.chmod, found.excludes, found.is_linked, found.has_parents) == ("755", ["*.md", "x"], True, True)
    body = read("COPY a.txt <<b.txt /d/\nx\nb.txt\n")
    assert isinstance(body, instruction.Copy)
    assert body.sources == ["a.txt"]
    assert [(item.name, item.data) for item in body.heredocs] == [("b.txt", "x\n")]


def test_stages() -> None:
    """A file is its ARGs and its stages, which are found by names in any case and by numbers."""
    found = stage.group(parser.parse(b"ARG V=1\nFROM a AS Build\nRUN x\nFROM b\nFROM build AS last\n"))
    assert [item.name for item in found.all] == ["build", "1", "last"]
    assert found.find("BUILD") is found.all[0]
    assert found.find("1", 2) is found.all[1]
    assert found.find("1", 1) is None
    assert found.target("") is found.all[2]
    assert len(found.globals) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("RUN x\n", "before the first FROM"), ("ARG X\n", "has no FROM"), ("FROM a\nCOPY. /b\n", "no blank")],
)
def test_what_is_no_stage(text: str, complaint: str) -> None:
    """A file that does not begin with a base is refused."""
    with pytest.raises(InvalidArgument, match=complaint):
        stage.group(parser.parse(text.encode()))
