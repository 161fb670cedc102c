"""``Array[...]`` equals ``zarr.Array[...]`` equals NumPy, for arrays and selections of every kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec

from hangarlake import WriteCheckout
from hangarlake.arrays import WritableArray

DTYPES = ["?", "u1", "<i2", "<i8", "<f4", "<f8", "<c16", "<M8[ns]", "<m8[s]", "<U3", "S4", "<f2"]
numbers = itertools.count()


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw how an array is laid out."""
    ndim = draw(st.integers(0, 3))
    shape = tuple(draw(st.integers(0, 9)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    dtype = draw(st.sampled_from(DTYPES))
    layout: dict[str, Any] = {"shape": shape, "dtype": dtype, "chunks": chunks}
    if ndim and draw(st.booleans()):
        layout["shards"] = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    layout["compressors"] = draw(
        st.sampled_from([None, (ZstdCodec(level=3),), (GzipCodec(),), (BloscCodec(cname="lz4", clevel=1),)])
    )
    if ndim > 1 and draw(st.booleans()):
        layout["filters"] = (TransposeCodec(order=tuple(reversed(range(ndim)))),)
    if draw(st.booleans()):
        fills: dict[str, Any] = {"f": np.nan, "i": 7, "u": 7, "b": True}
        kind = np.dtype(dtype).kind
        if kind in fills:
            layout["fill_value"] = fills[kind]
    layout.setdefault("fill_value", "" if np.dtype(dtype).kind == "U" else b"" if np.dtype(dtype).kind == "S" else 0)
    return layout


@st.composite
def selections(draw: st.DrawFn, shape: tuple[int, ...], *, negative_steps: bool = True) -> Any:
    """Draw a basic selection."""
    parts: list[Any] = []
    for n in shape:
        if n and draw(st.integers(0, 3)) == 0:
            parts.append(draw(st.integers(-n, n - 1)))
        else:
            bound = st.none() | st.integers(-n - 2, n + 2)
            step = draw(st.none() | st.sampled_from([1, 2, 3, -1, -2] if negative_steps else [1, 2, 3]))
            parts.append(slice(draw(bound), draw(bound), step))
    cut = draw(st.integers(0, len(parts)))
    if draw(st.booleans()):
        parts = parts[:cut]
        if draw(st.booleans()):
            parts.append(...)
    return tuple(parts) if len(parts) != 1 or draw(st.booleans()) else parts[0]


def contents(dtype: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[Any]:
    """Return elements of a dtype, a third of them zero."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, shape) * rng.integers(0, 40, shape)
    if np.dtype(dtype).kind in "US":
        return values.astype("U3").astype(dtype)
    return values.astype("i8").astype(dtype)


@pytest.fixture(scope="module")
def writer(fresh_writer: Callable[[], WriteCheckout]) -> WriteCheckout:
    return fresh_writer()


def pair_of(writer: WriteCheckout, layout: dict[str, Any]) -> tuple[WritableArray, Any, npt.NDArray[Any]]:
    array = writer.create_array(f"a{next(numbers)}", **layout)
    memory = zarr.create_array({}, **layout)
    model = np.full(layout["shape"], memory.fill_value, layout["dtype"])
    return array, memory, model


def same(a: Any, b: Any) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert a.dtype == b.dtype or (not a.ndim and a.dtype.kind in "US")  # NumPy's scalars have no padding
    np.testing.assert_array_equal(a, b)


QUICK = settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], print_blob=False
)


@QUICK
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_reading_and_writing_equals_zarr_and_numpy(writer: WriteCheckout, data: st.DataObject) -> None:
    layout = data.draw(layouts())
    array, memory, model = pair_of(writer, layout)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(selections(layout["shape"]))
        values = contents(layout["dtype"], model[where].shape, data.draw(st.integers(0, 99)))
        array[where] = values
        model[where] = values
        if data.draw(st.integers(0, 3)) == 0:
            writer.commit("so far", allow_empty=True)
    memory[...] = model
    for negative in (True, False):
        where = data.draw(selections(layout["shape"], negative_steps=negative))
        same(array[where], model[where])
        if not negative:
            same(array.to_zarr()[where], model[where])
            same(array[where], memory[where])
    same(array[...], model)
    same(np.asarray(array), model)
    assert array.shape == memory.shape
    assert array.chunks == memory.chunks
    assert array.shards == memory.shards


@QUICK
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_what_zarr_writes_array_reads_and_the_other_way_round(writer: WriteCheckout, data: st.DataObject) -> None:
    layout = data.draw(layouts())
    array, _, model = pair_of(writer, layout)
    if model.ndim:
        model[...] = contents(layout["dtype"], model.shape, 5)
        array.to_zarr()[...] = model
        same(array[...], model)
        resized = tuple(data.draw(st.integers(0, 11)) for _ in model.shape)
        array.resize(resized)
        grown = np.full(resized, array.fill_value, layout["dtype"])
        common = tuple(slice(0, min(a, b)) for a, b in zip(resized, model.shape, strict=True))
        grown[common] = model[common]
        array[...] = grown
        same(array.to_zarr()[...], grown)


@QUICK
@given(data=st.data())
def test_orthogonal_and_coordinate_indexing_equal_numpy(writer: WriteCheckout, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    shards = data.draw(st.sampled_from([None, (4, 6)]))
    array = writer.create_array(f"a{next(numbers)}", shape=shape, dtype="i4", chunks=(2, 3), shards=shards)
    model = np.arange(np.prod(shape), dtype="i4").reshape(shape) + 1
    array[...] = model
    rows = data.draw(npst.arrays("i8", st.integers(1, 4), elements=st.integers(0, shape[0] - 1), unique=shape[0] > 3))
    rows = np.unique(rows)
    columns = data.draw(st.sampled_from([slice(None), slice(0, None, 2), np.arange(shape[1]) % 2 == 0, 0]))
    picked = np.arange(shape[1])[columns]
    same(array.oindex[rows, columns], model[rows][:, picked])
    same(array.vindex[rows, np.zeros_like(rows)], model[rows, 0])
    array.oindex[rows, columns] = 0
    model[np.ix_(rows, np.atleast_1d(picked))] = 0
    same(array[...], model)
    array[model == 0] = 9
    model[model == 0] = 9
    same(array[...], model)


def test_what_zarr_refuses_is_refused(writer: WriteCheckout) -> None:
    array = writer.create_array(f"a{next(numbers)}", shape=(4, 4), dtype="i4", chunks=(2, 2))
    for selection in (None, (None, 0), 4, (0, -5), (0, 0, 0), (..., ...), 1.5):
        with pytest.raises((IndexError, TypeError, ValueError)):
            array[selection]
        with pytest.raises((IndexError, TypeError, ValueError)):
            array[selection] = 1
    with pytest.raises(ValueError, match=r"broadcast|shape"):
        array[...] = np.zeros((3, 3))
    same(array[...], np.zeros((4, 4), "i4"))
