"""apt's settings: sources in both formats, options, keyrings, passwords."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.settings import apt
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]

SOURCES = """# a comment
Types: deb deb-src
URIs: http://mirror.example.org/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: https://mirror.example.org/security
Suites: bookworm-security
Components: main
Check-Valid-Until: no

Types: deb
URIs: http://off.example.org/debian
Suites: trixie
Components: main
Enabled: no

Types: deb
URIs: http://other.example.org/tools
Suites: nodistro
Components: main
"""
LIST = """
deb [arch=amd64 signed-by=/usr/share/keyrings/Debian.gpg] http://one.example.org/debian trixie main # comment
deb-src http://source.example.org/debian trixie main
#deb http://commented.example.org/debian trixie main
deb http://two.example.org/debian trixie contrib
deb http://three.example.org/security trixie-security main
"""
CONF = """
// a comment
Acquire::http::Proxy "http://proxy.example.org:3128";
Acquire { https { CaInfo "/etc/ca.pem"; }; Check-Valid-Until "false"; http::Proxy::mirror.example.org "DIRECT"; };
APT::List { "a"; "b"; };
"""


def write(root: str, path: str, text: str) -> None:
    """Write one settings file."""
    os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
    with open(f"{root}/{path}", "w", encoding="utf-8") as file:
        file.write(text)


def test_deb822(place: str, settings: Settings) -> None:
    """Enabled sources with main of a Debian release count, with their keyrings and checks."""
    write(place, "etc/apt/sources.list.d/debian.sources", SOURCES)
    main, security = apt.load(settings, place).archives
    assert (main.uri, main.suites) == ("http://mirror.example.org/debian", ("bookworm", "bookworm-updates"))
    assert main.keyrings == (f"{place}/usr/share/keyrings/debian.gpg",)
    assert (main.is_security(), security.is_security()) == (False, True)
    assert (main.check_valid_until, security.check_valid_until) == (True, False)


def test_one_line_format(place: str, settings: Settings) -> None:
    """The old format is read too; comments, sources and other components are passed over, a path keeps its case."""
    write(place, "etc/apt/sources.list", LIST)
    archives = apt.load(settings, place).archives
    assert [archive.uri for archive in archives] == [
        "http://one.example.org/debian",
        "http://three.example.org/security",
    ]
    assert archives[0].keyrings == (f"{place}/usr/share/keyrings/Debian.gpg",)


def test_options(place: str, settings: Settings) -> None:
    """Nested and flat options are one; a proxy for one host goes before the general one."""
    write(place, "etc/apt/apt.conf.d/99test", CONF)
    found = apt.load(settings, place)
    assert found.check_valid_until is False
    assert found.proxy("http", "mirror.example.org") == "DIRECT"
    assert found.proxy("http", "else.example.org") == "http://proxy.example.org:3128"
    assert found.proxy("https", "else.example.org") is None
    assert found.ca_bundle() == "/etc/ca.pem"


def test_expired_index_on_purpose(place: str, environment: dict[str, str]) -> None:
    """An expired index is refused by default and taken where the person says so."""
    assert apt.load(Settings(environment, 0), place).check_valid_until
    assert not apt.load(Settings(environment | {"SAMPAN_ALLOW_EXPIRED_INDEX": "1"}, 0), place).check_valid_until
    assert apt.load(Settings(environment | {"SAMPAN_ALLOW_EXPIRED_INDEX": "0"}, 0), place).check_valid_until


def test_own_mirror(place: str, environment: dict[str, str]) -> None:
    """A mirror in Sampan's own settings comes before apt's, with its security archive, and apt's keyrings hold."""
    write(place, "etc/apt/sources.list.d/debian.sources", SOURCES)
    settings = Settings(environment | {"SAMPAN_DEBIAN_MIRROR": "http://own.example.org/debian/"}, 0)
    archives = apt.load(settings, place).archives
    assert [archive.uri for archive in archives] == [
        "http://own.example.org/debian",
        "http://own.example.org/debian-security",
    ]
    assert archives[0].keyrings == (f"{place}/usr/share/keyrings/debian.gpg",)


def test_passwords(place: str, settings: Settings) -> None:
    """A password is given to its own host and path, over TLS unless its entry says otherwise."""
    write(place, "etc/apt/auth.conf.d/mine.conf", "machine mirror.example.org/debian login me password secret\n")
    write(place, "etc/apt/auth.conf", "machine http://plain.example.org\nlogin you\npassword open\n")
    found = apt.load(settings, place)
    assert found.credentials("https://mirror.example.org/debian/dists/x") == ("me", "secret")
    assert found.credentials("https://mirror.example.org/debian-evil/x") is None
    assert found.credentials("http://mirror.example.org/debian/x") is None
    assert found.credentials("http://plain.example.org/x") == ("you", "open")
    assert found.credentials("https://mirror.example.org.evil.org/debian/x") is None


def test_no_apt(place: str, settings: Settings) -> None:
    """A machine without apt has no archives, and that is no error here."""
    assert apt.load(settings, place).archives == ()


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Any text is some sources and some options."""
    list(apt._lines(text))
    list(apt._stanzas(text))
    apt._parse_options(text, {})
    list(apt._parse_auth(text))
