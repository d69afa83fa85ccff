"""Which Python package index this machine uses: pip's settings and uv's, put into the environment that uv is run with.

uv reads its own variables and files by itself, and where they name an index they win. Where they say nothing about
indexes, pip's settings hold, translated: pip.conf files in pip's order, then PIP_ variables. Passwords may stand in
index URLs, so all of it goes by environment and none by arguments, which other users can see.
"""

import os
import re
import sys
from collections.abc import Mapping

from sampan.settings.configuration import Settings
from sampan.settings.trust import ca_bundle, proxy_variables

_MAX_FILE_BYTES = 1 << 20
_UV_INDEX_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
)
# pip: a key is valid in [global] and in the command's own section, which comes later.
_SECTIONS = ("global", "download", "install")
_KEYS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "cert",
    "client-cert",
    "constraint",
    "proxy",
)
# What uv may see of the caller's environment: enough to find its files, its home, the network and passwords.
_PASSED = (
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "TMPDIR",
    "NETRC",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
    "DBUS_SESSION_BUS_ADDRESS",
)


class Index:
    """How to run uv here: its `environment`, further `arguments` without secrets, the machine's constraint files."""

    __slots__ = ("arguments", "constraints", "environment")

    def __init__(
        self, *, environment: Mapping[str, str], arguments: tuple[str, ...] = (), constraints: tuple[str, ...] = ()
    ) -> None:
        self.environment = environment
        self.arguments = arguments
        self.constraints = constraints


def load(settings: Settings, project: str, cache_directory: str) -> Index:
    """Read what pip and uv are set to, for a `project` directory; uv caches in `cache_directory` by default."""
    caller = settings.environment
    pip = _pip(caller)
    environment = {name: caller[name] for name in _PASSED if caller.get(name)}
    environment |= {name: value for name, value in caller.items() if name.startswith("UV_")}
    environment |= proxy_variables(caller)
    environment.setdefault("UV_CACHE_DIR", cache_directory)
    environment |= {"UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    bundle = caller.get("SSL_CERT_FILE") or pip.get("cert") or ca_bundle(caller)
    if bundle:
        environment["SSL_CERT_FILE"] = bundle
    arguments: tuple[str, ...] = ()
    if not _uv_names_index(caller, project):
        environment |= _translated(pip)
        arguments = ("--no-index",) if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"} else ()
    return Index(environment=environment, arguments=arguments, constraints=tuple(pip.get("constraint", "").split()))


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings about indexes, by the names of its options: the strongest of files and variables."""
    return _pip(environment)


def uv_configuration(environment: Mapping[str, str]) -> bytes:
    """Return the person's or the machine's own uv.toml where it names an index; else nothing."""
    for path in _uv_files(environment):
        if _names_index(path):
            with open(path, "rb") as file:
                return file.read(_MAX_FILE_BYTES)
    return b""


def _translated(pip: Mapping[str, str]) -> dict[str, str]:
    """Say pip's settings in uv's words."""
    found = {}
    if pip.get("index-url"):
        found["UV_DEFAULT_INDEX"] = pip["index-url"].strip()
    if pip.get("extra-index-url"):
        found["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # pip takes the best version of all indexes; whoever set several for pip counts on it.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if pip.get("find-links"):
        # uv splits this at commas or spaces by version; both together are read by all.
        found["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if pip.get("trusted-host"):
        found["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if pip.get("client-cert"):
        found["SSL_CLIENT_CERT"] = pip["client-cert"]
    if pip.get("proxy"):
        found |= {"http_proxy": pip["proxy"], "https_proxy": pip["proxy"]}
    return found


def _pip(caller: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings: system files, the user's, the environment's own, PIP_CONFIG_FILE, then PIP_ variables."""
    found: dict[str, str] = {}
    for path in _pip_files(caller):
        found |= _pip_file(path)
    for key in _KEYS:
        value = caller.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[key] = value
    return found


def _pip_files(caller: Mapping[str, str]) -> list[str]:
    """Return pip's configuration files, the weakest first (pip user guide, Configuration files)."""
    if caller.get("PIP_CONFIG_FILE") == os.devnull:
        return []
    home = caller.get("HOME") or "/"
    config = caller.get("XDG_CONFIG_HOME") or f"{home}/.config"
    shared = [f"{part}/pip/pip.conf" for part in (caller.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if part]
    files = [*shared, "/etc/pip.conf", f"{home}/.pip/pip.conf", f"{config}/pip/pip.conf", f"{sys.prefix}/pip.conf"]
    return [*files, caller["PIP_CONFIG_FILE"]] if caller.get("PIP_CONFIG_FILE") else files


def _pip_file(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_FILE_BYTES)
    except OSError:
        return {}
    import configparser  # 7 ms, so only where a file exists

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}  # pip itself will complain about its file; a build that can do without goes on
    found: dict[str, str] = {}
    for section in _SECTIONS:
        if parser.has_section(section):
            found |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return {key: value for key, value in found.items() if key in _KEYS}


def _uv_names_index(caller: Mapping[str, str], project: str) -> bool:
    """Tell whether uv's own settings say where packages come from."""
    if any(caller.get(name) for name in _UV_INDEX_VARIABLES):
        return True
    own = [] if caller.get("UV_CONFIG_FILE") else [f"{project}/uv.toml", f"{project}/pyproject.toml"]
    return any(_names_index(path) for path in (*_uv_files(caller), *own))


def _uv_files(caller: Mapping[str, str]) -> list[str]:
    """Return uv's configuration files that are no project's, the strongest first."""
    if caller.get("UV_CONFIG_FILE"):
        return [caller["UV_CONFIG_FILE"]]
    config = caller.get("XDG_CONFIG_HOME") or f"{caller.get('HOME') or '/'}/.config"
    return [f"{config}/uv/uv.toml", "/etc/uv/uv.toml"]


def _names_index(path: str) -> bool:
    """Tell whether the uv.toml or pyproject.toml at `path` has an index setting."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_FILE_BYTES)
    except OSError:
        return False
    import tomllib  # 13 ms, so only where a file exists

    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False
    if os.path.basename(path) == "pyproject.toml":
        table = table.get("tool", {}).get("uv", {})
    keys = {"index", "index-url", "extra-index-url", "find-links", "no-index"}
    return bool(keys & table.keys() or keys & dict(table.get("pip", {})).keys())


def redact(text: str) -> str:
    """Take passwords out of the URLs in `text`, for errors and logs."""
    return re.sub(r"(\w+://)[^/\s@:]*(:[^/\s@]*)?@", r"\1", text)
