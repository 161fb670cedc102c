"""Where the chunks of a leaf are in this place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.packs import ChunkRef
from hangarlake.records.entries import SOLO
from hangarlake.records.node import Leaf
from hangarlake.upkeep.presence import Presence

__all__ = ["Places"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the chunks of a leaf are: numbers of objects (−1: not here) and offsets, by row of its chunk table."""

    objects: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.uint64]
    moved: dict[int, ChunkRef]

    @staticmethod
    def of(leaf: Leaf, used: npt.NDArray[np.bool_], presence: Presence, commit: str) -> Places:
        table = leaf.entries.table
        objects = np.full(len(table), -1, np.int64)
        offsets = table.offsets.copy()
        for code in np.unique(table.packs[used]).tolist():
            rows = np.flatnonzero(used & (table.packs == code))
            if code == SOLO:
                objects[rows] = [presence.number(table.digests[row].tobytes(), commit) for row in rows.tolist()]
            else:
                objects[rows] = presence.number(table.pack_ids[code], commit)
        here = np.array([presence.objects[n].size is not None for n in objects.tolist() if n >= 0], np.bool_)
        moved: dict[int, ChunkRef] = {}
        lost = np.flatnonzero(used)[~here]
        if len(lost):
            refs = [table.ref(row) for row in lost.tolist()]
            for row, place in zip(lost.tolist(), presence.locate(refs, commit), strict=True):
                objects[row] = -1
                if place is not None:
                    objects[row] = presence.number(place.pack or place.digest, commit)
                    offsets[row] = place.offset
                    moved[row] = place
        return Places(objects, offsets, moved)

    def ref(self, leaf: Leaf, row: int) -> ChunkRef | None:
        """Return where a chunk is; ``None`` if it is not here."""
        if self.objects[row] < 0:
            return None
        return self.moved.get(row) or leaf.entries.table.ref(row)
