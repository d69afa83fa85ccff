"""The Python index: pip's settings in uv's words, and uv's own before them."""

import os

import pytest

from sampan.settings import index
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


@pytest.fixture
def person(place: str) -> dict[str, str]:
    """Return the environment of a person who has set nothing."""
    return {"HOME": place, "XDG_CONFIG_DIRS": f"{place}/xdg", "PATH": "/usr/bin", "SAMPAN_CONFIG": f"{place}/none"}


def load(environment: dict[str, str], project: str = "/nonexistent") -> index.Index:
    """Return the index settings in `environment`."""
    return index.load(Settings(environment, 0), project, "/cache")


def write(path: str, text: str) -> None:
    """Write one settings file."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def test_pip_settings(person: dict[str, str]) -> None:
    """pip.conf is translated: later files win, a command's section wins over [global], several values are all taken."""
    home = person["HOME"]
    write(f"{home}/xdg/pip/pip.conf", "[global]\nindex-url = https://a.example.org\nconstraint = /c.txt\n")
    write(
        f"{home}/.config/pip/pip.conf",
        "[global]\nindex-url = https://b.example.org\n[install]\nfind_links = /w1\n  /w2\n",
    )
    found = load(person)
    assert found.environment["UV_DEFAULT_INDEX"] == "https://b.example.org"
    assert found.environment["UV_FIND_LINKS"] == "/w1,/w2"
    assert found.constraints == ("/c.txt",)
    extra = load(
        person
        | {
            "PIP_EXTRA_INDEX_URL": "https://c.example.org https://d.example.org",
            "PIP_INDEX_URL": "https://e.example.org",
        }
    )
    assert extra.environment["UV_INDEX"] == "https://c.example.org https://d.example.org"
    assert extra.environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert extra.environment["UV_DEFAULT_INDEX"] == "https://e.example.org"


def test_uv_settings_win(person: dict[str, str], place: str) -> None:
    """Where uv itself is told an index, by variable, by file or by the project, pip's are left out."""
    pip = person | {"PIP_INDEX_URL": "https://pip.example.org"}
    assert "UV_DEFAULT_INDEX" in load(pip).environment
    variable = load(pip | {"UV_INDEX_URL": "https://uv.example.org"}).environment
    assert "UV_DEFAULT_INDEX" not in variable
    assert variable["UV_INDEX_URL"] == "https://uv.example.org"
    write(f"{place}/project/pyproject.toml", "[[tool.uv.index]]\nurl = 'https://uv.example.org'\n")
    assert "UV_DEFAULT_INDEX" not in load(pip, f"{place}/project").environment
    write(f"{place}/.config/uv/uv.toml", "[pip]\nextra-index-url = ['https://uv.example.org']\n")
    assert "UV_DEFAULT_INDEX" not in load(pip).environment


def test_nothing_of_the_caller_but_what_is_needed(person: dict[str, str]) -> None:
    """Uv sees where its files are, proxies and CAs, and no other variable; it never fetches a Python."""
    found = load(person | {"AWS_SECRET_ACCESS_KEY": "secret", "HTTPS_PROXY": "http://p", "SSL_CERT_FILE": "/ca.pem"})
    assert "AWS_SECRET_ACCESS_KEY" not in found.environment
    assert found.environment["https_proxy"] == "http://p"
    assert found.environment["SSL_CERT_FILE"] == "/ca.pem"
    assert found.environment["UV_PYTHON_DOWNLOADS"] == "never"


def test_no_index(person: dict[str, str]) -> None:
    """Pip's no-index becomes uv's; it is no secret and may be an argument."""
    assert load(person | {"PIP_NO_INDEX": "1"}).arguments == ("--no-index",)


def test_broken_file(person: dict[str, str]) -> None:
    """A pip.conf that pip could not read either is passed over."""
    write(f"{person['HOME']}/.config/pip/pip.conf", "no section\n\x00")
    assert load(person).constraints == ()


def test_redact() -> None:
    """Passwords go from addresses, whatever stands around them."""
    text = "error: https://me:secret@example.org/simple and http://token@example.org"
    assert index.redact(text) == "error: https://example.org/simple and http://example.org"
