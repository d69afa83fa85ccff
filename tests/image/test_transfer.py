"""Pull and push: from and to a real registry, and from servers that do not mean well."""

import gzip
import hashlib
import json
import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from sampan.database import connection
from sampan.database.connection import Database
from sampan.errors import Corrupt, Exhausted, NotFound, SampanError, Unavailable, Unsupported
from sampan.events import Event  # noqa: TC001  beside its like
from sampan.image import platform, push, transfer
from sampan.image.content import Content
from sampan.image.removal import collect, remove
from sampan.image.store import Image, Images
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.settings.configuration import Settings
from tests.image import fleet
from tests.plugin.registry import Registry
from tests.registry.hostile import Handler, Hostile, serving
from tests.storage import crash

pytestmark = [pytest.mark.first, pytest.mark.registry]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Yield the database of a Sampan of this test's own."""
    with connection.open(settings) as database:
        yield database


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    """Yield a server of the test's own."""
    with serving() as found:
        yield found


@pytest.fixture
def name(registry: Registry, request: pytest.FixtureRequest) -> Reference:
    """Return a name in the registry that no other test uses."""
    return Reference.parse(f"{registry.address}/test/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}:1")


def add(database: Database, name: Reference, *numbers: int) -> Image:
    """Add an image of small layers."""
    return fleet.add(database, str(name), *numbers)


def forget(database: Database, name: Reference) -> None:
    """Remove the image and all that is its."""
    remove(database, str(name), force=True)
    assert not any(files for _, _, files in os.walk(f"{database.root}/blobs"))


def put(registry: Registry, name: Reference, reference: str, raw: bytes, media_type: str) -> None:
    """Put a manifest into the registry by hand."""
    request = urllib.request.Request(
        f"http://{registry.address}/v2/{name.path}/manifests/{reference}",
        raw,
        {"Content-Type": media_type},
        method="PUT",
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def test_what_is_pushed_is_pulled(settings: Settings, database: Database, registry: Registry, name: Reference) -> None:
    """The same image comes back, by tag and by digest, byte for byte; a second push sends nothing."""
    image = add(database, name, 0, 1, 2)
    pushed = push.push(settings, database, name)
    assert pushed.digest == image.manifest
    forget(database, name)
    pulled = transfer.pull(settings, database, name)
    assert (pulled.image.id, pulled.digest, pulled.is_new) == (image.id, image.manifest, True)
    assert pulled.image.names == (str(name),)
    fleet.check(database)
    by_digest = name.with_digest(image.manifest)
    assert transfer.pull(settings, database, by_digest).image.id == image.id
    assert Images(database).find(str(by_digest)).id == image.id
    sent = len(registry.asked("PUT", name.path, "/blobs/"))
    assert sent == 4
    push.push(settings, database, name)
    assert len(registry.asked("PUT", name.path, "/blobs/")) == sent


def test_what_is_here_is_not_fetched(
    settings: Settings, database: Database, registry: Registry, name: Reference
) -> None:
    """A layer that another image has is taken from here; a name that is up to date costs one question."""
    add(database, name, 10, 11)
    push.push(settings, database, name)
    forget(database, name)
    fleet.add(database, "kept", 10)
    events: list[Event] = []
    first = transfer.pull(settings, database, name, sink=events.append)
    assert len(registry.asked("GET", name.path, "/blobs/")) == 2  # the config and one layer
    assert [event.text for event in events if event.kind == "done"].count("is here") == 1
    again = transfer.pull(settings, database, name)
    assert (again.image.id, again.is_new) == (first.image.id, False)
    assert len(registry.asked("GET", name.path, "/blobs/")) == 2
    fleet.check(database)


def test_a_blob_of_another_repository_is_mounted(
    settings: Settings, database: Database, registry: Registry, name: Reference
) -> None:
    """What lies in the registry under another name is not sent again."""
    image = add(database, name, 20)
    push.push(settings, database, name)
    second = Reference(name.domain, f"{name.path}/second", "1")
    Images(database).tag(image.id, second)
    push.push(settings, database, second)
    assert len(registry.asked("POST", second.path, "mount=")) == 1
    assert len(registry.asked("PUT", second.path, "/blobs/")) == 1  # the config, which is not shared


def test_a_plain_layer_is_compressed_once_for_all(settings: Settings, database: Database, name: Reference) -> None:
    """Pushed, the image has the same id and a manifest with gzip layers, here too; the bytes are always the same."""
    content, raw = Content(database.root), fleet.layer(30) + bytes(5_000_000)
    layer = oci.Descriptor(oci.OCI_LAYER, Digest.of(raw), len(raw))
    content.put(raw)
    config = oci.build_config([Digest.of(raw)], platform=oci.platform_of(os.uname().machine))
    manifest = oci.build_manifest(oci.Descriptor(oci.OCI_CONFIG, Digest.of(config.raw), len(config.raw)), [layer])
    image = Images(database).add(config.raw, manifest.raw, content, name)
    pushed = push.push(settings, database, name)
    here = Images(database).find(str(name))
    assert (here.id, here.manifest) == (image.id, pushed.digest)
    packed = content.read(here.layers[0], 10_000_000)
    assert gzip.decompress(packed) == raw
    with content.open(layer.digest) as plain:
        assert b"".join(push.gzipped(plain)) == packed
    assert packed[4:8] == bytes(4)  # no time in the header (RFC 1952)
    collect(database)
    fleet.check(database)


def test_a_zstd_layer(settings: Settings, database: Database, name: Reference) -> None:
    """A layer in zstd goes to the registry and back as it is."""
    raw = fleet.layer(35)
    zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    packed: bytes = zstd.compress(raw)
    content = Content(database.root)
    layer = oci.Descriptor(oci.OCI_LAYER_ZSTD, Digest.of(packed), len(packed))
    content.put(packed)
    config = oci.build_config([Digest.of(raw)], platform=oci.platform_of(os.uname().machine))
    manifest = oci.build_manifest(oci.Descriptor(oci.OCI_CONFIG, Digest.of(config.raw), len(config.raw)), [layer])
    image = Images(database).add(config.raw, manifest.raw, content, name)
    push.push(settings, database, name)
    forget(database, name)
    assert transfer.pull(settings, database, name).image.manifest == image.manifest


def test_the_platform_of_an_index(settings: Settings, database: Database, registry: Registry, name: Reference) -> None:
    """This machine's is taken, or the one that is asked for; what there is none of is said with what there is."""
    ours = add(database, name, 40)
    push.push(settings, database, name)
    descriptors = []
    content = Content(database.root)
    for architecture, variant in (("s390x", ""), ("arm64" if os.uname().machine == "x86_64" else "amd64", "")):
        config = oci.build_config([], platform=oci.Platform("linux", architecture, variant))
        manifest = oci.build_manifest(oci.Descriptor(oci.OCI_CONFIG, Digest.of(config.raw), len(config.raw)), [])
        Images(database).add(config.raw, manifest.raw, content, Reference(name.domain, name.path, architecture))
        push.push(settings, database, Reference(name.domain, name.path, architecture))
        descriptors.append(manifest.descriptor(platform=oci.Platform("linux", architecture, variant)))
    raw = content.read(ours.manifest)
    mine = oci.Descriptor(oci.OCI_MANIFEST, ours.manifest, len(raw), platform=oci.platform_of(os.uname().machine))
    unknown = oci.Descriptor(oci.OCI_MANIFEST, ours.manifest, len(raw), platform=oci.Platform("unknown", "unknown"))
    index = oci.build_index([unknown, *descriptors, mine])
    put(registry, name, "every", index.raw, index.media_type)
    every = Reference(name.domain, name.path, "every")
    pulled = transfer.pull(settings, database, every)
    assert (pulled.image.id, pulled.digest) == (ours.id, Digest.of(index.raw))
    other = transfer.pull(settings, database, every, platform=platform.parse("linux/s390x"))
    assert other.image.config["architecture"] == "s390x"
    by_digest = every.with_digest(Digest.of(index.raw))
    assert transfer.pull(settings, database, by_digest).image.id == ours.id
    assert transfer.fetch(settings, database, by_digest).id == ours.id
    with pytest.raises(NotFound, match="for `linux/riscv64`") as caught:
        transfer.pull(settings, database, every, platform=platform.parse("linux/riscv64"))
    assert "`linux/s390x`" in caught.value.hints[0]
    assert "unknown" not in caught.value.hints[0]
    with pytest.raises(NotFound, match="not for `linux/s390x`"):
        transfer.pull(settings, database, name, platform=platform.parse("linux/s390x"))


def test_fetch_takes_what_is_here(settings: Settings, database: Database, registry: Registry, name: Reference) -> None:
    """An image that is here is not asked for; one for another platform is."""
    image = add(database, name, 50)
    assert transfer.fetch(settings, database, name).id == image.id
    assert transfer.fetch(settings, database, name, platform=oci.platform_of(os.uname().machine)).id == image.id
    assert registry.asked(name.path) == []
    with pytest.raises(NotFound):
        transfer.fetch(settings, database, name, platform=platform.parse("s390x"))
    push.push(settings, database, name)
    forget(database, name)
    assert transfer.fetch(settings, database, name).id == image.id


def test_a_name_that_is_not_there(settings: Settings, database: Database, name: Reference) -> None:
    """Neither a repository nor a tag that does not exist leaves anything here."""
    with pytest.raises(NotFound, match="is not in the registry"):
        transfer.pull(settings, database, name)
    fleet.check(database)


def configured(settings: Settings, text: str) -> Settings:
    """Return the same settings with this configuration file."""
    Path(settings.environment["SAMPAN_CONFIG"]).write_text(text, encoding="utf-8")
    return Settings(settings.environment, settings.uid)


def test_mirrors_are_asked_in_order(
    settings: Settings, database: Database, registry: Registry, hostile: Hostile, name: Reference
) -> None:
    """One that is away, one that breaks and one that has it not are passed over; the last in the list has it."""
    image = add(database, name, 60)
    push.push(settings, database, name)
    forget(database, name)
    hostile.answer(f"/v2/{name.path}/manifests/1", 500)
    hostile.answer(f"/v2/prefix/{name.path}/manifests/1", 404)
    mirrors = [
        f"http://{one}" for one in ("127.0.0.1:1", hostile.address, f"{hostile.address}/prefix", registry.address)
    ]
    settings = configured(settings, f'[registry."away.invalid"]\nmirrors = {mirrors}\n')
    events: list[Event] = []
    there = Reference("away.invalid", name.path, "1")
    pulled = transfer.pull(settings, database, there, sink=events.append)
    assert pulled.image.id == image.id
    assert pulled.image.names == (str(there),)
    warned = [event.subject for event in events if event.kind == "warning"]
    assert warned == [f"the mirror `{one}` is passed over" for one in ("127.0.0.1:1", hostile.address)]


def test_a_mirror_that_breaks_in_the_middle(settings: Settings, database: Database, hostile: Hostile) -> None:
    """A mirror that has the manifest but damaged layers is passed over; the registry gives the rest."""
    with serving() as bad:
        faked, broken = Faked(hostile, 0, 1), Faked(bad, 0, 1)
        broken.blob(bytes(len(faked.layers[1])), Digest.of(faked.layers[1]))
        text = f'[registry."{hostile.address}"]\nmirrors = ["http://{bad.address}"]\n'
        events: list[Event] = []
        transfer.pull(configured(settings, text), database, faked.name, sink=events.append)
    assert [event.subject for event in events if event.kind == "warning"] == [
        f"the mirror `{bad.address}` is passed over"
    ]
    fleet.check(database)


def test_nobody_answers(settings: Settings, database: Database, hostile: Hostile) -> None:
    """The error names the registry, what its mirrors said, the line for a mirror, and the stand-in if there is one."""
    mirrors = f'[registry."docker.io"]\nmirrors = ["http://{hostile.address}"]\n'
    settings = configured(settings, mirrors)
    settings = Settings({**settings.environment, "https_proxy": "http://127.0.0.1:1"}, settings.uid)
    with pytest.raises(Unavailable, match=r"the registry `docker\.io` cannot be reached for `mysql:8\.0`") as caught:
        transfer.pull(settings, database, Reference.parse("mysql:8.0"))
    assert caught.value.hints[0] == f"the mirror `{hostile.address}` does not have it"
    assert '`[registry."docker.io"]` with `mirrors = [' in caught.value.hints[1]
    assert "`sampan bootstrap mysql:8.0`" in caught.value.hints[2]
    with pytest.raises(Unavailable) as caught:
        transfer.pull(settings, database, Reference.parse("me/mysql:8.0"))
    assert len(caught.value.hints) == 2
    fleet.check(database)


def test_a_limit(settings: Settings, database: Database, hostile: Hostile) -> None:
    """A registry that has had enough of us is named, with what it says, and the ways round it."""
    hostile.answer("/v2/x/manifests/1", 429, b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}')
    with pytest.raises(Unavailable, match="limits how often it is asked") as caught:
        transfer.pull(settings, database, Reference.parse(f"{hostile.address}/x:1"))
    assert "`mirrors = [" in caught.value.hints[0]
    cause = caught.value.__cause__
    assert isinstance(cause, Unavailable)
    assert cause.hints == (f"wait, or log in, which raises the limit: `sampan login {hostile.address}`",)
    assert str(cause.__cause__) == "the registry says: slow down"


class Faked:
    """An image on a hostile server; each part can be replaced before it is pulled."""

    def __init__(self, server: Hostile, *numbers: int) -> None:
        self.server = server
        self.name = Reference.parse(f"{server.address}/x:1")
        self.layers = [gzip.compress(fleet.layer(number), mtime=0) for number in numbers]
        diff_ids = [Digest.of(fleet.layer(number)) for number in numbers]
        self.config = oci.build_config(diff_ids, platform=oci.platform_of(os.uname().machine)).raw
        self.descriptors = [self.descriptor(oci.OCI_LAYER_GZIP, layer) for layer in self.layers]
        for raw in (self.config, *self.layers):
            self.blob(raw)
        self.manifest = oci.build_manifest(self.descriptor(oci.OCI_CONFIG, self.config), self.descriptors).raw
        self.answer()

    @staticmethod
    def descriptor(media_type: str, raw: bytes) -> oci.Descriptor:
        """Return an honest descriptor."""
        return oci.Descriptor(media_type, Digest.of(raw), len(raw))

    def blob(self, raw: bytes, digest: Digest | None = None) -> None:
        """Answer a blob with these bytes."""
        self.server.answer(f"/v2/x/blobs/{digest or Digest.of(raw)}", 200, raw)

    def answer(self, raw: bytes | None = None, media_type: str = oci.OCI_MANIFEST) -> None:
        """Answer the tag with this manifest."""
        raw = self.manifest if raw is None else raw
        self.server.answer("/v2/x/manifests/1", 200, raw, Content_Type=media_type)


def refused(settings: Settings, database: Database, faked: Faked, kind: type[SampanError], what: str) -> None:
    """Fail unless the pull is refused and leaves nothing; the control is `test_the_fake_is_an_image`."""
    with pytest.raises(kind, match=what):
        transfer.pull(settings, database, faked.name)
    fleet.check(database)


def test_the_fake_is_an_image(settings: Settings, database: Database, hostile: Hostile) -> None:
    """Unchanged, what the next tests break is pulled."""
    faked = Faked(hostile, 0, 1)
    assert len(transfer.pull(settings, database, faked.name).image.layers) == 2
    fleet.check(database)


def test_a_layer_with_another_digest(settings: Settings, database: Database, hostile: Hostile) -> None:
    """Bytes that are not what the manifest says never get a name in the store, and the whole layer beside goes too."""
    faked = Faked(hostile, 0, 1)
    evil = bytes(len(faked.layers[1]))
    faked.blob(evil, Digest.of(faked.layers[1]))
    refused(settings, database, faked, Corrupt, "not what its manifest promises")
    faked.blob(faked.layers[1] + b"more", Digest.of(faked.layers[1]))
    refused(settings, database, faked, Corrupt, "not what its manifest promises")


def test_a_config_with_another_digest(settings: Settings, database: Database, hostile: Hostile) -> None:
    """The config is the image's id: other bytes are refused before any layer is fetched."""
    faked = Faked(hostile, 0)
    faked.blob(faked.config.replace(b"linux", b"xunil"), Digest.of(faked.config))
    refused(settings, database, faked, Corrupt, "not what its manifest promises")
    assert [path for _, path, _ in hostile.requests if str(Digest.of(faked.layers[0])) in path] == []


def test_a_config_past_its_bound(settings: Settings, database: Database, hostile: Hostile) -> None:
    """One that says of itself that it is too long is not even begun."""
    faked = Faked(hostile, 0)
    size = len(faked.config)
    faked.answer(faked.manifest.replace(f'"size":{size}}}'.encode(), b'"size":8388609}', 1))
    refused(settings, database, faked, Corrupt, "the config of .* is longer than 8388608 bytes")
    assert [path for _, path, _ in hostile.requests if "/blobs/" in path] == []


def test_an_index_that_lies(settings: Settings, database: Database, hostile: Hostile) -> None:
    """What an index says of a manifest's size and digest is held against what comes."""
    faked = Faked(hostile, 0)
    ours, size = oci.platform_of(os.uname().machine), len(faked.manifest)
    digest = Digest.of(faked.manifest)
    hostile.answer(f"/v2/x/manifests/{digest}", 200, faked.manifest)
    faked.answer(
        oci.build_index([oci.Descriptor(oci.OCI_MANIFEST, digest, size + 1, platform=ours)]).raw, oci.OCI_INDEX
    )
    refused(settings, database, faked, Corrupt, "does not say of a manifest what it is")
    hostile.answer(f"/v2/x/manifests/{digest}", 200, faked.manifest + b" ")
    faked.answer(oci.build_index([oci.Descriptor(oci.OCI_MANIFEST, digest, size, platform=ours)]).raw, oci.OCI_INDEX)
    refused(settings, database, faked, Corrupt, "not what its digest says")
    index = oci.build_index([])
    nested = oci.build_index([oci.Descriptor(oci.OCI_INDEX, Digest.of(index.raw), len(index.raw), platform=ours)])
    hostile.answer(f"/v2/x/manifests/{Digest.of(index.raw)}", 200, index.raw)
    faked.answer(nested.raw, oci.OCI_INDEX)
    refused(settings, database, faked, Corrupt, "does not say of a manifest what it is")


@pytest.mark.parametrize(
    ("media_type", "kind", "what"),
    [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Unsupported, "foreign layer"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Unsupported, "foreign layer"),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", Unsupported, "layer of the media type"),
    ],
)
def test_layers_that_are_none(
    settings: Settings, database: Database, hostile: Hostile, *, media_type: str, kind: type[SampanError], what: str
) -> None:
    """A foreign layer and an unknown one are each an error of their own."""
    faked = Faked(hostile, 0)
    faked.answer(faked.manifest.replace(oci.OCI_LAYER_GZIP.encode(), media_type.encode()))
    refused(settings, database, faked, kind, what)


@pytest.mark.parametrize(
    ("size", "kind", "what"),
    [(-1, Corrupt, "`size`"), (1 << 51, Corrupt, "`size`"), (1 << 50, Exhausted, "no space is left")],
)
def test_sizes_that_cannot_be(
    settings: Settings, database: Database, hostile: Hostile, *, size: int, kind: type[SampanError], what: str
) -> None:
    """A negative size, one past all bounds, and one that this disk has no room for: nothing is fetched."""
    faked = Faked(hostile, 0)
    layer = faked.descriptors[0]
    faked.answer(faked.manifest.replace(f'"size":{layer.size_bytes}}}]'.encode(), f'"size":{size}}}]'.encode()))
    refused(settings, database, faked, kind, what)


def test_too_many_layers(settings: Settings, database: Database, hostile: Hostile) -> None:
    """More layers than can be stacked are refused, and so is a config that counts them otherwise."""
    faked = Faked(hostile, 0)
    config = faked.descriptor(oci.OCI_CONFIG, faked.config)
    faked.answer(oci.build_manifest(config, faked.descriptors * 128).raw)
    refused(settings, database, faked, Corrupt, "`layers` of at most 127")
    faked.answer(oci.build_manifest(config, faked.descriptors * 2).raw)
    refused(settings, database, faked, Corrupt, "different numbers of layers")


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 32, 5])
def test_a_digest_that_leads_away(settings: Settings, database: Database, hostile: Hostile, digest: object) -> None:
    """A digest is a digest: nothing else becomes part of a path or an address."""
    faked = Faked(hostile, 0)
    document = json.loads(faked.manifest)
    document["layers"][0]["digest"] = digest
    faked.answer(json.dumps(document).encode())
    refused(settings, database, faked, Corrupt, "digest")


def test_one_layer_that_fails_ends_the_others(settings: Settings, database: Database, hostile: Hostile) -> None:
    """While one layer never comes to an end, another that cannot be had ends the pull at once."""
    faked = Faked(hostile, 0, 1)
    stalled, release = threading.Event(), threading.Event()

    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(faked.layers[0])))
        handler.end_headers()
        handler.wfile.write(faked.layers[0][:10])
        stalled.set()
        release.wait(100)

    def fail(handler: Handler) -> None:
        assert stalled.wait(10)
        handler.send_response(404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    hostile.replies[f"/v2/x/blobs/{Digest.of(faked.layers[0])}"] = stall
    hostile.replies[f"/v2/x/blobs/{Digest.of(faked.layers[1])}"] = fail
    refused(settings, database, faked, NotFound, "is not in the registry")
    release.set()


def test_what_came_whole_is_used_again(settings: Settings, database: Database, hostile: Hostile) -> None:
    """A pull that was cut off leaves its whole layers for the next, which asks for the rest only."""
    faked = Faked(hostile, 0, 1)

    def cut(handler: Handler) -> None:
        handler.close_connection = True

    path = f"/v2/x/blobs/{Digest.of(faked.layers[1])}"
    answer, hostile.replies[path] = hostile.replies[path], cut
    with pytest.raises(Unavailable):
        transfer.pull(settings, database, faked.name)
    assert Images(database).list() == ()
    hostile.replies[path] = answer
    hostile.requests.clear()
    assert len(transfer.pull(settings, database, faked.name).image.layers) == 2
    assert [path for _, path, _ in hostile.requests if "/blobs/" in path] == [path]
    fleet.check(database)


def test_killed_at_every_step(settings: Settings, database: Database, name: Reference) -> None:
    """Whenever a pull is killed, no record names what is not here, and the next removal takes what it left."""
    image = add(database, name, 70, 71)
    push.push(settings, database, name)
    forget(database, name)
    database.close()

    def pull() -> None:
        with connection.open(settings) as own:
            transfer.pull(settings, own, name)

    for _ in crash.points(pull):
        with connection.open(settings) as after:
            found = Images(after).list()
            assert [one.id for one in found] in ([], [image.id])
            collect(after)
            fleet.check(after)
            if found:
                forget(after, name)
    pull()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux/amd64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("linux/x86_64", None),
    ],
)
def test_platforms(text: str, found: str | None) -> None:
    """As docker reads them."""
    if found is None:
        with pytest.raises(SampanError, match="is no platform"):
            platform.parse(text)
    else:
        assert platform.text(platform.parse(text)) == found
