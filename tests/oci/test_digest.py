"""Digests: parse and print are inverse; what has no digest is refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import Corrupt, InvalidArgument
from sampan.oci.digest import Digest, chain_ids

pytestmark = [pytest.mark.first]


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_what_is_printed_is_read_back(content: bytes, algorithm: str) -> None:
    """parse(str(x)) == x, for the digest of anything."""
    digest = Digest.of(content, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.hex == hashlib.new(algorithm, content).hexdigest()
    digest.verify(content, "it")
    with pytest.raises(Corrupt, match="is not what its digest says"):
        digest.verify(content + b"x", "it")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:abc",
        f"sha256:{'A' * 64}",
        f"md5:{'a' * 32}",
        f"sha256:{'a' * 65}",
        f"{'a' * 64}",
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    """Only registered algorithms with the exact length in lower case are digests."""
    with pytest.raises(InvalidArgument, match="is not a digest"):
        Digest.parse(text)


@given(st.text())
def test_any_text_is_a_digest_or_one_error(text: str) -> None:
    """No text makes parse fail in another way."""
    try:
        assert str(Digest.parse(text)) == text
    except InvalidArgument:
        pass


def test_a_chain_id_names_a_layer_on_all_below() -> None:
    """The first chain id is the diff id; each other hashes the one below and its own (image-spec config.md)."""
    diff_ids = [Digest.of(bytes([number])) for number in range(3)]
    first, second, third = chain_ids(diff_ids)
    assert first == diff_ids[0]
    assert second == Digest.of(f"{first} {diff_ids[1]}".encode())
    assert third == Digest.of(f"{second} {diff_ids[2]}".encode())
    assert chain_ids([]) == ()
