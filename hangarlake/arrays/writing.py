"""Writing a region of an array: chunks are encoded on threads; those that are written in part are read before."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.casting import cast
from hangarlake.arrays.hierarchy import WritingOwner
from hangarlake.arrays.layout import ArrayLayout
from hangarlake.arrays.reading import ChunkPart, Region, locate_chunks, read_chunks
from hangarlake.chunks.codecs import encode_chunk
from hangarlake.chunks.digests import blake3_160
from hangarlake.storage.executors import cpu_count, cpu_pool

__all__ = ["write_region"]

# Partial chunks that are read and changed together.
_PARTIAL_BYTES = 64 << 20

_Encoded = tuple[bytes, bytes] | None


def write_region(owner: WritingOwner, name: str, layout: ArrayLayout, selection: Any, value: Any) -> None:
    """Stage a basic selection of an array.

    Values are cast as :func:`~hangarlake.arrays.casting.cast` does, and broadcast as NumPy assigns them. Chunks that hold
    nothing but the fill value are not stored, and removed where they were.

    Raises
    ------
    IndexError
        For what is no basic selection, or out of bounds.
    ValueError
        For values whose shape does not fit.
    SchemaError
        For values that the array cannot hold exactly.
    """
    region = Region(layout, selection)
    values = np.broadcast_to(_squeezed(cast(name, value, layout.dtype), region.shape), region.shape)
    if not values.size:
        return
    parts = region.parts()
    whole = [i for i, part in enumerate(parts) if part.whole]
    writer = _Writer(owner, name, layout)
    for i in whole:
        writer.submit(region.coordinates[i], parts[i], values, None)
    partial = [i for i, part in enumerate(parts) if not part.whole]
    step = max(1, _PARTIAL_BYTES // max(1, layout.chunk_nbytes))
    for start in range(0, len(partial), step):
        _write_partial(writer, region, parts, partial[start : start + step], values)
    writer.finish()


def _squeezed(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Drop leading axes of length 1 that NumPy ignores when it assigns."""
    while values.ndim > len(shape) and values.shape[0] == 1:
        values = values[0]
    return values


def _write_partial(
    writer: _Writer, region: Region, parts: list[ChunkPart], numbers: list[int], values: npt.NDArray[Any]
) -> None:
    layout = writer.layout
    coordinates = region.coordinates[numbers]
    places = locate_chunks(writer.owner, writer.name, layout, coordinates)
    before: dict[int, npt.NDArray[Any]] = {}

    def keep(k: int, chunk: npt.NDArray[Any]) -> None:
        before[k] = chunk.copy()

    read_chunks(writer.owner, writer.name, layout, coordinates, places, keep)
    for k, i in enumerate(numbers):
        chunk = before.pop(k, None)
        if chunk is None:
            chunk = _filled(layout)
        writer.submit(coordinates[k], parts[i], values, chunk)


def _filled(layout: ArrayLayout) -> npt.NDArray[Any]:
    return np.full(layout.chunk_shape or (), layout.fill_value, layout.dtype)


class _Writer:
    """Encodes chunks on threads, and stages them in the order in which they come."""

    def __init__(self, owner: WritingOwner, name: str, layout: ArrayLayout) -> None:
        self.owner = owner
        self.name = name
        self.layout = layout
        self._keys = layout.keys
        self._ahead: deque[tuple[bytes, Future[_Encoded]]] = deque()
        self._most = 2 * cpu_count() + 2

    def submit(
        self,
        coordinates: npt.NDArray[np.int64],
        part: ChunkPart,
        values: npt.NDArray[Any],
        chunk: npt.NDArray[Any] | None,
    ) -> None:
        """Take one chunk: `chunk` is what it held before, ``None`` where all of it is new."""
        assert self._keys is not None
        key = self._keys.key(coordinates.tolist())
        future = cpu_pool().submit(_encode, self.layout, part, values, chunk)
        self._ahead.append((key, future))
        while len(self._ahead) > self._most:
            self._stage_first()

    def _stage_first(self) -> None:
        key, future = self._ahead.popleft()
        encoded = future.result()
        with self.owner.guard:
            stage = self.owner.array_stage(self.name)
            if encoded is not None:
                stage.set(key, encoded[1], encoded[0])
            elif stage.may_have(key):
                stage.remove(key)

    def finish(self) -> None:
        while self._ahead:
            self._stage_first()


def _encode(layout: ArrayLayout, part: ChunkPart, values: npt.NDArray[Any], chunk: npt.NDArray[Any] | None) -> _Encoded:
    assert layout.encoding is not None
    assert layout.chunk_shape is not None
    where: tuple[Any, ...] = (*part.put, ...)  # an array even where nothing is left to index
    given = values[where]
    if chunk is not None:
        chunk[part.take] = given
    elif given.size == math.prod(layout.chunk_shape):
        chunk = given.reshape(layout.chunk_shape)
    else:
        # At the upper edge: what lies beyond the array is the fill value.
        chunk = _filled(layout)
        extents = tuple(slice(0, t.stop) if isinstance(t, slice) else slice(0, 1) for t in part.take)
        chunk[extents] = given.reshape(chunk[extents].shape)
    if _may_be_fill(layout, chunk) and layout.is_fill(np.ascontiguousarray(chunk)):
        return None
    data = encode_chunk(chunk, layout.encoding, fill_value=layout.fill_of_shards)
    return blake3_160(data), data


def _may_be_fill(layout: ArrayLayout, chunk: npt.NDArray[Any]) -> bool:
    """Look at one element before looking at all."""
    first, fill = chunk[(0,) * chunk.ndim], layout.fill_value
    return bool(first == fill) or first != first
