"""Challenges and tokens."""

import json
import urllib.parse
from collections.abc import Iterator

import pytest

from sampan.errors import Corrupt, Unavailable
from sampan.registry.auth import Authorizer, Denied, parse
from sampan.registry.credential import Credential
from sampan.registry.transport import Transport
from sampan.settings.configuration import Settings
from tests.registry.hostile import Handler, Hostile, reply

pytestmark = [pytest.mark.first]

ME = Credential("me", "geheim")


@pytest.fixture
def transport() -> Iterator[Transport]:
    """Yield a transport."""
    with Transport(Settings({"SAMPAN_CONFIG": "/nowhere"}, 0), sleep=lambda _: None) as found:
        yield found


def authorizer(transport: Transport, given: Credential | None, *scopes: str) -> Authorizer:
    """Return one for the registry `reg`, where the person is `given`."""
    return Authorizer(transport, "reg", scopes=scopes, find=lambda: given)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
         {"bearer": {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"}}),
        ("Basic realm=x", {"basic": {"realm": "x"}}),
        ('BASIC realm="a \\"b\\"", Bearer  realm = "r" , service=s',
         {"basic": {"realm": 'a "b"'}, "bearer": {"realm": "r", "service": "s"}}),
        ("", {}),
        ('=== ,,, "', {}),
    ],
)  # fmt: skip
def test_challenges(text: str, found: dict[str, dict[str, str]]) -> None:
    """As RFC 9110 has them: quoted or not, several in one header, in any case."""
    assert parse(text) == found


def test_a_challenge_without_an_end() -> None:
    """What is long is cut, in time that grows no faster than it."""
    assert parse('Bearer realm="' + 'a\\"' * 1_000_000)["bearer"] == {"realm": ""}


def test_a_token_for_everybody(transport: Transport, hostile: Hostile) -> None:
    """Without a login the token's giver gets service and scopes, and no name; the token is what is sent then."""
    path = "/token?service=s&scope=repository%3Ax%3Apull&scope=repository%3Ay%3Apull"
    hostile.answer(path, 200, b'{"token": "abc"}')
    one = authorizer(transport, None, "repository:x:pull", "repository:y:pull")
    challenge = f'Bearer realm="http://{hostile.address}/token",service="s",scope="repository:evil:push"'
    assert one.answer("http://reg/v2/", challenge, None)
    assert one.header() == "Bearer abc"
    assert "authorization" not in hostile.asked(path)[0]


def test_a_token_for_a_person(transport: Transport, hostile: Hostile) -> None:
    """With a login the giver gets it; `access_token` is a token too; a realm may have a query of its own."""
    hostile.answer("/token?x=1&account=me", 200, b'{"access_token": "abc"}')
    one = authorizer(transport, ME)
    assert one.answer("http://reg/v2/", f'Bearer realm="http://{hostile.address}/token?x=1"', None)
    assert hostile.asked("/token?x=1&account=me")[0]["authorization"] == "Basic bWU6Z2VoZWlt"


def test_a_token_for_an_identity_token(transport: Transport, hostile: Hostile) -> None:
    """An identity token goes in the body of a POST, and in no address."""
    bodies: list[bytes] = []

    def answer(handler: Handler) -> None:
        bodies.append(handler.headers["Content-Type"].encode())
        reply(handler, 200, json.dumps({"token": "abc"}).encode())

    hostile.replies["/token"] = answer
    one = authorizer(transport, Credential(identity_token="geheim"), "repository:x:pull")  # noqa: S106  an example
    assert one.answer("http://reg/v2/", f'Bearer realm="http://{hostile.address}/token",service=s', None)
    assert [method for method, _, _ in hostile.requests] == ["POST"]
    assert bodies == [b"application/x-www-form-urlencoded"]
    assert "geheim" not in repr(hostile.requests)


def test_basic_needs_a_login(transport: Transport) -> None:
    """A name and password are sent where Basic is wanted; without them, or if they were sent, there is no answer."""
    one = authorizer(transport, ME)
    assert one.answer("http://reg/v2/", "Basic realm=x", None)
    assert one.header() == "Basic bWU6Z2VoZWlt"
    assert not one.answer("http://reg/v2/", "Basic realm=x", one.header())
    assert not authorizer(transport, None).answer("http://reg/v2/", "Basic realm=x", None)
    assert not authorizer(transport, ME).answer("http://reg/v2/", "Negotiate", None)


def test_what_another_thread_has_answered(transport: Transport) -> None:
    """A challenge to a request that was sent without the token we have by now is answered by trying again."""
    one = authorizer(transport, ME)
    one.answer("http://reg/v2/", "Basic realm=x", None)
    assert one.answer("http://reg/v2/", "Nonsense", None)


def test_no_password_without_tls(transport: Transport, hostile: Hostile) -> None:
    """A registry that speaks TLS cannot lead a password to where there is none."""
    with pytest.raises(Denied, match=r"would have a password sent to `127\.0\.0\.1` without TLS"):
        authorizer(transport, ME).answer("https://reg/v2/", f'Bearer realm="http://{hostile.address}/"', None)
    assert hostile.requests == []


def test_a_token_is_not_sent_on(transport: Transport, hostile: Hostile, other: Hostile) -> None:
    """A giver of tokens that sends us on to another host does not take the password there."""
    hostile.answer("/token?account=me", 302, Location=f"http://{other.address}/token")
    other.answer("/token", 200, b'{"token": "abc"}')
    assert authorizer(transport, ME).answer("http://reg/v2/", f'Bearer realm="http://{hostile.address}/token"', None)
    assert "authorization" in hostile.asked("/token?account=me")[0]
    assert "authorization" not in other.asked("/token")[0]


@pytest.mark.parametrize("realm", ["", "ftp://x/", "http://", "http://[", "//x/", "http://h:y/"])
def test_a_realm_that_is_none(transport: Transport, realm: str) -> None:
    """Tokens come from an address of HTTP."""
    with pytest.raises(Corrupt, match="an address that is none"):
        authorizer(transport, ME).answer("http://reg/v2/", f'Bearer realm="{realm}"', None)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"token": ""}', b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b'{"token": "\\u00e9"}',
     b"[" * 100_000, json.dumps({"token": "x" * 70_000}).encode()],
)  # fmt: skip
def test_a_token_that_is_none(transport: Transport, hostile: Hostile, body: bytes) -> None:
    """What cannot be a header is no token."""
    hostile.answer("/token?", 200, body)
    hostile.answer("/token", 200, body)
    with pytest.raises(Corrupt, match="gave none"):
        authorizer(transport, None).answer("http://reg/v2/", f'Bearer realm="http://{hostile.address}/token"', None)


def test_who_is_not_let_in(transport: Transport, hostile: Hostile) -> None:
    """A refusal names registry and user, suggests a login, and shows no secret; another failure says its status."""
    query = urllib.parse.urlencode({"account": "me"})
    hostile.answer(f"/token?{query}", 401, b"geheim")
    hostile.answer("/broken?", 418)
    challenge = f'Bearer realm="http://{hostile.address}/token"'
    with pytest.raises(Denied, match="does not accept the user `me`") as caught:
        authorizer(transport, ME).answer("http://reg/v2/", challenge, None)
    assert caught.value.hints == ("`sampan login reg`",)
    assert "geheim" not in str(caught.value)
    with pytest.raises(Unavailable, match="answered 4"):
        authorizer(transport, None).answer("http://reg/v2/", challenge.replace("token", "broken"), None)
