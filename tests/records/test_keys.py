"""Keys: what goes in comes back, in order, and what no writer makes is corruption."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangarlake.errors import CorruptionError, SchemaError
from hangarlake.records.keys import (
    as_key_array,
    decode_grid,
    decode_key,
    decode_keys,
    encode_grid,
    encode_key,
    encode_keys,
)

_text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)
_flat = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), _text)
_keys = st.one_of(_flat, st.tuples(_flat, _flat))


@given(st.lists(_keys, max_size=20))
def test_keys_come_back_one_by_one_and_together(keys):
    encoded = [encode_key(key) for key in keys]
    assert [decode_key(data) for data in encoded] == keys
    assert encode_keys(keys).tolist() == encoded
    assert decode_keys(as_key_array(encoded)) == keys


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_bytes_that_are_no_key_are_corruption(listed):
    array = as_key_array(listed)
    try:
        keys = decode_keys(array)
    except CorruptionError:
        return
    assert keys == [decode_key(data) for data in array.tolist()]


@pytest.mark.parametrize(
    "data", [b"", b"\x50ab", b"\x20", b"\x20\xff", b"\x20\0\x20b", b"\x20a\0\x20b\0\x20c", b"\x30\1"]
)
def test_a_key_that_nobody_writes_is_named(data):
    for decode in (lambda: decode_key(data), lambda: decode_keys(as_key_array([data, encode_key("a")]))):
        with pytest.raises(CorruptionError, match="no key of a sample"):
            decode()


@given(
    st.integers(1, 5).flatmap(
        lambda ndim: st.lists(
            st.lists(st.integers(0, (1 << 32) - 1), min_size=ndim, max_size=ndim), min_size=1, max_size=9
        )
    )
)
def test_grid_coordinates_come_back_and_sort_row_major(rows):
    coordinates = np.array(sorted(rows), np.int64)
    keys = encode_grid(coordinates)
    assert keys.tolist() == sorted(keys.tolist())
    np.testing.assert_array_equal(decode_grid(keys, coordinates.shape[1]), coordinates)


@pytest.mark.parametrize("place", [1 << 32, -1])
def test_a_coordinate_that_does_not_fit_is_refused_rather_than_wrapped(place):
    with pytest.raises(SchemaError, match="larger chunks"):
        encode_grid(np.array([[0, place]], np.int64))


@pytest.mark.parametrize("data", [b"\x31\0\0\0\1", b"\x30\0\0\0\1\2", b"\x20abc", b""])
def test_keys_of_another_grid_are_corruption(data):
    with pytest.raises(CorruptionError, match="1 dimensions"):
        decode_grid(as_key_array([data, b"\x30"]), 1)
