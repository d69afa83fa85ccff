"""The Dockerfiles that both engines build, the context they take from, and the mistakes that neither takes."""

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

B = "FROM busybox\n"


@dataclass(frozen=True)
class Dish:
    """A Dockerfile with the flags of `build`, more files for the context, and a parent to build first."""

    text: str
    flags: tuple[str, ...] = ()
    ignore: str = ""
    parent: str = ""


def lay_table(context: Path) -> None:
    """Write the context: files, links, modes, owners and archives."""
    for name in ("a.txt", "b.txt", "c.md", "dir/x.txt", "dir/sub/y.txt", "dir/sub/z.md", "with space.txt", ".hidden",
                 "[1].txt", "other/deep/er/w.txt"):  # fmt: skip
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n", encoding="utf-8")
    (context / "empty").mkdir()
    (context / "script.sh").write_text("#!/bin/sh\necho aboard\n", encoding="ascii")
    modes = {"script.sh": 0o755, "b.txt": 0o600, "dir/sub": 0o750, "empty": 0o1777, "c.md": 0o4755, "dir": 0o2755}
    for name, mode in modes.items():
        (context / name).chmod(mode)
    for name, target in {"link": "a.txt", "dirlink": "dir", "dir/up": "../a.txt"}.items():
        (context / name).symlink_to(target)
    for name in ("a.txt", "dir", "dir/x.txt"):
        os.chown(context / name, 1234, 4321)
    # An owner may not be set after a mode: the kernel takes setgid away.
    (context / "dir").chmod(0o2755)
    with tarfile.open(context / "plain.tar", "w") as archive:
        _fill(archive)
    with tarfile.open(context / "packed.tar.gz", "w:gz") as archive:
        _fill(archive)
    (context / "not.tar").write_text("no archive\n", encoding="ascii")


def _fill(archive: tarfile.TarFile) -> None:
    for name, kind, mode, target in (
        ("t", tarfile.DIRTYPE, 0o700, ""), ("t/file", tarfile.REGTYPE, 0o4711, ""), ("t/hard", tarfile.LNKTYPE, 0o4711,
        "t/file"), ("t/soft", tarfile.SYMTYPE, 0o777, "file"), ("etc/added", tarfile.REGTYPE, 0o640, ""),
    ):  # fmt: skip
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.linkname, member.uid, member.gid = kind, mode, target, 1000, 2000
        archive.addfile(member, io.BytesIO())


def _read(text: str) -> Iterator[tuple[str, Dish]]:
    """Yield the dishes of dishes.txt by name."""
    for part in text.split("\n==== ")[1:]:
        name, _, rest = part.partition("\n")
        whole, *more = rest.rstrip("\n").split("\n---- ")
        found = dict(piece.split("\n", 1) for piece in more)
        flags = tuple(found.get("flags", "").split())
        yield name, Dish(whole, flags, ignore=found.get("ignore", ""), parent=found.get("parent", ""))


# What an editor would spoil stands here, all else in dishes.txt.
DISHES = dict(_read(Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"))) | {
    "command that is no json": Dish(B + """ENTRYPOINT ['single', "quotes"]\nCMD [ "a" , "b\\n" ] """),
    "crlf and tabs": Dish('FROM busybox\r\n\tENV\ta=b\t \r\nRUN echo x \\\r\n  y > /1\r\n\r\n# c\r\nCMD\t[ "a" ]\r\n'),
    "byte order mark": Dish("\ufeffFROM busybox\nENV a=\u00e9\u6f22\nLABEL \u00e9=\u00e8\nRUN echo \u6f22 > /\u6f22"),
}

# Neither engine takes these: the exit status is not 0, and there is no image.
MISTAKES = {
    "unknown instruction": B + "RUNN x",
    "unknown flag": B + "COPY --nonsense a.txt /",
    "no from": "RUN true",
    "empty": "",
    "only comments": "# nothing\n",
    "arg only": "ARG a=b\n",
    "copy without destination": B + "COPY a.txt",
    "copy what is not there": B + "COPY missing /",
    "copy out of the context": B + "COPY ../../etc/passwd /x",
    "copy of what is ignored": B + "COPY ignored.txt /",
    "copy from itself": "FROM busybox AS me\nCOPY --from=me /etc /x",
    "copy from a number too high": B + "COPY --from=3 /etc /x",
    "copy chmod of nonsense": B + "COPY --chmod=rwx9 a.txt /",
    "copy a directory over a file": B + "COPY dir /etc/passwd",
    "run fails": B + "RUN exit 3",
    "run of nothing": B + "RUN []",
    "json of numbers": B + 'ENTRYPOINT ["a", 5]',
    "copy a link to nothing": B + "COPY dangling /d/",
    "run fails at once": B + 'RUN ["/nothing"]',
    "run as a stranger": B + "USER stranger\nRUN true",
    "unset required argument": B + "ARG a\nENV b=${a:?needed}",
    "bad substitution": B + "ENV a=${b",
    "bad modifier": B + "ENV a=${b:x}",
    "env without a value": B + "ENV a",
    "env without a name": B + "ENV =a",
    "label without a value": B + "LABEL a",
    "expose a word": B + "EXPOSE web",
    "expose too high": B + "EXPOSE 70000",
    "expose backwards": B + "EXPOSE 90-80",
    "stopsignal of nonsense": B + "STOPSIGNAL NONSENSE",
    "healthcheck of nonsense": B + "HEALTHCHECK TRY true",
    "healthcheck interval": B + "HEALTHCHECK --interval=soon CMD true",
    "healthcheck without a command": B + "HEALTHCHECK CMD",
    "healthcheck none with words": B + "HEALTHCHECK NONE x",
    "onbuild onbuild": B + "ONBUILD ONBUILD RUN true",
    "onbuild from": B + "ONBUILD FROM x",
    "shell without json": B + "SHELL /bin/sh",
    "heredoc without an end": B + "RUN <<EOF\necho",
    "stage name of nonsense": "FROM busybox AS 1a\n",
    "from with nonsense": "FROM busybox IS a\n",
    "from a bad name": "FROM Busy:Box:\n",
    "from an unset argument": "FROM $nothing\n",
    "workdir without a path": B + "WORKDIR",
    "volume of an empty name": B + 'VOLUME [""]',
    "user without a name": B + "USER",
    "cmd is fine, entrypoint is not known": B + "ENTRYPOINTS x",
    "arg without a name": B + "ARG",
    "arg of nonsense": B + "ARG =x",
    "bad mount": B + "RUN --mount=type=nonsense,target=/x true",
    "mount without a target": B + "RUN --mount=type=bind true",
    "bad escape": "# escape=x\n" + B,
    "a platform of nonsense": "FROM --platform=a/b/c/d/e busybox\n",
    "maintainer without a name": B + "MAINTAINER",
    "a secret that is required": B + "RUN --mount=type=secret,id=none,required true",
    "add to a relative nowhere": B + "ADD",
    "copy with broken json": B + 'COPY ["a.txt", /]',
}
