"""The launch seam: both ways to get a monitor do the same; and what becomes of a monitor that is quiet."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import Store

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
PREAMBLE = f"""
import sys; sys.path.insert(0, {SOURCE!r})
import os, threading
from sampan.settings import configuration
from sampan.engine import container, launch
from sampan.engine.run_options import NetworkRequest, RunOptions
settings = configuration.load()
"""


def _python(environment: dict[str, str], program: str, timeout: float = 30) -> "subprocess.CompletedProcess[str]":
    """Run a program that uses the engine as a library."""
    argv = [sys.executable, "-I", "-S", "-c", PREAMBLE + textwrap.dedent(program)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("way", ["fork", "spawn"])
@pytest.mark.parametrize("extra_fd", [False, True])
def test_both_ways_start_a_container(environment: dict[str, str], store: Store, way: str, *, extra_fd: bool) -> None:
    """The status arrives, and the monitor has no descriptor, session or directory of the caller's."""
    program = f"""
        import json
        launch.prepare = launch.{way}
        leaked = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(leaked, {extra_fd})
        options = RunOptions("busybox", command=("sh", "-c", "sleep 0.3; exit 4"), networks=(NetworkRequest("none"),))
        with container.run(settings, options) as one:
            path = f"{{settings.root}}/containers/{{one.container.id}}/state.json"
            monitor = json.load(open(path))["monitor_pid"]
            targets = [os.readlink(f"/proc/{{monitor}}/fd/{{n}}") for n in os.listdir(f"/proc/{{monitor}}/fd")]
            assert not any("passwd" in target or "sampan.db" in target for target in targets), targets
            assert os.readlink(f"/proc/{{monitor}}/cwd") == "/"
            assert os.getsid(monitor) != os.getsid(0)
            print(one.client.wait())
    """
    assert _python(environment, program).stdout == "4\n"


NURSED = """
    from sampan.engine import nursery

    def children(pid):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]

    nursery.open(settings)
    (nurse,) = children(os.getpid())
    options = RunOptions("busybox", command=("sh", "-c", "sleep 0.3; exit 4"), networks=(NetworkRequest("none"),))
"""


def test_a_nursery_s_monitors_are_like_any_other(environment: dict[str, str], store: Store) -> None:
    """Its monitors have a session of their own, nothing of the caller's, and outlive it; it ends when it is closed."""
    program = f"""{NURSED}
    import json
    leaked = os.open("/etc/passwd", os.O_RDONLY)
    started = [container.run(settings, options) for _ in range(2)]
    monitors = children(nurse)
    for one in started:
        path = f"{{settings.root}}/containers/{{one.container.id}}/state.json"
        monitor = json.load(open(path))["monitor_pid"]
        targets = [os.readlink(f"/proc/{{monitor}}/fd/{{n}}") for n in os.listdir(f"/proc/{{monitor}}/fd")]
        assert not any("passwd" in target or "sampan.db" in target for target in targets), targets
        assert os.getsid(monitor) == monitor and monitor in monitors
    nursery.close()
    nursery.close()
    os.waitpid(nurse, 0)
    print(*(one.client.wait() for one in started))
    """
    assert _python(environment, program).stdout == "4 4\n"


def test_without_its_nursery_a_command_forks_itself(environment: dict[str, str], store: Store) -> None:
    """A nursery that was killed costs nothing but its gain."""
    program = f"""{NURSED}
    os.kill(nurse, 9)
    os.waitpid(nurse, 0)
    with container.run(settings, options) as one:
        print(one.client.wait())
    """
    assert _python(environment, program).stdout == "4\n"


def test_a_caller_with_threads_spawns(environment: dict[str, str]) -> None:
    """With a second thread nothing forks the caller, and all works; no child is left to be waited for."""
    program = """
        launch.fork = None
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        alone = (NetworkRequest("none"),)
        options = RunOptions("busybox", command=("true",), networks=alone, auto_remove=True)
        with container.run(settings, options) as one:
            print(one.client.wait())
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("none")
        sys.stdout.flush()
        os._exit(0)
    """
    assert _python(environment, program).stdout == "0\nnone\n"


def test_a_monitor_leaves_the_caller_s_cgroup(sampan: Command, store: Store) -> None:
    """Its cgroup is the monitors', and the container's its own."""
    id = sampan(
        "run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000", check=True
    ).stdout.strip()
    with open(f"/proc/{store.monitor(id)}/cgroup", encoding="ascii") as file:
        monitor = file.read()
    with open(f"/proc/{store.state(id)['pid']}/cgroup", encoding="ascii") as file:
        container = file.read()
    assert "/monitors" in monitor
    assert id in container
    sampan("rm", "-f", "box", check=True)


def test_a_renewal_carries_what_the_end_needs_and_no_more(environment: dict[str, str]) -> None:
    """The list of modules is what `watch` and `takedown` import, each and only those."""
    program = """
        for name in [name for name in sys.modules if name.startswith("sampan")]:
            del sys.modules[name]
        import sampan.engine.watch, sampan.engine.takedown, sampan.network.bridge, sampan.network.firewall
        import sampan.runtime.cgroup_v1, sampan.runtime.cgroup_v2, sampan.kernel.memory
        from sampan.engine import renewal
        import sampan.network.dns, sampan.engine.health, sampan.engine.probe
        listed = {*renewal.MODULES, *renewal.RESOLVER, *renewal.PROBE}
        print(sorted(listed ^ {name for name in sys.modules if name.startswith("sampan")}))
    """
    assert _python(environment, program).stdout == "[]\n"


def test_a_renewed_monitor_is_the_same_and_small(
    sampan: Command, environment: dict[str, str], store: Store, place: str
) -> None:
    """A monitor that was quiet executes itself anew: same pid, no package, smaller than a bare interpreter."""
    script = "trap 'echo bye; exit 6' TERM; echo begin; while :; do sleep 0.05; done"
    words = ("--name", "box", "-p", "127.0.0.1::80", "busybox", "sh", "-c", f"printf half; sleep 1.5; echo; {script}")
    id = sampan("run", "-d", *words, check=True).stdout.strip()
    monitor = store.monitor(id)
    deadline = time.monotonic() + 5
    while b"sampan-monitor" not in _command_line(monitor) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert b"sampan-monitor" in _command_line(monitor)
    bare = _memory_of_an_idle_interpreter()
    while _memory(monitor)["Rss"] >= bare["Rss"] and time.monotonic() < deadline:
        time.sleep(0.1)  # it has only just begun
    assert _memory(monitor)["Rss"] < bare["Rss"]
    assert _memory(monitor)["Anonymous"] < bare["Anonymous"] + 1024
    with open(f"/proc/{monitor}/maps", encoding="utf-8") as file:
        assert SOURCE not in file.read()
    time.sleep(1)
    assert sampan("exec", "box", "echo", "in", check=True).stdout == "in\n"
    sampan("stop", "box", check=True)
    assert store.state(id)["exit_code"] == 6
    assert sampan("logs", "box", check=True).stdout == "half\nbegin\nbye\n"
    assert store.state(id)["clean"] is True
    sampan("rm", "box", check=True)
    assert store.leftovers() == []


def test_a_renewed_monitor_needs_no_package(environment: dict[str, str], store: Store, place: str) -> None:
    """With the package gone from the disk a monitor still records the end and takes everything down."""
    import shutil

    shutil.copytree(f"{SOURCE}/sampan", f"{place}/copy/sampan", ignore=shutil.ignore_patterns("__pycache__"))
    program = """
        options = RunOptions("busybox", command=("sleep", "1000"), auto_remove=True)
        with container.run(settings, options) as one:
            print(one.container.id)
    """
    argv = [sys.executable, "-I", "-S", "-c", PREAMBLE.replace(SOURCE, f"{place}/copy") + textwrap.dedent(program)]
    id = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    monitor, pid = store.monitor(id), int(str(store.state(id)["pid"]))
    deadline = time.monotonic() + 5
    while b"sampan-monitor" not in _command_line(monitor) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(f"{place}/copy")
    os.kill(pid, 9)
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{monitor}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert store.state(id)["clean"] is True
    assert store.state(id)["exit_code"] == 137
    assert sorted(os.listdir(f"{store.root}/containers/{id}")) == ["lock", "state.json"]
    program = "from sampan.engine import inspection; print(len(inspection.summaries(settings, all=True)))"
    assert _python(environment, program).stdout == "0\n"
    assert store.leftovers() == []


def test_a_restart_needs_no_package(environment: dict[str, str], sampan: Command, store: Store, place: str) -> None:
    """With the package gone a monitor starts its container again: all that takes is in its memory."""
    import shutil

    shutil.copytree(f"{SOURCE}/sampan", f"{place}/copy/sampan", ignore=shutil.ignore_patterns("__pycache__"))
    sampan("network", "create", "front", check=True)
    program = """
        from sampan.engine.run_options import HealthCheck, RestartPolicy
        options = RunOptions(
            "busybox", command=("sleep", "1000"), name="box", networks=(NetworkRequest("front"),),
            restart=RestartPolicy("always"), health=HealthCheck(("CMD", "true"), interval_ns=10**8),
        )
        with container.run(settings, options) as one:
            print(one.container.id)
    """
    argv = [sys.executable, "-I", "-S", "-c", PREAMBLE.replace(SOURCE, f"{place}/copy") + textwrap.dedent(program)]
    id = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    time.sleep(1.5)
    shutil.rmtree(f"{place}/copy")
    for count in (1, 2):
        os.kill(int(str(store.state(id)["pid"])), 9)
        deadline = time.monotonic() + 10
        while (store.state(id)["restarts"], store.state(id)["status"]) != (count, "running"):
            assert time.monotonic() < deadline, store.state(id)["error"]
            time.sleep(0.02)
    deadline = time.monotonic() + 10
    while "(healthy)" not in sampan("ps", check=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sampan("rm", "-f", "box", check=True)
    assert store.left(sampan) == []


def _command_line(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def _memory(pid: int) -> dict[str, int]:
    """Return what a process has in memory, in KiB: `Rss` all of it, `Anonymous` what is in no file.

    Not PSS: how much of the interpreter's file counts there depends on who else runs one.
    """
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    return {name.rstrip(":"): int(size) for name, size, *_ in lines}


def _memory_of_an_idle_interpreter() -> dict[str, int]:
    program = "import os; os.write(1, b'.'); os.read(0, 1)"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as bare:
        assert bare.stdout is not None
        assert bare.stdout.read(1) == b"."
        found = _memory(bare.pid)
        bare.communicate(b".")
    return found
