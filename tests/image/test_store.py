"""Images: found by every name that docker understands, recorded only with all their blobs."""

import os
from collections.abc import Iterator

import pytest

from sampan.database import connection
from sampan.database.connection import Database
from sampan.errors import Conflict, Corrupt, InvalidArgument, NotFound
from sampan.image.content import Content
from sampan.image.store import Images
from sampan.oci.digest import Digest, chain_ids
from sampan.oci.reference import Reference
from sampan.settings.configuration import Settings
from tests.image import fleet

pytestmark = [pytest.mark.first]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


def test_an_image_is_what_was_added(database: Database) -> None:
    """Id, config, layers, diff and chain ids, names, time: all are there without opening a blob."""
    image = fleet.add(database, "hello", 0, 1)
    diff_ids = [Digest.of(fleet.layer(number)) for number in (0, 1)]
    found = Images(database).find("hello")
    assert found.id == image.id == str(Digest.of(Content(database.root).read(Digest.parse(image.id))))
    assert found.config["config"] == {"Cmd": ["true"]}
    assert found.diff_ids == tuple(map(str, diff_ids))
    assert found.chain_ids == tuple(map(str, chain_ids(diff_ids)))
    assert found.names == ("docker.io/library/hello:latest",)
    assert found.created == 1767323045
    content = Content(database.root)
    assert found.size_bytes == sum(content.size_bytes(digest) for digest in found.layers)
    fleet.check(database)


def test_every_way_to_name_an_image(database: Database) -> None:
    """Short and long names, whole and short ids with and without algorithm, and the manifest's digest."""
    image = fleet.add(database, "hello", 0)
    digits = image.id.removeprefix("sha256:")
    names = ["hello", "hello:latest", "docker.io/library/hello", "index.docker.io/hello:latest"]
    ids = [image.id, digits, digits[:12], digits[:3], f"sha256:{digits[:5]}", f"hello@{image.manifest}"]
    for text in names + ids:
        assert Images(database).find(text).id == image.id, text
    assert Images(database).identify("hello") == (image.id, "docker.io/library/hello:latest")
    assert Images(database).identify(digits[:12]) == (image.id, None)


def test_a_name_goes_before_an_id(database: Database) -> None:
    """An image called like the beginning of another's id is found by its name."""
    other = fleet.add(database, "other", 0)
    named = fleet.add(database, other.id[7:12], 1)
    assert Images(database).find(other.id[7:12]).id == named.id


def test_what_is_not_here_suggests_what_is(database: Database) -> None:
    """A misspelled name has a hint, an ambiguous id an error of its own, nonsense the grammar's."""
    for number in range(17):
        fleet.add(database, f"hello-flask{number}", number)
    with pytest.raises(NotFound, match="image `hello-flaks` is not here") as caught:
        Images(database).find("hello-flaks")
    assert caught.value.hints[0].startswith("did you mean `hello-flask")
    first = {image.id[7] for image in Images(database).list()}
    shared = [d for d in first if sum(image.id[7] == d for image in Images(database).list()) > 1]
    with pytest.raises(Conflict, match="several image ids begin with"):
        Images(database).find(shared[0])
    with pytest.raises(InvalidArgument):
        Images(database).find("Hello")
    with pytest.raises(NotFound):
        Images(database).find("f" * 64)


def test_a_name_moves(database: Database) -> None:
    """Tagging takes the name from the image that had it; taking it away leaves the image."""
    one, two = fleet.add(database, "app", 0), fleet.add(database, "app", 1)
    images = Images(database)
    assert images.find("app").id == two.id
    assert images.find(one.id).names == ()
    images.tag(one.id, Reference.parse("app"))
    assert images.find("app").id == one.id
    images.untag(Reference.parse("app"))
    for act in (lambda: images.find("app"), lambda: images.untag(Reference.parse("app"))):
        with pytest.raises(NotFound):
            act()
    with pytest.raises(NotFound):
        images.tag(f"sha256:{'0' * 64}", Reference.parse("app"))
    assert {image.id for image in images.list()} == {one.id, two.id}


def test_adding_again_changes_nothing(database: Database) -> None:
    """The same image once more is the same row; a new manifest for it counts from now on."""
    first = fleet.add(database, "app", 0)
    assert fleet.add(database, "app", 0).id == first.id
    assert len(Images(database).list()) == 1


def test_an_image_without_all_its_parts_is_refused(database: Database) -> None:
    """A missing layer, a config that is another's, a wrong number of layers: nothing is recorded."""
    content, images = Content(database.root), Images(database)
    config, manifest = fleet.documents(content, 0, 1)
    other_config, _ = fleet.documents(content, 2)
    with pytest.raises(Corrupt, match="the image's config is not what its digest says"):
        images.add(other_config, manifest, content)
    os.unlink(content.path(images.add(config, manifest, content).layers[0]))
    with pytest.raises(Corrupt, match="is not in the store"):
        images.add(config, manifest, content)
    assert len(images.list()) == 1


def test_the_newest_comes_first(database: Database) -> None:
    """As docker lists them."""
    ids = [fleet.add(database, f"app{number}", number).id for number in range(3)]
    database.execute("UPDATE images SET created = 9 WHERE id = ?", (ids[2],))
    database.execute("UPDATE images SET created = 11 WHERE id = ?", (ids[0],))
    database.execute("UPDATE images SET created = 10 WHERE id = ?", (ids[1],))
    assert [image.id for image in Images(database).list()] == [ids[0], ids[1], ids[2]]
