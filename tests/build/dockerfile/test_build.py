"""Whole builds on a busybox base: RUN, the cache, stages, the config, and what goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.build import builder
from sampan.database import connection
from sampan.errors import InvalidArgument, NotFound, SampanError, Unavailable
from tests.build.dockerfile.kitchen import Kitchen, config

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]

ARTICLE = """\
# 使用官方 Python 镜像作为基础镜像
FROM busybox

# 设置工作目录
WORKDIR /app

# 复制项目文件到工作目录
COPY . /app

# 安装项目依赖
RUN cat requirements.txt > /installed

# 暴露端口
EXPOSE 5000

# 启动应用
CMD ["cat", "app.py"]
"""


def test_article(kitchen: Kitchen) -> None:
    """The article's Dockerfile, with a base that is here: layers, config and history as docker has them."""
    kitchen.write("app.py", "print()")
    kitchen.write("requirements.txt", "Flask\n")
    image = kitchen.build(ARTICLE, tag="my_python_app")
    assert config(image) == {
        "Env": ["PATH=/bin"], "Cmd": ["cat", "app.py"], "WorkingDir": "/app", "ExposedPorts": {"5000/tcp": {}},
    }  # fmt: skip
    assert kitchen.content(image, "installed") == "Flask\n"
    history = [(item["created_by"], item.get("empty_layer", False)) for item in image.config["history"][1:]]
    assert history == [
        ("WORKDIR /app", False), ("COPY . /app", False), ("RUN /bin/sh -c cat requirements.txt > /installed", False),
        ("EXPOSE [5000/tcp]", True), ('CMD ["cat" "app.py"]', True),
    ]  # fmt: skip
    assert len(image.layers) == len(image.diff_ids) == 4
    assert image.names == ("docker.io/library/my_python_app:latest",)


def test_cache(kitchen: Kitchen) -> None:
    """Nothing changed: the same image id, later too. A changed file makes its COPY anew and what stands on it."""
    text = "FROM busybox\nCOPY r.txt .\nRUN cat r.txt > /made\nCOPY app.py .\n"
    text += "RUN cat app.py /proc/sys/kernel/random/uuid > /n\n"
    kitchen.write("r.txt", "1")
    kitchen.write("app.py", "1")
    first = kitchen.build(text)
    assert kitchen.made() == ["COPY", "RUN", "COPY", "RUN"]
    kitchen.now += 1000
    assert kitchen.build(text).id == first.id
    assert kitchen.made() == []
    kitchen.write("app.py", "2")
    second = kitchen.build(text)
    assert kitchen.made() == ["COPY", "RUN"]
    assert second.layers[:3] == first.layers[:3]
    assert second.config["created"] != first.config["created"]
    kitchen.write("app.py", "2", mode=0o755)
    kitchen.build(text)
    assert kitchen.made() == ["COPY", "RUN"]
    third = kitchen.build(text, no_cache=True)
    assert kitchen.made() == ["COPY", "RUN", "COPY", "RUN"]
    assert third.layers[-1] != second.layers[-1]


def test_run(kitchen: Kitchen) -> None:
    """RUN sees ENV, ARG, WORKDIR, USER, SHELL, both forms, and its output is told."""
    kitchen.build(
        "FROM busybox\nARG A=1\nENV B=2\nWORKDIR /w\nRUN echo $A $B $PWD\nUSER user\nRUN id -un\n"
        'RUN ["echo", "$A"]\nSHELL ["/bin/sh", "-ec"]\nRUN echo $0 $-\n'
    )
    assert kitchen.said()[:3] == ["1 2 /w", "user", "$A"]
    assert "e" in kitchen.said()[3]


def test_heredocs(kitchen: Kitchen) -> None:
    """A here-document is a script for the shell, a program by its first line, or the stdin of a command."""
    kitchen.build(
        'FROM busybox\nRUN <<EOF\nx=1\necho $x\nEOF\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print "awk" }\nEOF\n'
        "RUN cat <<A && cat <<B\na\nA\nb\nB\nRUN <<-T\n\techo tabs\n\tT\n"
    )
    assert kitchen.said() == ["1", "awk", "a", "b", "tabs"]


def test_what_a_step_leaves(kitchen: Kitchen) -> None:
    """A layer holds what the step changed: no resolv.conf, no place of a mount; a deleted file is a whiteout."""
    image = kitchen.build(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t --mount=type=cache,target=/var/c touch /t/x /var/c/y && "
        "rm /etc/group && ln /etc/passwd /etc/other\n"
    )
    layer = kitchen.layer(image)
    assert sorted(layer) == ["etc", "etc/.wh.group", "etc/other", "etc/passwd"] or sorted(layer) == [
        "etc/.wh.group", "etc/other", "etc/passwd",
    ]  # fmt: skip
    assert len(kitchen.build("FROM busybox\nRUN true\n").layers) == 1


def test_mounts(kitchen: Kitchen) -> None:
    """Cache, bind from context and stage, tmpfs, secret as a file and as a variable; none of it is in the image."""
    kitchen.write("r.txt", "from the context")
    kitchen.write("hidden", "no")
    kitchen.write(".dockerignore", "hidden\n")
    secrets = {"tok": b"hush", "key": b"quiet"}
    text = (
        "FROM busybox AS s\nRUN echo stage > /s\nFROM busybox\n"
        "RUN --mount=type=cache,target=/c --mount=type=bind,source=r.txt,target=/r.txt --mount=target=/all "
        "--mount=from=s,source=/s,target=/s --mount=type=secret,id=tok --mount=type=secret,id=key,env=KEY "
        "--mount=type=secret,id=gone cat /r.txt /s /run/secrets/tok; echo; echo $KEY; ls /all /run/secrets; "
        "echo $(ls /c); touch /c/{}\n"
    )
    image = kitchen.build(text.format("one"), secrets=secrets)
    assert kitchen.said() == [
        "from the contextstage", "hush", "quiet", "/all:", "Dockerfile", "r.txt", "", "/run/secrets:",
        "tok", "",
    ]  # fmt: skip
    assert len(image.layers) == 1
    assert "hush" not in json.dumps(image.config)
    assert "quiet" not in json.dumps(image.config)
    kitchen.build(text.format("two"), secrets={"tok": b"other"})
    assert kitchen.said()[-1] == "one"
    kitchen.build(text.format("two"), secrets={"tok": b"third"})
    assert kitchen.made() == []


def test_stages(kitchen: Kitchen) -> None:
    """Stages that the target does not need are not run; --target stops at one; a stage can stand on another."""
    text = (
        "FROM busybox AS a\nRUN echo a > /a\nFROM busybox AS never\nRUN false\nFROM a AS b\nRUN cat /a\nFROM b\nCMD x\n"
    )
    kitchen.build(text)
    assert kitchen.said() == ["a"]
    image = kitchen.build(text, target="a")
    assert len(image.layers) == 2
    assert kitchen.made() == []


def test_scratch(kitchen: Kitchen) -> None:
    """FROM scratch has nothing below; an image without layers is an image."""
    kitchen.write("a")
    image = kitchen.build("FROM scratch\nCOPY a /\n")
    assert list(kitchen.layer(image)) == ["a"]
    assert len(image.layers) == 1
    assert len(kitchen.build("FROM scratch\nENV A=1\n").layers) == 0


def test_onbuild(kitchen: Kitchen) -> None:
    """What a base left for its children runs in them, in their context, and not in theirs."""
    kitchen.build("FROM busybox\nONBUILD COPY a /a\nONBUILD RUN cat /a\n", tag="parent")
    kitchen.write("a", "child's")
    child = kitchen.build("FROM parent\n", tag="child")
    assert kitchen.said() == ["child's"]
    assert "OnBuild" not in config(child)
    kitchen.build("FROM child\n")
    assert kitchen.said() == []


def test_network(kitchen: Kitchen) -> None:
    """--network=none has a loopback and nothing else; proxies reach RUN and nothing that lasts."""
    kitchen.build("FROM busybox\nRUN --network=none ls /sys/class/net\n")
    assert kitchen.said() == ["lo"]
    image = kitchen.build("FROM busybox\nRUN echo $HTTP_PROXY > /p\n", arguments={"HTTP_PROXY": "http://me:pw@p"})
    assert kitchen.content(image, "p") == "http://me:pw@p\n"
    assert "pw" not in json.dumps(image.config)


def test_failing_run(kitchen: Kitchen) -> None:
    """A RUN that fails is an error at its line with the last of its output; what came before it is kept."""
    text = "FROM busybox\nRUN echo before\nRUN echo why >&2; exit 7\n"
    with pytest.raises(SampanError, match="ended with status 7") as caught:
        kitchen.build(text, tag="never")
    assert caught.value.at is not None
    assert caught.value.at.line == 3
    assert "why" in str(caught.value.__cause__)
    assert caught.value.exit_status == 1
    with pytest.raises(SampanError):
        kitchen.build(text)
    assert kitchen.made() == []
    with pytest.raises(SampanError) as missing:
        kitchen.build('FROM busybox\nRUN ["nothing-here"]\n')
    assert missing.value.exit_status == 1


def test_missing_secret(kitchen: Kitchen) -> None:
    """A required secret that was not given is named, with the flag that gives it."""
    with pytest.raises(NotFound, match="`tok` was not given") as caught:
        kitchen.build("FROM busybox\nRUN --mount=type=secret,id=tok,required x\n")
    assert caught.value.hints == ("give it: `--secret id=tok,src=FILE`",)


def test_base_that_is_not_here(kitchen: Kitchen) -> None:
    """A base that is neither in the store nor at its registry is an error at its line."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as caught:
        kitchen.build("FROM 127.0.0.1:1/x:1\n")
    assert caught.value.at is not None
    assert caught.value.at.text == "FROM 127.0.0.1:1/x:1"


def test_bad_base_name(kitchen: Kitchen) -> None:
    """A base that is no name is an error at its line."""
    with pytest.raises(InvalidArgument) as caught:
        kitchen.build("FROM Busy Box\n".replace(" B", ":B:"))
    assert caught.value.at is not None


def test_command_line(kitchen: Kitchen, sampan: Callable[..., Any]) -> None:
    """The flags of `sampan build`: a file elsewhere, stdin, arguments, labels, several names, the id in a file."""
    kitchen.write("docker/Other", "FROM busybox\nARG A\nENV A=$A\nRUN echo $A\n")
    done = sampan(
        "build", "-t", "one", "-t", "two:3", "-f", f"{kitchen.context}/docker/Other", "--build-arg", "A=b", "--label",
        "l=m", "--iidfile", f"{kitchen.place}/iid", "--progress", "plain", kitchen.context, check=True,
    )  # fmt: skip
    assert "| b\n" in done.stderr
    assert "built one:latest, two:3" in done.stderr
    [image] = json.loads(sampan("inspect", "two:3").stdout)
    assert image["RepoTags"] == ["one:latest", "two:3"]
    assert image["Config"]["Labels"] == {"l": "m"}
    with open(f"{kitchen.place}/iid", encoding="ascii") as file:
        assert file.read() == image["Id"]
    quiet = sampan("build", "-q", "-", feed="FROM busybox\nCMD x\n", check=True)
    assert quiet.stdout.startswith("sha256:")
    assert quiet.stderr == ""
    stdin = sampan("build", "-q", "-f", "-", kitchen.context, feed="FROM busybox\nCOPY docker /d\n", check=True)
    assert stdin.stdout.startswith("sha256:")
    wrong = sampan("build", "-f", "-", kitchen.context, feed="FROM busybox\nCOPY. /app\n")
    assert wrong.returncode == 1
    assert "at Dockerfile:2\n    2 | COPY. /app" in wrong.stderr
    assert "hint: did you mean `COPY . /app`?" in wrong.stderr
    kitchen.write("Dockerfil", "FROM busybox\n")
    lost = sampan("build", "--target", "x", kitchen.context)
    assert lost.returncode == 1
    assert "`--target` needs a Dockerfile" in lost.stderr


# What a build of a Dockerfile imports only when something has to be made, or is wrong.
HEAVY = (
    "sampan.build.step", "sampan.build.copier", "sampan.build.runner", "sampan.build.archive", "sampan.build.python",
    "sampan.kernel", "ctypes", "re", "json", "typing", "dataclasses", "subprocess", "socket", "shutil", "tempfile",
    "rich", "difflib", "pathlib", "enum", "logging", "argparse",
)  # fmt: skip


def program(kitchen: Kitchen, *lines: str) -> list[str]:
    """Return a command that builds the context's Dockerfile in a process of its own, then runs `lines`."""
    text = [
        "import sys, os", "sys.path.insert(0, sys.argv[1])", "from sampan.database import connection",
        "from sampan.build import builder", "from sampan.settings import configuration",
        "settings = configuration.load()", "with connection.open(settings) as database:",
        "    builder.build(settings, database, sys.argv[2], no_cache=len(sys.argv) > 3)", *lines,
    ]  # fmt: skip
    package = str(Path(builder.__file__).parents[2])
    return [sys.executable, "-I", "-S", "-c", "\n".join(text), package, kitchen.context]


def test_a_rebuild_imports_little(kitchen: Kitchen) -> None:
    """Where nothing changed, nothing is imported that makes, runs or unpacks, nor any heavy library."""
    kitchen.build('FROM busybox\nWORKDIR /app\nCOPY . .\nRUN --mount=type=cache,target=/c echo\nCMD ["x"]\n')
    told = f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(program(kitchen, told), env=kitchen.environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(kitchen: Kitchen, number: signal.Signals) -> None:
    """A build that is interrupted or killed in a RUN leaves nothing half-done; the next comes to the same image."""
    kitchen.write("a")
    text = "FROM busybox\nCOPY a /a\nRUN echo x > /x; sleep 2\n"
    first = kitchen.build(text)
    with subprocess.Popen([*program(kitchen), "again"], env=kitchen.environment, stderr=subprocess.DEVNULL) as running:
        time.sleep(1.2)
        running.send_signal(number)
        running.wait(10)
    assert kitchen.build(text, no_cache=True).diff_ids[:2] == first.diff_ids[:2]
    with connection.open(kitchen.settings) as database:
        assert list(database.execute("SELECT kind FROM leases")) == []
        assert list(database.execute("SELECT container_id FROM ranges")) == []
    assert kitchen.leftovers() == []


def test_run_path_publishes_the_exposed_port(kitchen: Kitchen, sampan: Callable[..., Any]) -> None:
    """`sampan run PATH` builds the Dockerfile there and publishes the port that it exposes, on this machine only."""
    kitchen.write("Dockerfile", 'FROM busybox\nEXPOSE 8765\nCMD ["httpd", "-f", "-p", "8765"]\n')
    done = sampan("run", "-d", "--name", "web", kitchen.context, check=True)
    try:
        assert "running at http://127.0.0.1:8765" in done.stderr
    finally:
        sampan("rm", "-f", "web", check=True)


def test_names_that_are_not_ascii(kitchen: Kitchen, sampan: Callable[..., Any]) -> None:
    """A directory with a Chinese name, Chinese comments and file names, under LANG=C."""
    where = f"{kitchen.place}/项目"
    os.mkdir(where)
    with open(f"{where}/Dockerfile", "w", encoding="utf-8") as file:
        file.write("# 注释\nFROM busybox\nCOPY 文件 /文件\nRUN cat /文件\n")
    with open(f"{where}/文件", "w", encoding="utf-8") as file:
        file.write("内容\n")
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "sampan"), "build", "--progress", "plain", where],
        env={**kitchen.environment, "LANG": "C", "LC_ALL": "C"}, capture_output=True, check=True,
    )  # fmt: skip
    assert "| 内容" in done.stderr.decode()
