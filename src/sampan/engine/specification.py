"""What runs, exactly: an image's config and a person's options as one runtime-spec `Spec`. Hot path, no I/O.

What docker adds by itself to every container stands in `runtime.standard`. Sources: image-spec config.md (what an
image's Env, User, WorkingDir mean), runtime-spec config-linux.md.
"""

from sampan.engine import privilege
from sampan.engine.config import cpu_time, environment_of
from sampan.kernel.mount import SUBPATH, TOP_ONLY
from sampan.network.endpoint import CONTAINER
from sampan.oci.runtime import IdMapping, Mount, Process, Resources, Spec, parse_device
from sampan.runtime import standard
from sampan.runtime.user import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.run_options import RunOptions, VolumeMount

# Where the image's label asks for it: gunicorn's advice of two workers a processor and one, each with room to live in.
WORKERS_LABEL = "io.sampan.workers"
WORKER_BYTES = 64 * 1024 * 1024
_LAST_GROUP = 0x7FFFFFFF  # net/ping.h, GID_T_MAX
# Where the init of `--init` appears, as docker has it.
_INIT = "/sbin/docker-init"
_SHM = "/dev/shm"  # noqa: S108 - in the container


class Place:
    """What is known of a container only when it starts.

    `directory` is containers/ID; the mappings are empty without a user namespace; `volumes` have paths as sources now;
    `files_are_idmapped` tells whether binds from SAMPAN_ROOT go through an idmapped mount, `binds_are_idmapped` whether
    those of a person's own directories do: not a normal user's, whose files are uid 0's already where he is. `init` is
    the path of the program that comes before the command, or `""`; `devices` what `devices.find` has found. `joined`
    has paths of other containers' namespaces, by runtime-spec's names; `etc` is where the files of /etc are.
    """

    __slots__ = (
        "binds_are_idmapped",
        "container_id",
        "devices",
        "directory",
        "etc",
        "files_are_idmapped",
        "gid_mappings",
        "hostname",
        "init",
        "joined",
        "processors",
        "uid_mappings",
        "volumes",
    )

    def __init__(
        self,
        container_id: str,
        *,
        directory: str,
        hostname: str,
        uid_mappings: tuple[IdMapping, ...],
        gid_mappings: tuple[IdMapping, ...],
        files_are_idmapped: bool,
        binds_are_idmapped: bool,
        volumes: "tuple[VolumeMount, ...]",
        processors: int,
        init: str = "",
        devices: "Document | None" = None,
        joined: "dict[str, str]",
        etc: str,
    ) -> None:
        self.container_id = container_id
        self.directory = directory
        self.hostname = hostname
        self.uid_mappings = uid_mappings
        self.gid_mappings = gid_mappings
        self.files_are_idmapped = files_are_idmapped
        self.binds_are_idmapped = binds_are_idmapped
        self.volumes = volumes
        self.processors = processors
        self.init = init
        self.devices = devices or {}
        self.joined = joined
        self.etc = etc


def build(options: "RunOptions", config: "Document", place: Place, user: User) -> Spec:
    """Return the specification of a container; `config` is docker's Config document (`merged`)."""
    return Spec(
        process(options, config, place, user),
        readonly_root=options.read_only,
        hostname="" if options.uts == "host" else place.hostname,
        domainname="" if options.uts == "host" else config.get("Domainname", ""),
        mounts=tuple(_mounts(options, place)),
        namespaces=_namespaces(options, place),
        uid_mappings=place.uid_mappings,
        gid_mappings=place.gid_mappings,
        devices=tuple(parse_device(device) for device in place.devices.get("nodes", ())),
        cgroups_path=f"/{options.cgroup_parent.strip('/') or 'sampan'}/{place.container_id}",
        resources=_with_devices(resources(options), place.devices),
        masked_paths=() if options.privileged else standard.MASKED_PATHS,
        readonly_paths=() if options.privileged else standard.READONLY_PATHS,
        sysctl=_sysctl(options, place),
        annotations=options.labels | options.annotations,
    )


def process(options: "RunOptions", config: "Document", place: Place, user: User) -> Process:
    """Return the container's first process."""
    init = (_INIT, "--") if place.init else ()
    return Process(
        (*init, *(config["Entrypoint"] or ()), *(config["Cmd"] or ())),
        env=environment(options, config, place, user),
        cwd=config["WorkingDir"] or "/",
        uid=user.uid,
        gid=user.gid,
        additional_gids=user.gids,
        capabilities=privilege.of(options),
        rlimits=tuple((f"RLIMIT_{u.name.upper()}", _limit(u.soft), _limit(u.hard)) for u in options.ulimits),
        no_new_privileges=options.no_new_privileges,
        oom_score_adj=options.oom_score_adj,
        terminal=options.tty,
    )


def _limit(value: int) -> int:
    """Return docker's -1 as the kernel's RLIM_INFINITY."""
    return (1 << 64) - 1 if value < 0 else value


def environment(options: "RunOptions", config: "Document", place: Place, user: User) -> tuple[str, ...]:
    """Return the environment: docker's defaults, the image's and the person's, HOME where nobody said."""
    defaults = [f"PATH={standard.PATH}", f"HOSTNAME={place.hostname}"]
    if options.tty:
        defaults.append("TERM=xterm")
    if config["Labels"].get(WORKERS_LABEL) == "auto":
        defaults.append(f"WEB_CONCURRENCY={workers(options, place.processors)}")
    defaults.append(f"HOME={user.home}")
    return tuple(environment_of(defaults, config["Env"]))


def workers(options: "RunOptions", processors: int) -> int:
    """Return how many workers a server may have within the limits."""
    quota, period = cpu_time(options)
    if quota is not None and period is not None and quota > 0:
        processors = min(processors, max(1, -(-quota // period)))
    count = 2 * processors + 1
    if options.memory_bytes is not None:
        count = min(count, options.memory_bytes // WORKER_BYTES)
    return max(1, count)


def resources(options: "RunOptions") -> Resources:
    """Return the limits that were asked for (`config.check` has looked at them)."""
    quota, period = cpu_time(options)
    pids = options.pids_limit
    return Resources(
        memory_bytes=options.memory_bytes,
        # Not said (or 0): as much swap again as memory, which the cgroup room sets where swap is counted at all.
        memory_swap_bytes=options.memory_swap_bytes or None,
        memory_reservation_bytes=options.memory_reservation_bytes or None,
        memory_swappiness=options.memory_swappiness,
        oom_kill_disable=options.oom_kill_disable or None,
        cpu_quota_us=quota,
        cpu_period_us=period,
        cpu_rt_period_us=options.cpu_rt_period_us or None,
        cpu_rt_runtime_us=options.cpu_rt_runtime_us or None,
        cpu_shares=options.cpu_shares or None,
        cpuset_cpus=options.cpuset_cpus or None,
        cpuset_mems=options.cpuset_mems or None,
        blkio_weight=options.blkio_weight or None,
        pids=pids if pids is not None and pids > 0 else None,
    )


def _with_devices(wanted: Resources, devices: "Document") -> Resources:
    """Return the limits with those of devices, which only a look at the machine can tell."""
    if devices:
        wanted.io_limits = tuple(tuple(limit) for limit in devices["io"]) or None
        rules = devices["rules"]
        wanted.device_rules = None if rules is None else tuple(tuple(rule) for rule in rules)
    return wanted


def _namespaces(options: "RunOptions", place: Place) -> dict[str, str]:
    """Return which are new (`""`) and which another container's (a path); those that are missing are the machine's."""
    names = ["user"] if place.uid_mappings else []
    modes = {
        "mount": "",
        "pid": options.pid,
        "ipc": options.ipc,
        "uts": options.uts,
        "cgroup": options.cgroupns,
        "network": options.network_mode,
    }
    names += [name for name, mode in modes.items() if mode != "host"]
    return dict.fromkeys(names, "") | place.joined


def _mounts(options: "RunOptions", place: Place) -> "list[Mount]":
    """Return docker's default mounts, the generated files of /etc, then what was asked for, parents before children."""
    mounts = standard.mounts(
        write="rw" if options.privileged else "ro",
        shm_bytes=options.shm_size_bytes or standard.SHM_BYTES,
        # The kernel mounts sysfs only for those whose user namespace owns the network namespace.
        is_sys_bound=(options.network_mode == "host" or _is_network_alone(place)) and bool(place.uid_mappings),
    )
    mounts = [_shared(mount, options) for mount in mounts if options.ipc != "none" or mount.destination != _SHM]
    asked = {volume.destination for volume in place.volumes}
    idmap = ("idmap",) if place.files_are_idmapped else ()
    # docker: what is generated is as read-only as the root that it lies on.
    access = ("ro",) if options.read_only else ()
    options_of_etc = ("rbind", *access, "rprivate", *idmap)
    names = [name for name in ("resolv.conf", "hostname", "hosts") if f"/etc/{name}" not in asked]
    mounts += [Mount(f"/etc/{name}", "bind", f"{place.etc}/{name}", options_of_etc) for name in names]
    mounts = [mount for mount in mounts if mount.destination not in asked]
    mounts += [_volume(volume, place) for volume in sorted(place.volumes, key=_depth)]
    mounts += [
        Mount(inside, "bind", source, ("bind", "nosuid", "noexec", "rprivate"))
        for source, inside in place.devices.get("binds", ())
    ]
    if place.init:
        # Whose it is does not matter to who executes it, so it needs no idmap.
        mounts.append(Mount(_INIT, "bind", place.init, ("bind", "ro", "nosuid", "nodev", "rprivate")))
    return mounts


def _is_network_alone(place: Place) -> bool:
    """Tell whether it is on the network of a container whose user namespace it does not share."""
    return "network" in place.joined and "user" not in place.joined


def _shared(mount: Mount, options: "RunOptions") -> Mount:
    """Return the mount, or where the machine's or another container's is seen in its place, that."""
    if mount.destination == _SHM and (options.ipc == "host" or options.ipc.startswith(CONTAINER)):
        # Another container's comes as a descriptor; see runtime.joined.
        return Mount(_SHM, "bind", _SHM, ("rbind", *standard.STRICT))
    if mount.type == "cgroup" and options.cgroupns == "host":
        return Mount(mount.destination, "bind", mount.destination, ("rbind", *standard.STRICT, "ro"))
    return mount


def _depth(volume: "VolumeMount") -> int:
    return volume.destination.count("/")


def _volume(volume: "VolumeMount", place: Place) -> Mount:
    access = ("ro",) if volume.read_only else ("rw",)
    if volume.kind == "tmpfs":
        words = tuple(word for word in volume.options if word not in {"ro", "rw"})
        return Mount(volume.destination, "tmpfs", "tmpfs", (*standard.STRICT, *access, *words))
    idmap = ("idmap",) if (place.binds_are_idmapped if volume.kind == "bind" else place.files_are_idmapped) else ()
    words = tuple(word for word in volume.options if word != "nocopy")
    propagation = () if any(word.endswith(("private", "slave", "shared")) for word in words) else ("rprivate",)
    if volume.subpath:
        words += (f"{SUBPATH}{volume.subpath}",)
    if volume.recursion == "writable":
        words += (TOP_ONLY,)
    bind = "bind" if volume.recursion == "disabled" else "rbind"
    return Mount(volume.destination, "bind", volume.source, (bind, *access, *propagation, *words, *idmap))


def _sysctl(options: "RunOptions", place: Place) -> dict[str, str]:
    """Return docker's defaults (who is not root may take port 80, and ping), then what was asked for."""
    if options.network_mode == "host" or options.network_mode.startswith(CONTAINER):
        return dict(options.sysctl)
    # A group that is not mapped may not stand there.
    last = max((mapping.container_id + mapping.size - 1 for mapping in place.gid_mappings), default=_LAST_GROUP)
    first = min((mapping.container_id for mapping in place.gid_mappings), default=0)
    defaults = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"{first} {last}"}
    return defaults | options.sysctl
