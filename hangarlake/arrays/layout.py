"""What an array's ``zarr.json`` says, ready for reading and writing chunks."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.chunkkeys import ChunkKeys, chunk_keys_of
from hangarlake.arrays.metadata import restored
from hangarlake.chunks.codecs import encode_chunk
from hangarlake.chunks.digests import canonical_dtype
from hangarlake.chunks.encodings import Encoding
from hangarlake.errors import HangarlakeError, SchemaError, UnsupportedFormatError

__all__ = ["ArrayLayout", "check_grid", "checked_shape"]

# Grid coordinates are stored in 32 bits (format §6).
_MOST_CHUNKS = 1 << 32


def checked_shape(what: str, shape: Sequence[int] | int) -> tuple[int, ...]:
    """Return the lengths of dimensions that a person gave.

    Raises
    ------
    SchemaError
        Naming `what` they are of, if one of them is no integer from 0.
    """
    try:
        lengths = tuple(map(operator.index, (shape,) if isinstance(shape, int | np.integer) else shape))
    except TypeError:
        lengths = (-1,)
    if any(n < 0 for n in lengths):
        raise SchemaError(f"{what}: a shape is a tuple of int from 0, not {shape!r}")
    return lengths


def check_grid(name: str, metadata: Mapping[str, Any]) -> None:
    """Refuse an array of more chunks than can be told apart.

    Raises
    ------
    SchemaError
    """
    shape = metadata["shape"]
    for axis, (n, side) in enumerate(zip(shape, _chunk_shape(metadata, len(shape)) or shape, strict=True)):
        if side and -(-n // side) > _MOST_CHUNKS:
            raise SchemaError(
                f"array {name!r} would have {-(-n // side):,} chunks along axis {axis}, and {_MOST_CHUNKS:,} is the most; "
                "choose larger chunks or a smaller shape"
            )


@dataclass(frozen=True)
class ArrayLayout:
    """The layout of an array.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        Of the elements in memory.
    chunk_shape : tuple of int or None
        Of what is stored under one key (the shards, where there are any); ``None`` for an irregular grid.
    inner_shape : tuple of int or None
        Of the chunks within shards.
    fill_value : scalar
        Of missing chunks.
    dimension_names : tuple of (str or None), or None
    keys : ChunkKeys or None
    encoding : Encoding or None
        The codecs, where chunks can be coded without zarr; else ``None``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_shape: tuple[int, ...] | None
    inner_shape: tuple[int, ...] | None
    fill_value: Any
    dimension_names: tuple[str | None, ...] | None
    keys: ChunkKeys | None
    encoding: Encoding | None

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> ArrayLayout:
        """Read the metadata of an array.

        Raises
        ------
        UnsupportedFormatError
            For a data type or fill value that the installed zarr does not know.
        """
        from zarr.core.dtype import get_data_type_from_json

        shape = tuple(metadata["shape"])
        try:
            data_type = get_data_type_from_json(restored(metadata["data_type"]), zarr_format=3)
            fill: Any = data_type.from_json_scalar(restored(metadata.get("fill_value")), zarr_format=3)
            dtype: np.dtype[Any] = data_type.to_native_dtype()
        except (ValueError, TypeError, KeyError) as error:
            raise UnsupportedFormatError(
                f"data type {metadata['data_type']!r:.80} with fill value {metadata.get('fill_value')!r:.80}: {error}; "
                "install a newer zarr, or the package that brings this data type"
            ) from error
        codecs = metadata["codecs"]
        chunk_shape = _chunk_shape(metadata, len(shape))
        inner = None
        if len(codecs) == 1 and isinstance(codecs[0], Mapping) and codecs[0].get("name") == "sharding_indexed":
            inner = tuple(codecs[0].get("configuration", {}).get("chunk_shape", ())) or None
        names = metadata.get("dimension_names")
        keys = chunk_keys_of(metadata)
        encoding = None
        if chunk_shape is not None and keys is not None and "storage_transformers" not in _used(metadata):
            encoding = _encoding(codecs, dtype)
        if encoding is not None and not _codes(encoding, dtype, chunk_shape or ()):
            encoding = None
        if encoding is not None:
            dtype = canonical_dtype(dtype)
            fill = np.asarray(fill).astype(dtype)[()]
        return cls(shape, dtype, chunk_shape, inner, fill, None if names is None else tuple(names), keys, encoding)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def chunk_nbytes(self) -> int:
        """Bytes of a decoded chunk (of a shard, where there are any)."""
        return math.prod(self.chunk_shape or ()) * self.dtype.itemsize

    @cached_property
    def fill_of_shards(self) -> Any:
        """What decoding needs to know of the fill value: only shards leave parts out."""
        return self.fill_value if self.inner_shape is not None else None

    def is_fill(self, chunk: npt.NDArray[Any]) -> bool:
        """Tell whether a chunk holds nothing but the fill value, so that it need not be stored."""
        fill = self.fill_value
        kind = self.dtype.kind
        if kind in "mM":
            pattern: Any = np.asarray(fill).view("<i8")[()]
            return bool((chunk.view("<i8") == pattern).all())
        if kind in "fc":
            # Part by part, so that the sign of a zero counts, and NaN in one part hides nothing in the other.
            size = self.dtype.itemsize // (2 if kind == "c" else 1)
            real, bits = np.dtype(f"<f{size}"), np.dtype(f"<u{size}")
            fills = np.asarray(fill).reshape(1).view(real)
            parts = chunk.reshape(-1).view(real).reshape(-1, len(fills))
            return all(
                bool(np.isnan(part).all() if value != value else (part.view(bits) == value.view(bits)).all())
                for part, value in zip(parts.T, fills, strict=True)
            )
        return bool((chunk == fill).all())


def _used(metadata: Mapping[str, Any]) -> set[str]:
    return {name for name, value in metadata.items() if value}


def _chunk_shape(metadata: Mapping[str, Any], ndim: int) -> tuple[int, ...] | None:
    grid = metadata["chunk_grid"]
    if grid.get("name") != "regular":
        return None
    shape = grid.get("configuration", {}).get("chunk_shape")
    if not isinstance(shape, list) or len(shape) != ndim or any(type(n) is not int or n < 1 for n in shape):
        return None
    return tuple(shape)


def _encoding(codecs: Any, dtype: np.dtype[Any]) -> Encoding | None:
    if dtype.hasobject or not dtype.itemsize or dtype.fields is not None or dtype.kind not in "biufcmMSU":
        return None
    try:
        canonical_dtype(dtype)
        return Encoding("raw", restored(codecs))
    except (ValueError, HangarlakeError):
        return None


def _codes(encoding: Encoding, dtype: np.dtype[Any], chunk_shape: tuple[int, ...]) -> bool:
    """Tell whether a codec list can be used here (rather than by zarr), by using it."""
    shape = chunk_shape
    if encoding.codecs[0]["name"] != "sharding_indexed":
        if len(encoding.codecs) == 1 or encoding.codecs[0]["name"] == "bytes":
            shape = (1,) * len(chunk_shape)
        if math.prod(shape) * dtype.itemsize > 1 << 16:
            return bool(encoding.codecs[0]["name"] == "bytes")
    elif math.prod(shape) * dtype.itemsize > 1 << 20:
        inner = encoding.codecs[0].get("configuration", {}).get("chunk_shape")
        shape = tuple(inner) if inner and len(inner) == len(chunk_shape) else shape
    try:
        encode_chunk(np.zeros(shape, canonical_dtype(dtype)), encoding)
    except Exception:  # plugins raise what they like; zarr then says it
        return False
    return True
