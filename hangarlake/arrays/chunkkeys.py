"""Chunk keys: between the names that Zarr gives chunks, their grid coordinates, and the keys of trees."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.records.keys import GRID_TAG, KeyArray, decode_grid, encode_grid

__all__ = ["ChunkKeys", "chunk_keys_of", "grid_keys", "grid_of"]

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_MOST = (1 << 32) - 1


def grid_keys(coordinates: npt.NDArray[np.integer[Any]]) -> KeyArray:
    """Return the tree keys of grid coordinates, shape (n, ndim)."""
    if not coordinates.shape[1]:
        return np.full(len(coordinates), GRID_TAG)
    return encode_grid(coordinates)


def grid_of(keys: KeyArray, ndim: int) -> npt.NDArray[np.uint32]:
    """Return the grid coordinates, shape (n, ndim), of tree keys."""
    return decode_grid(keys, ndim) if ndim else np.empty((len(keys), 0), np.uint32)


class ChunkKeys:
    """The chunk keys of arrays of one rank and one ``chunk_key_encoding``.

    Parameters
    ----------
    ndim : int
    name : "default" or "v2"
    separator : "/" or "."
    """

    def __init__(self, ndim: int, name: str, separator: str) -> None:
        self.ndim = ndim
        self.name = name
        self.separator = separator
        self._pack = struct.Struct(f">{ndim}I").pack
        # What every name of a chunk starts with.
        self.prefix = "" if name == "v2" else ("c" + separator if ndim else "c")

    def parse(self, text: str) -> bytes | None:
        """Return the tree key of a chunk's name, ``None`` if it names no chunk."""
        if not self.ndim:
            return GRID_TAG if text == ("c" if self.name == "default" else "0") else None
        if not text.startswith(self.prefix):
            return None
        parts = text[len(self.prefix) :].split(self.separator)
        if len(parts) != self.ndim or not all(map(_NUMBER.fullmatch, parts)):
            return None
        numbers = [int(part) for part in parts]
        return self.key(numbers) if max(numbers) <= _MOST else None

    def key(self, coordinates: Sequence[int]) -> bytes:
        """Return the tree key of grid coordinates."""
        return (GRID_TAG + self._pack(*coordinates)).rstrip(b"\0")

    def name_of(self, coordinates: Sequence[int]) -> str:
        """Return the name of the chunk at grid coordinates, without the array's path."""
        if not self.ndim:
            return "c" if self.name == "default" else "0"
        return self.prefix + self.separator.join(map(str, coordinates))

    def names(self, keys: KeyArray) -> Iterator[str]:
        """Yield the names of chunks, given their tree keys."""
        for coordinates in grid_of(keys, self.ndim).tolist():
            yield self.name_of(coordinates)


def chunk_keys_of(metadata: Mapping[str, Any]) -> ChunkKeys | None:
    """Return the chunk keys of an array, ``None`` where it has a ``chunk_key_encoding`` that is not known."""
    encoding = metadata.get("chunk_key_encoding", "default")
    if isinstance(encoding, str):
        encoding = {"name": encoding}
    name = encoding.get("name")
    if name not in ("default", "v2"):
        return None
    separator = (encoding.get("configuration") or {}).get("separator", "/" if name == "default" else ".")
    return _chunk_keys(len(metadata["shape"]), name, separator) if separator in ("/", ".") else None


@lru_cache(maxsize=64)
def _chunk_keys(ndim: int, name: str, separator: str) -> ChunkKeys:
    return ChunkKeys(ndim, name, separator)
