"""COPY, ADD and WORKDIR: what lands where, as whom, and what is refused; BuildKit's rules."""

import io
import os
import tarfile

import pytest

from sampan.errors import InvalidArgument, NotFound, SampanError, Unavailable, Unsupported
from tests.build.dockerfile.kitchen import Kitchen

pytestmark = [pytest.mark.first, pytest.mark.root]


def names(kitchen: Kitchen, text: str) -> list[str]:
    """Return the names in the last layer of what the instructions come to."""
    return sorted(kitchen.layer(kitchen.build(f"FROM busybox\n{text}\n")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COPY a.txt /x", ["x"]),
        ("COPY a.txt /d/x", ["d", "d/x"]),
        ("COPY a.txt /d/", ["d", "d/a.txt"]),
        ("COPY a.txt /etc", ["etc/a.txt"]),
        ("COPY a.txt b.txt /d/", ["d", "d/a.txt", "d/b.txt"]),
        ("COPY *.txt /d/", ["d", "d/a.txt", "d/b.txt"]),
        ("COPY s?b/[a-c].py /d/", ["d", "d/c.py"]),
        ("COPY sub /d", ["d", "d/c.py", "d/deep", "d/deep/e"]),
        ("COPY sub/ /etc/", ["etc/c.py", "etc/deep", "etc/deep/e"]),
        ("COPY /sub/../a.txt /x", ["x"]),
        ("COPY ../../a.txt /x", ["x"]),
        ("COPY link /x", ["x"]),
        ("COPY dirlink /d", ["d", "d/c.py", "d/deep", "d/deep/e"]),
        ("COPY --exclude=*.py --exclude=deep sub /d", ["d"]),
        ("COPY --exclude=**/e sub /d", ["d", "d/c.py", "d/deep"]),
        ("COPY --parents sub/deep/e a.txt /d/", ["d", "d/a.txt", "d/sub", "d/sub/deep", "d/sub/deep/e"]),
        ("COPY --parents sub/./deep/e /d/", ["d", "d/deep", "d/deep/e"]),
        ('COPY ["with blank", "/x y"]', ["x y"]),
        ("COPY <<EOF /x\nhi\nEOF", ["x"]),
        ("COPY <<a <<b /d/\n1\na\n2\nb", ["d", "d/a", "d/b"]),
        ("WORKDIR /w/v\nCOPY a.txt x", ["w/v/x"]),
        ("WORKDIR /w/v", ["w", "w/v"]),
    ],
)
def test_what_lands_where(kitchen: Kitchen, text: str, expected: list[str]) -> None:
    """Files, directories, wildcards, links, several sources, here-documents: each at its place, and nothing else."""
    for path in ("a.txt", "b.txt", "sub/c.py", "sub/deep/e", "with blank"):
        kitchen.write(path)
    os.symlink("a.txt", f"{kitchen.context}/link")
    os.symlink("sub", f"{kitchen.context}/dirlink")
    assert names(kitchen, text) == expected


def test_links_stay_links_inside_a_directory(kitchen: Kitchen) -> None:
    """A link that is not the source itself is copied as it is, wherever it leads."""
    kitchen.write("sub/a")
    os.symlink("/etc/passwd", f"{kitchen.context}/sub/out")
    layer = kitchen.layer(kitchen.build("FROM busybox\nCOPY sub /d\n"))
    assert layer["d/out"].linkname == "/etc/passwd"


def test_destination_through_links_of_the_image(kitchen: Kitchen) -> None:
    """A link of the image on the way is followed inside the image's root, and its own target is where files land."""
    kitchen.write("a")
    image = kitchen.build("FROM busybox\nRUN mkdir /real && ln -s ../../../real /etc/link\nCOPY a /etc/link/\n")
    assert list(kitchen.layer(image)) == ["real/a"]


def test_owner_and_mode(kitchen: Kitchen) -> None:
    """Files are root's with their own mode; --chown takes names of the image, --chmod octal and symbolic modes."""
    kitchen.write("run.sh", mode=0o750)
    plain = kitchen.layer(kitchen.build("FROM busybox\nCOPY run.sh /x\n"))["x"]
    assert (plain.uid, plain.gid, plain.mode) == (0, 0, 0o750)
    owned = kitchen.layer(kitchen.build("FROM busybox\nCOPY --chown=user:tty --chmod=u=rwX,go=rX . /d/\n"))
    assert {(item.uid, item.gid) for item in owned.values()} == {(1000, 5)}
    assert (owned["d/run.sh"].mode, owned["d/Dockerfile"].mode) == (0o755, 0o644)
    number = kitchen.layer(kitchen.build("FROM busybox\nCOPY --chown=7 --chmod=600 run.sh /d/x\n"))
    assert [(item.uid, item.gid, oct(item.mode)) for item in number.values()] == [(7, 7, "0o755"), (7, 7, "0o600")]
    work = kitchen.layer(kitchen.build("FROM busybox\nUSER user\nWORKDIR /home/user/app\n"))
    assert {(item.uid, item.gid) for item in work.values()} == {(1000, 1000)}


def test_a_directory_that_is_there_keeps_its_mode(kitchen: Kitchen) -> None:
    """COPY into /tmp does not make it 0755: only what is copied is in the layer."""
    kitchen.write("a")
    assert list(kitchen.layer(kitchen.build("FROM busybox\nCOPY a /tmp/\n"))) == ["tmp/a"]
    image = kitchen.build("FROM busybox\nWORKDIR /etc\n")
    assert len(image.layers) == 1
    assert image.config["history"][-1]["empty_layer"] is True


def test_times(kitchen: Kitchen) -> None:
    """A file keeps its time, which is no part of the key; SOURCE_DATE_EPOCH is the latest that any may have."""
    kitchen.write("a")
    os.utime(f"{kitchen.context}/a", (1, 1_600_000_000))
    text = "FROM busybox\nCOPY a /a\n"
    first = kitchen.build(text)
    assert kitchen.layer(first)["a"].mtime == 1_600_000_000
    os.utime(f"{kitchen.context}/a", (1, 1_650_000_000))
    assert kitchen.build(text).id == first.id
    kitchen.environment["SOURCE_DATE_EPOCH"] = "1500000000"
    image = kitchen.build(text)
    assert kitchen.layer(image)["a"].mtime == 1_500_000_000
    assert image.config["created"] == "2017-07-14T02:40:00Z"


def test_from_another_stage(kitchen: Kitchen) -> None:
    """COPY --from takes from a stage with its owners, through whiteouts and links, and from an image of the store."""
    text = (
        "FROM busybox AS build\nRUN mkdir -p /out/sub && echo 1 > /out/a && echo 2 > /out/gone && chown 12:34 /out/a\n"
        "RUN rm /out/gone && ln -s a /out/link && ln -s /out /o\nFROM scratch\nCOPY --from=build /o /\n"
        "COPY --from=busybox /etc/passwd /etc/\n"
    )
    image = kitchen.build(text)
    first = kitchen.layer(image, 0)
    assert sorted(first) == ["a", "link", "sub"]
    assert (first["a"].uid, first["a"].gid, first["link"].linkname) == (12, 34, "a")
    assert sorted(kitchen.layer(image)) == ["etc", "etc/passwd"]


def test_ignored_files_stay_out(kitchen: Kitchen) -> None:
    """.dockerignore holds for COPY; the file beside the Dockerfile goes before; a `.git` is kept as docker keeps it."""
    for path in ("a.py", "a.pyc", ".git/config", "data/keep", "data/drop"):
        kitchen.write(path)
    kitchen.write(".dockerignore", "*.pyc\ndata\n!data/keep\nDockerfile*\n.dockerignore\n")
    assert names(kitchen, "COPY . /d") == ["d", "d/.git", "d/.git/config", "d/a.py", "d/data", "d/data/keep"]
    kitchen.write("Dockerfile.dockerignore", "**\n!a.pyc\n")
    assert names(kitchen, "COPY . /d") == ["d", "d/a.pyc"]


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_add_unpacks_archives(kitchen: Kitchen, kind: str) -> None:
    """ADD puts what is in a local tar, however it is compressed; COPY puts the file."""
    with tarfile.open(f"{kitchen.context}/files", f"w:{kind}") as archive:  # type: ignore[call-overload]  # kinds are right
        for name, data in (("bin/tool", b"#!"), ("../../etc/up", b"up")):
            item = tarfile.TarInfo(name)
            item.size, item.mode, item.uid, item.mtime = len(data), 0o755, 7, 1_000_000_000
            archive.addfile(item, io.BytesIO(data))
        link = tarfile.TarInfo("bin/link")
        link.type, link.linkname = tarfile.SYMTYPE, "tool"
        archive.addfile(link)
    layer = kitchen.layer(kitchen.build("FROM busybox\nADD files /opt/\n"))
    assert sorted(layer) == ["opt", "opt/bin", "opt/bin/link", "opt/bin/tool", "opt/etc", "opt/etc/up"]
    tool = layer["opt/bin/tool"]
    assert (tool.mode, tool.uid, tool.mtime, layer["opt/bin/link"].linkname) == (0o755, 7, 1_000_000_000, "tool")
    assert names(kitchen, "COPY files /opt/") == ["opt", "opt/files"]
    assert names(kitchen, "ADD --unpack=false files /opt/") == ["opt", "opt/files"]
    kitchen.write("text", "no archive at all\n" * 100)
    assert names(kitchen, "ADD text /opt/") == ["opt", "opt/text"]


@pytest.mark.parametrize(
    ("text", "error", "complaint", "hint"),
    [
        ("COPY requirments.txt /x", NotFound, "is not in the build context", "did you mean `requirements.txt`?"),
        ("COPY sub/missing /x", NotFound, "is not in the build context", "paths are relative to the build context"),
        ("COPY ../outside /x", NotFound, "is not in the build context", "COPY cannot leave the build context"),
        ("COPY secret.pyc /x", NotFound, "kept out of the build context", "its line `*.pyc` keeps it out"),
        ('COPY ["a, "b"]', InvalidArgument, "is no JSON list", 'write it like `COPY ["SOURCE", "DESTINATION"]`'),
        ("COPY sub /etc/passwd", InvalidArgument, "is there already and is no directory", ""),
        ("COPY trap /", InvalidArgument, "is a directory, which a file cannot replace", ""),
        ("COPY *.txt /x", InvalidArgument, "several files match", "write `/x/`"),
        ("COPY --chown=nobody2 sub /x", InvalidArgument, "the user `nobody2` is not in", "add it before this line"),
        ("COPY --chown=user:staff sub /x", InvalidArgument, "the group `staff` is not in", "add it before this line"),
        ("COPY --chmod=rwx sub /x", InvalidArgument, "is no mode", "write it like `--chmod=755`"),
        ("COPY whited /x", Unsupported, "means a deleted file", ""),
        ("COPY --from=127.0.0.1:1/build2 a /b", Unavailable, "cannot be reached", ""),
        ("COPY pipe /x", InvalidArgument, "is a device or pipe", "keep it out"),
        ("COPY loop /x", InvalidArgument, "go in circles", ""),
    ],
)
def test_mistakes(kitchen: Kitchen, text: str, error: type[SampanError], complaint: str, hint: str) -> None:
    """What cannot be copied is one error with a way out, and no image."""
    for path in ("requirements.txt", "b.txt", "sub/a", "secret.pyc", "trap/etc", "whited/.wh.x"):
        kitchen.write(path)
    kitchen.write(".dockerignore", "*.pyc\n")
    os.symlink("loop", f"{kitchen.context}/loop")
    os.mkfifo(f"{kitchen.context}/pipe")
    with pytest.raises(error, match=complaint) as caught:
        kitchen.build(f"FROM busybox\n{text}\n", tag="never")
    assert any(told.startswith(hint) for told in caught.value.hints) or not hint
    assert kitchen.leftovers() == []


def test_pattern_that_matches_nothing(kitchen: Kitchen) -> None:
    """A wildcard that matches nothing is told, and copies nothing."""
    image = kitchen.build("FROM busybox\nCOPY nothing* /x/\n")
    assert len(image.layers) == 1
    assert kitchen.warned() == ["its pattern matches no file"]
