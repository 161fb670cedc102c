"""The ``sharding_indexed`` codec of Zarr v3: a chunk that is a grid of smaller chunks with an index.

It is read here rather than by zarr because every inner chunk has to be bounded before it is decoded.
Source: the sharding codec of the Zarr v3 specification, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.stages import Plan, Target, make_plan
from hangarlake.errors import CorruptionError, UnsupportedFormatError

if TYPE_CHECKING:
    from hangarlake.chunks.digests import BytesLike

__all__ = ["Shards"]

_ABSENT: Final = (1 << 64) - 1
_INDEX_DTYPE: Final = np.dtype("<u8")


@dataclass(frozen=True, slots=True)
class Shards:
    """The codec of one configuration. An array step of a :class:`~hangarlake.chunks.stages.Plan`."""

    chunk_shape: tuple[int, ...]
    codecs: str
    index_codecs: str
    index_first: bool

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Shards:
        """Read a configuration of ``zarr.json``.

        Raises
        ------
        UnsupportedFormatError
            Members that are missing or mean nothing.
        """
        try:
            shape = tuple(configuration["chunk_shape"])
            codecs = [_named(codec) for codec in configuration["codecs"]]
            index_codecs = [_named(codec) for codec in configuration["index_codecs"]]
            location = configuration.get("index_location", "end")
        except (KeyError, TypeError, ValueError) as error:
            raise UnsupportedFormatError(f"a sharding_indexed codec without {error}") from error
        if any(type(n) is not int or n < 1 for n in shape) or location not in ("start", "end") or not codecs:
            raise UnsupportedFormatError(f"a sharding_indexed codec of {dict(configuration)!r:.200}")
        return cls(shape, json.dumps(codecs), json.dumps(index_codecs), location == "start")

    def _inner(self, target: Target) -> tuple[Plan, Target, tuple[int, ...]]:
        if len(self.chunk_shape) != len(target.shape) or any(
            outer % inner for outer, inner in zip(target.shape, self.chunk_shape, strict=True)
        ):
            raise UnsupportedFormatError(f"shards of shape {target.shape} are not whole chunks of {self.chunk_shape}")
        counts = tuple(outer // inner for outer, inner in zip(target.shape, self.chunk_shape, strict=True))
        plan = make_plan(self.codecs, target.dtype.itemsize)
        return plan, Target(target.dtype, self.chunk_shape, target.fill), counts

    def _parts(self, counts: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
        for coordinates in product(*map(range, counts)):
            yield tuple(slice(c * n, c * n + n) for c, n in zip(coordinates, self.chunk_shape, strict=True))

    def _index(self, counts: tuple[int, ...]) -> tuple[Plan, Target, int]:
        plan = make_plan(self.index_codecs, 8)
        target = Target(_INDEX_DTYPE, (*counts, 2))
        size = plan.encoded_size(target)
        if size is None:
            raise UnsupportedFormatError("a shard index of variable size cannot be found in its shard")
        return plan, target, size

    def encoded_size(self, target: Target) -> int | None:  # noqa: ARG002 - it depends on the values
        """Return ``None``: a shard leaves out the chunks that hold nothing but the fill value."""
        return None

    def encode(self, array: npt.NDArray[Any], target: Target) -> bytes:
        """Return the shard of an array; chunks that are bit for bit the fill value are left out."""
        plan, inner, counts = self._inner(target)
        index_plan, index_target, index_size = self._index(counts)
        index = np.full((math.prod(counts), 2), _ABSENT, dtype=_INDEX_DTYPE)
        fill = (target.fill or bytes(target.dtype.itemsize)) * math.prod(self.chunk_shape)
        parts: list[bytes] = []
        offset = index_size if self.index_first else 0
        for i, part in enumerate(self._parts(counts)):
            chunk = np.ascontiguousarray(array[part], dtype=target.dtype)
            if chunk.tobytes() == fill:
                continue
            encoded = plan.encode(chunk, inner)
            index[i] = offset, len(encoded)
            parts.append(encoded)
            offset += len(encoded)
        stored_index = index_plan.encode(index.reshape(index_target.shape), index_target)
        return b"".join([stored_index, *parts] if self.index_first else [*parts, stored_index])

    def decode(self, data: BytesLike, target: Target) -> npt.NDArray[Any]:
        """Decode a shard, one bounded inner chunk after the other.

        Raises
        ------
        CorruptionError
            An index that points outside its shard, or inner chunks that are damaged.
        """
        plan, inner, counts = self._inner(target)
        index_plan, index_target, index_size = self._index(counts)
        view = memoryview(data)
        if len(view) < index_size:
            raise CorruptionError(f"a shard of {len(view):,} bytes with an index of {index_size:,}")
        stored_index = view[:index_size] if self.index_first else view[len(view) - index_size :]
        index: list[list[int]] = index_plan.decode(stored_index, index_target).reshape(-1, 2).tolist()
        fill = target.fill or bytes(target.dtype.itemsize)
        out = np.empty(target.shape, dtype=target.dtype)
        for (offset, length), part in zip(index, self._parts(counts), strict=True):
            if offset == _ABSENT and length == _ABSENT:
                out[part] = np.frombuffer(fill, dtype=target.dtype)[0]
                continue
            if offset + length > len(view):
                raise CorruptionError(f"a shard index that points to {offset:,} + {length:,} of {len(view):,} bytes")
            out[part] = plan.decode(view[offset : offset + length], inner)
        return out


def _named(codec: Any) -> dict[str, Any]:
    if isinstance(codec, str):
        return {"name": codec}
    if not isinstance(codec, Mapping) or not isinstance(codec.get("name"), str):
        raise ValueError(f"a codec with a name: {codec!r:.80}")
    if not isinstance(codec.get("configuration", {}), Mapping):
        raise ValueError(f"a configuration that is an object: {codec!r:.80}")
    return dict(codec)
