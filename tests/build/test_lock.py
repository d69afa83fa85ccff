"""The lock: what is pinned, and locks that people, merges and other versions left."""

import os

import pytest

from sampan.build import lock
from sampan.errors import Conflict, Corrupt

pytestmark = [pytest.mark.first]

HASH = "0" * 64
WHEEL = {"name": "flask", "version": "3.1", "file": "flask-3.1-py3-none-any.whl", "sha256": [HASH]}


def test_round_trip(place: str) -> None:
    """A part that was written is read while its inputs are the same, for its own platform only."""
    made = lock.read(place)
    made.set_part("linux/amd64", "wheels", "sha256:a", {"wheels": [WHEEL]})
    made.write()
    found = lock.read(place)
    part = found.part("linux/amd64", "wheels", "sha256:a")
    assert part is not None
    assert [wheel.name for wheel in lock.parse_wheels(part)] == ["flask"]
    assert found.part("linux/amd64", "wheels", "sha256:b") is None
    assert found.part("linux/arm64", "wheels", "sha256:a") is None
    assert os.listdir(place) == ["sampan.lock"]


def test_unchanged_lock_is_not_written(place: str) -> None:
    """A lock in which nothing changed is not touched."""
    lock.read(place).write()
    assert os.listdir(place) == []


@pytest.mark.parametrize("text", ["", "<<<<<<< HEAD\n{}", "[]", "{", '{"version": 1} x'])
def test_damaged_lock(place: str, text: str) -> None:
    """A lock with a merge conflict, or cut off, is Corrupt and says how to go on."""
    with open(f"{place}/sampan.lock", "w", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(Corrupt) as caught:
        lock.read(place)
    assert caught.value.hints


def test_other_version(place: str) -> None:
    """A lock of another version of Sampan is refused."""
    with open(f"{place}/sampan.lock", "w", encoding="utf-8") as file:
        file.write('{"version": 2}')
    with pytest.raises(Conflict, match="another version"):
        lock.read(place)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "--index-url=x"},
        {"name": "a b"},
        {"version": "1\n--hash"},
        {"sha256": ["x"]},
        {"sha256": 1},
        {"file": None},
    ],
)
def test_hostile_wheel(change: dict[str, object]) -> None:
    """What would become an option or a path of uv's is Corrupt."""
    with pytest.raises(Corrupt):
        lock.parse_wheels({"wheels": [WHEEL | change]})
