"""The attach protocol's laws."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import frame
from sampan.errors import CommandNotFound, Corrupt, NotFound, SampanError

pytestmark = [pytest.mark.first]

frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=8)


@given(frames, st.lists(st.integers(0, 400), max_size=6))
def test_frames_come_out_as_they_went_in_however_they_were_cut(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """A decoder fed any cutting of the stream yields the same frames."""
    stream = b"".join(frame.pack(kind, payload) for kind, payload in sent)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    decoder = frame.Decoder()
    got = [found for a, b in itertools.pairwise(places) for found in decoder.feed(stream[a:b])]
    assert got == sent


def test_who_stops_reading_finds_the_rest_later() -> None:
    """A decoder that was left in the middle keeps what came with the first frame."""
    decoder = frame.Decoder()
    for found in decoder.feed(frame.pack(1, b"a") + frame.pack(2, b"b")):
        assert found == (1, b"a")
        break
    assert list(decoder.feed(b"")) == [(2, b"b")]


def test_a_frame_has_a_bound() -> None:
    """A length past the bound is Corrupt before a byte of it is kept."""
    with pytest.raises(Corrupt):
        list(frame.Decoder(10).feed(frame.pack(0, b"x" * 11)))


def test_an_error_crosses_with_its_causes() -> None:
    """Leaf, words, hints, and an OSError's errno and path arrive as they left."""
    error = CommandNotFound("the command `x` was not found", hints=("try `y`",))
    error.__cause__ = FileNotFoundError(2, "No such file or directory", "/x")
    arrived = frame.parse_error(frame.render_error(error))
    assert type(arrived) is CommandNotFound
    assert (arrived.what, arrived.hints, arrived.exit_status) == (error.what, error.hints, 127)
    assert isinstance(arrived.__cause__, FileNotFoundError)
    assert arrived.__cause__.filename == "/x"


def test_an_error_of_nobody_s_is_ours() -> None:
    """What is no SampanError arrives as one, with the thing itself as its cause."""
    arrived = frame.parse_error(frame.render_error(ZeroDivisionError("x")))
    assert isinstance(arrived, SampanError)
    assert "ZeroDivisionError" in str(arrived.__cause__)
    assert not isinstance(arrived, NotFound)


def test_what_is_no_error_document_is_corrupt() -> None:
    """Rubbish in an ERROR frame is said to be rubbish."""
    assert isinstance(_raised(b"rubbish"), Corrupt)


def _raised(payload: bytes) -> Exception:
    try:
        return frame.parse_error(payload)
    except SampanError as error:
        return error
