"""Where Sampan keeps its state and what a person switched: environment first, then config.toml, then defaults.

The hot path reads this, so `tomllib` (13 ms) is imported only where a configuration file exists.
"""

import os

from sampan.errors import InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.settings.registry import Registry

SYSTEM_FILE = "/etc/sampan/config.toml"


class Settings:
    """What holds for one command.

    `root` is SAMPAN_ROOT (lasting state), `run` is SAMPAN_RUN (nothing that must last). `uid` is the effective user.
    `userns` is `auto` or `host`; `idmap` is `auto`, `idmap` or `shift` (how image ids reach the disk, decision 3);
    `init` is the path of the init of `--init`, `""` for whichever there is;
    `build_cache` is `trace` or `files` (when a RUN runs again, decision 9); `debian_mirror` overrides apt's;
    `registries` is by the registry's name; `docker_file` is docker's config.json, which need not be there;
    `environment` is the caller's, for those who pass it on.
    """

    __slots__ = (
        "build_cache",
        "debian_mirror",
        "docker_file",
        "environment",
        "idmap",
        "init",
        "registries",
        "root",
        "run",
        "runtime",
        "uid",
        "userns",
    )

    def __init__(self, environment: "Mapping[str, str]", uid: int) -> None:
        """Read the environment of `uid`, then the configuration file where there is one."""
        home = environment.get("HOME") or "/"
        self.environment = environment
        self.uid = uid
        self.docker_file = f"{environment.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json"
        # `or`: XDG variables that are set but empty mean unset (XDG Base Directory Specification).
        data = environment.get("XDG_DATA_HOME") or f"{home}/.local/share"
        self.root = environment.get("SAMPAN_ROOT") or ("/var/lib/sampan" if uid == 0 else f"{data}/sampan")
        # SECURITY: without a runtime directory below SAMPAN_ROOT, which is 0700; a name in /tmp is anybody's.
        run = environment.get("XDG_RUNTIME_DIR") or _runtime_directory(uid)
        own = f"{run}/sampan" if run else f"{self.root}/run"
        self.run = environment.get("SAMPAN_RUN") or ("/run/sampan" if uid == 0 else own)
        config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
        own_file = environment.get("SAMPAN_CONFIG") or f"{config}/sampan/config.toml"
        file, self.registries = _read(own_file) or _read(SYSTEM_FILE) or _NOTHING
        self.userns = environment.get("SAMPAN_USERNS") or file.get("userns", "auto")
        self.idmap = environment.get("SAMPAN_IDMAP") or file.get("idmap", "auto")
        self.init = environment.get("SAMPAN_INIT") or file.get("init", "")
        self.runtime = environment.get("SAMPAN_RUNTIME") or file.get("runtime", "sampan")
        self.build_cache = environment.get("SAMPAN_BUILD_CACHE") or file.get("build.cache", "trace")
        self.debian_mirror = environment.get("SAMPAN_DEBIAN_MIRROR") or file.get("bootstrap.mirror", "")


def load(variables: "Mapping[str, str] | None" = None) -> Settings:
    """Read the settings of this process; `variables` are what the command line says in the environment's place."""
    return Settings({**os.environ, **variables} if variables else os.environ, os.geteuid())


def _runtime_directory(uid: int) -> str:
    """Return what systemd gives a user who has a session or lingers, and tells no `su` or cron job of; "" without."""
    path = f"/run/user/{uid}"
    try:
        return path if os.stat(path).st_uid == uid else ""
    except OSError:
        return ""


# Every key of config.toml, dotted, but for those of `registry`; an unknown one is an error that suggests the nearest.
KEYS = ("userns", "idmap", "init", "runtime", "build.cache", "bootstrap.mirror")
_NOTHING: "tuple[dict[str, str], dict[str, Registry]]" = ({}, {})


def _read(path: str) -> "tuple[dict[str, str], dict[str, Registry]] | None":
    """Return the dotted keys of the TOML file at `path`, and its registries; None where there is no such file."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    import tomllib  # 13 ms, so only where a file exists

    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument("the configuration file is not TOML", at=Place(path)) from error
    registries = table.pop("registry", {})
    if not isinstance(registries, dict):
        raise InvalidArgument("the configuration key `registry` is no table", at=Place(path))
    flat = {key: value for key, value in table.items() if not isinstance(value, dict)}
    flat |= {
        f"{key}.{name}": value for key, sub in table.items() if isinstance(sub, dict) for name, value in sub.items()
    }
    for key, value in flat.items():
        if key not in KEYS or not isinstance(value, str):
            import difflib

            near = difflib.get_close_matches(key, KEYS, 1)
            hint = (f"did you mean `{near[0]}`?",) if near and near[0] != key else (f"known keys: {', '.join(KEYS)}",)
            raise InvalidArgument(
                f"the configuration key `{key}` is unknown or not a string", hints=hint, at=Place(path)
            )
    return flat, _registries(registries, path)


def _registries(found: "Mapping[str, object]", path: str) -> "dict[str, Registry]":
    if not found:
        return {}
    from sampan.settings import registry

    return registry.parse(found, path)
