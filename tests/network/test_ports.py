"""`-p`: docker's syntax, and ports that are really taken."""

import socket

import pytest

from sampan.errors import AlreadyExists, InvalidArgument
from sampan.network import ports
from sampan.network.endpoint import PortMapping

pytestmark = [pytest.mark.first]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("8000:5000", ["0.0.0.0:8000->5000/tcp"]),
        ("127.0.0.1:8000:5000", ["127.0.0.1:8000->5000/tcp"]),
        ("8000:5000/udp", ["0.0.0.0:8000->5000/udp"]),
        ("53:53/UDP", ["0.0.0.0:53->53/udp"]),
        ("5000", ["0.0.0.0:0->5000/tcp"]),
        ("127.0.0.1::5000", ["127.0.0.1:0->5000/tcp"]),
        (":5000", ["0.0.0.0:0->5000/tcp"]),
        ("8000-8001:5000-5001", ["0.0.0.0:8000->5000/tcp", "0.0.0.0:8001->5001/tcp"]),
        ("5000-5001", ["0.0.0.0:0->5000/tcp", "0.0.0.0:0->5001/tcp"]),
        ("0:5000", ["0.0.0.0:0->5000/tcp"]),
        ("8000-8010:80/udp", ["0.0.0.0:8000-8010->80/udp"]),
        ("8000-8000:80", ["0.0.0.0:8000->80/tcp"]),
    ],
)
def test_docker_s_syntax(text: str, printed: list[str]) -> None:
    """Each form of `-p` means what it means there, and a mapping is read back from its record."""
    mappings = ports.parse(text)
    assert [str(mapping) for mapping in mappings] == printed
    assert [str(PortMapping.parse(mapping.document())) for mapping in mappings] == printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "80:0",
        "65536:80",
        "1:2:3:4",
        "300.1.1.1:1:2",
        "80/sctp",
        "1-3:1-2",
        "9-1",
        "1-9999",
        "-1:80",
    ],
)
def test_what_is_no_port_is_refused(text: str) -> None:
    """A wrong `-p` is one error that shows the right form."""
    with pytest.raises(InvalidArgument) as caught:
        ports.parse(text)
    assert text in caught.value.what or "IPv4" in caught.value.what


def test_a_held_port_is_in_use_for_everybody_else() -> None:
    """While a container has a port nobody binds it, not with SO_REUSEADDR either; then it is free again."""
    held = ports.hold((PortMapping(5000, host_ip="127.0.0.1"),))
    number = held.mappings[0].host_port
    assert number > 0
    held.listen()
    for reuse in (0, 1):
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", number))
    with pytest.raises(AlreadyExists, match=f"port {number} is in use by `.*` \\(pid"):
        ports.hold((PortMapping(5000, host_ip="127.0.0.1", host_port=number),))
    held.close()
    held.close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", number))


def test_of_a_range_the_first_free_port_is_taken() -> None:
    """`-p 8000-8010:80` takes what is free, for two containers too; a range that is full says so."""
    first = _two_free_ports()
    wanted = (PortMapping(80, host_ip="127.0.0.1", host_port=first, host_last=first + 1),)
    held = [ports.hold(wanted), ports.hold(wanted)]
    try:
        assert [each.mappings[0].host_port for each in held] == [first, first + 1]
        with pytest.raises(AlreadyExists, match=f"the ports {first} to {first + 1} are all in use"):
            ports.hold(wanted)
    finally:
        for each in held:
            each.close()


def _two_free_ports() -> int:
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            try:
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
            except (OSError, OverflowError):
                continue
            return int(one.getsockname()[1])


def test_a_program_that_listens_on_ipv6_too_is_named() -> None:
    """A server on [::] has the IPv4 port as well."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with pytest.raises(AlreadyExists, match=f"port {port} is in use by `.*` \\(pid"):
            ports.hold((PortMapping(80, host_port=port),))


def test_two_that_bound_at_once_do_not_both_listen() -> None:
    """Of two containers that are started together with one port the second one is told."""
    first = ports.hold((PortMapping(80, host_ip="127.0.0.1"),))
    second = ports.hold((PortMapping(80, host_ip="127.0.0.1", host_port=first.mappings[0].host_port),))
    try:
        first.listen()
        with pytest.raises(AlreadyExists, match="is in use"):
            second.listen()
    finally:
        first.close()
        second.close()


def test_a_client_is_refused_until_the_port_is_listened_on() -> None:
    """Between holding and publishing nobody hangs in a queue."""
    held = ports.hold((PortMapping(5000, host_ip="127.0.0.1"),))
    try:
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", held.mappings[0].host_port))
    finally:
        held.close()


def test_all_ports_or_none() -> None:
    """One port in use lets the others of the same container go."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]
        wanted = (
            PortMapping(1, host_ip="127.0.0.1", host_port=free),
            PortMapping(2, host_ip="127.0.0.1", host_port=taken.getsockname()[1]),
        )
        with pytest.raises(AlreadyExists) as caught:
            ports.hold(wanted)
        assert caught.value.hints
    with socket.socket() as again:
        again.bind(("127.0.0.1", free))


def test_an_address_that_this_machine_has_not() -> None:
    """A host address of somebody else is named."""
    with pytest.raises(InvalidArgument, match=r"`192\.0\.2\.77`"):
        ports.hold((PortMapping(80, host_ip="192.0.2.77"),))
