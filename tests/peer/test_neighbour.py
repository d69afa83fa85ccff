"""Beside a running docker, whose FORWARD chain drops what is not its own, both engines' traffic flows."""

import subprocess
import time
import urllib.request

import pytest

from tests.peer.conftest import PEERS
from tests.plugin.ground import Command

pytestmark = [pytest.mark.peer, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

SERVE = ("sh", "-c", "mkdir /www && echo aboard > /www/index.html && exec httpd -f -p 80 -h /www")
# Not wget: a static busybox crashes when it looks a name up, and wget always does.
REQUEST = "printf 'GET / HTTP/1.0\\r\\n\\r\\n'"


def _fetch(url: str) -> str:
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _address() -> str:
    """Return the machine's own address, the one that its default route leaves by."""
    route = subprocess.run(["ip", "-4", "route", "get", "198.51.100.1"], check=True, capture_output=True, text=True)
    return route.stdout.split(" src ")[1].split()[0]


def test_published_ports_of_both_engines(both: dict[str, Command]) -> None:
    """A port that either engine publishes answers on 127.0.0.1 and on the machine's address, from a container too."""
    ports = {"docker": 18080, "sampan": 18081}
    try:
        for name, engine in both.items():
            made = engine("run", "-d", "--name", "peer", "-p", f"{ports[name]}:80", "busybox", *SERVE)
            assert made.returncode == 0, made.stderr
        for port in ports.values():
            assert _fetch(f"http://127.0.0.1:{port}") == "aboard\n"
            assert _fetch(f"http://{_address()}:{port}") == "aboard\n"
        for engine in both.values():
            for port in ports.values():
                page = engine("run", "--rm", "busybox", "sh", "-c", f"{REQUEST} | nc -w 5 {_address()} {port}")
                assert page.stdout.endswith("aboard\n"), page.stderr
    finally:
        for engine in both.values():
            engine("rm", "-f", "peer")


def test_iptables_still_reads_its_own_rules(both: dict[str, Command]) -> None:
    """What Sampan adds to docker's chains iptables can express, so that `iptables -S` works."""
    assert both["sampan"]("run", "--rm", "busybox", "true").returncode == 0
    inside = ["nsenter", f"--mount={PEERS}/ns/mnt", "--"]
    rules = subprocess.run([*inside, "iptables", "-S"], check=False, capture_output=True, text=True)
    assert rules.returncode == 0, rules.stderr
    assert "incompatible" not in rules.stderr
