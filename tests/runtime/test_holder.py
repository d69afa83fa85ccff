"""A normal user's holder: started once, found again, gone after its last user, and honest about what is missing."""

import errno
import importlib
import os
import pkgutil
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan import document, kernel, runtime
from sampan.errors import SampanError, Unsupported
from sampan.kernel import syscalls
from sampan.runtime import holder, holder_record, subordinate
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns]

_UID = 54321  # nobody's: no entry in passwd, subuid or subgid
# All that may be imported late, now: that user may not read the checkout where it is in root's own directory.
for _room in (kernel, runtime):
    for _module in pkgutil.iter_modules(_room.__path__, f"{_room.__name__}."):
        importlib.import_module(_module.name)


@pytest.fixture
def home() -> Iterator[str]:
    """A directory of that user's."""
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp") as directory:
        os.chown(directory, _UID, _UID)
        yield directory


def _settings(home: str) -> Settings:
    return Settings({"HOME": home, "XDG_RUNTIME_DIR": home, "PATH": "/usr/bin:/bin"}, _UID)


def _as_user(
    action: Callable[[], str],
    *,
    uid: int = _UID,
    gid: int = _UID,
    files: dict[str, str] | None = None,
    mounts: dict[str, tuple[str, str]] | None = None,
) -> str:
    """Do something as that user in a process of its own; return what it returned, or the error's name and hints.

    `files`: files of the machine's that are others there, in a mount namespace of its own; `mounts`: directories that
    are file systems of their own there, each a type and options.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _cover(files or {}, mounts or {})
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


def _cover(files: dict[str, str], mounts: dict[str, tuple[str, str]]) -> None:
    if files or mounts:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    for path, other in files.items():
        syscalls.mount(other, path, "", syscalls.MS_BIND)
    for path, (kind, options) in mounts.items():
        syscalls.mount("none", path, kind, 0, options)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


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


def _sleeper() -> int:
    """Start a program, as a helper is one: no descriptor of the maker's goes on in it."""
    return os.posix_spawn("/bin/sleep", ["sleep", "30"], {}, setsid=True)


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
            helper = _sleeper()
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
    _wait_for(lambda: not os.path.exists(f"{home}/sampan/holder.json"))


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


def test_a_start_whose_command_was_killed_is_not_begun_again_beside_it(home: str) -> None:
    """Killed while its holder is made, a command leaves the lock to the start: the next one waits, and finds that."""

    def overlap() -> str:
        first = os.fork()
        if first == 0:

            def attach(pid: int) -> tuple[int, str]:
                with open(f"{home}/made", "w", encoding="utf-8") as file:
                    file.write(str(pid))
                time.sleep(0.4)
                return 0, ""

            holder.ensure(_settings(home), attach=attach, idle_seconds=0.2)
            os._exit(0)
        _wait_for(lambda: os.path.exists(f"{home}/made"))
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        second = holder.ensure(_settings(home), idle_seconds=0.2)
        with open(f"{home}/made", encoding="utf-8") as file:
            pid = int(file.read())
        time.sleep(0.6)
        again = holder.find(_settings(home))
        return f"{second.is_new} {second.pid == pid} {again is not None and again.pid == pid}"

    assert _as_user(overlap) == "False True True"
    _wait_for_end(home)


def test_an_end_takes_only_its_own_files_away(home: str) -> None:
    """A holder that nobody could find any more leaves the record of the one after it alone."""

    def ends() -> str:
        found = holder.ensure(_settings(home), idle_seconds=0.05)
        path = f"{home}/sampan/holder.json"
        with open(path, encoding="utf-8") as file:
            record = document.parse(file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(document.render(record | {"pid": os.getpid()}))
        found.close()
        _wait_for(lambda: not _is_alive(record["pid"]))
        return " ".join(sorted(os.listdir(f"{home}/sampan")))

    assert _as_user(ends) == "holder.json holder.lock holder.sock"


def test_a_full_run_directory_is_one_error_and_leaves_nothing(home: str) -> None:
    """Where the record cannot be written the cause and the place are said; the helper has ended, no file is left."""

    def full() -> str:
        def attach(pid: int) -> tuple[int, str]:
            helper = _sleeper()
            with open(f"{home}/helper", "w", encoding="utf-8") as file:
                file.write(f"{pid} {helper}")
            return helper, ""

        with pytest.raises(SampanError, match="cannot write its record") as told:
            holder.ensure(_settings(home), attach=attach)
        cause = told.value.__cause__
        with open(f"{home}/helper", encoding="utf-8") as file:
            pids = [int(word) for word in file.read().split()]
        _wait_for(lambda: not any(map(_is_alive, pids)))
        names = " ".join(sorted(os.listdir(f"{home}/sampan")))
        return f"{getattr(cause, 'errno', 0)} {getattr(cause, 'filename', '') == home + '/sampan'} {names}"

    os.mkdir(f"{home}/sampan")
    # Two files and the directory itself: the lock, and the socket.
    option = f"size=40k,nr_inodes=3,mode=700,uid={_UID}"
    told = _as_user(full, mounts={f"{home}/sampan": ("tmpfs", option)})
    assert told == f"{errno.ENOSPC} True holder.lock"


def test_a_command_without_stdio_starts_one(home: str) -> None:
    """Started with the descriptors 0, 1 and 2 closed: none of ours that gets such a number is taken for /dev/null."""

    def closed() -> str:
        for fd in range(3):
            os.close(fd)
        found = holder.ensure(_settings(home), idle_seconds=0.05)
        again = holder.ensure(_settings(home))
        return f"{found.is_new} {again.pid == found.pid}"

    assert _as_user(closed) == "True True"
    _wait_for_end(home)


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


def test_apparmor_s_restriction_is_told_with_a_profile(tmp_path: Path) -> None:
    """Ubuntu's switch, where it is on: the sysctl, and a command that writes a profile for this interpreter alone."""
    script = (
        "mount -t tmpfs none /proc/sys/kernel && echo 1 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns && "
        "echo 1 >/proc/sys/kernel/unprivileged_userns_clone && "
        f"exec {sys.executable} -c 'from sampan.runtime import holder; print(*holder._mending(), sep=chr(10))'"
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True, capture_output=True, text=True)
    switch, profile = done.stdout.splitlines()
    assert switch == "as root: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
    command = profile.partition(": `")[2].removesuffix("`")
    written = tmp_path / "profile"
    command = command.replace("/etc/apparmor.d/sampan", str(written)).partition(" && ")[0]
    subprocess.run(["sh", "-c", command], check=True)
    own = os.path.realpath(sys.executable)
    assert written.read_text(encoding="utf-8").splitlines() == [
        "abi <abi/4.0>,", f"profile sampan {own} flags=(unconfined) {{", "  userns,", "}",
    ]  # fmt: skip
