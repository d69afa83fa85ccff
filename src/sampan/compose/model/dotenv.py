r"""The lines of an `.env` or `env_file`: KEY=value as shells and Compose read them. Pure.

    KEY=value # comment      plain: ends at a comment after a space; variables are filled in
    KEY="a\n$B"              double quotes: escapes and variables, over several lines too
    KEY='$literal'           single quotes: as it stands
    export KEY=value         KEY: value         KEY (the caller's value, or none)

A value may use the variables above it and the caller's (Compose specification, env_file).
"""

import re
from collections.abc import Mapping

from sampan.compose.model import template
from sampan.compose.model.node import Source
from sampan.errors import InvalidArgument

BYTES = 1 << 20
_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<key>[^\s=:#'\"]+)[ \t]*(?P<sign>[=:]?)[ \t]*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$$"}


def parse(content: bytes, path: str, environment: Mapping[str, str], *, raw: bool = False) -> dict[str, str | None]:
    """Return the variables of a file; None where a key has no value and the caller has none either.

    `environment` is what values may use, and wins over what stands above them. `raw` takes values as they stand.
    """
    if len(content) > BYTES:
        raise InvalidArgument(f"the environment file `{path}` is larger than {BYTES} bytes")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the environment file `{path}` is not UTF-8") from error
    return _Reader(text, Source(path, tuple(text.split("\n"))), environment, raw=raw).read()


class _Reader:
    """Walks a text once."""

    def __init__(self, text: str, source: Source, environment: Mapping[str, str], *, raw: bool) -> None:
        self._text = text
        self._source = source
        self._environment = environment
        self._raw = raw
        self._at = 0
        self._found: dict[str, str | None] = {}

    def read(self) -> dict[str, str | None]:
        while self._at < len(self._text):
            line_end = self._line_end()
            stripped = self._text[self._at : line_end].strip()
            if stripped and not stripped.startswith("#"):
                self._variable(line_end)
            else:
                self._at = line_end + 1
        return self._found

    def _line_end(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _variable(self, line_end: int) -> None:
        match = _LINE.match(self._text, self._at, line_end)
        if match is None or (not match["sign"] and match.end() != line_end):
            raise self._error("this is no environment variable", "write it like `KEY=value`")
        key = match["key"]
        if not match["sign"]:
            self._found[key] = self._environment.get(key)
            self._at = line_end + 1
            return
        self._at = match.end()
        quote = self._text[self._at : self._at + 1]
        if self._raw:
            self._found[key] = self._text[self._at : line_end]
            self._at = line_end + 1
        elif quote in {"'", '"'}:
            self._found[key] = self._quoted(quote)
        else:
            self._found[key] = self._plain(self._text[self._at : line_end])
            self._at = line_end + 1

    def _plain(self, value: str) -> str:
        comment = re.search(r"(^|[ \t])#", value)
        return self._expand((value[: comment.start()] if comment else value).strip())

    def _quoted(self, quote: str) -> str:
        start = self._at + 1
        end = start
        while (character := self._text[end : end + 1]) != quote:
            if not character:
                raise self._error("a quote is opened here and never closed", f"close it with `{quote}`")
            end += 2 if character == "\\" and quote == '"' else 1
        body = self._text[start:end]
        line_end = self._text.find("\n", end)
        line_end = len(self._text) if line_end < 0 else line_end
        after = self._text[end + 1 : line_end].strip()
        if after and not after.startswith("#"):
            raise self._error(f"`{after[:40]}` follows the closing quote", "put the whole value in quotes")
        value = body if quote == "'" else self._expand(_unescape(body))
        self._at = line_end + 1
        return value

    def _expand(self, value: str) -> str:
        try:
            return template.expand(template.parse(value), self._lookup, lambda _name: None)
        except template.Malformed as error:
            raise self._error("the variables in this value are malformed", str(error)) from error
        except InvalidArgument as error:
            raise InvalidArgument(error.what, hints=error.hints, at=self._source.place(self._line())) from error

    def _lookup(self, name: str) -> str | None:
        return self._environment.get(name, self._found.get(name))

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _error(self, what: str, hint: str) -> InvalidArgument:
        return InvalidArgument(what, at=self._source.place(self._line()), hints=(hint,))


def _unescape(text: str) -> str:
    r"""Read the escapes of a double-quoted value; `\$` stays a dollar through the variables' turn."""
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text, flags=re.DOTALL)
