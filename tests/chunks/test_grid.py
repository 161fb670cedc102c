from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.chunks.grid import (
    choose_chunk_shape,
    chunk_count,
    chunk_extents,
    chunks_touched,
    grid_shape,
    iter_chunks,
    normalize_selection,
    selection_shape,
)

sides = st.integers(-12, 12) | st.none()
steps = st.integers(-5, 5).filter(bool) | st.none()
parts = st.integers(-9, 9) | st.builds(slice, sides, sides, steps) | st.just(Ellipsis)


@st.composite
def grids(draw):
    rank = draw(st.integers(0, 4))
    shape = tuple(draw(st.integers(0, 9)) for _ in range(rank))
    return shape, tuple(draw(st.integers(1, 11)) for _ in range(rank))


@settings(max_examples=1000)
@given(grids(), st.lists(parts, max_size=4).map(tuple) | parts)
def test_selections_are_those_of_numpy(grid, selection):
    shape, chunk_shape = grid
    array = np.arange(math.prod(shape)).reshape(shape)
    try:
        expected = array[selection]
    except IndexError:
        with pytest.raises(IndexError):
            chunks_touched(shape, chunk_shape, selection)
        return
    chunks = [array[region] for region in iter_chunks(shape, chunk_shape)]
    out = np.full(selection_shape(normalize_selection(selection, shape)), -1)
    touched = chunks_touched(shape, chunk_shape, selection)
    for index, take, put in touched:
        part = chunks[index][take]
        assert part.size > 0  # nothing is read that is not needed
        assert part.shape == out[put].shape
        out[put] = part
    assert len({index for index, *_ in touched}) == len(touched)
    np.testing.assert_array_equal(out, expected)
    assert out.shape == np.shape(expected)


@given(grids())
def test_chunks_cover_the_array_in_order(grid):
    shape, chunk_shape = grid
    array = np.full(shape, -1)
    regions = list(iter_chunks(shape, chunk_shape))
    assert len(regions) == chunk_count(shape, chunk_shape) == math.prod(grid_shape(shape, chunk_shape))
    for i, region in enumerate(regions):
        assert (array[region] == -1).all()
        array[region] = i
        assert array[region].shape == chunk_extents(i, shape, chunk_shape)
    assert (array >= 0).all()


@given(
    st.lists(st.integers(0, 100_000), max_size=5).map(tuple),
    st.sampled_from([1, 2, 8, 16, 400]),
    st.sampled_from([1 << 10, 1 << 20, 4 << 20]),
)
def test_chosen_chunks_fit_and_are_not_needlessly_small(shape, itemsize, target):
    chunk_shape = choose_chunk_shape(shape, itemsize, target)
    assert len(chunk_shape) == len(shape)
    assert all(1 <= side <= max(n, 1) for n, side in zip(shape, chunk_shape, strict=True))
    nbytes = math.prod(chunk_shape) * itemsize
    assert nbytes <= max(target, itemsize)
    if 0 not in shape and math.prod(shape) * itemsize > target:
        # Halving a side may lose half, evening out each of them at most half again.
        assert nbytes * 4 * 2 ** len(shape) >= target
    if 0 not in shape and math.prod(shape) * itemsize <= target:
        assert chunk_shape == shape


def test_chosen_chunks_are_about_cubic_and_even():
    assert choose_chunk_shape((1000, 1000, 1000), 4, 2 << 20) == (63, 63, 125)
    assert choose_chunk_shape((4, 5000, 5000), 2, 2 << 20) == (4, 313, 625)
    assert choose_chunk_shape((), 8) == ()


@pytest.mark.parametrize(
    "selection",
    [
        None,
        np.newaxis,
        True,
        np.True_,
        np.array(True),
        [0],
        [True, False],
        np.array([0]),
        np.array([[1]]),
        1.0,
        "a",
        (0, None),
        (..., ...),
        (0, 0, 0),
        3,
        -4,
        slice(None, None, 0),
        slice("a", None),
        slice(1.5, None),
        np.array([True, False, True]),
    ],
)
def test_what_is_no_basic_selection_is_an_index_error(selection):
    with pytest.raises(IndexError):
        chunks_touched((3, 3), (2, 2), selection)


@pytest.mark.parametrize("index", [np.int64(1), np.uint8(1), np.array(1)])
def test_numpy_integers_are_integers(index):
    assert chunks_touched((3,), (2,), index) == chunks_touched((3,), (2,), 1)


def test_chunks_that_do_not_fit_the_array_are_refused():
    with pytest.raises(ValueError, match="cut"):
        grid_shape((1, 2), (1,))
    with pytest.raises(ValueError, match="cut"):
        chunks_touched((2,), (0,), ...)
    with pytest.raises(IndexError):
        chunk_extents(4, (4, 4), (2, 2))
