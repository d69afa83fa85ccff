"""Detached mounts and option words."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.kernel import mount, syscalls

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns]


def test_a_detached_mount_is_seen_by_nobody() -> None:
    """A file system that is made and cloned never appears in the mount table, and is gone with its descriptor."""
    before = Path("/proc/self/mountinfo").read_text()
    fd = mount.filesystem("tmpfs", ("mode=0750", "size=64k"), syscalls.MOUNT_ATTR_NODEV, "ours")
    os.mkdir("inside", dir_fd=fd)
    assert os.fstat(fd).st_mode & 0o777 == 0o750
    assert "ours" not in Path("/proc/self/mountinfo").read_text()
    os.close(fd)
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == len(before.splitlines())


def test_a_read_only_clone(place: str) -> None:
    """A clone with `ro` refuses writes while the original takes them."""
    fd = mount.clone(place, mount.Options(("ro",)))
    with pytest.raises(OSError, match="Read-only"):
        os.mkdir("x", dir_fd=fd)
    os.mkdir(f"{place}/x")
    os.close(fd)


def test_an_error_names_the_path() -> None:
    """A clone of what is not there names it; an option that no file system knows is EINVAL."""
    with pytest.raises(FileNotFoundError, match="absent"):
        mount.clone("/absent", mount.Options(()))
    with pytest.raises(OSError, match="Invalid argument"):
        mount.filesystem("tmpfs", ("nope=1",))


def test_the_type_of_a_file_system() -> None:
    """type_of names what a path lies on."""
    assert mount.type_of("/proc/sys") == "proc"


@given(
    st.lists(st.sampled_from(["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "relatime"]))
)
def test_the_last_word_wins(words: list[str]) -> None:
    """As in fstab: of two words that contradict each other the last one holds, and nothing is both set and cleared."""
    options = mount.Options(tuple(words))
    assert options.attributes_set & options.attributes_clear & ~syscalls.MOUNT_ATTR__ATIME == 0
    for word, opposite, bit in (("ro", "rw", 1), ("nosuid", "suid", 2), ("nodev", "dev", 4), ("noexec", "exec", 8)):
        last = next((each for each in reversed(words) if each in (word, opposite)), None)
        assert bool(options.attributes_set & bit) == (last == word)


def test_words_find_their_place() -> None:
    """Directives, propagation and what is the file system's own are told apart."""
    options = mount.Options(("rbind", "rprivate", "idmap", "size=1k", "newinstance"))
    assert (options.is_recursive, options.has_idmap, options.propagation) == (True, True, syscalls.MS_PRIVATE)
    assert options.data == ("size=1k", "newinstance")
