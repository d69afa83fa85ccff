"""The leak check: what a test leaves on the machine - mounts, interfaces, nft tables, cgroups, processes - fails it.

Theory: a snapshot before and one after, as sets of words that a person understands. What is new gets `GRACE_SECONDS`
to go (a kernel tears namespaces down in its own time), then it is a leak. Every test that names a capability is
checked, and the whole session once more. A SAMPAN_ROOT's bridge and nft table stay after its first container, as
docker0 does; the fixture `environment` takes away those of its own root. `--leaks=report` only lists, for a machine on
which other people's containers come and go.
"""

import os
import re
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.plugin.capability import PROBES

GRACE_SECONDS = 3.0
CGROUPS = "/sys/fs/cgroup"
# Docker's tables come and go; what Sampan adds to them are rules, no tables.
IPTABLES = {f"nft table {name}" for name in ("filter", "mangle", "nat", "raw")}
_reported: list[str] = []
_start = pytest.StashKey[frozenset[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--leaks`."""
    parser.addoption("--leaks", default="fail", choices=("fail", "report"), help="what a leak does to its test")


@pytest.fixture(autouse=True)
def leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare the machine before and after each test that touches it."""
    if not any(marker.name in PROBES for marker in request.node.iter_markers()):
        yield
        return
    before = snapshot()
    yield
    if left := _left(before):
        _tell(request.config, f"{request.node.nodeid} left behind:", left)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember how the machine was."""
    session.config.stash[_start] = snapshot()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look at the whole session: what a module's or the session's own fixtures left is nobody's test."""
    before = session.config.stash[_start]
    if left := _left(before):
        try:
            _tell(session.config, "the session left behind:", left)
        except pytest.fail.Exception:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            _reported.extend(("the session left behind:", *left))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was only reported."""
    if _reported:
        terminalreporter.section("leaks")
        for line in _reported:
            terminalreporter.write_line(line)


def snapshot() -> frozenset[str]:
    """Return what is on the machine now."""
    return frozenset({*_mounts(), *_interfaces(), *_tables(), *_cgroups(), *_processes()} - IPTABLES)


def _left(before: frozenset[str]) -> list[str]:
    """Return what is new since `before` and does not go by itself."""
    deadline = time.monotonic() + GRACE_SECONDS
    while new := snapshot() - before:
        if time.monotonic() > deadline:
            return sorted(map(_described, new))
        time.sleep(0.05)
    return []


def _tell(config: pytest.Config, title: str, left: list[str]) -> None:
    """Fail or report, as `--leaks` says."""
    if config.getoption("leaks") == "fail":
        pytest.fail("\n  ".join((title, *left)), pytrace=False)
    _reported.extend((title, *(f"  {line}" for line in left)))


def _mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            yield f"mount {fields[4]} ({line.partition(' - ')[2].split()[0]})"


def _interfaces() -> Iterator[str]:
    return (f"interface {name}" for name in os.listdir("/sys/class/net"))


def _cgroups() -> Iterator[str]:
    """Name the cgroups below one called sampan, in every hierarchy, five levels deep at most."""
    for directory, names, _ in os.walk(CGROUPS):
        depth = directory.count("/") - CGROUPS.count("/")
        if depth > 8:
            names.clear()
        if "/sampan/" in f"{directory}/" and not directory.endswith(("/sampan", "/monitors")):
            yield f"cgroup {directory}"


def _processes() -> Iterator[str]:
    """Name our children, and whoever holds a file, root or working directory in a test's directory (a monitor).

    By number alone: a monitor that renews itself goes by another name afterwards, and is no new process.
    """
    us = str(os.getpid())
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if pid != us and (_stat(pid)[2] == us or _stands_in_a_test(pid)):
                yield f"process {pid}"
        except OSError:
            continue


def _described(left: str) -> str:
    """Return a word of a snapshot, a process with the name that it has now."""
    kind, _, pid = left.partition(" ")
    try:
        return f"{left} ({_stat(pid)[0]})" if kind == "process" else left
    except OSError:
        return left


def _stat(pid: str) -> list[str]:
    """Return a process's name, state, parent and what else proc(5) lists after them."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        name, _, rest = file.read().partition(" (")[2].rpartition(") ")
    return [name, *rest.split()]


_TEST_DIRECTORY = re.compile(r"/tmp/sp-|/pytest-of-[^/]+/")


def _stands_in_a_test(pid: str) -> bool:
    links = [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
    links += [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
    return any(_TEST_DIRECTORY.match(_target(link)) for link in links)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


# linux/netfilter/nfnetlink.h, nf_tables.h: NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE; NLM_F_REQUEST | NLM_F_DUMP
_GET_TABLE, _DUMP = 10 << 8 | 1, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NFTA_TABLE_NAME = 1


def _tables() -> Iterator[str]:
    """Name nft's tables; nothing where netfilter may not be asked. By hand, so that no test needs the nft program."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
        netfilter.settimeout(2)
        try:
            netfilter.send(struct.pack("=IHHIIBBH", 20, _GET_TABLE, _DUMP, 1, 0, 0, 0, 0))
            while True:
                for kind, body in _messages(netfilter.recv(1 << 20)):
                    if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                        return
                    yield f"nft table {_table_name(body)}"
        except OSError:
            return


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[(length + 3) & ~3 :]


def _table_name(body: bytes) -> str:
    """Return the name attribute of a table message, after its four bytes of nfgenmsg."""
    at = 4
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind == _NFTA_TABLE_NAME:
            return body[at + 4 : at + length].rstrip(b"\0").decode()
        at += (length + 3) & ~3
    return "?"
