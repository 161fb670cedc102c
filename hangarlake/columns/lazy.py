"""Lazy arrays: one large sample, of which only the chunks that a selection touches are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.columns.reading import SampleReader
from hangarlake.records.entries import Entries

__all__ = ["LazyArray"]


class LazyArray:
    """One sample, read on demand. Slicing it returns NumPy arrays.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    chunks : tuple of int
        Shape of the chunks that are read as a whole.
    """

    def __init__(self, reader: SampleReader, entries: Entries, shape: tuple[int, ...]) -> None:
        self._reader = reader
        self._entries = entries
        self.shape = shape
        self.dtype = reader.dtype
        self.chunks = reader.chunk_shape(entries, 0)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole sample."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d sample")
        return self.shape[0]

    def __getitem__(self, selection: Any) -> npt.NDArray[Any]:
        """Read a part: integers, slices (any step) and ``...``, as in NumPy.

        Raises
        ------
        IndexError
            For anything else, or out of bounds.
        """
        return self._reader.region(self._entries, 0, selection)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy array has to be read, which makes a copy")
        array = self[...]
        return array if dtype is None else array.astype(dtype)

    def __repr__(self) -> str:
        return f"<LazyArray shape={self.shape} dtype={self.dtype} chunks={self.chunks}>"
