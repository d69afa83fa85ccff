"""What docker's config.json says of the command line itself: keys, formats, proxies. Read, never written.

    {"detachKeys": "ctrl-x,x", "psFormat": "table {{.Names}}", "imagesFormat": "{{.ID}}",
     "proxies": {"default": {"httpProxy": URL, "httpsProxy": URL, "noProxy": WORDS, "ftpProxy": URL, "allProxy": URL}}}

`HttpHeaders` is for a daemon, and there is none. Who is who to which registry stands in the same file: see
`settings.docker`. Hot path only where there is such a file.
"""

from sampan.document import Malformed, parse
from sampan.errors import InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from sampan.document import Document

    T = TypeVar("T")

_MAX_BYTES = 1 << 20
# Of `proxies`: key -> variable; each is set in capitals and in small letters (docker's ParseProxyConfig).
_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
    "allProxy": "ALL_PROXY",
}


def detach_keys(path: str, read: "Callable[[str], T]") -> "T | None":
    """Return what `read` makes of `detachKeys`, None without it; raises InvalidArgument."""
    word = text(path, "detachKeys")
    if not word:
        return None
    try:
        return read(word)
    except InvalidArgument as error:
        raise InvalidArgument(f"`detachKeys` cannot be `{word}`", at=Place(path)) from error


def text(path: str, key: str) -> str:
    """Return the text of a key, `""` without it; raises InvalidArgument."""
    value = _read(path).get(key, "")
    if not isinstance(value, str):
        raise InvalidArgument(f"`{key}` is no text", at=Place(path))
    return value


def proxies(path: str) -> dict[str, str]:
    """Return the variables that `proxies` gives to every container and build; raises InvalidArgument.

    The part `default` is read: the others are named after daemons, and there is none.
    """
    found = _texts(path, _table(path, _table(path, _read(path), "proxies"), "default"))
    variables = {_PROXIES[key]: value for key, value in found.items() if key in _PROXIES and value}
    return variables | {name.lower(): value for name, value in variables.items()}


def _read(path: str) -> "Document":
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        found = parse(content.decode().strip()) if content.strip() else {}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (Malformed, UnicodeDecodeError, RecursionError):
        # No cause: what it quotes may be a secret.
        raise InvalidArgument("docker's configuration file is no JSON object", at=Place(path)) from None
    if len(content) > _MAX_BYTES:
        raise InvalidArgument("docker's configuration file is larger than 1 MiB", at=Place(path))
    return found


def _table(path: str, found: "Document", key: str) -> "Document":
    value = found.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"`{key}` is no object", at=Place(path))
    return value


def _texts(path: str, found: "Document") -> dict[str, str]:
    for key, value in found.items():
        if not isinstance(value, str):
            raise InvalidArgument(f"`{key}` is no text", at=Place(path))
    return dict(found)
