"""Starting: `run --rm IMAGE true` with the bridge, and `exec` into a running container."""

import functools
import statistics

from bench.measure import Result, interleave, run
from bench.side import Side, door


def run_once(sides: list[Side], rounds: int) -> Result:
    """A whole container's life: create, start, wait, remove."""
    acts = {side.name: functools.partial(side.do, "run", "--rm", "bench-busybox", "true") for side in sides}
    return Result(
        name="run --rm IMAGE true, with the bridge", unit="ms", figures=interleave(acts, rounds),
        goal="at most 0.25 of docker's time now, 0.12 in the end", notes=(_door(sides[0]),),
    )  # fmt: skip


def exec_once(sides: list[Side], rounds: int) -> Result:
    """One more process in a running container."""
    for side in sides:
        side.do("run", "-d", "--name", "bench", "bench-busybox", "sleep", "1000")
    acts = {side.name: functools.partial(side.do, "exec", "bench", "true") for side in sides}
    figures = interleave(acts, rounds)
    for side in sides:
        side.do("rm", "-f", "bench")
    return Result(
        name="exec CONTAINER true",
        unit="ms",
        figures=figures,
        goal="at most 0.4 of docker's time",
        notes=(_door(sides[0]),),
    )


def _door(side: Side) -> str:
    """Say what entering the peers' root adds to docker's figures."""
    enter = functools.partial(run, [*door(), "/bin/true"], side.environment, f"{side.place}/door.log")
    cost = statistics.median(interleave({"door": enter}, 10)["door"])
    return f"docker's figures hold {cost:.1f} ms of nsenter into the peers' root"
