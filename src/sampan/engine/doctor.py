"""What this machine gives to containers: every part is tried for real, and what is missing names the way to get it.

Each check returns one `Finding`. Nothing stays behind: what is tried is tried in namespaces that end with the try, or
is what the first container would make anyway (the store's directory, the record of what its file system can do).
"""

import os

from sampan.database import location
from sampan.document import parse, render
from sampan.engine import assembly, rootless
from sampan.errors import SampanError
from sampan.kernel import syscalls
from sampan.network import bridge, firewall, ipam
from sampan.runtime import cgroup, holder, idmap, namespaces
from sampan.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.settings.configuration import Settings

OK, LIMITED, MISSING = "ok", "limited", "missing"
# design: Linux 5.15 is the oldest that is promised; these are the machines with a system call table.
_OLDEST_KERNEL = (5, 15)
_MACHINES = ("x86_64", "aarch64")
_LEAST_BYTES = 1 << 30
_LIMITS = ("memory", "cpu", "pids")
_ANSWER_BYTES = 1 << 16
# What a container's first process is cloned into.
_OF_A_CONTAINER = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNET


class Finding:
    """One part of this machine: its `state` (ok, limited, missing), what was found, and the `mending` commands."""

    __slots__ = ("mending", "name", "state", "what")

    def __init__(self, name: str, state: str, what: str, mending: tuple[str, ...] = ()) -> None:
        self.name = name
        self.state = state
        self.what = what
        self.mending = mending


def examine(settings: "Settings") -> "Iterator[Finding]":
    """Try one part after the other; a normal user's process is in the namespaces of its containers after this."""
    yield _kernel()
    yield _tried("store", lambda: _store(settings))
    warnings: list[str] = []
    namespace = _tried("user namespaces", lambda: _namespaces(settings, warnings))
    yield namespace
    if namespace.state == MISSING:
        return
    if settings.uid != 0:
        yield from _for_a_user(settings, warnings)
    yield _tried("layers", lambda: _layers(settings))
    yield _tried("limits", lambda: _limits(settings))
    yield _tried("network", _network)
    yield _seccomp()
    yield _tried("Debian packages", lambda: _bases(settings))


def _tried(name: str, check: "Callable[[], Finding]") -> Finding:
    """Return what a check found; an error is a part that is missing, with the error's own hints."""
    try:
        return check()
    except SampanError as error:
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        return Finding(name, MISSING, f"{error.what}{cause}", tuple(error.hints))
    except OSError as error:
        return Finding(name, MISSING, str(error))


def _kernel() -> Finding:
    machine = os.uname()
    numbers = [int(part) for part in machine.release.replace("-", ".").split(".")[:2] if part.isdigit()]
    what = f"Linux {machine.release} on {machine.machine}"
    if machine.machine not in _MACHINES:
        return Finding("kernel", MISSING, what, (f"use a machine of {' or '.join(_MACHINES)}",))
    if tuple(numbers) < _OLDEST_KERNEL:
        return Finding(
            "kernel", LIMITED, what, ("Linux 5.15 is the oldest that Sampan is made for: upgrade the kernel",)
        )
    return Finding("kernel", OK, what)


def _store(settings: "Settings") -> Finding:
    location.prepare(settings.root)
    found = os.statvfs(settings.root)
    free = found.f_bavail * found.f_frsize
    kind = location.file_system(os.path.realpath(settings.root))
    what = f"{settings.root} ({kind}, {human_size(free)} free)"
    if free < _LEAST_BYTES:
        return Finding("store", LIMITED, what, ("make room there, or move the store with SAMPAN_ROOT",))
    return Finding("store", OK, what)


def _namespaces(settings: "Settings", warnings: list[str]) -> Finding:
    """Enter a normal user's namespaces, whose `warnings` are kept; make one and let it go, as root."""
    if settings.uid != 0:
        rootless.enter(settings, lambda event: warnings.append(event.text))
    try:
        pid, pidfd = syscalls.clone3(_OF_A_CONTAINER)
    except OSError as error:
        namespaces.explain(error, syscalls.CLONE_NEWUSER)
        raise
    if pid == 0:
        os._exit(0)
    os.close(pidfd)
    os.waitpid(pid, 0)
    return Finding("user namespaces", OK, "every container gets one of its own")


def _for_a_user(settings: "Settings", warnings: list[str]) -> "Iterator[Finding]":
    """Yield what matters to a normal user only. The holder may have told its warnings to an earlier command."""
    lacks = {name: text for text in warnings for name in ("newuidmap", "pasta") if name in text}
    count = holder.id_count()
    if count > 1:
        yield Finding("user ids", OK, f"{count} ids in a container")
    else:
        text = lacks.get("newuidmap", "a container has a single user id")
        yield Finding(
            "user ids", LIMITED, *_parted(text, "`apt install uidmap`, and ranges in /etc/subuid and /etc/subgid")
        )
    from sampan.kernel import program

    if program.find("pasta", settings.environment.get("PATH")) is not None and "pasta" not in lacks:
        yield Finding("way out", OK, "pasta connects containers to the network")
    else:
        text = lacks.get("pasta", "containers reach no network but each other's")
        yield Finding("way out", LIMITED, *_parted(text, "`apt install passt`"))
    yield _linger(settings)


def _parted(text: str, mending: str) -> tuple[str, tuple[str, ...]]:
    """Part a warning from the command that it ends with."""
    what, colon, command = text.partition(": `")
    return what, (f"as root: `{command}" if colon else f"as root: {mending}",)


def _linger(settings: "Settings") -> Finding:
    """Tell whether this user's processes may outlive the last session. loginctl(1)."""
    if not os.path.isdir("/run/systemd/system"):
        return Finding("after logout", OK, "no systemd here ends what a session leaves")
    name = settings.environment.get("USER") or settings.environment.get("LOGNAME") or str(settings.uid)
    if os.path.exists(f"/var/lib/systemd/linger/{name}"):
        return Finding("after logout", OK, "containers go on")
    mending = (f"`loginctl enable-linger {name}`",)
    return Finding("after logout", LIMITED, "containers end with the last session", mending)


def _layers(settings: "Settings") -> Finding:
    found = assembly.features(settings)
    if settings.uid != 0:
        return Finding("layers", OK, "overlay in this user's namespaces")
    if found.overlay_recipe == idmap.NONE:
        what = "this file system cannot be idmapped: layers are unpacked once more, with shifted ids"
        mending = ("move SAMPAN_ROOT to ext4, xfs or btrfs",)
        return Finding("layers", LIMITED, what, mending)
    return Finding("layers", OK, "idmapped overlay")


def _limits(settings: "Settings") -> Finding:
    has = cgroup.open_parent(settings).controllers
    lacks = [name for name in _LIMITS if name not in has]
    if not lacks:
        return Finding("limits", OK, ", ".join(_LIMITS))
    what = f"no limits of {', '.join(lacks)}"
    if settings.uid == 0:
        return Finding("limits", LIMITED, what)
    mending = "log in by a session of systemd's (not by `su`), which delegates a cgroup; or run as root"
    return Finding("limits", LIMITED, what, (mending,))


def _network() -> Finding:
    """Make a bridge and its rules in a network namespace of a child, which ends with it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, render(_try_network()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        told = parse(os.read(reading, _ANSWER_BYTES).decode())
    finally:
        os.close(reading)
        os.waitpid(pid, 0)
    if told["what"]:
        return Finding("network", MISSING, told["what"], tuple(told["hints"]))
    return Finding("network", OK, "bridge, nftables and published ports")


def _try_network() -> "dict[str, object]":
    network = ipam.Network("doctor", "smpdoctor", "10.217.0.0", 16)
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        bridge.ensure(network)
        firewall.ensure(network)
    except SampanError as error:
        return {"what": error.what, "hints": list(error.hints)}
    except OSError as error:
        return {"what": f"a network cannot be made: {error}", "hints": []}
    return {"what": "", "hints": []}


def _seccomp() -> Finding:
    try:
        with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as file:
            has_filter = "errno" in file.read().split()
    except OSError:
        has_filter = False
    if has_filter:
        return Finding("seccomp", OK, "system calls are filtered")
    return Finding("seccomp", MISSING, "this kernel filters no system calls", ("a kernel with CONFIG_SECCOMP_FILTER",))


def _bases(settings: "Settings") -> Finding:
    """Tell whether base images can be made: nothing is fetched."""
    from sampan.settings import apt

    found = apt.load(settings)
    if not found.archives:
        mending = ("name a Debian mirror: `mirror = …` below `[bootstrap]` in the configuration file",)
        return Finding("Debian packages", LIMITED, "apt here knows no Debian archive", mending)
    return Finding("Debian packages", OK, f"{len(found.archives)} archives, as apt is set")
