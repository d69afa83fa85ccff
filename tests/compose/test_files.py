"""Which files a project is read from, with the real command: names, overrides, variables, stdin, directories."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.first]

Config = Callable[..., dict[str, dict[str, dict[str, str]]]]
SAMPAN = os.path.join(os.path.dirname(sys.executable), "sampan")
ONE = "services: {web: {image: 'x:${TAG:-none}'}}\n"


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return `run(*words, feed, cwd, **variables)`: sampan compose in tmp_path."""

    def command(
        *words: str, feed: str = "", cwd: Path = tmp_path, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SAMPAN, "compose", *words], cwd=cwd, env=environment | variables, input=feed, text=True,
            capture_output=True, check=False,
        )  # fmt: skip

    return command


@pytest.fixture
def image(run: Callable[..., "subprocess.CompletedProcess[str]"]) -> Callable[..., str]:
    """Return `image(*words, …)`: the image that the project's service `web` has, as it was understood."""

    def command(*words: str, feed: str = "", **more: str) -> str:
        done = run(*words, "config", "--format", "json", feed=feed, **more)
        assert done.returncode == 0, done.stderr
        found: str = json.loads(done.stdout)["services"]["web"]["image"]
        return found

    return command


def test_names_in_their_order(tmp_path: Path, image: Callable[..., str]) -> None:
    """compose.yaml goes before docker-compose.yml, and a directory above is looked into."""
    (tmp_path / "docker-compose.yml").write_text(ONE.replace("x:", "docker:"))
    assert image() == "docker:none"
    (tmp_path / "compose.yaml").write_text(ONE)
    assert image() == "x:none"
    (tmp_path / "compose.override.yaml").write_text("services: {web: {image: over}}\n")
    assert image() == "over"


def test_a_directory_below(tmp_path: Path, run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """From below the nearest file above is found, and it names the project."""
    (tmp_path / "shop" / "deep").mkdir(parents=True)
    (tmp_path / "shop" / "compose.yaml").write_text(ONE)
    done = run("config", cwd=tmp_path / "shop" / "deep")
    assert done.stdout.startswith("name: shop\n")


def test_several_files_stdin_and_variables(tmp_path: Path, image: Callable[..., str]) -> None:
    """-f adds files, `-` is stdin, COMPOSE_FILE names them too; the shell wins over .env and --env-file replaces it."""
    (tmp_path / "a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text("services: {web: {image: 'y:${TAG}'}}\n")
    (tmp_path / ".env").write_text("TAG=file\n")
    (tmp_path / "other.env").write_text("TAG=other\n")
    assert image("-f", "a.yaml") == "x:file"
    assert image("-f", "a.yaml", "-f", "b.yaml") == "y:file"
    assert image("-f", "-", feed=ONE) == "x:file"
    assert image(COMPOSE_FILE="a.yaml:b.yaml") == "y:file"
    assert image("-f", "a.yaml", TAG="shell") == "x:shell"
    assert image("--env-file", "other.env", "-f", "a.yaml") == "x:other"
    (tmp_path / ".env").write_text("TAG=file\nCOMPOSE_FILE=b.yaml\n")
    assert image() == "y:file"


def test_a_project_in_chinese(tmp_path: Path, run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """Comments, values and a directory in Chinese are read under LANG=C."""
    directory = tmp_path / "我的项目"
    directory.mkdir()
    (directory / "compose.yaml").write_text(
        "# 网站\nservices: {web: {image: x, environment: {名字: 数据库}}}\n", encoding="utf-8"
    )
    done = run("config", cwd=directory, LANG="C", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert "名字: 数据库" in done.stdout
    assert done.stdout.startswith("name: project-")


def test_config_reads_what_it_prints(tmp_path: Path, run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """The canonical form is a fixed point, dollars and all; lists and --quiet choose."""
    text = """
        services:
          web:
            build: .
            command: echo $$HOME
            ports: ["8000-8001:80-81", "127.0.0.1::53/udp"]
            volumes: ["./a:/a:ro", "v:/v", "/anon"]
            environment: [A=b$$c, N]
            depends_on: [db]
            deploy: {resources: {limits: {cpus: '0.5', memory: 64m}}}
            healthcheck: {test: "curl -f http://localhost", interval: 5s}
          db: {image: mysql:8.0, profiles: []}
        volumes: {v: }
        """
    (tmp_path / "compose.yaml").write_text(text)
    first = run("config").stdout
    again = run("-f", "-", "config", feed=first).stdout
    assert first
    assert again == first
    assert run("config", "--services").stdout == "db\nweb\n"
    assert run("config", "--volumes").stdout == "v\n"
    assert run("config", "--images").stdout.splitlines()[0] == "mysql:8.0"
    assert run("config", "-q").stdout == ""
    assert "$HOME" in run("config", "--no-interpolate").stdout
    assert len(run("config", "--hash", "web").stdout.split()[1]) == 64


def test_no_file_is_one_error(tmp_path: Path, run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """Without a compose file there is one error, with the way out."""
    done = run("up", "-d")
    assert done.returncode == 1
    assert "there is no compose file here" in done.stderr
    assert run("-f", "none.yaml", "config").stderr.startswith("error: there is no file `none.yaml`")


def test_the_article_s_slip(tmp_path: Path, run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """`build:.` as it was printed: file, line and the correction."""
    (tmp_path / "docker-compose.yml").write_text(
        "version: '3'\nservices:\n  web:\n    build:.\n    ports:\n      - \"5000:5000\"\n"
    )
    done = run("up", "-d")
    assert done.returncode == 1
    assert "at docker-compose.yml:4" in done.stderr
    assert "hint: write `build: .`" in done.stderr
