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
    from collections.abc import Callable, Iterable, Mapping

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


def parse_device(text: str) -> tuple[str, str, str]:
    """Parse a `--device` word: `/dev/fuse`, `/dev/sda:/dev/xvda`, `/dev/sda:r`, `/dev/sda:/dev/xvda:rwm`."""
    source, *rest = text.split(":")
    access = rest.pop() if rest and _is_access(rest[-1]) else "rwm"
    inside = rest.pop(0) if rest else source
    if "=" in source and not source.startswith("/"):
        raise Unsupported(
            f"the device `{text}` is one of CDI's names, which are not there",
            hints=("name the device's path: `--device /dev/dri/card0`",),
        )
    if rest or not source.startswith("/") or not inside.startswith("/"):
        raise InvalidArgument(f"`{text}` is no device", hints=("write it like `/dev/here:/dev/inside:rwm`",))
    return os.path.normpath(source), os.path.normpath(inside), access


def _is_access(word: str) -> bool:
    return bool(word) and len(set(word)) == len(word) and not word.strip("rwm")


def check_device_rule(text: str) -> str:
    """Return `text` if it is a `--device-cgroup-rule`: `c 1:3 rwm`, `b 8:* r`, `a *:* rwm`."""
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    is_number = all(word == "*" or (word.isascii() and word.isdigit() and len(word) < 9) for word in (major, minor))
    if kind not in {"a", "b", "c"} or not colon or not is_number or not _is_access(access):
        raise InvalidArgument(f"`{text}` is no device rule", hints=("write it like `c 10:229 rwm` or `b 8:* r`",))
    return text


def check_cpuset(text: str) -> str:
    """Return `text` if it is a list of processors or memory nodes: `0-3`, `0,2`."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not all(word.isascii() and word.isdigit() and len(word) < 6 for word in (first, last if dash else "0")):
            raise InvalidArgument(f"`{text}` is no list of numbers", hints=("write it like `0-2` or `0,3`",))
        if dash and int(last) < int(first):
            raise InvalidArgument(f"`{part}` in `{text}` ends before it begins")
    return text


def parse_device_weight(text: str) -> tuple[str, int]:
    """Parse a `--blkio-weight-device` word: `/dev/sda:200`."""
    return _device_number(text, "`/dev/sda:200`", int)


def parse_device_bytes(text: str) -> tuple[str, int]:
    """Parse a `--device-read-bps` word: `/dev/sda:1mb`."""
    from sampan.units import parse_size  # only with such a limit

    return _device_number(text, "`/dev/sda:1mb`", parse_size)


def parse_device_operations(text: str) -> tuple[str, int]:
    """Parse a `--device-read-iops` word: `/dev/sda:1000`."""
    return _device_number(text, "`/dev/sda:1000`", int)


def _device_number(text: str, example: str, read: "Callable[[str], int]") -> tuple[str, int]:
    path, _, number = text.rpartition(":")
    try:
        value = read(number)
    except (ValueError, InvalidArgument) as error:
        hints = (f"write it like {example}",)
        raise InvalidArgument(f"`{text}` has no number behind the device", hints=hints) from error
    if not path.startswith("/dev/") or value < 0:
        raise InvalidArgument(f"`{text}` names no device and number", hints=(f"write it like {example}",))
    return path, value


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


def read_labels(files: "Iterable[str]") -> dict[str, str]:
    """Return the labels of the `--label-file` files."""
    return dict(parse_pair(line) for file in files for line in _environment_file(file, "label"))


def _environment_file(path: str, kind: str = "environment") -> list[str]:
    """Read an `--env-file`: a `KEY=value` or `KEY` a line, `#` comments, nothing quoted (docker run(1)).

    `kind` is what errors call it: a `--label-file` is read alike.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(ENVIRONMENT_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"the {kind} file `{path}` does not exist") from error
    if len(content) > ENVIRONMENT_FILE_BYTES:
        raise InvalidArgument(f"the {kind} file `{path}` is larger than {ENVIRONMENT_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the {kind} file `{path}` is not UTF-8") from error
    result = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        key = line.partition("=")[0]
        if not key or " " in key or "\t" in key:
            what = "environment variable" if kind == "environment" else kind
            raise InvalidArgument(f"this is no {what}", at=Place(path, number, raw[:200]))
        result.append(line)
    return result
