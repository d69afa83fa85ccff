"""docker's own configuration file."""

import json
import os
import stat
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.settings import docker
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


def test_where_it_is() -> None:
    """DOCKER_CONFIG is a directory; else it lies in the person's home."""
    assert Settings({"HOME": "/home/u"}, 7).docker_file == "/home/u/.docker/config.json"
    assert Settings({"HOME": "/home/u", "DOCKER_CONFIG": "/d"}, 7).docker_file == "/d/config.json"


def test_a_change_keeps_the_rest(tmp_path: Path) -> None:
    """What others wrote stays, the file is the owner's alone, a link stays a link, nothing else is left."""
    real, link = tmp_path / "real" / "config.json", tmp_path / "config.json"
    real.parent.mkdir()
    real.write_text('{"psFormat": "x", "auths": {"a": {}}}')
    link.symlink_to(real)
    docker.change(str(link), lambda found: found["auths"].update(b={}))
    assert json.loads(real.read_text()) == {"psFormat": "x", "auths": {"a": {}, "b": {}}}
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert os.listdir(real.parent) == ["config.json"]


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    """An error on the way leaves the file as it was, and nothing beside it."""
    path = tmp_path / "config.json"
    path.write_text("{}")
    with pytest.raises(TypeError):
        docker.change(str(path), lambda found: found.update(x=object()))
    assert path.read_text() == "{}"
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("text", ['{"auths": {"x": {"auth": "c2VjcmV0', "[]", "[" * 100_000])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    """Broken JSON is named with its file, and none of its text, which may be a secret."""
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        docker.read(str(path))
    assert caught.value.at is not None
    assert caught.value.at.path == str(path)
    assert caught.value.__cause__ is None
    assert "c2VjcmV0" not in caught.value.what
