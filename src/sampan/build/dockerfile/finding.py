"""What the linter says: one finding for each thing that is wrong, and what it may ask of the surroundings. Pure."""

from sampan.errors import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document


class Finding:
    """One thing that is wrong: `rule`, where, `what` it is, `why` it matters, and how to `mend` it."""

    __slots__ = ("mend", "place", "rule", "what", "why")

    def __init__(self, rule: str, place: Place, what: str, *, why: str, mend: str) -> None:
        self.rule = rule
        self.place = place
        self.what = what
        self.why = why
        self.mend = mend

    def document(self) -> "Document":
        """Return it as JSON has it."""
        place = self.place
        found: Document = {"rule": self.rule, "path": place.path, "line": place.line, "text": place.text}
        return found | {"what": self.what, "why": self.why, "mend": self.mend}


class Surroundings:
    """What stands beside the Dockerfile: whether there is an ignore file, which paths it keeps out, and programs.

    `server` is given the words of a command and returns the place in a program that starts a development server, and
    whether that is in debug mode; None where it starts none.
    """

    __slots__ = ("has_ignore_file", "is_ignored", "server")

    def __init__(
        self,
        *,
        has_ignore_file: bool,
        is_ignored: "Callable[[str], bool]",
        server: "Callable[[list[str], str], tuple[Place, bool] | None]",
    ) -> None:
        self.has_ignore_file = has_ignore_file
        self.is_ignored = is_ignored
        self.server = server


def style(rule: str, at: Place, what: str, mend: str = "write it in one way") -> Finding:
    """Return a finding of a rule of style."""
    return Finding(rule, at, what, why="whoever reads it has to think twice", mend=mend)
