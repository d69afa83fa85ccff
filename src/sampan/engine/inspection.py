"""What docker ps and docker inspect show, with docker's keys (Engine API v1.4x). Hot path."""

import os
import time

from sampan import units
from sampan.database import connection
from sampan.engine import neutral, record, rootless, state, sweep, volume
from sampan.network.endpoint import BRIDGE, CONTAINER, NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.record import Container
    from sampan.engine.run_options import NetworkRequest, RunOptions, VolumeMount
    from sampan.settings.configuration import Settings

# The addresses of one that is on another container's network.
_NOWHERE: "Document" = {"IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "MacAddress": ""}
_BILLION = 1_000_000_000


def summaries(settings: "Settings", *, all: bool = False) -> "list[Document]":
    """Return one document for each running (or, with `all`, every) container, newest first.

    Keys, docker's API words: Id, Names ([str] without slash), Image (as typed), ImageID, Command (str), Created
    (seconds), State (created|running|paused|restarting|exited), Status (`Up 5 minutes`, `Exited (0) 2 hours ago`,
    `Created`), Ports (list of {IP, PrivatePort, PublicPort, Type}), Labels, Mounts, NetworkSettings. Beside those what
    docker filters by: ExitCode, and Health (`none` without a check).
    """
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        containers = list(record.every(database) if all else record.active(database))
    containers.sort(key=lambda container: container.created, reverse=True)
    rows = [(container, _state(settings, container)) for container in containers]
    return [_summary(settings, c, told) for c, told in rows if not _is_going(c, told) and (all or _is_running(told))]


def inspect(settings: "Settings", name: str) -> "Document":
    """Return docker's inspect document of a container; raises NotFound."""
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        container = record.by_name(database, name)
    told = _state(settings, container)
    directory = state.directory(settings, container.id)
    # docker: the files of /etc go with the network.
    etc = state.directory(settings, container.options.joined.get("network", container.id))
    arguments = container.arguments
    return neutral.CONTAINER | {
        "Id": container.id,
        "Created": state.timestamp(container.created),
        "Path": arguments[0],
        "Args": list(arguments[1:]),
        "State": _state_document(told),
        "Image": container.image_id,
        "ResolvConfPath": f"{etc}/resolv.conf",
        "HostnamePath": f"{etc}/hostname",
        "HostsPath": f"{etc}/hosts",
        "LogPath": "" if container.options.log_driver == "none" else f"{directory}/logs/json.log",
        "Name": f"/{container.name}",
        "RestartCount": told.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "ExecIDs": _execs(directory),
        "HostConfig": _host_config(settings, container),
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": f"{directory}/upper", "WorkDir": f"{directory}/work"}},
        "Mounts": [_mount(settings, mount) for mount in container.volumes],
        "Config": neutral.CONFIG | container.config | _own_config(container),
        "NetworkSettings": _network_settings(container, told),
    }


def _state(settings: "Settings", container: "Container") -> state.State:
    """Return the state; what the file says of a running container holds only while the lock is held."""
    return state.read(state.directory(settings, container.id))


def _status_of(told: state.State) -> str:
    return state.PAUSED if state.is_paused(told) else told.status


def _is_running(told: state.State) -> bool:
    return told.status in (state.RUNNING, state.RESTARTING)


def _is_going(container: "Container", told: state.State) -> bool:
    """Tell whether all that is left of it is a monitor that takes it down."""
    return container.options.auto_remove and told.status == state.EXITED


def _summary(settings: "Settings", container: "Container", told: state.State) -> "Document":
    status = _status_of(told)
    return {
        "Id": container.id,
        "Names": [container.name],
        "Image": container.options.image,
        "ImageID": container.image_id,
        "Command": " ".join(container.arguments),
        "Created": container.created // _BILLION,
        "State": status,
        "Status": _status(told, is_paused=status == state.PAUSED),
        "Ports": _ports(container, told),
        "Labels": container.config["Labels"],
        "Mounts": [_mount(settings, mount) for mount in container.volumes],
        "NetworkSettings": {"Networks": _networks(container, told)},
        "ExitCode": told.exit_code,
        "Health": "none" if told.health is None else told.health["Status"],
    }


def _status(told: state.State, *, is_paused: bool) -> str:
    now = time.time_ns()
    if told.status == state.RUNNING:
        up = f"Up {units.human_duration((now - _nanoseconds(told.started_at)) / _BILLION)}"
        if is_paused:
            return f"{up} (Paused)"
        health = "" if told.health is None else told.health["Status"]
        return f"{up} ({'health: ' if health == 'starting' else ''}{health})" if health else up
    if told.status in (state.EXITED, state.RESTARTING):
        age = units.human_duration((now - _nanoseconds(told.finished_at)) / _BILLION)
        return f"{told.status.capitalize()} ({told.exit_code}) {age} ago"
    return "Created"


def _nanoseconds(stamp: str) -> int:
    """Read what state.timestamp wrote."""
    year, month, day = int(stamp[:4]), int(stamp[5:7]), int(stamp[8:10])
    # Howard Hinnant's days_from_civil; `datetime` costs 2 ms, `calendar` more.
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    seconds = days * 86400 + int(stamp[11:13]) * 3600 + int(stamp[14:16]) * 60 + int(stamp[17:19])
    return seconds * _BILLION + int((stamp[20:-1] or "0").ljust(9, "0"))


def _state_document(told: state.State) -> "Document":
    health = {} if told.health is None else {"Health": told.health}
    status = _status_of(told)
    return health | {
        "Status": status,
        "Running": _is_running(told),
        "Paused": status == state.PAUSED,
        "Restarting": told.status == state.RESTARTING,
        "OOMKilled": told.oom_killed,
        "Dead": False,
        "Pid": told.pid if told.status == state.RUNNING else 0,
        "ExitCode": told.exit_code,
        "Error": told.error,
        "StartedAt": told.started_at,
        "FinishedAt": told.finished_at,
    }


def _host_config(settings: "Settings", container: "Container") -> "Document":
    from sampan.runtime import standard  # `ps` does not need it

    options = container.options
    mounts = [_long(mount) for mount in options.volumes if mount.is_long]
    document: Document = neutral.HOST_CONFIG | _said({"Annotations": options.annotations, "Mounts": mounts})
    return document | {
        "MaskedPaths": [] if options.privileged else list(standard.MASKED_PATHS),
        "ReadonlyPaths": [] if options.privileged else list(standard.READONLY_PATHS),
        "Binds": [_bind(m) for m in options.volumes if m.kind != "tmpfs" and m.source and not m.is_long] or None,
        "NetworkMode": options.first_network or options.network_mode,
        "CgroupnsMode": options.cgroupns or "private",
        "IpcMode": options.ipc or "private",
        "Links": _links(container),
        "PidMode": options.pid,
        "UTSMode": options.uts,
        "PortBindings": _port_bindings(container),
        "RestartPolicy": {"Name": options.restart.name, "MaximumRetryCount": options.restart.maximum},
        "AutoRemove": options.auto_remove,
        "CapAdd": _capabilities(options.cap_add),
        "CapDrop": _capabilities(options.cap_drop),
        "BlkioWeight": options.blkio_weight or 0,
        "BlkioWeightDevice": [{"Path": path, "Weight": weight} for path, weight in options.blkio_weight_device],
        "BlkioDeviceReadBps": _rates(options.device_read_bps),
        "BlkioDeviceReadIOps": _rates(options.device_read_iops),
        "BlkioDeviceWriteBps": _rates(options.device_write_bps),
        "BlkioDeviceWriteIOps": _rates(options.device_write_iops),
        "CgroupParent": options.cgroup_parent,
        "DeviceCgroupRules": list(options.device_cgroup_rules) or None,
        "Devices": [
            {"PathOnHost": source, "PathInContainer": inside, "CgroupPermissions": access}
            for source, inside, access in options.devices
        ],
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_option),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.add_host) or None,
        "GroupAdd": list(options.group_add) or None,
        "OomScoreAdj": options.oom_score_adj or 0,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": _security_options(container) or None,
        "Tmpfs": {m.destination: ",".join(m.options) for m in options.volumes if m.kind == "tmpfs" and not m.is_long},
        "UsernsMode": options.userns,
        "VolumeDriver": options.volume_driver,
        "VolumesFrom": list(options.volumes_from) or None,
        "ShmSize": options.shm_size_bytes or 64 * units.KIB**2,
        "Sysctls": options.sysctl or None,
        "Runtime": options.runtime or settings.runtime,
        "Memory": options.memory_bytes or 0,
        "MemorySwap": options.memory_swap_bytes or 2 * (options.memory_bytes or 0),
        "MemoryReservation": options.memory_reservation_bytes or 0,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "NanoCpus": options.nano_cpus or 0,
        "CpuPeriod": options.cpu_period_us or 0,
        "CpuQuota": options.cpu_quota_us or 0,
        "CpuRealtimePeriod": options.cpu_rt_period_us or 0,
        "CpuRealtimeRuntime": options.cpu_rt_runtime_us or 0,
        "CpuShares": options.cpu_shares or 0,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "PidsLimit": options.pids_limit,
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in options.ulimits],
        "LogConfig": _log_config(options),
        "Init": options.init,
    }


def _capabilities(words: tuple[str, ...]) -> list[str] | None:
    """Return capabilities as docker shows them, however they were written."""
    names = (word.upper().removeprefix("CAP_") for word in words)
    return [name if name == "ALL" else f"CAP_{name}" for name in names] or None


def _own_config(container: "Container") -> "Document":
    """Return what docker has in Config of how a container was asked for, and of its anonymous volumes."""
    options = container.options
    anonymous: Document = {
        mount.destination: {} for mount in options.volumes if mount.kind == "volume" and not mount.source
    }
    is_attached = not options.detach
    return {
        "AttachStdin": options.interactive and is_attached,
        "AttachStdout": is_attached,
        "AttachStderr": is_attached,
        "Env": container.config["Env"] or None,
        "Hostname": container.hostname,
        "Volumes": (container.config["Volumes"] or {}) | anonymous or None,
    }


def _log_config(options: "RunOptions") -> "Document":
    driver = options.log_driver or "json-file"
    defaults = {} if driver == "none" else {"max-size": "10m", "max-file": "3"}
    return {"Type": driver, "Config": defaults | options.log_options}


def _rates(limits: tuple[tuple[str, int], ...]) -> "list[Document]":
    return [{"Path": path, "Rate": rate} for path, rate in limits]


def _security_options(container: "Container") -> list[str]:
    options = container.options
    words = [f"seccomp={options.seccomp}"] if options.seccomp else []
    return [*words, "no-new-privileges"] if options.no_new_privileges else words


def _links(container: "Container") -> list[str] | None:
    """Return docker's `/container:/own-name/alias` of each link."""
    if container.options.network_mode != BRIDGE:
        return None  # there they are the endpoint's
    words = [link.partition(":") for link in container.options.links]
    return [f"/{name}:/{container.name}/{alias or name}" for name, _, alias in words] or None


def _bind(mount: "VolumeMount") -> str:
    words = (*(("ro",) if mount.read_only else ()), *mount.options)
    return f"{mount.source}:{mount.destination}" + (f":{','.join(words)}" if words else "")


def _long(mount: "VolumeMount") -> "Document":
    """Return what docker has in HostConfig.Mounts of a `--mount`."""
    read_only = {"ReadOnly": True} if mount.read_only else {}
    source = {"Source": mount.source} if mount.source else {}
    told: Document = {"Type": mount.kind, **source, "Target": mount.destination, **read_only}
    words = {word.partition("=")[0]: word.partition("=")[2] for word in mount.options}
    found: Document
    if mount.kind == "tmpfs":
        size, mode = words.get("size"), words.get("mode")
        found = {"TmpfsOptions": _said({"SizeBytes": int(size or 0), "Mode": int(mode or "0", 8)})}
    elif mount.kind == "bind":
        recursion = {
            "disabled": {"NonRecursive": True},
            "writable": {"ReadOnlyNonRecursive": True},
            "readonly": {"ReadOnlyForceRecursive": True},
        }.get(mount.recursion, {})
        found = {"BindOptions": _said({"Propagation": "".join(mount.options)}) | recursion}
    else:
        some = {"Subpath": mount.subpath, "Labels": dict(mount.labels), "NoCopy": "nocopy" in words}
        driver = {"DriverConfig": {"Options": dict(mount.driver_options)}} if mount.driver_options else {}
        found = {"VolumeOptions": _said(some) | driver}
    return told | _said(found)


def _said(document: "Document") -> "Document":
    return {key: value for key, value in document.items() if value}


def _mount(settings: "Settings", mount: "VolumeMount") -> "Document":
    document: Document = {
        "Type": mount.kind,
        "Source": mount.source,
        "Destination": mount.destination,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": "rprivate" if mount.kind == "bind" else "",
    }
    if mount.kind == "volume":
        document |= {"Name": mount.source, "Source": volume.data(settings, mount.source), "Driver": "local"}
    return document


def _execs(directory: str) -> list[str] | None:
    try:
        return [name.removesuffix(".json") for name in os.listdir(f"{directory}/execs")] or None
    except FileNotFoundError:
        return None


def _port_bindings(container: "Container") -> "Document":
    bindings: dict[str, list[Document]] = {}
    for port in container.options.ports:
        key = f"{port.container_port}/{port.protocol}"
        public = str(port.host_port or "")
        bindings.setdefault(key, []).append({"HostIp": port.host_ip, "HostPort": public})
    return dict(bindings)


def _ports(container: "Container", told: state.State) -> "list[Document]":
    """Return the published ports of a running container, and those that are only exposed."""
    if told.status != state.RUNNING:
        return []
    found: list[Document] = [
        {"IP": p["host_ip"], "PrivatePort": p["container_port"], "PublicPort": p["host_port"], "Type": p["protocol"]}
        for endpoint in told.network.get("endpoints", ())
        for p in endpoint["ports"]
    ]
    published = {(port["PrivatePort"], port["Type"]) for port in found}
    for word in container.config["ExposedPorts"]:
        number, _, protocol = word.partition("/")
        if (int(number), protocol or "tcp") not in published:
            found.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
    return found


def _networks(container: "Container", told: state.State) -> "Document":
    """Return docker's EndpointSettings by the network's name; without addresses where it does not run."""
    endpoints = told.network.get("endpoints", ()) if told.status == state.RUNNING else ()
    found = {endpoint["network"]: endpoint for endpoint in endpoints}
    requests = [request for request in container.options.networks if not request.name.startswith(CONTAINER)]
    if container.options.first_network and container.options.network_mode == NONE:
        return {}  # it was taken off all of them
    told_of = {request.name: _endpoint(request, found.get(request.name, {})) for request in requests}
    if container.options.links and requests[0].name != BRIDGE:
        told_of[requests[0].name]["Links"] = list(container.options.links)
    return told_of


def _endpoint(request: "NetworkRequest", endpoint: "Document") -> "Document":
    return neutral.ENDPOINT | {
        "IPAMConfig": {"IPv4Address": request.ip} if request.ip else None,
        "NetworkID": endpoint.get("network_id", ""),
        "IPAddress": endpoint.get("address", ""),
        "IPPrefixLen": endpoint.get("prefix", 0),
        "Gateway": endpoint.get("gateway", ""),
        "MacAddress": endpoint.get("mac", ""),
        "Aliases": list(request.aliases) or None,
        "DNSNames": endpoint.get("names") or None,
    }


def _network_settings(container: "Container", told: state.State) -> "Document":
    ports: dict[str, list[Document] | None] = {}
    for port in _ports(container, told):
        key = f"{port['PrivatePort']}/{port['Type']}"
        if "PublicPort" in port:
            known = ports.get(key) or []
            ports[key] = [*known, {"HostIp": port["IP"], "HostPort": str(port["PublicPort"])}]
        else:
            ports.setdefault(key, None)
    networks = _networks(container, told)
    own = networks.get(BRIDGE) or next(iter(networks.values()), _NOWHERE)
    return neutral.NETWORK_SETTINGS | {
        "Ports": ports,
        "IPAddress": own["IPAddress"],
        "IPPrefixLen": own["IPPrefixLen"],
        "Gateway": own["Gateway"],
        "MacAddress": own["MacAddress"],
        "Networks": networks,
    }
