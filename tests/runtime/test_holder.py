"""A normal user's holder: started once, found again, gone after its last user, and honest about what is missing."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from sampan.errors import Unsupported
from sampan.kernel import syscalls
from sampan.runtime import holder, subordinate
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns]

_UID = 54321  # nobody's: no entry in passwd, subuid or subgid


@pytest.fixture
def home() -> Iterator[str]:
    """A directory of that user's."""
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp") as directory:
        os.chown(directory, _UID, _UID)
        yield directory


def _settings(home: str) -> Settings:
    return Settings({"HOME": home, "XDG_RUNTIME_DIR": home, "PATH": "/usr/bin:/bin"}, _UID)


def _as_user(action: Callable[[], str]) -> str:
    """Do something as that user in a process of its own; return what it returned, or the error's name and hints."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(_UID)
            os.setuid(_UID)
            # What execve would do for a user who logs in: let him look at his own processes.
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
            text = action()
        except BaseException as error:  # noqa: BLE001  it crosses the pipe
            text = f"{type(error).__name__}: {error} {getattr(error, 'hints', '')}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def test_two_commands_share_one_holder_and_it_ends_after_the_last(home: str) -> None:
    """The second call finds the first one's; with nobody connected it ends by itself and takes its files away."""

    def twice() -> str:
        first = holder.ensure(_settings(home), idle_seconds=0.3)
        second = holder.ensure(_settings(home))
        assert (first.is_new, second.is_new) == (True, False)
        assert first.pid == second.pid
        first.close()
        time.sleep(0.6)  # one is connected still
        assert holder.start_time(second.pid)
        return str(second.pid)

    pid = int(_as_user(twice))
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
    assert os.listdir(f"{home}/sampan") == ["holder.lock"]


def test_who_joins_is_root_of_his_own_ids(home: str) -> None:
    """Inside, the user is uid 0 with one id, in his own directory, and has a network of his own."""

    def inside() -> str:
        os.chdir(home)
        found = holder.ensure(_settings(home), idle_seconds=0.1)
        found.join()
        found.enter_network()
        names = [name for name in os.listdir("/proc/self/net/dev_snmp6") if name != "lo"]
        return f"{os.getuid()} {holder.id_count()} {holder.is_single_id()} {os.getcwd() == home} {names}"

    assert _as_user(inside) == "0 1 True True []"


def test_a_killed_holder_is_replaced(home: str) -> None:
    """After kill -9 the next command starts another."""

    def kill() -> str:
        first = holder.ensure(_settings(home), idle_seconds=0.1)
        os.kill(first.pid, 9)
        while os.path.exists(f"/proc/{first.pid}") and holder.start_time(first.pid):
            time.sleep(0.01)
        second = holder.ensure(_settings(home), idle_seconds=0.1)
        return f"{second.is_new} {second.pid != first.pid}"

    assert _as_user(kill) == "True True"


def test_a_kernel_without_user_namespaces_is_one_error_with_the_command_that_mends_it(home: str) -> None:
    """Where the limit is 0 the error says so; the limit is set for a user namespace of this test's own."""

    def forbidden() -> str:
        outer = holder.ensure(_settings(home), idle_seconds=0.1)
        outer.join()
        with open("/proc/sys/user/max_user_namespaces", "w", encoding="utf-8") as file:
            file.write("0")
        os.mkdir(f"{home}/inner")
        inner = Settings({"HOME": home, "SAMPAN_RUN": f"{home}/inner"}, 0)
        holder.ensure(inner, idle_seconds=0.1)
        return "no error"

    told = _as_user(forbidden)
    assert told.startswith(f"{Unsupported.__name__}: this machine gives no user namespace")
    assert "sysctl -w user.max_user_namespaces" in told


def test_ranges_are_found_by_name_and_by_number(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first line for this user counts; nonsense lines are passed over."""
    path = tmp_path_factory.mktemp("etc") / "subuid"
    path.write_text("nobody:1:2\nbroken\n54321:x:9\n54321:100000:65536\n54321:7:8\nroot:5:6\n")
    assert subordinate.find(str(path), _UID) == (100000, 65536)
    assert subordinate.find(str(path), 0) == (5, 6)
    assert subordinate.find(str(path), 1) is None
    assert subordinate.find("/nonexistent", 0) is None
