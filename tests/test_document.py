"""JSON without importing json: the same values, deterministic bytes, one error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import document

pytestmark = [pytest.mark.first]

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), _VALUES))
def test_what_is_printed_is_read_back(value: dict[str, object]) -> None:
    """parse(render(x)) == x, and json reads the same."""
    text = document.render(value)
    assert document.parse(text) == value
    assert json.loads(text) == value


def test_equal_documents_have_equal_bytes() -> None:
    """Keys are sorted, there are no spaces, and all is ASCII."""
    assert document.render({"b": 1, "a": "é"}) == document.render({"a": "é", "b": 1}) == '{"a":"\\u00e9","b":1}'


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "[1]", "nope", '{"a":1} x', "[" * 100_000, '{"a":NaN', " {}"])
def test_what_is_no_object_is_malformed(text: str) -> None:
    """Every wrong text is one error, whatever the C scanner raised."""
    with pytest.raises(document.Malformed):
        document.parse(text)


def test_what_has_no_json_form_is_refused() -> None:
    """Bytes are a programming error, named by type."""
    with pytest.raises(TypeError, match="bytes has no JSON form"):
        document.render({"a": b""})
