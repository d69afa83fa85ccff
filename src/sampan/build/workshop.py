"""What all parts of one build share, whatever is built: settings, store, cache, and what is made on first use. Hot."""

from sampan.build.cache import Cache
from sampan.build.scratch import Scratch, sweep
from sampan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from sampan.build.cache import Result
    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.events import Sink
    from sampan.image.content import Content
    from sampan.settings.configuration import Settings


class Workshop:
    """One build's surroundings; a context that removes the scratch directory at its end."""

    __slots__ = ("_scratch", "cache", "clock", "content", "database", "lease", "settings", "sink")

    def __init__(
        self,
        *,
        settings: "Settings",
        database: "Database",
        content: "Content",
        lease: "Lease",
        sink: "Sink",
        clock: "Callable[[], float]",
    ) -> None:
        self.settings = settings
        self.database = database
        self.content = content
        self.lease = lease
        self.sink = sink
        self.clock = clock
        self.cache = Cache(database, content, clock)
        self._scratch: Scratch | None = None

    @property
    def scratch(self) -> str:
        """The path of a directory that goes with the build."""
        if self._scratch is None:
            self._scratch = Scratch(self.settings.root).__enter__()
        return self._scratch.path

    def lowers(self, layers: "Sequence[Result]") -> tuple[str, ...]:
        """Return the directories of layers, topmost first, unpacking what is not; `layers` go from the lowest on."""
        from sampan.build import unpacking

        is_root = self.settings.uid == 0
        return unpacking.lowers(layers, self.content, self.database, lease=self.lease, is_root=is_root, sink=self.sink)

    def warn(self, subject: str, text: str) -> None:
        """Tell the person of something that is probably not meant."""
        self.sink(Event("warning", subject, text))

    def __enter__(self) -> "Self":
        sweep(self.settings.root)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._scratch is not None:
            self._scratch.__exit__(*exception)
