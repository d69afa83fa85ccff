"""HTTP as registries need it: one request, its redirects and its second tries, and an answer that is read in bounds.

Theory of operation. `send` returns an `Answer` with any status; what it raises is always `Unreachable`. Redirects are
followed here, not by urllib3: at most MAX_REDIRECTS, never from TLS to plain HTTP, and what stands in `authorization`
goes to the origin (scheme, host and port) of the request's own URL and nowhere else. What breaks off or is answered
with a passing failure is tried again, a bounded number of times, if its method may be repeated.

Time is bounded by progress: CONNECT_SECONDS, READ_SECONDS between two pieces, and PACE_BYTES in each PACE_SECONDS, so
that a byte now and then does not count as progress. Header lines and their number are bounded by http.client.
"""

import threading
import time
import urllib.parse
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Self

import urllib3

from sampan.errors import Corrupt, Unavailable
from sampan.settings import trust
from sampan.settings.configuration import Settings

CONNECT_SECONDS, READ_SECONDS = 10, 30
PACE_BYTES, PACE_SECONDS = 64 * 1024, 60.0
MAX_REDIRECTS = 5
MAX_URL = 16 * 1024
ATTEMPTS = 3
# The longest that a registry may ask us to wait before a second try.
MAX_WAIT_SECONDS = 10.0
CONNECTIONS = 8
_FIRST_WAIT_SECONDS = 0.2
_REPEATABLE = frozenset(("GET", "HEAD"))
_PASSING = frozenset((500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PORTS = {"http": 80, "https": 443}
_FINAL = (
    urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.SSLError,
    urllib3.exceptions.ProxyError, ValueError,
)  # fmt: skip


class Unreachable(Unavailable):
    """There was no answer: no way there, no certificate that this machine trusts, or it broke off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `authorization` is for the origin of `url` only; `body` begins what is sent, `length` bytes."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = field(default=None, repr=False)
    body: "Callable[[], Generator[bytes]] | None" = None
    length: int = 0
    verify: bool = True
    read_seconds: int = READ_SECONDS


class Answer:
    """A status, headers, and a body that is read once. Close it, or use a `with`."""

    __slots__ = ("_begun", "_clock", "_moved", "_response", "status", "url")

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, clock: Callable[[], float]) -> None:
        self._response = response
        self._clock = clock
        self._begun, self._moved = clock(), 0
        self.status = response.status
        self.url = url  # after redirects

    def header(self, name: str) -> str:
        """Return a header, several of one name joined by commas; empty where there is none."""
        return str(self._response.headers.get(name, ""))

    def read(self, size: int, /) -> bytes:
        """Return what has come, up to `size` bytes, and nothing at the end; raises Unreachable."""
        try:
            # read1: what there is, for `read` would wait for all of `size` however slowly it comes.
            piece = bytes(self._response.read1(size, decode_content=False) or b"")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"`{origin_text(self.url)}` broke off in the middle of its answer") from reason(error)
        self._moved += len(piece)
        now = self._clock()
        if now - self._begun > PACE_SECONDS:
            if piece and self._moved < PACE_BYTES:
                raise Unreachable(f"`{origin_text(self.url)}` sends less than {PACE_BYTES} bytes in a minute")
            self._begun, self._moved = now, 0
        return piece

    def read_all(self, limit: int, subject: str) -> bytes:
        """Return the whole body; raises Corrupt, naming `subject`, past `limit` bytes, and Unreachable."""
        content = bytearray()
        while piece := self.read(limit + 1 - len(content)):
            content += piece
            if len(content) > limit:
                raise Corrupt(f"{subject} is longer than {limit} bytes")
        return bytes(content)

    def abort(self) -> None:
        """Make a `read` that waits in another thread return at once."""
        try:
            self._response.shutdown()
        except (ValueError, RuntimeError, OSError):
            pass  # it has no connection any more

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it. Idempotent."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Transport:
    """Connections to any number of hosts. Usable by several threads; close it, or use it in a `with`."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; nothing is connected yet."""
        self._environment = settings.environment
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}

    def send(self, request: Request) -> Answer:
        """Send, follow redirects, try again what may be tried again; raises Unreachable."""
        is_repeatable = request.method in _REPEATABLE
        for attempt in range(1, ATTEMPTS + 1):
            is_last = attempt == ATTEMPTS or not is_repeatable
            try:
                answer = self._follow(request)
            except _Lost as lost:
                if is_last or not lost.may_pass:
                    raise lost.told from lost.__cause__
                wait: float | None = _FIRST_WAIT_SECONDS * attempt
            else:
                wait = None if is_last else _wait_of(answer, attempt)
                if wait is None:
                    return answer
                answer.close()
            self._sleep(wait or 0.0)
        raise AssertionError  # the last attempt has returned or raised

    def close(self) -> None:
        """Close all connections. Idempotent."""
        for pool in self._pools.values():
            pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _follow(self, request: Request) -> Answer:
        """Send once, and after it wherever it is sent on to."""
        url, is_repeatable = request.url, request.method in _REPEATABLE
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._once(request, url)
            location = answer.header("Location")
            if not is_repeatable or answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            url = resolved(url, location)
        raise Unreachable(f"`{origin_text(request.url)}` redirects more than {MAX_REDIRECTS} times")

    def _once(self, request: Request, url: str) -> Answer:
        headers = {"User-Agent": "sampan", "Accept-Encoding": "identity", **request.headers}
        body = request.body() if request.body else None
        if body is not None or request.method in {"POST", "PUT"}:
            headers["Content-Length"] = str(request.length)
        try:
            is_asked = origin(url) == origin(request.url)
            # SECURITY: whoever we are redirected to gets no credential, not even another port of the same host.
            if request.authorization is not None and is_asked:
                headers["Authorization"] = request.authorization
            pool = self._pool(url, verify=request.verify or not is_asked)
            response = pool.urlopen(
                request.method, url, body=body, headers=headers, retries=False, redirect=False, preload_content=False,
                decode_content=False, timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=request.read_seconds),
            )  # fmt: skip
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _lost(error, url, self._proxy(url)) from reason(error)
        finally:
            if body is not None:
                body.close()
        return Answer(response, url, self._clock)

    def _proxy(self, url: str) -> str | None:
        parts = urllib.parse.urlsplit(url)
        return trust.proxy_for(self._environment, parts.scheme, parts.hostname or "")

    def _pool(self, url: str, *, verify: bool) -> urllib3.PoolManager:
        proxy = self._proxy(url)
        with self._lock:
            if (proxy, verify) not in self._pools:
                bundle = trust.ca_bundle(self._environment)
                self._pools[proxy, verify] = _manager(proxy, verify=verify, bundle=bundle)
            return self._pools[proxy, verify]


class _Lost(Exception):
    """An attempt that came to nothing; `may_pass` where it makes sense to try once more."""

    def __init__(self, told: Unreachable, *, may_pass: bool = False) -> None:
        super().__init__(told.what)
        self.told = told
        self.may_pass = may_pass


def one_piece(content: bytes) -> Generator[bytes]:
    """Return a body that is in memory."""
    yield content


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of `url`: what a credential is for (RFC 6454)."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def origin_text(url: str) -> str:
    """Return host and port of `url` for people; never what else may stand in it."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def resolved(url: str, location: str) -> str:
    """Return where `location`, of an answer from `url`, leads; raises Unreachable where we do not follow."""
    try:
        target = urllib.parse.urljoin(url, location)
        parts = urllib.parse.urlsplit(target)
        is_wrong = len(target) > MAX_URL or parts.scheme not in _PORTS or not parts.hostname or parts.port == 0
    except ValueError:
        raise Unreachable(f"`{origin_text(url)}` sends us on to an address that is none") from None
    if is_wrong or not target.isprintable():
        raise Unreachable(f"`{origin_text(url)}` sends us on to an address that is none")
    if urllib.parse.urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise Unreachable(f"`{origin_text(url)}` sends us from TLS to plain HTTP, to `{origin_text(target)}`")
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def reason(error: BaseException) -> BaseException:
    """Return the innermost cause: what urllib3 wraps around it says the address again, in a programmer's words."""
    is_connecting = isinstance(error, urllib3.exceptions.ConnectTimeoutError)
    while (inner := error.__cause__ or _argument(error)) is not None:
        error = inner
    if not isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return error
    seconds = CONNECT_SECONDS if is_connecting else READ_SECONDS
    return Unavailable(f"nothing came for {seconds} seconds")


def _argument(error: BaseException) -> BaseException | None:
    """Return the error that urllib3 hands over as an argument instead of as the cause."""
    return next((word for word in error.args if isinstance(word, BaseException)), None)


def _lost(error: Exception, url: str, proxy: str | None) -> _Lost:
    where, hints = f"`{origin_text(url)}` cannot be reached", tuple[str, ...]()
    if isinstance(error, urllib3.exceptions.SSLError):
        hints = (
            "if it has a certificate of your own authority, name that one's file in SSL_CERT_FILE",
            f'if it speaks plain HTTP: `[registry."{origin_text(url)}"]` with `insecure = true` in the configuration',
        )
    elif proxy is not None:
        where = f"{where} through the proxy `{origin_text(proxy)}`"
    # A name that is not known and a port that nobody listens on are answers too, if sad ones.
    return _Lost(Unreachable(where, hints=hints), may_pass=not isinstance(error, _FINAL))


def _wait_of(answer: Answer, attempt: int) -> float | None:
    """Return how long to wait before a second try; None where this is the answer."""
    if answer.status not in _PASSING and answer.status != 429:
        return None
    asked = answer.header("Retry-After")
    if asked.isdigit() and len(asked) < 6:
        return float(asked) if float(asked) <= MAX_WAIT_SECONDS else None
    return None if answer.status == 429 else _FIRST_WAIT_SECONDS * attempt


def _manager(proxy: str | None, *, verify: bool, bundle: str | None) -> urllib3.PoolManager:
    options: dict[str, object] = {"maxsize": CONNECTIONS, "ca_certs": bundle}
    if not verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        options |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
    if proxy is None:
        return urllib3.PoolManager(**options)  # type: ignore[arg-type]  # typed one by one; the same set goes to both
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    parts = urllib.parse.urlsplit(proxy)
    if parts.username is not None:
        words = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=words)
    return urllib3.ProxyManager(proxy, **options)  # type: ignore[arg-type]  # as above
