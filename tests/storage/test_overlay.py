"""The paths of a container's root."""

import os
from pathlib import Path

import pytest

from sampan.storage.overlay import root_source

pytestmark = [pytest.mark.first, pytest.mark.root]


def test_upper_is_the_root_directory_that_the_image_has(tmp_path: Path) -> None:
    """Mode and owner come from the topmost layer; a second call changes nothing."""
    lower, container = tmp_path / "1", tmp_path / "c"
    lower.mkdir()
    container.mkdir()
    os.chown(lower, 5, 6)
    os.chmod(lower, 0o751)  # noqa: S103  an image's own mode
    paths = root_source([str(lower)], str(container))
    assert (paths.lowers, paths.upper, paths.work) == ((str(lower),), f"{container}/upper", f"{container}/work")
    found = os.stat(paths.upper)
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o751, 5, 6)
    assert os.stat(paths.work).st_uid == 5
    os.chmod(paths.upper, 0o700)
    root_source([str(lower)], str(container))
    assert os.stat(paths.upper).st_mode & 0o7777 == 0o700
