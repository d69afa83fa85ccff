"""A normal user's holder: started once, found again, gone after its last user, and honest about what is missing."""

import os
import pwd
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from sampan.errors import Unsupported
from sampan.kernel import syscalls
from sampan.runtime import holder, holder_record, subordinate
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


def _as_user(
    action: Callable[[], str], *, uid: int = _UID, gid: int = _UID, files: dict[str, str] | None = None
) -> str:
    """Do something as that user in a process of its own; return what it returned, or the error's name and hints.

    `files`: files of the machine's that are others there, in a mount namespace of its own.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _cover(files or {})
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
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


def _cover(files: dict[str, str]) -> None:
    if files:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    for path, other in files.items():
        syscalls.mount(other, path, "", syscalls.MS_BIND)


def test_two_commands_share_one_holder_and_it_ends_after_the_last(home: str) -> None:
    """The second call finds the first one's; with nobody connected it ends by itself and takes its files away."""

    def twice() -> str:
        first = holder.ensure(_settings(home), idle_seconds=0.3)
        second = holder.ensure(_settings(home))
        assert (first.is_new, second.is_new) == (True, False)
        assert first.pid == second.pid
        first.close()
        time.sleep(0.6)  # one is connected still
        assert holder_record.start_time(second.pid)
        return str(second.pid)

    pid = int(_as_user(twice))
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
    assert os.listdir(f"{home}/sampan") == ["holder.lock"]


def test_who_has_found_it_keeps_it(home: str) -> None:
    """Commands that come just as it wants to end get one that lives: it ends under the lock they look under."""

    def many() -> str:
        for _ in range(20):
            found = holder.ensure(_settings(home), idle_seconds=0.01)
            time.sleep(0.01)
            found.close()
            time.sleep(0.009)
            pid = os.fork()
            if pid == 0:
                try:
                    holder.ensure(_settings(home), idle_seconds=0.01).join()
                    os._exit(0)
                finally:
                    os._exit(1)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                return "it had ended"
        return "well"

    assert _as_user(many) == "well"


def test_a_machine_that_shuts_down_does_not_wait_for_it(home: str) -> None:
    """After SIGTERM it goes with its last user, not ten seconds later; and not before."""

    def terminate() -> str:
        found = holder.ensure(_settings(home))
        os.kill(found.pid, signal.SIGTERM)
        time.sleep(0.3)
        was_alive = _is_alive(found.pid)
        found.connection.close()
        deadline = time.monotonic() + 3
        while _is_alive(found.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        return f"{was_alive} {_is_alive(found.pid)}"

    assert _as_user(terminate) == "True False"


def _is_alive(pid: int) -> bool:
    """Tell whether a process has not ended; who reaps it may take his time."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in b"ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_its_helper_is_started_once_and_ends_with_it(home: str) -> None:
    """What gives it a network is told its pid, is not asked again, and gets SIGTERM as it ends; warnings come once."""

    def help_it() -> str:
        def attach(pid: int) -> tuple[int, str]:
            helper = os.fork()
            if helper == 0:
                os.setsid()
                time.sleep(30)
                os._exit(0)
            with open(f"{home}/helper", "w", encoding="utf-8") as file:
                file.write(f"{helper} {pid}")
            return helper, "something is missing"

        first = holder.ensure(_settings(home), attach=attach, idle_seconds=0.1)
        second = holder.ensure(_settings(home), attach=attach)
        with open(f"{home}/helper", encoding="utf-8") as file:
            helper, pid = map(int, file.read().split())
        was_alive = _is_alive(helper)
        for each in (first, second):
            each.close()
        deadline = time.monotonic() + 3
        while _is_alive(helper) and time.monotonic() < deadline:
            time.sleep(0.01)
        return f"{pid == first.pid} {first.warnings[-1]} {second.warnings} {was_alive} {_is_alive(helper)}"

    assert _as_user(help_it) == "True something is missing () True False"


def test_what_is_missing_is_said_with_its_command(home: str) -> None:
    """A user without a range in /etc/subuid is told so, with what mends it; nothing asks for sudo."""
    told = _as_user(lambda: "\n".join(holder.ensure(_settings(home), idle_seconds=0.1).warnings))
    assert "single user id" in told
    assert "apt install uidmap" in told or "usermod --add-subuids" in told
    assert "sudo" not in told


def test_with_a_range_all_its_ids_are_mapped(place: str) -> None:
    """The user's id and his whole range, by newuidmap; without a range for groups a single id, and the reason."""
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed")
    who = pwd.getpwnam("games")  # somebody whom Debian has: newuidmap wants a name
    os.chown(place, who.pw_uid, who.pw_gid)
    settings = Settings({"HOME": place, "XDG_RUNTIME_DIR": place, "PATH": "/usr/bin:/bin"}, who.pw_uid)

    def ids() -> str:
        found = holder.ensure(settings, idle_seconds=0.05)
        found.join()
        return f"{holder.id_count()} {found.warnings}"

    for path, text in (("uid", "games:1600000:65536\n"), ("gid", f"{who.pw_uid}:1700000:65536\n"), ("none", "")):
        with open(f"{place}/{path}", "w", encoding="utf-8") as file:
            file.write(text)
    files = {"/etc/subuid": f"{place}/uid", "/etc/subgid": f"{place}/gid"}
    assert _as_user(ids, uid=who.pw_uid, gid=who.pw_gid, files=files) == "65537 ()"
    _wait_for_end(place)
    told = _as_user(ids, uid=who.pw_uid, gid=who.pw_gid, files=files | {"/etc/subgid": f"{place}/none"})
    assert told.startswith("1 ")
    assert "/etc/subgid has no range for `games`" in told
    _wait_for_end(place)


def _wait_for_end(home: str) -> None:
    deadline = time.monotonic() + 5
    while os.path.exists(f"{home}/sampan/holder.json") and time.monotonic() < deadline:
        time.sleep(0.01)


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
        while os.path.exists(f"/proc/{first.pid}") and holder_record.start_time(first.pid):
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
