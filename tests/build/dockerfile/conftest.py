"""The kitchen of each test: a store that has `busybox`, and an empty context."""

import os

import pytest

from tests.build.dockerfile.kitchen import Kitchen


@pytest.fixture
def kitchen(place: str, environment: dict[str, str], busybox_tar: str) -> Kitchen:
    """Return a store with a busybox base, and a context."""
    found = Kitchen(place, environment)
    os.mkdir(found.context)
    found.bring(busybox_tar, "busybox", "ENV PATH=/bin", 'CMD ["sh"]')
    return found
