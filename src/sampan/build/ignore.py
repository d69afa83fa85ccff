""".dockerignore: Docker's patterns (Go's filepath.Match with `**`), the last match decides. Pure, hot: no `re`."""

from sampan.errors import InvalidArgument, Place

_MAX_PATTERNS = 1000
_MAX_PATTERN = 1000
_MAX_SEEN = 100_000
_WILD = frozenset("*?[\\")
# What no image of a project wants: version control, environments, caches, editors, Sampan's own lock. A `.env` holds
# secrets more often than not; `!.env` in .dockerignore brings it back.
DEFAULTS = (
    ".git", ".hg", ".svn", ".venv", "venv", "**/__pycache__", "**/*.pyc", ".mypy_cache", ".pytest_cache", ".ruff_cache",
    ".tox", ".nox", ".hypothesis", ".idea", ".vscode", "**/.DS_Store", "**/*.egg-info", "sampan.lock", "**/.env",
)  # fmt: skip


class Rules:
    """Patterns in order, each with whether it takes paths back in."""

    __slots__ = ("_has_exceptions", "_patterns", "_seen")

    def __init__(self, patterns: "list[tuple[bool, tuple[str, ...]]]") -> None:
        self._patterns = patterns
        # Component of a pattern and of a path -> whether they match: few names make many paths.
        self._seen: dict[tuple[str, str], bool] = {}
        self._has_exceptions = any(is_exception for is_exception, _ in patterns)

    def excludes(self, path: str) -> bool:
        """Tell whether `path` (relative, `/`), or a directory above it, stays out."""
        parts = path.split("/")
        out = False
        for is_exception, pattern in self._patterns:
            if out is is_exception and self._matches(pattern, parts):
                out = not is_exception
        return out

    def cause(self, path: str) -> str:
        """Return the pattern that keeps `path` out, as far as it is written; `""` where none does."""
        parts = path.split("/")
        found = ""
        for is_exception, pattern in self._patterns:
            if bool(found) is is_exception and self._matches(pattern, parts):
                found = "" if is_exception else "/".join(pattern)
        return found

    def prunes(self, path: str) -> bool:
        """Tell whether the directory `path` need not be entered: it is out and no exception can lie below it."""
        return self.excludes(path) and not self._may_come_back(path.split("/"))

    def _may_come_back(self, parts: list[str]) -> bool:
        return self._has_exceptions and any(
            is_exception
            and ("**" in pattern or (len(pattern) > len(parts) and self._match(pattern[: len(parts)], parts)))
            for is_exception, pattern in self._patterns
        )

    def _matches(self, pattern: tuple[str, ...], parts: list[str]) -> bool:
        """Tell whether a pattern matches a path or a directory above it."""
        if "**" not in pattern:
            return len(pattern) <= len(parts) and self._match(pattern, parts[: len(pattern)])
        return any(self._match(pattern, parts[:end]) for end in range(1, len(parts) + 1))

    def _match(self, pattern: tuple[str, ...], parts: list[str]) -> bool:
        """Match whole components; `**` is any number of them. Iterative: hostile ones cost len x len at most."""
        reached = {0}
        for part in pattern:
            if part == "**":
                reached = set(range(min(reached), len(parts) + 1))
            else:
                reached = {at + 1 for at in reached if at < len(parts) and self._match_name(part, parts[at])}
            if not reached:
                return False
        return len(parts) in reached

    def _match_name(self, pattern: str, text: str) -> bool:
        found = self._seen.get((pattern, text))
        if found is None:
            if len(self._seen) > _MAX_SEEN:
                self._seen.clear()
            found = self._seen[pattern, text] = match_name(pattern, text)
        return found


def parse(content: bytes, path: str = ".dockerignore", *, defaults: "tuple[str, ...]" = DEFAULTS) -> Rules:
    """Read an ignore file; `defaults` come before it. Raises InvalidArgument where it is past a bound."""
    patterns = [(False, tuple(text.split("/"))) for text in defaults]
    lines = content.decode("utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if len(text) > _MAX_PATTERN or number > _MAX_PATTERNS:
            raise InvalidArgument(
                f"`{path}` has a longer pattern, or more of them, than Sampan reads", at=Place(path, number)
            )
        is_exception = text.startswith("!")
        parts = [part for part in text.removeprefix("!").strip().split("/") if part not in {"", "."}]
        if parts:
            patterns.append((is_exception, tuple(parts)))
    return Rules(patterns)


def match_name(pattern: str, text: str) -> bool:
    """Tell whether a pattern matches one component: `*`, `?`, `[…]` and escapes, as Go's filepath.Match."""
    if _WILD.isdisjoint(pattern):
        return pattern == text
    tokens = _tokens(pattern)
    reached = {0}
    for piece in tokens:
        if piece == "*":
            reached = set(range(min(reached), len(text) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(text) and _takes(piece, text[at])}
        if not reached:
            return False
    return len(text) in reached


def _tokens(pattern: str) -> list[str]:
    """Part a pattern into `*`, `?`, `[…]`, and single characters, each after a backslash."""
    tokens = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            tokens.append(pattern[at : at + 2])
            at += 2
        elif character == "[" and "]" in pattern[at + 2 :]:
            end = pattern.index("]", at + 2)
            tokens.append(pattern[at : end + 1])
            at = end + 1
        else:
            tokens.append(character if character in "*?" else "\\" + character)
            at += 1
    return tokens


def _takes(piece: str, character: str) -> bool:
    if piece == "?":
        return True
    if piece[0] == "\\":
        return piece[1] == character
    inner = piece[1:-1]
    is_negated = inner[:1] in {"^", "!"}
    inner = inner[1:] if is_negated else inner
    found = False
    at = 0
    while at < len(inner):
        if inner[at + 1 : at + 2] == "-" and at + 2 < len(inner):
            found = found or inner[at] <= character <= inner[at + 2]
            at += 3
        else:
            found = found or inner[at] == character
            at += 1
    return found is not is_negated
