"""The short forms that are small languages: a port, a volume, a host, as Compose and docker run write them. Pure."""

import re
from collections.abc import Iterator

from sampan.compose.model.node import Mapping, Node, Scalar, mapping, text
from sampan.errors import InvalidArgument

_HIGHEST_PORT = 65535
_PROTOCOLS = ("tcp", "udp", "sctp")
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.%]+\]|[0-9.]*):)?(?:(?P<host>[0-9-]*):)?(?P<target>[0-9-]+)(?:/(?P<protocol>\w+))?"
)
_PORT_HINT = 'write it like `"8000:80"`, `"127.0.0.1:8000:80"` or `"80"`, in quotes'
_VOLUME_HINT = "write it like `./here:/there`, `name:/there` or `/there`, with `:ro` to protect it"


def ports(item: Node) -> Iterator[Node]:
    """Yield the long forms of one item of `ports`: a range is many."""
    if isinstance(item, Mapping):
        defaults: dict[str, Node] = {"mode": text(item, "ingress"), "protocol": text(item, "tcp")}
        yield item.with_entries(defaults | item.entries)
        return
    if not isinstance(item, Scalar) or item.value is None or isinstance(item.value, bool | float):
        raise InvalidArgument("this is no port", at=item.place, hints=(_PORT_HINT,))
    match = _PORT.fullmatch(item.text)
    if match is None or (protocol := (match["protocol"] or "tcp").lower()) not in _PROTOCOLS:
        raise InvalidArgument(f"`{item.text}` is no port", at=item.place, hints=(_PORT_HINT,))
    ip, host = match["ip"], match["host"]
    if host is None and ip is not None:
        # `8000:80`: what looked like an address is the port of the host.
        ip, host = None, ip
    targets, hosts = _range(match["target"], item), _range(host, item) if host else None
    for number, target in enumerate(targets):
        entries: dict[str, Node] = {"mode": text(item, "ingress")}
        if ip:
            entries["host_ip"] = text(item, ip.strip("[]"))
        entries["target"] = text(item, target)
        if hosts is not None:
            entries["published"] = text(item, _published(item, hosts, number, len(targets), str(host)))
        yield mapping(item, entries | {"protocol": text(item, protocol)})


def device(item: Scalar) -> Mapping:
    """Return the long form of one item of `devices`."""
    source, *rest = item.text.split(":")
    access = rest.pop() if rest and not rest[-1].strip("rwm") else "rwm"
    target = rest.pop(0) if rest else source
    if rest or not target:
        raise InvalidArgument(
            f"`{item.text}` is no device", at=item.place, hints=("write it like `/dev/here:/dev/inside:rwm`",)
        )
    entries: dict[str, Node] = {
        "source": text(item, source), "target": text(item, target), "permissions": text(item, access)
    }  # fmt: skip
    return mapping(item, entries)


def _published(item: Scalar, hosts: range, number: int, targets: int, written: str) -> str:
    """Return the host's port of the `number`th of `targets`; one target may have a range to choose from."""
    if len(hosts) == targets:
        return str(hosts[number])
    if targets == 1:
        return written
    raise InvalidArgument(
        f"the ranges in `{item.text}` are not equally long", at=item.place, hints=("give both the same length",)
    )


def _range(word: str, item: Scalar) -> range:
    """Read `80` or `80-90`."""
    first, dash, last = word.partition("-")
    try:
        low, high = int(first), int(last if dash else first)
    except ValueError as error:
        raise InvalidArgument(f"`{item.text}` is no port", at=item.place, hints=(_PORT_HINT,)) from error
    if not 1 <= low <= high <= _HIGHEST_PORT:
        raise InvalidArgument(
            f"the port in `{item.text}` is not within 1 to {_HIGHEST_PORT}", at=item.place, hints=(_PORT_HINT,)
        )
    return range(low, high + 1)


def volume(item: Node) -> Node:
    """Return the long form of one item of `volumes`."""
    if not isinstance(item, Scalar):
        return item
    if not isinstance(item.value, str):
        raise InvalidArgument("this is no volume", at=item.place, hints=(_VOLUME_HINT,))
    parts = item.value.split(":")
    if len(parts) > 3 or not all(parts) or not parts[-2 if len(parts) == 3 else -1].startswith("/"):
        raise InvalidArgument(f"`{item.value}` is no volume", at=item.place, hints=(_VOLUME_HINT,))
    if len(parts) == 1:
        return mapping(item, {"type": text(item, "volume"), "target": item, "volume": mapping(item, {})})
    is_bind = parts[0][0] in "./~"
    entries: dict[str, Node] = {
        "type": text(item, "bind" if is_bind else "volume"),
        "source": text(item, parts[0]),
        "target": text(item, parts[1]),
    }
    return mapping(item, _options(item, entries, parts[2].split(",") if len(parts) == 3 else [], is_bind=is_bind))


def _options(item: Scalar, entries: dict[str, Node], words: list[str], *, is_bind: bool) -> dict[str, Node]:
    """Read what follows the target: `ro`, `z`, a propagation, `nocopy`."""
    bind: dict[str, Node] = {"create_host_path": text(item, value=True)}
    inner: dict[str, Node] = {}
    for word in words:
        if word == "ro":
            entries["read_only"] = text(item, value=True)
        elif word in {"z", "Z"}:
            bind["selinux"] = text(item, word)
        elif word == "nocopy":
            inner["nocopy"] = text(item, value=True)
        elif word in {"rprivate", "private", "rslave", "slave", "rshared", "shared"}:
            bind["propagation"] = text(item, word)
        elif word not in {"rw", "cached", "delegated", "consistent"}:
            raise InvalidArgument(
                f"`{word}` in the volume `{item.text}` is unknown", at=item.place, hints=("`ro` makes it read-only",)
            )
    return entries | ({"bind": mapping(item, bind)} if is_bind else {"volume": mapping(item, inner)})


def host(item: Node) -> tuple[str, str]:
    """Return name and address of one item of `extra_hosts`."""
    if isinstance(item, Scalar) and isinstance(item.value, str):
        separator = "=" if "=" in item.value else ":"
        name, found, address = item.value.partition(separator)
        if name and found and address:
            return name, address.strip("[]")
    raise InvalidArgument("this is no host with its address", at=item.place, hints=("write it like `name:192.0.2.1`",))
