"""HTTP in bounds: redirects, credentials, second tries, and answers that never end."""

import http.server
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from sampan.errors import Corrupt
from sampan.registry import transport
from sampan.registry.transport import Request, Transport, Unreachable, one_piece
from sampan.settings.configuration import Settings
from tests.registry.hostile import Handler, Hostile, reply

pytestmark = [pytest.mark.first]


@pytest.fixture
def waits() -> list[float]:
    """Return the list of how long the transport wanted to sleep."""
    return []


@pytest.fixture
def client(waits: list[float]) -> Iterator[Transport]:
    """Yield a transport that does not sleep."""
    with Transport(Settings({"SAMPAN_CONFIG": "/nowhere"}, 0), sleep=waits.append) as found:
        yield found


def fetch(client: Transport, server: Hostile, path: str, *, authorization: str | None = None) -> tuple[int, bytes]:
    """GET a path and return status and body."""
    request = Request(method="GET", url=f"http://{server.address}{path}", authorization=authorization)
    with client.send(request) as answer:
        return answer.status, answer.read_all(1000, "it")


def test_a_redirect_is_followed_without_the_credential(client: Transport, hostile: Hostile, other: Hostile) -> None:
    """Another origin, be it another port of the same machine, gets the request but never the Authorization."""
    hostile.answer("/here", 307, Location="/there")
    hostile.answer("/there", 302, Location=f"http://me:pass@{other.address}/away#part")
    other.answer("/away", 200, b"content")
    assert fetch(client, hostile, "/here", authorization="Bearer secret") == (200, b"content")
    assert hostile.asked("/here")[0]["authorization"] == hostile.asked("/there")[0]["authorization"] == "Bearer secret"
    assert "authorization" not in other.asked("/away")[0]


def test_redirects_in_a_circle_end(client: Transport, hostile: Hostile) -> None:
    """After five there is an error, and no second try."""
    hostile.answer("/a", 307, Location="/b")
    hostile.answer("/b", 307, Location="/a")
    with pytest.raises(Unreachable, match="redirects more than 5 times"):
        fetch(client, hostile, "/a")
    assert len(hostile.requests) == transport.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "gopher://x/", "http://x:99999/", "http://x:y/", "http://[::1", "http://h/" + "x" * 20_000],
)
def test_a_redirect_that_leads_nowhere(client: Transport, hostile: Hostile, location: str) -> None:
    """Only addresses of HTTP are followed."""
    hostile.answer("/a", 307, Location=location)
    with pytest.raises(Unreachable, match="an address that is none"):
        fetch(client, hostile, "/a")


def test_no_way_from_tls_to_plain_http() -> None:
    """What began with TLS stays with it; the other way round is fine."""
    with pytest.raises(Unreachable, match="from TLS to plain HTTP, to `b`"):
        transport.resolved("https://a/x", "http://b/y")
    assert transport.resolved("http://a/x", "https://b/y") == "https://b/y"
    assert transport.resolved("https://a/x/y", "z?q=1") == "https://a/x/z?q=1"


def test_passing_failures_are_tried_again(client: Transport, hostile: Hostile, waits: list[float]) -> None:
    """Three times in all; what comes after the failures counts."""
    answers = iter((503, 500, 200))
    hostile.replies["/a"] = lambda handler: reply(handler, next(answers), b"x")
    assert fetch(client, hostile, "/a") == (200, b"x")
    assert waits == [0.2, 0.4]
    hostile.answer("/b", 503)
    assert fetch(client, hostile, "/b")[0] == 503
    assert len(hostile.asked("/b")) == transport.ATTEMPTS


def test_a_limit_is_waited_for_within_reason(client: Transport, hostile: Hostile, waits: list[float]) -> None:
    """A registry may have us wait some seconds, and no longer; without a time its answer stands."""
    answers = iter((("2", 429), ("0", 200)))

    def answer(handler: Handler) -> None:
        wait, status = next(answers)
        reply(handler, status, Retry_After=wait)

    hostile.replies["/a"] = answer
    assert fetch(client, hostile, "/a")[0] == 200
    assert waits == [2.0]
    hostile.answer("/b", 429, Retry_After="3600")
    hostile.answer("/c", 429)
    assert (fetch(client, hostile, "/b")[0], fetch(client, hostile, "/c")[0]) == (429, 429)
    assert waits == [2.0]


def test_what_breaks_off_is_tried_again(client: Transport, hostile: Hostile) -> None:
    """A connection that closes without an answer is one more try; a write is not repeated behind anybody's back."""

    def close(handler: Handler) -> None:
        handler.close_connection = True

    hostile.replies["/a"] = close
    with pytest.raises(Unreachable, match="cannot be reached"):
        fetch(client, hostile, "/a")
    assert len(hostile.asked("/a")) == transport.ATTEMPTS
    request = Request(method="PUT", url=f"http://{hostile.address}/a", body=partial(one_piece, b"x"), length=1)
    with pytest.raises(Unreachable):
        client.send(request)
    assert len(hostile.asked("/a")) == transport.ATTEMPTS + 1


def test_an_answer_without_an_end_is_bounded(client: Transport, hostile: Hostile) -> None:
    """A body that is longer than its bound is left, whether it says its length or comes in chunks for ever."""

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"400\r\n" + bytes(1024) + b"\r\n")

    hostile.replies["/a"] = endless
    hostile.answer("/b", 200, bytes(1001))
    for path in ("/a", "/b"):
        with pytest.raises(Corrupt, match="it is longer than 1000 bytes"):
            fetch(client, hostile, path)


def test_headers_are_bounded(client: Transport, hostile: Hostile) -> None:
    """A header line of a megabyte, or a thousand lines, are no answer."""
    hostile.answer("/a", 200, X=("x" * 1_000_000))
    hostile.replies["/b"] = lambda handler: reply(handler, 200, b"", **{f"X{number}": "x" for number in range(1000)})
    for path in ("/a", "/b"):
        with pytest.raises(Unreachable):
            fetch(client, hostile, path)


def test_a_byte_now_and_then_is_no_progress(hostile: Hostile) -> None:
    """Less than 64 KiB in a minute (of the clock that the transport is given) ends it; the control comes through."""
    now = [0.0]

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "200000")
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(bytes(1000))
            handler.wfile.flush()
            time.sleep(0.001)

    hostile.replies["/a"] = drip
    settings = Settings({"SAMPAN_CONFIG": "/nowhere"}, 0)

    def total(step: float) -> int:
        request = Request(method="GET", url=f"http://{hostile.address}/a")
        with Transport(settings, clock=lambda: now[0]) as client, client.send(request) as answer:
            size = 0
            while piece := answer.read(1000):
                size += len(piece)
                now[0] += step
            return size

    assert total(0.1) == 200_000
    with pytest.raises(Unreachable, match="less than 65536 bytes in a minute"):
        total(10.0)


def test_a_read_that_waits_can_be_ended(client: Transport, hostile: Hostile) -> None:
    """`abort` from another thread ends a read at once; nothing waits for the time-out."""
    release = threading.Event()

    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"x")
        release.wait(60)

    hostile.replies["/a"] = stall
    answer = client.send(Request(method="GET", url=f"http://{hostile.address}/a"))
    assert answer.read(10) == b"x"
    threading.Timer(0.1, answer.abort).start()
    with pytest.raises(Unreachable, match="broke off"):
        answer.read(10)
    answer.close()
    release.set()


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Answers every request that comes through it, and remembers what it was asked for."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        """Answer for whoever was meant."""
        self.seen.append((self.path, self.headers.get("Proxy-Authorization")))
        reply(self, 200, b"through the proxy")

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[http.server.HTTPServer]:
    """Yield a proxy for plain HTTP."""
    _Proxy.seen = []
    server = http.server.HTTPServer(("127.0.0.1", 0), _Proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_way_through_a_proxy(proxy: http.server.HTTPServer, hostile: Hostile) -> None:
    """HTTP_PROXY is used with its password, and not for whom NO_PROXY names; an error names it without the password."""
    address = f"me:s%20cret@127.0.0.1:{proxy.server_address[1]}"
    environment = {"SAMPAN_CONFIG": "/nowhere", "HTTP_PROXY": f"http://{address}", "NO_PROXY": "127.0.0.1"}
    hostile.answer("/x", 200, b"direct")
    with Transport(Settings(environment, 0)) as client:
        with client.send(Request(method="GET", url="http://registry.invalid/x")) as answer:
            assert answer.read_all(100, "it") == b"through the proxy"
        assert fetch(client, hostile, "/x") == (200, b"direct")
    assert _Proxy.seen == [("http://registry.invalid/x", "Basic bWU6cyBjcmV0")]
    dead = {"SAMPAN_CONFIG": "/nowhere", "http_proxy": "http://me:secret@127.0.0.1:1"}
    with Transport(Settings(dead, 0)) as client, pytest.raises(Unreachable) as caught:
        client.send(Request(method="GET", url="http://registry.invalid/x"))
    assert caught.value.what == "`registry.invalid` cannot be reached through the proxy `127.0.0.1:1`"


def test_nothing_secret_in_a_repr() -> None:
    """A request can be shown."""
    assert "secret" not in repr(Request(method="GET", url="http://x/", authorization="Bearer secret"))
