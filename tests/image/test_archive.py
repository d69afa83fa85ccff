"""Archives: what is saved is loaded; what is hostile is one error and leaves nothing."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.database import connection
from sampan.database.connection import Database
from sampan.errors import Corrupt, Exhausted, InvalidArgument, NotFound, SampanError, Unsupported
from sampan.image import archive, removal, unpack
from sampan.image.store import Images
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.settings.configuration import Settings
from tests.image import fleet

pytestmark = [pytest.mark.first, pytest.mark.root]

Members = dict[str, bytes]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    """Yield the database of another machine."""
    with connection.open(Settings({"SAMPAN_ROOT": f"{tmp_path}/other"}, os.geteuid())) as database:
        yield database


def _saved(database: Database, *names: str) -> bytes:
    file = io.BytesIO()
    archive.save(database, names, file)
    return file.getvalue()


def _members(raw: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        files = [member for member in tar if member.isfile()]
        return {member.name: tar.extractfile(member).read() for member in files}  # type: ignore[union-attr]  # files have


def _packed(members: Members, links: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return file.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_what_is_saved_is_loaded(database: Database, other: Database, pack: Callable[[bytes], bytes]) -> None:
    """On another machine: the same ids, names and digests, whole; twice makes no difference."""
    image, second = fleet.add(database, "a:1", 0, 1), fleet.add(database, "ghcr.io/me/b", 0)
    raw = _saved(database, "a:1", "ghcr.io/me/b")
    for _ in range(2):
        loaded = archive.load(other, io.BytesIO(pack(raw)))
        assert [(one.image.id, [name.familiar() for name in one.names]) for one in loaded] == [
            (image.id, ["a:1"]),
            (second.id, ["ghcr.io/me/b:latest"]),
        ]
    found = Images(other).find("a:1")
    assert (found.manifest, found.layers, found.config) == (image.manifest, image.layers, image.config)
    fleet.check(other)
    assert (Path(unpack.lowers(other, found)[0]) / "file1").read_bytes() == b"content 1"


def test_the_same_images_have_the_same_bytes(database: Database, other: Database) -> None:
    """Nothing of the machine or the hour is in an archive."""
    fleet.add(database, "a", 0, 1)
    raw = _saved(database, "a")
    archive.load(other, io.BytesIO(raw))
    assert _saved(other, "a") == raw


def test_an_archive_is_an_oci_layout_and_docker_s(database: Database) -> None:
    """Every file is where both specifications look for it, and blobs are shared."""
    image = fleet.add(database, "a", 0)
    Images(database).tag(image.id, Reference.parse("b:2"))
    members = _members(_saved(database, "a", "b:2"))
    assert json.loads(members["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = oci.parse_index(members["index.json"])
    assert [one.annotations[oci.REFERENCE_NAME] for one in index.manifests] == ["latest", "2"]
    assert {one.digest for one in index.manifests} == {image.manifest}
    (entry,) = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == ["a:latest", "b:2"]
    for name in [entry["Config"], *entry["Layers"]]:
        assert Digest.of(members[name]).hex == name.rpartition("/")[2]


def test_an_image_asked_for_by_id_has_no_name(database: Database, other: Database) -> None:
    """As with docker: who loads it gets it without one."""
    image = fleet.add(database, "a", 0)
    (loaded,) = archive.load(other, io.BytesIO(_saved(database, image.id)))
    assert (loaded.image.id, loaded.names, loaded.image.names) == (image.id, (), ())
    with pytest.raises(NotFound):
        _saved(database, "absent")


def _legacy(*numbers: int, pack: Callable[[bytes], bytes] = bytes) -> Members:
    """Return what docker before 25 saved: layers in directories of their own, the second as a link's target."""
    layers = [fleet.layer(number) for number in numbers]
    config = oci.build_config([Digest.of(raw) for raw in layers], platform=oci.Platform("linux", "amd64"))
    members = {f"{number}/layer.tar": pack(raw) for number, raw in zip(numbers, layers, strict=True)}
    entry = {"Config": "c.json", "RepoTags": ["old:1"], "Layers": list(members)}
    return members | {"c.json": config.raw, "manifest.json": json.dumps([entry]).encode()}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_docker_s_old_form_is_loaded(database: Database, pack: Callable[[bytes], bytes]) -> None:
    """Layers packed or plain, and one that is a link to another's file."""
    members = _legacy(0, 1, pack=pack)
    shared = {"1/layer.tar": "../elsewhere/layer.tar"}
    members["elsewhere/layer.tar"] = members.pop("1/layer.tar")
    (loaded,) = archive.load(database, io.BytesIO(_packed(members, shared)))
    assert loaded.image.names == ("docker.io/library/old:1",)
    assert (Path(unpack.lowers(database, loaded.image)[0]) / "file1").read_bytes() == b"content 1"
    fleet.check(database)


def _index(*descriptors: oci.Descriptor) -> bytes:
    return oci.build_index(descriptors).raw


def test_of_several_platforms_this_machine_s_is_loaded(database: Database, other: Database) -> None:
    """An index in the index is looked through; without our platform it says so."""
    image = fleet.add(database, "a", 0)
    members = _members(_saved(database, "a"))
    (mine,) = oci.parse_index(members["index.json"]).manifests
    foreign = oci.Descriptor(oci.OCI_MANIFEST, Digest.of(b"x"), 1, platform=oci.Platform("plan9", "mips"))
    for inner, is_ours in ((_index(foreign, mine), True), (_index(foreign), False)):
        outer = oci.Descriptor(oci.OCI_INDEX, Digest.of(inner), len(inner), annotations={oci.REFERENCE_NAME: "multi:1"})
        changed = members | {f"blobs/sha256/{Digest.of(inner).hex}": inner, "index.json": _index(outer)}
        if is_ours:
            (loaded,) = archive.load(other, io.BytesIO(_packed(changed)))
            assert (loaded.image.id, loaded.image.names) == (image.id, ("docker.io/library/multi:1",))
        else:
            with pytest.raises(Unsupported, match="the archive has no image for `linux/"):
                archive.load(other, io.BytesIO(_packed(changed)))


def _broken(members: Members, kind: str) -> tuple[bytes, type[SampanError]]:  # noqa: C901, PLR0912  a table in words
    """Return the archive with one thing wrong, and what must come of it."""
    blobs = sorted(name for name in members if name.startswith("blobs/"))
    manifest = oci.parse_index(members["index.json"]).manifests[0]
    match kind:
        case "a blob that is not its name":
            return _packed(members | {blobs[0]: members[blobs[0]] + b"x"}), Corrupt
        case "a blob that is missing":
            name = f"blobs/sha256/{manifest.digest.hex}"
            return _packed({key: value for key, value in members.items() if key != name}), NotFound
        case "a name that is no digest":
            return _packed(members | {"blobs/sha256/../x": b""} | {"blobs/sha256/zz": b""}), InvalidArgument
        case "no index at all":
            return _packed({"etc/passwd": b"root"}), InvalidArgument
        case "an index that is no JSON":
            return _packed(members | {"index.json": b"{"}), Corrupt
        case "nesting without end":
            return _packed({"manifest.json": b"[" * 100_000}), Corrupt
        case "a list of something else":
            return _packed({"manifest.json": b'[{"Config": 1}]'}), Corrupt
        case "a file that is not there":
            return _packed({"manifest.json": b'[{"Config": "../../../etc/passwd", "Layers": []}]'}), Corrupt
        case "a ring of links":
            rings = {"a": "b", "b": "a"}
            return _packed({"manifest.json": b'[{"Config": "a", "Layers": []}]'}, rings), Corrupt
        case "a layer that is another":
            return _packed(_legacy(0) | {"0/layer.tar": fleet.layer(1)}), Corrupt
        case "a cut":
            return _packed(members)[:3000], Corrupt
        case "too large a document":
            return _packed(members | {"index.json": b" " * (oci.MAX_MANIFEST_BYTES + 1)}), Exhausted
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "a blob that is not its name", "a blob that is missing", "a name that is no digest", "no index at all",
        "an index that is no JSON", "nesting without end", "a list of something else", "a file that is not there",
        "a ring of links", "a layer that is another", "a cut", "too large a document",
    ],
)  # fmt: skip
def test_a_hostile_archive_is_one_error_and_leaves_nothing(database: Database, other: Database, kind: str) -> None:
    """The archive that each is made of is loaded; changed in one place it is refused, and collected to nothing."""
    fleet.add(database, "a", 0)
    members = _members(_saved(database, "a"))
    archive.load(other, io.BytesIO(_packed(members)))
    removal.remove(other, "a")
    raw, leaf = _broken(members, kind)
    with pytest.raises(leaf):
        archive.load(other, io.BytesIO(raw))
    removal.collect(other)
    assert Images(other).list() == ()
    fleet.check(other)
