"""Where apt here fetches Debian from, and whose signature it wants: sources.list(5), apt.conf(5), apt_auth.conf(5).

Only what Sampan needs: the archives that carry `main` of a Debian release, the security archive beside them, keyrings,
proxies, the CA of TLS mirrors, passwords, and whether apt checks Valid-Until. A mirror in Sampan's own settings
(`[bootstrap] mirror`) comes before all of them. Never on the hot path: read only when an index or package is fetched.
"""

import glob
import os
import re
from collections.abc import Iterator, Mapping

from sampan.settings.configuration import Settings

# Code names and suite names under which an archive is Debian's own (debian/dists).
_RELEASES = frozenset(
    "bullseye bookworm trixie forky duke sid oldoldstable oldstable stable testing unstable".split(),
)
_MAX_FILE_BYTES = 1 << 20


class Archive:
    """One root of a Debian archive (`URI/dists`, `URI/pool`) and the keyrings that its source names."""

    __slots__ = ("check_valid_until", "keyrings", "suites", "uri")

    def __init__(
        self, *, uri: str, suites: tuple[str, ...], keyrings: tuple[str, ...] = (), check_valid_until: bool = True
    ) -> None:
        self.uri = uri
        self.suites = suites
        self.keyrings = keyrings
        self.check_valid_until = check_valid_until

    def is_security(self) -> bool:
        """Tell whether this is the archive of security updates."""
        return any(suite.endswith(("-security", "/updates")) for suite in self.suites)


class Apt:
    """What apt is set to on this machine. `machine_keyrings` are those that hold where a source names none."""

    __slots__ = ("archives", "machine_keyrings", "options", "root")

    def __init__(
        self,
        *,
        archives: tuple[Archive, ...],
        options: Mapping[str, str],
        machine_keyrings: tuple[str, ...],
        root: str = "/",
    ) -> None:
        self.archives = archives
        self.options = options
        self.machine_keyrings = machine_keyrings
        self.root = root

    @property
    def check_valid_until(self) -> bool:
        """Whether an index that has expired is refused (apt.conf(5), Acquire::Check-Valid-Until)."""
        return self.options.get("acquire::check-valid-until", "true").lower() not in {
            "false",
            "no",
            "0",
            "off",
            "without",
        }

    def proxy(self, scheme: str, host: str) -> str | None:
        """Return apt's own proxy for a mirror; `DIRECT` means none, None means that apt says nothing."""
        return self.options.get(f"acquire::{scheme}::proxy::{host.lower()}") or self.options.get(
            f"acquire::{scheme}::proxy"
        )

    def ca_bundle(self) -> str | None:
        """Return the CA bundle that apt is told to use for TLS mirrors."""
        return self.options.get("acquire::https::cainfo")

    def credentials(self, uri: str) -> tuple[str, str] | None:
        """Return login and password that auth.conf has for `uri`; the last match wins, as for apt."""
        found = None
        for machine, login, password in _parse_auth(self.passwords().decode(errors="replace")):
            found = (login, password) if _matches(machine, uri) else found
        return found

    def passwords(self) -> bytes:
        """Return all of auth.conf and of the files beside it."""
        paths = [_under(self.root, "etc/apt/auth.conf"), *_listed(self.root, "etc/apt/auth.conf.d", (".conf",))]
        return "\n".join(filter(None, map(_read, paths))).encode()


def load(settings: Settings, root: str = "/") -> Apt:
    """Read apt's settings below `root`."""
    options = _options(root)
    if settings.environment.get("SAMPAN_ALLOW_EXPIRED_INDEX") not in {None, "", "0"}:
        options["acquire::check-valid-until"] = "false"
    archives = tuple(_archives(root))
    if settings.debian_mirror:
        mirror = settings.debian_mirror.rstrip("/")
        keyrings = next((archive.keyrings for archive in archives if archive.keyrings), ())
        archives = (
            Archive(uri=mirror, suites=("stable",), keyrings=keyrings),
            # Debian's own convention, and that of its mirrors; where it is not there the build says so and goes on.
            Archive(uri=f"{mirror}-security", suites=("stable-security",), keyrings=keyrings),
        )
    return Apt(archives=archives, options=options, machine_keyrings=_machine_keyrings(root), root=root)


def _archives(root: str) -> Iterator[Archive]:
    """Yield the enabled sources that carry `main` of a Debian release."""
    paths = [_under(root, "etc/apt/sources.list"), *_listed(root, "etc/apt/sources.list.d", (".list", ".sources"))]
    for path in paths:
        text = _read(path)
        for uri, suites, components, options in _stanzas(text) if path.endswith(".sources") else _lines(text):
            names = {
                suite.removesuffix("/updates").removesuffix("-security").removesuffix("-updates") for suite in suites
            }
            if "main" in components and names & _RELEASES:
                keyrings = tuple(
                    _under(root, key) for key in options.get("signed-by", "").replace(",", " ").split() if key[0] == "/"
                )
                check = options.get("check-valid-until", "yes").lower() not in {"no", "false"}
                yield Archive(uri=uri.rstrip("/"), suites=suites, keyrings=keyrings, check_valid_until=check)


def _lines(text: str) -> Iterator[tuple[str, tuple[str, ...], frozenset[str], dict[str, str]]]:
    """Parse the one-line format: `deb [options] uri suite component…`."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            options = dict(word.lower().partition("=")[::2] for word in (match[1] or "").split())
            # The value's case matters for paths.
            options |= {word.partition("=")[0].lower(): word.partition("=")[2] for word in (match[1] or "").split()}
            yield match[2], (match[3],), frozenset(match[4].split()), options


def _stanzas(text: str) -> Iterator[tuple[str, tuple[str, ...], frozenset[str], dict[str, str]]]:
    """Parse the deb822 format."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] == "#":
                continue
            if line[:1] in {" ", "\t"} and name:
                fields[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        is_on = fields.get("enabled", "yes").lower() not in {"no", "false"}
        if is_on and "deb" in fields.get("types", "").split():
            for uri in fields.get("uris", "").split():
                suites = tuple(fields.get("suites", "").split())
                yield uri, suites, frozenset(fields.get("components", "").split()), fields


def _options(root: str) -> dict[str, str]:
    """Read apt.conf: `A::B "value";` and the nested `A { B "value"; };`, keys in lower case."""
    options: dict[str, str] = {}
    for path in [*_listed(root, "etc/apt/apt.conf.d", None), _under(root, "etc/apt/apt.conf")]:
        _parse_options(_read(path), options)
    return options


_TOKEN = re.compile(r'"([^"]*)"|([{};])|(//[^\n]*|#[^\n]*|/\*.*?\*/)|([^\s"{};]+)', re.DOTALL)


def _parse_options(text: str, options: dict[str, str]) -> None:
    scope: list[str] = []
    words: list[str] = []
    for quoted, mark, comment, word in _TOKEN.findall(text):
        if comment:
            continue
        if not mark:
            words.append(quoted or word)
        elif mark == "{":
            scope.append(words[0].lower() if words else "")
            words = []
        elif mark == "}":
            scope = scope[:-1]
            words = []
        else:
            if len(words) == 2:
                options["::".join([*scope, words[0].lower()])] = words[1]
            words = []


def _machine_keyrings(root: str) -> tuple[str, ...]:
    """Return the keyrings of Debian that are installed here, then those that apt trusts for every source."""
    named = [_under(root, f"usr/share/keyrings/debian-archive-keyring.{end}") for end in ("gpg", "pgp")]
    trusted = _listed(root, "etc/apt/trusted.gpg.d", (".gpg", ".asc"))
    return tuple(path for path in (*named, *trusted) if os.path.isfile(path))


def _parse_auth(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield machine, login and password of a file in netrc's form (apt_auth.conf(5))."""
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    entry: dict[str, str] = {}
    for key, value in zip(words[::2], words[1::2], strict=False):
        if key == "machine":
            entry = {}
        entry[key] = value
        if {"machine", "login", "password"} <= entry.keys():
            yield entry["machine"], entry["login"], entry["password"]


def _matches(machine: str, uri: str) -> bool:
    """Tell whether a `machine` token (host, with an optional scheme and path) covers `uri`."""
    scheme, _, rest = uri.partition("://")
    wanted_scheme, mark, wanted = machine.rpartition("://")
    if mark and wanted_scheme != scheme:
        return False
    if not mark and scheme != "https":
        return False  # apt_auth.conf(5): without a scheme a password goes over TLS only
    rest = rest.rpartition("@")[2]
    return rest == wanted or rest.startswith(wanted.rstrip("/") + "/")


def _listed(root: str, directory: str, suffixes: tuple[str, ...] | None) -> list[str]:
    """Return the files of a `.d` directory in apt's order; without suffixes, those without an extension or `.conf`."""
    found = []
    for path in sorted(glob.glob(_under(root, directory) + "/*")):
        name = os.path.basename(path)
        if name.endswith(suffixes) if suffixes else ("." not in name or name.endswith(".conf")):
            found.append(path)
    return found


def _read(path: str) -> str:
    """Return a settings file's text; empty where it is not there or not ours to read."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE_BYTES).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
        return ""


def _under(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))
