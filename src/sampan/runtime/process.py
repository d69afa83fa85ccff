"""The creator's side of a start: clone the first process, give it maps and mounts, set it going; join more processes.

Theory: `create` returns when the container is all set up and its first process waits just before execve(2); `start`
lets it go and returns when execve has succeeded. In between the caller connects the network through `namespace_fd`. The
process is the caller's child: it is waited for by the caller, and it dies with the caller (the thread that cloned it).

INVARIANT: whoever calls is single-threaded, since it forks without exec. Whatever fails, the child is killed and waited
for, and every descriptor is closed, before the error leaves this module.
"""

import errno
import os
import stat

from sampan.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, NotFound, SampanError, Unsupported
from sampan.kernel import capability, mount, syscalls
from sampan.runtime import channel, device, filesystem, idmap, init, namespaces, rootfs, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import IdMapping, Mount, Process, Spec
    from sampan.runtime.joined import Joined

Stdio = init.Stdio
_SIGKILL, _SIGCHLD = 9, 17


class Created:
    """A container that waits to start. The caller owns `pidfd` and `console_fd` (the terminal's master, or None)."""

    __slots__ = ("_channel", "_command", "_namespaces", "console_fd", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, ours: channel.Channel, command: str) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd: int | None = None
        self._channel = ours
        self._command = command
        self._namespaces: dict[str, int] = {}

    def namespace_fd(self, name: str) -> int:
        """Return a descriptor of one of its namespaces (`net`, `user`, … or runtime-spec's name); closed by `close`."""
        kind = namespaces.KINDS.get(name, (name,))[0]
        if kind not in self._namespaces:
            self._namespaces[kind] = namespaces.open_of(self.pid, kind)
        return self._namespaces[kind]

    def start(self) -> None:
        """Let it go; return once its command runs.

        Raises CommandNotFound or CommandNotExecutable, SampanError for the rest; the process is then waited for.
        """
        try:
            self._channel.send(channel.START)
        except BrokenPipeError as error:
            self.abort()
            raise SampanError("the container ended before it was started") from error
        try:
            _await_execution(self._channel, self._command)
        except BaseException:
            self.abort()
            raise
        self._channel.close()
        self.close_namespaces()

    def abort(self) -> None:
        """Kill it, wait for it and close all; idempotent."""
        kill_and_wait(self.pid, self.pidfd)
        self._channel.close()
        self.close_namespaces()
        for fd in (self.pidfd, self.console_fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.pidfd, self.console_fd = -1, None

    def close_namespaces(self) -> None:
        """Close the descriptors that `namespace_fd` gave; a namespace lives as long as one is open."""
        while self._namespaces:
            os.close(self._namespaces.popitem()[1])


def create(
    spec: "Spec",
    *,
    root: "Callable[[int | None], int]",
    stdio: Stdio,
    cgroup: "init.Cgroup | None" = None,
    seccomp_program: bytes | None = None,
    meanwhile: "Callable[[Created], None] | None" = None,
    joined: "Joined | None" = None,
) -> Created:
    """Make a container of `spec` whose first process waits for `start`.

    `root` is called with the container's user namespace (None without one) and returns a detached mount of its root,
    which is closed here. `meanwhile` is called while the child mounts: the time to connect its network. `joined`, the
    caller's, is what the spec's paths of namespaces stand for; without it they are opened. Raises InvalidArgument,
    NotFound, Unsupported, and SampanError from the child's OSError.
    """
    _validate(spec)
    opened = namespaces.open_joined(spec) if joined is None else []
    entered = opened if joined is None else joined.entered
    kept = {} if joined is None else {kind: os.dup(fd) for kind, fd in joined.namespaces.items()}
    is_hidden = joined is not None and joined.is_seen
    ours, theirs = channel.pair()
    try:
        pid, pidfd = _clone(namespaces.clone_flags(spec), entered, cgroup, hidden=kept if is_hidden else None)
        if pid == 0:
            ours.close()
            init.run(init.Child(theirs, spec.process, stdio, seccomp_program), spec, cgroup)
    except BaseException:
        ours.close()
        for fd in kept.values():
            os.close(fd)
        raise
    finally:
        theirs.close()
        for fd, _ in opened:
            os.close(fd)
    created = Created(pid, pidfd, ours, spec.process.args[0])
    created._namespaces |= kept
    try:
        _set_up(created, spec, root, stdio, {} if joined is None else joined.mounts)
        if meanwhile is not None:
            meanwhile(created)
        _await_ready(created, spec)
    except channel.Failure as failure:
        created.abort()
        raise _error_of(failure, created) from _cause(failure)
    except BaseException:
        created.abort()
        raise
    return created


def execute(
    pidfd: int,
    process: "Process",
    *,
    stdio: Stdio,
    cgroup: "init.Cgroup | None" = None,
    seccomp_program: bytes | None = None,
    uid_mappings: "tuple[IdMapping, ...]" = (),
    gid_mappings: "tuple[IdMapping, ...]" = (),
) -> tuple[int, int, int | None]:
    """Run a further process in the namespaces of the container's process `pidfd`: docker exec.

    Returns (pid, pidfd, master of the terminal or None) once its command runs; the process is the caller's child. The
    mappings are the container's: its user owns the pipes among the standard files. Raises as `Created.start` does.
    """
    _validate_process(process, uid_mappings, gid_mappings)
    target = namespaces.pid_of(pidfd)
    if target < 0:
        raise SampanError("the container is not running")
    flags = namespaces.differing_flags(target)
    _own_pipes(process, stdio, uid_mappings, gid_mappings)
    ours, theirs = channel.pair()
    try:
        joined = [(pidfd, syscalls.CLONE_NEWPID)] if flags & syscalls.CLONE_NEWPID else []
        pid, child_pidfd = _clone(0, joined, cgroup)
        if pid == 0:
            ours.close()
            init.run_joined(init.Child(theirs, process, stdio, seccomp_program), pidfd, flags, cgroup)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _await_joined(process, pid, child_pidfd, ours)


def _await_joined(
    process: "Process",
    pid: int,
    pidfd: int,
    ours: channel.Channel,
) -> tuple[int, int, int | None]:
    joined = Created(pid, pidfd, ours, process.args[0])
    try:
        _adjust(pid, process)
        ours.send(channel.START)
        if process.terminal:
            (joined.console_fd,) = ours.expect(channel.READY)
        _await_execution(ours, process.args[0])
    except channel.Failure as failure:
        joined.abort()
        raise _error_of(failure, joined) from _cause(failure)
    except BaseException:
        joined.abort()
        raise
    ours.close()
    return pid, pidfd, joined.console_fd


def _clone(
    flags: int,
    joined: "list[tuple[int, int]]",
    cgroup: "init.Cgroup | None",
    *,
    hidden: "dict[str, int] | None" = None,
) -> tuple[int, int]:
    """Clone a child that is born in the namespaces `joined`; return (pid, pidfd), (0, -1) in the child.

    One cannot always come back from where one has joined, so a go-between joins and clones its own sibling. With
    `hidden` that one's /proc files are closed to all but the machine's root (`joined`); its network namespace is put
    there, where it has one of its own, since a normal user could not open it.
    """
    cgroup_fd = None if cgroup is None else cgroup.fd
    if not joined:
        try:
            return _clone_dumpable(flags, cgroup_fd=cgroup_fd)
        except OSError as error:
            namespaces.explain(error, flags)
            raise
    ours, theirs = channel.pair()
    between, between_fd = syscalls.clone3(0)
    if between == 0:
        if _clone_sibling(flags, joined, cgroup_fd, theirs, is_hidden=hidden is not None):
            os._exit(0)
        return 0, -1
    theirs.close()
    os.close(between_fd)
    try:
        if hidden is not None and flags & syscalls.CLONE_NEWNET:
            (hidden["net"],) = ours.expect(channel.READY)
        return ours.expect_process()
    except channel.Failure as failure:
        raise SampanError(f"the container could not {failure.step}") from _cause(failure)
    finally:
        ours.close()
        os.waitpid(between, 0)


def _clone_dumpable(flags: int, *, cgroup_fd: int | None, exit_signal: int = _SIGCHLD) -> tuple[int, int]:
    """Clone a child whose /proc files its creator may open, as it must to write its maps.

    A creator that changed its ids or entered a holder's user namespace is not dumpable, and its child would not be
    either; the machine's root does not mind, but a normal user would be refused. proc(5), /proc/pid.
    """
    was_dumpable = syscalls.prctl(syscalls.PR_GET_DUMPABLE) == 1
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    pid = -1
    try:
        pid, pidfd = syscalls.clone3(flags, cgroup_fd=cgroup_fd, exit_signal=exit_signal)
    finally:
        if pid and not was_dumpable:
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    return pid, pidfd


def _clone_sibling(
    flags: int,
    joined: "list[tuple[int, int]]",
    cgroup_fd: int | None,
    theirs: channel.Channel,
    *,
    is_hidden: bool,
) -> bool:
    """Be the go-between: true in it when all is said, false in the sibling."""
    clone = syscalls.clone3 if is_hidden else _clone_dumpable
    try:
        if is_hidden:
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        for fd, flag in joined:
            syscalls.setns(fd, flag)
        if is_hidden and flags & syscalls.CLONE_NEWNET:
            flags &= ~syscalls.CLONE_NEWNET
            syscalls.unshare(syscalls.CLONE_NEWNET)
            theirs.send(channel.READY, fds=(namespaces.open_of(os.getpid(), "net"),))
        pid, pidfd = clone(flags | syscalls.CLONE_PARENT, cgroup_fd=cgroup_fd, exit_signal=0)
        if pid:
            theirs.send_process(pid, pidfd)
    except OSError as error:
        theirs.send_failure("join a namespace", error.errno or 0, "")
        return True
    else:
        theirs.close()
        return pid != 0


def _validate(spec: "Spec") -> None:
    """Refuse what can be known to fail, while an error still has the person's words."""
    if spec.namespaces.get("mount") != "":
        raise Unsupported("a container without a mount namespace of its own")
    if "user" in spec.namespaces and not (spec.uid_mappings and spec.gid_mappings):
        raise InvalidArgument("the container has a user namespace but no id mappings")
    _validate_process(spec.process, spec.uid_mappings, spec.gid_mappings)


def _validate_process(
    process: "Process",
    uid_mappings: "tuple[IdMapping, ...]",
    gid_mappings: "tuple[IdMapping, ...]",
) -> None:
    if not process.args or not process.args[0]:
        raise InvalidArgument("no command was given and the image names none")
    capability.bits(process.capabilities)
    if idmap.host_id(uid_mappings, process.uid) is None:
        raise InvalidArgument(f"the user id {process.uid} is outside the container's id map")
    for gid in (process.gid, *process.additional_gids):
        if idmap.host_id(gid_mappings, gid) is None:
            raise InvalidArgument(f"the group id {gid} is outside the container's id map")
    for name, _, _ in process.rlimits:
        if name not in _RLIMITS:
            raise InvalidArgument(f"the resource limit `{name}` does not exist")


def _set_up(
    created: Created, spec: "Spec", root: "Callable[[int | None], int]", stdio: Stdio, given: "dict[str, int]"
) -> None:
    """Give the child its maps, then its mounts; `given` are descriptors of the caller's, by destination."""
    userns_fd = None
    if "user" in spec.namespaces:
        if not spec.namespaces["user"]:
            idmap.write_maps(created.pid, spec.uid_mappings, spec.gid_mappings)
        userns_fd = created.namespace_fd("user")
    # Now, for once it has changed its ids a normal user may no longer look at it.
    if "network" in spec.namespaces:
        created.namespace_fd("net")
    _adjust_oom(created.pid, spec.process)
    created._channel.send(channel.MAPPED)
    _own_pipes(spec.process, stdio, spec.uid_mappings, spec.gid_mappings)
    mounts: dict[int, int] = {}
    try:
        mounts[channel.ROOT] = root(userns_fd)
        _open_mounts(spec, userns_fd, mounts, given)
        created._channel.send_mounts(mounts)
    except BrokenPipeError:
        pass  # the child said why before it left; the next `expect` tells
    finally:
        for fd in mounts.values():
            os.close(fd)


def _await_ready(created: Created, spec: "Spec") -> None:
    """Wait until the child has set all up, and take its terminal."""
    if spec.process.terminal:
        (created.console_fd,) = created._channel.expect(channel.READY)
    created._channel.expect(channel.READY)
    _set_rlimits(created.pid, spec.process)


def _open_mounts(spec: "Spec", userns_fd: int | None, mounts: "dict[int, int]", given: "dict[str, int]") -> None:
    """Open what the child cannot: binds, and /dev where nodes can be made."""
    for number, entry in enumerate(spec.mounts):
        if entry.destination in given and filesystem.is_bind(entry):
            mounts[number] = os.dup(given[entry.destination])
        elif filesystem.is_bind(entry):
            mounts[number] = open_bind(entry, userns_fd)
        elif filesystem.is_dev(entry):
            dev_fd = device.open_dev(spec, entry.options)
            if dev_fd is not None:
                mounts[number] = dev_fd


def open_bind(entry: "Mount", userns_fd: int | None) -> int:
    """Return a detached clone of a bind's source, its ids mapped through `userns_fd` where `entry` says `idmap`."""
    options = mount.Options(entry.options)
    mapped_fd = userns_fd if options.has_idmap else None
    try:
        if options.subpath:
            return _open_below(entry.source, options, mapped_fd)
        return mount.clone(entry.source, options, userns_fd=mapped_fd)
    except FileNotFoundError as error:
        below = f" (`{options.subpath}` in it)" if options.subpath else ""
        raise NotFound(f"the bind source `{entry.source}`{below} does not exist") from error
    except OSError as error:
        if mapped_fd is None or error.errno not in (errno.EINVAL, errno.EPERM):
            raise SampanError(f"cannot open the bind source `{entry.source}`") from error
        raise rootfs.cannot_be_idmapped(entry.source) from error


def _open_below(source: str, options: mount.Options, userns_fd: int | None) -> int:
    """Clone what is at the subpath of a volume.

    SECURITY: other containers may write there, so no link in it may lead out of it, whatever happens meanwhile.
    """
    root_fd = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = target.find(root_fd, options.subpath)
    finally:
        os.close(root_fd)
    try:
        return mount.clone("", options, userns_fd=userns_fd, dirfd=fd)
    finally:
        os.close(fd)


def _own_pipes(
    process: "Process",
    stdio: Stdio,
    uid_mappings: "tuple[IdMapping, ...]",
    gid_mappings: "tuple[IdMapping, ...]",
) -> None:
    """Give the pipes among the standard files to the container's user, who may then open /dev/stdout anew."""
    if process.terminal:
        return
    uid, gid = idmap.host_id(uid_mappings, process.uid), idmap.host_id(gid_mappings, process.gid)
    for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            try:
                os.fchown(fd, -1 if uid is None else uid, -1 if gid is None else gid)
            except PermissionError:
                continue  # somebody else's pipe, below a normal user's command: it works, but cannot be opened anew


def _adjust(pid: int, process: "Process") -> None:
    _adjust_oom(pid, process)
    _set_rlimits(pid, process)


def _adjust_oom(pid: int, process: "Process") -> None:
    if process.oom_score_adj is None:
        return
    try:
        with open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
            file.write(str(process.oom_score_adj).encode())
    except OSError as error:
        raise Unsupported(f"cannot set the OOM score adjustment to {process.oom_score_adj}") from error


# asm-generic/resource.h; by number, so that a limit this Python's `resource` lacks works too
_LIMIT_WORDS = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
_RLIMITS = {"RLIMIT_" + name: number for number, name in enumerate(_LIMIT_WORDS.split())}


def _set_rlimits(pid: int, process: "Process") -> None:
    if not process.rlimits:
        return
    import resource  # an extension module that most starts do not need

    for name, soft, hard in process.rlimits:
        limits = tuple(-1 if value < 0 or value >= 2**63 else value for value in (soft, hard))
        try:
            resource.prlimit(pid, _RLIMITS[name], (limits[0], limits[1]))
        except (OSError, ValueError) as error:
            raise Unsupported(f"cannot set {name} to {soft}:{hard}") from error


def _await_execution(ours: channel.Channel, command: str) -> None:
    """Return when the child's end closes by execve; raise what it says went wrong."""
    kind, body, _ = ours.receive()
    if kind == channel.END:
        return
    failure = channel.failure_of(kind, body)
    raise _error(failure, command) from _cause(failure)


def _error_of(failure: channel.Failure, created: Created) -> SampanError:
    return _error(failure, created._command)


def _cause(failure: channel.Failure) -> OSError | channel.Failure:
    if not failure.errno:
        return failure
    return OSError(failure.errno, os.strerror(failure.errno), failure.subject or None)


def _error(failure: channel.Failure, command: str) -> SampanError:
    """Return the error for what the child could not do; execve's and chdir's have docker's exit statuses."""
    if failure.step == init.CHANGE_DIRECTORY:
        kind = CommandNotExecutable if failure.errno in (errno.EACCES, errno.EPERM) else CommandNotFound
        return kind(f"the container could not {failure.step} `{failure.subject}`")
    if failure.step != init.EXECUTE:
        subject = f" `{failure.subject}`" if failure.subject else ""
        is_kind = failure.errno in (errno.EISDIR, errno.ENOTDIR) and failure.step == "mount"
        hints = ("a file can only be mounted on a file, and a directory on a directory",) if is_kind else ()
        return SampanError(f"the container could not {failure.step}{subject}", hints=hints)
    if failure.errno in (errno.ENOENT, errno.ENOTDIR):
        where = "" if "/" in command else " in the container's `PATH`"
        hint = "flags of `sampan` stand before the image" if command[:1] == "-" else "the image must have it"
        return CommandNotFound(f"the command `{command}` was not found{where}", hints=(hint,))
    return CommandNotExecutable(f"the command `{command}` cannot be executed")


def kill_and_wait(pid: int, pidfd: int) -> None:
    """Kill a child and wait for it; no error where it is gone."""
    if pidfd < 0:
        return
    try:
        syscalls.pidfd_send_signal(pidfd, _SIGKILL)
    except ProcessLookupError:
        pass
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the caller was faster
