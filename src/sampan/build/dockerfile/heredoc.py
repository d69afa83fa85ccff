r"""Here-documents: `<<NAME`, `<<-NAME`, `3<<NAME`, `<<"NAME"` among the words of a statement. Pure, hot."""


class Heredoc:
    """One here-document; `expands` unless its name was quoted, `strips_tabs` after `<<-`."""

    __slots__ = ("content", "expands", "name", "strips_tabs")

    def __init__(self, name: str, *, expands: bool, strips_tabs: bool) -> None:
        self.name = name
        self.expands = expands
        self.strips_tabs = strips_tabs
        self.content = ""

    @property
    def data(self) -> str:
        """The content, without leading tabs where `<<-` asked for that."""
        if not self.strips_tabs:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


def find(text: str) -> list[Heredoc]:
    """Return what the words of a statement's rest name, in order, without contents."""
    return [item for item in map(read, words(text)) if item is not None]


def read(word: str) -> Heredoc | None:
    """Read one word; None where it is no here-document."""
    rest = word.lstrip("0123456789")
    if not rest.startswith("<<"):
        return None
    rest = rest[2:]
    strips_tabs = rest.startswith("-")
    name = rest.removeprefix("-").lstrip()
    bare = name.replace("'", "").replace('"', "").replace("\\", "")
    if not bare or "<" in bare or any(character.isspace() for character in bare):
        return None
    return Heredoc(bare, expands=bare == name, strips_tabs=strips_tabs)


def words(text: str) -> list[str]:
    """Part `text` into words at white space that is not quoted; quotes and escapes stay, `<< NAME` is one word."""
    found: list[str] = []
    word: list[str] = []
    quote, at = "", 0
    while at < len(text):
        character = text[at]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "\\" and at + 1 < len(text):
            word.append(character)
            at += 1
            character = text[at]
        elif character.isspace():
            if not "".join(word[-3:]).endswith(("<<", "<<-")):
                found += ["".join(word)] if word else []
                word = []
            at += 1
            continue
        word.append(character)
        at += 1
    return [*found, "".join(word)] if word else found
