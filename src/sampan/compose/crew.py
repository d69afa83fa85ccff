"""Work in parallel: each task in a process of its own, which may wait for others.

Theory. A start forks its container's monitor, which only a process with one thread may do cheaply (`engine.launch`); so
the crew's hands are forks of this one process, not threads. A hand tells what it does in lines of JSON on a pipe: any
number of `say`, then `done` or `error`. It dies with this process (parent-death signal), wherever it is: what it leaves
is what a killed `sampan run` leaves, and any next command sweeps it. INVARIANT: this process has no database connection
while it forks, and no thread.

A task waits for those that it needs in one of two ways: it is forked when they are done, or, an early one, while they
are at work, and then waits at a gate of its own making until this process opens it.

The first error ends the others; a signal too. `Watch` lets somebody else be served by the same poll loop.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterable, Mapping

from sampan import document
from sampan.engine import frame
from sampan.errors import Internal, SampanError
from sampan.frozen import frozen
from sampan.kernel import capability

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    class Watch(Protocol):
        """Somebody else in the poll loop: descriptors, and what to do when they can be read."""

        def descriptors(self) -> Iterable[int]:
            """Return what to wait for."""

        def serve(self, ready: set[int]) -> None:
            """Do what can be done now; may raise to end the work."""


# Hands at once; more would only wait for the same two locks.
HANDS = 16
_CHUNK_BYTES = 1 << 16
_LINE_BYTES = 1 << 20

# Tells what is done with which thing: `say("Container shop-web-1", "Started")`.
Say = Callable[[str, str], None]


@frozen
class Task:
    """One piece of work: `act` runs in a process of its own and returns what JSON can say. `needs` come before.

    An early one begins while what it needs is still at work; `act`'s second argument waits until that is done.
    """

    name: str
    act: Callable[[Say, Callable[[], None]], object]
    needs: tuple[str, ...] = ()
    is_early: bool = False


class TaskFailed(Exception):
    """A task's error, with the task's name."""

    def __init__(self, name: str, error: SampanError) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


class _Hand:
    def __init__(self, task: Task, pid: int, fd: int, gate: int) -> None:
        # The pipe that it waits at; a byte lets it go on.
        self.gate = gate
        self.is_waiting = True
        self.task = task
        self.pid = pid
        self.fd = fd
        self.rest = b""
        self.result: object = None
        self.is_done = False


class Crew:
    """Does tasks; `say` hears what they tell."""

    def __init__(
        self,
        say: Say,
        *,
        limit: int = HANDS,
        watch: "Watch | None" = None,
        on_done: Callable[[str, object], None] = lambda _name, _result: None,
    ) -> None:
        self.say = say
        self.limit = limit
        self.watch = watch
        self.on_done = on_done
        self._hands: dict[int, _Hand] = {}

    def work(self, tasks: Iterable[Task]) -> dict[str, object]:
        """Do all tasks and return their results by name; raises TaskFailed for the first that fails."""
        waiting = {task.name: task for task in tasks}
        known = set(waiting)
        results: dict[str, object] = {}
        try:
            while waiting or self._hands:
                self._begin(waiting, known, results)
                for fd in self._ready():
                    self._hear(fd, results)
        finally:
            self._dismiss()
        return results

    def _begin(self, waiting: dict[str, Task], known: set[str], results: Mapping[str, object]) -> None:
        """Fork a hand for every task that need not wait any longer; open the gates of those that are there already.

        An early one waits for hands that are at work, so that there is always one that waits for nothing.
        """
        for hand in self._hands.values():
            if hand.is_waiting and all(name in results for name in hand.task.needs if name in known):
                _let_go(hand)
        for task in list(waiting.values()):
            working = {hand.task.name for hand in self._hands.values()} if task.is_early else set()
            if len(self._hands) < self.limit and all(
                name in results or name in working for name in task.needs if name in known
            ):
                del waiting[task.name]
                hand = _fork(task)
                self._hands[hand.fd] = hand
                if all(name in results for name in task.needs if name in known):
                    _let_go(hand)

    def _ready(self) -> list[int]:
        """Wait, and return the pipes of hands that have something to say."""
        poll = select.poll()
        others = set(self.watch.descriptors()) if self.watch else set()
        for fd in (*self._hands, *others):
            poll.register(fd, select.POLLIN)
        found = {fd for fd, _ in poll.poll()}
        if self.watch and found & others:
            self.watch.serve(found & others)
        return [fd for fd in self._hands if fd in found]

    def _hear(self, fd: int, results: dict[str, object]) -> None:
        hand = self._hands[fd]
        data = os.read(fd, _CHUNK_BYTES)
        *lines, hand.rest = (hand.rest + data).split(b"\n")
        for line in lines:
            self._line(hand, line)
        if data and len(hand.rest) <= _LINE_BYTES:
            return
        del self._hands[fd]
        _end(hand)
        if not hand.is_done:
            raise TaskFailed(hand.task.name, Internal(f"the work on `{hand.task.name}` was killed"))
        results[hand.task.name] = hand.result
        self.on_done(hand.task.name, hand.result)

    def _line(self, hand: _Hand, line: bytes) -> None:
        told = document.parse(line.decode())
        if "say" in told:
            self.say(*told["say"])
        elif "error" in told:
            raise TaskFailed(hand.task.name, frame.parse_error(told["error"].encode()))
        else:
            hand.result, hand.is_done = told["done"], True

    def _dismiss(self) -> None:
        """End the hands that still work."""
        for hand in self._hands.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(hand.pid, signal.SIGTERM)
        for hand in self._hands.values():
            _end(hand)
        self._hands.clear()


def _fork(task: Task) -> _Hand:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    waits, gate = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.close(gate)
        _be_a_hand(task, writer, waits, parent)
    os.close(writer)
    os.close(waits)
    return _Hand(task, pid, reader, gate)


def _let_go(hand: _Hand) -> None:
    hand.is_waiting = False
    with contextlib.suppress(BrokenPipeError):  # one that has failed meanwhile says so itself
        os.write(hand.gate, b"\0")


def _be_a_hand(task: Task, writer: int, waits: int, parent: int) -> "NoReturn":
    """Do the task, and leave without this process's clean-up, which is the parent's."""

    def wait() -> None:
        nonlocal waits
        if waits >= 0:
            if not os.read(waits, 1):
                raise Internal(f"what `{task.name}` waits for did not come")
            os.close(waits)
            waits = -1

    status = 1
    try:
        capability.set_parent_death_signal(signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if os.getppid() == parent:
            _tell(writer, {"done": task.act(lambda subject, word: _tell(writer, {"say": [subject, word]}), wait)})
            status = 0
    except Exception as error:  # noqa: BLE001  the process's boundary: it crosses the pipe
        _tell(writer, {"error": frame.render_error(error).decode()})
    finally:
        os._exit(status)


def _tell(writer: int, told: "document.Document") -> None:
    view = memoryview(document.render(told).encode() + b"\n")
    while view:
        view = view[os.write(writer, view) :]


def _end(hand: _Hand) -> None:
    os.close(hand.fd)
    os.close(hand.gate)
    os.waitpid(hand.pid, 0)
