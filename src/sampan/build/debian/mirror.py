"""Fetching from a Debian mirror: http, https or a directory, with the machine's proxy, CA and passwords.

Everything that comes from here is hostile until a signature or a hash says otherwise; sizes are bounded while reading.
"""

import urllib.parse
from typing import Self

import urllib3

from sampan.errors import Corrupt, NotFound, Unavailable
from sampan.settings import trust
from sampan.settings.apt import Apt
from sampan.settings.configuration import Settings

_TIMEOUT = urllib3.Timeout(connect=10, read=30)
_RETRIES = urllib3.Retry(
    total=4, connect=2, redirect=5, status=2, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504)
)
_CHUNK_BYTES = 1 << 18
CONNECTIONS = 8


class Mirror:
    """Fetches below the roots of archives. Usable by several threads; close it, or use it in a `with`."""

    def __init__(self, apt: Apt, settings: Settings) -> None:
        """Prepare; nothing is fetched yet."""
        self._apt = apt
        self._settings = settings
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def fetch(self, root: str, path: str, *, limit: int) -> bytes:
        """Return the file at `path` below the archive `root`, of at most `limit` bytes.

        Raises NotFound where the mirror has no such file, Unavailable where it cannot be reached, Corrupt past the
        limit.
        """
        scheme, _, rest = root.partition("://")
        if scheme in {"file", "copy"} or root.startswith("file:"):
            return _read(f"{(rest or root.removeprefix('file:')).rstrip('/')}/{path}", limit)
        if scheme not in {"http", "https"}:
            raise Unavailable(f"the Debian mirror uses `{scheme}`, which Sampan does not speak", hints=_HINTS)
        return self._request(f"{root}/{urllib.parse.quote(path)}", limit)

    def _request(self, url: str, limit: int) -> bytes:
        shown = _without_password(url)
        try:
            response = self._pool(url).request("GET", url, headers=self._headers(url), preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"the Debian mirror cannot be reached for `{shown}`", hints=_HINTS) from _reason(error)
        try:
            if response.status == 404:
                raise NotFound(f"the Debian mirror has no `{shown}`")
            if response.status != 200:
                raise Unavailable(f"the Debian mirror answered {response.status} for `{shown}`", hints=_HINTS)
            return _bounded(response, limit, shown)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"the Debian mirror broke off `{shown}`", hints=_HINTS) from _reason(error)
        finally:
            response.close()  # read to its end, its connection is back in the pool already

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        proxy = self._apt.proxy(parts.scheme, host) or trust.proxy_for(self._settings.environment, parts.scheme, host)
        if proxy in {"DIRECT", "none"}:
            proxy = None
        if proxy not in self._pools:
            bundle = self._apt.ca_bundle() or trust.ca_bundle(self._settings.environment)
            options = {"maxsize": CONNECTIONS, "timeout": _TIMEOUT, "retries": _RETRIES, "ca_certs": bundle}
            self._pools[proxy] = _manager(proxy, options)
        return self._pools[proxy]

    def _headers(self, url: str) -> dict[str, str]:
        headers = {"User-Agent": "sampan"}
        credentials = self._apt.credentials(url)
        if credentials:
            headers |= urllib3.make_headers(basic_auth=":".join(credentials))
        return headers

    def close(self) -> None:
        """Close all connections. Idempotent."""
        for pool in self._pools.values():
            pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_HINTS = (
    "see that this machine reaches its Debian mirror: `apt-get update`",
    'name another mirror in config.toml: `[bootstrap]` with `mirror = "URL"`, or in SAMPAN_DEBIAN_MIRROR',
)


def unreachable_hints() -> tuple[str, ...]:
    """Return the ways out where a mirror cannot be reached."""
    return _HINTS


def _manager(proxy: str | None, options: dict[str, object]) -> urllib3.PoolManager:
    # urllib3 types its keywords one by one; the same set goes to both.
    if proxy:
        return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **options)  # type: ignore[arg-type]
    return urllib3.PoolManager(**options)  # type: ignore[arg-type]


def _bounded(response: urllib3.BaseHTTPResponse, limit: int, shown: str) -> bytes:
    parts = []
    total = 0
    for piece in response.stream(_CHUNK_BYTES, decode_content=False):
        total += len(piece)
        if total > limit:
            raise Corrupt(f"`{shown}` is longer than {limit} bytes")
        parts.append(piece)
    return b"".join(parts)


def _read(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError as error:
        raise NotFound(f"the Debian mirror has no `{path}`") from error
    if len(content) > limit:
        raise Corrupt(f"`{path}` is longer than {limit} bytes")
    return content


def _reason(error: BaseException) -> BaseException:
    """Return the innermost cause: what urllib3 wraps around it says the address again, in a programmer's words."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _without_password(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
