"""What a pull and a push have in common: several blobs at once, how far they are, and what to do when nobody answers.

Threads only fetch, send, and write files: the database is the first thread's.
"""

from queue import Empty, SimpleQueue
from threading import Lock, Thread

from sampan.errors import Unavailable
from sampan.events import Event
from sampan.oci.digest import Digest
from sampan.registry.client import Limited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.events import Sink
    from sampan.oci.reference import Reference
    from sampan.registry.host import Host
    from sampan.storage.compression import Readable

AT_ONCE = 4
# What `sampan bootstrap` can make.
_RECIPES = frozenset(("python", "debian", "nginx", "redis", "mysql"))
_SAY_BYTES = 512 * 1024
_LEAVE_SECONDS = 1.0


class Serial:
    """A sink for threads: one event at a time."""

    __slots__ = ("_lock", "_sink")

    def __init__(self, sink: "Sink") -> None:
        self._sink = sink
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        """Pass it on (`events.Sink`)."""
        with self._lock:
            self._sink(event)


class Counted:
    """A stream that says how far it is."""

    __slots__ = ("_at", "_said", "_sink", "_source", "_subject", "_total")

    def __init__(self, source: "Readable", subject: str, total: int, sink: "Sink") -> None:
        self._source = source
        self._subject = subject
        self._total = total
        self._sink = sink
        self._at = self._said = 0

    def read(self, size: int, /) -> bytes:
        """Read on."""
        piece = self._source.read(size)
        self._at += len(piece)
        if self._at - self._said >= _SAY_BYTES:
            self._said = self._at
            self._sink(Event("progress", self._subject, current=self._at, total=self._total))
        return piece


def at_once(tasks: "Sequence[Callable[[], None]]", stops: "Sequence[Callable[[], None]]") -> None:
    """Do `tasks` in threads; when one fails, or the person has enough, each of `stops` is called and the rest ends.

    A thread that waits for a registry's first word cannot be woken: it is left behind, and ends with the process.
    """
    todo: SimpleQueue[Callable[[], None]] = SimpleQueue()
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for task in tasks:
        todo.put(task)
    threads = [Thread(target=_work, args=(todo, done), daemon=True) for _ in tasks[:AT_ONCE]]
    try:
        for thread in threads:
            thread.start()
        for _ in tasks:
            if (error := done.get()) is not None:
                raise error
    except BaseException:
        for stop in stops:
            stop()
        raise
    finally:
        _drain(todo)
        for thread in threads:
            thread.join(_LEAVE_SECONDS)


def _work(todo: "SimpleQueue[Callable[[], None]]", done: "SimpleQueue[BaseException | None]") -> None:
    """Do tasks until there is none, and say how each ended."""
    try:
        while True:
            task = todo.get_nowait()
            try:
                task()
            except BaseException as error:  # noqa: BLE001  it is raised by who waits
                done.put(error)
            else:
                done.put(None)
    except Empty:
        return


def _drain(todo: "SimpleQueue[Callable[[], None]]") -> None:
    try:
        while True:
            todo.get_nowait()
    except Empty:
        return


def explained(error: Unavailable, reference: "Reference", host: "Host", more: tuple[str, ...]) -> Unavailable:
    """Say what to do where the registry does not answer, or does not want to."""
    why = "limits how often it is asked" if isinstance(error, Limited) else "cannot be reached"
    mirror = (
        f'`[registry."{host.name}"]` with `mirrors = ["https://mirror.example.com"]` in `~/.config/sampan/config.toml`'
    )
    hints = [*more, f"name a mirror of it: {mirror}"]
    name = reference.familiar_name()
    if name in _RECIPES:
        hints.append(f"`sampan bootstrap {reference.familiar()}` makes a stand-in from signed Debian packages")
    return Unavailable(f"the registry `{host.name}` {why} for `{reference.familiar()}`", hints=tuple(hints))


def short(digest: Digest) -> str:
    """Return what a person is shown of a digest."""
    return digest.hex[:12]
