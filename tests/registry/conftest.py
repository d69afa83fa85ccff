"""What this room's tests stand on: servers that answer as they are told."""

from collections.abc import Iterator

import pytest

from tests.registry.hostile import Hostile, serving


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    """Yield a server of the test's own."""
    with serving() as found:
        yield found


@pytest.fixture
def other() -> Iterator[Hostile]:
    """Yield one more, of another origin."""
    with serving() as found:
        yield found
