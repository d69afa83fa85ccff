"""The files of /etc that a container gets at each start: hosts, hostname, resolv.conf. Hot path."""

import os

from sampan.network import record
from sampan.settings import resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
FILE_BYTES = 64 * 1024


def write(directory: str, files: "Mapping[str, bytes]", owner: int = 0) -> None:
    """Write what `files` returned in `directory`; `owner` is who the container's root is on disk.

    Not synced: they are made again by every start.
    """
    for name, content in files.items():
        path = f"{directory}/{name}"
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.write(fd, content)
            if owner:
                os.fchown(fd, owner, owner)
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)


def files(
    *,
    hostname: str,
    domainname: str = "",
    addresses: "Iterable[str]",
    gateway: str,
    is_host_network: bool,
    add_host: "Iterable[str]" = (),
    dns: "Iterable[str]" = (),
    dns_search: "Iterable[str]" = (),
    dns_option: "Iterable[str]" = (),
    has_resolver: bool = False,
    links: "Iterable[tuple[str, tuple[str, ...]]]" = (),
) -> "dict[str, bytes]":
    """Return the three files by name."""
    base = _read("/etc/hosts") if is_host_network else HOSTS
    lines = [base.rstrip("\n") + "\n"]
    for word in add_host:
        name, _, where = word.partition(":")
        lines.append(f"{gateway if where == 'host-gateway' and gateway else where}\t{name}\n")
    lines += [f"{address}\t{' '.join(names)}\n" for address, names in links]
    called = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines += [f"{address}\t{called}\n" for address in addresses]
    texts = {
        "hosts": "".join(lines),
        "hostname": hostname + "\n",
        "resolv.conf": resolv_conf(
            (record.RESOLVER,) if has_resolver else tuple(dns),
            tuple(dns_search),
            # docker: the resolver is asked for every name as it stands first, `web` too.
            (*dns_option, *(("ndots:0",) if has_resolver else ())),
            is_host_network=is_host_network,
        ),
    }
    return {name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()}


def resolv_conf(
    dns: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...] = (), *, is_host_network: bool
) -> str:
    """Return the container's resolv.conf: the machine's without resolvers on loopback, which is another there.

    Where only loopback resolvers stand, systemd-resolved's list of the real ones is taken (docker does the same).
    """
    lines = resolver.read(resolver.FILES[0])
    if not is_host_network and not any(resolver.server_of(line) for line in lines):
        lines = resolver.read(resolver.FILES[1]) or lines
    kept = []
    for line in lines:
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        is_replaced = (words[0] == "nameserver" and dns) or (words[0] in {"search", "domain"} and search)
        if words[0] == "options" and options:
            given = {word.partition(":")[0] for word in options}
            options = (*(word for word in words[1:] if word.partition(":")[0] not in given), *options)
            continue
        is_loopback = words[0] == "nameserver" and not is_host_network and resolver.server_of(line) is None
        if not is_replaced and not is_loopback:
            kept.append(line)
    kept += [f"nameserver {server}" for server in dns]
    if search:
        kept.append("search " + " ".join(search))
    if options:
        kept.append("options " + " ".join(options))
    return "".join(line + "\n" for line in kept)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(FILE_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
