"""Where Sampan keeps its state, and what a configuration file may say."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.settings import configuration
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


def test_root_and_a_normal_user_have_their_places() -> None:
    """The system's directories for root, XDG's for everybody else."""
    system = Settings({"HOME": "/root", "SAMPAN_CONFIG": "/nowhere"}, 0)
    assert (system.root, system.run) == ("/var/lib/sampan", "/run/sampan")
    user = Settings({"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7", "XDG_DATA_HOME": ""}, 7)
    assert (user.root, user.run) == ("/home/u/.local/share/sampan", "/run/user/7/sampan")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """Environment first, then config.toml, then defaults."""
    file = tmp_path / "config.toml"
    file.write_text('userns = "host"\nidmap = "shift"\n[bootstrap]\nmirror = "file:///mirror"\n')
    settings = Settings({"SAMPAN_CONFIG": str(file), "SAMPAN_IDMAP": "idmap"}, 0)
    assert (settings.userns, settings.idmap, settings.runtime) == ("host", "idmap", "sampan")
    assert settings.debian_mirror == "file:///mirror"


def test_an_unknown_key_suggests_the_nearest(tmp_path: Path) -> None:
    """A typo in the configuration is an error with the file's name and the key that was meant."""
    file = tmp_path / "config.toml"
    file.write_text('usernss = "host"\n')
    with pytest.raises(InvalidArgument) as caught:
        Settings({"SAMPAN_CONFIG": str(file)}, 0)
    assert caught.value.hints == ("did you mean `userns`?",)
    assert caught.value.at is not None
    assert caught.value.at.path == str(file)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    """A broken file is never half-read."""
    file = tmp_path / "config.toml"
    file.write_text("= 1")
    with pytest.raises(InvalidArgument, match="not TOML"):
        Settings({"SAMPAN_CONFIG": str(file)}, 0)


def test_every_key_is_in_the_reference() -> None:
    """docs/reference/configuration.md has a row for each key of the file."""
    with open("docs/reference/configuration.md", encoding="utf-8") as file:
        text = file.read()
    assert [key for key in configuration.KEYS if f"| `{key}` |" not in text] == []
