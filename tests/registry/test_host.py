"""Where a registry answers."""

from pathlib import Path

import pytest

from sampan.registry.host import Host, hosts_of, is_loopback, registry_of
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


def configured(tmp_path: Path, text: str) -> Settings:
    """Return settings with this configuration file."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    return Settings({"SAMPAN_CONFIG": str(file)}, 0)


def test_docker_io_is_a_name(tmp_path: Path) -> None:
    """Docker Hub answers elsewhere than its name says, whatever it is called; nobody else does."""
    settings = configured(tmp_path, "")
    hub = Host(name="docker.io", address="registry-1.docker.io")
    assert registry_of(settings, "docker.io") == registry_of(settings, "index.docker.io") == hub
    assert registry_of(settings, "ghcr.io") == Host(name="ghcr.io", address="ghcr.io", schemes=("https",))


def test_mirrors_come_first_in_order(tmp_path: Path) -> None:
    """Each with its scheme, or TLS without one; its path goes before the repository; the registry is the last."""
    text = '[registry."docker.io"]\nmirrors = ["http://one:5000", "two.lan/hub/", "https://127.0.0.1:1"]\n'
    one, two, three, registry = hosts_of(configured(tmp_path, text), "docker.io")
    assert (one.address, one.schemes, one.verify) == ("one:5000", ("http",), True)
    assert (two.address, two.schemes, two.repository("library/x")) == ("two.lan", ("https",), "hub/library/x")
    assert (three.schemes, three.verify) == (("https",), True)
    assert registry.address == "registry-1.docker.io"


def test_plain_http_is_for_loopback_and_who_is_named(tmp_path: Path) -> None:
    """`insecure` and loopback are spoken to without TLS, as a registry and as a mirror; nobody else is."""
    text = '[registry."lan:5000"]\ninsecure = true\n[registry."x.io"]\nmirrors = ["lan:5000"]\n'
    settings = configured(tmp_path, text)
    assert registry_of(settings, "lan:5000").schemes == hosts_of(settings, "x.io")[0].schemes == ("http", "https")
    assert registry_of(settings, "localhost:5000").schemes == ("http", "https")
    assert registry_of(settings, "x.io").schemes == ("https",)
    assert is_loopback("127.0.0.2:1")
    assert is_loopback("[::1]:5000")
    assert not is_loopback("127.example.com")
    assert not is_loopback("localhost.example.com:5000")
