"""Lowering: which vertices a Dockerfile comes to, what their keys depend on, and the config that results."""

from collections.abc import Sequence
from typing import Any

import pytest

from sampan.build.dockerfile import lower as lowering
from sampan.build.dockerfile import parser, stage
from sampan.build.dockerfile.instruction import Instruction
from sampan.build.dockerfile.lower import Lowered, Request, lower
from sampan.build.dockerfile.state import Base
from sampan.errors import InvalidArgument, NotFound, Place, SampanError, Unsupported

pytestmark = [pytest.mark.first]

CONFIG = {"Env": ["PATH=/bin", "LANG=C"], "Cmd": ["sh"], "WorkingDir": "/srv", "Labels": {"a": "b"}}


class World:
    """Images by name, with config; a digest for each source that the context is said to have."""

    def __init__(self, files: dict[str, str] | None = None, **images: dict[str, Any]) -> None:
        self.files_here = files or {}
        self.images = {"base": CONFIG, **images}
        self.asked: list[str] = []

    def image(self, name: str, at: Place) -> Base:
        """Return a base of its own for each name."""
        self.asked.append(name)
        if name not in self.images:
            raise NotFound(f"image `{name}` is not here", at=at)
        return Base(name, {"config": self.images[name]}, f"sha256:{name}")

    def files(self, sources: Sequence[str], excludes: Sequence[str], item: Instruction) -> str:  # noqa: ARG002 -- World's
        """Return what the context holds by these names."""
        return " ".join(self.files_here.get(source, source) for source in (*sources, *excludes))


def run(text: str, world: World | None = None, **request: Any) -> Lowered:  # noqa: ANN401 -- Request's own
    """Lower a Dockerfile's text."""
    stages = stage.group(parser.parse(text.encode()))
    return lower(stages, Request(architecture="amd64", **request), world or World())


def keys(found: Lowered) -> list[str]:
    """Return the digests of the target's vertices."""
    return [str(vertex.digest) for vertex in found.state.chain]


def test_article() -> None:
    """The article's Dockerfile is three layers; its config is docker's."""
    text = "FROM base\nWORKDIR /app\nCOPY . /app\nRUN pip install -r requirements.txt\nEXPOSE 5000\n"
    text += 'CMD ["python", "app.py"]\n'
    state = run(text).state
    assert [(vertex.kind, vertex.subject) for vertex in state.chain] == [
        ("directory", "WORKDIR /app"), ("copy", "COPY . /app"), ("run", "RUN pip install -r requirements.txt"),
    ]  # fmt: skip
    assert state.config == {
        **CONFIG, "Cmd": ["python", "app.py"], "WorkingDir": "/app", "ExposedPorts": {"5000/tcp": {}},
    }  # fmt: skip
    assert state.chain[2].options["args"] == ["/bin/sh", "-c", "pip install -r requirements.txt"]
    assert state.chain[2].options["env"] == ["PATH=/bin", "LANG=C"]
    assert state.chain[2].options["cwd"] == "/app"
    assert [text for text, _ in state.history] == [
        "WORKDIR /app", "COPY . /app", "RUN /bin/sh -c pip install -r requirements.txt", "EXPOSE [5000/tcp]",
        'CMD ["python" "app.py"]',
    ]  # fmt: skip


def test_a_change_makes_what_stands_on_it_anew() -> None:
    """Another app.py changes the vertex that copies it and those above, none below; a change of CMD changes none."""
    text = "FROM base\nCOPY r.txt .\nRUN pip install\nCOPY app.py .\nRUN true\nCMD x\n"
    before = keys(run(text))
    after = keys(run(text, World({"app.py": "other"})))
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False, False]
    assert keys(run(text.replace("CMD x", "CMD y"))) == before
    assert keys(run(text.replace("FROM base", "FROM other"), World(other=CONFIG)))[0] != before[0]


def test_arguments() -> None:
    """ARGs: global ones in FROM, in a stage once declared again; of ENV and ARG the later counts; all are in keys."""
    text = "ARG V=base\nFROM $V\nARG V\nARG A=1\nENV B=$A C=$B\nARG B=9\nRUN x\n"
    found = run(text).state
    assert found.chain[0].options["env"] == ["PATH=/bin", "LANG=C", "V=base", "A=1", "B=9", "C="]
    assert found.config["Env"] == ["PATH=/bin", "LANG=C", "B=1", "C="]
    assert found.history[-1][0] == "RUN |3 V=base A=1 B=9 /bin/sh -c x"
    other = run(text, World(other=CONFIG), arguments={"V": "other", "A": "2"}).state
    assert other.config["Env"][2] == "B=2"
    assert other.chain[0].digest != found.chain[0].digest


def test_what_is_no_part_of_a_key() -> None:
    """Proxies reach no key, no history and no config; a build argument that nothing takes is told."""
    plain, proxied = run("FROM base\nRUN x\n"), run("FROM base\nRUN x\n", arguments={"HTTP_PROXY": "http://me:pw@p"})
    assert keys(plain) == keys(proxied)
    assert not proxied.warnings
    assert "no ARG takes the build argument NOPE" in run("FROM base\n", arguments={"NOPE": "1"}).warnings[0][1]


def test_stages() -> None:
    """Only what the target needs is looked at; COPY --from stands on the other stage's layers as well."""
    text = "FROM gone AS no\nRUN no\nFROM base AS build\nRUN make\nFROM base AS last\nCOPY --from=build /a /b\n"
    world = World()
    found = run(text, world).state
    assert world.asked == ["base"]
    [copied] = found.chain
    assert copied.options["origin"] == "sha256:base"
    assert [vertex.subject for vertex in copied.inputs] == ["RUN make"]
    assert [vertex.subject for vertex in run(text, target="build").state.chain] == ["RUN make"]
    assert run(text, target="BUILD").state.chain[0].subject == "RUN make"
    child = run("FROM base AS a\nENV X=1\nARG Y=2\nRUN a\nFROM a\nRUN b $Y\n").state
    assert [vertex.subject for vertex in child.chain] == ["RUN a", "RUN b $Y"]
    assert child.chain[1].options["env"] == ["PATH=/bin", "LANG=C", "X=1", "Y=2"]


def test_command_and_entrypoint() -> None:
    """An ENTRYPOINT takes away the base's CMD, not the stage's own; SHELL is what a shell form begins with."""
    assert run('FROM base\nENTRYPOINT ["x"]\n').state.config["Cmd"] is None
    assert run('FROM base\nCMD ["a"]\nENTRYPOINT ["x"]\n').state.config["Cmd"] == ["a"]
    config = run('FROM base\nSHELL ["/bin/bash", "-c"]\nCMD a b\nENTRYPOINT []\n').state.config
    assert (config["Cmd"], config["Entrypoint"]) == (["/bin/bash", "-c", "a b"], None)


def test_config() -> None:
    """EXPOSE, VOLUME, USER, STOPSIGNAL, LABEL, HEALTHCHECK, MAINTAINER in a config's own words."""
    state = run(
        "FROM base\nARG P=7000-7002\nEXPOSE 80/TCP 53/udp $P\nVOLUME /a /b\nUSER 1:2\nSTOPSIGNAL SIGINT\n"
        'LABEL "x y"="1 2" z=$P\nHEALTHCHECK --interval=1m30s --retries=3 CMD curl x\nMAINTAINER me\n',
        labels={"z": "cli"},
    ).state
    assert state.config["ExposedPorts"] == {
        port: {} for port in ("80/tcp", "53/udp", "7000/tcp", "7001/tcp", "7002/tcp")
    }
    assert state.config["Volumes"] == {"/a": {}, "/b": {}}
    assert (state.config["User"], state.config["StopSignal"], state.author) == ("1:2", "SIGINT", "me")
    assert state.config["Labels"] == {"a": "b", "x y": "1 2", "z": "cli"}
    assert state.config["Healthcheck"] == {
        "Test": ["CMD-SHELL", "curl x"], "Interval": 90_000_000_000, "Retries": 3,
    }  # fmt: skip


def test_onbuild() -> None:
    """What a base left runs after FROM, and is not left again; a stage keeps its own."""
    world = World(base={"OnBuild": ["COPY . /x", "RUN y"]})
    state = run("FROM base\nONBUILD RUN z\n", world).state
    assert [vertex.subject for vertex in state.chain] == ["COPY . /x", "RUN y"]
    assert state.config["OnBuild"] == ["RUN z"]


def test_workdir() -> None:
    """Relative ones add up, `..` does not leave the root."""
    state = run("FROM base\nWORKDIR a\nWORKDIR ../b/./c\nWORKDIR /\nWORKDIR ../..\n").state
    assert [vertex.subject for vertex in state.chain] == ["WORKDIR /srv/a", "WORKDIR /srv/b/c"]
    assert state.config["WorkingDir"] == "/"


def test_destination() -> None:
    """A destination is absolute, and keeps saying that it is a directory."""
    text = "FROM base\nWORKDIR /w\nCOPY a b\nCOPY a b/\nCOPY a .\nCOPY a /\nCOPY a ../c\nCOPY a /x/..\n"
    found = [vertex.options["destination"] for vertex in run(text).state.chain[1:]]
    assert found == ["/w/b", "/w/b/", "/w/", "//", "/c", "//"]


def test_linked_copy_stands_on_nothing() -> None:
    """COPY --link has the same key on whatever base."""
    text = "FROM {}\nRUN x\nCOPY --link a /b\n"
    one, other = run(text.format("base")), run(text.format("other"), World(other=CONFIG))
    assert keys(one)[1] == keys(other)[1]
    assert keys(one)[0] != keys(other)[0]


def test_heredocs() -> None:
    """A here-document alone is the shell's text, one with `#!` a program, one among words the shell's own affair."""
    text = (
        "FROM base\nENV V=1\nRUN <<EOF\necho $V\nEOF\nRUN <<-E\n\t#!/usr/bin/python3\n\tprint()\n\tE\n"
        "RUN cat <<A && ls\nx\nA\nCOPY <<F <<'G' /d/\n$V\nF\n$V\nG\n"
    )
    one, script, other, copied = run(text).state.chain
    assert one.options["args"] == ["/bin/sh", "-c", "echo $V\n"]
    assert script.options["args"] == ["/dev/pipes/E"]
    assert script.options["script"] == ["E", "#!/usr/bin/python3\nprint()\n"]
    assert other.options["args"][2] == "cat <<A && ls\nx\nA"
    assert copied.options["bodies"] == [["F", "1\n"], ["G", "$V\n"]]


def test_mounts() -> None:
    """RUN's mounts: defaults, other names, variables, stages; a secret's value is no part of the key."""
    text = (
        "FROM base AS b\nFROM base\nWORKDIR /w\nENV D=/cache\nRUN --mount=type=cache,target=$D,sharing=locked "
        "--mount=type=secret,id=tok --mount=src=r.txt,dst=r.txt --mount=type=tmpfs,target=/t,size=1m "
        "--mount=from=b,target=/b,rw x\n"
    )
    found = run(text, World({"r.txt": "hash"})).state.chain[1].options["mounts"]
    assert [(item["type"], item["target"]) for item in found] == [
        ("cache", "/cache"), ("secret", "/run/secrets/tok"), ("bind", "/w/r.txt"), ("tmpfs", "/t"), ("bind", "/b"),
    ]  # fmt: skip
    assert found[0]["id"] == "/cache"
    assert found[2]["files"] == "hash"
    assert found[3]["size_bytes"] == 1 << 20
    assert (found[4]["chain"], found[4]["is_read_only"], found[2]["is_read_only"]) == ("sha256:base", False, True)


@pytest.mark.parametrize(
    ("text", "error", "complaint", "hint"),
    [
        ("FROM $NOPE\n", InvalidArgument, "`NOPE` has no value", "declare it before the first FROM: `ARG NOPE=VALUE`"),
        ("FROM base:$TAG\n", InvalidArgument, "`TAG` has no value", "declare it"),
        ("FROM gone\n", NotFound, "`gone` is not here", ""),
        ("FROM base AS build\nFROM bulid\n", NotFound, "`bulid` is not here", "did you mean the stage `build`?"),
        ("ARG T\nFROM base:$T-slim\n", InvalidArgument, "`T` has no value", "declare it"),
        ("FROM --platform=linux/arm64 base\n", Unsupported, "linux/arm64", ""),
        ("FROM base AS a\nCOPY --from=b x y\nFROM a AS b\n", InvalidArgument, "no stage before", "a stage can take"),
        ("FROM base\nCOPY --from=$X a b\n", InvalidArgument, "holds a variable", "give the image a stage"),
        ("FROM base\nCOPY a b c\n", InvalidArgument, "several sources needs a directory", "write `c/`"),
        ("FROM base\nCOPY $X b\n", InvalidArgument, "a path of COPY is empty", ""),
        ("FROM base\nADD https://x/y /z\n", Unsupported, "not there yet", "fetch it in a RUN"),
        ("FROM base\nCOPY https://x/y /z\n", InvalidArgument, "not the address", "ADD takes addresses"),
        ("FROM base\nEXPOSE 5000:5000\n", InvalidArgument, "is no port", "EXPOSE takes the container's port alone"),
        ("FROM base\nEXPOSE http\n", InvalidArgument, "is no port", "write it like"),
        ("FROM base\nEXPOSE 70000\n", InvalidArgument, "is no port", "write it like"),
        ("FROM base\nSTOPSIGNAL SIGTREM\n", InvalidArgument, "is no signal", "did you mean `SIGTERM`?"),
        ("FROM base\nHEALTHCHECK --interval=soon CMD x\n", InvalidArgument, "no duration", "write it like"),
        ("FROM base\nHEALTHCHECK --retries=-1 CMD x\n", InvalidArgument, "no number", ""),
        ("FROM base\nRUN --mount=type=chache,target=/x y\n", InvalidArgument, "chache", "did you mean `type=cache`?"),
        ("FROM base\nRUN --mount=type=cache y\n", InvalidArgument, "no target", "give it `target=/PATH`"),
        ("FROM base\nRUN --mount=type=cache,traget=/x y\n", InvalidArgument, "`traget`", "did you mean `target`?"),
        ("FROM base\nRUN --mount=type=ssh y\n", Unsupported, "ssh", "give the key"),
        ("FROM base\nUSER $X\n", InvalidArgument, "USER is empty", "`$X` has no value"),
        ("FROM base\nENV A=${B\n", InvalidArgument, "missing", ""),
    ],
)  # fmt: skip
def test_mistakes(text: str, error: type[SampanError], complaint: str, hint: str) -> None:
    """What is wrong in a stage is one error at its line, with a way out."""
    with pytest.raises(error, match=complaint) as caught:
        run(text)
    assert caught.value.at is not None
    assert caught.value.at.line is not None
    assert any(told.startswith(hint) for told in caught.value.hints) or not hint


def test_unknown_target() -> None:
    """A target that is not there is suggested."""
    with pytest.raises(NotFound, match="no stage `bild`") as caught:
        run("FROM base AS build\nFROM base\n", target="bild")
    assert caught.value.hints == ("did you mean `--target build`?",)


def test_kinds_are_the_executors_() -> None:
    """A config's change is no vertex."""
    state = run("FROM scratch\nENV A=1\nLABEL b=c\nUSER d\nCMD e\n").state
    assert state.chain == []
    assert state.config["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"]
    assert {lowering.COPY, lowering.RUN, lowering.DIRECTORY} == {"copy", "run", "directory"}
