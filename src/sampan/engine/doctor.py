"""What this machine gives to containers: every part is tried for real, and what is missing names the way to get it.

Each check returns one `Finding`. Nothing stays behind: what is tried is tried in namespaces that end with the try, or
is what the first container would make anyway (the store's directory, the record of what its file system can do).
"""

import errno
import os

from sampan.database import location
from sampan.document import parse, render
from sampan.engine import assembly, rootless, unit
from sampan.errors import SampanError
from sampan.kernel import fuse, syscalls
from sampan.network import bridge, firewall, ipam
from sampan.runtime import cgroup, cgroup_v1, cgroup_v2, idmap, namespaces, subordinate
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
# Below the mount point, the group of a user's systemd.
_USER_GROUP = "user.slice/user-{uid}.slice/user@{uid}.service"
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
    before = _of_the_machine(settings)
    namespace = _tried("user namespaces", lambda: _namespaces(settings))
    yield namespace
    if namespace.state == MISSING:
        return
    yield from before
    yield _tried("layers", lambda: _layers(settings))
    yield _tried("limits", lambda: _limits(settings))
    yield _tried("network", _network)
    yield _seccomp()
    yield _traces()
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


def _namespaces(settings: "Settings") -> Finding:
    """Enter a normal user's namespaces; make one and let it go, as root."""
    rootless.enter(settings)
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


def _of_the_machine(settings: "Settings") -> list[Finding]:
    """Return what can be asked only where a normal user is himself still, before he enters his namespaces."""
    own = [] if settings.uid == 0 else [_ids(settings), _way_out(settings), _linger(settings)]
    return [*own, _tried("after a reboot", lambda: _boot(settings))]


def _ids(settings: "Settings") -> Finding:
    """Tell whether a normal user's containers have more than one user id."""
    text = subordinate.lack(settings.uid, settings.environment.get("PATH"))
    return Finding("user ids", LIMITED, *_parted(text)) if text else Finding("user ids", OK, "a range of his own")


def _way_out(settings: "Settings") -> Finding:
    """Tell whether a normal user's containers reach the network."""
    from sampan.kernel import program

    if program.find("pasta", settings.environment.get("PATH")) is not None:
        return Finding("way out", OK, "pasta connects containers to the network")
    text = "containers reach no network but each other's, since `pasta` is not installed: `apt install passt`"
    return Finding("way out", LIMITED, *_parted(text))


def _parted(text: str) -> tuple[str, tuple[str, ...]]:
    """Part a warning from the command that it ends with, which is root's to give."""
    what, _, command = text.rpartition(": ")
    return what, (f"as root: {command.removeprefix('as root, ')}",)


def _linger(settings: "Settings") -> Finding:
    """Tell whether this user's processes may outlive the last session. loginctl(1)."""
    if not unit.is_booted():
        return Finding("after logout", OK, "no systemd here ends what a session leaves")
    if unit.lingers(settings):
        return Finding("after logout", OK, "containers go on")
    mending = (f"`loginctl enable-linger {unit.user_name(settings)}`",)
    return Finding("after logout", LIMITED, "containers end with the last session", mending)


def _boot(settings: "Settings") -> Finding:
    """Tell whether restart policies are applied when the machine comes up."""
    found = unit.find(settings)
    if found is None:
        mending = "`sampan boot enable`"
        if not unit.is_booted():
            mending = "have this machine's init call `sampan boot start`, and `sampan boot stop` before it ends"
        return Finding("after a reboot", LIMITED, "no container starts by itself", (mending,))
    if not os.access(found.program, os.X_OK):
        what = f"`{found.path}` runs `{found.program}`, which is gone"
        return Finding("after a reboot", LIMITED, what, ("`sampan boot enable`",))
    return Finding("after a reboot", OK, "containers start as their restart policies want")


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
    has = _controllers(settings)
    lacks = [name for name in _LIMITS if name not in has]
    if not lacks:
        return Finding("limits", OK, ", ".join(_LIMITS))
    what = f"no limits of {', '.join(lacks)}"
    return Finding("limits", LIMITED, what, (_how_to_limit(settings, has),))


def _controllers(settings: "Settings") -> tuple[str, ...]:
    """Return the controllers that containers would have; a normal user's are what PID 1 delegated to his systemd."""
    has = cgroup.open_parent(settings).controllers
    point = cgroup_v2.mount_point()
    if settings.uid == 0 or not has or not point:
        return has
    try:
        with open(f"{point}/{_USER_GROUP.format(uid=settings.uid)}/cgroup.controllers", encoding="ascii") as file:
            return tuple(file.read().split())
    except OSError:
        return has


def _how_to_limit(settings: "Settings", has: tuple[str, ...]) -> str:
    """Return the way to the limits that are missing."""
    if settings.uid == 0:
        return "mount the controllers: see `/proc/cgroups`, and `findmnt -t cgroup,cgroup2`"
    if cgroup_v1.hierarchies().keys() & set(_LIMITS):
        return "limits on cgroup v1 need root; `systemd.unified_cgroup_hierarchy=1` on the kernel's command line has v2"
    if has:
        drop_in = "/etc/systemd/system/user@.service.d"
        words = f"printf '[Service]\\nDelegate=yes\\n' >{drop_in}/delegate.conf && systemctl daemon-reload"
        return f"as root: `mkdir -p {drop_in} && {words}`, then log in again"
    name = unit.user_name(settings)
    return f"as root: `loginctl enable-linger {name}`, or log in by ssh or at the console, not by `su`"


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


def _traces() -> Finding:
    """Tell whether a build can see what a RUN reads: without, it runs again whenever a file of the context changed."""
    try:
        os.close(os.open(fuse.DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        what = f"a RUN after COPY runs again with any change: `{fuse.DEVICE}`: {error.strerror}"
        mending = "as root: `modprobe fuse`" if error.errno == errno.ENOENT else f"as root: `chmod 666 {fuse.DEVICE}`"
        return Finding("traced builds", LIMITED, what, (mending,))
    return Finding("traced builds", OK, "a RUN runs again only where what it read has changed")


def _bases(settings: "Settings") -> Finding:
    """Tell whether base images can be made: nothing is fetched."""
    from sampan.settings import apt

    found = apt.load(settings)
    if not found.archives:
        mending = ("name a Debian mirror: `mirror = …` below `[bootstrap]` in the configuration file",)
        return Finding("Debian packages", LIMITED, "apt here knows no Debian archive", mending)
    return Finding("Debian packages", OK, f"{len(found.archives)} archives, as apt is set")
