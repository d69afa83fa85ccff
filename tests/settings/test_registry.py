"""What a configuration file may say of registries."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


def read(tmp_path: Path, text: str) -> Settings:
    """Return the settings of a configuration file with this text."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    return Settings({"SAMPAN_CONFIG": str(file)}, 0)


def test_mirrors_and_insecure(tmp_path: Path) -> None:
    """Both keys are read, beside the others of the file."""
    text = (
        'userns = "host"\n[registry."docker.io"]\nmirrors = ["https://m:1", "n/p"]\n[registry.lan]\ninsecure = true\n'
    )
    settings = read(tmp_path, text)
    assert settings.userns == "host"
    assert settings.registries["docker.io"].mirrors == ("https://m:1", "n/p")
    assert not settings.registries["docker.io"].insecure
    assert settings.registries["lan"].insecure


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("registry = 1", "`registry` is no table", ""),
        ('registry."docker.io" = "x"', "`registry.docker.io` in the configuration is no table", "mirrors ="),
        ('[registry."docker.io"]\nmirrorz = []', "mirrorz` is unknown", "did you mean `mirrors`?"),
        ('[registry."docker.io"]\nmirrors = "https://m"', "mirrors`", "write a list"),
        ('[registry."docker.io"]\nmirrors = ["ftp://m"]', "mirrors`", "write a list"),
        ('[registry."docker.io"]\nmirrors = ["https://me:secret@m"]', "mirrors`", "`sampan login`"),
        ('[registry."docker.io"]\nmirrors = ["https://m/../x"]', "mirrors`", "write a list"),
        ('[registry."docker.io"]\nmirrors = ["https://"]', "mirrors`", "write a list"),
        ('[registry."docker.io"]\ninsecure = "yes"', "insecure`", "write `true` or `false`"),
        (f'[registry."docker.io"]\nmirrors = {["m"] * 17}', "mirrors`", "write a list"),
    ],
)
def test_what_it_may_not_say(tmp_path: Path, text: str, what: str, hint: str) -> None:
    """What is wrong is named with the file and the way out; a secret is not repeated."""
    with pytest.raises(InvalidArgument) as caught:
        read(tmp_path, text)
    assert what in caught.value.what
    assert hint in " ".join(caught.value.hints)
    assert caught.value.at is not None
    assert caught.value.at.path == str(tmp_path / "config.toml")
    assert "secret" not in caught.value.what + " ".join(caught.value.hints)
