"""What a person asked of a container: docker run's options as typed values.

`RunOptions` is what `cli`, `compose` and the tests build; the engine stores it with the container (`document`,
`parse`), so that `start` after `stop` means the same again. The words that it is written in are read by `words` and
`mount_words`. A new option is one field here; a record that is older than it has its default. Hot path.
"""

from sampan.frozen import frozen
from sampan.network.endpoint import BRIDGE, CONTAINER, PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document


@frozen
class VolumeMount:
    """One `-v` or `--tmpfs`: `kind` is `bind` (source: absolute host path), `volume` (source: its name) or `tmpfs`.

    `options` are mount words (`noexec`, `size=64m`, ...) without `ro` and `rw`, which are `read_only`; `recursion` is
    the word of `bind-recursive`, where it is not the default. An anonymous volume has the source `""` until the
    container is created. `subpath` is the part of a volume that is mounted. `driver_options` and `labels` are those of
    a volume that is made for it. `is_long` tells that it was a `--mount`, which inspect shows apart.
    """

    kind: str
    source: str
    destination: str
    read_only: bool = False
    options: tuple[str, ...] = ()
    recursion: str = ""
    subpath: str = ""
    driver_options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    is_long: bool = False

    def document(self) -> "Document":
        """Return what `parse` reads."""
        return _document(self)

    @classmethod
    def parse(cls, document: "Document") -> "VolumeMount":
        """Read what `document` returned."""
        return cls(**_values(document))


@frozen
class Ulimit:
    """One `--ulimit`: `name` in docker's word (`nofile`), -1 is unlimited."""

    name: str
    soft: int
    hard: int


@frozen
class NetworkRequest:
    """One `--network`: its name (`bridge`, `none`, `host`, or a user-defined one's), with `--network-alias` and `--ip`.

    `container:ID` is another container's network. `aliases` are further names by which the others on that network find
    the container; `ip` and `mac` `""` are any.
    """

    name: str
    aliases: tuple[str, ...] = ()
    ip: str = ""
    mac: str = ""

    def document(self) -> "Document":
        """Return what `parse` reads."""
        return _document(self)

    @classmethod
    def parse(cls, document: "Document") -> "NetworkRequest":
        """Read what `document` returned."""
        return cls(**_values(document))


@frozen
class HealthCheck:
    """The `--health-…` flags; 0 and an empty `test` are "not said": the image's word, else docker's default, holds.

    `test` is docker's: `("NONE",)` switches the image's off, `("CMD", word, …)` is executed as it stands,
    `("CMD-SHELL", text)` by the container's shell. Times are in nanoseconds, as in docker's Config.
    """

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0

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


@frozen
class RestartPolicy:
    """A `--restart`: `no`, `on-failure` (`maximum` times, 0 is for ever), `always` or `unless-stopped`."""

    name: str = "no"
    maximum: int = 0


DEFAULT_NETWORKS = (NetworkRequest(BRIDGE),)


@frozen
class RunOptions:
    """What `create` and `run` take, in docker's words; every default is docker's "not said".

    `command` and `entrypoint`: None is the image's own; `entrypoint=()` clears it (`--entrypoint ""`). `env`:
    `KEY=value` in order, complete (`words.resolve_environment`). `networks`: in the order of the container's
    interfaces, never empty; `none`, `host` and `container:ID` stand alone. `userns`: `""`, `host` or `keep-id`. `pid`,
    `ipc`, `uts`, `cgroupns`: docker's modes (`sharing`). `links`: `CONTAINER:ALIAS`. `first_network` is what
    `network_mode` was before `network connect` and `disconnect` changed the networks. `seccomp`: `""` (the default
    profile), `unconfined`, or a path. `runtime`: `""` (the settings' one), `sampan`, `runc` or a path. Limits are None
    where none was asked for. `nano_cpus` is `--cpus`, in billionths; it excludes the quota and the period. `device_…`
    and `blkio_weight_device` are (path, number) each, `devices` (path here, path inside, access of `rwm`). `detach` is
    only told to the monitor (stdin of a container nobody sits at).
    """

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    name: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    group_add: tuple[str, ...] = ()
    workdir: str = ""
    hostname: str = ""
    ports: tuple[PortMapping, ...] = ()
    publish_all: bool = False
    volumes: tuple[VolumeMount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    volume_driver: str = ""
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpu_rt_period_us: int | None = None
    cpu_rt_runtime_us: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int | None = None
    blkio_weight_device: tuple[tuple[str, int], ...] = ()
    device_read_bps: tuple[tuple[str, int], ...] = ()
    device_write_bps: tuple[tuple[str, int], ...] = ()
    device_read_iops: tuple[tuple[str, int], ...] = ()
    device_write_iops: tuple[tuple[str, int], ...] = ()
    devices: tuple[tuple[str, str, str], ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    cgroup_parent: str = ""
    pids_limit: int | None = None
    shm_size_bytes: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str = ""
    no_new_privileges: bool = False
    privileged: bool = False
    read_only: bool = False
    userns: str = ""
    cgroupns: str = ""
    ipc: str = ""
    pid: str = ""
    uts: str = ""
    domainname: str = ""
    links: tuple[str, ...] = ()
    networks: tuple[NetworkRequest, ...] = DEFAULT_NETWORKS
    first_network: str = ""
    add_host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    health: HealthCheck = HealthCheck()
    restart: RestartPolicy = RestartPolicy()
    sysctl: dict[str, str] = {}  # noqa: RUF012 - a value that nobody changes
    labels: dict[str, str] = {}  # noqa: RUF012
    log_driver: str = ""
    log_options: dict[str, str] = {}  # noqa: RUF012
    annotations: dict[str, str] = {}  # noqa: RUF012
    stop_signal: str = ""
    stop_timeout_seconds: int | None = None
    platform: str = ""
    runtime: str = ""
    init: bool = False
    tty: bool = False
    interactive: bool = False
    detach: bool = False
    auto_remove: bool = False

    @property
    def network_mode(self) -> str:
        """Return docker's NetworkMode: the first network's name."""
        return self.networks[0].name

    @property
    def joined(self) -> dict[str, str]:
        """Return whose namespaces it joins: runtime-spec's name of the namespace -> that container's id or name."""
        words = {"pid": self.pid, "ipc": self.ipc, "network": self.network_mode}
        return {kind: word.removeprefix(CONTAINER) for kind, word in words.items() if word.startswith(CONTAINER)}

    def document(self) -> "Document":
        """Return what `parse` reads."""
        document = _document(self)
        document["networks"] = [network.document() for network in self.networks]
        document["health"] = self.health.document()
        document["restart"] = [self.restart.name, self.restart.maximum]
        document["ports"] = [port.document() for port in self.ports]
        document["volumes"] = [volume.document() for volume in self.volumes]
        document["ulimits"] = [[limit.name, limit.soft, limit.hard] for limit in self.ulimits]
        document["sysctl"], document["labels"] = dict(self.sysctl), dict(self.labels)
        document["log_options"] = dict(self.log_options)
        document["annotations"] = dict(self.annotations)
        return document

    @classmethod
    def parse(cls, document: "Document") -> "RunOptions":
        """Read what `document` returned: RunOptions.parse(options.document()) equals options."""
        values = _values(document)
        values["networks"] = tuple(NetworkRequest.parse(network) for network in document["networks"])
        values["health"] = HealthCheck.parse(document["health"])
        values["restart"] = RestartPolicy(*document["restart"])
        values["ports"] = tuple(PortMapping.parse(port) for port in document["ports"])
        values["volumes"] = tuple(VolumeMount.parse(volume) for volume in document["volumes"])
        values["ulimits"] = tuple(Ulimit(*limit) for limit in document["ulimits"])
        return cls(**values)


def _document(value: object) -> "Document":
    """Return a value's fields by name, tuples as lists."""
    names: tuple[str, ...] = getattr(type(value), "__slots__", ())
    return {name: _plain(getattr(value, name)) for name in names}


def _plain(value: object) -> object:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _values(document: "Document") -> "Document":
    """Return a document's fields as a value has them: lists are tuples."""
    return {name: _whole(field) for name, field in document.items()}


def _whole(value: object) -> object:
    return tuple(_whole(item) for item in value) if isinstance(value, list) else value
