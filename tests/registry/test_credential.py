"""Who the person is to a registry: docker's file, and helpers."""

import json
import os
import stat
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NotFound, Unavailable
from sampan.registry import credential
from sampan.registry.credential import Credential
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]

# A helper that keeps what it is given in a file of its own.
HELPER = """#!/bin/sh
echo "$1" >>"$HELD.log"
case $1 in
get) [ "$(cat)" = "$(cat "$HELD.key" 2>/dev/null)" ] || { echo "credentials not found in native keychain"; exit 1; }
     cat "$HELD" ;;
store) cat >"$HELD"; printf ghcr.io >"$HELD.key" ;;
erase) rm -f "$HELD" "$HELD.key" ;;
esac
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a docker configuration of the test's own, and a helper called `keep` in PATH."""
    (tmp_path / "bin").mkdir()
    helper = tmp_path / "bin" / "docker-credential-keep"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    broken = tmp_path / "bin" / "docker-credential-broken"
    broken.write_text("#!/bin/sh\necho secret >&2\nexit 3\n")
    broken.chmod(0o755)
    environment = {"DOCKER_CONFIG": str(tmp_path), "SAMPAN_CONFIG": "/nowhere", "HELD": str(tmp_path / "held")}
    return Settings(environment | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}, 0)


def write(tmp_path: Path, document: object) -> None:
    """Write docker's configuration."""
    (tmp_path / "config.json").write_text(json.dumps(document))


def pair(found: Credential | None) -> tuple[str, str] | None:
    """Return name and password."""
    return (found.username, found.password) if found else None


def test_the_file_as_docker_writes_it(settings: Settings, tmp_path: Path) -> None:
    """A stored password is found, in a file of the owner's alone, under docker's key; erased, it is gone."""
    path = credential.store(settings, "docker.io", Credential("me", "pass:wörd"))
    assert path == str(tmp_path / "config.json")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    auths = json.loads((tmp_path / "config.json").read_text())["auths"]
    assert auths == {"https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3w7ZyZA=="}}
    assert pair(credential.find(settings, "docker.io")) == ("me", "pass:wörd")
    assert pair(credential.find(settings, "index.docker.io")) == ("me", "pass:wörd")
    assert credential.find(settings, "ghcr.io") is None
    assert credential.erase(settings, "docker.io")
    assert not credential.erase(settings, "docker.io")
    assert credential.find(settings, "docker.io") is None


def test_older_keys_are_addresses(settings: Settings, tmp_path: Path) -> None:
    """Keys with a scheme and a path mean their host; a host that only begins alike is another one."""
    write(tmp_path, {"auths": {"https://ghcr.io/v1/": {"username": "a", "password": "b"}}})
    assert pair(credential.find(settings, "ghcr.io")) == ("a", "b")
    assert credential.find(settings, "ghcr.io.example.com") is None
    assert credential.find(settings, "ghcr.io:443") is None


def test_tokens_instead_of_passwords(settings: Settings, tmp_path: Path) -> None:
    """Identity tokens and bearer tokens are told apart from passwords."""
    write(tmp_path, {"auths": {"a.io": {"auth": "bWU6", "identitytoken": "i"}, "b.io": {"registrytoken": "r"}}})
    first, second = credential.find(settings, "a.io"), credential.find(settings, "b.io")
    assert first is not None
    assert second is not None
    assert (first.username, first.password, first.identity_token) == ("me", "", "i")
    assert second.bearer == "r"


def test_a_helper_keeps_and_forgets(settings: Settings, tmp_path: Path) -> None:
    """A registry's own helper is used, its secret never lies in the file, and a logout asks it to forget."""
    write(tmp_path, {"credHelpers": {"ghcr.io": "keep"}, "auths": {"docker.io": {}}})
    assert credential.find(settings, "ghcr.io") is None
    assert credential.store(settings, "ghcr.io", Credential("me", "geheim")) is None
    assert "geheim" not in (tmp_path / "config.json").read_text()
    assert pair(credential.find(settings, "ghcr.io")) == ("me", "geheim")
    assert credential.erase(settings, "ghcr.io")
    assert not (tmp_path / "held").exists()
    assert credential.find(settings, "docker.io") is None
    assert (tmp_path / "held.log").read_text().split() == ["get", "store", "get", "get", "erase"]


def test_a_store_for_all(settings: Settings, tmp_path: Path) -> None:
    """`credsStore` holds for registries that have no helper of their own; its token user means an identity token."""
    write(tmp_path, {"credsStore": "keep"})
    (tmp_path / "held").write_text(json.dumps({"ServerURL": "x", "Username": "<token>", "Secret": "i"}))
    (tmp_path / "held.key").write_text("https://index.docker.io/v1/")
    found = credential.find(settings, "docker.io")
    assert found is not None
    assert (found.identity_token, found.password) == ("i", "")


def test_helpers_that_fail(settings: Settings, tmp_path: Path) -> None:
    """One that is missing, breaks or talks nonsense is one error, without what it printed."""
    write(tmp_path, {"credsStore": "absent"})
    with pytest.raises(NotFound, match="`docker-credential-absent` is not installed"):
        credential.find(settings, "ghcr.io")
    write(tmp_path, {"credsStore": "broken"})
    with pytest.raises(Unavailable, match="`docker-credential-broken` failed to get") as caught:
        credential.find(settings, "ghcr.io")
    assert "secret" not in str(caught.value)
    write(tmp_path, {"credsStore": "keep"})
    for nonsense in ("", "[]", '{"Username": 1, "Secret": 2}'):
        (tmp_path / "held").write_text(nonsense)
        (tmp_path / "held.key").write_text("ghcr.io")
        with pytest.raises(Unavailable, match="an answer that is none"):
            credential.find(settings, "ghcr.io")


@pytest.mark.parametrize("name", ["../evil", "a b", "x;reboot"])
def test_a_helper_is_a_name(settings: Settings, tmp_path: Path, name: str) -> None:
    """What leads out of PATH is no helper."""
    write(tmp_path, {"credsStore": name})
    with pytest.raises(InvalidArgument, match="no name of a program"):
        credential.find(settings, "ghcr.io")


def test_a_broken_auth(settings: Settings, tmp_path: Path) -> None:
    """An `auth` that is not BASE64(name:password) is named by its registry, with the way to mend it."""
    for text in ("!!!", "bm9jb2xvbg==", "//79"):
        write(tmp_path, {"auths": {"ghcr.io": {"auth": text}}})
        with pytest.raises(InvalidArgument, match=r"`auth` for `ghcr\.io`") as caught:
            credential.find(settings, "ghcr.io")
        assert text not in caught.value.what


def test_nothing_secret_in_a_repr() -> None:
    """A credential can be shown."""
    shown = repr(Credential("me", "geheim", identity_token="geheim", bearer="geheim"))  # noqa: S106  an example
    assert shown == "Credential('me')"
