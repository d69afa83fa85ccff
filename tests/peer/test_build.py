"""A Dockerfile means here what it means to BuildKit: each is built by both, and the images are compared whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peer import flat
from tests.peer.conftest import Peer, at_once
from tests.peer.dishes import DISHES, MISTAKES, Dish, lay_table
from tests.plugin.ground import Command

_NEEDS = ("peer", "root", "userns", "overlay", "netns", "cgroup")
pytestmark = [getattr(pytest.mark, name) for name in _NEEDS]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, peer: Peer) -> Iterator[Path]:
    """Yield the directory that all take their files from; take away what docker made of them."""
    directory = tmp_path_factory.mktemp("context")
    lay_table(directory)
    yield directory
    peer("docker", "rmi", "-f", "peer-made", "peer-parent")
    peer("docker", "image", "prune", "-f")


@pytest.mark.parametrize("dish", DISHES.values(), ids=DISHES.keys())
def test_the_same_image(dish: Dish, pair: dict[str, Command], context: Path, place: str) -> None:
    """Config, history and every path of the root file system are the same."""
    _ignore(context, dish.ignore)
    files = {"peer-parent": (dish.parent, ()), "peer-made": (dish.text, dish.flags)}
    for tag, (text, _) in files.items():
        Path(place, tag).write_text(text, encoding="utf-8", newline="")

    def make(name: str, engine: Command) -> flat.Flat:
        for tag, (text, flags) in files.items():
            if text:
                built = engine("build", "-q", "-t", tag, "-f", f"{place}/{tag}", *flags, str(context))
                assert built.returncode == 0, f"{name}: {built.stderr}"
        saved = engine("save", "-o", f"{place}/{name}.tar", "peer-made")
        assert saved.returncode == 0, f"{name}: {saved.stderr}"
        return flat.read(f"{place}/{name}.tar")

    made = at_once(pair, make)
    docker, ours = made["docker"], made["sampan"]
    assert _config(ours) == _config(docker)
    assert ours.files == docker.files
    assert _history(ours) == _history(docker)


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES.keys())
def test_the_same_mistake(text: str, pair: dict[str, Command], context: Path, place: str) -> None:
    """What one refuses the other refuses, with the same exit status."""
    _ignore(context, "ignored.txt\n")
    Path(place, "Dockerfile").write_text(text, encoding="utf-8")

    def make(name: str, engine: Command) -> tuple[int, str]:
        done = engine("build", "-q", "-f", f"{place}/Dockerfile", str(context))
        return done.returncode, f"{name}: {done.stderr}"

    (docker, why), (ours, ours_why) = at_once(pair, make).values()
    assert docker, why
    assert ours == docker, ours_why or why


def _ignore(context: Path, text: str) -> None:
    (context / ".dockerignore").unlink(missing_ok=True)
    if text:
        (context / ".dockerignore").write_text(text, encoding="utf-8")


def _config(image: flat.Flat) -> dict[str, Any]:
    """Return the config; an empty value and none at all are the same to whoever reads it."""
    # ArgsEscaped is for Windows, and out of image-spec.
    found = {key: value for key, value in image.document["config"].items() if value and key != "ArgsEscaped"}
    return found | {key: image.document[key] for key in ("architecture", "os")}


def _history(image: flat.Flat) -> list[str]:
    """Return the history without the builder's name; docker prints a HEALTHCHECK as a Go structure."""
    lines = [line.removesuffix(" # buildkit") for line in image.history()]
    return ["HEALTHCHECK" if line.startswith("HEALTHCHECK ") else line for line in lines]
