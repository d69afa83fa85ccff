"""Id maps and what file systems can do with them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.oci.runtime import IdMapping
from sampan.runtime import idmap, rootfs
from tests.runtime.conftest import RANGE

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]


def test_a_user_namespace_carries_its_map_without_a_process() -> None:
    """The descriptor is of a new user namespace; the process that made it is gone and waited for."""
    fd = idmap.create_userns(RANGE.mappings(), RANGE.mappings())
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("user:[")
    assert os.fstat(fd).st_ino != os.stat("/proc/self/ns/user").st_ino
    os.close(fd)


def test_the_probe_is_made_once(place: str) -> None:
    """The answer is recorded for kernel and file system, believed next time, and leaves nothing in the directory."""
    cache = f"{place}/features.json"
    first = idmap.probe(place, cache)
    assert os.listdir(place) == ["features.json"]
    Path(cache).write_text(Path(cache).read_text().replace(f'"{first.overlay_recipe}"', '"none"'))
    assert idmap.probe(place, cache).overlay_recipe == idmap.NONE


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a":1}', "\x00", '{"KEY":{}}', '{"KEY":7}'])
def test_a_damaged_cache_is_made_anew(place: str, content: str) -> None:
    """A cache that is no document is replaced."""
    key = f"{os.uname().release}:{os.stat(place).st_dev}:{os.stat('/proc/self/ns/user').st_ino}"
    Path(f"{place}/features.json").write_text(content.replace("KEY", key))
    assert idmap.probe(place, f"{place}/features.json").overlay_recipe in (idmap.DETACHED, idmap.ATTACHED, idmap.NONE)


def test_a_file_system_that_cannot_is_found_out() -> None:
    """The probe of a file system that cannot be idmapped says none, without an error: ramfs stands for all of them."""
    pid = os.fork()
    if pid == 0:
        from sampan.kernel import syscalls

        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("ramfs", "/mnt", "ramfs")
            features = idmap.probe("/mnt", "/mnt/features.json")
            os._exit(0 if features.overlay_recipe == idmap.NONE else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_both_recipes_show_the_images_ids(place: str, features: idmap.Features) -> None:
    """A file of id 5 on disk is id 5 of the range through either recipe, with two layers, the upper of them on top."""
    for name in ("low", "high", "c", "c/upper", "c/work"):
        os.mkdir(f"{place}/{name}")
    for name in ("low", "high"):
        Path(f"{place}/{name}/f").write_text(name)
    os.chown(f"{place}/high/f", 5, 6)
    layers = (f"{place}/high", f"{place}/low")
    userns_fd = idmap.create_userns(RANGE.mappings(), RANGE.mappings())
    for recipe in {features.overlay_recipe, idmap.ATTACHED}:
        source = rootfs.RootSource(layers, f"{place}/c/upper", f"{place}/c/work")
        fd = rootfs.open_root(source, userns_fd, idmap.probe(place, "", forced=recipe))
        status = os.stat("f", dir_fd=fd)
        assert (status.st_uid, status.st_gid) == (RANGE.start + 5, RANGE.start + 6)
        with open(os.open("f", os.O_RDONLY, dir_fd=fd)) as file:
            assert file.read() == "high"
        os.close(fd)
    os.close(userns_fd)


def test_many_layers(place: str, features: idmap.Features) -> None:
    """Sixty layers can be mounted through either recipe: options that end at 256 bytes do not bound them."""
    for number in range(60):
        os.mkdir(f"{place}/{number}")
    source = rootfs.RootSource(tuple(f"{place}/{number}" for number in range(60)))
    for recipe in {features.overlay_recipe, idmap.ATTACHED}:
        os.close(rootfs.open_root(source, None, idmap.probe(place, "", forced=recipe)))


def test_nothing_of_the_mounter_stays(place: str, features: idmap.Features) -> None:
    """After a mount the mounter's file system ids and capabilities are what they were, and no mount is seen."""
    os.mkdir(f"{place}/c")
    for name in ("low", "c/upper", "c/work"):
        os.mkdir(f"{place}/{name}")
    userns_fd = idmap.create_userns(RANGE.mappings(), RANGE.mappings())
    before = Path("/proc/self/status").read_text().partition("Uid:")[2].partition("VmPeak")[0]
    mounts = Path("/proc/self/mountinfo").read_text()
    source = rootfs.RootSource((f"{place}/low",), f"{place}/c/upper", f"{place}/c/work")
    os.close(rootfs.open_root(source, userns_fd, features))
    os.close(userns_fd)
    assert Path("/proc/self/status").read_text().partition("Uid:")[2].partition("VmPeak")[0] == before
    assert place not in Path("/proc/self/mountinfo").read_text() or mounts


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(0, 40), st.integers(1, 100))
def test_a_map_is_cut_at_every_seam(sizes: list[int], start: int, size: int) -> None:
    """Cut maps map every id that ours holds to the same place, and no line crosses a seam of ours."""
    extents, first = [], 0
    for length in sizes:
        extents.append((first, length))
        first += length
    parts = idmap._split((IdMapping(0, start, size),), extents)
    for part in parts:
        assert part.host_id - part.container_id == start
        assert any(low <= part.host_id and part.host_id + part.size <= low + length for low, length in extents)
    assert sum(part.size for part in parts) == max(0, min(start + size, first) - start)


def test_ids_outside_a_map_are_none() -> None:
    """host_id follows the map; without one ids are the same; outside there is nothing."""
    mappings = (IdMapping(0, 1000, 1), IdMapping(1, 5000, 10))
    assert [idmap.host_id(mappings, number) for number in (0, 1, 10, 11)] == [1000, 5000, 5009, None]
    assert idmap.host_id((), 77) == 77
