"""Manifests and blobs, from servers that do not mean well or cannot do better."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial

import pytest

from sampan.errors import Corrupt, NotFound, SampanError, Unavailable, Unsupported
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.registry.auth import Denied
from sampan.registry.client import Limited, Repository
from sampan.registry.credential import Credential
from sampan.registry.host import Host
from sampan.registry.transport import Transport, Unreachable, one_piece
from sampan.settings.configuration import Settings
from tests.registry.hostile import Handler, Hostile, Reply, reply

pytestmark = [pytest.mark.first]

SETTINGS = Settings({"SAMPAN_CONFIG": "/nowhere", "HOME": "/nowhere"}, 0)
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": oci.OCI_MANIFEST, "config": {}, "layers": []}).encode()
BLOB = hashlib.shake_256(b"blob").digest(3_000_000)
DIGEST = Digest.of(BLOB)
BLOB_PATH = f"/v2/me/app/blobs/{DIGEST}"


@pytest.fixture
def repository(hostile: Hostile) -> Iterator[Repository]:
    """Yield the repository me/app of the hostile server."""
    with Transport(SETTINGS, sleep=lambda _: None) as transport:
        yield of(transport, hostile)


def of(transport: Transport, server: Hostile) -> Repository:
    """Return the repository me/app of a server."""
    return Repository(SETTINGS, transport, Host(name="reg", address=server.address, schemes=("http",)), "me/app")


def read(repository: Repository, size: int = len(BLOB)) -> bytes:
    """Read the blob to its end."""
    with repository.blob(DIGEST, size) as blob:
        pieces = []
        while piece := blob.read(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)


def test_a_manifest_is_what_its_digest_says(repository: Repository, hostile: Hostile) -> None:
    """By digest and by the registry's own promise; other bytes are refused."""
    wanted = str(Digest.of(MANIFEST))
    hostile.answer(f"/v2/me/app/manifests/{wanted}", 200, MANIFEST)
    hostile.answer("/v2/me/app/manifests/good", 200, MANIFEST, Docker_Content_Digest=wanted)
    hostile.answer("/v2/me/app/manifests/bad", 200, MANIFEST + b" ", Docker_Content_Digest=wanted)
    assert repository.manifest(wanted).raw == MANIFEST
    found = repository.manifest("good")
    assert (found.digest, found.media_type) == (Digest.of(MANIFEST), oci.OCI_MANIFEST)
    with pytest.raises(Corrupt, match="not what its digest says"):
        repository.manifest("bad")
    hostile.answer("/v2/me/app/manifests/worse", 200, MANIFEST, Docker_Content_Digest="sha256:../x")
    with pytest.raises(Corrupt, match="a digest that is none"):
        repository.manifest("worse")
    hostile.answer(f"/v2/me/app/manifests/{wanted}", 200, MANIFEST + b" ")
    with pytest.raises(Corrupt, match="not what its digest says"):
        repository.manifest(wanted)


def test_a_manifest_is_bounded(repository: Repository, hostile: Hostile) -> None:
    """More than four megabytes are not read."""
    hostile.answer("/v2/me/app/manifests/x", 200, bytes(oci.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(Corrupt, match="longer than 4194304 bytes"):
        repository.manifest("x")


@pytest.mark.parametrize(
    ("body", "kind", "what"),
    [
        (b"", Corrupt, "not JSON"),
        (b"[" * 100_000, Corrupt, "not JSON"),
        (b"[]", Corrupt, "no JSON object"),
        (b'{"schemaVersion": 1, "fsLayers": []}', Unsupported, "schema 1"),
    ],
)
def test_what_is_no_manifest(
    repository: Repository, hostile: Hostile, body: bytes, kind: type[SampanError], what: str
) -> None:
    """Nonsense is corrupt; the old form is called by its name, with a way out."""
    hostile.answer("/v2/me/app/manifests/x", 200, body)
    with pytest.raises(kind, match=what):
        repository.manifest("x")


@pytest.mark.parametrize(
    ("status", "kind", "what"),
    [
        (404, NotFound, "`x` of `me/app` is not in the registry `reg`"),
        (401, Denied, "does not give `me/app` to anybody who is not logged in"),
        (403, Denied, "does not give `me/app`"),
        (429, Limited, "limits how often"),
        (500, Unavailable, "answered 500"),
        (418, Unavailable, "answered 418"),
        (304, Unavailable, "answered 304"),
    ],
)
def test_statuses(repository: Repository, hostile: Hostile, status: int, kind: type[SampanError], what: str) -> None:
    """Each has its error, with what the registry says as the cause, cut short."""
    said = json.dumps({"errors": [{"code": "X", "message": "because " * 1000}]}).encode()
    hostile.answer("/v2/me/app/manifests/x", status, said)
    with pytest.raises(kind, match=what) as caught:
        repository.manifest("x")
    if status not in {401, 304}:
        assert str(caught.value.__cause__).startswith("the registry says: because because")
        assert len(str(caught.value.__cause__)) < 300


@pytest.mark.parametrize("body", [b"", b"[]", b'{"errors": 1}', b'{"errors": [1]}', b"[" * 60_000, bytes(100_000)])
def test_an_error_that_says_nothing(repository: Repository, hostile: Hostile, body: bytes) -> None:
    """What cannot be read as the specification's errors is left out."""
    hostile.answer("/v2/me/app/manifests/x", 404, body)
    with pytest.raises(NotFound) as caught:
        repository.manifest("x")
    assert caught.value.__cause__ is None


def breaking(after: int, *, ranges: bool) -> tuple[list[str | None], Reply]:
    """Return what was asked for, and a reply that breaks off after some bytes of what is left."""
    asked: list[str | None] = []

    def answer(handler: Handler) -> None:
        wanted = handler.headers.get("Range")
        asked.append(wanted)
        begin = int(wanted[6:-1]) if wanted and ranges else 0
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(BLOB) - 1}/{len(BLOB)}")
        handler.send_header("Content-Length", str(len(BLOB) - begin))
        handler.end_headers()
        handler.wfile.write(BLOB[begin : begin + after])
        handler.close_connection = True

    return asked, answer


def test_a_broken_download_goes_on(repository: Repository, hostile: Hostile) -> None:
    """The rest is asked for where the connection broke, as often as something new comes."""
    asked, answer = breaking(1_250_000, ranges=True)
    hostile.replies[BLOB_PATH] = answer
    assert read(repository) == BLOB
    assert asked == [None, "bytes=1250000-", "bytes=2500000-"]


def test_a_registry_without_ranges(repository: Repository, hostile: Hostile) -> None:
    """One that sends everything again is passed over up to where we were; where nothing new comes, it ends."""
    hostile.answer(BLOB_PATH, 200, BLOB)
    whole = hostile.replies[BLOB_PATH]
    asked, answer = breaking(1_000_000, ranges=False)

    def first_broken(handler: Handler) -> None:
        (whole if asked else answer)(handler)

    hostile.replies[BLOB_PATH] = first_broken
    assert read(repository) == BLOB
    asked.clear()
    hostile.replies[BLOB_PATH] = answer
    with pytest.raises(Unreachable, match="broke off"):
        read(repository)
    assert len(asked) == 6


def test_another_part_than_asked_for(repository: Repository, hostile: Hostile) -> None:
    """An answer that is some other range is not glued to what is here."""
    asked, answer = breaking(1_000_000, ranges=True)

    def lie(handler: Handler) -> None:
        if not asked:
            answer(handler)
        else:
            reply(handler, 206, BLOB[5:], Content_Range=f"bytes 5-{len(BLOB) - 1}/{len(BLOB)}")

    hostile.replies[BLOB_PATH] = lie
    with pytest.raises(Corrupt, match="another part"):
        read(repository)


def test_a_blob_is_as_long_as_promised(repository: Repository, hostile: Hostile) -> None:
    """One that goes on for ever is left after the promised size; one that is shorter ends in an error."""

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    hostile.replies[BLOB_PATH] = endless
    with pytest.raises(Corrupt, match="longer than the 3000000 bytes"):
        read(repository)
    hostile.answer(BLOB_PATH, 200, BLOB[:1000])
    with pytest.raises(SampanError):
        read(repository)


def test_an_upload_that_leads_away_gets_no_credential(hostile: Hostile, other: Hostile) -> None:
    """A session on another host is used, as the specification allows, but who we are is not said there."""
    auth, body = "Basic bWU6Z2VoZWlt", b"content"
    digest = Digest.of(body)

    def begin(handler: Handler) -> None:
        if handler.headers.get("Authorization") != auth:
            reply(handler, 401, WWW_Authenticate="Basic realm=x")
        else:
            reply(handler, 202, Location=f"http://{other.address}/session?s=1")

    hostile.replies["/v2/me/app/blobs/uploads/"] = begin
    other.answer(f"/session?s=1&digest=sha256%3A{digest.hex}", 201)
    with Transport(SETTINGS) as transport:
        repository = Repository(
            SETTINGS, transport, Host(name="reg", address=hostile.address, schemes=("http",)), "me/app",
            actions="pull,push", find=lambda: Credential("me", "geheim"),
        )  # fmt: skip
        repository.upload(digest, len(body), partial(one_piece, body))
    assert len(hostile.requests) == 2
    (_, path, headers) = other.requests[0]
    assert path.startswith("/session")
    assert headers["content-length"] == "7"
    assert "authorization" not in headers


def test_a_challenge_of_somebody_else_is_none(hostile: Hostile, other: Hostile) -> None:
    """A 401 of where a blob was redirected to does not get our password out of us."""
    hostile.answer(BLOB_PATH, 307, Location=f"http://{other.address}/blob")
    other.answer("/blob", 401, WWW_Authenticate="Basic realm=x")
    asked: list[str] = []
    with Transport(SETTINGS) as transport:
        host = Host(name="reg", address=hostile.address, schemes=("http",))
        repository = Repository(SETTINGS, transport, host, "me/app", find=lambda: asked.append("me"))
        with pytest.raises(Denied):
            read(repository)
    assert asked == []
    assert len(other.requests) == 1


def test_an_error_does_not_repeat_our_secret(hostile: Hostile) -> None:
    """A registry that says our own token back to us is not quoted."""
    hostile.answer("/token?scope=repository%3Ame%2Fapp%3Apull", 200, b'{"token": "geheimnis"}')

    def answer(handler: Handler) -> None:
        token = handler.headers.get("Authorization")
        if token is None:
            reply(handler, 401, WWW_Authenticate=f'Bearer realm="http://{hostile.address}/token"')
        else:
            reply(handler, 404, json.dumps({"errors": [{"message": f"no {token}"}]}).encode())

    hostile.replies["/v2/me/app/manifests/x"] = answer
    with Transport(SETTINGS) as transport, pytest.raises(NotFound) as caught:
        of(transport, hostile).manifest("x")
    assert caught.value.__cause__ is None


def test_plain_http_is_found_out(hostile: Hostile) -> None:
    """Where both are possible plain HTTP is tried first, once."""
    hostile.answer("/v2/me/app/manifests/x", 200, MANIFEST)
    with Transport(SETTINGS) as transport:
        host = Host(name="reg", address=hostile.address, schemes=("http", "https"), verify=False)
        repository = Repository(SETTINGS, transport, host, "me/app")
        assert repository.manifest("x").raw == repository.manifest("x").raw == MANIFEST
    assert [path for _, path, _ in hostile.requests].count("/v2/") == 1
