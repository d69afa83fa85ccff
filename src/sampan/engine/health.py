"""A container's health: probes at their times, and what came of them. Hot path only where a health check is asked for.

Theory, docker's. A container begins as `starting`. A probe that exits with 0 makes it `healthy`; `retries` failures in
a row make it `unhealthy`, and those of the start period do not count while it is still starting. The next probe comes
an interval after the last one's end; in the start period, until the first success, a start interval after. The last
five results are in the state file, with the beginning of the output of each.

The monitor only keeps the times: for each probe it forks a runner (`probe`), which imports what enters a container,
and dies with the monitor. So a container with a health check costs little memory between probes.
"""

import _signal
import os
import time

from sampan.document import Malformed, parse
from sampan.engine import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
RESULTS = 5
# docker's defaults, seconds.
_INTERVAL, _TIMEOUT, _START_INTERVAL, _RETRIES = 30.0, 30.0, 5.0, 3
_SHELL = ("/bin/sh", "-c")
# A runner that has not answered so long after its probe should have been killed is killed itself.
_PATIENCE_SECONDS = 10.0
_ANSWER_BYTES = 64 * 1024
_NS = 1_000_000_000


def plan(config: "Document") -> "Document | None":
    """Return docker's Healthcheck with every default filled in, times in seconds; None where there is none to do."""
    asked = config.get("Healthcheck") or {}
    kind, *words = asked.get("Test") or ("NONE",)
    if kind == "NONE" or not words:
        return None
    shell = config.get("Shell") or _SHELL
    return {
        "command": [*shell, words[0]] if kind == "CMD-SHELL" else words,
        "interval": (asked.get("Interval") or 0) / _NS or _INTERVAL,
        "timeout": (asked.get("Timeout") or 0) / _NS or _TIMEOUT,
        "start_period": (asked.get("StartPeriod") or 0) / _NS,
        "start_interval": (asked.get("StartInterval") or 0) / _NS or _START_INTERVAL,
        "retries": asked.get("Retries") or _RETRIES,
        "began": 0.0,
        "due": 0.0,
    }


class Health:
    """The monitor's part: a companion of its poll loop."""

    __slots__ = ("_deadline", "_pidfd", "_plan", "_reading", "_received", "_report", "_request", "_runner", "_told")

    def __init__(
        self, plan: "Document", told: "Document", request: "Document", pidfd: int, report: "Callable[[], None]"
    ) -> None:
        """Follow `plan` and write what comes of it to `told`, docker's Health document; then `report` is called.

        `request` is what `probe.run` takes; `pidfd` the container's process.
        """
        self._plan = plan
        self._told = told
        self._request = request
        self._pidfd = pidfd
        self._report = report
        self._runner = 0
        self._reading = -1
        self._received = bytearray()
        self._deadline = 0.0
        if not plan["began"]:
            plan["began"] = time.monotonic()
            self._plan_next()

    def descriptors(self) -> list[int]:
        """Return where a runner's answer comes."""
        return [self._reading] if self._runner else []

    def timeout(self) -> float:
        """Return the seconds until the next probe, or until its runner is given up."""
        return max(0.0, (self._deadline if self._runner else float(self._plan["due"])) - time.monotonic())

    def is_busy(self) -> bool:
        """Tell whether a probe is on its way."""
        return self._runner != 0

    def serve(self) -> None:
        """Begin a probe, or take what its runner says."""
        if not self._runner:
            if self.timeout() == 0 and self._is_paused():
                self._plan_next()
            elif self.timeout() == 0:
                self._begin()
            return
        try:
            data = os.read(self._reading, _ANSWER_BYTES)
        except BlockingIOError:
            if self.timeout() == 0:
                os.kill(self._runner, _signal.SIGKILL)
                self._deadline += _PATIENCE_SECONDS
            return
        self._received += data
        if not data:
            self._end()

    def close(self) -> None:
        """End the probe that is on its way: the container has ended. Idempotent."""
        if self._runner:
            os.kill(self._runner, _signal.SIGKILL)
            self._reap()

    def _begin(self) -> None:
        self._reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        parent = os.getpid()
        self._runner = os.fork()
        if self._runner == 0:
            try:
                from sampan.engine import probe

                probe.run(self._request, self._plan, self._pidfd, writing, parent)
            finally:
                os._exit(1)
        os.close(writing)
        self._deadline = time.monotonic() + self._plan["timeout"] + _PATIENCE_SECONDS

    def _end(self) -> None:
        """Note what came of a probe."""
        self._reap()
        now = state.timestamp(time.time_ns())
        try:
            result = parse(self._received.decode())
        except (Malformed, UnicodeDecodeError):
            result = {"Start": now, "End": now, "ExitCode": -1, "Output": "the probe was killed"}
        self._received.clear()
        if not self._is_paused():
            self._note(result)
            self._report()
        self._plan_next()

    def _note(self, result: "Document") -> None:
        told = self._told
        told["Log"] = [*told["Log"], result][-RESULTS:]
        if result["ExitCode"] == 0:
            told["FailingStreak"], told["Status"] = 0, HEALTHY
        elif not self._is_start():
            told["FailingStreak"] += 1
            if told["FailingStreak"] >= self._plan["retries"]:
                told["Status"] = UNHEALTHY

    def _is_paused(self) -> bool:
        """Tell whether nothing moves in the container: then no probe says how it is (docker)."""
        return state.is_frozen(self._request["cgroup"])

    def _is_start(self) -> bool:
        """Tell whether it is in its start period still, and was never healthy."""
        is_early: bool = time.monotonic() < self._plan["began"] + self._plan["start_period"]
        return is_early and self._told["Status"] == STARTING

    def _plan_next(self) -> None:
        seconds = self._plan["start_interval"] if self._is_start() else self._plan["interval"]
        self._plan["due"] = time.monotonic() + seconds

    def _reap(self) -> None:
        os.waitpid(self._runner, 0)
        os.close(self._reading)
        self._runner, self._reading = 0, -1
