"""The open chunk of a column: where small samples gather until there are enough for a chunk."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hangarlake.columns.layout import ColumnLayout
from hangarlake.columns.samples import Sample

__all__ = ["ClosedChunk", "OpenChunk"]


class ClosedChunk(NamedTuple):
    """A chunk that is ready to be encoded."""

    array: npt.NDArray[Any]
    ordinals: npt.NDArray[np.int64]
    places: npt.NDArray[np.uint64]


class OpenChunk:
    """Samples that are in no chunk yet. It owns its memory: what is put in is copied.

    Samples of one shape fill the rows of an array; others follow one another as a run of elements.
    """

    def __init__(self, layout: ColumnLayout) -> None:
        self._layout = layout
        self._dtype = layout.schema.np_dtype
        self._rows = layout.rows_per_chunk
        self._shape = tuple(n or 0 for n in layout.schema.shape)
        self._ordinals: list[int] = []
        self._array: npt.NDArray[Any] | None = None
        self._parts: list[npt.NDArray[Any]] = []
        self._elements = 0

    def __len__(self) -> int:
        return len(self._ordinals)

    @property
    def room(self) -> int:
        """Rows that are left (fixed shapes)."""
        return self._rows - len(self._ordinals)

    def find(self, ordinal: int) -> Sample | None:
        """Return the elements of a sample, or ``None`` if it is not here. A run's elements come flat."""
        if ordinal not in self._ordinals:
            return None
        at = self._ordinals.index(ordinal)
        if self._array is not None:
            return np.asarray(self._array[at, ...])
        return self._parts[at]

    def add_row(self, ordinal: int, sample: Sample) -> ClosedChunk | None:
        """Put in one sample of the fixed shape; return the chunk if it is full now."""
        array = self._array
        if array is None:
            array = self._array = np.empty((self._rows, *self._shape), self._dtype)
        array[len(self._ordinals)] = sample
        self._ordinals.append(ordinal)
        return self.close() if len(self._ordinals) == self._rows else None

    def add_rows(self, ordinals: npt.NDArray[np.int64], block: npt.NDArray[Any]) -> ClosedChunk | None:
        """Put in samples of the fixed shape, as many as there is room for at the most."""
        start = len(self._ordinals)
        if self._array is None:
            self._array = np.empty((self._rows, *self._shape), self._dtype)
        self._array[start : start + len(block)] = block
        self._ordinals += ordinals.tolist()
        return self.close() if len(self._ordinals) == self._rows else None

    def add_run(self, ordinal: int, sample: Sample) -> ClosedChunk | None:
        """Put in one sample of any shape; return the chunk if it is large enough now."""
        self._ordinals.append(ordinal)
        self._parts.append(sample.reshape(-1).copy())
        self._elements += sample.size
        full = self._elements * self._dtype.itemsize >= self._layout.chunk_bytes
        return self.close() if full or len(self._ordinals) >= self._layout.max_items else None

    def close(self) -> ClosedChunk | None:
        """Return what has gathered, and be empty again; ``None`` if there is nothing."""
        if not self._ordinals:
            return None
        ordinals = np.array(self._ordinals, np.int64)
        if self._array is not None:
            array = self._array[: len(ordinals)]
            places = np.arange(len(ordinals), dtype=np.uint64)
        else:
            array = np.concatenate(self._parts)
            sizes = np.array([part.size for part in self._parts], np.uint64)
            places = np.cumsum(sizes) - sizes
        self.clear()
        return ClosedChunk(array, ordinals, places)

    def clear(self) -> None:
        """Drop what has gathered."""
        self._ordinals, self._array, self._parts, self._elements = [], None, [], 0
