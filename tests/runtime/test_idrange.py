"""Ranges of host ids: never two containers on one, never somebody else's."""

from collections.abc import Iterator

import pytest

from sampan.database import connection
from sampan.database.connection import Database
from sampan.errors import Unsupported
from sampan.runtime import idrange
from sampan.settings.configuration import Settings

pytestmark = [pytest.mark.first]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield an empty database."""
    with connection.open(settings) as opened:
        yield opened


def test_no_block_is_given_twice(database: Database, tmp_path: object) -> None:
    """Every container has its own; one that was freed is given again."""
    given = [idrange.allocate(database, f"c{number}", str(tmp_path)) for number in range(5)]
    assert len(set(given)) == 5
    database.execute("DELETE FROM ranges WHERE container_id = 'c2'")
    assert idrange.allocate(database, "c9", str(tmp_path)) == given[2]


def test_what_somebody_has_is_left_alone(database: Database, tmp_path: object) -> None:
    """A block that a line of subuid or passwd touches is passed over."""
    with open(f"{tmp_path}/subuid", "w", encoding="utf-8") as file:
        file.write(f"somebody:{idrange.FIRST + 65535}:2\nbroken\n")
    with open(f"{tmp_path}/passwd", "w", encoding="utf-8") as file:
        file.write(f"high:x:{idrange.FIRST + 3 * 65536}:0::/:/\n")
    given = [idrange.allocate(database, f"c{number}", str(tmp_path)) for number in range(2)]
    assert given == [idrange.FIRST + 2 * 65536, idrange.FIRST + 4 * 65536]


def test_the_shared_block_is_refused_where_it_is_somebody_s(tmp_path: object) -> None:
    """Shifted snapshots have one place; where that is taken, this is said."""
    assert idrange.shared(str(tmp_path)) == idrange.SHARED
    with open(f"{tmp_path}/subgid", "w", encoding="utf-8") as file:
        file.write(f"somebody:{idrange.SHARED}:1\n")
    with pytest.raises(Unsupported):
        idrange.shared(str(tmp_path))
