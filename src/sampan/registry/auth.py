"""What a registry wants to know of us: its challenge, and the answer to it (RFC 9110 11, distribution's auth/token).

A registry that wants a token names in its challenge who gives them (`realm`). That one gets the person's name and
password, if there are any, and the scopes; everybody gets a token for what is public. Who is asked for a token, whether
the person is known, and what for is kept for one repository at one host, and no longer than the command.

SECURITY: secrets are looked up only once a registry has asked, for exactly its name; a registry that speaks TLS cannot
have them sent to a realm that does not; and a scope is what we need, never what the challenge would like.
"""

import json
import re
import threading
import urllib.parse
from collections.abc import Callable
from functools import partial

from sampan.errors import Corrupt, Unavailable
from sampan.registry.credential import Credential
from sampan.registry.transport import Request, Transport, one_piece, origin, origin_text

CLIENT_ID = "sampan"
_MAX_CHALLENGE, _MAX_TOKEN_ANSWER, _MAX_TOKEN = 8 * 1024, 1024 * 1024, 64 * 1024
# One scheme, or one parameter: token = token | "quoted string" (RFC 9110 11.2).
_PARTS = re.compile(r'\s*(?:,\s*)*([A-Za-z0-9._~+-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*)))?')


class Denied(Unavailable):
    """The registry does not let us: nobody is logged in, or the one who is may not."""


class Authorizer:
    """Answers the challenges of one host for `scopes`. For several threads."""

    def __init__(
        self,
        transport: Transport,
        name: str,
        *,
        scopes: tuple[str, ...],
        find: Callable[[], Credential | None],
        verify: bool = True,
    ) -> None:
        """Prepare; `find` is called once a challenge comes, `name` is the registry's for people."""
        self._transport = transport
        self._name = name
        self._scopes = scopes
        self._find = find
        self._verify = verify
        self._lock = threading.Lock()
        self._header: str | None = None
        self.username = ""

    def header(self) -> str | None:
        """Return what to send as Authorization now."""
        return self._header

    def answer(self, url: str, challenge: str, used: str | None) -> bool:
        """Learn from a 401 to `url` that was sent with `used`; tell whether to try again. Raises Unavailable."""
        with self._lock:
            if self._header != used:
                return True  # another thread was here already
            schemes = parse(challenge)
            credential = self._find()
            self.username = credential.username if credential else ""
            if "bearer" in schemes:
                self._header = f"Bearer {self._token(url, schemes['bearer'], credential)}"
            elif "basic" in schemes and credential and credential.password:
                self._header = credential.basic()
            return self._header != used

    def _token(self, url: str, parameters: dict[str, str], credential: Credential | None) -> str:
        if credential and credential.bearer:
            return credential.bearer
        realm = self._realm(url, parameters.get("realm", ""))
        verify = self._verify or origin(realm)[1] != origin(url)[1]
        fields = [("scope", scope) for scope in self._scopes]
        if parameters.get("service"):
            fields.insert(0, ("service", parameters["service"]))
        if credential and credential.identity_token:
            request = _refresh(realm, fields, credential.identity_token, verify=verify)
        else:
            if credential:
                fields.append(("account", credential.username))
            separator = "&" if urllib.parse.urlsplit(realm).query else "?"
            address = f"{realm}{separator}{urllib.parse.urlencode(fields)}"
            basic = credential.basic() if credential else None
            request = Request(method="GET", url=address, authorization=basic, verify=verify)
        return self._ask(request)

    def _realm(self, url: str, realm: str) -> str:
        """Return the address that gives tokens, once it is one that we ask."""
        try:
            scheme, name, _ = origin(realm)
        except ValueError:
            scheme, name = "", ""
        if scheme not in {"http", "https"} or not name or not realm.isprintable():
            raise Corrupt(f"the registry `{self._name}` has its tokens given out at an address that is none")
        if origin(url)[0] == "https" and scheme != "https":
            raise Denied(f"the registry `{self._name}` would have a password sent to `{name}` without TLS")
        parts = urllib.parse.urlsplit(realm)
        return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))

    def _ask(self, request: Request) -> str:
        with self._transport.send(request) as answer:
            content = answer.read_all(_MAX_TOKEN_ANSWER, f"the answer of `{origin_text(request.url)}`")
            status = answer.status
        if status in {400, 401, 403}:
            raise Denied(self._refused(), hints=(f"`sampan login {self._name}`",))
        if status != 200:
            raise Unavailable(f"`{origin_text(request.url)}`, which gives `{self._name}`'s tokens, answered {status}")
        try:
            found = json.loads(content)
            token = found.get("token") or found.get("access_token")
        except (ValueError, RecursionError, AttributeError):
            token = None
        # It becomes part of a header.
        if (
            not isinstance(token, str)
            or not 0 < len(token) <= _MAX_TOKEN
            or not (token.isascii() and token.isprintable())
        ):
            raise Corrupt(f"`{origin_text(request.url)}`, which gives `{self._name}`'s tokens, gave none")
        return token

    def _refused(self) -> str:
        if self.username:
            return f"the registry `{self._name}` does not accept the user `{self.username}` with this password"
        return f"the registry `{self._name}` lets nobody in who is not logged in"


def parse(challenge: str) -> dict[str, dict[str, str]]:
    """Return the challenges in a WWW-Authenticate header: lower-case scheme -> lower-case parameter -> value."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for match in _PARTS.finditer(challenge[:_MAX_CHALLENGE]):
        word, quoted, plain = match.groups()
        if quoted is None and plain is None:
            current = found.setdefault(word.lower(), {})
        else:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            current.setdefault(word.lower(), value)
    return found


def _refresh(realm: str, fields: list[tuple[str, str]], token: str, *, verify: bool) -> Request:
    """Return the request that gets a token for an identity token (distribution's auth/oauth.md)."""
    scopes = " ".join(value for name, value in fields if name == "scope")
    form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", CLIENT_ID)]
    form += [field for field in fields if field[0] != "scope"] + ([("scope", scopes)] if scopes else [])
    body = urllib.parse.urlencode(form).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request(
        method="POST", url=realm, headers=headers, body=partial(one_piece, body), length=len(body), verify=verify
    )
