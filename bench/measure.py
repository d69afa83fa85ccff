"""Measuring: interleaved rounds, minima and medians, and the ratio that is compared with a goal but never asserted."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one benchmark found: a figure for each side, in one unit, and the goal that it is read against."""

    name: str
    unit: str
    figures: Mapping[str, tuple[float, ...]]
    goal: str
    notes: tuple[str, ...] = ()

    def ratio(self, of: Callable[[tuple[float, ...]], float]) -> float | None:
        """Return sampan's figure as a part of docker's; None where there is no docker to compare with."""
        if not (self.figures.get("docker") and self.figures.get("sampan")):
            return None
        return of(self.figures["sampan"]) / of(self.figures["docker"])

    def text(self) -> str:
        """Return the lines that a person reads."""
        lines = [f"{self.name}"]
        for side, values in self.figures.items():
            spread = f"  median {statistics.median(values):8.1f} {self.unit}" if len(values) > 1 else ""
            count = f"  ({len(values)} runs)" if len(values) > 1 else ""
            lines.append(f"  {side:8}  min {min(values):8.1f} {self.unit}{spread}{count}")
        if (least := self.ratio(min)) is not None and (middle := self.ratio(statistics.median)) is not None:
            lines.append(f"  ratio     of minima {least:.3f}, of medians {middle:.3f}")
        lines.append(f"  goal      {self.goal}")
        return "\n".join(lines + [f"  note      {note}" for note in self.notes])

    def document(self) -> dict[str, object]:
        """Return the same for a program."""
        return {
            "name": self.name,
            "unit": self.unit,
            "figures": {side: list(values) for side, values in self.figures.items()},
            "ratio": {"minima": self.ratio(min), "medians": self.ratio(statistics.median)},
            "goal": self.goal,
            "notes": list(self.notes),
        }


def interleave(sides: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Run each side once to warm it, then `rounds` times in turn; return milliseconds for each side.

    In turn, because a machine's mood changes within seconds: what disturbs one side then disturbs the other as well.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, act in sides.items():
            started = time.perf_counter()
            act()
            if number:
                found[name].append((time.perf_counter() - started) * 1000)
    return {name: tuple(values) for name, values in found.items()}


class Failed(Exception):
    """A measured command failed; its text says which and what it said."""


def run(argv: list[str], environment: Mapping[str, str], log: str) -> None:
    """Run a command whose output goes to the file `log`; raises Failed with it.

    posix_spawn, because a fork of this interpreter would cost both sides milliseconds that are ours.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        with open(log, encoding="utf-8", errors="replace") as file:
            raise Failed(f"{' '.join(argv)}: exit status {status}\n{file.read()}")
