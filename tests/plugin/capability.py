"""Capabilities: a test marked with what it needs is skipped where that is missing, and fails with `--require`.

CI passes `--require=all`: a skip that nobody sees is a test that nobody runs.
"""

import functools
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Generator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--require`."""
    parser.addoption("--require", default="", metavar="MARKER,…", help="a skip for want of one of these fails; or all")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs what this machine lacks."""
    for marker in item.iter_markers():
        probe = PROBES.get(marker.name)
        if probe is not None and (missing := probe()):
            pytest.skip(f"needs {marker.name}: {missing}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where `--require` asks for it."""
    report = yield
    required = item.config.getoption("require").split(",")
    names = {marker.name for marker in item.iter_markers()}
    if report.skipped and not hasattr(report, "wasxfail") and ("all" in required or names.intersection(required)):
        report.outcome = "failed"
        report.longrepr = f"skipped, and --require forbids it: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself is a skip like any other."""
    report = yield
    if report.outcome == "skipped" and "all" in collector.config.getoption("require").split(","):
        report.outcome = "failed"
        report.longrepr = f"a whole module skipped itself, and --require forbids it: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a report says that it was skipped."""
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _root() -> str:
    return "" if os.geteuid() == 0 else "this is a normal user"


@functools.cache
def _userns() -> str:
    return _attempt("unshare", "--user", "true")


@functools.cache
def _overlay() -> str:
    with tempfile.TemporaryDirectory() as where:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(where, name))
        options = f"lowerdir={where}/lower,upperdir={where}/upper,workdir={where}/work"
        return _attempt(*_inside("--mount"), "mount", "-t", "overlay", "-o", options, "overlay", f"{where}/merged")


@functools.cache
def _netns() -> str:
    return _attempt(*_inside("--net"), "true")


@functools.cache
def _cgroup() -> str:
    root = "/sys/fs/cgroup"
    hierarchy = root if os.path.exists(f"{root}/cgroup.controllers") else f"{root}/memory"
    probe = f"{hierarchy}/sampan-probe-{os.getpid()}"
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError as error:
        return str(error)
    return ""


@functools.cache
def _network() -> str:
    argv = ["apt-get", "indextargets", "--format", "$(SITE)"]
    listing = subprocess.run(argv, check=False, capture_output=True, text=True)
    site = urllib.parse.urlsplit(next(iter(listing.stdout.split()), ""))
    if not site.hostname:
        return "apt knows no mirror"
    address = (site.hostname, site.port or {"https": 443}.get(site.scheme, 80))
    problem = ""
    for _ in range(5):  # a name server may be away for a moment
        try:
            socket.create_connection(address, timeout=10).close()
        except OSError as error:
            problem = f"the Debian mirror does not answer: {error}"
            time.sleep(3)
        else:
            return ""
    return problem


def _registry() -> str:
    """Tell whether docker-registry is unpacked already (`registry`), or can be fetched."""
    project = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return "" if os.path.exists(f"{project}/.cache/registry/files") else _network()


def _inside(*namespaces: str) -> tuple[str, ...]:
    """Return the words that start a program in new namespaces, with a user namespace where root is missing."""
    return ("unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), *namespaces)


def _attempt(*argv: str) -> str:
    """Run a program; return nothing where it worked, else what it said."""
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit status {done.returncode}")


PROBES: dict[str, Callable[[], str]] = {
    "root": _root,
    "userns": _userns,
    "overlay": _overlay,
    "netns": _netns,
    "cgroup": _cgroup,
    "network": _network,
    "registry": _registry,
}
