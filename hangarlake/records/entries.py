"""Entries: a sorted run of a tree's leaf items as columns of numbers, with the table of chunks that hold their values.

The same structure is the content of a leaf, a batch of edits and a change set. All operations are on whole arrays and
return new entries; arrays are never changed in place once they are inside one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.packs import ChunkRef
from hangarlake.records.keys import KeyArray

__all__ = ["PENDING", "SOLO", "U64", "ChunkTable", "Digests", "Entries"]

Digests: TypeAlias = npt.NDArray[np.uint8]  # (n, 20)
U64: TypeAlias = npt.NDArray[np.uint64]
I32: TypeAlias = npt.NDArray[np.int32]

# Values of ChunkTable.packs that are no index into pack_ids.
SOLO = -1  # the chunk is an object of its own
PENDING = -2  # staged: the chunk is in no pack yet; the writer knows its digest


def _empty_u64() -> U64:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """Where chunks lie and how they are encoded: m rows.

    Attributes
    ----------
    digests : uint8 (m, 20)
    packs : int32 (m,)
        Index into `pack_ids`, or SOLO, or PENDING.
    offsets, lengths, items : uint64 (m,)
    encoding : unsigned integers (m,)
        Index into `encodings`.
    pack_ids : tuple of bytes
        32 bytes each.
    encodings : tuple of str
        Canonical JSON (format §5).
    """

    digests: Digests
    packs: I32
    offsets: U64
    lengths: U64
    items: U64
    encoding: npt.NDArray[np.unsignedinteger[Any]]
    pack_ids: tuple[bytes, ...] = ()
    encodings: tuple[str, ...] = ()

    @classmethod
    def empty(cls) -> ChunkTable:
        return cls(
            np.empty((0, 20), np.uint8),
            np.empty(0, np.int32),
            _empty_u64(),
            _empty_u64(),
            _empty_u64(),
            np.empty(0, np.uint32),
        )

    def __len__(self) -> int:
        return len(self.packs)

    def take(self, rows: npt.NDArray[np.integer[Any]] | slice) -> ChunkTable:
        """Return the table of some rows; packs and encodings that none of them uses are left out."""
        packs = self.packs[rows]
        encoding = self.encoding[rows]
        pack_ids, encodings = self.pack_ids, self.encodings
        if len(pack_ids) > 1 or (pack_ids and not len(packs)):
            used = np.unique(packs[packs >= 0])
            if len(used) < len(pack_ids):
                remap = np.full(len(pack_ids) + 2, 0, np.int32)
                remap[used] = np.arange(len(used), dtype=np.int32)
                remap[SOLO], remap[PENDING] = SOLO, PENDING
                packs = remap[packs]
                pack_ids = tuple(pack_ids[i] for i in used.tolist())
        elif pack_ids and not bool((packs >= 0).any()):
            pack_ids = ()
        if len(encodings) > 1:
            kept = np.unique(encoding)
            if len(kept) < len(encodings):
                encoding = np.searchsorted(kept, encoding).astype(np.uint32)
                encodings = tuple(encodings[i] for i in kept.tolist())
        return ChunkTable(
            self.digests[rows],
            packs,
            self.offsets[rows],
            self.lengths[rows],
            self.items[rows],
            encoding,
            pack_ids,
            encodings,
        )

    @staticmethod
    def concat(tables: Sequence[ChunkTable]) -> ChunkTable:
        """Put tables one below the other, sharing packs and encodings. Row i of table t becomes row ``i + sum(len of tables before t)``."""
        if len(tables) == 1:
            return tables[0]
        pack_index: dict[bytes, int] = {}
        encoding_index: dict[str, int] = {}
        packs, encodings = [], []
        for table in tables:
            remap = np.array(
                [pack_index.setdefault(p, len(pack_index)) for p in table.pack_ids] + [PENDING, SOLO], np.int32
            )
            packs.append(remap[table.packs])
            codes = [encoding_index.setdefault(e, len(encoding_index)) for e in table.encodings]
            encodings.append(np.array(codes or [0], np.uint32)[table.encoding])
        return ChunkTable(
            np.concatenate([t.digests for t in tables]),
            np.concatenate(packs),
            np.concatenate([t.offsets for t in tables]),
            np.concatenate([t.lengths for t in tables]),
            np.concatenate([t.items for t in tables]),
            np.concatenate(encodings),
            tuple(pack_index),
            tuple(encoding_index),
        )

    def ref(self, row: int) -> ChunkRef:
        """Return where one chunk lies. A pending row is treated as an object of its own; staging resolves these before."""
        code = int(self.packs[row])
        pack = self.pack_ids[code] if code >= 0 else None
        return ChunkRef(self.digests[row].tobytes(), pack, int(self.offsets[row]), int(self.lengths[row]))

    def refs(self) -> list[ChunkRef]:
        """Return where all chunks lie, row by row."""
        digests = self.digests.tobytes()
        ids = [*self.pack_ids, None, None]  # codes −2 and −1 index from the end
        return [
            ChunkRef(digests[20 * i : 20 * i + 20], ids[code], offset, length)
            for i, (code, offset, length) in enumerate(
                zip(self.packs.tolist(), self.offsets.tolist(), self.lengths.tolist(), strict=True)
            )
        ]

    def grid_encodings(self) -> npt.NDArray[np.bool_]:
        """Tell which encodings are grids, shape (encodings,)."""
        return _grids(self.encodings)[0]

    @property
    def has_grids(self) -> bool:
        """Whether some sample may be cut into several chunks."""
        return _grids(self.encodings)[1]


@dataclass(frozen=True, slots=True)
class Entries:
    """n entries of a tree.

    Attributes
    ----------
    keys : S<w> (n,)
        Sorted and unique wherever entries are part of a tree.
    digests : uint8 (n, 20)
        Value digests.
    shapes : uint64 (n, rank)
        Shapes of varying values; rank 0 where the schema fixes them.
    rows : uint32 (n,)
        First row of the chunk table.
    index : uint64 (n,)
        Row within the chunk (layout `rows`), first element (`run`), number of chunks (`grid`), 0 (`raw`).
    table : ChunkTable
    """

    keys: KeyArray
    digests: Digests
    shapes: U64
    rows: npt.NDArray[np.uint32]
    index: U64
    table: ChunkTable

    @classmethod
    def empty(cls, rank: int) -> Entries:
        return cls(
            np.empty(0, "S1"),
            np.empty((0, 20), np.uint8),
            np.empty((0, rank), np.uint64),
            np.empty(0, np.uint32),
            _empty_u64(),
            ChunkTable.empty(),
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def rank(self) -> int:
        return int(self.shapes.shape[1])

    @property
    def nbytes(self) -> int:
        """Approximate memory in bytes."""
        n, m = len(self), len(self.table)
        return n * (self.keys.itemsize + 32 + 8 * self.rank) + m * 49 + 200

    def take(self, where: npt.NDArray[Any] | slice) -> Entries:
        """Return some entries, sharing the chunk table as it is (see :meth:`compact`)."""
        return Entries(
            self.keys[where], self.digests[where], self.shapes[where], self.rows[where], self.index[where], self.table
        )

    def spans(self) -> npt.NDArray[np.int64]:
        """Return how many consecutive rows of the chunk table each entry uses, shape (n,)."""
        ones = np.ones(len(self), np.int64)
        if self.table.has_grids and len(self):
            is_grid = self.table.grid_encodings()[self.table.encoding[self.rows]]
            return np.where(is_grid, self.index.astype(np.int64), ones)
        return ones

    def compact(self, *, dedupe: bool = False) -> Entries:
        """Drop rows of the chunk table that no entry uses; with `dedupe` also rows that repeat a chunk in the same encoding."""
        if not len(self):
            return replace(self, table=ChunkTable.empty(), rows=np.empty(0, np.uint32))
        if self.table.has_grids:
            return self._compact_grids()
        rows = self.rows
        used, inverse = _unique_rows(rows, len(self.table))
        table = self.table
        if len(used) < len(table):
            table = table.take(used)
            rows = inverse
        if dedupe and _repeats(table.digests):
            # The same bytes under two encodings are two chunks: what was compressed once, and stored as it is another time.
            identity = np.concatenate(
                [table.digests, table.encoding.astype("<u4").view(np.uint8).reshape(-1, 4)], axis=1
            )
            _, first, back = np.unique(identity.view("S24").reshape(-1), return_index=True, return_inverse=True)
            order = np.argsort(first)
            rank = np.empty(len(order), np.uint32)
            rank[order] = np.arange(len(order), dtype=np.uint32)
            rows = rank[back][rows]
            table = table.take(first[order])
        return replace(self, rows=rows.astype(np.uint32, copy=False), table=table)

    def _compact_grids(self) -> Entries:
        # Rows of one large sample must stay consecutive, so whole runs are kept, once per distinct first row.
        first, where, inverse = np.unique(self.rows, return_index=True, return_inverse=True)
        lengths = self.spans()[where]
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        picked = np.repeat(first.astype(np.int64) - starts, lengths) + np.arange(int(lengths.sum()))
        return replace(self, rows=starts[inverse].astype(np.uint32), table=self.table.take(picked))

    @staticmethod
    def concat(parts: Sequence[Entries]) -> Entries:
        """Put entries one behind the other (no sorting, no compaction)."""
        if len(parts) == 1:
            return parts[0]
        offsets = np.cumsum([0] + [len(p.table) for p in parts[:-1]])
        return Entries(
            np.concatenate([p.keys for p in parts]),
            np.concatenate([p.digests for p in parts]),
            np.concatenate([p.shapes for p in parts]),
            np.concatenate([p.rows + np.uint32(o) for p, o in zip(parts, offsets.tolist(), strict=True)]),
            np.concatenate([p.index for p in parts]),
            ChunkTable.concat([p.table for p in parts]),
        )

    def edited(self, upserts: Entries, removes: KeyArray) -> tuple[Entries, bool, bool]:
        """Apply edits whose keys are sorted and disjoint.

        Returns
        -------
        entries : Entries
        changed : bool
            Whether any value or key differs.
        keys_changed : bool
            Whether the set of keys differs.
        """
        keys = self.keys
        n = len(keys)
        position = np.searchsorted(keys, upserts.keys)
        clipped = np.minimum(position, max(n - 1, 0))
        exists = (keys[clipped] == upserts.keys) if n else np.zeros(len(upserts), np.bool_)
        if exists.any():
            where = clipped[exists]
            same = (self.digests[where] == upserts.digests[exists]).all(axis=1)  # a digest covers the shape too
            if same.any():
                # An equal value keeps the place where it lies: nothing changes for it.
                wanted = np.ones(len(upserts), np.bool_)
                wanted[np.flatnonzero(exists)[same]] = False
                upserts = upserts.take(wanted)
                clipped, exists = clipped[wanted], exists[wanted]
        drop = np.empty(0, np.int64)
        if len(removes) and n:
            at = np.minimum(np.searchsorted(keys, removes), n - 1)
            drop = at[keys[at] == removes]
        if not len(upserts) and not len(drop):
            return self, False, False
        if not len(drop) and bool(exists.all()):
            return self._overwritten(upserts, clipped), True, False
        keep = np.ones(n, np.bool_)
        keep[drop] = False
        keep[clipped[exists]] = False
        kept = self.take(keep)
        if not len(upserts):
            return kept.compact(), True, True
        return kept._with(upserts).compact(dedupe=True), True, True

    def _with(self, others: Entries) -> Entries:
        """Put sorted entries with other keys among these."""
        size = len(self) + len(others)
        theirs = np.searchsorted(self.keys, others.keys) + np.arange(len(others))
        ours = np.ones(size, np.bool_)
        ours[theirs] = False

        def among(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
            out = np.empty((size, *a.shape[1:]), np.promote_types(a.dtype, b.dtype))
            out[ours], out[theirs] = a, b
            return out

        return Entries(
            among(self.keys, others.keys),
            among(self.digests, others.digests),
            among(self.shapes, others.shapes),
            among(self.rows, others.rows + np.uint32(len(self.table))),
            among(self.index, others.index),
            ChunkTable.concat([self.table, others.table]),
        )

    def _overwritten(self, upserts: Entries, where: npt.NDArray[np.int64]) -> Entries:
        digests, shapes, rows, index = self.digests.copy(), self.shapes.copy(), self.rows.copy(), self.index.copy()
        digests[where] = upserts.digests
        shapes[where] = upserts.shapes
        rows[where] = upserts.rows + np.uint32(len(self.table))
        index[where] = upserts.index
        table = ChunkTable.concat([self.table, upserts.table])
        return Entries(self.keys, digests, shapes, rows, index, table).compact(dedupe=True)


@lru_cache(maxsize=1024)
def _grids(encodings: tuple[str, ...]) -> tuple[npt.NDArray[np.bool_], bool]:
    grids = np.array(['"layout":"grid"' in e for e in encodings] or [False], np.bool_)
    return grids, bool(grids.any())


def _repeats(digests: Digests) -> bool:
    """Tell whether some digest occurs twice; it hardly ever does, and a set finds out faster than sorting."""
    data = digests.tobytes()
    return len({data[i : i + 20] for i in range(0, len(data), 20)}) < len(digests)


def _unique_rows(rows: npt.NDArray[np.uint32], size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Return the distinct rows, ascending, and each entry's place among them."""
    if size <= 4 * len(rows) + 64:  # counting beats sorting
        used_mask = np.zeros(size, np.bool_)
        used_mask[rows] = True
        used = np.flatnonzero(used_mask)
        place = np.cumsum(used_mask, dtype=np.uint32) - np.uint32(1)
        return used, place[rows]
    used_rows, inverse = np.unique(rows, return_inverse=True)
    return used_rows.astype(np.int64), inverse.astype(np.uint32)
