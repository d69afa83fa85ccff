"""What the stories stand on: the engine's busybox and store, and one store for a session of which stories read images.

A story that takes `shared` finds the images of earlier ones there. It leaves no container, network or volume in it:
the fixture looks.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sampan.settings.configuration import Settings
from tests.engine.conftest import Store, busybox, store
from tests.plugin.ground import Command, command_in, settle, take_bridges_down

__all__ = ["busybox", "store"]

_NETWORKS = ("bridge", "host", "none")

APP = """\
from flask import Flask

app = Flask(__name__)

@app.route('/')
def hello_world():
    return 'Hello, Docker!'

if __name__ == '__main__':
    app.run(debug=True, host='0.0.0.0', port=5000)
"""
DOCKERFILE = """\
# 使用官方 Python 镜像作为基础镜像
FROM python:3.11-slim

# 设置工作目录
WORKDIR /app

# 复制项目文件到工作目录
COPY . /app

# 安装项目依赖
RUN pip install -r requirements.txt

# 暴露端口
EXPOSE 5000

# 启动应用
CMD ["python", "app.py"]
"""


@pytest.fixture(scope="session")
def lasting() -> Iterator[dict[str, str]]:
    """Yield the environment of the session's store."""
    where = tempfile.mkdtemp(prefix="sp-", dir="/tmp")
    yield settle(where)
    shutil.rmtree(where, ignore_errors=True)


@pytest.fixture
def shared(lasting: dict[str, str]) -> Iterator[Command]:
    """Yield `sampan` on the session's store, which has images alone before and after."""
    command = command_in(lasting)
    yield command
    store = Store(Settings(lasting, os.geteuid()))
    # A monitor that has just left is folded by a command.
    left = _in(store) and (store.left(command) or _in(store))
    if left:  # the next story shall not stumble over it
        for kind, forced in (("container", ["-f"]), ("volume", []), ("network", [])):
            words = ("-a",) if kind == "container" else ("--filter", "type=custom") if kind == "network" else ()
            if found := command(kind, "ls", "-q", *words).stdout.split():
                command(kind, "rm", *forced, *found)
    take_bridges_down(store.root)
    assert left == []


def _in(store: Store) -> list[str]:
    """Name what is in a store beside images and the networks that every store has."""
    left = [f"network {name}" for (name,) in store.rows("SELECT name FROM networks") if name not in _NETWORKS]
    for directory in ("cache/scratch", "blobs/partial"):
        if os.path.isdir(f"{store.root}/{directory}"):
            left += [f"{directory}/{name}" for name in os.listdir(f"{store.root}/{directory}")]
    return left + store.now()


@pytest.fixture
def images(lasting: dict[str, str]) -> Callable[[], set[str]]:
    """Return `images()`: the ids of what is in the session's store, with or without a name."""
    store = Store(Settings(lasting, os.geteuid()))
    return lambda: {str(id) for (id,) in store.rows("SELECT id FROM images")}


@pytest.fixture(scope="session")
def shared_busybox(lasting: dict[str, str], busybox_tar: str) -> str:
    """Have busybox in the session's store."""
    command_in(lasting)("import", busybox_tar, "busybox", check=True)
    return "busybox"


@pytest.fixture(scope="session")
def python_image(lasting: dict[str, str]) -> str:
    """Have Debian's Python 3.11 in the session's store, under the name of the official image."""
    command_in(lasting)("bootstrap", "python:3.11-slim", check=True, timeout=400)
    return "python:3.11-slim"


@pytest.fixture(scope="session")
def mysql_image(lasting: dict[str, str]) -> str:
    """Have the MySQL of Debian in the session's store, under the name of the official image."""
    command_in(lasting)("bootstrap", "mysql:8.0", check=True, timeout=400)
    return "mysql:8.0"


@pytest.fixture(scope="session")
def article_image(lasting: dict[str, str], python_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Have the article's application in the session's store, built by its Dockerfile."""
    assert f"FROM {python_image}\n" in DOCKERFILE
    project = tmp_path_factory.mktemp("my_python_project")
    write_project(project)
    command_in(lasting)("build", "-t", "my_python_app", ".", cwd=project, check=True, timeout=300)
    return "my_python_app"


def write_project(directory: Path) -> None:
    """Write the article's three files, with its three slips mended."""
    for name, text in (("app.py", APP), ("requirements.txt", "Flask\n"), ("Dockerfile", DOCKERFILE)):
        (directory / name).write_text(text, encoding="utf-8")


def refused(done: CompletedProcess[str], status: int, *words: str) -> None:
    """Fail unless a command ended with this status and one error, with a way out, that has these words."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert [line[:7] for line in done.stderr.splitlines()].count("error: ") == 1, done.stderr
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
