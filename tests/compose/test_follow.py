"""Following a container's output: nothing falls between the first look and the monitor's first word."""

import socket
import time

import pytest

from sampan.engine import frame, record, state
from sampan.settings.configuration import Settings
from tests.compose.conftest import Shop

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]


def test_a_follower_is_told_of_what_came_before_it_was_known(shop: Shop, settings: Settings) -> None:
    """A line that was written after the connection and before HELLO is told when HELLO comes."""
    script = "until test -e /tmp/go; do sleep 0.05; done; echo line; exec sleep 100"
    shop.sampan("run", "-d", "--name", "web", "--network", "none", "busybox", "sh", "-c", script)
    id = record.find(settings, "web").id
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(10)
        channel.connect(state.socket_path(settings, id))
        shop.sampan("exec", "web", "touch", "/tmp/go")
        deadline = time.monotonic() + 10
        while shop.sampan("logs", "web").stdout != "line\n" and time.monotonic() < deadline:
            time.sleep(0.05)
        channel.sendall(frame.pack(frame.HELLO, frame.FOLLOW))
        assert channel.recv(100) == frame.pack(frame.TICK)
