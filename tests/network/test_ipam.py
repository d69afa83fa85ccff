"""Addresses: never leased twice, given back with their container."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sampan.database import connection
from sampan.errors import Exhausted, InvalidArgument
from sampan.network import ipam
from sampan.network.endpoint import Endpoint, mac_of, pack, unpack
from sampan.settings import resolver
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


def test_the_default_network_is_chosen_once(settings: Settings) -> None:
    """Its subnet overlaps no route of this machine, and the next command finds the same."""
    with connection.open(settings) as database, database.transaction():
        network = ipam.default_network(database)
        assert network.gateway == network.subnet[:-1] + "1"
        assert ipam.default_network(database).document() == network.document()
        assert network.interface != ipam.INTERFACE  # another SAMPAN_ROOT has another bridge


def test_two_sampans_do_not_choose_the_same_subnet(settings: Settings, place: str) -> None:
    """Not even before the first one's bridge stands."""
    chosen = set()
    for name in ("one", "two", "three"):
        other = Settings(dict(settings.environment) | {"SAMPAN_ROOT": f"{place}/{name}"}, settings.uid)
        with connection.open(other) as database, database.transaction():
            chosen.add(ipam.default_network(database).subnet)
    assert len(chosen) > 1


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_an_address_is_never_leased_twice(settings: Settings, steps: list[tuple[bool, int]]) -> None:
    """After any sequence of leases and releases the addresses in use differ, and a lease is kept while it lasts."""
    network = ipam.Network("law", "x", "10.9.0.0", 29)
    held: dict[str, str] = {}
    with connection.open(settings) as database, database.transaction():
        for is_lease, number in steps:
            name = f"c{number}"
            if is_lease and (len(held) < 5 or name in held):
                address = ipam.lease(database, network, name)
                assert held.setdefault(name, address) == address
            elif not is_lease:
                ipam.release(database, name)
                held.pop(name, None)
            assert len(set(held.values())) == len(held)
        for name in held:
            ipam.release(database, name)


def test_no_network_hides_a_name_server() -> None:
    """Whichever candidate a SAMPAN_ROOT begins at, its subnet holds no name server of this machine, nor one given."""
    servers = [pack(server) for server in resolver.name_servers() if ":" not in server]
    for number in range(300):
        interface = ipam.interface_of(f"/root-{number}")
        subnet = ipam.free_subnet(interface, ipam.taken([]))
        assert not [server for server in servers if server[:2] == pack(subnet)[:2]]
        # Control: this one would have been chosen, had its name server not been there.
        assert ipam.free_subnet(interface, [(pack(subnet)[:2] + b"\0\x35", 32)]) != subnet


def test_a_full_network_says_so(settings: Settings) -> None:
    """The last address is followed by one clear error."""
    network = ipam.Network("small", "x", "10.9.0.0", 30)
    with connection.open(settings) as database, database.transaction():
        assert ipam.lease(database, network, "a") == "10.9.0.2"
        with pytest.raises(Exhausted, match="`small` has no free address"):
            ipam.lease(database, network, "b")


@given(st.binary(min_size=4, max_size=4))
def test_an_address_is_read_back(address: bytes) -> None:
    """pack(unpack(x)) == x."""
    assert pack(unpack(address)) == address


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "a.b.c.d", "1.2.3.-4", "1.2.3.٤"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Nothing but four numbers below 256."""
    with pytest.raises(InvalidArgument):
        pack(text)


def test_an_endpoint_is_read_back() -> None:
    """parse(document()) is the same endpoint; its MAC address is docker's for that address."""
    endpoint = Endpoint("a" * 64, bridge="b", address="10.1.2.3", gateway="10.1.0.1", prefix=16)
    assert Endpoint.parse(endpoint.document()).document() == endpoint.document()
    assert endpoint.mac == mac_of("10.1.2.3") == "02:42:0a:01:02:03"
    assert len(endpoint.interface) <= 15
