"""Published ports: the syntax of `-p`, and the sockets that hold a port against other programs. Hot path.

Theory: address translation alone does not take a port, so the monitor binds each published one for as long as its
container lives. The socket is bound before anything is translated, so that a port in use is an error before the
container runs, and listens only after: until then a client is refused and does not hang in a queue that nobody
empties. With translation no packet reaches the socket; without it (`forward`) it is the socket that is served.
"""

import _socket
import errno
import os

from sampan.errors import AlreadyExists, InvalidArgument
from sampan.network.endpoint import ANY, PROTOCOLS, PortMapping, pack

_HIGHEST = 65535
_MOST = 1024  # published ports of one container
_BACKLOG = 128
_LISTEN = "0A"
_SYNTAX = "write it like `8000:5000`, `127.0.0.1:8000:5000`, `8000-8010:5000-5010/udp` or `5000`"


class Held:
    """Mappings, each with the socket that holds its host port; no `host_port` is 0 here."""

    __slots__ = ("mappings", "sockets")

    def __init__(self, mappings: tuple[PortMapping, ...], sockets: tuple[_socket.socket, ...]) -> None:
        self.mappings = mappings
        self.sockets = sockets

    def listen(self) -> None:
        """Take the ports from those too that bind with SO_REUSEADDR; raises AlreadyExists where one of them did."""
        for mapping, socket in zip(self.mappings, self.sockets, strict=True):
            if mapping.protocol == "tcp":
                try:
                    socket.listen(_BACKLOG)
                except OSError as error:
                    raise _explained(mapping, error) from error

    def close(self) -> None:
        """Let the ports go. Idempotent."""
        for socket in self.sockets:
            socket.close()


def parse(text: str) -> tuple[PortMapping, ...]:
    """Return the mappings that docker's `-p` means: `[[IP:][HOST_PORT]:]CONTAINER_PORT[/PROTOCOL]`, ranges too.

    Raises InvalidArgument. A mapping without a host port, or with 0, has 0: any that is free. A range of host ports for
    one of the container is one mapping: the first that is free.
    """
    ports, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(
            f"`{text}`: the protocol `{protocol}` cannot be published", hints=("there are `tcp` and `udp`",)
        )
    if ports.startswith("["):
        raise InvalidArgument(f"`{text}`: an IPv6 address cannot be published on", hints=("write an IPv4 address",))
    *front, container = ports.split(":")
    if len(front) > 2:
        raise InvalidArgument(f"`{text}` is not a published port", hints=(_SYNTAX,))
    host_ip = front[0] if len(front) == 2 and front[0] else ANY
    pack(host_ip)
    inner = _range(container, text)
    outer = _range(front[-1], text) if front and front[-1] not in ("", "0") else None
    if outer is None:
        return tuple(PortMapping(port, host_ip=host_ip, protocol=protocol) for port in inner)
    if len(inner) == 1:
        mapping = PortMapping(inner[0], host_port=outer[0], host_last=outer[-1], host_ip=host_ip, protocol=protocol)
        return (mapping,)
    if len(outer) != len(inner):
        raise InvalidArgument(f"`{text}`: the two ranges have {len(outer)} and {len(inner)} ports", hints=(_SYNTAX,))
    return tuple(
        PortMapping(port, host_port=host_port, host_ip=host_ip, protocol=protocol)
        for host_port, port in zip(outer, inner, strict=True)
    )


def hold(mappings: tuple[PortMapping, ...]) -> Held:
    """Bind every mapping's port, all or none; raises AlreadyExists for one in use, naming who has it if /proc tells."""
    if len(mappings) > _MOST:
        raise InvalidArgument(f"{len(mappings)} published ports are more than the {_MOST} that a container may have")
    sockets: list[_socket.socket] = []
    try:
        bound = tuple(_bind(mapping, sockets) for mapping in mappings)
    except BaseException:
        for socket in sockets:
            socket.close()
        raise
    return Held(bound, tuple(sockets))


def _bind(mapping: PortMapping, sockets: list[_socket.socket]) -> PortMapping:
    """Bind one port, put its socket to `sockets`, and return the mapping with the number that it got."""
    for number in range(mapping.host_port, mapping.host_last + 1):
        socket = _new_socket(mapping.protocol)
        sockets.append(socket)
        try:
            socket.bind((mapping.host_ip, number))
            if mapping.protocol == "tcp" and mapping.host_port != mapping.host_last:
                # Where there is a choice it is made for good: bound alone, two containers could both choose this one.
                socket.listen(_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number == mapping.host_last:
                raise _explained(mapping, error) from error
            sockets.pop().close()
        else:
            return mapping.at(socket.getsockname()[1])
    raise InvalidArgument(f"`{mapping}` has no host port")


def _new_socket(protocol: str) -> _socket.socket:
    kind = _socket.SOCK_STREAM if protocol == "tcp" else _socket.SOCK_DGRAM
    socket = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    if protocol == "tcp":
        # Else the closing connections of a program that ended a minute ago would keep us out.
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    return socket


def _explained(mapping: PortMapping, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        if mapping.host_port != mapping.host_last:
            return AlreadyExists(
                f"the ports {mapping.host_port} to {mapping.host_last} are all in use",
                hints=(f"publish any that is free: `-p {mapping.container_port}`",),
            )
        owner = _owner(mapping)
        by = f" by {owner}" if owner else ""
        other = f"-p {mapping.host_port + 1 if mapping.host_port < _HIGHEST else 8000}:{mapping.container_port}"
        return AlreadyExists(f"port {mapping.host_port} is in use{by}", hints=(f"publish another one: `{other}`",))
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidArgument(f"this machine does not have the address `{mapping.host_ip}`")
    if error.errno in (errno.EACCES, errno.EPERM):
        return InvalidArgument(
            f"port {mapping.host_port} is below 1024, and this user may not take it",
            hints=(
                f"publish a higher one: `-p {8000 + mapping.host_port % 1000}:{mapping.container_port}`",
                f"as root: `sysctl -w net.ipv4.ip_unprivileged_port_start={mapping.host_port}`",
            ),
        )
    return error


def _owner(mapping: PortMapping) -> str | None:
    """Name the process that has the port, as far as this user may see it: on the way to an error only."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(mapping)}
    for pid in filter(str.isdigit, os.listdir("/proc")) if wanted else ():
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") in wanted for fd in os.listdir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    return f"`{file.read().strip()}` (pid {pid})"
        except OSError:
            continue
    return None


def _inodes(mapping: PortMapping) -> set[str]:
    """Return the sockets on a port: those that listen, else all. proc_net_tcp: 1 local address, 3 state, 9 inode."""
    rows = []
    for name in (mapping.protocol, f"{mapping.protocol}6"):  # one on [::] has the IPv4 port as well
        try:
            with open(f"/proc/net/{name}", encoding="utf-8") as file:
                rows += [line.split() for line in file][1:]
        except OSError:
            continue
    rows = [row for row in rows if int(row[1].rpartition(":")[2], 16) == mapping.host_port]
    return {row[9] for row in rows if row[3] == _LISTEN} or {row[9] for row in rows}


def _range(text: str, whole: str) -> range:
    first, dash, last = text.partition("-")
    numbers = (first, last) if dash else (first, first)
    if not all(number.isascii() and number.isdigit() and 1 <= int(number) <= _HIGHEST for number in numbers):
        raise InvalidArgument(f"`{whole}`: `{text}` is not a port", hints=(_SYNTAX,))
    if int(numbers[0]) > int(numbers[1]) or int(numbers[1]) - int(numbers[0]) >= _MOST:
        raise InvalidArgument(f"`{whole}`: the range `{text}` is empty or longer than {_MOST} ports", hints=(_SYNTAX,))
    return range(int(numbers[0]), int(numbers[1]) + 1)
