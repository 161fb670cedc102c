"""Computing the digests of samples again from the arrays that their chunks decode to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from hangarlake.chunks.digests import DIGEST_SIZE, bytes_digest, digest_rows, ndarray_digest, value_header
from hangarlake.records.catalog import ColumnSchema
from hangarlake.upkeep.ledger import Facts

__all__ = ["ValueHasher", "lying"]


def lying(
    schema: ColumnSchema, layout: str, chunk: npt.NDArray[np.generic], facts: Facts, shapes: Sequence[tuple[int, ...]]
) -> npt.NDArray[np.intp]:
    """Return which facts about samples of a decoded chunk are wrong.

    Parameters
    ----------
    chunk : ndarray
        ``(items, *sample shape)`` in the layout "rows", else ``(items,)``.
    shapes : sequence of tuple
        By the numbers in the facts.
    """
    index = facts["index"].astype(np.int64)
    if layout == "rows":
        straight = len(index) == len(chunk) and bool((index == np.arange(len(chunk))).all())
        found = digest_rows(chunk if straight else chunk[index])
        return np.flatnonzero((found != facts["value"]).any(axis=1))
    sizes = facts["size"].tolist()
    told = facts["value"].tobytes()
    wrong = []
    raw = np.ascontiguousarray(chunk).view(np.uint8).data if schema.kind != "ndarray" else None
    for i, (start, size) in enumerate(zip(index.tolist(), sizes, strict=True)):
        if raw is not None:
            data = raw[start : start + size]
            found_value = bytes_digest(schema.kind, bytes(data))
            if schema.kind == "str":
                try:
                    str(data, "utf-8")
                except UnicodeDecodeError:
                    wrong.append(i)
                    continue
        else:
            shape = shapes[size]
            count = int(np.prod(shape, dtype=np.int64))
            found_value = ndarray_digest(chunk[start : start + count].reshape(shape))
        if found_value != told[i * DIGEST_SIZE : (i + 1) * DIGEST_SIZE]:
            wrong.append(i)
    return np.array(wrong, np.intp)


class ValueHasher:
    """Computes the digest of one large sample, part by part in C order."""

    def __init__(self, schema: ColumnSchema, shape: tuple[int, ...]) -> None:
        header = (
            value_header(schema.kind, schema.np_dtype, shape) if schema.kind == "ndarray" else value_header(schema.kind)
        )
        self._state = blake3(header, max_threads=blake3.AUTO)

    def add(self, part: npt.NDArray[np.generic]) -> None:
        """Take the next elements (little-endian, C-contiguous)."""
        self._state.update(part.reshape(-1).view(np.uint8).data)

    @property
    def digest(self) -> bytes:
        """The value digest of all parts."""
        found: bytes = self._state.digest(DIGEST_SIZE)
        return found
