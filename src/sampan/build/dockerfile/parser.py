r"""A Dockerfile's text becomes statements: instruction, flags, the rest, here-documents, and where they stand. Hot.

Theory. The file is walked line by line. Directives (`# escape=`) may stand before anything else. A line that ends in
the escape character goes on in the next; comments and blank lines between are dropped. Where a RUN, COPY or ADD names
here-documents, their lines follow the statement and belong to it, byte for byte. What the words of a statement mean is
`instruction`'s.

The text is hostile: its size and counts are bounded, and no work is more than linear in it.
"""

from sampan.build.dockerfile import heredoc
from sampan.build.dockerfile.heredoc import Heredoc
from sampan.errors import Exhausted, InvalidArgument, Place

MAX_BYTES = 4 << 20
MAX_STATEMENTS = 10_000
KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_SPACE = " \t\v\f\r"
_DIRECTIVES = ("syntax", "escape", "check")
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")


class Statement:
    """One instruction as it was written: `word` is its first word, `keyword` that in upper case."""

    __slots__ = ("at", "end", "escape", "flags", "heredocs", "keyword", "rest", "word")

    def __init__(self, word: str, flags: "list[str]", rest: str, *, at: Place, end: int, escape: str) -> None:
        self.word = word
        self.keyword = word.upper()
        self.flags = flags
        self.rest = rest
        self.at = at
        self.end = end  # number of its last line
        self.escape = escape
        self.heredocs: list[Heredoc] = []

    @property
    def text(self) -> str:
        """The statement on one line, as it was written."""
        return " ".join([self.word, *self.flags, self.rest]).rstrip()


class Dockerfile:
    """What `parse` found. `gaps` are places of blank lines within a continued statement, which docker warns of."""

    __slots__ = ("directives", "gaps", "path", "statements")

    def __init__(self, path: str) -> None:
        self.path = path
        self.directives: dict[str, str] = {}
        self.statements: list[Statement] = []
        self.gaps: list[Place] = []


def parse(content: bytes, path: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile; `path` is how errors call it. Raises InvalidArgument, Exhausted, each with a place."""
    if len(content) > MAX_BYTES:
        raise Exhausted(f"the Dockerfile is longer than {MAX_BYTES} bytes", at=Place(path))
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\0" in content:
        hints = ("save it as UTF-8 text",)
        raise InvalidArgument("the Dockerfile is not UTF-8 text", hints=hints, at=Place(path))
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    reader = _Reader(text, path)
    while reader.at_line < len(reader.lines):
        reader.statement()
    if not reader.found.statements:
        what = "the Dockerfile is empty" if not text.strip() else "the Dockerfile has no instructions"
        raise InvalidArgument(what, hints=("it begins with a base, as in `FROM python:3.13-slim`",), at=Place(path))
    return reader.found


def parse_trigger(text: str, at: Place) -> Statement:
    """Read one statement that stands alone, with its here-documents: what ONBUILD holds."""
    reader = _Reader(text, at.path)
    reader.are_directives = False
    reader.statement()
    found = reader.found.statements
    if not found:
        raise InvalidArgument("ONBUILD has no instruction after it", at=at)
    found[0].at = at
    return found[0]


class _Reader:
    """The walk over the lines; `at_line` is the index of the next."""

    def __init__(self, text: str, path: str) -> None:
        self.lines = text.split("\n")
        self.found = Dockerfile(path)
        self.at_line = 0
        self.are_directives = True
        self.escape = "\\"

    def statement(self) -> None:
        """Read to the end of the next statement, if there is one."""
        first = self.at_line
        line = self._next().lstrip()
        if self.are_directives and self._directive(line, first):
            return
        if not line or line.startswith("#"):
            return
        pieces, goes_on, is_gap = [], True, False
        piece, goes_on = self._piece(line)
        pieces.append(piece)
        while goes_on and self.at_line < len(self.lines):
            line = self._next()
            bare = line.strip()
            if bare.startswith("#"):
                continue
            if not bare:
                is_gap = is_gap or self.at_line < len(self.lines)
                continue
            piece, goes_on = self._piece(line)
            pieces.append(piece)
        place = Place(self.found.path, first + 1, self.lines[first].strip()[:500])
        if is_gap:
            self.found.gaps.append(place)
        joined = "".join(pieces).strip()
        if joined:
            self._add(joined, place)

    def _next(self) -> str:
        line = self.lines[self.at_line]
        self.at_line += 1
        return line.removesuffix("\r")

    def _piece(self, line: str) -> tuple[str, bool]:
        """Return the line without its continuation, and whether it goes on."""
        bare = line.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            return bare[:-1], True
        return line, False

    def _directive(self, line: str, index: int) -> bool:
        """Take the line in if it is a parser directive; the first that is none ends them."""
        name, equals, value = line.removeprefix("#").partition("=")
        name, value = name.strip().lower(), value.strip()
        is_shebang = index == 0 and line.startswith("#!")
        if not (line.startswith("#") and equals and name in _DIRECTIVES and value):
            self.are_directives = is_shebang
            return is_shebang
        place = Place(self.found.path, index + 1, line[:500])
        if name in self.found.directives:
            raise InvalidArgument(f"the directive `{name}` stands here twice", hints=("remove one",), at=place)
        if name == "escape":
            if value not in {"\\", "`"}:
                raise InvalidArgument(
                    f"the escape character cannot be `{value[:40]}`",
                    hints=("it is a backslash or a backtick",),
                    at=place,
                )
            self.escape = value
        self.found.directives[name] = value
        return True

    def _add(self, line: str, place: Place) -> None:
        if len(self.found.statements) >= MAX_STATEMENTS:
            raise Exhausted(f"the Dockerfile has more than {MAX_STATEMENTS} instructions", at=place)
        word, rest = split_word(line)
        flags, rest = _flags(rest, self.escape)
        made = Statement(word, flags, rest.strip(), at=place, end=self.at_line, escape=self.escape)
        inner = split_word(made.rest)[0].upper() if made.keyword == "ONBUILD" else made.keyword
        if inner in _WITH_HEREDOCS and "<<" in made.rest and not made.rest.startswith("["):
            made.heredocs = [self._body(item, place) for item in heredoc.find(made.rest)]
            made.end = self.at_line
        self.found.statements.append(made)

    def _body(self, item: Heredoc, place: Place) -> Heredoc:
        """Read the lines of a here-document up to its name."""
        kept: list[str] = []
        while self.at_line < len(self.lines):
            line = self.lines[self.at_line]
            self.at_line += 1
            bare = line.removesuffix("\r")
            if (bare.lstrip("\t") if item.strips_tabs else bare) == item.name:
                item.content = "".join(kept)
                return item
            kept.append(f"{line}\n")
        hints = (f"end it by a line that is `{item.name}` and nothing else",)
        raise InvalidArgument(f"the here-document `<<{item.name}` has no end", hints=hints, at=place)


def split_word(line: str) -> tuple[str, str]:
    """Part the first word of a line from the rest."""
    for index, character in enumerate(line):
        if character in _SPACE:
            return line[:index], line[index:].lstrip(_SPACE)
    return line, ""


def _flags(text: str, escape: str) -> "tuple[list[str], str]":
    """Part the `--name=value` words that a statement begins with from the rest; quotes may hold spaces."""
    flags: list[str] = []
    while text.startswith("--"):
        word, length = _flag(text, escape)
        text = text[length:].lstrip()
        if word == "--":
            break
        flags.append(word)
    return flags, text


def _flag(text: str, escape: str) -> tuple[str, int]:
    """Return the first word without its quotes and escapes, and how long it was."""
    word, quote, at = [], "", 0
    while at < len(text):
        character = text[at]
        if not quote and character.isspace():
            break
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif character == escape and at + 1 < len(text):
            at += 1
            word.append(text[at])
        else:
            word.append(character)
        at += 1
    return "".join(word), at
