"""What stays in memory: an engine's own processes, for each idle container and with none running, as PSS."""

import os
import time
from collections.abc import Iterable

from bench.measure import Result
from bench.side import PEERS, Side

# One, and several: monitors share their interpreter's file, so each further one costs less.
COUNTS = {"an idle container, alone": 1, "an idle container, of five": 5}
# A monitor shrinks once its container has been quiet for a second; a shim's garbage collector gets the same time.
QUIET_SECONDS = 5
KIBI = 1024


def idle(sides: list[Side], rounds: int) -> list[Result]:
    """Start some containers that sleep, and add up what the engines' own processes hold (not the containers')."""
    del rounds
    resident = {side.name: _pss(_engine(side)) for side in sides}
    each = {name: {side.name: _each(side, count) for side in sides} for name, count in COUNTS.items()}
    return [
        *(
            Result(name=name, unit="MB", goal="at most 5 MB PSS", figures=_megabytes(cost))
            for name, cost in each.items()
        ),
        Result(name="nothing running", unit="MB", goal="nothing", figures=_megabytes(resident)),
    ]


def _megabytes(figures: dict[str, float]) -> dict[str, tuple[float, ...]]:
    return {name: (size / 1e6,) for name, size in figures.items()}


def _each(side: Side, count: int) -> float:
    """Return what one of `count` idle containers costs."""
    return together(side, count) / count


def together(side: Side, count: int) -> float:
    """Return what `count` idle containers cost: their monitors, or shims, with all their helpers, in bytes of PSS."""
    names = [f"bench-{number}" for number in range(count)]
    for name in names:
        side.do("run", "-d", "--name", name, "bench-busybox", "sleep", "1000")
    time.sleep(QUIET_SECONDS)
    inits = {side.pid(name) for name in names}
    keepers = {_parent(pid) for pid in inits}
    helpers = {child for keeper in keepers for child in _children(keeper)} - inits
    cost = _pss(keepers | helpers)
    side.do("rm", "-f", *names)
    return cost


def _engine(side: Side) -> set[int]:
    """Return the processes that are there while no container runs: docker's two daemons, and none of ours."""
    if side.name != "docker":
        return set()
    with open(PEERS / "dockerd.pid", encoding="ascii") as file:
        daemon = int(file.read())
    return {daemon, *_children(daemon)}


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return int(file.read().rpartition(") ")[2].split()[1])


def _children(pid: int) -> set[int]:
    """Return all descendants of a process."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        children = {int(word) for word in file.read().split()}
    return children | {deep for child in children for deep in _children(child)}


def _pss(pids: Iterable[int]) -> float:
    """Return the proportional set size of some processes, in bytes: a shared page counts once over its sharers."""
    total = 0
    for pid in pids:
        if os.path.exists(f"/proc/{pid}/smaps_rollup"):
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return float(total * KIBI)
