r"""Variables in a statement: `$NAME`, `${NAME:-word}` and its relatives, quotes and escapes. Pure, hot: no `re`.

What a shell of POSIX does with a word, as far as Dockerfiles have it (2.6.2 Parameter Expansion), and bash's
`${NAME/pattern/replacement}`. Unquoted values are split at white space where a statement wants words. The text is
hostile: how deep words nest, how long a value grows, and how many steps a pattern takes are bounded.
"""

from sampan.errors import Exhausted, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sampan.errors import Place

MAX_VALUE = 1 << 20
_MAX_DEPTH = 40
_MAX_STEPS = 1_000_000
_SPECIAL = "@*#?-$!0"


def word(
    text: str,
    variables: "Mapping[str, str]",
    at: "Place",
    *,
    escape: str = "\\",
    unset: "Callable[[str], object] | None" = None,
) -> str:
    """Return `text` with its variables replaced and its quotes gone; `unset` is told each name that has no value."""
    return _Lexer(text, variables, at, escape, unset).whole()[0]


def words(
    text: str,
    variables: "Mapping[str, str]",
    at: "Place",
    *,
    escape: str = "\\",
    unset: "Callable[[str], object] | None" = None,
) -> list[str]:
    """Return the words that `text` comes to."""
    return _Lexer(text, variables, at, escape, unset).whole()[1]


def document(text: str, variables: "Mapping[str, str]", at: "Place") -> str:
    """Return a here-document's `text` with its variables replaced: quotes mean nothing in there."""
    return _Lexer(text, variables, at, "\\", None, has_quotes=False).whole()[0]


class _Words:
    """The two readings of what was gone through: one string, and the words that white space parts."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.words: list[str] = []
        self._word: list[str] = []

    def add(self, text: str, *, splits: bool) -> None:
        self.text.append(text)
        if not splits:
            self._word.append(text)
            return
        for character in text:
            if character.isspace():
                self.end()
            else:
                self._word.append(character)

    def end(self) -> None:
        if word := "".join(self._word):
            self.words.append(word)
        self._word = []


class _Lexer:
    def __init__(
        self,
        text: str,
        variables: "Mapping[str, str]",
        at: "Place",
        escape: str,
        unset: "Callable[[str], object] | None",
        *,
        has_quotes: bool = True,
    ) -> None:
        self._text = text
        self._variables = variables
        self._place = at
        self._escape = escape
        self._unset = unset
        self._has_quotes = has_quotes
        self._at = 0
        self._depth = 0
        self._length = 0

    def whole(self) -> "tuple[str, list[str]]":
        """Go through all of it."""
        found = self._until("", is_raw=False)
        return "".join(found.text), found.words

    def _until(self, stop: str, *, is_raw: bool) -> _Words:
        """Go on to the character `stop`, or to the end for none; `is_raw` keeps escapes for a pattern to read."""
        found = _Words()
        text = self._text
        while self._at < len(text):
            character = text[self._at]
            if character == stop:
                self._at += 1
                found.end()
                return found
            if character == "$":
                self._add(found, self._dollar(), splits=True)
            elif character == "'" and self._has_quotes:
                self._add(found, self._single_quoted(), splits=False)
            elif character == '"' and self._has_quotes:
                self._add(found, self._double_quoted(), splits=False)
            elif character == self._escape:
                self._at += 2
                kept = text[self._at - 1 : self._at]
                is_kept = is_raw or not (self._has_quotes or kept in {"$", self._escape})
                self._add(found, character + kept if is_kept else kept, splits=False)
            else:
                self._at += 1
                self._add(found, character, splits=True)
        if stop:
            raise self._wrong(f"`{stop}` is missing" if stop == "}" else f"`{stop}` is missing in `${{…}}`")
        found.end()
        return found

    def _add(self, found: _Words, text: str, *, splits: bool) -> None:
        self._length += len(text)
        if self._length > MAX_VALUE:
            raise Exhausted(f"a value comes to more than {MAX_VALUE} characters", at=self._place)
        found.add(text, splits=splits)

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self._wrong("a `'` has no second one", "quote the `'`, or escape it")
        piece = self._text[self._at + 1 : end]
        self._at = end + 1
        return piece

    def _double_quoted(self) -> str:
        text = self._text
        found: list[str] = []
        self._at += 1
        while self._at < len(text):
            character = text[self._at]
            if character == '"':
                self._at += 1
                return "".join(found)
            if character == "$":
                found.append(self._dollar())
                continue
            if character == self._escape and text[self._at + 1 : self._at + 2] in {'"', "$", self._escape}:
                self._at += 1
                character = text[self._at]
            found.append(character)
            self._at += 1
        raise self._wrong('a `"` has no second one', "close the quote, or escape it")

    def _dollar(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] != "{":
            name = self._name()
            return self._value(name) or "" if name else "$"
        self._at += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Exhausted(f"variables are nested more than {_MAX_DEPTH} deep", at=self._place)
        value = self._braced()
        self._depth -= 1
        return value

    def _name(self) -> str:
        """Read a name; digits alone, or one special character, are a name of their own that nothing has."""
        text, start = self._text, self._at
        first = text[start : start + 1]
        if first and first in _SPECIAL:
            self._at += 1
        else:
            is_digits = first.isdigit()
            while self._at < len(text) and (
                text[self._at].isdigit() or (not is_digits and (text[self._at].isalnum() or text[self._at] == "_"))
            ):
                self._at += 1
        return text[start : self._at]

    def _value(self, name: str) -> str | None:
        value = self._variables.get(name)
        if value is None and self._unset is not None:
            self._unset(name)
        return value

    def _braced(self) -> str:
        name = self._name()
        operator = self._text[self._at : self._at + 1]
        self._at += 1
        if not name:
            raise self._wrong("`${` is followed by no name")
        if operator == "}":
            return self._value(name) or ""
        if operator == "/":
            return self._replaced(name)
        is_empty_unset = operator == ":"
        if is_empty_unset:
            operator = self._text[self._at : self._at + 1]
            self._at += 1
        if operator in {"#", "%"} and operator and not is_empty_unset:
            return self._trimmed(name, operator)
        if operator not in {"-", "+", "?"}:
            if not operator:
                raise self._wrong("`}` is missing")
            raise self._wrong(
                f"`${{{name}{':' * is_empty_unset}{operator}…}}` is no substitution that Dockerfiles have"
            )
        return self._chosen(name, operator, is_empty_unset=is_empty_unset)

    def _chosen(self, name: str, operator: str, *, is_empty_unset: bool) -> str:
        other = "".join(self._until("}", is_raw=False).text)
        value = self._variables.get(name)
        is_set = value is not None and not (is_empty_unset and not value)
        if operator == "-":
            return value or "" if is_set else other
        if operator == "+":
            return other if is_set else ""
        if not is_set:
            raise self._wrong(
                f"`{name}`: {other or 'has no value, and must have one'}", f"give it: `--build-arg {name}=…`"
            )
        return value or ""

    def _trimmed(self, name: str, operator: str) -> str:
        is_longest = self._text[self._at : self._at + 1] == operator
        self._at += is_longest
        tokens = self._tokens("".join(self._until("}", is_raw=True).text))
        value = self._value(name) or ""
        if operator == "#":
            ends = _ends(tokens, value, 0, self._counter())
            return value[(max if is_longest else min)(ends) :] if ends else value
        ends = _ends(tokens[::-1], value[::-1], 0, self._counter())
        return value[: len(value) - (max if is_longest else min)(ends)] if ends else value

    def _replaced(self, name: str) -> str:
        is_every = self._text[self._at : self._at + 1] == "/"
        self._at += is_every
        tokens = self._tokens("".join(self._until("/", is_raw=True).text))
        other = "".join(self._until("}", is_raw=True).text)
        value, count = self._value(name) or "", self._counter()
        found, at = [], 0
        while at <= len(value):
            ends = _ends(tokens, value, at, count)
            if not ends or max(ends) == at:
                found.append(value[at : at + 1])
                at += 1
                continue
            found.append(other)
            at = max(ends)
            if not is_every:
                break
        return "".join(found) + value[at:]

    def _tokens(self, pattern: str) -> list[str]:
        """Part a pattern into `*`, `?`, and single characters, each after a backslash."""
        tokens, at = [], 0
        while at < len(pattern):
            character = pattern[at]
            if character == "\\" and at + 1 < len(pattern):
                at += 1
                tokens.append("\\" + pattern[at])
            else:
                tokens.append(character if character in "*?" else "\\" + character)
            at += 1
        return tokens

    def _counter(self) -> "Callable[[int], None]":
        left = _MAX_STEPS

        def count(steps: int) -> None:
            nonlocal left
            left -= steps
            if left < 0:
                raise Exhausted("a pattern takes too long on a value as long as this", at=self._place)

        return count

    def _wrong(self, what: str, hint: str = "") -> InvalidArgument:
        return InvalidArgument(what, hints=(hint,) if hint else (), at=self._place)


def _ends(tokens: list[str], value: str, start: int, count: "Callable[[int], None]") -> "set[int]":
    """Return where a match of the pattern that begins at `start` can end."""
    reached = {start}
    for piece in tokens:
        count(len(reached))
        if piece == "*":
            reached = set(range(min(reached), len(value) + 1))
        elif piece == "?":
            reached = {at + 1 for at in reached if at < len(value)}
        else:
            reached = {at + 1 for at in reached if value[at : at + 1] == piece[1]}
        if not reached:
            break
    return reached
