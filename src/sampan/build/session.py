"""What all parts of one build share: settings, store, cache, project, and what is made on first use. Hot."""

from sampan.build.cache import Cache
from sampan.build.scratch import Scratch, sweep
from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from sampan.build.cache import Result
    from sampan.build.context import Context
    from sampan.build.options import Options
    from sampan.build.sandbox import Sandbox
    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.events import Sink
    from sampan.image.content import Content
    from sampan.settings.configuration import Settings


class Session:
    """One build's surroundings; a context that removes the scratch directory at its end."""

    __slots__ = (
        "_base_directory",
        "_scratch",
        "base",
        "cache",
        "clock",
        "content",
        "context",
        "database",
        "lease",
        "options",
        "settings",
        "sink",
    )

    def __init__(
        self,
        *,
        settings: "Settings",
        database: "Database",
        content: "Content",
        lease: "Lease",
        context: "Context",
        options: "Options",
        sink: "Sink",
        clock: "Callable[[], float]",
    ) -> None:
        self.settings = settings
        self.database = database
        self.content = content
        self.lease = lease
        self.context = context
        self.options = options
        self.sink = sink
        self.clock = clock
        self.cache = Cache(database, content, clock)
        self.base: Result | None = None  # the base layer, once it is made or found
        self._base_directory = ""
        self._scratch: Scratch | None = None

    @property
    def scratch(self) -> str:
        """The path of a directory that goes with the build."""
        if self._scratch is None:
            self._scratch = Scratch(self.settings.root).__enter__()
        return self._scratch.path

    def base_directory(self) -> str:
        """Return the directory that the base layer is unpacked in, unpacking it if it is not."""
        if not self._base_directory:
            from sampan.build.unpacking import unpacked

            if self.base is None:
                raise Internal("a build container was asked for before there was a base")
            self._base_directory = unpacked(
                self.base, self.content, self.database, lease=self.lease, is_root=self.settings.uid == 0, sink=self.sink
            )
        return self._base_directory

    def sandbox(self) -> "Sandbox":
        """Return a build container of the base."""
        from sampan.build.sandbox import Sandbox

        return Sandbox(self.base_directory(), is_root=self.settings.uid == 0)

    def __enter__(self) -> "Self":
        sweep(self.settings.root)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._scratch is not None:
            self._scratch.__exit__(*exception)
