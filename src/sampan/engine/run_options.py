"""What a person asked of a container: docker run's options as typed values, and the words they are written in.

`RunOptions` is what `cli`, the tests and later compose build; the engine stores it with the container (`document`,
`parse`), so that `start` after `stop` means the same again. The parse functions turn one word of the command line into
its value and raise InvalidArgument. Hot path.
"""

import _signal
import os

from sampan.errors import InvalidArgument, NotFound, Place, Unsupported
from sampan.network.endpoint import BRIDGE, PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.document import Document

# Docker's own bounds are the kernel's; ours keep a hostile file from filling memory.
ENVIRONMENT_FILE_BYTES = 1 << 20
# resource.h of the kernel, in docker's lower-case words.
ULIMITS = (
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
).split()  # fmt: skip
RESTARTS = ("no", "on-failure", "always", "unless-stopped")
_NAME_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_REST = _NAME_FIRST + "_.-"
_PROPAGATIONS = ("rprivate", "private", "rslave", "slave", "rshared", "shared")
_VOLUME_OPTIONS = ("ro", "rw", "z", "Z", *_PROPAGATIONS, "nocopy")
# What each type of `--mount` may say beside source, target and readonly; consistency is a word of docker's for macOS.
_MOUNT_TYPES = {
    "bind": ("bind-propagation", "consistency"),
    "volume": ("volume-nocopy", "consistency"),
    "tmpfs": ("tmpfs-size", "tmpfs-mode"),
}
_MOUNT_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}


class VolumeMount:
    """One `-v` or `--tmpfs`: `kind` is `bind` (source: absolute host path), `volume` (source: its name) or `tmpfs`.

    `options` are mount words (`ro`, `noexec`, `size=64m`, ...) without `ro` and `rw`, which are `read_only`. An
    anonymous volume has the source `""` until the container is created.
    """

    __slots__ = ("destination", "kind", "options", "read_only", "source")

    def __init__(
        self, kind: str, source: str, destination: str, *, read_only: bool = False, options: tuple[str, ...] = ()
    ) -> None:
        self.kind = kind
        self.source = source
        self.destination = destination
        self.read_only = read_only
        self.options = options

    def document(self) -> "Document":
        """Return what `parse` reads."""
        return {
            "kind": self.kind,
            "source": self.source,
            "destination": self.destination,
            "read_only": self.read_only,
            "options": list(self.options),
        }

    @classmethod
    def parse(cls, document: "Document") -> "VolumeMount":
        """Read what `document` returned."""
        return cls(
            document["kind"],
            document["source"],
            document["destination"],
            read_only=document["read_only"],
            options=tuple(document["options"]),
        )


class Ulimit:
    """One `--ulimit`: `name` in docker's word (`nofile`), -1 is unlimited."""

    __slots__ = ("hard", "name", "soft")

    def __init__(self, name: str, soft: int, hard: int) -> None:
        self.name = name
        self.soft = soft
        self.hard = hard


class NetworkRequest:
    """One `--network`: its name (`bridge`, `none`, `host`, or a user-defined one's), with `--network-alias` and `--ip`.

    `aliases` are further names by which the others on that network find the container; `ip` `""` is any that is free.
    """

    __slots__ = ("aliases", "ip", "name")

    def __init__(self, name: str, *, aliases: tuple[str, ...] = (), ip: str = "") -> None:
        self.name = name
        self.aliases = aliases
        self.ip = ip

    def document(self) -> "Document":
        """Return what `parse` reads."""
        return {"name": self.name, "aliases": list(self.aliases), "ip": self.ip}

    @classmethod
    def parse(cls, document: "Document") -> "NetworkRequest":
        """Read what `document` returned."""
        return cls(document["name"], aliases=tuple(document["aliases"]), ip=document["ip"])


class HealthCheck:
    """The `--health-…` flags; 0 and an empty `test` are "not said": the image's word, else docker's default, holds.

    `test` is docker's: `("NONE",)` switches the image's off, `("CMD", word, …)` is executed as it stands,
    `("CMD-SHELL", text)` by the container's shell. Times are in nanoseconds, as in docker's Config.
    """

    __slots__ = ("interval_ns", "retries", "start_interval_ns", "start_period_ns", "test", "timeout_ns")

    def __init__(
        self,
        test: tuple[str, ...] = (),
        *,
        interval_ns: int = 0,
        timeout_ns: int = 0,
        start_period_ns: int = 0,
        start_interval_ns: int = 0,
        retries: int = 0,
    ) -> None:
        self.test = test
        self.interval_ns = interval_ns
        self.timeout_ns = timeout_ns
        self.start_period_ns = start_period_ns
        self.start_interval_ns = start_interval_ns
        self.retries = retries

    def document(self) -> "Document":
        """Return what `parse` reads: docker's Healthcheck, with its keys, as far as something was said."""
        values = {
            "Test": list(self.test),
            "Interval": self.interval_ns,
            "Timeout": self.timeout_ns,
            "StartPeriod": self.start_period_ns,
            "StartInterval": self.start_interval_ns,
            "Retries": self.retries,
        }
        return {key: value for key, value in values.items() if value}

    @classmethod
    def parse(cls, document: "Document") -> "HealthCheck":
        """Read what `document` returned."""
        return cls(
            tuple(document.get("Test") or ()),
            interval_ns=document.get("Interval") or 0,
            timeout_ns=document.get("Timeout") or 0,
            start_period_ns=document.get("StartPeriod") or 0,
            start_interval_ns=document.get("StartInterval") or 0,
            retries=document.get("Retries") or 0,
        )


class RestartPolicy:
    """A `--restart`: `no`, `on-failure` (`maximum` times, 0 is for ever), `always` or `unless-stopped`."""

    __slots__ = ("maximum", "name")

    def __init__(self, name: str = "no", maximum: int = 0) -> None:
        self.name = name
        self.maximum = maximum


class RunOptions:
    """What `create` and `run` take, in docker's words; every default is docker's "not said".

    `command` and `entrypoint`: None is the image's own; `entrypoint=()` clears it (`--entrypoint ""`). `env`:
    `KEY=value` in order, complete (`resolve_environment`). `networks`: in the order of the container's interfaces;
    `()` is the default one, `none` and `host` stand alone. `userns`: `""` or `host`. `seccomp`: `""` (the default
    profile), `unconfined`, or a path. `runtime`: `""` (the settings' one), `sampan`, `runc` or a path. Limits are None
    where none was asked for. `detach` is only told to the monitor (stdin of a container nobody sits at).
    """

    __slots__ = (
        "add_host",
        "auto_remove",
        "cap_add",
        "cap_drop",
        "command",
        "cpu_quota_us",
        "cpu_shares",
        "detach",
        "dns",
        "dns_option",
        "dns_search",
        "entrypoint",
        "env",
        "expose",
        "group_add",
        "health",
        "hostname",
        "image",
        "init",
        "interactive",
        "labels",
        "memory_bytes",
        "memory_reservation_bytes",
        "memory_swap_bytes",
        "name",
        "networks",
        "no_new_privileges",
        "oom_score_adj",
        "pids_limit",
        "platform",
        "ports",
        "privileged",
        "publish_all",
        "read_only",
        "restart",
        "runtime",
        "seccomp",
        "shm_size_bytes",
        "stop_signal",
        "stop_timeout_seconds",
        "sysctl",
        "tty",
        "ulimits",
        "user",
        "userns",
        "volumes",
        "workdir",
    )

    def __init__(
        self,
        image: str,
        *,
        command: tuple[str, ...] | None = None,
        entrypoint: tuple[str, ...] | None = None,
        name: str = "",
        env: tuple[str, ...] = (),
        user: str = "",
        group_add: tuple[str, ...] = (),
        workdir: str = "",
        hostname: str = "",
        ports: tuple[PortMapping, ...] = (),
        publish_all: bool = False,
        volumes: tuple[VolumeMount, ...] = (),
        memory_bytes: int | None = None,
        memory_swap_bytes: int | None = None,
        memory_reservation_bytes: int | None = None,
        cpu_quota_us: int | None = None,
        cpu_shares: int | None = None,
        pids_limit: int | None = None,
        shm_size_bytes: int | None = None,
        ulimits: tuple[Ulimit, ...] = (),
        oom_score_adj: int | None = None,
        cap_add: tuple[str, ...] = (),
        cap_drop: tuple[str, ...] = (),
        seccomp: str = "",
        no_new_privileges: bool = False,
        privileged: bool = False,
        read_only: bool = False,
        userns: str = "",
        networks: tuple[NetworkRequest, ...] = (),
        add_host: tuple[str, ...] = (),
        dns: tuple[str, ...] = (),
        dns_search: tuple[str, ...] = (),
        dns_option: tuple[str, ...] = (),
        expose: tuple[str, ...] = (),
        health: HealthCheck | None = None,
        restart: RestartPolicy | None = None,
        sysctl: "Mapping[str, str] | None" = None,
        labels: "Mapping[str, str] | None" = None,
        stop_signal: str = "",
        stop_timeout_seconds: int | None = None,
        platform: str = "",
        runtime: str = "",
        init: bool = False,
        tty: bool = False,
        interactive: bool = False,
        detach: bool = False,
        auto_remove: bool = False,
    ) -> None:
        self.image = image
        self.command = command
        self.entrypoint = entrypoint
        self.name = name
        self.env = env
        self.user = user
        self.group_add = group_add
        self.workdir = workdir
        self.hostname = hostname
        self.ports = ports
        self.publish_all = publish_all
        self.volumes = volumes
        self.memory_bytes = memory_bytes
        self.memory_swap_bytes = memory_swap_bytes
        self.memory_reservation_bytes = memory_reservation_bytes
        self.cpu_quota_us = cpu_quota_us
        self.cpu_shares = cpu_shares
        self.pids_limit = pids_limit
        self.shm_size_bytes = shm_size_bytes
        self.ulimits = ulimits
        self.oom_score_adj = oom_score_adj
        self.cap_add = cap_add
        self.cap_drop = cap_drop
        self.seccomp = seccomp
        self.no_new_privileges = no_new_privileges
        self.privileged = privileged
        self.read_only = read_only
        self.userns = userns
        self.networks = networks or (NetworkRequest(BRIDGE),)
        self.add_host = add_host
        self.dns = dns
        self.dns_search = dns_search
        self.dns_option = dns_option
        self.expose = expose
        self.health = health or HealthCheck()
        self.restart = restart or RestartPolicy()
        self.sysctl = dict(sysctl or {})
        self.labels = dict(labels or {})
        self.stop_signal = stop_signal
        self.stop_timeout_seconds = stop_timeout_seconds
        self.platform = platform
        self.runtime = runtime
        self.init = init
        self.tty = tty
        self.interactive = interactive
        self.detach = detach
        self.auto_remove = auto_remove

    @property
    def network_mode(self) -> str:
        """Return docker's NetworkMode: the first network's name."""
        return self.networks[0].name

    def document(self) -> "Document":
        """Return what `parse` reads."""
        document: Document = {name: _plain(getattr(self, name)) for name in self.__slots__}
        document["networks"] = [network.document() for network in self.networks]
        document["health"] = self.health.document()
        document["restart"] = [self.restart.name, self.restart.maximum]
        document["ports"] = [port.document() for port in self.ports]
        document["volumes"] = [volume.document() for volume in self.volumes]
        document["ulimits"] = [[limit.name, limit.soft, limit.hard] for limit in self.ulimits]
        return document

    @classmethod
    def parse(cls, document: "Document") -> "RunOptions":
        """Read what `document` returned: RunOptions.parse(options.document()) equals options, field by field."""
        values: Document = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
        values["networks"] = tuple(NetworkRequest.parse(network) for network in document["networks"])
        values["health"] = HealthCheck.parse(document["health"])
        values["restart"] = RestartPolicy(*document["restart"])
        values["ports"] = tuple(PortMapping.parse(port) for port in document["ports"])
        values["volumes"] = tuple(VolumeMount.parse(volume) for volume in document["volumes"])
        values["ulimits"] = tuple(Ulimit(*limit) for limit in document["ulimits"])
        return cls(**values)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def check_name(name: str) -> str:
    """Return `name` if a container or volume may be called that (docker: [a-zA-Z0-9][a-zA-Z0-9_.-]+)."""
    if len(name) < 2 or len(name) > 128 or name[0] not in _NAME_FIRST or any(c not in _NAME_REST for c in name):
        hint = "use 2 to 128 letters, digits, `_`, `.` and `-`, the first a letter or digit"
        path = (f"a directory of this machine is `./{name}`",) if "/" in name else ()
        raise InvalidArgument(f"`{name}` cannot be a name", hints=(*path, hint))
    return name


def check_address(text: str) -> str:
    """Return `text` if it is an IP address."""
    import _socket  # only with --dns

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
        except OSError:
            continue
        return text
    raise InvalidArgument(f"`{text}` is not an IP address", hints=("write it like `192.0.2.53` or `2001:db8::53`",))


def parse_network(text: str) -> NetworkRequest:
    """Parse a `--network` word: `front`, or `name=front,alias=web,ip=10.5.0.7`."""
    if "=" not in text:
        return NetworkRequest(BRIDGE if text == "default" else text)
    name, aliases, ip = "", [], ""
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            aliases.append(value)
        elif key == "ip":
            ip = value
        else:
            raise InvalidArgument(f"`{key}` in the network `{text}` is unknown", hints=("known: name, alias, ip",))
    return NetworkRequest(name, aliases=tuple(aliases), ip=ip)


def parse_expose(text: str) -> tuple[str, ...]:
    """Parse an `--expose` word: `80`, `53/udp`, `3000-3010`; return docker's `80/tcp` for each port."""
    from sampan.network import ports  # only with --expose

    if ":" in text:
        raise InvalidArgument(f"`{text}` has a host port", hints=("publish it: `-p`",))
    return tuple(f"{mapping.container_port}/{mapping.protocol}" for mapping in ports.parse(text))


def parse_restart(text: str) -> RestartPolicy:
    """Parse a `--restart` word: `no`, `on-failure`, `on-failure:3`, `always`, `unless-stopped`."""
    name, colon, count = text.partition(":")
    is_count = count.isascii() and count.isdigit() and len(count) < 10
    if name not in RESTARTS or (colon and not (name == "on-failure" and is_count)):
        raise InvalidArgument(f"`{text}` is no restart policy", hints=(f"there are {', '.join(RESTARTS)}",))
    return RestartPolicy(name, int(count) if colon else 0)


def parse_volume(text: str) -> VolumeMount:
    """Parse a `-v` word: `/host:/in[:ro]`, `./below/here:/in`, `name:/in[:ro]`, `/in` (anonymous)."""
    parts = text.split(":")
    if len(parts) == 1:
        return VolumeMount("volume", "", _destination(parts[0], text))
    if len(parts) > 3 or not parts[0]:
        raise _no_volume(text)
    words = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    for word in words:
        if word not in _VOLUME_OPTIONS:
            raise InvalidArgument(f"`{word}` in the volume `{text}` is unknown", hints=("`ro` makes it read-only",))
    source, read_only = parts[0], "ro" in words
    options = tuple(word for word in words if word not in {"ro", "rw", "z", "Z"})
    destination = _destination(parts[1], text)
    if source.startswith(("/", "./", "../", "~/")) or source in {".", "..", "~"}:
        path = os.path.abspath(os.path.expanduser(source) if source.startswith("~") else source)
        return VolumeMount("bind", path, destination, read_only=read_only, options=options)
    return VolumeMount("volume", check_name(source), destination, read_only=read_only, options=options)


def parse_tmpfs(text: str) -> VolumeMount:
    """Parse a `--tmpfs` word: `/run[:size=64m,mode=1777]`."""
    destination, _, words = text.partition(":")
    options = tuple(word for word in words.split(",") if word)
    return VolumeMount("tmpfs", "", _destination(destination, text), read_only="ro" in options, options=options)


def parse_mount(text: str) -> VolumeMount:
    """Parse a `--mount` word: `type=bind,source=/host,target=/in,readonly`, or docker's other keys for the same."""
    fields = {_MOUNT_KEYS.get(key, key): value for key, _, value in (part.partition("=") for part in text.split(","))}
    kind = fields.pop("type", "volume")
    if kind not in _MOUNT_TYPES:
        raise InvalidArgument(f"the mount type `{kind}` is unknown", hints=(f"types: {', '.join(_MOUNT_TYPES)}",))
    source, target = fields.pop("source", ""), fields.pop("target", "")
    read_only = fields.pop("readonly", "false") in {"", "true", "1"}
    for key in fields:
        if key not in _MOUNT_TYPES[kind]:
            raise InvalidArgument(
                f"`{key}` in the mount `{text}` is unknown",
                hints=(f"`type={kind}` has {', '.join(_MOUNT_TYPES[kind])}",),
            )
    if kind == "bind":
        source = os.path.abspath(source)
    if kind == "bind" and not os.path.exists(source):
        # docker: `--mount` never makes a missing source, `-v` does.
        raise NotFound(f"the bind source `{source}` does not exist", hints=(f"make it with `mkdir -p {source}`",))
    if kind == "volume" and source:
        check_name(source)
    if kind == "tmpfs" and source:
        raise InvalidArgument(f"a tmpfs has no source, as `{text}` says")
    return VolumeMount(
        kind, source, _destination(target, text), read_only=read_only, options=_mount_options(fields, kind)
    )


def _mount_options(fields: "dict[str, str]", kind: str) -> tuple[str, ...]:
    """Return the mount words that the keys of a `--mount` mean."""
    if kind == "tmpfs":
        return tuple(f"{key.removeprefix('tmpfs-')}={value}" for key, value in fields.items())
    if kind == "volume":
        return ("nocopy",) if fields.get("volume-nocopy", "false") in {"", "true", "1"} else ()
    word = fields.get("bind-propagation", "")
    if word and word not in _PROPAGATIONS:
        raise InvalidArgument(f"`{word}` is no propagation", hints=(f"there are {', '.join(_PROPAGATIONS)}",))
    return (word,) if word else ()


def parse_ulimit(text: str) -> Ulimit:
    """Parse a `--ulimit` word: `nofile=1024`, `nofile=1024:2048`, `core=-1`."""
    name, _, value = text.partition("=")
    soft, _, hard = value.partition(":")
    if name not in ULIMITS:
        raise InvalidArgument(f"the ulimit `{name}` is unknown", hints=(f"known: {', '.join(ULIMITS)}",))
    try:
        limit = Ulimit(name, int(soft), int(hard or soft))
    except ValueError as error:
        raise InvalidArgument(f"`{text}` is no ulimit", hints=("write it like `nofile=1024:2048`",)) from error
    if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
        raise InvalidArgument(f"in the ulimit `{text}` the soft limit is above the hard one")
    return limit


def parse_signal(word: str) -> int:
    """Return the number of a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`."""
    name, plus, offset = word.upper().removeprefix("SIG").partition("+")
    number = int(name) if name.isascii() and name.isdigit() else getattr(_signal, f"SIG{name}", None)
    if plus and isinstance(number, int) and offset.isascii() and offset.isdigit():
        number += int(offset)
    if not isinstance(number, int) or not 0 < number < _signal.NSIG:
        raise InvalidArgument(f"`{word}` is no signal", hints=("write it like `TERM`, `SIGTERM` or `15`",))
    return number


def parse_pair(text: str) -> tuple[str, str]:
    """Parse a `--label` or `--sysctl` word, `key=value`; the value may be missing."""
    key, _, value = text.partition("=")
    if not key:
        raise InvalidArgument(f"`{text}` has no key", hints=("write it like `key=value`",))
    return key, value


def parse_security_options(words: "Iterable[str]") -> tuple[str, bool]:
    """Parse the `--security-opt` words; return the seccomp choice and whether no-new-privileges was asked for."""
    seccomp, no_new_privileges = "", False
    for word in words:
        key, _, value = word.replace(":", "=", 1).partition("=")
        if key == "seccomp" and value:
            seccomp = {"default": "", "builtin": "", "unconfined": value}.get(value, os.path.abspath(value))
        elif key == "no-new-privileges":
            no_new_privileges = value in {"", "true"}
        elif key in {"apparmor", "label"} and value in {"unconfined", "disable"}:
            continue  # neither is ever on
        else:
            raise Unsupported(
                f"the security option `{word}` is not there", hints=("there are `seccomp=…` and `no-new-privileges`",)
            )
    return seccomp, no_new_privileges


def resolve_environment(
    words: "Iterable[str]", files: "Iterable[str]", environment: "Mapping[str, str]"
) -> tuple[str, ...]:
    """Return `KEY=value` for the `--env-file` files, then the `-e` words; a bare `KEY` is the caller's, or nothing."""
    lines = [line for file in files for line in _environment_file(file)]
    result: dict[str, str] = {}
    for word in [*lines, *words]:
        key, equals, value = word.partition("=")
        if not key:
            raise InvalidArgument(f"the environment variable `{word}` has no name")
        if equals:
            result[key] = value
        elif key in environment:
            result[key] = environment[key]
        else:
            result.pop(key, None)
    return tuple(f"{key}={value}" for key, value in result.items())


def _environment_file(path: str) -> list[str]:
    """Read an `--env-file`: a `KEY=value` or `KEY` a line, `#` comments, nothing quoted (docker run(1))."""
    try:
        with open(path, "rb") as file:
            content = file.read(ENVIRONMENT_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"the environment file `{path}` does not exist") from error
    if len(content) > ENVIRONMENT_FILE_BYTES:
        raise InvalidArgument(f"the environment file `{path}` is larger than {ENVIRONMENT_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the environment file `{path}` is not UTF-8") from error
    result = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        key = line.partition("=")[0]
        if not key or " " in key or "\t" in key:
            raise InvalidArgument("this is no environment variable", at=Place(path, number, raw[:200]))
        result.append(line)
    return result


def _destination(path: str, text: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise _no_volume(text)
    clean = os.path.normpath(path)
    if clean in {"/", "//"}:
        raise InvalidArgument(f"the volume `{text}` would cover the whole root `/`")
    return clean


def _no_volume(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"`{text}` is no volume",
        hints=("write it like `/host/path:/in/it`, `name:/in/it` or `/in/it`, with `:ro` to protect it",),
    )
