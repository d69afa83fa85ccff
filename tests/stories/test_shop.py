"""examples/shop as it stands: Flask behind Nginx, MySQL in a volume, Redis as cache, started in the right order."""

import json
import re
import shutil
import time
import urllib.request
from pathlib import Path

import pytest

from tests.plugin.ground import PROJECT, Command

pytestmark = [
    pytest.mark.bulk, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
    pytest.mark.network,
]  # fmt: skip

SECONDS = 600
URL = "http://127.0.0.1:8080"


def _page() -> str:
    """Fetch the shop's page, once the proxy listens."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while True:
        try:
            with opener.open(URL, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _visit() -> tuple[int, str]:
    """Return the number of this visit, and where the goods came from."""
    page = _page()
    found = re.search(r"Visit (\d+).*Goods from (\w+)", page)
    assert found, page
    return int(found[1]), found[2]


def test_the_shop(shared: Command, tmp_path: Path) -> None:
    """Visits are counted in MySQL over `down` and `up`, goods are kept in Redis; `down -v` forgets."""
    shop = tmp_path / "shop"
    shutil.copytree(PROJECT / "examples/shop", shop)
    shared("bootstrap", "nginx", "redis", "mysql:8.0", check=True, timeout=SECONDS)

    def compose(*words: str) -> str:
        return shared("compose", *words, cwd=shop, check=True, timeout=SECONDS).stdout

    compose("up", "-d")
    assert _visit() == (1, "MySQL")
    assert _visit() == (2, "Redis")
    rows = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    health = {row["Service"]: row["Health"] for row in rows}
    assert health == {"proxy": "", "web": "healthy", "db": "healthy", "cache": "healthy"}
    compose("down")
    compose("up", "-d")
    assert _visit() == (3, "MySQL")
    compose("down", "-v")
    compose("up", "-d")
    assert _visit()[0] == 1
    compose("down", "-v")
    # The cache's anonymous volume, which a `down` without -v leaves, as docker's does.
    shared("volume", "prune", "--force", check=True)
