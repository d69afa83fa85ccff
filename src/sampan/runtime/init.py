"""The child's side of a start: from clone3(2) to execve(2), in the order that security asks for.

Theory: the child is a fork of its creator and runs the creator's Python in the container's namespaces. `Child.at` names
what is being done; the first OSError crosses the channel as (step, errno, object) and ends the child. The order:

    setsid, cgroup v1, forget how to import
    MAPPED  -> become the root of the user namespace; its own keyring, IPC and cgroup namespaces, host name
               private propagation; make file systems, detached
    MOUNTS  -> attach the root, then all mounts inside it; devices, sysctl, masked and read-only paths; pivot_root
               terminal; standard files; close all other descriptors
               bounding set, (filter), groups, ids, capabilities, directory, umask
    READY   -> creator
    START   -> parent-death signal, (no_new_privs, filter), execve

SECURITY: once the image's root is near, an import would run the image's code as us; so before that the import system is
emptied and all that is needed has been imported. Descriptors are really closed, since close-on-exec does not help when
the working directory is `/proc/self/fd/7` (CVE-2024-21626). The parent-death signal is last, since a change of ids or
capabilities clears it; that the creator was still there when it was set is known from the channel.
"""

import _signal  # typeshed has no stub for the C half; `signal` costs 3 ms
import errno
import fcntl
import gc
import os
import select
import sys
import termios

from sampan.kernel import capability, mount, syscalls
from sampan.runtime import channel, device, filesystem, namespaces, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from sampan.oci.runtime import Process, Spec

    class Cgroup(Protocol):
        """What a start needs of `cgroup.Cgroup`: a v2 directory to be born in, or a v1 group to enter."""

        @property
        def fd(self) -> int | None:
            """The directory of a v2 group."""

        def enter(self) -> None:
            """Join a v1 group."""


_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441  # asm-generic/ioctls.h
_PTMX = os.makedev(5, 2)
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EXECUTE = "execute"
CHANGE_DIRECTORY = "change to the working directory"
_forgotten: "list[object]" = []


class Stdio:
    """The standard files of the container's process: descriptors of the caller, which keeps them."""

    __slots__ = ("stderr", "stdin", "stdout")

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr


class Child:
    """What the child knows, and the step it is at."""

    __slots__ = ("channel", "process", "seccomp_program", "stdio", "step", "subject")

    def __init__(
        self,
        theirs: channel.Channel,
        process: "Process",
        stdio: Stdio,
        seccomp_program: bytes | None,
    ) -> None:
        self.channel = theirs
        self.process = process
        self.stdio = stdio
        self.seccomp_program = seccomp_program
        self.step = "begin"
        self.subject = ""

    def at(self, step: str, subject: str = "") -> None:
        """Say what is done next."""
        self.step = step
        self.subject = subject


def run(child: Child, spec: "Spec", cgroup: "Cgroup | None") -> "NoReturn":
    """Be the first process of a container; never returns."""
    try:
        _begin(child, cgroup)
        _receive(child, channel.MAPPED)
        _enter_namespaces(child, spec)
        _mount(child, spec)
        _prepare(child)
        child.channel.send(channel.READY)
        _receive(child, channel.START)
        _execute(child)
    except BaseException as error:  # noqa: BLE001 (a process boundary)
        leave(child, error)


def run_joined(child: Child, pidfd: int, flags: int, cgroup: "Cgroup | None") -> "NoReturn":
    """Be a further process of the container whose process `pidfd` is; never returns."""
    try:
        _begin(child, cgroup)
        # The creator sets limits first, for which it needs to be let in.
        _receive(child, channel.START)
        child.at("join the container's namespaces")
        # SECURITY: the container's processes must not look into this one, which still has the creator's memory.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        syscalls.setns(pidfd, flags)
        if flags & syscalls.CLONE_NEWUSER:
            namespaces.become_root()
        syscalls.keyctl_join_session()
        if child.process.terminal:
            _open_terminal(child, os.open("/", os.O_PATH | os.O_CLOEXEC))
        _prepare(child)
        _execute(child)
    except BaseException as error:  # noqa: BLE001 (a process boundary)
        leave(child, error)


def leave(child: Child, error: BaseException) -> "NoReturn":
    """Send what went wrong and end."""
    try:
        if isinstance(error, OSError):
            child.channel.send_failure(child.step, error.errno or 0, str(error.filename or child.subject))
        else:
            child.channel.send_failure(f"{child.step} ({type(error).__name__}: {error})", 0, child.subject)
    finally:
        os._exit(1)


def forget_imports() -> None:
    """Make every further import fail; see SECURITY above."""
    # Put aside and not emptied: freeing them would copy the pages that we share with the creator, 0.3 ms for nothing.
    _forgotten.extend((sys.path, sys.meta_path, sys.path_hooks, sys.path_importer_cache))
    sys.path, sys.meta_path, sys.path_hooks, sys.path_importer_cache = [], [], [], {}


def _begin(child: Child, cgroup: "Cgroup | None") -> None:
    child.at("begin")
    gc.disable()  # it would copy every page that we share with the creator
    for number in range(1, _signal.NSIG):
        # What Python ignores (SIGPIPE) would stay ignored in the command. None: set by somebody else than Python.
        if _signal.getsignal(number) not in (_signal.SIG_DFL, None):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    os.setsid()
    os.umask(0o022)
    if cgroup is not None and cgroup.fd is None:
        child.at("join the cgroup")
        cgroup.enter()
    forget_imports()


def _receive(child: Child, kind: bytes) -> None:
    """Wait for `kind`; the creator's end is our end."""
    if child.channel.receive()[0] != kind:
        os._exit(1)


def _enter_namespaces(child: Child, spec: "Spec") -> None:
    child.at("become root of the user namespace")
    if "user" in spec.namespaces:
        namespaces.become_root()
    child.at("make a session keyring")
    syscalls.keyctl_join_session()
    child.at("make the ipc and cgroup namespaces")
    flags = namespaces.unshare_flags(spec)
    if flags:
        syscalls.unshare(flags)
    child.at("set the host name", spec.hostname)
    if spec.hostname:
        syscalls.sethostname(spec.hostname)
    if spec.domainname:
        child.at("set the domain name", spec.domainname)
        syscalls.setdomainname(spec.domainname)


def _mount(child: Child, spec: "Spec") -> None:
    child.at("make its mounts private")
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    child.at("make the file system for")
    mounts = filesystem.make_all(spec)
    received = child.channel.receive_mounts()
    if received is None:
        os._exit(1)
    root_fd = received.pop(channel.ROOT)
    child.at("attach its root")
    # A root that is a clone of a directory is a peer of the machine's mount, which systemd makes shared: what is
    # mounted in it would appear there as well, and pivot_root(2) refuses it.
    syscalls.mount_setattr(
        root_fd, "", syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE, 0, propagation=syscalls.MS_PRIVATE
    )
    # Over the machine's own root, which always exists; this process's root stays below until pivot_root(2).
    syscalls.move_mount(root_fd, "", syscalls.AT_FDCWD, "/", syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    child.at("mount")
    is_dev_empty = _make_missing_dev(spec, received)
    filesystem.attach_all(root_fd, spec, mounts | received)
    child.at("make the device")
    if is_dev_empty:
        device.make_by_bind(root_fd, spec)
    device.bind_outside_dev(root_fd, spec)
    _finish_root(child, spec, root_fd)
    _pivot(child, root_fd)


def _make_missing_dev(spec: "Spec", received: "dict[int, int]") -> bool:
    """Make an empty /dev where the creator could make none; tell whether that was so."""
    is_missing = False
    for number, entry in enumerate(spec.mounts):
        if filesystem.is_dev(entry) and number not in received:
            received[number] = filesystem.make(entry, spec.namespaces)
            is_missing = True
    return is_missing


def _finish_root(child: Child, spec: "Spec", root_fd: int) -> None:
    child.at("make the working directory", spec.process.cwd)
    os.close(target.find_or_make(root_fd, spec.process.cwd, is_directory=True))
    for name, value in spec.sysctl.items():
        child.at("set the kernel parameter", name)
        filesystem.write_sysctl(root_fd, name, value)
    child.at("protect")
    filesystem.protect(root_fd, spec)
    if spec.process.terminal:
        _open_terminal(child, root_fd, is_first=True)
    child.at("make the root read-only")
    if spec.readonly_root:
        syscalls.mount_setattr(root_fd, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_RDONLY)


def _pivot(child: Child, root_fd: int) -> None:
    child.at("change its root")
    os.fchdir(root_fd)
    # The old root goes on top of the new one and is taken away from there: it needs no directory. pivot_root(2).
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _open_terminal(child: Child, root_fd: int, *, is_first: bool = False) -> None:
    """Make a terminal of the container's own devpts, send its master, and become the session that it controls."""
    child.at("open a terminal")
    # SECURITY: a container may have put anything at this path; only the kernel's own multiplexer will do.
    master = target.find(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    if os.fstat(master).st_rdev != _PTMX:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), "/dev/pts/ptmx")
    fcntl.ioctl(master, _TIOCSPTLCK, b"\0\0\0\0")
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    os.fchown(slave, child.process.uid, -1)
    if is_first:
        _bind_console(root_fd, slave)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    child.channel.send(channel.READY, fds=(master,))
    os.close(master)
    child.stdio = Stdio(slave, slave, slave)


def _bind_console(root_fd: int, slave: int) -> None:
    """Show the terminal as /dev/console."""
    place = target.find_or_make(root_fd, "/dev/console", is_directory=False)
    clone = mount.clone("", mount.Options(()), dirfd=slave)
    mount.attach(clone, place)
    os.close(clone)
    os.close(place)


def _prepare(child: Child) -> None:
    """Do all that leads to execve but the last, irrevocable things."""
    process = child.process
    child.at("set up its standard files")
    _set_stdio(child)
    child.at("limit its capabilities")
    keep = capability.bits(process.capabilities)
    capability.drop_bounding(keep)
    if not process.no_new_privileges:
        # Loading a filter without no_new_privs takes CAP_SYS_ADMIN, which goes in a moment.
        _load_filter(child)
    child.at("set its groups")
    namespaces.set_groups(process.additional_gids)
    child.at("set its group", str(process.gid))
    os.setresgid(process.gid, process.gid, process.gid)
    child.at("set its user", str(process.uid))
    os.setresuid(process.uid, process.uid, process.uid)
    child.at("limit its capabilities")
    capability.limit(keep)
    _change_directory(child)
    os.umask(process.umask)


def _set_stdio(child: Child) -> None:
    """Put the standard files at 0, 1 and 2 and the channel at 3, and close everything else."""
    stdio = child.stdio
    # Copies above all of them first: one may be another's place.
    wanted = (stdio.stdin, stdio.stdout, stdio.stderr, child.channel.fileno())
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in wanted]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=number < 3)
    child.channel.move(3)
    syscalls.close_range(4)


def _load_filter(child: Child) -> None:
    child.at("load its seccomp filter")
    if child.seccomp_program is not None:
        syscalls.seccomp_load(child.seccomp_program)


def _change_directory(child: Child) -> None:
    child.at(CHANGE_DIRECTORY, child.process.cwd)
    os.chdir(child.process.cwd)
    # SECURITY: a directory outside the root has a name that begins with `(unreachable)`. getcwd(2), CVE-2024-21626.
    if not os.getcwd().startswith("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), child.process.cwd)


def _execute(child: Child) -> "NoReturn":
    child.at("set the parent-death signal")
    capability.set_parent_death_signal()
    poll = select.poll()
    poll.register(child.channel.fileno(), select.POLLIN)
    if poll.poll(0):  # the creator ended before the signal was set, or it sent what it never sends
        os._exit(1)
    if child.process.no_new_privileges:
        child.at("set no_new_privs")
        capability.set_no_new_privs()
        _load_filter(child)
    environment = dict(entry.split("=", 1) for entry in child.process.env if "=" in entry)
    child.at(EXECUTE, child.process.args[0])
    _search_and_execute(child.process.args, environment)


def _search_and_execute(args: "tuple[str, ...]", environment: "dict[str, str]") -> "NoReturn":
    """Execute args[0], looked up in the container's PATH where it has no slash; raise OSError as execvp(3) decides."""
    name = args[0]
    if "/" in name:
        os.execve(name, args, environment)  # noqa: S606 (that is what we are for)
    found: OSError | None = None
    for directory in environment.get("PATH", _DEFAULT_PATH).split(":"):
        try:
            os.execve(f"{directory or '.'}/{name}", args, environment)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            found = found or error
    if found is not None:
        found.filename = name
        raise found
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
