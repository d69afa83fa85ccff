"""The runtime's config.json as typed values: runtime-spec v1.2, the border between engine and runtime.

The engine builds a `Spec`; our runtime takes it as it is, in memory; for runc and crun `document()` is written into a
bundle. `parse` reads what `document` wrote: parse(spec.document()) equals spec, field by field. Only keys that Sampan
sets or honours stand here. Hot path: plain classes with __slots__, no imports.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.document import Document

SPEC_VERSION = "1.2.0"


class IdMapping:
    """`size` ids from `container_id` on are the host's (the parent namespace's) from `host_id` on."""

    __slots__ = ("container_id", "host_id", "size")

    def __init__(self, container_id: int, host_id: int, size: int) -> None:
        self.container_id = container_id
        self.host_id = host_id
        self.size = size

    def document(self) -> "Document":
        """As config.md#posix-platform-user-namespace-mappings has it."""
        return {"containerID": self.container_id, "hostID": self.host_id, "size": self.size}


class Mount:
    """One mount of the container: `type` and `source` as mount(8) has them, `options` as fstab's words.

    A bind is type `bind` with `rbind` or `bind` in options; `ro`, `nosuid`, `nodev`, `noexec`, one propagation word.
    `idmap` (runtime-spec's word) asks that the source's ids be shown through the container's user namespace.
    """

    __slots__ = ("destination", "options", "source", "type")

    def __init__(self, destination: str, type: str, source: str, options: tuple[str, ...] = ()) -> None:
        self.destination = destination
        self.type = type
        self.source = source
        self.options = options

    def document(self) -> "Document":
        """As config.md#mounts has it."""
        return {
            "destination": self.destination,
            "type": self.type,
            "source": self.source,
            "options": list(self.options),
        }


class Device:
    """A device node in the container: `kind` is `c` or `b`; `mode` has permission bits only."""

    __slots__ = ("gid", "kind", "major", "minor", "mode", "path", "uid")

    def __init__(
        self, path: str, kind: str, major: int, minor: int, *, mode: int = 0o666, uid: int = 0, gid: int = 0
    ) -> None:
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = mode
        self.uid = uid
        self.gid = gid

    def document(self) -> "Document":
        """As config-linux.md#devices has it."""
        return {
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }


# What a limit of one block device limits -> its key in config-linux.md#block-io.
IO_KINDS = {
    "weight": "weightDevice",
    "read_bps": "throttleReadBpsDevice",
    "write_bps": "throttleWriteBpsDevice",
    "read_iops": "throttleReadIOPSDevice",
    "write_iops": "throttleWriteIOPSDevice",
}


class Resources:
    """Limits; None means no limit was asked for. Bytes, microseconds, counts.

    `cpuset_cpus` and `cpuset_mems` are the kernel's lists (`0-2,4`). `io_limits` are (kind of IO_KINDS, major, minor,
    value): weights, bytes or operations a second. `device_rules` are the devices that may be used beside the default
    ones: (`c`, `b` or `a`, major, minor, access of `rwm`), a number None being any.
    """

    __slots__ = (
        "blkio_weight",
        "cpu_period_us",
        "cpu_quota_us",
        "cpu_rt_period_us",
        "cpu_rt_runtime_us",
        "cpu_shares",
        "cpuset_cpus",
        "cpuset_mems",
        "device_rules",
        "io_limits",
        "memory_bytes",
        "memory_reservation_bytes",
        "memory_swap_bytes",
        "memory_swappiness",
        "oom_kill_disable",
        "pids",
    )

    def __init__(
        self,
        *,
        memory_bytes: int | None = None,
        memory_swap_bytes: int | None = None,
        memory_reservation_bytes: int | None = None,
        memory_swappiness: int | None = None,
        oom_kill_disable: bool | None = None,
        cpu_quota_us: int | None = None,
        cpu_period_us: int | None = None,
        cpu_rt_period_us: int | None = None,
        cpu_rt_runtime_us: int | None = None,
        cpu_shares: int | None = None,
        cpuset_cpus: str | None = None,
        cpuset_mems: str | None = None,
        blkio_weight: int | None = None,
        io_limits: "tuple[tuple[str, int, int, int], ...] | None" = None,
        device_rules: "tuple[tuple[str, int | None, int | None, str], ...] | None" = None,
        pids: int | None = None,
    ) -> None:
        self.memory_bytes = memory_bytes
        self.memory_swap_bytes = memory_swap_bytes  # memory and swap together, docker's meaning; -1 is unlimited
        self.memory_reservation_bytes = memory_reservation_bytes  # what it may keep when memory is short
        self.memory_swappiness = memory_swappiness
        self.oom_kill_disable = oom_kill_disable
        self.cpu_quota_us = cpu_quota_us
        self.cpu_period_us = cpu_period_us
        self.cpu_rt_period_us = cpu_rt_period_us
        self.cpu_rt_runtime_us = cpu_rt_runtime_us
        self.cpu_shares = cpu_shares
        self.cpuset_cpus = cpuset_cpus
        self.cpuset_mems = cpuset_mems
        self.blkio_weight = blkio_weight
        self.io_limits = io_limits
        self.device_rules = device_rules
        self.pids = pids

    def is_empty(self) -> bool:
        """Tell whether no limit was asked for."""
        return all(getattr(self, name) is None for name in self.__slots__)

    def document(self) -> "Document":
        """As config-linux.md#control-groups has it."""
        memory = {
            "limit": self.memory_bytes,
            "swap": self.memory_swap_bytes,
            "reservation": self.memory_reservation_bytes,
            "swappiness": self.memory_swappiness,
            "disableOOMKiller": self.oom_kill_disable,
        }
        cpu = {
            "shares": self.cpu_shares,
            "quota": self.cpu_quota_us,
            "period": self.cpu_period_us,
            "realtimePeriod": self.cpu_rt_period_us,
            "realtimeRuntime": self.cpu_rt_runtime_us,
            "cpus": self.cpuset_cpus,
            "mems": self.cpuset_mems,
        }
        parts: Document = {
            "memory": _present(memory),
            "cpu": _present(cpu),
            "pids": _present({"limit": self.pids}),
            "blockIO": _present({"weight": self.blkio_weight}) | _io_document(self.io_limits or ()),
        }
        if self.device_rules is not None:
            rules = [
                _present({"allow": True, "type": kind, "major": major, "minor": minor, "access": access})
                for kind, major, minor, access in self.device_rules
            ]
            parts["devices"] = [{"allow": False, "access": "rwm"}, *rules]
        return {key: part for key, part in parts.items() if part}


def _io_document(limits: "tuple[tuple[str, int, int, int], ...]") -> "dict[str, object]":
    document: dict[str, object] = {}
    for name, key in IO_KINDS.items():
        word = "weight" if name == "weight" else "rate"
        found = [{"major": major, "minor": minor, word: value} for kind, major, minor, value in limits if kind == name]
        if found:
            document[key] = found
    return document


class Process:
    """What is executed: `args` and `env` (`KEY=value`) as execve takes them, ids as the container sees them.

    `capabilities` (names with CAP_) become the bounding, permitted and effective sets; the inheritable and ambient
    sets stay empty, as docker's do. `rlimits` are (RLIMIT_NAME, soft, hard).
    """

    __slots__ = (
        "additional_gids",
        "args",
        "capabilities",
        "cwd",
        "env",
        "gid",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "terminal",
        "uid",
        "umask",
    )

    def __init__(
        self,
        args: tuple[str, ...],
        *,
        env: tuple[str, ...] = (),
        cwd: str = "/",
        uid: int = 0,
        gid: int = 0,
        additional_gids: tuple[int, ...] = (),
        umask: int = 0o022,
        capabilities: tuple[str, ...] = (),
        rlimits: tuple[tuple[str, int, int], ...] = (),
        no_new_privileges: bool = False,
        oom_score_adj: int | None = None,
        terminal: bool = False,
    ) -> None:
        self.args = args
        self.env = env
        self.cwd = cwd
        self.uid = uid
        self.gid = gid
        self.additional_gids = additional_gids
        self.umask = umask
        self.capabilities = capabilities
        self.rlimits = rlimits
        self.no_new_privileges = no_new_privileges
        self.oom_score_adj = oom_score_adj
        self.terminal = terminal

    def document(self) -> "Document":
        """As config.md#process has it."""
        sets = ("bounding", "effective", "permitted")
        document: Document = {
            "terminal": self.terminal,
            "user": {
                "uid": self.uid,
                "gid": self.gid,
                "umask": self.umask,
                "additionalGids": list(self.additional_gids),
            },
            "args": list(self.args),
            "env": list(self.env),
            "cwd": self.cwd,
            "capabilities": {name: list(self.capabilities) for name in sets},
            "rlimits": [{"type": name, "soft": soft, "hard": hard} for name, soft, hard in self.rlimits],
            "noNewPrivileges": self.no_new_privileges,
        }
        if self.oom_score_adj is not None:
            document["oomScoreAdj"] = self.oom_score_adj
        return document


class Spec:
    """One container, whole.

    `namespaces` maps a runtime-spec name (`user`, `mount`, `pid`, `network`, `ipc`, `uts`, `cgroup`) to a path to join,
    or `""` to make a new one; a name that is absent means the caller's own. `seccomp` is the profile in runtime-spec's
    form (config-linux.md#seccomp) or None for unconfined.
    """

    __slots__ = (
        "annotations",
        "cgroups_path",
        "devices",
        "domainname",
        "gid_mappings",
        "hostname",
        "masked_paths",
        "mounts",
        "namespaces",
        "process",
        "readonly_paths",
        "readonly_root",
        "resources",
        "root_path",
        "seccomp",
        "sysctl",
        "uid_mappings",
    )

    def __init__(
        self,
        process: Process,
        *,
        root_path: str = "rootfs",
        readonly_root: bool = False,
        hostname: str = "",
        domainname: str = "",
        mounts: tuple[Mount, ...] = (),
        namespaces: "dict[str, str] | None" = None,
        uid_mappings: tuple[IdMapping, ...] = (),
        gid_mappings: tuple[IdMapping, ...] = (),
        devices: tuple[Device, ...] = (),
        cgroups_path: str = "",
        resources: Resources | None = None,
        seccomp: "Document | None" = None,
        masked_paths: tuple[str, ...] = (),
        readonly_paths: tuple[str, ...] = (),
        sysctl: "dict[str, str] | None" = None,
        annotations: "dict[str, str] | None" = None,
    ) -> None:
        self.process = process
        self.root_path = root_path
        self.readonly_root = readonly_root
        self.hostname = hostname
        self.domainname = domainname
        self.mounts = mounts
        self.namespaces = namespaces or {}
        self.uid_mappings = uid_mappings
        self.gid_mappings = gid_mappings
        self.devices = devices
        self.cgroups_path = cgroups_path
        self.resources = resources or Resources()
        self.seccomp = seccomp
        self.masked_paths = masked_paths
        self.readonly_paths = readonly_paths
        self.sysctl = sysctl or {}
        self.annotations = annotations or {}

    def document(self) -> "Document":
        """Return config.json."""
        linux: Document = {
            "namespaces": [_present({"type": name, "path": path or None}) for name, path in self.namespaces.items()],
            "uidMappings": [mapping.document() for mapping in self.uid_mappings],
            "gidMappings": [mapping.document() for mapping in self.gid_mappings],
            "devices": [device.document() for device in self.devices],
            "cgroupsPath": self.cgroups_path,
            "resources": self.resources.document(),
            "maskedPaths": list(self.masked_paths),
            "readonlyPaths": list(self.readonly_paths),
            "sysctl": self.sysctl,
        }
        if self.seccomp is not None:
            linux["seccomp"] = self.seccomp
        domain = {"domainname": self.domainname} if self.domainname else {}
        return domain | {
            "ociVersion": SPEC_VERSION,
            "process": self.process.document(),
            "root": {"path": self.root_path, "readonly": self.readonly_root},
            "hostname": self.hostname,
            "mounts": [mount.document() for mount in self.mounts],
            "annotations": self.annotations,
            "linux": linux,
        }

    @classmethod
    def parse(cls, document: "Document") -> "Spec":
        """Read config.json as `document` printed it; raises KeyError or TypeError where a required key is not there."""
        linux, root = document["linux"], document["root"]
        return cls(
            _parse_process(document["process"]),
            root_path=root["path"],
            readonly_root=root.get("readonly", False),
            hostname=document.get("hostname", ""),
            domainname=document.get("domainname", ""),
            mounts=tuple(
                Mount(m["destination"], m["type"], m["source"], tuple(m.get("options", ())))
                for m in document.get("mounts", ())
            ),
            namespaces={n["type"]: n.get("path", "") for n in linux.get("namespaces", ())},
            uid_mappings=parse_mappings(linux.get("uidMappings", ())),
            gid_mappings=parse_mappings(linux.get("gidMappings", ())),
            devices=tuple(parse_device(d) for d in linux.get("devices", ())),
            cgroups_path=linux.get("cgroupsPath", ""),
            resources=_parse_resources(linux.get("resources", {})),
            seccomp=linux.get("seccomp"),
            masked_paths=tuple(linux.get("maskedPaths", ())),
            readonly_paths=tuple(linux.get("readonlyPaths", ())),
            sysctl=linux.get("sysctl", {}),
            annotations=document.get("annotations", {}),
        )


def _present(document: "Mapping[str, object]") -> "dict[str, object]":
    """Drop the keys that were not asked for."""
    return {key: value for key, value in document.items() if value is not None}


def _parse_process(document: "Document") -> Process:
    user = document.get("user", {})
    return Process(
        tuple(document["args"]),
        env=tuple(document.get("env", ())),
        cwd=document["cwd"],
        uid=user.get("uid", 0),
        gid=user.get("gid", 0),
        additional_gids=tuple(user.get("additionalGids", ())),
        umask=user.get("umask", 0o022),
        capabilities=tuple(document.get("capabilities", {}).get("bounding", ())),
        rlimits=tuple((r["type"], r["soft"], r["hard"]) for r in document.get("rlimits", ())),
        no_new_privileges=document.get("noNewPrivileges", False),
        oom_score_adj=document.get("oomScoreAdj"),
        terminal=document.get("terminal", False),
    )


def parse_mappings(documents: "Iterable[Document]") -> tuple[IdMapping, ...]:
    """Read what `IdMapping.document` wrote, of each."""
    return tuple(IdMapping(each["containerID"], each["hostID"], each["size"]) for each in documents)


def parse_device(document: "Document") -> Device:
    """Read what `Device.document` wrote."""
    return Device(
        document["path"],
        document["type"],
        document["major"],
        document["minor"],
        mode=document.get("fileMode", 0o666),
        uid=document.get("uid", 0),
        gid=document.get("gid", 0),
    )


def _parse_resources(document: "Document") -> Resources:
    memory, cpu, io = document.get("memory", {}), document.get("cpu", {}), document.get("blockIO", {})
    limits = tuple(
        (name, told["major"], told["minor"], told["weight" if name == "weight" else "rate"])
        for name, key in IO_KINDS.items()
        for told in io.get(key, ())
    )
    rules = tuple(
        (rule.get("type", "a"), rule.get("major"), rule.get("minor"), rule.get("access", ""))
        for rule in document.get("devices", ())
        if rule["allow"]
    )
    return Resources(
        memory_bytes=memory.get("limit"),
        memory_swap_bytes=memory.get("swap"),
        memory_reservation_bytes=memory.get("reservation"),
        memory_swappiness=memory.get("swappiness"),
        oom_kill_disable=memory.get("disableOOMKiller"),
        cpu_quota_us=cpu.get("quota"),
        cpu_period_us=cpu.get("period"),
        cpu_rt_period_us=cpu.get("realtimePeriod"),
        cpu_rt_runtime_us=cpu.get("realtimeRuntime"),
        cpu_shares=cpu.get("shares"),
        cpuset_cpus=cpu.get("cpus"),
        cpuset_mems=cpu.get("mems"),
        blkio_weight=io.get("weight"),
        io_limits=limits or None,
        device_rules=rules if "devices" in document else None,
        pids=document.get("pids", {}).get("limit"),
    )
