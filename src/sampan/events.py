"""Progress events: how a long operation says what it is doing without knowing who listens.

An operation takes a `Sink` and calls it with `Event` values; `cli.render` draws bars or lines, `--format json` writes
them as they are, a test collects them. Sinks must not raise and must not block.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Sink = Callable[["Event"], None]


class Event:
    """One thing that happened.

    `kind` is `step` (a stage begins), `progress` (bytes or items of `subject`), `choice` (a decision with its reason in
    `text`), `output` (one line of what a command in a build printed), `done` (a stage ended; `text` says with what
    result) or `warning`. `total` is 0 where it is not known.
    """

    __slots__ = ("current", "kind", "subject", "text", "total")

    def __init__(self, kind: str, subject: str, text: str = "", *, current: int = 0, total: int = 0) -> None:
        """Name the `subject` in the words of the person who waits."""
        self.kind = kind
        self.subject = subject
        self.text = text
        self.current = current
        self.total = total


def ignore(event: Event) -> None:
    """Listen to nothing: the sink of `--quiet` and of most tests."""
