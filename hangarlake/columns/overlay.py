"""The overlay of a column: what was staged since the last fold.

Every staged value has an *ordinal*, and columns of numbers indexed by ordinal say where it lies. A dict says which
ordinal each key has, so that keys with equal values share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hangarlake.records.entries import PENDING, ChunkTable, Entries
from hangarlake.records.keys import KeyArray

__all__ = ["REMOVED", "ChunkRow", "Overlay"]

# In place of an ordinal: the key was removed.
REMOVED = -1


@dataclass(slots=True)
class ChunkRow:
    """One row of the chunk table to be: a chunk of this session (pending), or one that lies in the bucket already."""

    digest: bytes = b""
    pack: int = PENDING
    pack_id: bytes | None = None
    offset: int = 0
    length: int = 0
    items: int = 0
    encoding: str = ""

    @classmethod
    def of(cls, table: ChunkTable, i: int) -> ChunkRow:
        """Take over a row of a table."""
        code = int(table.packs[i])
        return cls(
            table.digests[i].tobytes(),
            min(code, 0),
            table.pack_ids[code] if code >= 0 else None,
            int(table.offsets[i]),
            int(table.lengths[i]),
            int(table.items[i]),
            table.encodings[int(table.encoding[i])],
        )


class Overlay:
    """Staged keys and values.

    Attributes
    ----------
    index : dict of bytes to int
        Key → ordinal, or REMOVED.
    by_digest : dict of bytes to int
        Value digest → ordinal.
    digests, shapes, row, place : ndarray
        By ordinal: value digest, shape, row of the chunk table (−1: in the open chunk), place in that chunk.
    rows : list of ChunkRow
    """

    def __init__(self, rank: int) -> None:
        self.index: dict[bytes, int] = {}
        self.by_digest: dict[bytes, int] = {}
        self.count = 0
        self.digests = np.empty((64, 20), np.uint8)
        self.shapes = np.empty((64, rank), np.uint64)
        self.row = np.empty(64, np.int64)
        self.place = np.empty(64, np.uint64)
        self.rows: list[ChunkRow] = []
        self._row_of: dict[bytes, int] = {}

    def reserve(self, n: int) -> int:
        """Make room for n more ordinals, in the open chunk for the time being; return the first."""
        start = self.count
        self.count += n
        if self.count > len(self.row):
            size = max(self.count, 2 * len(self.row))
            for name in ("digests", "shapes", "row", "place"):
                old = getattr(self, name)
                grown = np.empty((size, *old.shape[1:]), old.dtype)
                grown[:start] = old[:start]
                setattr(self, name, grown)
        self.row[start : self.count] = -1
        return start

    def refer(self, ordinal: int, entries: Entries, at: int) -> None:
        """Let an ordinal be the value of an entry that is stored already."""
        first, table = int(entries.rows[at]), entries.table
        span = int(entries.take(slice(at, at + 1)).spans()[0])
        digest = table.digests[first].tobytes()
        row = self._row_of.get(digest) if span == 1 else None
        if row is None:
            row = len(self.rows)
            if span == 1:
                self._row_of[digest] = row
            self.rows += [ChunkRow.of(table, i) for i in range(first, first + span)]
        self.row[ordinal] = row
        self.place[ordinal] = entries.index[at]

    def entries(self, keys: KeyArray, ordinals: npt.NDArray[np.int64]) -> Entries:
        """Return entries for keys whose values have these ordinals. Every chunk must be closed."""
        if not len(ordinals):
            return Entries.empty(self.shapes.shape[1])
        return Entries(
            keys,
            self.digests[ordinals],
            self.shapes[ordinals],
            self.row[ordinals].astype(np.uint32),
            self.place[ordinals],
            _table(self.rows),
        )


def _table(rows: Sequence[ChunkRow]) -> ChunkTable:
    packs: dict[bytes, int] = {}
    encodings: dict[str, int] = {}
    codes = [row.pack if row.pack_id is None else packs.setdefault(row.pack_id, len(packs)) for row in rows]
    kinds = [encodings.setdefault(row.encoding, len(encodings)) for row in rows]
    return ChunkTable(
        np.frombuffer(b"".join(row.digest for row in rows), np.uint8).reshape(-1, 20),
        np.array(codes, np.int32),
        np.array([row.offset for row in rows], np.uint64),
        np.array([row.length for row in rows], np.uint64),
        np.array([row.items for row in rows], np.uint64),
        np.array(kinds, np.uint32),
        tuple(packs),
        tuple(encodings),
    )
