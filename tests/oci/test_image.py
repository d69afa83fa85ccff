"""Image documents: what is built is read back; what is hostile is one of three errors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import Corrupt, SampanError, Unsupported
from sampan.oci import image as oci
from sampan.oci.digest import Digest

pytestmark = [pytest.mark.first]

_DIGESTS = st.binary(max_size=4).map(Digest.of)
_DESCRIPTORS = st.builds(
    lambda digest, size, notes: oci.Descriptor(oci.OCI_LAYER_GZIP, digest, size, annotations=notes),
    _DIGESTS,
    st.integers(0, 1 << 50),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
_CONFIG = oci.Descriptor(oci.OCI_CONFIG, Digest.of(b"{}"), 2)


@given(st.lists(_DESCRIPTORS, max_size=5))
def test_a_built_manifest_is_read_back(layers: list[oci.Descriptor]) -> None:
    """parse(build(x)) == x, and the bytes are kept."""
    built = oci.build_manifest(_CONFIG, layers)
    parsed = oci.parse_manifest(built.raw)
    assert (parsed.config, parsed.layers, parsed.raw) == (_CONFIG, tuple(layers), built.raw)
    assert parsed.descriptor() == built.descriptor()


@given(st.lists(_DIGESTS, max_size=5))
def test_a_built_config_is_read_back(diff_ids: list[Digest]) -> None:
    """The diff ids, the platform and what to run survive."""
    built = oci.build_config(diff_ids, platform=oci.Platform("linux", "arm64", "v8"), settings={"Cmd": ["true"]})
    parsed = oci.parse_config(built.raw)
    assert parsed.diff_ids == tuple(diff_ids)
    assert parsed.platform == oci.Platform("linux", "arm64", "v8")
    assert parsed.document["config"] == {"Cmd": ["true"]}


def test_equal_documents_have_equal_bytes() -> None:
    """Annotations in another order make no other digest."""
    one = oci.build_manifest(_CONFIG, [], annotations={"a": "1", "b": "2"})
    two = oci.build_manifest(_CONFIG, [], annotations={"b": "2", "a": "1"})
    assert one.raw == two.raw


def test_an_index_is_read_back() -> None:
    """An index keeps platforms and annotations."""
    descriptor = oci.build_manifest(_CONFIG, []).descriptor(
        annotations={oci.REFERENCE_NAME: "1"}, platform=oci.platform_of("x86_64")
    )
    assert oci.parse_index(oci.build_index([descriptor]).raw).manifests == (descriptor,)


def _manifest(**changes: object) -> bytes:
    document: dict[str, object] = json.loads(oci.build_manifest(_CONFIG, [_CONFIG]).raw)
    document |= changes
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def _layer(**changes: object) -> list[dict[str, object]]:
    return [{"mediaType": oci.OCI_LAYER, "digest": f"sha256:{'0' * 64}", "size": 1} | changes]


def test_the_control_is_right() -> None:
    """Without changes the document that the attacks below start from is read."""
    assert oci.parse_manifest(_manifest(layers=_layer())).layers[0].size_bytes == 1
    assert oci.parse_manifest(b" \n" + _manifest(mediaType=...)).media_type == oci.OCI_MANIFEST


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b"{" * 100_000,
        _manifest(schemaVersion=1),
        _manifest(manifests=[]),
        _manifest(layers=_layer(size=-1)),
        _manifest(layers=_layer(size=True)),
        _manifest(layers=_layer(size=1 << 60)),
        _manifest(layers=_layer(size="1")),
        _manifest(layers=_layer(digest="sha256:../../etc/passwd")),
        _manifest(layers=_layer(digest=7)),
        _manifest(layers=_layer(mediaType=[])),
        _manifest(layers=_layer() * 128),
        _manifest(layers={"0": 1}),
        _manifest(layers=[None]),
        _manifest(config=None),
        b" " * (oci.MAX_MANIFEST_BYTES + 1),
    ],
)
def test_a_hostile_manifest_is_corrupt(raw: bytes) -> None:
    """Sizes, counts, kinds and the two meanings of one document are all checked."""
    with pytest.raises(Corrupt):
        oci.parse_manifest(raw)


def test_what_is_no_image_is_unsupported() -> None:
    """An artifact and a schema of the future are named as such."""
    artifact = oci.Descriptor("application/vnd.example+json", Digest.of(b"{}"), 2).document()
    for raw in (_manifest(config=artifact), _manifest(mediaType="application/vnd.future")):
        with pytest.raises(Unsupported):
            oci.parse_manifest(raw)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda v: st.lists(v, max_size=3))


@given(st.sampled_from(["config", "layers", "schemaVersion", "mediaType", "rootfs", "os", "annotations"]), _JSON)
def test_any_document_is_read_or_one_error(key: str, value: object) -> None:
    """Whatever stands where, what comes is a value or a leaf of ours."""
    for parse in (oci.parse_manifest, oci.parse_config, oci.parse_index):
        try:
            parse(_manifest(**{key: value}))
        except SampanError:
            pass


@pytest.mark.parametrize(
    "rootfs",
    [None, [], {"type": "layers"}, {"type": "x", "diff_ids": []}, {"type": "layers", "diff_ids": ["x"]}],
)
def test_a_config_without_layers_is_corrupt(rootfs: object) -> None:
    """A config must say which layers it means."""
    with pytest.raises(Corrupt):
        oci.parse_config(json.dumps({"rootfs": rootfs}).encode())
