"""What all parts of one Python build share: its workshop, the project, the options, and the base. Hot."""

from sampan.build.workshop import Workshop
from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.build.cache import Result
    from sampan.build.context import Context
    from sampan.build.options import Options
    from sampan.build.sandbox import Sandbox
    from sampan.database.connection import Database
    from sampan.database.lease import Lease
    from sampan.events import Sink
    from sampan.image.content import Content
    from sampan.settings.configuration import Settings


class Session(Workshop):
    """The workshop of a Python build."""

    __slots__ = ("_base_directory", "base", "context", "options")

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
        super().__init__(settings=settings, database=database, content=content, lease=lease, sink=sink, clock=clock)
        self.context = context
        self.options = options
        self.base: Result | None = None  # the base layer, once it is made or found
        self._base_directory = ""

    def base_directory(self) -> str:
        """Return the directory that the base layer is unpacked in, unpacking it if it is not."""
        if not self._base_directory:
            if self.base is None:
                raise Internal("a build container was asked for before there was a base")
            self._base_directory = self.lowers([self.base])[0]
        return self._base_directory

    def sandbox(self) -> "Sandbox":
        """Return a build container of the base."""
        from sampan.build.sandbox import Sandbox

        return Sandbox(self.base_directory(), is_root=self.settings.uid == 0)
