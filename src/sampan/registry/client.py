"""Manifests and blobs of one repository at one host (OCI distribution-spec v1.1).

A `Repository` sends the requests, answers challenges, and turns statuses into errors that name the repository:

    404 -> NotFound · 401, 403 -> Denied · 429 -> Limited · no answer -> Unreachable · not as promised -> Corrupt

Blobs are streams that mend themselves: where a connection breaks off, the rest is asked for (RFC 9110 14.2). They are
not verified here, but by who stores them.
"""

import json
import threading
import urllib.parse
from collections.abc import Callable, Generator
from functools import partial
from typing import Self

from sampan.errors import Corrupt, InvalidArgument, NotFound, SampanError, Unavailable, Unsupported
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.registry import credential
from sampan.registry.auth import Authorizer, Denied
from sampan.registry.credential import Credential
from sampan.registry.host import Host
from sampan.registry.transport import READ_SECONDS, Answer, Request, Transport, Unreachable, one_piece, origin, resolved
from sampan.settings.configuration import Settings

SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
ACCEPT = ", ".join((*oci.INDEXES, *oci.MANIFESTS))
_MAX_ERROR_BYTES = 64 * 1024
_MAX_ERROR_TEXT = 200
# Second tries of a blob that brought nothing new; one that did is counted anew.
_RESUMES = 5
_PROGRESS_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024
_UPLOADS = 3
# A registry may have to move what it was given before it answers.
_WRITE_SECONDS = 300
_REPEATABLE = frozenset(("GET", "HEAD"))


class Limited(Unavailable):
    """The registry has had enough of us for now."""


class Fetched:
    """A manifest or index as it came: its bytes, what it says that it is, and the digest of the bytes."""

    __slots__ = ("digest", "media_type", "raw")

    def __init__(self, raw: bytes, media_type: str, digest: Digest) -> None:
        self.raw = raw
        self.media_type = media_type
        self.digest = digest


class Repository:
    """One repository at one host. For several threads; what it opens is the transport's."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        host: Host,
        path: str,
        *,
        actions: str = "pull",
        sources: tuple[str, ...] = (),
        find: Callable[[], Credential | None] | None = None,
    ) -> None:
        """Prepare to do `actions` in `path`, with `sources` as repositories to mount from; nothing is asked yet.

        `find` is who the person is; docker's configuration says it else.
        """
        self.host = host
        self.path = host.repository(path)
        self._transport = transport
        self._actions = actions
        self._lock = threading.Lock()
        self._scheme = host.schemes[0] if len(host.schemes) == 1 else ""
        scopes = [f"repository:{self.path}:{actions}"] if path else []
        self._authorizer = Authorizer(
            transport,
            host.name,
            scopes=(*scopes, *(f"repository:{host.repository(source)}:pull" for source in sources)),
            find=find or partial(credential.find, settings, host.name),
            verify=host.verify,
        )

    def manifest(self, reference: str) -> Fetched:
        """Fetch what a tag or digest names; raises Unsupported for a form that ended in 2017, and the errors above."""
        subject = f"the manifest of `{self.path}`"
        with self._request("GET", f"manifests/{reference}", headers={"Accept": ACCEPT}) as answer:
            self._expect(answer, {200}, f"`{reference}`")
            raw = answer.read_all(oci.MAX_MANIFEST_BYTES, subject)
            promised, media_type = answer.header("Docker-Content-Digest"), answer.header("Content-Type")
        digest = _digest(reference if ":" in reference else promised, raw, subject)
        return Fetched(raw, _media_type(raw, media_type.partition(";")[0].strip(), self.path), digest)

    def blob(self, digest: Digest, size_bytes: int) -> "Blob":
        """Return a blob's content as a stream that breaks off neither early nor late; raises what `read` raises."""
        return Blob(self, digest, size_bytes)

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether the repository has the blob."""
        with self._request("HEAD", f"blobs/{digest}") as answer:
            if answer.status == 404:
                return False
            self._expect(answer, {200}, f"`{digest}`")
            return True

    def mount(self, digest: Digest, source: str) -> bool:
        """Have the registry take a blob from its repository `source`; tell whether it did."""
        query = urllib.parse.urlencode({"mount": str(digest), "from": self.host.repository(source)})
        with self._request("POST", f"blobs/uploads/?{query}") as answer:
            # 202 is a session for an upload, which nobody will use; registries forget those.
            self._expect(answer, {201, 202}, f"`{digest}`")
            return answer.status == 201

    def upload(self, digest: Digest, size_bytes: int, open: Callable[[], Generator[bytes]]) -> None:
        """Put a blob there, in one piece; what breaks off is begun anew."""
        for attempt in range(1, _UPLOADS + 1):
            try:
                return self._upload(digest, size_bytes, open)
            except Unreachable:
                if attempt == _UPLOADS:
                    raise
        return None

    def put_manifest(self, reference: str, media_type: str, raw: bytes) -> None:
        """Put a manifest whose blobs are all there."""
        headers, body = {"Content-Type": media_type}, partial(one_piece, raw)
        with self._request("PUT", f"manifests/{reference}", headers=headers, body=body, length=len(raw)) as answer:
            self._expect(answer, {201}, f"`{reference}`")

    def check(self) -> None:
        """Ask whether the registry is one and lets us in (`GET /v2/`); raises Denied, Unreachable, Unavailable."""
        with self._request("GET", "") as answer:
            self._expect(answer, {200}, "")

    def _upload(self, digest: Digest, size_bytes: int, open: Callable[[], Generator[bytes]]) -> None:
        with self._request("POST", "blobs/uploads/") as answer:
            self._expect(answer, {202}, f"`{digest}`")
            location = resolved(answer.url, answer.header("Location"))
        location += f"{'&' if urllib.parse.urlsplit(location).query else '?'}digest={urllib.parse.quote(str(digest))}"
        headers = {"Content-Type": "application/octet-stream"}
        with self._send("PUT", location, headers=headers, body=open, length=size_bytes) as answer:
            self._expect(answer, {201}, f"`{digest}`")

    def _range(self, digest: Digest, begin: int) -> Answer:
        """Ask for a blob from `begin` on; the answer may have all of it (200) all the same."""
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        answer = self._request("GET", f"blobs/{digest}", headers=headers)
        try:
            self._expect(answer, {200, 206} if begin else {200}, f"`{digest}`")
            if answer.status == 206 and not answer.header("Content-Range").startswith(f"bytes {begin}-"):
                raise Corrupt(f"the registry `{self.host.name}` sends another part of a blob than it was asked for")
        except BaseException:
            answer.close()
            raise
        return answer

    def _request(
        self,
        method: str,
        below: str,
        *,
        headers: dict[str, str] | None = None,
        body: Callable[[], Generator[bytes]] | None = None,
        length: int = 0,
    ) -> Answer:
        base = f"{self._settled()}://{self.host.address}/v2/"
        url = f"{base}{self.path}/{below}" if below else base
        return self._send(method, url, headers=headers or {}, body=body, length=length)

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        body: Callable[[], Generator[bytes]] | None,
        length: int,
    ) -> Answer:
        """Send, and once more where there was a challenge that could be answered."""
        for _ in range(2):
            used = self._authorizer.header()
            # SECURITY: an upload may lead to another host: that one gets no credential.
            authorization, verify = (used, self.host.verify) if self._is_ours(url) else (None, True)
            answer = self._transport.send(
                Request(
                    method=method,
                    url=url,
                    headers=headers,
                    authorization=authorization,
                    body=body,
                    length=length,
                    verify=verify,
                    read_seconds=READ_SECONDS if method in _REPEATABLE else _WRITE_SECONDS,
                )
            )
            if answer.status != 401 or not self._is_ours(answer.url):
                return answer
            answer.close()
            if not self._authorizer.answer(url, answer.header("WWW-Authenticate"), used):
                break
        raise self._denied()

    def _is_ours(self, url: str) -> bool:
        return origin(url) == origin(f"{self._scheme}://{self.host.address}/")

    def _settled(self) -> str:
        """Return the scheme that the host speaks, found by asking where there are two."""
        with self._lock:
            if not self._scheme:
                self._scheme = self._spoken()
            return self._scheme

    def _spoken(self) -> str:
        first, second = self.host.schemes
        lost: SampanError | None = None
        for scheme in (first, second):
            request = Request(method="GET", url=f"{scheme}://{self.host.address}/v2/", verify=self.host.verify)
            try:
                with self._transport.send(request) as answer:
                    # What a TLS server says to plain HTTP.
                    if answer.status != 400:
                        return scheme
            except Unreachable as error:
                lost = lost or error
        raise lost or Unavailable(f"`{self.host.address}` is no registry")

    def _expect(self, answer: Answer, statuses: set[int], subject: str) -> None:
        """Raise what an answer's status means, unless it is one of `statuses`."""
        if answer.status in statuses:
            return
        what = f"{subject} of `{self.path}`" if subject else f"`{self.host.name}`"
        said = _said(answer, self._authorizer.header())
        cause = Unavailable(f"the registry says: {said}") if said else None
        match answer.status:
            case 401 | 403:
                raise self._denied() from cause
            case 404 if "push" in self._actions:
                raise NotFound(f"the registry `{self.host.name}` has no `{self.path}` to push to") from cause
            case 404:
                raise NotFound(f"{what} is not in the registry `{self.host.name}`") from cause
            case 429:
                hints = (f"wait, or log in, which raises the limit: `sampan login {self.host.name}`",)
                raise Limited(f"the registry `{self.host.name}` limits how often it is asked", hints=hints) from cause
            case _:
                raise Unavailable(f"the registry `{self.host.name}` answered {answer.status} for {what}") from cause

    def _denied(self) -> Denied:
        user, name = self._authorizer.username, self.host.name
        login = f"`sampan login {name}` says who you are"
        if not self.path:
            return Denied(f"the registry `{name}` does not accept the user `{user}` with this password", hints=(login,))
        who = f"the user `{user}`" if user else "anybody who is not logged in"
        if "push" in self._actions:
            return Denied(f"the registry `{name}` does not let {who} push to `{self.path}`", hints=(login,))
        what = f"the registry `{name}` does not give `{self.path}` to {who}: it is private, or not there"
        return Denied(what, hints=("see that the name is right", login))


class Blob:
    """A stream of a blob's bytes, `size_bytes` and no more. Close it; `abort` ends a read in another thread."""

    def __init__(self, repository: Repository, digest: Digest, size_bytes: int) -> None:
        self._repository = repository
        self._digest = digest
        self._size_bytes = size_bytes
        self._at, self._resumes, self._resumed_at = 0, 0, 0
        self._answer: Answer | None = None
        self._is_aborted = False

    def read(self, size: int, /) -> bytes:
        """Return what has come, up to `size` bytes, and nothing at the end."""
        while self._at < self._size_bytes:
            try:
                piece = self._next(size)
            except Unreachable as error:
                self._resume(error)
                continue
            if piece:
                self._at += len(piece)
                return piece
            self._resume(Unreachable(f"`{self._repository.host.name}` broke off after {self._at} bytes of a blob"))
        if self._has_more():
            raise Corrupt(f"the blob `{self._digest}` is longer than the {self._size_bytes} bytes that were promised")
        return b""

    def abort(self) -> None:
        """End it from another thread: what reads next, or waits, gets Unreachable."""
        self._is_aborted = True
        if self._answer is not None:
            self._answer.abort()

    def close(self) -> None:
        """Close the connection unless all was read. Idempotent."""
        if self._answer is not None:
            self._answer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _next(self, size: int) -> bytes:
        if self._is_aborted:
            raise Unreachable(f"the blob `{self._digest}` is not wanted any more")
        if self._answer is None:
            self._answer = self._repository._range(self._digest, self._at)
            if self._answer.status == 200:
                self._skip(self._answer)
        return self._answer.read(min(size, _PIECE_BYTES, self._size_bytes - self._at))

    def _has_more(self) -> bool:
        """Read the answer's end, which frees its connection; one that does not come is no loss any more."""
        try:
            return self._answer is not None and bool(self._answer.read(1))
        except Unreachable:
            return False

    def _skip(self, answer: Answer) -> None:
        """Pass over what is here, where a registry knows no ranges."""
        left = self._at
        while left and (piece := answer.read(min(left, _PROGRESS_BYTES))):
            left -= len(piece)

    def _resume(self, error: Unreachable) -> None:
        """Prepare to ask for the rest, unless too often in vain."""
        self.close()
        self._answer = None
        if self._at - self._resumed_at >= _PROGRESS_BYTES:
            self._resumes, self._resumed_at = 0, self._at
        self._resumes += 1
        if self._resumes > _RESUMES or self._is_aborted:
            raise error


def log_in(settings: Settings, transport: Transport, host: Host, given: Credential) -> None:
    """Raise Denied unless the registry accepts `given`; Unreachable, Unavailable."""
    Repository(settings, transport, host, "", find=lambda: given).check()


def _digest(promised: str, raw: bytes, subject: str) -> Digest:
    """Return what `raw` is called: as was asked for or promised, once it is that."""
    if not promised:
        return Digest.of(raw)
    try:
        digest = Digest.parse(promised)
    except InvalidArgument as error:
        raise Corrupt(f"{subject} comes with a digest that is none") from error
    digest.verify(raw, subject)
    return digest


def _media_type(raw: bytes, header: str, path: str) -> str:
    """Return what a document is: as it says itself, else as the registry says."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"the manifest of `{path}` is not JSON") from error
    if not isinstance(found, dict):
        raise Corrupt(f"the manifest of `{path}` is no JSON object")
    if found.get("schemaVersion") == 1 or header in SCHEMA_1:
        hints = ("have it pushed again by a current tool, or copy it: `skopeo copy --format oci`",)
        raise Unsupported(f"`{path}` is stored in docker's schema 1, which has no digests of layers", hints=hints)
    said = found.get("mediaType")
    if isinstance(said, str) and said:
        return said
    return (
        header
        if header in {*oci.INDEXES, *oci.MANIFESTS}
        else (oci.OCI_INDEX if "manifests" in found else oci.OCI_MANIFEST)
    )


def _said(answer: Answer, secret: str | None) -> str:
    """Return what the registry says of its error, shortened (distribution-spec, error codes); empty where nothing."""
    try:
        errors = json.loads(answer.read_all(_MAX_ERROR_BYTES, "an error"))["errors"]
        text = str(errors[0].get("message") or errors[0].get("code") or "")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, SampanError):
        return ""
    # SECURITY: an error that repeats our own secret is not shown.
    hidden = (secret or "").rpartition(" ")[2]
    return "" if hidden and hidden in text else text[:_MAX_ERROR_TEXT]
