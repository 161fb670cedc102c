"""How many chunks a large sample is cut into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hangarlake.chunks import packs
from hangarlake.chunks.grid import chunk_count
from hangarlake.columns.layout import ColumnLayout
from hangarlake.errors import SchemaError
from hangarlake.records.catalog import ColumnSchema
from hangarlake.records.node import MAX_VALUE_CHUNKS


def layout_of(shape: tuple[int, ...], **options: Any) -> ColumnLayout:
    return ColumnLayout.of("volumes", ColumnSchema("ndarray", "<u2", shape), options)


def untouched(shape: tuple[int, ...]) -> np.ndarray:
    """An array of any size that takes no memory."""
    return np.broadcast_to(np.uint16(0), shape)


@pytest.mark.parametrize(
    "shape", [(1 << 22,), (3_000, 40_000), (1 << 36,), (1 << 45,), (100_000, 100_000, 7), (2,) * 22, (3,) * 30]
)
def test_however_large_a_sample_is_its_chunks_are_as_many_as_a_leaf_can_list(shape):
    sample = untouched(shape)
    layout = layout_of(shape)
    assert layout.is_grid(sample)
    encoding, pieces = layout.cut(sample)
    assert encoding.chunk_shape is not None
    assert len(pieces) == chunk_count(shape, encoding.chunk_shape) <= MAX_VALUE_CHUNKS


def test_a_chunk_shape_that_makes_the_most_chunks_is_taken_and_one_more_is_refused():
    shape = (MAX_VALUE_CHUNKS, 3)
    assert len(layout_of(shape, chunk_shape=(1, 3)).cut(untouched(shape))[1]) == MAX_VALUE_CHUNKS
    shape = (MAX_VALUE_CHUNKS + 1, 3)
    with pytest.raises(SchemaError, match=r"32,769 chunks of shape \(1, 3\).*larger chunk_shape"):
        layout_of(shape, chunk_shape=(1, 3)).cut(untouched(shape))


def test_a_sample_of_too_many_chunks_is_refused_before_anything_is_uploaded(w, local_store):
    column = w.add_ndarray_column(
        "x", (MAX_VALUE_CHUNKS + 1,), "u1", encoding={"chunk_shape": (1,), "compressor": None}
    )
    before = list(local_store.list(""))
    for put in (
        lambda: column.__setitem__(0, np.zeros(MAX_VALUE_CHUNKS + 1, "u1")),
        lambda: column.extend([0, 1], np.zeros((2, MAX_VALUE_CHUNKS + 1), "u1")),
    ):
        with pytest.raises(SchemaError, match="chunk_shape"):
            put()
    assert len(column) == 0
    w.flush()
    assert list(local_store.list("")) == before


def test_chunks_of_a_very_large_sample_do_not_fill_packs_without_end(w, local_store, monkeypatch):
    # As if a value were left one pack of 4 kB: what is cut into sixteen chunks keeps none of 256 bytes or more in packs.
    monkeypatch.setattr(packs, "PACK_BYTES", 4096)
    monkeypatch.setattr(packs, "_VALUE_PACKS", 1)
    column = w.add_ndarray_column("x", (None,), "u1", variable_shape=True, encoding={"chunk_shape": (300,)})
    values = {"few": np.random.default_rng(0).bytes(900), "many": np.random.default_rng(1).bytes(4800)}
    for key, value in values.items():
        column[key] = np.frombuffer(value, "u1")
    w.commit("both")
    names = [info.key.rpartition("/")[2] for info in local_store.list("packs/")]
    assert sorted(map(len, names)) == [40] * 16 + [64]
    assert {key: column[key].tobytes() for key in column} == values
