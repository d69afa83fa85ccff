"""The words that options are written in, read: names, networks, signals, limits, environments. Hot path.

Each function turns one word of the command line (or of a compose file) into its value, and raises InvalidArgument.
What `-v` and `--mount` say is read by `mount_words`.
"""

import _signal
import os

from sampan.engine.run_options import NetworkRequest, RestartPolicy, Ulimit
from sampan.errors import InvalidArgument, NotFound, Place, Unsupported
from sampan.network.endpoint import BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Docker's own bounds are the kernel's; ours keep a hostile file from filling memory.
ENVIRONMENT_FILE_BYTES = 1 << 20
# resource.h of the kernel, in docker's lower-case words.
ULIMITS = (
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
).split()  # fmt: skip
RESTARTS = ("no", "on-failure", "always", "unless-stopped")
_NAME_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_REST = _NAME_FIRST + "_.-"


def check_name(name: str) -> str:
    """Return `name` if a container or volume may be called that (docker: [a-zA-Z0-9][a-zA-Z0-9_.-]+)."""
    if len(name) < 2 or len(name) > 128 or name[0] not in _NAME_FIRST or any(c not in _NAME_REST for c in name):
        hint = "use 2 to 128 letters, digits, `_`, `.` and `-`, the first a letter or digit"
        path = (f"a directory of this machine is `./{name}`",) if "/" in name else ()
        raise InvalidArgument(f"`{name}` cannot be a name", hints=(*path, hint))
    return name


def check_address(text: str) -> str:
    """Return `text` if it is an IP address."""
    import _socket  # only with --dns

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
        except OSError:
            continue
        return text
    raise InvalidArgument(f"`{text}` is not an IP address", hints=("write it like `192.0.2.53` or `2001:db8::53`",))


def parse_network(text: str) -> NetworkRequest:
    """Parse a `--network` word: `front`, or `name=front,alias=web,ip=10.5.0.7,mac-address=02:42:0a:05:00:07`."""
    if "=" not in text:
        return NetworkRequest(BRIDGE if text == "default" else text)
    name, aliases, ip, mac = "", [], "", ""
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            aliases.append(value)
        elif key == "ip":
            ip = value
        elif key == "mac-address":
            mac = check_mac(value)
        elif key in {"driver-opt", "gw-priority", "ip6", "link-local-ip"}:
            raise Unsupported(f"`{key}` in the network `{text}` is not there", hints=("leave it out",))
        else:
            hint = "known: name, alias, ip, mac-address"
            raise InvalidArgument(f"`{key}` in the network `{text}` is unknown", hints=(hint,))
    return NetworkRequest(name, aliases=tuple(aliases), ip=ip, mac=mac)


def check_mac(text: str) -> str:
    """Return a hardware address with colons; raises InvalidArgument for one that no interface may have."""
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) != 6 or any(
        len(part) != 2 or any(digit not in "0123456789abcdef" for digit in part) for part in parts
    ):
        raise InvalidArgument(f"`{text}` is no hardware address", hints=("write it like `02:42:0a:05:00:07`",))
    # The kernel takes no group's address, and not that of nobody (is_valid_ether_addr).
    if int(parts[0], 16) & 1 or parts == ["00"] * 6:
        raise InvalidArgument(f"`{text}` cannot be an interface's address", hints=("the first digits must be even",))
    return ":".join(parts)


def parse_expose(text: str) -> tuple[str, ...]:
    """Parse an `--expose` word: `80`, `53/udp`, `3000-3010`; return docker's `80/tcp` for each port."""
    from sampan.network import ports  # only with --expose

    if ":" in text:
        raise InvalidArgument(f"`{text}` has a host port", hints=("publish it: `-p`",))
    return tuple(f"{mapping.container_port}/{mapping.protocol}" for mapping in ports.parse(text))


def parse_restart(text: str) -> RestartPolicy:
    """Parse a `--restart` word: `no`, `on-failure`, `on-failure:3`, `always`, `unless-stopped`."""
    name, colon, count = text.partition(":")
    is_count = count.isascii() and count.isdigit() and len(count) < 10
    if name not in RESTARTS or (colon and not (name == "on-failure" and is_count)):
        raise InvalidArgument(f"`{text}` is no restart policy", hints=(f"there are {', '.join(RESTARTS)}",))
    return RestartPolicy(name, int(count) if colon else 0)


def parse_ulimit(text: str) -> Ulimit:
    """Parse a `--ulimit` word: `nofile=1024`, `nofile=1024:2048`, `core=-1`."""
    name, _, value = text.partition("=")
    soft, _, hard = value.partition(":")
    if name not in ULIMITS:
        raise InvalidArgument(f"the ulimit `{name}` is unknown", hints=(f"known: {', '.join(ULIMITS)}",))
    try:
        limit = Ulimit(name, int(soft), int(hard or soft))
    except ValueError as error:
        raise InvalidArgument(f"`{text}` is no ulimit", hints=("write it like `nofile=1024:2048`",)) from error
    if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
        raise InvalidArgument(f"in the ulimit `{text}` the soft limit is above the hard one")
    return limit


def parse_signal(word: str) -> int:
    """Return the number of a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`."""
    name, plus, offset = word.upper().removeprefix("SIG").partition("+")
    number = int(name) if name.isascii() and name.isdigit() else getattr(_signal, f"SIG{name}", None)
    if plus and isinstance(number, int) and offset.isascii() and offset.isdigit():
        number += int(offset)
    if not isinstance(number, int) or not 0 < number < _signal.NSIG:
        raise InvalidArgument(f"`{word}` is no signal", hints=("write it like `TERM`, `SIGTERM` or `15`",))
    return number


def parse_pair(text: str) -> tuple[str, str]:
    """Parse a `--label` or `--sysctl` word, `key=value`; the value may be missing."""
    key, _, value = text.partition("=")
    if not key:
        raise InvalidArgument(f"`{text}` has no key", hints=("write it like `key=value`",))
    return key, value


def parse_security_options(words: "Iterable[str]") -> tuple[str, bool]:
    """Parse the `--security-opt` words; return the seccomp choice and whether no-new-privileges was asked for."""
    seccomp, no_new_privileges = "", False
    for word in words:
        key, _, value = word.replace(":", "=", 1).partition("=")
        if key == "seccomp" and value:
            seccomp = {"default": "", "builtin": "", "unconfined": value}.get(value, os.path.abspath(value))
        elif key == "no-new-privileges":
            no_new_privileges = value in {"", "true"}
        elif key in {"apparmor", "label"} and value in {"unconfined", "disable"}:
            continue  # neither is ever on
        else:
            raise Unsupported(
                f"the security option `{word}` is not there", hints=("there are `seccomp=…` and `no-new-privileges`",)
            )
    return seccomp, no_new_privileges


def resolve_environment(
    words: "Iterable[str]", files: "Iterable[str]", environment: "Mapping[str, str]"
) -> tuple[str, ...]:
    """Return `KEY=value` for the `--env-file` files, then the `-e` words; a bare `KEY` is the caller's, or nothing."""
    lines = [line for file in files for line in _environment_file(file)]
    result: dict[str, str] = {}
    for word in [*lines, *words]:
        key, equals, value = word.partition("=")
        if not key:
            raise InvalidArgument(f"the environment variable `{word}` has no name")
        if equals:
            result[key] = value
        elif key in environment:
            result[key] = environment[key]
        else:
            result.pop(key, None)
    return tuple(f"{key}={value}" for key, value in result.items())


def _environment_file(path: str) -> list[str]:
    """Read an `--env-file`: a `KEY=value` or `KEY` a line, `#` comments, nothing quoted (docker run(1))."""
    try:
        with open(path, "rb") as file:
            content = file.read(ENVIRONMENT_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"the environment file `{path}` does not exist") from error
    if len(content) > ENVIRONMENT_FILE_BYTES:
        raise InvalidArgument(f"the environment file `{path}` is larger than {ENVIRONMENT_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the environment file `{path}` is not UTF-8") from error
    result = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        key = line.partition("=")[0]
        if not key or " " in key or "\t" in key:
            raise InvalidArgument("this is no environment variable", at=Place(path, number, raw[:200]))
        result.append(line)
    return result
