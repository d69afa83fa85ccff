"""Streams with and without compression: members in any number, bombs in bounded pieces, damage in one error."""

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Callable
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import Corrupt
from sampan.storage.compression import Pieces, decompressed

zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

pytestmark = [pytest.mark.first]


def _zstd_compress(data: bytes) -> bytes:
    """Compress with a checksum, which the zstd program writes too."""
    packed: bytes = zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})
    return packed


_PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, bz2.compress, lzma.compress, _zstd_compress]


def _read(data: bytes) -> bytes:
    return b"".join(decompressed(io.BytesIO(data)))


@given(st.lists(st.binary(max_size=5000), min_size=1, max_size=4), st.sampled_from(_PACKERS), st.integers(0, 1024))
def test_members_one_after_the_other_are_one_stream(
    parts: list[bytes], pack: Callable[[bytes], bytes], zeros: int
) -> None:
    """Each is unpacked, and padding after the last is passed over."""
    assert _read(b"".join(pack(part) for part in parts) + bytes(zeros)) == b"".join(parts)


@given(
    st.binary(max_size=2000).filter(lambda data: not data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5")))
)
def test_what_is_not_compressed_stays(data: bytes) -> None:
    """A stream without a known beginning comes out as it is."""
    assert _read(data) == data


@pytest.mark.parametrize("pack", _PACKERS)
def test_damage_is_one_error(pack: Callable[[bytes], bytes]) -> None:
    """A cut, a flipped byte or rubbish behind is Corrupt; the control is whole."""
    whole = pack(b"content" * 1000)
    assert _read(whole) == b"content" * 1000
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    for bad in (whole[:-3], flipped, whole + b"rubbish"):
        with pytest.raises(Corrupt):
            _read(bad)


def test_a_bomb_comes_in_bounded_pieces() -> None:
    """A thousandfold expansion never stands in memory whole."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    sizes = [len(piece) for piece in decompressed(io.BytesIO(bomb))]
    assert sum(sizes) == 64 * 1024 * 1024
    assert max(sizes) <= 1024 * 1024


def test_an_index_between_zstd_frames_is_passed_over() -> None:
    """Skippable frames (RFC 8878 3.1.2), in which some tools keep an index, are no content; nor do they hide any."""
    index = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    whole = index + zstd.compress(b"one") + index + zstd.compress(b"two") + index
    assert _read(whole) == b"onetwo"
    with pytest.raises(Corrupt):
        _read(whole[:-1])


def test_a_zstd_window_is_bounded() -> None:
    """A frame that wants more memory than zstd asks for by itself is refused."""
    frame = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 28})
    with pytest.raises(Corrupt):
        _read(frame.compress(bytes(1024)) + frame.flush())


def test_pieces_are_read_like_a_file() -> None:
    """At most the asked size comes, and none at the end."""
    pieces = Pieces(iter([b"abcdef", b"g"]))
    assert [pieces.read(4) for _ in range(5)] == [b"abcd", b"ef", b"g", b"", b""]
