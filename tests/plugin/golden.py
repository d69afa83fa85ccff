"""Goldens: texts that people read or registries hash, kept as files beside the test and reviewed like prose."""

import os
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-goldens`."""
    parser.addoption("--update-goldens", action="store_true", help="write what the tests got as the new goldens")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return `check(name, text)`: fails unless `text` is what goldens/NAME beside the test file holds."""
    directory = request.path.parent / "goldens"
    update = bool(request.config.getoption("update_goldens"))

    def check(name: str, text: str) -> None:
        path = directory / name
        if update and not (path.exists() and path.read_text(encoding="utf-8") == text):
            os.makedirs(directory, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden {path}: run again with --update-goldens and read it"
        assert text == path.read_text(encoding="utf-8")

    return check
