"""What a step may use of the machine's own: certificates, proxies, indexes, passwords; for its process only.

Theory. Behind a company's proxy, or with an index of its own, a `RUN pip install` that works by hand shall work in a
build, without a word of it in the Dockerfile. So what this machine's pip, uv, apt and curl are set to is put in files
below `DIRECTORY`, a tmpfs that only the step has, and environment variables of that process name them. None of it is in
the image, its history or a cache key. What the image or the Dockerfile sets itself goes before it.

A path of this machine that a setting names (a directory of wheels, an index on disk) is shown read-only below
`DIRECTORY`. An address on this machine's loopback, which is another in there, is forwarded to it.
"""

import os
import urllib.parse
from collections.abc import Mapping

from sampan.frozen import frozen
from sampan.settings import apt as apts
from sampan.settings import index, trust
from sampan.settings.configuration import Settings

DIRECTORY = "/run/sampan"
_CERTIFICATES = f"{DIRECTORY}/ca.crt"
_CERTIFICATE_VARIABLES = (
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
_LOOPBACK = ("localhost", "::1")
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@frozen
class Trust:
    """`files` below DIRECTORY, `directories` of this machine by their names there, `env`, and loopback `ports`."""

    files: Mapping[str, bytes]
    directories: Mapping[str, str]
    env: Mapping[str, str]
    ports: tuple[int, ...]


def of(settings: Settings, *, is_single_id: bool = False) -> Trust:
    """Return what this machine's settings come to. With a single id, apt is told that it cannot become another user."""
    gathered = _Gathered(settings)
    gathered.certificates()
    gathered.proxies()
    gathered.passwords()
    gathered.pip()
    gathered.uv()
    gathered.apt(is_single_id=is_single_id)
    return gathered.trust()


class _Gathered:
    """What was found so far."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._caller = settings.environment
        self._files: dict[str, bytes] = {}
        self._directories: dict[str, str] = {}
        self._env: dict[str, str] = {}
        self._ports: set[int] = set()

    def trust(self) -> Trust:
        return Trust(files=self._files, directories=self._directories, env=self._env, ports=tuple(sorted(self._ports)))

    def certificates(self) -> None:
        bundle = trust.certificates(self._caller)
        if bundle:
            self._files["ca.crt"] = bundle
            self._env |= dict.fromkeys(_CERTIFICATE_VARIABLES, _CERTIFICATES)

    def proxies(self) -> None:
        for name, value in trust.proxy_variables(self._caller).items():
            self._env |= {name: value, name.upper(): value}
            if name != "no_proxy":
                self._look_at(value)

    def passwords(self) -> None:
        content = trust.netrc(self._caller)
        if content:
            self._files["netrc"] = content
            self._env["NETRC"] = f"{DIRECTORY}/netrc"

    def pip(self) -> None:
        # What pip has to say of itself is no news in a build, and asking the index for its newest costs a request.
        self._env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        found = index.pip_settings(self._caller)
        lines = []
        for key in ("index-url", "extra-index-url", "find-links"):
            words = [self._shown(word, is_index=key != "find-links") for word in found.get(key, "").split()]
            if words:
                lines.append(f"{key} = {' '.join(words)}")
        lines += [f"{key} = {found[key]}" for key in ("no-index", "proxy", "trusted-host") if found.get(key)]
        if "ca.crt" in self._files:
            lines.append(f"cert = {_CERTIFICATES}")
        if found.get("client-cert"):
            content = trust.read(found["client-cert"])
            if content:
                self._files["client.pem"] = content
                lines.append(f"client-cert = {DIRECTORY}/client.pem")
        if lines:
            self._files["pip.conf"] = "\n".join(["[global]", *lines, ""]).encode("utf-8", "surrogateescape")
            self._env["PIP_CONFIG_FILE"] = f"{DIRECTORY}/pip.conf"

    def uv(self) -> None:
        """Tell uv of the same indexes, by a file: variables would go before what a project says."""
        found = index.pip_settings(self._caller)
        named = index.uv_configuration(self._caller)
        if named:
            self._files["uv.toml"] = named
        else:
            urls = [self._shown(word, is_index=True) for word in found.get("index-url", "").split()[:1]]
            extra = [self._shown(word, is_index=True) for word in found.get("extra-index-url", "").split()]
            links = [self._shown(word, is_index=False) for word in found.get("find-links", "").split()]
            lines = [f"find-links = [{', '.join(map(_quoted, links))}]"] if links else []
            # pip takes the best version of all indexes; whoever set several for pip counts on it.
            lines += ['index-strategy = "unsafe-best-match"'] if extra else []
            lines += [f"[[index]]\nurl = {_quoted(url)}" for url in extra]
            lines += [f"[[index]]\nurl = {_quoted(url)}\ndefault = true" for url in urls]
            if lines:
                self._files["uv.toml"] = "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")
        if "uv.toml" in self._files:
            self._env["UV_CONFIG_FILE"] = f"{DIRECTORY}/uv.toml"

    def apt(self, *, is_single_id: bool) -> None:
        found = apts.load(self._settings)
        lines = [
            f'{key} "{value}";'
            for key, value in sorted(found.options.items())
            if key.startswith(("acquire::http::proxy", "acquire::https::proxy", "acquire::check-")) and '"' not in value
        ]
        for archive in found.archives:
            self._look_at(archive.uri)
        for key, value in found.options.items():
            if "::proxy" in key:
                self._look_at(value)
        if "ca.crt" in self._files:
            lines.append(f'acquire::https::cainfo "{_CERTIFICATES}";')
        passwords = found.passwords()
        if passwords:
            self._files["auth.conf"] = passwords
            lines.append(f'dir::etc::netrc "{DIRECTORY}/auth.conf";')
        if is_single_id:
            lines.append('apt::sandbox::user "root";')
        if lines:
            self._files["apt.conf"] = "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")
            self._env["APT_CONFIG"] = f"{DIRECTORY}/apt.conf"

    def _shown(self, word: str, *, is_index: bool) -> str:
        """Return a setting's URL or path as the step has it."""
        if not word.startswith(("/", "file:")):
            self._look_at(word)
            return word
        path = os.path.abspath(urllib.parse.unquote(urllib.parse.urlsplit(word).path))
        # The pages of an index on disk mostly lead to files beside it (PEP 503 lets them).
        above = os.path.dirname(path) if is_index and os.path.dirname(path) != "/" else path
        if not os.path.isdir(above):
            return word
        name = next((name for name, known in self._directories.items() if known == above), "")
        if not name:
            name = f"machine-{len(self._directories)}"
            self._directories[name] = above
        inside = f"{DIRECTORY}/{name}{path[len(above) :]}"
        return f"file://{urllib.parse.quote(inside)}" if word.startswith("file:") else inside

    def _look_at(self, url: str) -> None:
        """Note the port of an address on this machine's loopback."""
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            return
        host = parts.hostname or ""
        if port and (host in _LOOPBACK or host.startswith("127.")):
            self._ports.add(port)


def _quoted(text: str) -> str:
    """Return a TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
