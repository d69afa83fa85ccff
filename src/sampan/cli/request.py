"""The flags of `sampan run` and `sampan create`, and what they ask for as `RunOptions`. Hot."""

import os

from sampan.cli.flags import Flag, Parsed, UsageError
from sampan.engine import words
from sampan.engine.run_options import DEFAULT_NETWORKS, HealthCheck, NetworkRequest, RestartPolicy, RunOptions
from sampan.errors import InvalidArgument, Unsupported
from sampan.network import ports
from sampan.units import parse_cpus, parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.engine.run_options import VolumeMount
    from sampan.network.endpoint import PortMapping
    from sampan.settings.configuration import Settings

PULLS = ("missing", "always", "never")
CREATE_FLAGS = (
    Flag("add-host", "list", "add a line to /etc/hosts (`name:address`)"),
    Flag("annotation", "map", "an annotation for the OCI runtime (`key=value`)"),
    Flag("attach", "list", "attach to stdin, stdout or stderr", short="a"),
    Flag("blkio-weight", "uint16", "weight among those who want the disks, 10 to 1000; 0 is none"),
    Flag("blkio-weight-device", "list", "weight on one disk (`/dev/sda:200`)"),
    Flag("cap-add", "list", "add a Linux capability"),
    Flag("cap-drop", "list", "drop a Linux capability"),
    Flag("cgroup-parent", "string", "make its cgroup below this one (`/batch`)"),
    Flag("cgroupns", "string", "`host` shows the machine's control groups, `private` the container's own"),
    Flag("cidfile", "string", "write the container's id to a file"),
    Flag("cpu-period", "int", "length of a CPU scheduling period in microseconds"),
    Flag("cpu-quota", "int", "CPU time in each period in microseconds"),
    Flag("cpu-rt-period", "int", "length of a real-time period in microseconds (cgroup v1)"),
    Flag("cpu-rt-runtime", "int", "time of real-time processes in each period in microseconds (cgroup v1)"),
    Flag("cpu-shares", "int", "weight among those who want the CPU (1024 is usual)", short="c"),
    Flag("cpus", "decimal", "number of CPUs, as in `0.5`"),
    Flag("cpuset-cpus", "string", "the CPUs that it may use (`0-2`, `0,1`)"),
    Flag("cpuset-mems", "string", "the memory nodes that it may use (`0`)"),
    Flag("device", "list", "give it a device, or a directory of them (`/dev/here[:/dev/inside][:rwm]`)"),
    Flag("device-cgroup-rule", "list", "devices that it may use (`c 10:229 rwm`, `b 8:* r`)"),
    Flag("device-read-bps", "list", "bytes a second that it may read from a disk (`/dev/sda:1mb`)"),
    Flag("device-read-iops", "list", "reads a second from a disk (`/dev/sda:1000`)"),
    Flag("device-write-bps", "list", "bytes a second that it may write to a disk"),
    Flag("device-write-iops", "list", "writes a second to a disk"),
    Flag("disable-content-trust", "bool", "nothing: no signature of a Notary server is asked for"),
    Flag("dns", "list", "address of a DNS server"),
    Flag("dns-option", "list", "option of resolv.conf"),
    Flag("dns-search", "list", "domain to search for short names"),
    Flag("domainname", "string", "name of the domain inside"),
    Flag("entrypoint", "string", "replace the image's ENTRYPOINT; empty clears it"),
    Flag("env", "list", "set an environment variable; a bare name takes the caller's value", short="e"),
    Flag("env-file", "list", "read environment variables from a file"),
    Flag("expose", "list", "name a port (`80`, `53/udp`, `3000-3010`) that `-P` publishes"),
    Flag("gpus", "gpu-request", "not there: name the devices with --device"),
    Flag("group-add", "list", "add a supplementary group"),
    Flag("health-cmd", "string", "command whose status says whether the container is healthy"),
    Flag("health-interval", "duration", "time between two checks (30s)"),
    Flag("health-retries", "int", "failures in a row that make it unhealthy (3)"),
    Flag("health-start-interval", "duration", "time between two checks while it starts (5s)"),
    Flag("health-start-period", "duration", "time to start in, in which failures do not count (0s)"),
    Flag("health-timeout", "duration", "time after which a check is killed (30s)"),
    Flag("hostname", "string", "name of the host inside", short="h"),
    Flag("ip", "string", "its address on the (first) network"),
    Flag("init", "bool", "run an init that reaps children and passes signals on; fetched once where there is none"),
    Flag("interactive", "bool", "keep stdin open", short="i"),
    Flag("isolation", "string", "`default`"),
    Flag("kernel-memory", "bytes", "not there: kernels have no such limit any more"),
    Flag("label", "list", "set a label (`key=value`)", short="l"),
    Flag("log-driver", "string", "where output goes: `json-file`, `local` (the same file) or `none`"),
    Flag(
        "log-opt", "list", "option of the log: `max-size=10m`, `max-file=3`, `labels=a,b`, `env=A,B`, `tag={{.Name}}`"
    ),
    Flag("label-file", "list", "read labels from a file"),
    Flag("ip6", "string", "not there: networks have no IPv6"),
    Flag("ipc", "string", "whose shared memory: `none`, `private`, `shareable`, `host`, `container:NAME`"),
    Flag("link", "list", "have another container found by name (`NAME` or `NAME:ALIAS`)"),
    Flag("link-local-ip", "list", "not there: use `--ip`"),
    Flag("mac-address", "string", "its hardware address on the (first) network"),
    Flag("memory", "bytes", "memory limit, as in `512m`", short="m"),
    Flag("memory-reservation", "bytes", "memory that it keeps when the machine is short of it"),
    Flag("memory-swap", "bytes", "memory and swap together; -1 is unlimited swap"),
    Flag("memory-swappiness", "int", "how gladly its memory is swapped out, 0 to 100 (cgroup v1)"),
    Flag("mount", "mount", "attach a file system (`type=bind,source=/host,target=/in,readonly`)"),
    Flag("name", "string", "name the container"),
    Flag("network", "network", "a network's name, `none`, `host`, `container:NAME`; more than one joins them all"),
    Flag("network-alias", "list", "a further name on the (first) network"),
    Flag("net", "network", "the same as --network"),
    Flag("net-alias", "list", "the same as --network-alias"),
    Flag("no-healthcheck", "bool", "disable the image's health check"),
    Flag("oom-kill-disable", "bool", "kill none of its processes for want of memory: they wait (cgroup v1)"),
    Flag("oom-score-adj", "int", "how gladly the kernel kills it when memory is short (-1000 to 1000)"),
    Flag("pid", "string", "whose processes it sees: `host`, or `container:NAME`"),
    Flag("pids-limit", "int", "limit of processes and threads; -1 is none"),
    Flag("platform", "string", "the platform that the image must be for, as in `linux/arm64`"),
    Flag("privileged", "bool", "all capabilities, no filters, no user namespace"),
    Flag("publish", "list", "publish a port (`8000:5000`, `127.0.0.1:8000:5000/tcp`)", short="p"),
    Flag("publish-all", "bool", "publish every port that the image exposes", short="P"),
    Flag("pull", "string", "ask the registry for the image: if it is `missing` here, `always` or `never`"),
    Flag("quiet", "bool", "print no progress of a build or pull", short="q"),
    Flag("read-only", "bool", "make the root file system read-only"),
    Flag("restart", "string", "what follows its end: `no`, `on-failure[:N]`, `always`, `unless-stopped`"),
    Flag("rm", "bool", "remove the container when it ends"),
    Flag("runtime", "string", "`sampan`, `runc` or the path of an OCI runtime"),
    Flag("security-opt", "list", "`seccomp=FILE`, `seccomp=unconfined`, `no-new-privileges`"),
    Flag("shm-size", "bytes", "size of /dev/shm"),
    Flag("stop-signal", "string", "the signal that asks it to end"),
    Flag("stop-timeout", "int", "seconds before it is killed"),
    Flag("storage-opt", "list", "not there: the size of its root cannot be limited"),
    Flag("sysctl", "map", "set a kernel parameter of its namespaces (`net.core.somaxconn=1024`)"),
    Flag("tmpfs", "list", "mount an empty tmpfs (`/run:size=64m`)"),
    Flag("tty", "bool", "give it a terminal", short="t"),
    Flag("ulimit", "ulimit", "set a resource limit (`nofile=1024:2048`)"),
    Flag("use-api-socket", "bool", "not there: there is no daemon's socket"),
    Flag("user", "string", "user name or id, and group (`name`, `1000:1000`)", short="u"),
    Flag("userns", "string", "`host` switches the user namespace off; `keep-id`: your own id inside"),
    Flag("uts", "string", "`host` is the machine's own name"),
    Flag("volume", "list", "bind a directory or attach a volume (`/host:/in:ro`, `name:/in`)", short="v"),
    Flag("volume-driver", "string", "the driver of its volumes; there is `local`"),
    Flag("volumes-from", "list", "mount what that container has (`web`, `web:ro`)"),
    Flag("workdir", "string", "working directory inside", short="w"),
)
RUN_FLAGS = (
    *CREATE_FLAGS,
    Flag("detach", "bool", "run in the background and print the id", short="d"),
    Flag("detach-keys", "string", "keys that leave the container running (`ctrl-p,ctrl-q`)"),
    Flag("no-cache", "bool", "with a PATH: build everything again"),
    Flag("sig-proxy", "bool", "pass signals on to the container (on unless `=false`)"),
)
# What cannot be had here: what it would take, and what there is instead.
IMPOSSIBLE = {
    "gpus": (
        "it takes NVIDIA's container toolkit or CDI, and Sampan speaks neither",
        "give the nodes and the driver's libraries: `--device /dev/dri`, `--device /dev/nvidia0 -v …:ro`",
    ),
    "kernel-memory": (
        "kernels from 5.16 on have no such limit, and cgroup v2 never had",
        "`--memory` counts the kernel's memory as well",
    ),
    "storage-opt": (
        "the size of a container's root can only be limited by quotas of XFS, which Sampan does not set",
        "`--read-only` with `--tmpfs /data:size=1g` bounds what is written",
    ),
    "use-api-socket": (
        "there is no daemon, and so no socket of one",
        "bind the socket of an engine that you trust it with: `-v /run/docker.sock:/var/run/docker.sock`",
    ),
}


def options(parsed: Parsed, settings: "Settings", image: str) -> RunOptions:
    """Return what the flags and arguments ask for."""
    _refuse_later(parsed)
    seccomp, no_new_privileges = words.parse_security_options(parsed.words("security-opt"))
    return RunOptions(
        image,
        command=tuple(parsed.arguments[1:]) or None,
        entrypoint=_entrypoint(parsed),
        name=(parsed.convert("name", words.check_name) or "") if parsed.text("name") else "",
        env=_environment(parsed, settings),
        user=parsed.text("user"),
        group_add=tuple(parsed.words("group-add")),
        workdir=parsed.text("workdir"),
        hostname=parsed.text("hostname"),
        ports=_ports(parsed),
        publish_all=parsed.is_set("publish-all"),
        volumes=_volumes(parsed),
        volumes_from=_volumes_from(parsed),
        volume_driver=_volume_driver(parsed),
        memory_bytes=parsed.convert("memory", parse_size),
        memory_swap_bytes=parsed.convert("memory-swap", size_or_unlimited),
        memory_reservation_bytes=parsed.convert("memory-reservation", parse_size),
        memory_swappiness=swappiness(parsed),
        oom_kill_disable=parsed.is_set("oom-kill-disable"),
        nano_cpus=nano_cpus(parsed),
        cpu_quota_us=parsed.number("cpu-quota"),
        cpu_period_us=parsed.number("cpu-period"),
        cpu_rt_period_us=parsed.number("cpu-rt-period"),
        cpu_rt_runtime_us=parsed.number("cpu-rt-runtime"),
        cpu_shares=parsed.number("cpu-shares"),
        cpuset_cpus=parsed.convert("cpuset-cpus", words.check_cpuset) or "",
        cpuset_mems=parsed.convert("cpuset-mems", words.check_cpuset) or "",
        blkio_weight=parsed.number("blkio-weight"),
        blkio_weight_device=parsed.convert_all("blkio-weight-device", words.parse_device_weight),
        device_read_bps=parsed.convert_all("device-read-bps", words.parse_device_bytes),
        device_write_bps=parsed.convert_all("device-write-bps", words.parse_device_bytes),
        device_read_iops=parsed.convert_all("device-read-iops", words.parse_device_operations),
        device_write_iops=parsed.convert_all("device-write-iops", words.parse_device_operations),
        devices=parsed.convert_all("device", words.parse_device),
        device_cgroup_rules=parsed.convert_all("device-cgroup-rule", words.check_device_rule),
        cgroup_parent=parsed.text("cgroup-parent"),
        pids_limit=parsed.number("pids-limit"),
        shm_size_bytes=parsed.convert("shm-size", parse_size),
        ulimits=parsed.convert_all("ulimit", words.parse_ulimit),
        oom_score_adj=parsed.number("oom-score-adj"),
        cap_add=tuple(parsed.words("cap-add")),
        cap_drop=tuple(parsed.words("cap-drop")),
        seccomp=seccomp,
        no_new_privileges=no_new_privileges,
        privileged=parsed.is_set("privileged"),
        read_only=parsed.is_set("read-only"),
        userns=parsed.text("userns"),
        cgroupns=parsed.text("cgroupns"),
        ipc=parsed.text("ipc"),
        pid=parsed.text("pid"),
        uts=parsed.text("uts"),
        domainname=parsed.text("domainname"),
        links=tuple(parsed.words("link")),
        networks=_networks(parsed) or DEFAULT_NETWORKS,
        health=_health(parsed),
        restart=parsed.convert("restart", words.parse_restart) or RestartPolicy(),
        add_host=tuple(parsed.words("add-host")),
        dns=parsed.convert_all("dns", words.check_address),
        dns_search=tuple(parsed.words("dns-search")),
        dns_option=tuple(parsed.words("dns-option")),
        expose=tuple(port for group in parsed.convert_all("expose", words.parse_expose) for port in group),
        sysctl=dict(parsed.convert_all("sysctl", words.parse_pair)),
        log_driver=parsed.text("log-driver"),
        log_options=dict(parsed.convert_all("log-opt", words.parse_pair)),
        labels=words.read_labels(parsed.words("label-file")) | dict(parsed.convert_all("label", words.parse_pair)),
        annotations=dict(parsed.convert_all("annotation", words.parse_pair)),
        stop_signal=parsed.text("stop-signal"),
        stop_timeout_seconds=parsed.number("stop-timeout"),
        platform=parsed.text("platform") or settings.environment.get("DOCKER_DEFAULT_PLATFORM", ""),
        runtime=parsed.text("runtime"),
        init=parsed.is_set("init"),
        tty=parsed.is_set("tty"),
        interactive=parsed.is_set("interactive"),
        detach=parsed.is_set("detach"),
        auto_remove=parsed.is_set("rm"),
    )


def _environment(parsed: Parsed, settings: "Settings") -> tuple[str, ...]:
    """Return the variables that were given, after the proxies that docker's config.json gives to every container."""
    given = words.resolve_environment(parsed.words("env"), parsed.words("env-file"), settings.environment)
    if not os.path.exists(settings.docker_file):
        return given
    from sampan.settings import preference  # only where somebody has some

    names = {word.partition("=")[0] for word in given}
    proxies = preference.proxies(settings.docker_file)
    return (*(f"{name}={value}" for name, value in proxies.items() if name not in names), *given)


def ensure_init(wanted: RunOptions, parsed: Parsed, settings: "Settings", printer: "Printer") -> None:
    """Have the init of `--init` here, if it is asked for."""
    if wanted.init:
        from sampan.cli import reaper

        reaper.ensure(settings, printer, quiet=parsed.is_set("quiet"))


def _refuse_later(parsed: Parsed) -> None:
    """Refuse the values of flags that have one meaning so far, and those that mean nothing."""
    if parsed.text("pull", "missing") not in PULLS:
        raise UsageError(f"`--pull` cannot be `{parsed.text('pull')}`", hints=(f"there is: {', '.join(PULLS)}",))
    for name, (reason, hint) in IMPOSSIBLE.items():
        if parsed.values.get(name):
            raise Unsupported(f"`--{name}` cannot be had here: {reason}", hints=(hint,))
    if parsed.text("isolation") not in {"", "default"}:
        raise UsageError(f"`--isolation` cannot be `{parsed.text('isolation')}`", hints=("Linux has `default`",))
    if parsed.text("ip6"):
        raise Unsupported("networks have no IPv6", hints=("use `--ip`", "or `--network host`"))
    if parsed.words("link-local-ip"):
        raise Unsupported("an interface has one address", hints=("use `--ip` on a network of your own",))


def _entrypoint(parsed: Parsed) -> tuple[str, ...] | None:
    """Return --entrypoint: None is the image's, empty clears it."""
    if "entrypoint" not in parsed.values:
        return None
    word = parsed.text("entrypoint")
    return (word,) if word else ()


def _ports(parsed: Parsed) -> "tuple[PortMapping, ...]":
    return tuple(mapping for group in parsed.convert_all("publish", ports.parse) for mapping in group)


def _volumes(parsed: Parsed) -> "tuple[VolumeMount, ...]":
    if not any(parsed.words(name) for name in ("volume", "mount", "tmpfs")):
        return ()
    from sampan.engine import mount_words  # only with one of them

    return (
        *parsed.convert_all("volume", mount_words.parse_volume),
        *parsed.convert_all("mount", mount_words.parse_mount),
        *parsed.convert_all("tmpfs", mount_words.parse_tmpfs),
    )


def _volumes_from(parsed: Parsed) -> tuple[str, ...]:
    if not parsed.words("volumes-from"):
        return ()
    from sampan.engine import mount_words

    parsed.convert_all("volumes-from", mount_words.parse_volumes_from)
    return tuple(parsed.words("volumes-from"))


def _volume_driver(parsed: Parsed) -> str:
    if not parsed.text("volume-driver"):
        return ""
    from sampan.engine import mount_words

    return mount_words.check_driver(parsed.text("volume-driver"))


def _networks(parsed: Parsed) -> tuple[NetworkRequest, ...]:
    """Return the networks; --network-alias, --ip and --mac-address are the first one's, as with docker."""
    asked = parsed.convert_all("network", words.parse_network) + parsed.convert_all("net", words.parse_network)
    aliases = tuple(parsed.words("network-alias") + parsed.words("net-alias"))
    ip, mac = parsed.text("ip"), parsed.convert("mac-address", words.check_mac) or ""
    if not aliases and not ip and not mac:
        return asked
    (first, *others) = asked or DEFAULT_NETWORKS
    first = NetworkRequest(first.name, aliases=(*first.aliases, *aliases), ip=ip or first.ip, mac=mac or first.mac)
    return (first, *others)


def _health(parsed: Parsed) -> HealthCheck:
    command = parsed.text("health-cmd")
    asked = HealthCheck(
        ("CMD-SHELL", command) if command else (),
        interval_ns=parsed.convert("health-interval", _nanoseconds) or 0,
        timeout_ns=parsed.convert("health-timeout", _nanoseconds) or 0,
        start_period_ns=parsed.convert("health-start-period", _nanoseconds) or 0,
        start_interval_ns=parsed.convert("health-start-interval", _nanoseconds) or 0,
        retries=parsed.convert("health-retries", _at_least_0) or 0,
    )
    if not parsed.is_set("no-healthcheck"):
        return asked
    if asked.document():
        raise InvalidArgument("`--no-healthcheck` excludes the `--health-…` flags")
    return HealthCheck(("NONE",))


def _nanoseconds(text: str) -> int:
    """Read a duration; docker takes none below a millisecond but 0, which is not said."""
    seconds = parse_duration(text)
    if 0 < seconds < 0.001:
        raise InvalidArgument(f"`{text}` is shorter than a millisecond")
    return round(seconds * 1_000_000_000)


def _at_least_0(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidArgument(f"`{text}` is no number of times")
    return int(text)


def size_or_unlimited(text: str) -> int:
    """Read a size, or -1."""
    return -1 if text == "-1" else parse_size(text)


def nano_cpus(parsed: Parsed) -> int | None:
    """Return --cpus in billionths of a processor."""
    cpus = parsed.convert("cpus", parse_cpus)
    if cpus is not None and (parsed.number("cpu-quota") or parsed.number("cpu-period")):
        raise InvalidArgument("`--cpus` excludes `--cpu-quota` and `--cpu-period`", hints=("it says both in one",))
    return None if cpus is None else cpus * 10_000


def swappiness(parsed: Parsed) -> int | None:
    """Return --memory-swappiness; docker: -1 is "not said"."""
    number = parsed.number("memory-swappiness")
    return None if number == -1 else number
