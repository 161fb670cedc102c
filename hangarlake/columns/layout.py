"""How the samples of a column are laid into chunks: shared rows, shared runs, or a grid for each large sample."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hangarlake.chunks.codecs import compressor_codecs
from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.grid import TARGET_BYTES, choose_chunk_shape, chunk_count, iter_chunks
from hangarlake.errors import SchemaError
from hangarlake.records.catalog import ColumnSchema
from hangarlake.records.node import MAX_VALUE_CHUNKS

__all__ = ["ColumnLayout", "check_encoding"]

CHUNK_BYTES = 64 << 10
GRID_BYTES = 4 << 20
# However small samples are, a chunk holds no more of them than this.
MAX_ITEMS = 4096
_OPTIONS = ("compressor", "level", "chunk_bytes", "chunk_shape")


def check_encoding(name: str, encoding: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check the options of ``encoding=`` and return them as a dict (JSON-ready).

    Raises
    ------
    SchemaError
        Naming the unknown option and those there are.
    """
    options = dict(encoding or {})
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise SchemaError(f"column {name!r}: unknown encoding option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    size = options.get("chunk_bytes")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 1 << 30):
        raise SchemaError(f"column {name!r}: chunk_bytes is an int from 1 to 2**30, not {size!r}")
    chunk_shape = options.get("chunk_shape")
    if chunk_shape is not None:
        try:
            options["chunk_shape"] = [operator.index(n) for n in chunk_shape]
        except TypeError:
            raise SchemaError(f"column {name!r}: chunk_shape is a tuple of int, not {chunk_shape!r}") from None
    return options


@dataclass(frozen=True)
class ColumnLayout:
    """The layout of a column's new chunks.

    Attributes
    ----------
    chunk_bytes : int
        Raw bytes at which a shared chunk is closed.
    rows_per_chunk : int
        Samples in a shared chunk of fixed-shape samples; 0 where samples vary (runs).
    shared : Encoding
        Of shared chunks, and of chunks with one sample.
    """

    schema: ColumnSchema
    chunk_bytes: int
    rows_per_chunk: int
    shared: Encoding
    grid_shape: tuple[int, ...] | None
    max_items: int = MAX_ITEMS

    @classmethod
    def of(cls, name: str, schema: ColumnSchema, options: Mapping[str, Any]) -> ColumnLayout:
        """Derive the layout from a schema and checked encoding options.

        Raises
        ------
        SchemaError
            If the options do not fit the schema.
        """
        dtype = schema.np_dtype
        codecs = compressor_codecs(options.get("compressor", "zstd"), options.get("level"), dtype)
        chunk_bytes = options.get("chunk_bytes") or CHUNK_BYTES
        rows = 0
        if not schema.variable_shape:
            nbytes = math.prod(n or 0 for n in schema.shape) * dtype.itemsize
            rows = min(MAX_ITEMS, max(1, chunk_bytes // max(1, nbytes)))
        grid = options.get("chunk_shape")
        if grid is not None and (len(grid) != len(schema.shape) or any(n < 1 for n in grid)):
            raise SchemaError(
                f"column {name!r}: chunk_shape {grid} does not fit samples of {len(schema.shape)} dimensions"
            )
        shared = Encoding("rows" if rows else "run", codecs)
        return cls(schema, chunk_bytes, rows, shared, None if grid is None else tuple(grid))

    def is_grid(self, sample: npt.NDArray[Any]) -> bool:
        """Whether a sample is cut on a chunk grid."""
        if not sample.ndim or not sample.size:
            return False
        if self.grid_shape is not None:
            return any(n > c for n, c in zip(sample.shape, self.grid_shape, strict=True))
        return sample.nbytes > GRID_BYTES

    def cut(self, sample: npt.NDArray[Any]) -> tuple[Encoding, list[tuple[slice, ...]]]:
        """Return the encoding of a large sample's chunks, and the slices that cut it, in C order of the grid.

        Raises
        ------
        SchemaError
            If the ``chunk_shape`` that was asked for makes more chunks of it than a value may have.
        """
        if self.grid_shape is not None:
            shape = self.grid_shape
            count = chunk_count(sample.shape, shape)
            if count > MAX_VALUE_CHUNKS:
                raise SchemaError(
                    f"a sample of shape {sample.shape} makes {count:,} chunks of shape {shape}, and {MAX_VALUE_CHUNKS:,} is the "
                    "most; choose a larger chunk_shape, or store it as an array (create_array)"
                )
        else:
            target = TARGET_BYTES
            shape = choose_chunk_shape(sample.shape, sample.dtype.itemsize)
            while chunk_count(sample.shape, shape) > MAX_VALUE_CHUNKS:
                target *= 2
                shape = choose_chunk_shape(sample.shape, sample.dtype.itemsize, target)
        encoding = Encoding("grid", self.shared.codecs, tuple(int(n) for n in shape))
        return encoding, list(iter_chunks(sample.shape, shape))
