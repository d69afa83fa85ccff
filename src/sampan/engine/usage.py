"""docker stats: what containers use of the machine, as samples; two of one container make a rate.

The kernel counts (`runtime.usage`); the network's counters are those of the container's own interfaces. A container
that does not run has used nothing. Docker's per cent of the processors is that of one: 200% are two that are busy. It
divides by the machine's own time in /proc/stat, which is the time that has passed times the number of processors; so
the time that has passed is what is divided by here.
"""

import time

from sampan.database import connection
from sampan.engine import record, rootless, running, state, sweep
from sampan.errors import Conflict, NotFound
from sampan.runtime import usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.engine.record import Container
    from sampan.settings.configuration import Settings

_NETWORK_BYTES = 1 << 20


class Sample:
    """One container at one moment; `usage` is None where it does not run. `word` is how the person named it."""

    __slots__ = ("at_ns", "container", "pid", "received_bytes", "sent_bytes", "usage", "word")

    def __init__(self, container: "Container", word: str, told: state.State) -> None:
        self.container = container
        self.word = word
        self.pid = told.pid if told.status == state.RUNNING else 0
        self.usage: usage.Usage | None = None
        self.received_bytes = self.sent_bytes = 0
        if self.pid:
            try:
                group, pids = running.group(told), running.processes(told)
            except Conflict:
                self.pid = 0  # it has just ended
                return
            self.usage = usage.read(group.document(), pids)
            if container.options.network_mode not in {"host", "none"}:
                self.received_bytes, self.sent_bytes = _network(told.pid)
        self.at_ns = time.monotonic_ns()

    def cpu_percent(self, before: "Sample | None") -> float | None:
        """Return the per cent of one processor since `before`; None where that cannot be known."""
        if self.usage is None:
            return 0.0
        if before is None or before.usage is None or before.pid != self.pid:
            return None
        if self.usage.cpu_ns is None or before.usage.cpu_ns is None or self.at_ns <= before.at_ns:
            return None
        return 100 * max(0, self.usage.cpu_ns - before.usage.cpu_ns) / (self.at_ns - before.at_ns)


def samples(settings: "Settings", names: list[str], *, all: bool = False) -> list[Sample]:
    """Take one sample of each container that is named, or else that runs (`all`: that is there), newest first.

    Raises NotFound for a name that nobody has.
    """
    rootless.enter(settings)
    with connection.open(settings) as database:
        sweep.refresh(database, settings)
        if names:
            chosen = [(record.by_name(database, name), name) for name in names]
        else:
            every = record.every(database) if all else iter(record.active(database))
            chosen = [(container, container.short_id) for container in every]
            chosen.sort(key=lambda pair: pair[0].created, reverse=True)
    found = [Sample(c, word, state.read(state.directory(settings, c.id))) for c, word in chosen]
    return [sample for sample in found if names or all or sample.usage is not None]


def left(settings: "Settings", names: list[str]) -> list[str]:
    """Return those of the names that a container has still."""
    kept = []
    for name in names:
        try:
            record.find(settings, name)
        except NotFound:
            continue
        kept.append(name)
    return kept


def memory_bytes() -> int:
    """Return the machine's memory, which is the limit of who has none."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1]) * 1024


def _network(pid: int) -> tuple[int, int]:
    """Return the bytes that came and went by the interfaces of a process's network, but for the loopback."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read(_NETWORK_BYTES).splitlines()[2:]
    except OSError:
        return 0, 0  # it has just ended
    for line in lines:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            words = counters.split()
            received, sent = received + int(words[0]), sent + int(words[8])
    return received, sent
