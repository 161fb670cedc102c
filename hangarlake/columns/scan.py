"""Scanning a column: leaf by leaf, chunk by chunk, the next part being read while the present one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np

from hangarlake.columns.reading import SampleReader
from hangarlake.records.entries import Entries
from hangarlake.records.keys import decode_keys
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import NodeSource, iter_leaves
from hangarlake.storage.executors import io_pool

__all__ = ["scan_tree"]

# Raw bytes that are read at a time; two such parts are in memory.
_WINDOW_BYTES = 16 << 20
_WINDOW_ENTRIES = 1 << 15


def scan_tree(
    root: NodeRef | None, nodes: NodeSource, reader: SampleReader, *, by_key: bool, batch: int | None
) -> Iterator[tuple[list[Any], Any]]:
    """Yield (keys, values) of everything in a tree, `batch` samples at a time."""
    windows = _windows(root, nodes, reader, by_key, batch)
    for keys, values in _ahead(windows, lambda entries: _load(reader, entries)):
        if batch is None:
            yield keys, values
            continue
        for start in range(0, len(keys), batch):
            part = values[start : start + batch]
            yield keys[start : start + batch], part


def _load(reader: SampleReader, entries: Entries) -> tuple[list[Any], Any]:
    values = (
        reader.values(entries, cache=False) if reader.schema.variable_shape else reader.stacked(entries, cache=False)
    )
    return decode_keys(entries.keys), values


def _windows(
    root: NodeRef | None, nodes: NodeSource, reader: SampleReader, by_key: bool, batch: int | None
) -> Iterator[Entries]:
    """Yield entries, as many at a time as make up a window; all but the last hold a multiple of `batch`."""
    held: list[Entries] = []
    size = count = 0
    for leaf in iter_leaves(root, nodes):
        for entries, nbytes in _bounded(leaf.entries, reader):
            held.append(entries)
            size += nbytes
            count += len(entries)
            if size >= _WINDOW_BYTES or count >= _WINDOW_ENTRIES:
                whole = count - count % (batch or 1)
                if whole:
                    joined = Entries.concat(held)
                    rest = joined.take(slice(whole, None)).compact()
                    yield _arranged(joined.take(slice(0, whole)).compact(dedupe=True), by_key)
                    held, count = ([rest] if len(rest) else []), len(rest)
                    size = size * count // (whole + count)
    if held:
        yield _arranged(Entries.concat(held).compact(dedupe=True), by_key)


def _bounded(entries: Entries, reader: SampleReader) -> Iterator[tuple[Entries, int]]:
    """Split the entries of a leaf whose samples are large."""
    sizes = reader.sizes(entries)
    if int(sizes.sum()) <= 2 * _WINDOW_BYTES:
        yield entries, int(sizes.sum())
        return
    bounds = np.searchsorted(np.cumsum(sizes), np.arange(_WINDOW_BYTES, int(sizes.sum()), _WINDOW_BYTES)) + 1
    start = 0
    for end in [*sorted(set(bounds.tolist())), len(entries)]:
        if end > start:
            yield entries.take(slice(start, end)).compact(), int(sizes[start:end].sum())
            start = end


def _arranged(entries: Entries, by_key: bool) -> Entries:
    """Put entries in the order in which they lie in the bucket, unless they are wanted by key."""
    if by_key:
        return entries
    table, rows = entries.table, entries.rows
    order = np.lexsort((entries.index, table.offsets[rows], table.packs[rows]))
    return entries if bool((order[1:] > order[:-1]).all()) else entries.take(order)


def _ahead(
    windows: Iterator[Entries], load: Callable[[Entries], tuple[list[Any], Any]]
) -> Iterator[tuple[list[Any], Any]]:
    """Load one window ahead of the one that is being used."""
    coming: Future[tuple[list[Any], Any]] | None = None
    for window in windows:
        following = io_pool().submit(load, window)
        if coming is not None:
            yield coming.result()
        coming = following
    if coming is not None:
        yield coming.result()
