"""Dask: arrays and columns as Dask collections, and writing Dask arrays from any number of workers into one commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize

if TYPE_CHECKING:
    import numpy.typing as npt

    from hangarlake.arrays.array import Array
    from hangarlake.columns.column import Column
    from hangarlake.forking import ChangeSet, ForkedWriter
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["array_to_dask", "column_to_dask", "store_arrays"]

# Samples of a column that make up one task.
_TASK_BYTES = 32 << 20
_TASK_SAMPLES = 1 << 16


def array_to_dask(array: Array, chunks: Any = "auto") -> da.Array:
    """Return an array as a Dask array.

    Parameters
    ----------
    array : Array
        Of a read-only checkout where tasks run in other processes.
    chunks : tuple, int, dict or "auto"
        As Dask takes them; ``"auto"`` is a multiple of the array's chunks (of its shards, if it has them).

    Notes
    -----
    The name is made from the content, so equal arrays of equal commits share what Dask has computed.
    """
    shape, dtype = array.shape, array.dtype
    stored = array.shards or array.chunks
    if chunks == "auto" and stored is not None and shape and all(shape):
        chunks = da.core.normalize_chunks("auto", shape=shape, dtype=dtype, previous_chunks=stored)
    name = f"hangarlake-{tokenize(array, chunks)}"
    meta = np.empty((0,) * len(shape), dtype)
    return da.from_array(array, chunks=chunks, name=name, asarray=True, fancy=False, lock=False, meta=meta)


def column_to_dask(column: Column, *, batch: int | None = None) -> Any:
    """Return a column as a Dask collection, in key order; a nested one sub-sample by sub-sample.

    Parameters
    ----------
    column : Column
        Of a read-only checkout where tasks run in other processes.
    batch : int, optional
        Samples for each task; by default about 32 MiB of them.

    Returns
    -------
    dask.array.Array of shape (n, *sample shape)
        For ndarray columns of fixed shape.
    dask.bag.Bag
        Of the values, for all others.
    """
    keys: list[Any] = [(key, sub) for key in column for sub in column[key]] if column.nested else list(column)
    if batch is None:
        per_sample = max(1, column.nbytes // max(1, len(keys)))
        batch = max(1, min(_TASK_SAMPLES, _TASK_BYTES // per_sample))
    parts = [keys[i : i + batch] for i in range(0, len(keys), batch)]
    name = f"hangarlake-{tokenize(column, batch)}"
    read = dask.delayed(_read_batch, pure=True)
    pieces = [read(column, part, dask_key_name=(f"{name}-read", i)) for i, part in enumerate(parts)]
    if column.kind == "ndarray" and not column.variable_shape and not column.nested:
        shape = tuple(n or 0 for n in column.shape or ())
        dtype = column.dtype
        if not parts:
            return da.empty((0, *shape), dtype=dtype)
        blocks = [
            da.from_delayed(piece, shape=(len(part), *shape), dtype=dtype)
            for piece, part in zip(pieces, parts, strict=True)
        ]
        return da.concatenate(blocks)
    from dask import bag

    return bag.from_delayed(pieces) if pieces else bag.from_sequence([])


def _read_batch(column: Column, keys: Sequence[Any]) -> Any:
    return column.batch(keys)


# ---- writing ------------------------------------------------------------------------------------------------------------


def store_arrays(sources: Any, w: WriteCheckout, targets: Any, *, regions: Any = None, compute: bool = True) -> Any:
    """Write Dask arrays into arrays of a write checkout, from any number of workers; they are staged together.

    Parameters
    ----------
    sources : dask.array.Array, or a sequence of them
    w : WriteCheckout
    targets : str, or a sequence of str
        Paths of arrays, made beforehand; of the shape of the sources, or of `regions` of them.
    regions : tuple of slice, or a sequence of these, optional
        Where in the targets the sources go.
    compute : bool
        ``False`` returns a delayed list of change sets, for ``w.join(*…)``.

    Raises
    ------
    ValueError
        If shapes do not fit, or two blocks of a source lie in one chunk of its target: rechunk it before.
    MergeConflictError
        If what was staged meanwhile has other values for the same chunks.
    """
    single = isinstance(targets, str)
    arrays = [sources] if single else list(sources)
    paths = [targets] if single else list(targets)
    places = [regions] * len(paths) if single or regions is None else list(regions)
    fork = w.fork()
    write = dask.delayed(_write_blocks, pure=False)
    tasks = []
    for source, path, region in zip(arrays, paths, places, strict=True):
        target = w.arrays[path]
        starts = _starts(source, target, region)
        _check_blocks(source, target, starts, path)
        blocks = source.to_delayed().reshape(-1)
        offsets = list(_offsets(source.chunks, starts))
        for block, offset in zip(blocks, offsets, strict=True):
            tasks.append(write(fork, path, offset, block))
    if not compute:
        return dask.delayed(list)(tasks)
    w.join(*dask.compute(*tasks))
    return None


def _write_blocks(fork: ForkedWriter, path: str, offset: tuple[int, ...], block: npt.NDArray[Any]) -> ChangeSet:
    # Threads share the object; each task needs a fork of its own.
    with fork.fresh() as mine:
        region = tuple(slice(start, start + n) for start, n in zip(offset, np.shape(block), strict=True))
        mine.arrays[path][region] = block
        return mine.changes()


def _starts(source: da.Array, target: Array, region: Any) -> tuple[int, ...]:
    if region is None:
        if source.shape != target.shape:
            raise ValueError(f"a source of shape {source.shape} does not fit array {target.name!r} of {target.shape}")
        return (0,) * len(target.shape)
    parts = tuple(part.indices(n) for part, n in zip(region, target.shape, strict=True))
    if any(step != 1 for _, _, step in parts) or tuple(b - a for a, b, _ in parts) != source.shape:
        raise ValueError(f"a source of shape {source.shape} does not fit the region {region} of array {target.name!r}")
    return tuple(start for start, _, _ in parts)


def _offsets(chunks: tuple[tuple[int, ...], ...], starts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    axes = [[start + int(n) for n in np.cumsum((0, *sizes[:-1]))] for sizes, start in zip(chunks, starts, strict=True)]
    return iter(product(*axes))


def _check_blocks(source: da.Array, target: Array, starts: tuple[int, ...], path: str) -> None:
    stored = target.shards or target.chunks
    if stored is None:
        return
    for axis, (sizes, start, side) in enumerate(zip(source.chunks, starts, stored, strict=True)):
        borders = start + np.cumsum(sizes[:-1])
        if any(int(border) % side for border in borders):
            raise ValueError(
                f"blocks of the source meet within chunks of array {path!r} along axis {axis}; "
                f"rechunk it to multiples of {side} first"
            )
