"""Who the person is to a registry: from docker's configuration, or from a helper that it names. docker-login(1).

A helper is a program `docker-credential-NAME` (docker/docker-credential-helpers): the registry's key goes to its stdin,
one JSON object comes back. SECURITY: a secret goes over pipes and into the file, and into no repr, error or argv.
"""

import base64
import binascii
import json
import os

from sampan.errors import InvalidArgument, Unavailable
from sampan.kernel import program
from sampan.oci.reference import DEFAULT_DOMAIN
from sampan.registry import host
from sampan.settings import docker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.settings.configuration import Settings

# docker.io is kept under what its first registry was called.
_HUB_KEY = "https://index.docker.io/v1/"
# The user name with which a helper says that the secret is an identity token (docker-credential-helpers).
_TOKEN_USER = "<token>"  # noqa: S105  no secret
_HELPER_SECONDS = 60.0
_HELPER_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
# What helpers print where they have nothing; they have no other way to say so.
_NOT_FOUND = b"credentials not found"


class Credential:
    """A user's name and password; or an identity token, from which passing ones are got; or a bearer token itself."""

    __slots__ = ("bearer", "identity_token", "password", "username")

    def __init__(self, username: str = "", password: str = "", *, identity_token: str = "", bearer: str = "") -> None:
        """Keep what is not empty."""
        self.username = username
        self.password = password
        self.identity_token = identity_token
        self.bearer = bearer

    def basic(self) -> str:
        """Return the value of an Authorization header (RFC 7617)."""
        return f"Basic {_encoded(self)}"

    def __repr__(self) -> str:
        """Print the name, and none of the secrets."""
        return f"Credential({self.username!r})"


def find(settings: "Settings", domain: str) -> Credential | None:
    """Return what there is for the registry `domain`; raises InvalidArgument, NotFound and Unavailable of a helper."""
    found = docker.read(settings.docker_file)
    helper = _helper(found, domain)
    return _ask(settings, helper, domain) if helper else _filed(found, domain)


def store(settings: "Settings", domain: str, credential: Credential) -> str | None:
    """Keep a name and password; return the path of the file if that is where they are now, unencrypted."""
    path, key = settings.docker_file, key_of(domain)
    helper = _helper(docker.read(path), domain)
    if helper:
        document = {"ServerURL": key, "Username": credential.username, "Secret": credential.password}
        _run(settings, helper, "store", json.dumps(document).encode())
    entry = {} if helper else {"auth": _encoded(credential)}
    docker.change(path, lambda found: found.update(auths=docker.table(found, "auths") | {key: entry}))
    return None if helper else path


def erase(settings: "Settings", domain: str) -> bool:
    """Forget it; tell whether there was anything."""
    path = settings.docker_file
    found = docker.read(path)
    helper, keys = _helper(found, domain), _keys(found, domain)
    had = bool(keys)
    if helper:
        had = _ask(settings, helper, domain) is not None or had
        _run(settings, helper, "erase", key_of(domain).encode())
    if keys:
        docker.change(path, lambda found: _drop(docker.table(found, "auths"), keys))
    return had


def key_of(domain: str) -> str:
    """Return what docker's file and helpers call a registry."""
    domain = host.canonical(domain)
    return _HUB_KEY if domain == DEFAULT_DOMAIN else domain


def _helper(found: "Document", domain: str) -> str:
    """Return the name of the helper that keeps this registry's secrets; empty for the file."""
    name = docker.table(found, "credHelpers").get(key_of(domain)) or docker.table(found, "credHelpers").get(domain)
    name = name or found.get("credsStore") or ""
    if not isinstance(name, str) or not _HELPER_NAME.issuperset(name):
        raise InvalidArgument("docker's configuration names a credential helper that is no name of a program")
    return name


def _keys(found: "Document", domain: str) -> list[str]:
    """Return the keys of `auths` that mean this registry: older ones are addresses with a scheme and a path."""
    wanted, auths = host.canonical(domain), docker.table(found, "auths")
    keys = [key for key in auths if host.canonical(key.rpartition("://")[2].partition("/")[0]) == wanted]
    return sorted(keys, key=lambda key: key != key_of(domain))


def _drop(auths: "Document", keys: list[str]) -> None:
    for key in keys:
        auths.pop(key, None)


def _filed(found: "Document", domain: str) -> Credential | None:
    auths = docker.table(found, "auths")
    entries = [docker.table(auths, key) for key in _keys(found, domain)]
    return next((credential for entry in entries if (credential := _parsed(entry, domain))), None)


def _parsed(entry: "Document", domain: str) -> Credential | None:
    texts = {key: value for key, value in entry.items() if isinstance(value, str)}
    if texts.get("registrytoken"):
        return Credential(bearer=texts["registrytoken"])
    username, password = texts.get("username", ""), texts.get("password", "")
    if texts.get("auth"):
        try:
            username, colon, password = base64.b64decode(texts["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            hint = f"`sampan logout {domain}`, then `sampan login {domain}`, writes it anew"
            raise InvalidArgument(f"docker's configuration has an `auth` for `{domain}` that is none", hints=(hint,))
        # docker's C forebears padded with zeros.
        password = password.rstrip("\0")
    if texts.get("identitytoken"):
        return Credential(username, identity_token=texts["identitytoken"])
    return Credential(username, password) if username else None


def _ask(settings: "Settings", helper: str, domain: str) -> Credential | None:
    answer = _run(settings, helper, "get", key_of(domain).encode())
    if answer is None:
        return None
    try:
        found = json.loads(answer)
        username, secret = found["Username"], found["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        username, secret = None, None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise Unavailable(f"the credential helper `docker-credential-{helper}` gave an answer that is none")
    if username == _TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(username, secret)


def _run(settings: "Settings", helper: str, action: str, stdin: bytes) -> bytes | None:
    """Run a helper; None where it has nothing of that name."""
    path = program.require(f"docker-credential-{helper}", settings.environment.get("PATH", os.defpath))
    done = program.run([path, action], env=settings.environment, stdin=stdin, timeout=_HELPER_SECONDS)
    if done.status == 0:
        return done.stdout
    if done.stdout.lower().startswith(_NOT_FOUND):
        return None
    hint = f"see for yourself: `docker-credential-{helper} list`"
    raise Unavailable(f"the credential helper `docker-credential-{helper}` failed to {action}", hints=(hint,))


def _encoded(credential: Credential) -> str:
    return base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
