"""A service's life: stopping it, twenty at once, its published port, its log, and a hundred that wait."""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.idle import together
from bench.measure import Failed, Result, run
from bench.side import Side

LISTENS = ("bench-busybox", "sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
MANY, IDLE = 20, 100
MEGA = 1e6
# What a request for the page brings; and a log that three files of 10 MB hold, whatever is written around each line.
PAGE_BYTES, LINES, LINE_BYTES = 400_000_000, 120_000, 100
CHUNK_BYTES = 1 << 20
ANSWER_SECONDS = 20.0


def life(sides: list[Side], rounds: int) -> list[Result]:
    """Measure each of them."""
    return [
        _stop(sides, rounds),
        *_many(sides, max(2, rounds // 3)),
        *_port(sides, max(3, rounds // 2)),
        _log(sides, max(3, rounds // 2)),
        _idle(sides),
    ]


def _stop(sides: list[Side], rounds: int) -> Result:
    """Stop a process that handles SIGTERM; only `stop` itself is timed."""
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            side.do("run", "-d", "--name", "bench", *LISTENS)
            spent = _milliseconds(lambda side=side: side.do("stop", "bench"))  # type: ignore[misc]
            side.do("rm", "bench")
            if number:
                found[side.name].append(spent)
    return Result(
        name="stop of a process that handles SIGTERM", unit="ms", goal="at most 0.5 of docker's time",
        figures=_frozen(found),
    )  # fmt: skip


def _many(sides: list[Side], rounds: int) -> list[Result]:
    """Start twenty at the same time, each by a command of its own; remove them with one."""
    started: dict[str, list[float]] = {side.name: [] for side in sides}
    removed: dict[str, list[float]] = {side.name: [] for side in sides}
    names = [f"bench-{number}" for number in range(MANY)]
    for number in range(rounds + 1):
        for side in sides:
            up = _milliseconds(lambda side=side: _start_all(side, names))  # type: ignore[misc]
            down = _milliseconds(lambda side=side: side.do("rm", "-f", *names))  # type: ignore[misc]
            if number:
                started[side.name].append(up)
                removed[side.name].append(down)
    whole = {name: [one + other for one, other in zip(started[name], removed[name], strict=True)] for name in started}
    return [
        Result(name=f"{MANY} containers started at once, and removed", unit="ms", figures=_frozen(whole),
               goal="at most 0.25 of docker's time"),
        Result(name="  of that: started", unit="ms", figures=_frozen(started), goal="-"),
        Result(name="  of that: removed", unit="ms", figures=_frozen(removed), goal="-"),
    ]  # fmt: skip


def _start_all(side: Side, names: list[str]) -> None:
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: _start(side, name), names))


def _start(side: Side, name: str) -> None:
    argv = [*side.prefix, "run", "-d", "--name", name, "bench-busybox", "sleep", "1000"]
    run(argv, side.environment, f"{side.place}/{side.name}-{name}.log")


def _port(sides: list[Side], rounds: int) -> list[Result]:
    """Read a long answer from the published port, and from the container's own address."""
    shares: dict[str, list[float]] = {side.name: [] for side in sides}
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    serve = f"while :; do nc -l -p 80 -e dd if=/dev/zero bs=1000000 count={PAGE_BYTES // 1_000_000}; done"
    for side in sides:
        side.do("run", "-d", "--name", "bench", "-p", "127.0.0.1::80", "bench-busybox", "sh", "-c", serve)
        settings = json.loads(side.ask("inspect", "bench"))[0]["NetworkSettings"]
        own = (settings["IPAddress"], 80)
        published = ("127.0.0.1", int(settings["Ports"]["80/tcp"][0]["HostPort"]))
        for number in range(rounds + 1):
            direct, through = _rate(own), _rate(published)
            if number:
                shares[side.name].append(100 * through / direct)
                rates[side.name].append(through)
        side.do("rm", "-f", "bench")
    return [
        Result(name="throughput of a published port, of the container's own address", unit="%", figures=_frozen(shares),
               goal="at least 95 %"),
        Result(name="  of that: through the port", unit="MB/s", figures=_frozen(rates), goal="-"),
    ]  # fmt: skip


def _rate(address: tuple[str, int]) -> float:
    """Return how many megabytes a second come from there."""
    deadline = time.monotonic() + ANSWER_SECONDS
    buffer = bytearray(CHUNK_BYTES)
    while time.monotonic() < deadline:
        began, taken = time.perf_counter(), 0
        try:
            with socket.create_connection(address, timeout=ANSWER_SECONDS) as client:
                began = time.perf_counter()
                while count := client.recv_into(buffer):
                    taken += count
        except OSError:
            taken = 0
        # Between two answers nobody listens: docker's proxy then takes the call and hangs up.
        if taken == PAGE_BYTES:
            return taken / MEGA / (time.perf_counter() - began)
        time.sleep(0.01)
    raise Failed(f"nothing answers at {address}")


def _log(sides: list[Side], rounds: int) -> Result:
    """Print as fast as the log takes it, and look whether every line is there."""
    lines = Path(sides[0].place, "lines")
    lines.write_text("".join(f"{number:07d} {'x' * (LINE_BYTES - 9)}\n" for number in range(LINES)), encoding="ascii")
    lines.chmod(0o644)
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            side.do("run", "-d", "--name", "bench", "-v", f"{lines}:/lines:ro", "bench-busybox", "cat", "/lines")
            side.do("wait", "bench")
            state = json.loads(side.ask("inspect", "bench"))[0]["State"]
            seconds = (_nanoseconds(state["FinishedAt"]) - _nanoseconds(state["StartedAt"])) / 1e9
            if side.ask("logs", "bench") != lines.read_text(encoding="ascii").strip():
                raise Failed(f"{side.name} has lost lines of a log")
            side.do("rm", "bench")
            if number:
                found[side.name].append(LINES * LINE_BYTES / MEGA / seconds)
    return Result(
        name="log throughput, no line lost", unit="MB/s", figures=_frozen(found), goal="at least docker's",
        notes=(f"{LINES} lines of {LINE_BYTES} bytes, from the first to the exit, as inspect tells both",),
    )  # fmt: skip


def _nanoseconds(stamp: str) -> int:
    """Return a time of RFC 3339 in UTC."""
    whole, _, part = stamp.rstrip("Z").partition(".")
    seconds = int(time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone)
    return seconds * 1_000_000_000 + int(part.ljust(9, "0")[:9] or 0)


def _idle(sides: list[Side]) -> Result:
    """Add up what the engines' processes beside a hundred sleeping containers hold."""
    return Result(
        name=f"{IDLE} idle containers, all monitors (shims) together", unit="MB", goal="at most 400 MB PSS",
        figures={side.name: (together(side, IDLE) / MEGA,) for side in sides},
    )  # fmt: skip


def _milliseconds(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


def _frozen(found: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in found.items()}
