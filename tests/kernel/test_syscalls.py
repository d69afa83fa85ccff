"""The system calls that `os` lacks do what their manual pages say."""

import errno
import os
import signal
from pathlib import Path

import pytest

from sampan.kernel import syscalls

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns]


def test_an_error_has_errno_and_path() -> None:
    """A failing call is an OSError of the right leaf with the path."""
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.openat2(syscalls.AT_FDCWD, "/not/there", os.O_RDONLY)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/not/there")


def test_a_null_byte_is_refused() -> None:
    """A path with a null byte never reaches the kernel, which would see another path."""
    with pytest.raises(ValueError, match="null byte"):
        syscalls.openat2(syscalls.AT_FDCWD, "/etc\0/passwd", os.O_RDONLY)


def test_clone3_is_a_fork_with_a_pidfd() -> None:
    """The child is process 1 of its namespace with working fork hooks; the pidfd signals it; it is waited for."""
    called: list[str] = []
    os.register_at_fork(after_in_child=lambda: called.append("child"))
    pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWPID)
    if pid == 0:
        if os.getpid() != 1 or called != ["child"]:
            os._exit(1)
        signal.pause()
    assert not os.get_inheritable(pidfd)
    syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_clone3_says_why_not() -> None:
    """A refused clone is an OSError in the parent, which goes on."""
    with pytest.raises(OSError, match="Invalid argument"):
        syscalls.clone3(syscalls.CLONE_NEWNS | 0x200)  # CLONE_FS cannot go with CLONE_NEWNS


def test_descriptors_are_close_on_exec() -> None:
    """Every call that returns a descriptor returns one that execve closes."""
    fds = [
        syscalls.pidfd_open(os.getpid()),
        syscalls.openat2(syscalls.AT_FDCWD, "/", os.O_PATH),
        syscalls.open_tree(syscalls.AT_FDCWD, "/", syscalls.OPEN_TREE_CLONE),
        syscalls.fsopen("tmpfs"),
    ]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in fds:
        os.close(fd)


def test_pidfd_getfd_copies_a_descriptor() -> None:
    """A descriptor of another process can be had through its pidfd."""
    pidfd = syscalls.pidfd_open(os.getpid())
    with open("/etc/hostname", "rb") as file:
        copy = syscalls.pidfd_getfd(pidfd, file.fileno())
        assert os.path.sameopenfile(copy, file.fileno())
    os.close(copy)
    os.close(pidfd)


def test_renameat2_exchanges(place: str) -> None:
    """RENAME_EXCHANGE swaps two names, RENAME_NOREPLACE refuses one that is taken."""
    for name in ("a", "b"):
        Path(place, name).write_text(name)
    syscalls.renameat2(syscalls.AT_FDCWD, f"{place}/a", syscalls.AT_FDCWD, f"{place}/b", syscalls.RENAME_EXCHANGE)
    assert Path(place, "a").read_text() == "b"
    with pytest.raises(FileExistsError):
        syscalls.renameat2(syscalls.AT_FDCWD, f"{place}/a", syscalls.AT_FDCWD, f"{place}/b", syscalls.RENAME_NOREPLACE)


def test_file_system_ids_come_and_go(place: str) -> None:
    """Setfsuid returns the id before, and files are made with the new one."""
    os.chown(place, 1234, 1234)
    pid = os.fork()
    if pid == 0:
        before = syscalls.setfsuid(1234)
        os.close(os.open(f"{place}/f", os.O_CREAT | os.O_WRONLY))
        os._exit(0 if before == 0 and syscalls.setfsuid(0) == 1234 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.stat(f"{place}/f").st_uid == 1234


def test_capabilities_are_read_and_set() -> None:
    """What capset lowers, capget shows; in a child, since it does not come back."""
    pid = os.fork()
    if pid == 0:
        effective, permitted, inheritable = syscalls.capget()
        syscalls.capset(effective & ~(1 << 40), permitted & ~(1 << 40), inheritable)
        os._exit(0 if syscalls.capget()[1] == permitted & ~(1 << 40) else 1)
    assert os.waitpid(pid, 0)[1] == 0
