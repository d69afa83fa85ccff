"""References: how people name images. The grammar is distribution's (distribution/reference), the defaults docker's.

    reference  := name [":" tag] ["@" digest]          name   := [domain "/"] path
    domain     := host [":" port]                      host   := component *("." component) | "[" IPv6 "]"
    path       := part *("/" part)                     part   := [a-z0-9]+ *(("." | "_" | "__" | "-"*) [a-z0-9]+)
    tag        := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}   digest := see `digest`

What stands before the first slash is a domain if it holds a dot, a colon or an upper-case letter, or is `localhost`;
otherwise the domain is docker.io, where a path of one part lies in `library`. Without tag and digest, `latest` is
meant. Laws: parse(str(x)) == x, and parse(x.familiar()) == x. Pure; the hot path reads this, so no `re`.
"""

from sampan.errors import InvalidArgument
from sampan.oci.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_MAX_TEXT = 1024
_MAX_PATH = 255
_MAX_TAG = 128
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALPHANUMERIC = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALPHANUMERIC | {"_"}
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_SEPARATORS = frozenset("._-")

_NAME_HINT = (
    "a name is lower-case letters and digits, parted by `.`, `_`, `__`, `-` or `/`, as in `python` or `ghcr.io/me/app`"
)
_TAG_HINT = "a tag is at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two"


class Reference:
    """A name with its defaults filled in; at least one of `tag` and `digest` is there. Immutable, hashable."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str | None, digest: Digest | None = None) -> None:
        """Take parts that are known to be right; `parse` is for those that are not."""
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read what a person typed; raises InvalidArgument, which says what is wrong and how to mend it."""
        if not text or len(text) > _MAX_TEXT:
            raise _invalid(text, "is empty" if not text else f"is longer than {_MAX_TEXT} characters")
        name, at, encoded = text.partition("@")
        digest = Digest.parse(encoded) if at else None
        name, tag = _split_tag(name, text)
        domain, path = _split_domain(name)
        _check_domain(domain, text)
        _check_path(path, text)
        if domain == DEFAULT_DOMAIN and len(path) == 64 and _HEX.issuperset(path):
            raise _invalid(text, "is an image id, not a name")
        if domain == DEFAULT_DOMAIN and "/" not in path:
            path = _OFFICIAL + path
        return cls(domain, path, tag if tag or digest else DEFAULT_TAG, digest)

    def name(self) -> str:
        """Return domain and path: the repository."""
        return f"{self.domain}/{self.path}"

    def familiar_name(self) -> str:
        """Return the repository as docker shows it: `python`, `me/app`, `ghcr.io/me/app`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name()
        short = self.path.removeprefix(_OFFICIAL)
        short = self.path if "/" in short else short
        # A path whose first part looks like a domain, or an id, would be read as one: it keeps its domain.
        again, rest = _split_domain(short)
        whole = again == DEFAULT_DOMAIN and rest == short and not (len(short) == 64 and _HEX.issuperset(short))
        return short if whole else self.name()

    def familiar(self) -> str:
        """Return the whole reference as docker shows it: `python:3.13`."""
        return self.familiar_name() + self._suffix()

    def with_digest(self, digest: Digest) -> "Reference":
        """Return the same repository at `digest`, without the tag."""
        return Reference(self.domain, self.path, None, digest)

    def __str__(self) -> str:
        """Print all of it: `docker.io/library/python:3.13`."""
        return self.name() + self._suffix()

    def __repr__(self) -> str:
        """Print as for a person who debugs."""
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Compare as texts."""
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        """Hash the text."""
        return hash(str(self))

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _split_tag(name: str, text: str) -> tuple[str, str | None]:
    """Part the tag: what follows a colon that no slash follows."""
    colon = name.rfind(":")
    if colon < 0 or "/" in name[colon:]:
        return name, None
    tag = name[colon + 1 :]
    if not tag or len(tag) > _MAX_TAG or tag[0] not in _WORD or not (_WORD | _SEPARATORS).issuperset(tag):
        raise InvalidArgument(f"`{tag[:160]}` in `{_shown(text)}` is not a tag", hints=(_TAG_HINT,))
    return name[:colon], tag


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = "." in first or ":" in first or first == "localhost" or first.lower() != first
    if not slash or not is_domain:
        return DEFAULT_DOMAIN, name
    return (DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first), rest


def _check_domain(domain: str, text: str) -> None:
    host, port = domain, None
    if domain.startswith("["):
        host, bracket, rest = domain[1:].partition("]")
        is_right = bool(bracket) and bool(host) and (_HEX | frozenset("ABCDEF:")).issuperset(host)
        port = rest[1:] if rest.startswith(":") else None
        is_right = is_right and (rest == "" or port is not None)
    else:
        host, colon, after = domain.partition(":")
        port = after if colon else None
        is_right = all(_is_domain_component(component) for component in host.split("."))
    if not is_right or (port is not None and not (port and _DIGITS.issuperset(port))):
        raise InvalidArgument(
            f"`{domain[:160]}` in `{_shown(text)}` is not a registry",
            hints=("a registry is a host with an optional port, as in `registry.example.org:5000/app`",),
        )


def _is_domain_component(text: str) -> bool:
    inside = _ALPHANUMERIC | {"-"}
    return bool(text) and inside.issuperset(text) and text[0] != "-" and text[-1] != "-"


def _check_path(path: str, text: str) -> None:
    if path.lower() != path:
        lower = text.replace(path, path.lower(), 1)
        raise InvalidArgument(
            f"the image name in `{_shown(text)}` has upper-case letters", hints=(f"write `{_shown(lower)}`",)
        )
    if len(path) > _MAX_PATH:
        raise _invalid(text, f"has a name longer than {_MAX_PATH} characters")
    if not all(_is_part(part) for part in path.split("/")):
        raise _invalid(text, "is not a name of an image")


def _is_part(text: str) -> bool:
    """Tell whether `text` is runs of letters and digits with one separator between each two."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for character in text:
        if character in _LOWER:
            if separator not in {"", ".", "_", "__"} and separator.strip("-"):
                return False
            separator = ""
        elif character in _SEPARATORS:
            separator += character
        else:
            return False
    return True


def _invalid(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"`{_shown(text)}` {why}", hints=(_NAME_HINT,))


def _shown(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "..."
