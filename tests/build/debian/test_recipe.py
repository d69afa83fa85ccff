"""Recipes: every one that is shipped can be read, and tags mean what people mean by them."""

import subprocess
from pathlib import Path

import pytest

from sampan.build.debian import recipe
from sampan.errors import InvalidArgument, NotFound
from sampan.oci.reference import Reference

pytestmark = [pytest.mark.first]

DIRECTORY = Path(recipe.__file__).parent / "recipes"


def find(name: str) -> recipe.Recipe:
    """Return the recipe for a name."""
    return recipe.find(Reference.parse(name))


@pytest.mark.parametrize(
    ("name", "suites", "version"),
    [
        ("python:3.9-slim", ["bullseye"], "3.9"),
        ("python:3.9", ["bullseye"], "3.9"),
        ("docker.io/library/python:3.11-slim-bookworm", ["bookworm"], "3.11"),
        ("python:3.13-trixie", ["trixie"], "3.13"),
        ("python", ["trixie"], "3.13"),
        ("python:slim", ["trixie"], "3.13"),
        ("debian:bullseye-slim", ["bullseye"], "bullseye"),
        ("debian:12", ["bookworm"], "12"),
        ("debian:stable-slim", ["trixie"], "trixie"),
        ("debian", ["trixie"], "trixie"),
        ("mysql:8.0", ["sid", "trixie", "bookworm"], "8.0"),
        ("redis:7-alpine", ["trixie", "bookworm"], "7"),
        ("nginx", ["trixie", "bookworm"], "latest"),
        ("nginx:1.22-bookworm", ["bookworm"], "1.22"),
    ],
)
def test_tags(name: str, suites: list[str], version: str) -> None:
    """Version, flavour and release are read from a tag."""
    found = find(name)
    assert [release.suite for release in found.releases] == suites
    assert found.version == version


def test_flavours() -> None:
    """Without `slim` there is a compiler, and documentation in Debian's own image."""
    assert "build-essential" in find("python:3.11").packages
    assert "python3.11-dev" in find("python:3.11").packages
    assert find("python:3.11-slim").packages == ()
    assert [find(name).has_documents for name in ("debian:bookworm", "debian:bookworm-slim")] == [True, False]


@pytest.mark.parametrize("name", ["python:3.10-slim", "python:3.12", "python:3.11-alpine", "python:3.9-slim-bookworm"])
def test_what_no_release_has_needs_a_registry(name: str) -> None:
    """A Python that no release of Debian has is an error that says which there are, and where the real one is."""
    with pytest.raises(InvalidArgument, match=f"`{name}` needs an image from a registry") as caught:
        find(name)
    assert any("3.9 (bullseye), 3.11 (bookworm), 3.13 (trixie)" in hint for hint in caught.value.hints)


def test_unknown_names() -> None:
    """What there is no recipe for is NotFound, with what was perhaps meant; no other registry's names are taken."""
    with pytest.raises(NotFound, match="no recipe for a stand-in of `pyton:3`") as caught:
        find("pyton:3")
    assert "did you mean `python`?" in caught.value.hints
    with pytest.raises(NotFound):
        find("ghcr.io/library/python:3.9")


def test_another_flavour_is_said_aloud() -> None:
    """A tag that promises Alpine gets Debian with a warning; so does another version or server, when it is known."""
    assert find("redis:alpine").warnings == ("Debian is inside, where the tag says `alpine`",)
    mysql = find("mysql:8.0")
    assert [mysql.is_other(release, "9.7.4") for release in mysql.releases] == [True, True, True]
    assert not mysql.is_other(mysql.releases[0], "8.0.36")
    assert not find("redis:8").is_other(find("redis:8").releases[0], "8.0.2")
    assert find("redis:8").is_other(find("redis:8").releases[0], "80.1")
    assert not find("redis").is_other(find("redis").releases[0], "8.0.2")


def test_every_recipe_is_whole() -> None:
    """Each has a release, packages, a config with a command; each file that it names is there, each script parses."""
    assert recipe.names() == ["debian", "mysql", "nginx", "python", "redis"]
    for name in recipe.names():
        found = find(name)
        assert found.releases
        assert found.config["Cmd"]
        assert any(word.startswith("PATH=") for word in found.config["Env"])
    for path in DIRECTORY.glob("*.sh"):
        shell = "bash" if path.read_text(encoding="utf-8").startswith("#!/bin/bash") else "sh"
        subprocess.run([shell, "-n", path], check=True)


def test_the_config_is_filled_in() -> None:
    """`{…}` in lists is replaced, and nothing else is touched."""
    config = {"Env": ["A={main_version}", "B={other}"], "Volumes": {"/{main_version}": {}}}
    assert recipe.fill(config, {"main_version": "1.2"}) == {
        "Env": ["A=1.2", "B={other}"], "Volumes": {"/{main_version}": {}},
    }  # fmt: skip
