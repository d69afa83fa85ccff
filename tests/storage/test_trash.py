"""The trash: renamed in an instant, removed whatever its shape, by any number of processes."""

import os
from pathlib import Path

import pytest

from sampan.storage import trash

pytestmark = [pytest.mark.first]


def test_what_is_discarded_is_gone_at_once_and_removed_later(tmp_path: Path) -> None:
    """Equal names do not meet, and a second removal of the same thing says that it was not there."""
    root = str(tmp_path)
    for _ in range(3):
        (tmp_path / "d" / "e").mkdir(parents=True)
        (tmp_path / "d" / "e" / "f").write_text("x")
        assert trash.discard(root, f"{root}/d")
        assert not (tmp_path / "d").exists()
    assert not trash.discard(root, f"{root}/d")
    assert len(os.listdir(tmp_path / "trash")) == 3
    trash.empty(root)
    assert os.listdir(tmp_path / "trash") == []


def test_a_tree_deeper_than_our_stack_is_removed(tmp_path: Path) -> None:
    """A container may nest directories deeper than a path can name, or descriptors last."""
    os.mkdir(tmp_path / "deep")
    fd = os.open(tmp_path / "deep", os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    trash.discard(str(tmp_path), str(tmp_path / "deep"))
    trash.empty(str(tmp_path))
    assert os.listdir(tmp_path / "trash") == []


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    """What a link in the trash points to stays."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    trash.discard(str(tmp_path), str(tmp_path / "tree"))
    trash.empty(str(tmp_path))
    assert (tmp_path / "outside" / "file").read_text() == "x"


def test_no_trash_is_an_empty_trash(tmp_path: Path) -> None:
    """A store in which nothing was ever removed is fine."""
    trash.empty(str(tmp_path))
