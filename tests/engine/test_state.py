"""The state file and the lock: who lives, and what is believed."""

import json
import os

import pytest

from sampan.engine import state
from sampan.errors import Corrupt, Unsupported
from sampan.network.endpoint import Endpoint

pytestmark = [pytest.mark.first]


def test_the_lock_goes_with_the_descriptor_and_with_the_process(tmp_path: object) -> None:
    """A child that inherits it holds it on; when the child dies, it is free."""
    directory = str(tmp_path)
    assert not state.alive(directory)
    fd = state.take_lock(directory)
    assert fd is not None
    assert state.alive(directory)
    assert state.take_lock(directory) is None
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(fd)
    assert state.alive(directory)
    os.close(writing)
    os.close(reading)
    os.waitpid(pid, 0)
    assert not state.alive(directory)


def test_asking_never_takes(tmp_path: object) -> None:
    """Whoever asks whether the lock is held does not stand in the way of who takes it."""
    fd = state.take_lock(str(tmp_path))
    assert fd is not None
    os.close(fd)
    assert not any(state.alive(str(tmp_path)) for _ in range(3))
    again = state.take_lock(str(tmp_path))
    assert again is not None
    os.close(again)


def test_a_state_is_read_as_it_was_written(tmp_path: object) -> None:
    """Field by field; a container that nobody started is `created`."""
    assert state.read(str(tmp_path)).status == state.CREATED
    told = state.State(state.EXITED, exit_code=3, oom_killed=True, network={"address": "192.0.2.1"})
    state.write(str(tmp_path), told)
    assert state.read(str(tmp_path)).document() == told.document()


def test_a_state_of_version_1_is_brought_up(tmp_path: object) -> None:
    """As a monitor from before an upgrade writes it: its one network is the first of the list."""
    port = {"container_port": 80, "host_ip": "0.0.0.0", "host_port": 8000, "host_last": 8000, "protocol": "tcp"}
    place = {"container_id": "c", "bridge": "sampan0", "address": "10.1.0.2", "gateway": "10.1.0.1", "prefix": 16}
    network = place | {"kind": "bridge", "ports": [port], "mac": "m", "held": [7], "forwarder": 0, "is_connected": True}
    for told, expected in ((network, 1), ({"kind": "none"}, 0), ({}, 0)):
        content = {"version": 1, "status": "running", "network": told}
        with open(f"{tmp_path}/state.json", "w", encoding="utf-8") as file:
            json.dump(content, file)
        found = state.read(str(tmp_path)).network
        assert len(found.get("endpoints", ())) == expected
    with open(f"{tmp_path}/state.json", "w", encoding="utf-8") as file:
        json.dump({"version": 1, "network": network}, file)
    found = state.read(str(tmp_path)).network
    assert found["held"] == [7]
    assert Endpoint.parse(found["endpoints"][0]).ports[0].host_port == 8000


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", Corrupt),
        (b"{}", Corrupt),
        (b'{"version":1,"x":2}', Corrupt),
        (b'{"version":99}', Unsupported),
        (b"\xff", Corrupt),
    ],
)
def test_what_is_no_state_is_never_believed(tmp_path: object, content: bytes, error: type[Exception]) -> None:
    """Rubbish is Corrupt, a newer version is refused."""
    with open(f"{tmp_path}/state.json", "wb") as file:
        file.write(content)
    with pytest.raises(error):
        state.read(str(tmp_path))


def test_times_are_docker_s() -> None:
    """RFC 3339 in UTC with nine digits."""
    assert state.timestamp(0) == "1970-01-01T00:00:00.000000000Z"
    assert state.timestamp(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789Z"
