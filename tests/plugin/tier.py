"""Tiers: every test names one, `--tier` picks which run (the first by default), and the summary counts each."""

import collections
from collections.abc import Generator

import pytest

TIERS = ("first", "peer", "vm", "bulk")
_count: "collections.Counter[tuple[str, str]]" = collections.Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--tier`."""
    parser.addoption("--tier", default="first", metavar="TIER,…", help=f"the tiers to run: {', '.join(TIERS)} or all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a test without exactly one tier, and leave out those of other tiers."""
    wanted = config.getoption("tier").split(",")
    if unknown := [name for name in wanted if name not in (*TIERS, "all")]:
        raise pytest.UsageError(f"--tier knows {', '.join(TIERS)} and all, not {', '.join(unknown)}")
    if lost := [item.nodeid for item in items if tier_of(item) is None]:
        raise pytest.UsageError("a test needs exactly one tier marker:\n  " + "\n  ".join(lost))
    left_out = [item for item in items if "all" not in wanted and tier_of(item) not in wanted]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def tier_of(item: pytest.Item) -> str | None:
    """Return the one tier of a test, None where it has none or several."""
    found = {marker.name for marker in item.iter_markers() if marker.name in TIERS}
    return found.pop() if len(found) == 1 else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the tier with the report, since the one that counts may be another process (xdist)."""
    report = yield
    report.user_properties.append(("tier", tier_of(item)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count each test once: its call, or the phase that ended it."""
    tier = str(dict(report.user_properties).get("tier"))
    if report.when == "call" or report.outcome != "passed":
        _count[tier, report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what ran, one line a tier."""
    for tier in TIERS:
        outcomes = {outcome: number for (name, outcome), number in sorted(_count.items()) if name == tier}
        if outcomes:
            words = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
            terminalreporter.write_line(f"tier {tier}: {words}")
