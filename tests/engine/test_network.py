"""Published ports and addresses, seen from the machine and from another container."""

import json
import socket
import subprocess
import time
from collections.abc import Callable

import pytest

from sampan.network import firewall, ipam
from tests.engine.conftest import Store

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.usefixtures("busybox"),
]  # fmt: skip

SERVER = "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 5000 -h /w"


def _fetch(host: str, port: int) -> str:
    """Fetch the page, once the server is there."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with socket.create_connection((host, port), timeout=2) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while data := connection.recv(4096):
                    answer += data
            return answer.decode().rpartition("\r\n\r\n")[2]
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _found(sampan: Command, name: str) -> dict[str, dict[str, object]]:
    (found,) = json.loads(sampan("inspect", name, check=True).stdout)
    settings: dict[str, dict[str, object]] = found["NetworkSettings"]
    return settings


def test_a_published_port_is_reached_from_everywhere(sampan: Command, store: Store) -> None:
    """From 127.0.0.1, from the machine's bridge address, and from another container by its address."""
    sampan("run", "-d", "--name", "web", "-p", "5000", "busybox", "sh", "-c", SERVER, check=True)
    network = _found(sampan, "web")
    ports = network["Ports"]["5000/tcp"]
    assert isinstance(ports, list)
    port = int(ports[0]["HostPort"])
    assert _fetch("127.0.0.1", port) == "hello\n"
    assert _fetch(str(network["Gateway"]), port) == "hello\n"
    address = str(network["IPAddress"])
    script = f"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 {address} 5000 | tail -n 1"
    assert sampan("run", "--rm", "busybox", "sh", "-c", script, check=True).stdout == "hello\n"
    assert f"0.0.0.0:{port}->5000/tcp" in sampan("ps").stdout
    taken = sampan("run", "--rm", "-p", f"{port}:80", "busybox", "true")
    assert taken.returncode == 125
    assert str(port) in taken.stderr
    sampan("rm", "-f", "web", check=True)
    assert store.left(sampan) == []


def test_a_port_is_free_when_run_returns(sampan: Command) -> None:
    """One container after another on one port: never in the way of the next."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(5):
        sampan("run", "--rm", "-p", f"127.0.0.1:{port}:5000", "busybox", "true", check=True)


def test_etc_is_made(sampan: Command) -> None:
    """Hosts has the address and what was added, hostname the name, resolv.conf no resolver on loopback."""
    words = ("--hostname", "inside", "--add-host", "other:192.0.2.7", "--dns", "192.0.2.53")
    script = "cat /etc/hosts /etc/hostname /etc/resolv.conf; hostname -i"
    done = sampan("run", "--rm", *words, "busybox", "sh", "-c", script, check=True)
    assert "192.0.2.7\tother" in done.stdout
    assert "\tinside\n" in done.stdout
    assert "nameserver 192.0.2.53" in done.stdout
    assert "nameserver 127." not in done.stdout


def test_none_and_host(sampan: Command) -> None:
    """`none` has a loopback and nothing else; `host` is the machine's own network."""
    script = "ls /sys/class/net | wc -l; cat /sys/class/net/lo/operstate"
    alone = sampan("run", "--rm", "--network", "none", "busybox", "sh", "-c", script, check=True)
    assert alone.stdout.split()[0] == "1"
    shared = sampan("run", "--rm", "--network", "host", "busybox", "ip", "route", check=True)
    own = subprocess.run(["cat", "/proc/net/route"], capture_output=True, text=True, check=True).stdout
    assert bool(shared.stdout.strip()) == (len(own.splitlines()) > 1)


def test_a_server_that_is_not_root_may_take_port_80(sampan: Command) -> None:
    """Docker's default: low ports are anybody's in a network namespace of its own."""
    script = "nc -l -p 80 & sleep 0.2; echo | nc -w 1 127.0.0.1 80 && echo ok"
    done = sampan("run", "--rm", "--network", "none", "-u", "1000", "busybox", "sh", "-c", script)
    assert "ok" in done.stdout, done.stderr


def test_what_runs_is_published_again_after_a_flush(sampan: Command) -> None:
    """Somebody flushes nft: the next container that starts puts the others' ports right, too."""
    sampan("run", "-d", "--name", "web", "-p", "127.0.0.1::5000", "busybox", "sh", "-c", SERVER, check=True)
    ports = _found(sampan, "web")["Ports"]["5000/tcp"]
    assert isinstance(ports, list)
    port = int(ports[0]["HostPort"])
    assert _fetch("127.0.0.1", port) == "hello\n"
    (made,) = json.loads(sampan("network", "inspect", "bridge", check=True).stdout)
    interface = made["Options"]["com.docker.network.bridge.name"]
    firewall.remove(ipam.Network("bridge", interface, "10.0.0.0", 16))
    with pytest.raises(OSError, match=r"timed out|reset"):
        _ask_once("127.0.0.1", port)
    sampan("run", "--rm", "busybox", "true", check=True)
    assert _fetch("127.0.0.1", port) == "hello\n"
    sampan("rm", "-f", "web", check=True)


def _ask_once(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=1) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.recv(1)
