"""What an image will be, while a stage is read: config, variables, layers so far, history. Pure, hot."""

from sampan.build.dockerfile import expand
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.build.dockerfile.instruction import Instruction
    from sampan.build.graph import Vertex
    from sampan.document import Document

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ["/bin/sh", "-c"]
# Docker's: known to every RUN without an ARG, and no part of image, history or cache key.
_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXIES = (*_PROXY_NAMES, *(name.lower() for name in _PROXY_NAMES))


class Base:
    """What a FROM stands on: an image of the store, or scratch. `chain_id` names all its layers, `""` for none."""

    __slots__ = ("chain_id", "config", "name")

    def __init__(self, name: str, config: "Document", chain_id: str) -> None:
        self.name = name
        self.config = config  # image-spec config.md, whole
        self.chain_id = chain_id


SCRATCH = Base("scratch", {}, "")


class State:
    """One stage's state. `chain` are the vertices above the base, each with all below it as its inputs.

    `variables` are what `$NAME` means here, and a RUN's environment: of an ENV and an ARG the later one counts.
    """

    __slots__ = ("arguments", "author", "base", "chain", "config", "environment", "has_command", "history", "platform",
                 "variables")  # fmt: skip

    def __init__(self, base: Base) -> None:
        self.base = base
        self.config: Document = dict(base.config.get("config") or {})
        self.environment: dict[str, str] = dict(_pair(text) for text in self.config.get("Env") or ())
        if "PATH" not in self.environment:
            self.environment["PATH"] = DEFAULT_PATH
            self.config["Env"] = [f"{key}={value}" for key, value in self.environment.items()]
        if base is SCRATCH:
            self.config["WorkingDir"] = "/"
        self.variables = dict(self.environment)
        self.arguments: list[str] = []  # names of ARGs, in order, for RUN's history
        self.author: str = base.config.get("author") or ""
        self.chain: list[Vertex] = []
        self.history: list[tuple[str, Vertex | None]] = []
        self.has_command = False

    def child(self) -> "State":
        """Return the state of a stage that is built from this one."""
        other = State(self.base)
        other.config = dict(self.config)
        other.environment = dict(self.environment)
        other.variables = dict(self.variables)
        other.arguments = list(self.arguments)
        other.author = self.author
        other.chain = list(self.chain)
        other.history = list(self.history)
        return other

    @property
    def workdir(self) -> str:
        """The absolute path that relative ones begin at."""
        return self.config.get("WorkingDir") or "/"

    @property
    def user(self) -> str:
        """The USER word."""
        return self.config.get("User") or ""

    @property
    def shell(self) -> list[str]:
        """What runs a shell form."""
        return self.config.get("Shell") or DEFAULT_SHELL

    def note(self, text: str, vertex: "Vertex | None" = None) -> None:
        """Add to the history; a vertex is a layer."""
        self.history.append((text, vertex))
        if vertex is not None:
            self.chain.append(vertex)

    def expander(self, item: "Instruction", unset: "Callable[[str], object] | None" = None) -> "Callable[[str], str]":
        """Return what replaces the variables of one word of `item`."""
        variables = self.variables

        def one(text: str) -> str:
            return expand.word(text, variables, item.statement.at, escape=item.statement.escape, unset=unset)

        return one


def absolute(workdir: str, path: str) -> str:
    """Return `path` as an absolute one without `.` and `..`, which cannot lead above the root."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{workdir}/{path}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


def ports(words: list[str], item: "Instruction") -> list[str]:
    """Return `port/protocol` for each port that EXPOSE's words mean; raises InvalidArgument."""
    found = []
    for word in words:
        numbers, slash, protocol = word.partition("/")
        first, dash, last = numbers.partition("-")
        last = last if dash else first
        is_right = all(
            number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536 for number in (first, last)
        )
        protocol = protocol.lower() if slash else "tcp"
        if ":" in numbers:
            inside = numbers.rpartition(":")[2]
            hint = f"EXPOSE takes the container's port alone: `EXPOSE {inside}`; `run -p {numbers}` publishes it"
            raise item.wrong(f"`{word[:40]}` is no port", hint)
        if not is_right or protocol not in {"tcp", "udp", "sctp"} or int(first) > int(last):
            hint = "write it like `EXPOSE 5000`, `EXPOSE 53/udp` or `EXPOSE 7000-7010`"
            raise item.wrong(f"`{word[:40]}` is no port", hint)
        found += [f"{number}/{protocol}" for number in range(int(first), int(last) + 1)]
    return found


def nanoseconds(text: str, name: str, item: "Instruction") -> int:
    """Read a duration of HEALTHCHECK, as a config has it; 0 where it is not given."""
    from sampan.units import parse_duration

    try:
        seconds = parse_duration(text) if text else 0.0
    except InvalidArgument as error:
        raise item.wrong(f"`--{name}={text[:40]}` is no duration", *error.hints) from error
    if 0 < seconds < 0.001:
        raise item.wrong(f"`--{name}={text[:40]}` is less than a millisecond")
    return round(seconds * 1_000_000_000)


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value
