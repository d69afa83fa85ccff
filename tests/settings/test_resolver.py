"""Name servers: those that others can reach too, from any file, and no error where there is none."""

from pathlib import Path

import pytest

from sampan.settings import resolver

pytestmark = [pytest.mark.first]


@pytest.mark.parametrize(
    ("line", "server"),
    [
        ("nameserver 10.0.2.3", "10.0.2.3"),
        ("nameserver\t2001:db8::1 ", "2001:db8::1"),
        ("nameserver 127.0.0.53", None),
        ("nameserver ::1", None),
        ("nameserver", None),
        ("# nameserver 10.0.2.3", None),
        ("search example.org", None),
        ("", None),
    ],
)
def test_a_line_names_a_server_that_others_can_reach(line: str, server: str | None) -> None:
    """A stub on loopback is another one in a container, so it does not count."""
    assert resolver.server_of(line) == server


def test_a_file_is_read_to_a_bound_and_may_be_missing(tmp_path: Path) -> None:
    """An endless resolv.conf is cut, and one that is not there has no lines."""
    endless = tmp_path / "resolv.conf"
    endless.write_bytes(b"nameserver 10.0.2.3\n" + b"#" * (1 << 20))
    assert resolver.read(str(endless))[0] == "nameserver 10.0.2.3"
    assert sum(map(len, resolver.read(str(endless)))) <= 64 * 1024
    assert resolver.read(str(tmp_path / "nothing")) == []
