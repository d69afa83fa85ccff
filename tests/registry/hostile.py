"""A server of the tests' own that answers as it is told: what no real registry does, and what a hostile one may do.

`Hostile` maps a path (with its query) to a handler or a fixed answer, and remembers every request with its headers.
"""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Handler = http.server.BaseHTTPRequestHandler
Reply = Callable[[Handler], None]


class Hostile:
    """A running server: `address`, `replies` by path, `requests` as (method, path, headers)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.replies: dict[str, Reply] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def answer(self, path: str, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer a path with a status, a body and headers (`Content_Type` is Content-Type)."""
        self.replies[path] = lambda handler: reply(handler, status, body, **headers)

    def asked(self, path: str) -> list[dict[str, str]]:
        """Return the headers of each request for a path."""
        return [headers for _, asked, headers in self.requests if asked == path]


def reply(handler: Handler, status: int, body: bytes = b"", **headers: str) -> None:
    """Send one whole answer."""
    handler.send_response(status)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in ({"Content-Length": str(len(body))} | names).items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def _absent(handler: Handler) -> None:
    reply(handler, 404)


@contextmanager
def serving() -> Iterator[Hostile]:
    """Run one until the end of the `with`."""

    class Answering(Handler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            found.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            if length := int(self.headers.get("Content-Length") or 0):
                self.rfile.read(length)
            try:
                found.replies.get(self.path, _absent)(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client had enough

        do_GET = do_HEAD = do_POST = do_PUT = _any  # noqa: N815  http.server's names

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    found = Hostile(f"127.0.0.1:{server.server_address[1]}")
    found.answer("/v2/", 200, b"{}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
