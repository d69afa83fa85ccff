"""Statements become typed instructions: which flags and arguments each takes, checked, nothing expanded yet. Hot.

One class for each shape of arguments; `keyword` says which instruction it is. Whatever is wrong is an InvalidArgument
that shows the line and says how to write it.
"""

from sampan.build.dockerfile import heredoc, parser
from sampan.document import Malformed, parse_list
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.build.dockerfile.heredoc import Heredoc
    from sampan.build.dockerfile.parser import Statement

# Flag -> whether it is a `bool`, a `text`, or may be given many times (`list`).
_COPY_FLAGS = {"chown": "text", "chmod": "text", "link": "bool", "exclude": "list"}
FLAGS = {
    "FROM": {"platform": "text"},
    "RUN": {"mount": "list", "network": "text", "security": "text", "device": "list"},
    "COPY": {**_COPY_FLAGS, "from": "text", "parents": "bool"},
    "ADD": {**_COPY_FLAGS, "keep-git-dir": "bool", "checksum": "text", "unpack": "bool"},
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), "text"),
}
# Quotes as shells, JSON and word processors (U+2018 to U+201D) have them.
_QUOTES = "\"'\u2018\u2019\u201c\u201d"
_TRUE, _FALSE = {"", "true", "1", "t"}, {"false", "0", "f"}
_EXAMPLES = {
    "ADD": "ADD files.tar.gz /srv/",
    "ARG": "ARG VERSION=1.0",
    "CMD": 'CMD ["python", "app.py"]',
    "COPY": "COPY . /app",
    "ENV": "ENV PORT=8000",
    "EXPOSE": "EXPOSE 5000",
    "FROM": "FROM python:3.13-slim",
    "HEALTHCHECK": "HEALTHCHECK CMD curl -f http://localhost/",
    "LABEL": 'LABEL version="1.0"',
    "MAINTAINER": "MAINTAINER me@example.org",
    "ONBUILD": "ONBUILD COPY . /app",
    "RUN": "RUN pip install -r requirements.txt",
    "SHELL": 'SHELL ["/bin/bash", "-c"]',
    "STOPSIGNAL": "STOPSIGNAL SIGINT",
    "USER": "USER 1000:1000",
    "VOLUME": "VOLUME /data",
    "WORKDIR": "WORKDIR /app",
}


class Instruction:
    """What all have: the statement that it was read from."""

    __slots__ = ("statement",)

    def __init__(self, statement: "Statement") -> None:
        self.statement = statement

    @property
    def keyword(self) -> str:
        """The instruction, in upper case."""
        return self.statement.keyword

    def wrong(self, what: str, *hints: str) -> InvalidArgument:
        """Return an error that shows this instruction."""
        return InvalidArgument(what, hints=hints, at=self.statement.at)


class From(Instruction):
    """FROM: the base (`image`, unexpanded), the stage's `name` in lower case, `platform`."""

    __slots__ = ("image", "name", "platform")

    def __init__(self, statement: "Statement", flags: "Flags") -> None:
        super().__init__(statement)
        words = statement.rest.split()
        if len(words) not in {1, 3} or (len(words) == 3 and words[1].upper() != "AS"):
            hint = "write `FROM IMAGE` or `FROM IMAGE AS NAME`"
            raise self.wrong(f"FROM takes an image, and perhaps `AS NAME`, not `{statement.rest[:100]}`", hint)
        self.image = words[0]
        self.name = words[2].lower() if len(words) == 3 else ""
        self.platform = flags.text("platform")
        if self.name and not _is_stage_name(self.name):
            hint = "a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`"
            raise self.wrong(f"`{words[2][:60]}` cannot be the name of a stage", hint)


class Pairs(Instruction):
    """ENV and LABEL: `items` as (key, value), unexpanded; `is_old` where it is written `KEY value`."""

    __slots__ = ("is_old", "items")

    def __init__(self, statement: "Statement") -> None:
        super().__init__(statement)
        words = _raw_words(statement.rest, statement.escape)
        self.is_old = "=" not in words[0]
        if self.is_old:
            key, value = parser.split_word(statement.rest)
            if not value:
                hint = f"write `{statement.keyword} {key}=VALUE`"
                raise self.wrong(f"{statement.keyword} gives `{key[:60]}` no value", hint)
            self.items = [(key, value)]
            return
        self.items = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key:
                hint = "write KEY=VALUE, with quotes where the value has blanks, and no blank around `=`"
                raise self.wrong(f"`{word[:60]}` in {statement.keyword} is no KEY=VALUE", hint)
            self.items.append((key, value))


class Arg(Instruction):
    """ARG: `items` as (name, default or None), unexpanded."""

    __slots__ = ("items",)

    def __init__(self, statement: "Statement") -> None:
        super().__init__(statement)
        self.items: list[tuple[str, str | None]] = []
        for word in _raw_words(statement.rest, statement.escape):
            name, equals, value = word.partition("=")
            if not name:
                raise self.wrong(f"`{word[:60]}` in ARG has no name", "write ARG NAME or ARG NAME=DEFAULT")
            self.items.append((name, value if equals else None))


class Exec(Instruction):
    """CMD, ENTRYPOINT and SHELL: `words` in exec form, or one shell line."""

    __slots__ = ("is_exec", "words")

    def __init__(self, statement: "Statement") -> None:
        super().__init__(statement)
        words = _json(statement)
        self.is_exec = words is not None
        self.words = words if words is not None else [statement.rest]
        if statement.keyword == "SHELL" and not (self.is_exec and self.words):
            raise self.wrong("SHELL takes a JSON list of words", f"write it like `{_EXAMPLES['SHELL']}`")


class Run(Exec):
    """RUN: a command like CMD's, with here-documents; the `mounts` as they were written."""

    __slots__ = ("mounts", "network")

    def __init__(self, statement: "Statement", flags: "Flags") -> None:
        super().__init__(statement)
        self.mounts = flags.all("mount")
        self.network = flags.text("network") or "default"
        if self.network not in {"default", "none", "host"}:
            raise self.wrong(
                f"`--network={self.network[:40]}` of RUN is unknown", "it can be `default`, `none` or `host`"
            )
        if flags.text("security") not in {"", "sandbox"}:
            raise self.wrong(f"`--security={flags.text('security')[:40]}` of RUN is not there yet", "leave it out")
        if flags.all("device"):
            raise self.wrong("`--device` of RUN is not there yet", "leave it out")


class Copy(Instruction):
    """COPY and ADD: `sources` (unexpanded) and `heredocs` go to `destination`."""

    __slots__ = ("chmod", "chown", "destination", "excludes", "has_parents", "heredocs", "is_linked", "origin",
                 "sources", "unpacks")  # fmt: skip

    def __init__(self, statement: "Statement", flags: "Flags") -> None:
        super().__init__(statement)
        found = _json(statement)
        words = found if found is not None else statement.rest.split()
        if found is None and looks_like_json(statement.rest):
            raise self.wrong(f"`{statement.rest[:100]}` is no JSON list", _json_hint(statement.keyword))
        if statement.heredocs and found is None:
            words = heredoc.words(statement.rest)
        if len(words) < 2:
            hint = f"write `{statement.keyword} SOURCE DESTINATION`, as in `{statement.keyword} {words[0]} .`"
            raise self.wrong(f"{statement.keyword} needs a source and a destination", hint)
        if heredoc.read(words[-1]) is not None:
            raise self.wrong(f"the destination of {statement.keyword} cannot be a here-document")
        self.destination = words[-1]
        bodies = {item.name: item for item in statement.heredocs}
        self.sources: list[str] = []
        self.heredocs: list[Heredoc] = []
        for word in words[:-1]:
            item = heredoc.read(word) if bodies else None
            if item is not None and item.name in bodies:
                self.heredocs.append(bodies[item.name])
            else:
                self.sources.append(word)
        self.chown = flags.text("chown")
        self.chmod = flags.text("chmod")
        self.excludes = flags.all("exclude")
        self.origin = flags.text("from")
        self.has_parents = flags.is_on("parents")
        self.is_linked = flags.is_on("link")
        if flags.text("checksum"):
            raise self.wrong("`--checksum` of ADD is not there yet, as ADD of an address is not", "leave it out")
        self.unpacks = flags.is_on("unpack") if "unpack" in flags.values else None


class Single(Instruction):
    """WORKDIR, USER, STOPSIGNAL and MAINTAINER: one `value`, unexpanded."""

    __slots__ = ("value",)

    def __init__(self, statement: "Statement") -> None:
        super().__init__(statement)
        self.value = statement.rest


class Several(Instruction):
    """EXPOSE and VOLUME: `words`, unexpanded; `is_exec` where they stood in a JSON list."""

    __slots__ = ("is_exec", "words")

    def __init__(self, statement: "Statement") -> None:
        super().__init__(statement)
        found = _json(statement) if statement.keyword == "VOLUME" else None
        if found is None and looks_like_json(statement.rest):
            raise self.wrong(f"`{statement.rest[:100]}` is no JSON list", _json_hint(statement.keyword))
        self.is_exec = found is not None
        self.words = found if found is not None else statement.rest.split()
        if not all(word.strip() for word in self.words) or not self.words:
            raise self.wrong(
                f"{statement.keyword} has an empty word", f"write it like `{_EXAMPLES[statement.keyword]}`"
            )


class Healthcheck(Instruction):
    """HEALTHCHECK: `test` in the config's words, durations as they were written."""

    __slots__ = ("retries", "test", "times")

    def __init__(self, statement: "Statement", flags: "Flags") -> None:
        super().__init__(statement)
        word, rest = parser.split_word(statement.rest)
        kind = word.upper()
        if kind not in {"CMD", "NONE"}:
            raise self.wrong(
                f"HEALTHCHECK takes `CMD` or `NONE`, not `{word[:40]}`", f"write `HEALTHCHECK CMD {statement.rest}`"
            )
        self.times = {key: flags.text(key) for key in ("interval", "timeout", "start-period", "start-interval")}
        self.retries = flags.text("retries")
        if kind == "NONE":
            if rest:
                raise self.wrong("HEALTHCHECK NONE takes nothing more", "write `HEALTHCHECK NONE`")
            self.test = ["NONE"]
            return
        if not rest:
            raise self.wrong("HEALTHCHECK CMD has no command", "write `HEALTHCHECK CMD curl -f http://localhost/`")
        words = _json_list(rest, statement)
        self.test = ["CMD", *words] if words is not None else ["CMD-SHELL", rest]


class Onbuild(Instruction):
    """ONBUILD: the `trigger` as text, here-documents included, and read."""

    __slots__ = ("inner", "trigger")

    def __init__(self, statement: "Statement") -> None:
        super().__init__(statement)
        bodies = "".join(f"\n{item.content}{item.name}" for item in statement.heredocs)
        self.trigger = statement.rest + bodies
        word = parser.split_word(statement.rest)[0].upper()
        if word in {"ONBUILD", "FROM", "MAINTAINER"}:
            raise self.wrong(f"ONBUILD cannot hold {word}")
        self.inner = parse(parser.parse_trigger(self.trigger, statement.at))


class Flags:
    """The `--name=value` words of a statement, checked against what its instruction takes."""

    __slots__ = ("values",)

    def __init__(self, statement: "Statement") -> None:
        known = FLAGS.get(statement.keyword, {})
        self.values: dict[str, list[str]] = {}
        for flag in statement.flags:
            name, equals, value = flag[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                raise _unknown_flag(statement, flag, known)
            if kind == "bool" and value.lower() not in _TRUE | _FALSE:
                raise InvalidArgument(f"`{flag[:80]}` is neither true nor false", at=statement.at)
            if kind != "bool" and not equals:
                hint = f"write `--{name}=VALUE`, with `=` and no blank"
                raise InvalidArgument(f"`--{name}` of {statement.keyword} has no value", hints=(hint,), at=statement.at)
            if name in self.values and kind != "list":
                raise InvalidArgument(f"`--{name}` stands here twice", hints=("leave one out",), at=statement.at)
            self.values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """Return the value of a flag, `""` where it was not given."""
        return self.values.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """Return every value of a flag."""
        return self.values.get(name, [])

    def is_on(self, name: str) -> bool:
        """Tell whether a boolean flag is on."""
        return name in self.values and self.values[name][0].lower() in _TRUE


_WITH_FLAGS = {"ADD": Copy, "COPY": Copy, "FROM": From, "HEALTHCHECK": Healthcheck, "RUN": Run}
_PLAIN = {
    "ARG": Arg,
    "CMD": Exec,
    "ENTRYPOINT": Exec,
    "ENV": Pairs,
    "EXPOSE": Several,
    "LABEL": Pairs,
    "ONBUILD": Onbuild,
    "SHELL": Exec,
    "VOLUME": Several,
}


def parse(statement: "Statement") -> Instruction:
    """Read one statement; raises InvalidArgument."""
    if statement.keyword not in parser.KEYWORDS:
        raise _unknown(statement)
    flags = Flags(statement)
    if not statement.rest and statement.keyword not in {"CMD", "ENTRYPOINT"}:
        hints = (f"write it like `{_EXAMPLES[statement.keyword]}`",)
        raise InvalidArgument(f"{statement.keyword} has nothing after it", hints=hints, at=statement.at)
    with_flags = _WITH_FLAGS.get(statement.keyword)
    if with_flags is not None:
        return with_flags(statement, flags)
    return _PLAIN.get(statement.keyword, Single)(statement)


def looks_like_json(text: str) -> bool:
    """Tell whether a shell line was probably meant as a JSON list: `['a', 'b']`, `["a" "b"]`, `[“a”]`."""
    is_list = text.startswith("[") and text.endswith("]") and not text.startswith("[ ")
    return is_list and any(quote in text for quote in _QUOTES)


def _json_hint(keyword: str) -> str:
    words = '["/PATH", "/PATH"]' if keyword in {"VOLUME", "EXPOSE"} else '["SOURCE", "DESTINATION"]'
    return f"write it like `{keyword} {words}`, with plain double quotes and commas"


def _json(statement: "Statement") -> list[str] | None:
    """Read the rest as a JSON list of strings; None where it is none, which then is a shell line (docker's rule)."""
    return _json_list(statement.rest, statement)


def _json_list(text: str, statement: "Statement") -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        found = parse_list(text)
    except Malformed:
        return None
    if not all(isinstance(word, str) for word in found):
        hints = ("put every word into double quotes",)
        raise InvalidArgument(f"`{text[:100]}` is a JSON list of more than strings", hints=hints, at=statement.at)
    return found


def _is_stage_name(name: str) -> bool:
    return "a" <= name[0] <= "z" and all(c.isascii() and (c.isalnum() or c in "-_.") for c in name)


def _raw_words(text: str, escape: str) -> list[str]:
    """Part at white space that is neither quoted nor escaped; quotes and escapes stay."""
    words: list[str] = []
    word: list[str] = []
    quote, at = "", 0
    while at < len(text):
        character = text[at]
        if character == escape and quote != "'" and at + 1 < len(text):
            word.append(character)
            at += 1
            character = text[at]
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            words += ["".join(word)] if word else []
            word = []
            at += 1
            continue
        word.append(character)
        at += 1
    return [*words, "".join(word)] if word else words


def _unknown(statement: "Statement") -> InvalidArgument:
    """Explain a word that is no instruction: a missing blank, a slip, or a line that lost its continuation."""
    word = statement.word
    for keyword in parser.KEYWORDS:
        rest = word[len(keyword) :]
        if word.upper().startswith(keyword) and rest and not (rest[0].isalnum() or rest[0] == "_"):
            mended = " ".join(part for part in (keyword, rest.strip(), *statement.flags, statement.rest) if part)
            what = (
                f"there is no blank after `{keyword}`"
                if not rest[0].isspace()
                else f"`{keyword}` is followed by a wide blank"
            )
            return InvalidArgument(what, hints=(f"did you mean `{mended[:200]}`?",), at=statement.at)
    hints = tuple(f"did you mean `{near}`?" for near in suggest(word.upper(), parser.KEYWORDS))
    if not hints:
        hints = (f"if the line before goes on here, end it with `{statement.escape}`",)
    return InvalidArgument(f"unknown instruction `{word[:60]}`", hints=hints, at=statement.at)


def _unknown_flag(statement: "Statement", flag: str, known: "dict[str, str]") -> InvalidArgument:
    name, _, value = flag[2:].partition("=")
    near = suggest(name, list(known))
    if near:
        hint = f"did you mean `--{near[0]}{'=' + value if value else ''}`?"
    elif known:
        hint = f"{statement.keyword} takes {', '.join(f'`--{item}`' for item in known)}"
    else:
        hint = f"{statement.keyword} takes no flags"
    return InvalidArgument(f"unknown flag `--{name[:60]}` of {statement.keyword}", hints=(hint,), at=statement.at)


def suggest(word: str, known: "Sequence[str]") -> "list[str]":
    """Return the known word that was probably meant, in a list of at most one."""
    import difflib  # 6 ms, so only after a mistake

    return difflib.get_close_matches(word, known, 1)
