"""syncfs: it says yes on a file system, and names the path where there is none."""

from pathlib import Path

import pytest

from sampan.kernel.sync import syncfs

pytestmark = [pytest.mark.first]


def test_a_file_system_is_synced(tmp_path: Path) -> None:
    """A directory stands for its file system."""
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    syncfs(str(tmp_path))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """The error has errno and path."""
    with pytest.raises(FileNotFoundError) as caught:
        syncfs(f"{tmp_path}/absent")
    assert caught.value.filename == f"{tmp_path}/absent"
