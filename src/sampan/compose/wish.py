"""A service as the engine takes it: `RunOptions`, names, and the labels by which a project is found again.

The labels are docker compose's, so that what reads theirs reads ours. `digest` is the digest of all that would need a
new container to change: what only says how many, when and whence is left out, what secrets and configs hold is in.
"""

import hashlib
import json
import math
import os

from sampan import units
from sampan.compose import label, material
from sampan.engine import mount_words, words
from sampan.engine.run_options import (
    DEFAULT_NETWORKS,
    HealthCheck,
    NetworkRequest,
    RestartPolicy,
    RunOptions,
    Ulimit,
    VolumeMount,
)
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.network.endpoint import ANY, CONTAINER, PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.compose.model.project import Project, Service, Values
    from sampan.settings.configuration import Settings

# What changes without a new container.
_OUTSIDE = (
    "build",
    "pull_policy",
    "scale",
    "deploy",
    "depends_on",
    "profiles",
    "attach",
    "env_file",
    "label_file",
    "develop",
)
_BILLION = 1_000_000_000


def container_name(project: "Project", service: "Service", number: int) -> str:
    """Return the name of a service's `number`th container."""
    return str(service.values.get("container_name") or f"{project.name}-{service.name}-{number}")


def image_name(project: "Project", service: "Service") -> str:
    """Return the image that a service runs: its own, or the one that is built for it."""
    return service.image or f"{project.name}-{service.name}"


def digest(project: "Project", service: "Service") -> str:
    """Return the digest of a service's configuration."""
    told = {key: value for key, value in service.values.items() if key not in _OUTSIDE and not key.startswith("x-")}
    deploy = service.values.get("deploy", {})
    whole = {
        "service": told | {"environment": dict(sorted(service.environment.items()))},
        "limits": deploy.get("resources", {}).get("limits", {}),
        "restart": deploy.get("restart_policy", {}),
        "networks": [project.networks[key].name for key in service.networks],
        "volumes": {key: resource.name for key, resource in project.volumes.items()},
        "material": material.digests(project, service),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def options(
    settings: "Settings",
    project: "Project",
    service: "Service",
    *,
    number: int,
    image_id: str,
    inherited: "Mapping[str, str]",
    is_one_off: bool = False,
) -> RunOptions:
    """Return what a service's `number`th container is run with.

    `inherited` are anonymous volumes of the container before it, by where they are mounted.
    """
    try:
        return _options(
            settings, project, service, inherited, labels(project, service, number, image_id, is_one_off=is_one_off)
        )
    except SampanError as error:
        error.at = error.at or service.at
        raise


def _options(
    settings: "Settings",
    project: "Project",
    service: "Service",
    inherited: "Mapping[str, str]",
    labels: dict[str, str],
) -> RunOptions:
    values = service.values
    seccomp, no_new_privileges = words.parse_security_options(values.get("security_opt", ()))
    resources = values.get("deploy", {}).get("resources", {})
    limits, reservations = resources.get("limits", {}), resources.get("reservations", {})
    grace, logging = values.get("stop_grace_period"), values.get("logging", {})
    return RunOptions(
        image_name(project, service),
        command=_command(values.get("command")),
        entrypoint=_command(values.get("entrypoint")),
        name=container_name(project, service, int(labels[label.NUMBER])),
        env=tuple(f"{key}={value}" for key, value in (_proxies(settings) | dict(service.environment)).items()),
        user=values.get("user", ""),
        group_add=tuple(values.get("group_add", ())),
        workdir=values.get("working_dir", ""),
        hostname=values.get("hostname", ""),
        ports=tuple(_port(port, service) for port in values.get("ports", ())),
        volumes=(*_volumes(project, service, inherited), *material.mounts(settings, project, service)),
        volumes_from=tuple(_donor(project, service, word) for word in values.get("volumes_from", ())),
        memory_bytes=_bytes(values.get("mem_limit", limits.get("memory"))),
        memory_swap_bytes=_bytes(values.get("memswap_limit")),
        memory_reservation_bytes=_bytes(values.get("mem_reservation", reservations.get("memory"))),
        memory_swappiness=values.get("mem_swappiness"),
        oom_kill_disable=values.get("oom_kill_disable", False),
        nano_cpus=_nano_cpus(values, limits),
        cpu_quota_us=_microseconds(values.get("cpu_quota")),
        cpu_period_us=_microseconds(values.get("cpu_period")),
        cpu_rt_period_us=_microseconds(values.get("cpu_rt_period")),
        cpu_rt_runtime_us=_microseconds(values.get("cpu_rt_runtime")),
        cpu_shares=values.get("cpu_shares"),
        cpuset_cpus=words.check_cpuset(values["cpuset"]) if values.get("cpuset") else "",
        **_disks(values.get("blkio_config", {})),
        devices=tuple(_device(told) for told in values.get("devices", ())),
        device_cgroup_rules=tuple(words.check_device_rule(rule) for rule in values.get("device_cgroup_rules", ())),
        cgroup_parent=values.get("cgroup_parent", ""),
        pids_limit=values.get("pids_limit", limits.get("pids")),
        shm_size_bytes=_bytes(values.get("shm_size")),
        ulimits=tuple(_ulimit(name, told) for name, told in values.get("ulimits", {}).items()),
        oom_score_adj=values.get("oom_score_adj"),
        cap_add=tuple(values.get("cap_add", ())),
        cap_drop=tuple(values.get("cap_drop", ())),
        seccomp=seccomp,
        no_new_privileges=no_new_privileges,
        privileged=values.get("privileged", False),
        read_only=values.get("read_only", False),
        userns=values.get("userns_mode", ""),
        cgroupns=values.get("cgroup", ""),
        ipc=_mode(project, service, "ipc"),
        pid=_mode(project, service, "pid"),
        uts=values.get("uts", ""),
        domainname=values.get("domainname", ""),
        links=_links(project, service),
        networks=_networks(project, service) or DEFAULT_NETWORKS,
        add_host=tuple(f"{name}:{a}" for name, addresses in values.get("extra_hosts", {}).items() for a in addresses),
        dns=tuple(words.check_address(address) for address in values.get("dns", ())),
        dns_search=tuple(values.get("dns_search", ())),
        expose=tuple(values.get("expose", ())),
        sysctl={key: str(value) for key, value in values.get("sysctls", {}).items()},
        labels=labels,
        log_driver=logging.get("driver", ""),
        log_options={key: value or "" for key, value in logging.get("options", {}).items()},
        annotations={key: value or "" for key, value in values.get("annotations", {}).items()},
        stop_signal=values.get("stop_signal", ""),
        stop_timeout_seconds=None if grace is None else math.ceil(units.parse_duration(grace)),
        platform=values.get("platform", settings.environment.get("DOCKER_DEFAULT_PLATFORM", "")),
        runtime=values.get("runtime", ""),
        init=values.get("init", False),
        tty=values.get("tty", False),
        interactive=values.get("stdin_open", False),
        health=_health(values.get("healthcheck", {})),
        restart=_restart(values),
        detach=True,
    )


def _proxies(settings: "Settings") -> dict[str, str]:
    """Return what docker's config.json gives to every container."""
    if not os.path.exists(settings.docker_file):
        return {}
    from sampan.settings import preference

    return preference.proxies(settings.docker_file)


def labels(
    project: "Project", service: "Service", number: int, image_id: str, *, is_one_off: bool = False
) -> dict[str, str]:
    """Return a container's labels: the file's own, and those that say whose it is."""
    own = {key: value or "" for key, value in service.values.get("labels", {}).items()}
    return own | {
        label.PROJECT: project.name,
        label.SERVICE: service.name,
        label.NUMBER: str(number),
        label.ONE_OFF: str(is_one_off),
        label.DIGEST: digest(project, service),
        label.IMAGE: image_id,
        label.DEPENDS: ",".join(
            f"{name}:{told.condition}:{str(told.restarts).lower()}" for name, told in service.dependencies.items()
        ),
        label.FILES: ",".join(os.path.abspath(path) if path != "-" else path for path in project.files),
        label.DIRECTORY: project.directory,
    }


def _command(words: list[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words)


def _port(port: "Values", service: "Service") -> PortMapping:
    first, dash, last = str(port.get("published", "")).partition("-")
    try:
        low = int(first or 0)
        return PortMapping(
            port["target"],
            host_port=low,
            host_last=int(last) if dash else low,
            host_ip=port.get("host_ip", ANY),
            protocol=port["protocol"],
        )
    except ValueError as error:
        raise InvalidArgument(f"`{port['published']}` is no port", at=service.place("ports")) from error


def _volumes(project: "Project", service: "Service", inherited: "Mapping[str, str]") -> tuple[VolumeMount, ...]:
    """Return the mounts; an anonymous volume goes on from container to container."""
    words = service.values.get("tmpfs", ())
    mounts = [_mount(mount, project, service, inherited) for mount in service.values.get("volumes", ())]
    mounts += [mount_words.parse_tmpfs(word) for word in words]
    covered = {mount.destination for mount in mounts}
    mounts += [VolumeMount("volume", name, path) for path, name in inherited.items() if path not in covered]
    return tuple(mounts)


def _mount(mount: "Values", project: "Project", service: "Service", inherited: "Mapping[str, str]") -> VolumeMount:
    kind, target, read_only = mount["type"], os.path.normpath(mount["target"]), mount.get("read_only", False)
    if not target.startswith("/") or target == "/":
        raise InvalidArgument(f"a volume cannot be mounted at `{mount['target']}`", at=service.place("volumes"))
    if kind == "tmpfs":
        told = mount.get("tmpfs", {})
        words = [f"size={told['size']}"] if "size" in told else []
        words += [f"mode={told['mode']:o}"] if "mode" in told else []
        return VolumeMount("tmpfs", "", target, read_only=read_only, options=tuple(words))
    if kind == "bind":
        return _bind(mount, target, service, read_only=read_only)
    source = mount.get("source", "")
    name = project.volumes[source].name if source else inherited.get(target, "")
    told = mount.get("volume", {})
    return VolumeMount(
        "volume",
        name,
        target,
        read_only=read_only,
        options=("nocopy",) if told.get("nocopy") else (),
        subpath=mount_words.check_subpath(told.get("subpath", "")),
        labels=tuple((key, value or "") for key, value in told.get("labels", {}).items()),
    )


def _bind(mount: "Values", target: str, service: "Service", *, read_only: bool) -> VolumeMount:
    source = mount.get("source", "")
    if not source:
        raise InvalidArgument("a bind has no `source`", at=service.place("volumes"))
    told = mount.get("bind", {})
    if not told.get("create_host_path", True) and not os.path.exists(source):
        raise NotFound(
            f"the bind source `{source}` does not exist", at=service.place("volumes"),
            hints=(f"make it with `mkdir -p {source}`",),
        )  # fmt: skip
    propagation = told.get("propagation", "")
    recursion = mount_words.check_recursion(
        told.get("recursive", "enabled"), read_only=read_only, propagation=propagation
    )
    words = (propagation,) if propagation else ()
    return VolumeMount("bind", source, target, read_only=read_only, options=words, recursion=recursion)


def _donor(project: "Project", service: "Service", word: str) -> str:
    """Return whose volumes `web:ro` or `container:NAME:ro` names, as --volumes-from has it."""
    name, _, access = word.partition(":")
    if name == "container":
        return access
    other = project.services.get(name) or project.disabled.get(name)
    if other is None:
        raise NotFound(f"there is no service `{name}`", at=service.place("volumes_from"))
    return f"{container_name(project, other, 1)}{f':{access}' if access else ''}"


def _device(told: "Values") -> tuple[str, str, str]:
    words_of = (told["source"], told.get("target") or told["source"], told.get("permissions") or "rwm")
    return words.parse_device(":".join(words_of))


def _disks(told: "Values") -> "Values":
    """Return the limits of disks, as RunOptions has them."""

    def rates(key: str) -> tuple[tuple[str, int], ...]:
        return tuple((limit["path"], int(limit["rate"])) for limit in told.get(key, ()))

    return {
        "blkio_weight": told.get("weight"),
        "blkio_weight_device": tuple((one["path"], one["weight"]) for one in told.get("weight_device", ())),
        **{key: rates(key) for key in ("device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops")},
    }


def _networks(project: "Project", service: "Service") -> tuple[NetworkRequest, ...]:
    """Return the networks, each with the service's name as an alias, the most important first."""
    mode, mac = _mode(project, service, "network_mode"), service.values.get("mac_address", "")
    if mode:
        return (NetworkRequest(mode, mac=_mac(mac)),)
    ordered = sorted(service.networks.items(), key=lambda item: -item[1].get("priority", 0))
    return tuple(
        NetworkRequest(
            project.networks[key].name,
            aliases=tuple(dict.fromkeys((service.name, *told.get("aliases", ())))),
            ip=told.get("ipv4_address", ""),
            mac=_mac(told.get("mac_address") or ("" if number else mac)),
        )
        for number, (key, told) in enumerate(ordered)
    )


def _mac(word: str) -> str:
    return words.check_mac(word) if word else ""


def _mode(project: "Project", service: "Service", key: str) -> str:
    """Return a mode in the engine's words: another service is its first container."""
    if key in service.joined:
        return CONTAINER + container_name(project, _known(project, service.joined[key]), 1)
    return str(service.values.get(key) or "")


def _known(project: "Project", name: str) -> "Service":
    return (project.services | project.disabled)[name]


def _links(project: "Project", service: "Service") -> tuple[str, ...]:
    """Return the links that say more than the service's name, which is known on its networks in any case."""
    found = []
    for link in service.values.get("links", ()):
        name, _, alias = link.partition(":")
        if alias and alias != name:
            found.append(f"{container_name(project, _known(project, name), 1)}:{alias}")
    return (*found, *service.values.get("external_links", ()))


def _bytes(word: str | None) -> int | None:
    return None if word is None else int(word)


def _nano_cpus(values: "Values", limits: "Values") -> int | None:
    cpus = values.get("cpus", limits.get("cpus"))
    return units.parse_cpus(str(cpus)) * 10_000 if cpus else None


def _microseconds(value: "int | str | None") -> int | None:
    """Read a number of microseconds or a duration, as compose has both."""
    if value is None or isinstance(value, int):
        return value or None
    return int(value) if value.lstrip("-").isdigit() else round(units.parse_duration(value) * 1_000_000)


def _ulimit(name: str, told: "int | Values") -> Ulimit:
    soft, hard = (told, told) if isinstance(told, int) else (told["soft"], told["hard"])
    return words.parse_ulimit(f"{name}={soft}:{hard}")


def _health(told: "Values") -> HealthCheck:
    if told.get("disable"):
        return HealthCheck(("NONE",))

    def span(key: str) -> int:
        return round(units.parse_duration(told[key]) * _BILLION) if key in told else 0

    return HealthCheck(
        tuple(told.get("test", ())),
        interval_ns=span("interval"),
        timeout_ns=span("timeout"),
        start_period_ns=span("start_period"),
        start_interval_ns=span("start_interval"),
        retries=told.get("retries", 0),
    )


def _restart(values: "Values") -> RestartPolicy:
    """Return the restart policy: `restart`, else what `deploy.restart_policy` says in other words."""
    word = str(values.get("restart", ""))
    policy = values.get("deploy", {}).get("restart_policy")
    if not word and policy:
        names = {"none": "no", "on-failure": "on-failure", "any": "always"}
        name = names[policy.get("condition", "any")]
        return RestartPolicy(name, policy.get("max_attempts", 0) if name == "on-failure" else 0)
    name, _, maximum = word.partition(":")
    if name not in {"", "no", "always", "on-failure", "unless-stopped"} or (maximum and not maximum.isdecimal()):
        raise InvalidArgument(
            f"`restart: {word}` is no policy", hints=("there are `no`, `always`, `on-failure[:N]`, `unless-stopped`",)
        )
    return RestartPolicy(name or "no", int(maximum or 0))
