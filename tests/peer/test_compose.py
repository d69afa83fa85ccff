"""A compose file means here what it means to docker compose: `config`, what `up` makes, and what commands return."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.peer.conftest import at_once
from tests.peer.projects import MISTAKES, PROJECTS, Files
from tests.plugin.ground import Command

if TYPE_CHECKING:
    import subprocess

_NEEDS = ("peer", "root", "userns", "overlay", "netns", "cgroup")
pytestmark = [getattr(pytest.mark, name) for name in _NEEDS]
Compose = Callable[..., "dict[str, subprocess.CompletedProcess[str]]"]

SHOP = """
name: peer-shop
services:
  web:
    image: busybox
    command: [sleep, "100"]
    ports: ["127.0.0.1::80"]
    volumes: ["data:/etc", "/anon"]
    networks: [front, back]
    labels: {mine: "1"}
    depends_on:
      db: {condition: service_healthy}
  db:
    image: busybox
    command: sh -c "touch /ready; sleep 100"
    healthcheck: {test: ["CMD", "test", "-e", "/ready"], interval: 1s, retries: 5}
    networks: [back]
  once:
    image: busybox
    command: sh -c "exit 3"
    networks: [back]
    profiles: [fail]
  waits:
    image: busybox
    networks: [back]
    depends_on:
      once: {condition: service_completed_successfully}
    profiles: [fail]
volumes: {data: {labels: {v: "1"}}}
networks: {front: {}, back: {labels: {n: "2"}}}
"""
# What differs from run to run, or says whose program it is.
OWN = ("com.docker.compose.config-hash", "com.docker.compose.image", "com.docker.compose.version")
PS = ("Name", "Names", "Image", "Service", "Project", "State", "Health", "ExitCode", "LocalVolumes")
# Exit statuses with the project up.
STATUSES = {
    "exec": ("exec", "-T", "web", "sh", "-c", "exit 7"),
    "exec of nothing": ("exec", "-T", "web", "nothing-of-this-name"),
    "exec in a service that is down": ("exec", "-T", "once", "true"),
    "exec in no service": ("exec", "-T", "nobody", "true"),
    "run": ("run", "--rm", "-T", "once"),
    "run with words": ("run", "--rm", "-T", "--no-deps", "web", "sh", "-c", "exit 5"),
    "up of what fails": ("--profile", "fail", "up", "-d", "waits"),
    "up and its status": ("--profile", "fail", "up", "--exit-code-from", "once", "once"),
    "port that is not published": ("port", "db", "80"),
    "logs of no service": ("logs", "nobody"),
    "unknown command": ("nonsense",),
}


def _write(directory: Path, files: Files) -> None:
    for name, text in {"compose.yaml": files.compose, **files.more}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("files", PROJECTS.values(), ids=PROJECTS.keys())
def test_the_same_config(files: Files, pair: dict[str, Command], tmp_path: Path) -> None:
    """`config` prints the same document."""
    _write(tmp_path, files)
    done = at_once(pair, lambda _, engine: engine("compose", *files.words, "config", cwd=tmp_path))
    for name, answer in done.items():
        assert answer.returncode == 0, f"{name}: {answer.stderr}"
    docker, ours = (yaml.safe_load(answer.stdout) for answer in done.values())
    assert ours == docker


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES.keys())
def test_the_same_mistake(text: str, pair: dict[str, Command], tmp_path: Path) -> None:
    """What one refuses the other refuses, with the same exit status."""
    _write(tmp_path, Files(text))
    done = at_once(pair, lambda _, engine: engine("compose", "config", "-q", cwd=tmp_path))
    assert done["docker"].returncode, "docker takes it"
    assert done["sampan"].returncode == done["docker"].returncode, done["sampan"].stderr


@pytest.fixture(scope="module")
def shop(pair: dict[str, Command], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Yield `shop(*words)`: the answers of both composes, in a project that is up."""
    directory = tmp_path_factory.mktemp("shop")
    _write(directory, Files(SHOP))

    def compose(*words: str) -> "dict[str, subprocess.CompletedProcess[str]]":
        return at_once(pair, lambda _, engine: engine("compose", *words, cwd=directory))

    try:
        for name, answer in compose("up", "-d").items():
            assert answer.returncode == 0, f"{name}: {answer.stderr}"
        yield compose
        for name, answer in compose("--profile", "*", "down", "-v", "-t", "1").items():
            assert answer.returncode == 0, f"{name}: {answer.stderr}"
        for name, engine in pair.items():
            for words in (("ps", "-a"), ("network", "ls"), ("volume", "ls")):
                assert "peer-shop" not in engine(*words).stdout, f"{name} {words}"
    finally:
        compose("--profile", "*", "down", "-v", "-t", "1")


def test_ps(shop: Compose) -> None:
    """The fields of `ps --format json` that scripts read are the same."""
    rows = {name: [json.loads(line) for line in answer.stdout.splitlines()] for name, answer in
            shop("ps", "--format", "json").items()}  # fmt: skip
    told = {
        name: sorted(
            [
                {key: row[key] for key in PS}
                | {"Networks": set(row["Networks"].split(","))}
                | {"Publishers": [_port(one) for one in row["Publishers"]]}
                for row in found
            ],
            key=lambda row: row["Name"],
        )
        for name, found in rows.items()
    }
    assert told["sampan"] == told["docker"]
    assert shop("ps", "--services")["sampan"].stdout.split() == shop("ps", "--services")["docker"].stdout.split()


def _port(published: dict[str, Any]) -> dict[str, Any]:
    return {key: value if key != "PublishedPort" else bool(value) for key, value in published.items()}


@pytest.mark.parametrize("name", ["peer-shop-web-1", "peer-shop-db-1"])
def test_labels_of_containers(name: str, shop: Compose, pair: dict[str, Command]) -> None:
    """A container has docker compose's labels, and is on the networks with the service's name as an alias."""
    del shop
    found = {}
    for engine, command in pair.items():
        document = json.loads(command("inspect", name).stdout)[0]
        labels = {key: value for key, value in document["Config"]["Labels"].items() if key not in OWN}
        aliases = {key: name.split("-")[2] in told["Aliases"] for key, told in
                   document["NetworkSettings"]["Networks"].items()}  # fmt: skip
        mounts = sorted((told["Type"], told["Destination"]) for told in document["Mounts"])
        found[engine] = (labels, aliases, mounts, document["Config"]["Cmd"])
    assert found["sampan"] == found["docker"]


@pytest.mark.parametrize(
    "words", [("network", "peer-shop_back"), ("network", "peer-shop_front"), ("volume", "peer-shop_data")]
)
def test_labels_of_networks_and_volumes(words: tuple[str, str], shop: Compose, pair: dict[str, Command]) -> None:
    """Networks and volumes have docker compose's labels."""
    del shop
    found = {}
    for engine, command in pair.items():
        labels = json.loads(command(words[0], "inspect", words[1]).stdout)[0]["Labels"]
        found[engine] = {key: value for key, value in labels.items() if key not in OWN}
    assert found["sampan"] == found["docker"]


def test_a_new_volume_has_what_the_image_has_there(shop: Compose) -> None:
    """A named volume over a directory of the image begins as a copy of it."""
    done = shop("exec", "-T", "web", "cat", "/etc/group")
    assert done["sampan"].stdout == done["docker"].stdout != ""


def test_listings(shop: Compose) -> None:
    """`ls` and `images` print JSON lists with the same keys."""
    listed = {name: json.loads(answer.stdout) for name, answer in shop("ls", "--format", "json").items()}
    assert [row for row in listed["sampan"] if row["Name"] == "peer-shop"] == listed["docker"]
    images = {name: json.loads(answer.stdout) for name, answer in shop("images", "--format", "json").items()}
    keys = ("ContainerName", "Repository", "Tag")
    told = {name: sorted(tuple(row[key] for key in keys) for row in found) for name, found in images.items()}
    assert told["sampan"] == told["docker"]


@pytest.mark.parametrize("words", STATUSES.values(), ids=STATUSES.keys())
def test_the_same_status(words: tuple[str, ...], shop: Compose) -> None:
    """Commands that fail do so with the same exit status."""
    done = shop(*words)
    told = "\n".join(f"{name}: {answer.returncode} {answer.stderr}" for name, answer in done.items())
    assert done["sampan"].returncode == done["docker"].returncode != 0, told
