"""docker's Config document: what an image says and what a person said, as one. Hot path, pure.

Sources: image-spec config.md (what Env, User, Entrypoint and Cmd mean), docker run(1) (what an option does to them).
"""

import os

from sampan.engine.words import parse_signal
from sampan.errors import InvalidArgument, Unsupported
from sampan.network.endpoint import BRIDGE, CONTAINER, HOST, MOST_NETWORKS, NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document
    from sampan.engine.run_options import RunOptions

KEEP_ID = "keep-id"  # podman's word: a normal user has his own id inside
MEMORY_LEAST_BYTES = 6 * 1024 * 1024  # docker refuses less: no process starts in that
CPU_PERIOD_US = 100_000


def merged(options: "RunOptions", image: "Document") -> "Document":
    """Return docker's Config document: an image's `config` with the options over it.

    Raises InvalidArgument where neither names a command.
    """
    entrypoint, command = image.get("Entrypoint"), image.get("Cmd")
    if options.entrypoint is not None:
        # moby: an entrypoint of one's own takes the image's Cmd away.
        entrypoint, command = list(options.entrypoint) or None, None
    if options.command:
        command = list(options.command)
    if not (entrypoint or command):
        raise InvalidArgument(
            f"the image `{options.image}` has no command of its own",
            hints=(f"name one: `sampan run {options.image} COMMAND`",),
        )
    exposed = dict(image.get("ExposedPorts") or {})
    exposed |= {word: {} for word in options.expose}
    exposed |= {f"{port.container_port}/{port.protocol}": {} for port in options.ports}
    return {
        # docker: on the machine's own network the name is the machine's.
        "Hostname": options.hostname or (os.uname().nodename if options.network_mode == HOST else ""),
        "Domainname": options.domainname,
        "User": options.user or image.get("User") or "",
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive and not options.detach,
        "Env": list(environment_of(image.get("Env") or (), options.env)),
        "Cmd": command,
        "Entrypoint": entrypoint,
        "Image": options.image,
        "Volumes": image.get("Volumes") or None,
        "WorkingDir": options.workdir or image.get("WorkingDir") or "",
        "Labels": dict(image.get("Labels") or {}) | options.labels,
        "ExposedPorts": exposed,
        "StopSignal": options.stop_signal or image.get("StopSignal") or "SIGTERM",
        "StopTimeout": options.stop_timeout_seconds,
        "Healthcheck": _health_check(options, image.get("Healthcheck")),
        "Shell": image.get("Shell") or None,
    }


def _health_check(options: "RunOptions", image: "Document | None") -> "Document | None":
    """Return docker's Healthcheck: the person's words over the image's, key by key (moby's runconfig merge)."""
    asked = options.health.document()
    if asked.get("Test", [""])[0] == "NONE":
        return asked
    merged = {key: value for key, value in (image or {}).items() if value} | asked
    return merged if merged.get("Test") else None


def stop_signal(config: "Document") -> int:
    """Return the number of the signal that asks the container to end."""
    return parse_signal(config["StopSignal"])


def environment_of(*lists: "object") -> "list[str]":
    """Merge lists of KEY=value; a later one wins in an earlier one's place."""
    result: dict[str, str] = {}
    for words in lists:
        if isinstance(words, (list, tuple)):
            result |= {str(word).partition("=")[0]: str(word).partition("=")[2] for word in words}
    return [f"{key}={value}" for key, value in result.items()]


def check(options: "RunOptions", machine: str, processors: int) -> None:
    """Raise Unsupported or InvalidArgument for what cannot be had, before anything is made.

    `machine` is uname(2)'s word, `processors` how many there are.
    """
    check_limits(options, processors)
    _check_kinds(options, machine)
    if options.workdir and not options.workdir.startswith("/"):
        hint = f"write it from the root on: `/{options.workdir}`"
        raise InvalidArgument(f"the working directory `{options.workdir}` is not absolute", hints=(hint,))
    for word in options.add_host:
        if not word.partition(":")[2]:
            raise InvalidArgument(f"`--add-host {word}` has no address", hints=("write it like `name:192.0.2.1`",))
    if options.log_driver or options.log_options:
        from sampan.engine import log_words  # rarely given

        log_words.check(options.log_driver, options.log_options)
    if options.cap_add or options.cap_drop:
        from sampan.engine import privilege  # rarely needed, and it brings the kernel's names along

        privilege.of(options)


def check_limits(options: "RunOptions", processors: int) -> None:
    """Raise InvalidArgument for limits that contradict each other or the machine."""
    memory, swap = options.memory_bytes, options.memory_swap_bytes
    if memory is not None and memory < MEMORY_LEAST_BYTES:
        raise InvalidArgument("a memory limit must be at least 6 MiB", hints=("try `--memory 64m`",))
    if swap is not None and memory is None:
        raise InvalidArgument("`--memory-swap` needs `--memory`", hints=("it is the sum of both",))
    if swap is not None and memory is not None and swap not in {-1, 0} and swap < memory:
        raise InvalidArgument("`--memory-swap` is less than `--memory`", hints=("it is the sum of both",))
    if memory is not None and (options.memory_reservation_bytes or 0) > memory:
        raise InvalidArgument("`--memory-reservation` is more than `--memory`", hints=("it is a part of it",))
    _check_cpu(options, processors)
    _check_io(options)


def cpu_time(options: "RunOptions") -> tuple[int | None, int | None]:
    """Return the processor time (-1 is no limit) and the period that it is for, in microseconds; None: not said."""
    if options.nano_cpus is not None:
        return options.nano_cpus * CPU_PERIOD_US // 1_000_000_000, CPU_PERIOD_US
    period = options.cpu_period_us or None
    if options.cpu_quota_us:
        return options.cpu_quota_us, period or CPU_PERIOD_US
    return None, period


def _check_cpu(options: "RunOptions", processors: int) -> None:
    quota, period = options.cpu_quota_us or 0, options.cpu_period_us or 0
    if options.nano_cpus is not None and (quota or period):
        raise InvalidArgument("`--cpus` excludes `--cpu-quota` and `--cpu-period`", hints=("it says both in one",))
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidArgument("`--cpu-period` is 1000 to 1000000 microseconds")
    if 0 < quota < 1000:
        raise InvalidArgument("`--cpu-quota` is at least 1000 microseconds")
    time, whole = cpu_time(options)
    if time is not None and time > processors * (whole or CPU_PERIOD_US):
        raise InvalidArgument(f"there are only {processors} processors", hints=(f"`--cpus` is 0.01 to {processors}",))
    if (options.cpu_rt_runtime_us or 0) > (options.cpu_rt_period_us or 1_000_000):
        raise InvalidArgument("`--cpu-rt-runtime` is more than `--cpu-rt-period`", hints=("it is a part of it",))


def _check_io(options: "RunOptions") -> None:
    if options.memory_swappiness is not None and not 0 <= options.memory_swappiness <= 100:
        raise InvalidArgument("`--memory-swappiness` is 0 to 100")
    weights = [options.blkio_weight or 0, *(weight for _, weight in options.blkio_weight_device)]
    if any(weight and not 10 <= weight <= 1000 for weight in weights):
        raise InvalidArgument("`--blkio-weight` and `--blkio-weight-device` are 10 to 1000")


def _check_kinds(options: "RunOptions", machine: str) -> None:
    if options.restart.name != "no" and options.auto_remove:
        raise InvalidArgument("`--restart` and `--rm` exclude each other", hints=("leave one of both out",))
    _check_networks(options)
    if options.userns not in {"", "auto", "private", "host", KEEP_ID}:
        hint = f"there are `host`, `{KEEP_ID}` and the default"
        raise InvalidArgument(f"`--userns={options.userns}` is unknown", hints=(hint,))
    # The words of `sharing` that many would ask for; the rest is looked at there.
    modes = (options.pid, options.ipc, options.uts, options.cgroupns, options.domainname, options.links)
    if any(modes) or options.network_mode.startswith(CONTAINER):
        from sampan.engine import sharing

        sharing.check(options)
    if options.platform:
        _check_platform(options.platform, machine)


def _check_platform(platform: str, machine: str) -> None:
    from sampan.oci import architecture  # few ask for one

    wanted, ours = platform.removeprefix("linux/").partition("/")[0], architecture.name_of(machine)
    if wanted and wanted not in {ours, machine}:
        raise Unsupported(f"this machine runs `linux/{ours}`, not `{platform}`")


def _check_networks(options: "RunOptions") -> None:
    """Refuse what docker refuses: networks that exclude each other, names and addresses where nobody chooses them."""
    names = [request.name for request in options.networks]
    for name in (HOST, NONE):
        if name in names and len(names) > 1:
            raise InvalidArgument(f"the network `{name}` excludes every other", hints=("leave one of both out",))
        if name in names and options.ports:
            raise InvalidArgument(
                f"ports cannot be published with `--network {name}`", hints=("leave one of both out",)
            )
    if len(set(names)) < len(names) or len(names) > MOST_NETWORKS:
        raise InvalidArgument(f"a container is on at most {MOST_NETWORKS} networks, and on each once")
    for request in options.networks:
        if request.name in {BRIDGE, HOST, NONE} and (request.aliases or request.ip):
            raise InvalidArgument(
                f"on the network `{request.name}` nobody chooses aliases or addresses",
                hints=("make one of your own: `sampan network create NAME`",),
            )
