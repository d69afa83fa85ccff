"""Namespaces that are the machine's, another container's, or nobody's: seen in the kernel, as root and as a user."""

import json
import os
import time
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from sampan.engine import liveness, state
from sampan.identity import stat_of
from tests.engine.conftest import Store

Command = Callable[..., CompletedProcess[str]]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip


def _inspect(sampan: Command, name: str) -> dict[str, dict[str, object]]:
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    told: dict[str, dict[str, object]] = found
    return told


def _pid(sampan: Command, name: str) -> int:
    return int(str(_inspect(sampan, name)["State"]["Pid"]))


def _namespaces(pid: int) -> dict[str, str]:
    return {
        kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    }


def _until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_joins_another_container_is_in_its_namespaces(sampan: Command, store: Store) -> None:
    """Network, processes, memory and ids are the other's; mounts, host name and control groups its own."""
    words = ("--ipc", "shareable", "--hostname", "donor", "--domainname", "example.test")
    sampan("run", "-d", "--name", "donor", *words, "busybox", "sleep", "1000", check=True)
    sampan("exec", "donor", "sh", "-c", "echo shared > /dev/shm/file", check=True)
    joins = ("--network", "container:donor", "--pid", "container:donor", "--ipc", "container:donor")
    sampan("run", "-d", "--name", "guest", *joins, "busybox", "sleep", "1001", check=True)
    ours, theirs = (_namespaces(_pid(sampan, name)) for name in ("guest", "donor"))
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"user", "pid", "net", "ipc"}
    script = "ps -o args; cat /dev/shm/file; hostname; cat /proc/sys/kernel/domainname; ls /sys/class/net; kill -0 1"
    seen = sampan("exec", "guest", "sh", "-c", script, check=True).stdout.split("\n")
    assert {"sleep 1000", "sleep 1001", "shared", "donor", "example.test", "eth0"} <= set(seen)
    hosts = sampan("exec", "guest", "cat", "/etc/hosts", check=True).stdout
    assert "donor.example.test donor" in hosts
    told = _inspect(sampan, "guest")
    id = _inspect(sampan, "donor")["Id"]
    modes = {name: told["HostConfig"][name] for name in ("NetworkMode", "PidMode", "IpcMode")}
    assert set(modes.values()) == {f"container:{id}"}
    assert told["Config"]["Hostname"] == "donor"
    assert told["NetworkSettings"]["Networks"] == {}
    sampan("rm", "-f", "guest", "donor", check=True)
    assert store.left(sampan) == []


def test_its_processes_go_with_it_and_not_with_the_pid_namespace(sampan: Command) -> None:
    """What a container left running in another's pid namespace ends with it; the other's own goes on."""
    sampan("run", "-d", "--name", "donor", "busybox", "sleep", "1000", check=True)
    script = "sleep 2000 & exec sleep 2001"
    sampan("run", "-d", "--name", "guest", "--pid", "container:donor", "busybox", "sh", "-c", script, check=True)

    def processes() -> str:
        return sampan("exec", "donor", "ps", "-o", "stat,args", check=True).stdout

    _until(lambda: "sleep 2000" in processes())
    sampan("rm", "-f", "guest", check=True)
    assert "sleep 200" not in processes()
    assert "sleep 1000" in processes()
    sampan("rm", "-f", "donor", check=True)


def test_a_restart_joins_again(sampan: Command, store: Store) -> None:
    """Who joined a container that was started anew, with other ids, is in its new namespaces; gone is an error."""
    sampan("run", "-d", "--name", "donor", "busybox", "sleep", "1000", check=True)
    joins = ("--pid", "container:donor", "--network", "container:donor", "--restart", "always")
    sampan("run", "-d", "--name", "guest", *joins, "busybox", "sleep", "1001", check=True)
    before = _pid(sampan, "guest")
    sampan("restart", "-t", "0", "donor", check=True)
    _until(lambda: _pid(sampan, "guest") not in {0, before})
    ours, theirs = (_namespaces(_pid(sampan, name)) for name in ("guest", "donor"))
    assert [ours[kind] == theirs[kind] for kind in ("user", "pid", "net")] == [True, True, True]
    # Nobody else gets the ids while the guest has them, though the donor's row has gone.
    sampan("rm", "-f", "donor", check=True)
    _until(lambda: "is not running" in str(_inspect(sampan, "guest")["State"]["Error"]))
    done = sampan("start", "guest")
    assert done.returncode == 1
    assert "there is no container" in done.stderr
    sampan("rm", "-f", "guest", check=True)
    assert store.left(sampan) == []


def test_ids_that_are_shared_are_given_to_nobody_else(sampan: Command) -> None:
    """A container on the network of one that has ended keeps its ids to itself."""
    sampan("run", "-d", "--name", "donor", "busybox", "sleep", "1000", check=True)
    sampan("run", "-d", "--name", "guest", "--network", "container:donor", "busybox", "sleep", "1001", check=True)
    sampan("rm", "-f", "donor", check=True)
    sampan("run", "-d", "--name", "other", "busybox", "sleep", "1000", check=True)
    guest, other = (os.stat(f"/proc/{_pid(sampan, name)}").st_uid for name in ("guest", "other"))
    assert guest != other
    sampan("rm", "-f", "guest", "other", check=True)


# What docker refuses, and a word of why.
REFUSED = (
    (("--network", "container:donor", "-p", "80:80"), "--publish"),
    (("--network", "container:donor", "-P"), "--publish"),
    (("--network", "container:donor", "--hostname", "name"), "--hostname"),
    (("--network", "container:donor", "--dns", "192.0.2.1"), "--dns"),
    (("--network", "container:donor", "--add-host", "other:192.0.2.1"), "--add-host"),
    (("--network", "container:donor", "--link", "donor"), "--link"),
    (("--network", "container:donor", "--expose", "80"), "--expose"),
    (("--network", "container:donor", "--network-alias", "other"), "--network-alias"),
    (("--network", "container:donor", "--network", "bridge"), "excludes every other"),
    (("--network", "container:donor", "--runtime", "true"), "joins no container"),
    (("--network", "container:absent"), "no container `absent`"),
    (("--pid", "container:absent"), "no container `absent`"),
    (("--pid", "container:"), "no mode"),
    (("--pid", "other"), "no mode"),
    (("--ipc", "other"), "no mode"),
    (("--ipc", "container:donor"), "shares its memory with nobody"),
    (("--uts", "other"), "no mode"),
    (("--uts", "host", "--hostname", "name"), "--uts host"),
    (("--cgroupns", "other"), "no mode"),
    (("--network", "host", "--link", "donor"), "--link"),
    (("--mac-address", "zz"), "no hardware address"),
    (("--mac-address", "01:00:00:00:00:00"), "cannot be an interface's"),
    (("--ip6", "fd00::2"), "no IPv6"),
    (("--link-local-ip", "169.254.3.4"), "one address"),
    (("--userns", "keep-id"), "normal user"),
)


def test_what_docker_refuses(sampan: Command) -> None:
    """Modes that are none, and flags that only the owner of a namespace can say: status 125, and why."""
    sampan("run", "-d", "--name", "donor", "busybox", "sleep", "1000", check=True)
    for words, why in REFUSED:
        done = sampan("run", "--rm", *words, "busybox", "true")
        assert (done.returncode, why in done.stderr) == (125, True), (words, done.stderr)
    sampan("rm", "-f", "donor", check=True)


def test_one_that_does_not_run_cannot_be_joined(sampan: Command) -> None:
    """The container is named, and nothing is left of the attempt; `start` says it too."""
    sampan("create", "--name", "donor", "busybox", "sleep", "1000", check=True)
    done = sampan("run", "--name", "guest", "--network", "container:donor", "busybox", "true")
    assert (done.returncode, "`donor`" in done.stderr) == (125, True), done.stderr
    sampan("create", "--name", "guest", "--pid", "container:donor", "busybox", "true", check=True)
    done = sampan("start", "guest")
    assert (done.returncode, "`donor`" in done.stderr) == (1, True), done.stderr
    sampan("rm", "guest", "donor", check=True)


def test_a_user_namespace_is_never_given_up_unasked(sampan: Command) -> None:
    """Who has none is joined only by those who want none either; its network may be shared, as the machine's may."""
    sampan("run", "-d", "--name", "donor", "--userns", "host", "busybox", "sleep", "1000", check=True)
    refused = sampan("run", "--rm", "--pid", "container:donor", "busybox", "true")
    assert (refused.returncode, "--userns=host" in refused.stderr) == (125, True), refused.stderr
    words = ("--userns", "host", "--pid", "container:donor")
    assert "sleep 1000" in sampan("run", "--rm", *words, "busybox", "ps", check=True).stdout
    script = "cat /proc/self/uid_map; ip addr"
    done = sampan("run", "--rm", "--network", "container:donor", "busybox", "sh", "-c", script, check=True)
    assert done.stdout.split()[2] == "65536"
    assert "eth0" in done.stdout
    sampan("rm", "-f", "donor", check=True)


def test_what_is_the_machine_s_own(sampan: Command) -> None:
    """`host` is the machine's namespace; its processes are seen, and neither killed nor looked into."""
    words = ("--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host")
    sampan("run", "-d", "--name", "open", *words, "busybox", "sleep", "1000", check=True)
    ours, own = _namespaces(_pid(sampan, "open")), _namespaces(os.getpid())
    assert {kind for kind in ours if ours[kind] == own[kind]} == {"pid", "ipc", "uts", "cgroup"}
    script = f"kill -0 {os.getpid()} || cat /proc/{os.getpid()}/environ || echo 1 > /proc/sys/kernel/panic || hostname"
    done = sampan("exec", "open", "sh", "-c", script)
    assert done.stdout == f"{os.uname().nodename}\n"
    sampan("rm", "-f", "open", check=True)


def test_memory_that_is_shared_with_nobody(sampan: Command) -> None:
    """`--ipc none` has no /dev/shm; the default's is its own."""
    assert sampan("run", "--rm", "--ipc", "none", "busybox", "grep", "-c", "/dev/shm", "/proc/mounts").stdout == "0\n"
    assert sampan("run", "--rm", "busybox", "grep", "-c", "/dev/shm", "/proc/mounts").stdout == "1\n"


def test_a_hardware_address(sampan: Command) -> None:
    """--mac-address and the key of --network are the interface's, and inspect says so."""
    words = ("--mac-address", "02-42-AC-11-00-99")
    assert "02:42:ac:11:00:99" in sampan("run", "--rm", *words, "busybox", "ip", "link", check=True).stdout
    sampan("network", "create", "front", check=True)
    word = "name=front,mac-address=02:42:ac:11:00:98"
    sampan("run", "-d", "--name", "web", "--network", word, "busybox", "sleep", "1000", check=True)
    assert "02:42:ac:11:00:98" in sampan("exec", "web", "ip", "link", check=True).stdout
    networks = _inspect(sampan, "web")["NetworkSettings"]["Networks"]
    assert networks["front"]["MacAddress"] == "02:42:ac:11:00:98"  # type: ignore[index]  # a document
    sampan("rm", "-f", "web", check=True)


def test_a_link_is_a_name_and_variables(sampan: Command) -> None:
    """On the default network /etc/hosts and docker's variables; on another a name that nobody else knows."""
    words = ("--hostname", "inside", "--expose", "80", "--expose", "53/udp", "-e", "SECRET=word")
    sampan("run", "-d", "--name", "store", *words, "busybox", "sleep", "1000", check=True)
    address = str(_inspect(sampan, "store")["NetworkSettings"]["IPAddress"])
    script = "cat /etc/hosts; env; ping -c 1 -W 2 my-db"
    linked = ("--link", "store:my-db", "-e", "MY_DB_PORT_80_TCP_PORT=mine")
    done = sampan("run", "--rm", "--name", "shop", *linked, "busybox", "sh", "-c", script, check=True)
    lines = done.stdout.split("\n")
    assert f"{address}\tmy-db inside store" in lines
    expected = {
        "MY_DB_NAME=/shop/my-db", f"MY_DB_PORT=tcp://{address}:80", f"MY_DB_PORT_53_UDP=udp://{address}:53",
        f"MY_DB_PORT_80_TCP_ADDR={address}", "MY_DB_PORT_80_TCP_PORT=mine", "MY_DB_ENV_SECRET=word",
    }  # fmt: skip
    assert expected <= set(lines)
    assert "1 packets received" in done.stdout
    sampan("network", "create", "front", check=True)
    sampan("run", "-d", "--name", "other", "--network", "front", "busybox", "sleep", "1000", check=True)
    look = ("busybox", "ping", "-c", "1", "-W", "2", "db")
    assert sampan("run", "--rm", "--network", "front", "--link", "other:db", *look).returncode == 0
    assert sampan("run", "--rm", "--network", "front", *look).returncode == 1
    sampan("stop", "-t", "0", "store", check=True)
    done = sampan("run", "--rm", "--link", "store", "busybox", "true")
    assert (done.returncode, "`store`" in done.stderr) == (125, True)
    sampan("rm", "-f", "store", "other", check=True)
    sampan("network", "rm", "front", check=True)


def test_a_number_that_another_process_has_by_now_is_not_believed() -> None:
    """Who began at another time than the state file says is not the container's process."""
    began = stat_of(os.getpid())[1]
    fd = liveness.open_process(state.State(state.RUNNING, pid=os.getpid(), start_time=began))
    assert fd >= 0
    os.close(fd)
    assert liveness.open_process(state.State(state.RUNNING, pid=os.getpid(), start_time=began + 1)) == -1
