"""Namespaces of a running container that a new one is born in, held by descriptors, and its shared memory.

Theory. A container that shares another's namespaces shares its user namespace too: that one owns them, and only whose
user namespace owns a namespace may mount its proc, its sysfs and its message queues. All is held by the other's pidfd:
`setns(pidfd, flags)` enters the namespaces of that process or fails, whoever has its number by now.

SECURITY: a child that is born in a pid namespace is seen by the processes there, in a user namespace where some may
trace others, while it still has its creator's memory and sees the machine's files. So it is never dumpable: the kernel
then asks for the right over the user namespace that the interpreter was executed in (ptrace(2)), which no container
has. What `Created` needs of it is taken from the other container's process, or made by the go-between.
"""

import errno
import os
import select

from sampan.errors import Conflict, SampanError
from sampan.kernel import syscalls
from sampan.runtime import channel, init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in the container


class Joined:
    """What a container is born in. `close` when it has been created.

    `entered` are (pidfd, flags) for setns(2), the user namespace's first; `namespaces` are descriptors of what was
    joined, by /proc's name; `mounts` are detached mounts that come along, by where they are shown.
    """

    __slots__ = ("entered", "mounts", "namespaces")

    def __init__(self) -> None:
        self.entered: list[tuple[int, int]] = []
        self.namespaces: dict[str, int] = {}
        self.mounts: dict[str, int] = {}

    @property
    def is_seen(self) -> bool:
        """Tell whether the child is in another container's pid namespace from its birth."""
        return any(flags & syscalls.CLONE_NEWPID for _, flags in self.entered)

    def close(self) -> None:
        """Close all; idempotent."""
        fds = [*(fd for fd, _ in self.entered), *self.namespaces.values(), *self.mounts.values()]
        self.entered, self.namespaces, self.mounts = [], {}, {}
        for fd in set(fds):
            os.close(fd)


def open_namespace(pid: int, pidfd: int, kind: str) -> int:
    """Open a namespace (`net`, `user`) of the process that is `pidfd`'s, whose number `pid` is or was.

    Raises Conflict where that has ended: the number may be another's.
    """
    try:
        fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise _ended() from error
    # The process lived after the file was opened, so the file is its own.
    if has_ended(pidfd):
        os.close(fd)
        raise _ended()
    return fd


def has_ended(pidfd: int) -> bool:
    """Tell whether the process of `pidfd` has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def open_shared_memory(pidfd: int) -> int:
    """Return a detached clone of /dev/shm as the process of `pidfd` sees it; raises Conflict where that has ended.

    A child goes there for it. Single-threaded callers only.
    """
    ours, theirs = channel.pair()
    pid, child_fd = syscalls.clone3(0)
    if pid == 0:
        _fetch(theirs, pidfd)
    theirs.close()
    os.close(child_fd)
    try:
        (fd,) = ours.expect(channel.READY)
    except channel.Failure as failure:
        if failure.errno == errno.ESRCH:
            raise _ended() from failure
        cause = OSError(failure.errno, os.strerror(failure.errno), failure.subject)
        raise SampanError("the other container's shared memory cannot be had") from cause
    finally:
        ours.close()
        os.waitpid(pid, 0)
    return fd


def _fetch(theirs: channel.Channel, pidfd: int) -> "NoReturn":
    """Enter the other container's mounts; from there on all that is imported and opened is the container's."""
    try:
        # SECURITY: no import runs a file of the container's, and no link leads out of what it is to be.
        init.forget_imports()
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        syscalls.setns(pidfd, syscalls.CLONE_NEWNS)
        resolve = syscalls.RESOLVE_NO_SYMLINKS
        place = syscalls.openat2(syscalls.AT_FDCWD, SHARED_MEMORY, os.O_PATH | os.O_DIRECTORY, 0, resolve)
        fd = syscalls.open_tree(place, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
        theirs.send(channel.READY, fds=(fd,))
    except OSError as error:
        theirs.send_failure("open its shared memory", error.errno or 0, SHARED_MEMORY)
    finally:
        os._exit(0)


def _ended() -> Conflict:
    return Conflict("the container whose namespaces it joins has ended", hints=("start that one first",))
