"""Children: the items of an inner node as columns, and references to nodes; what entries are to leaves.

All operations are on whole arrays and return new children, as in :mod:`hangarlake.records.entries`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.records.entries import PENDING, SOLO, U64, Digests
from hangarlake.records.keys import KeyArray

__all__ = ["Children", "NodeRef", "tree_pack_key"]


@dataclass(frozen=True, slots=True)
class NodeRef:
    """What leads to a node: its id and where it lies.

    `pack` is ``None`` for a node that is only staged. `count` is the number of entries below it.
    """

    id: bytes
    level: int
    count: int
    pack: bytes | None = None
    offset: int = 0
    length: int = 0

    @property
    def key(self) -> str:
        """The object key of its tree pack."""
        assert self.pack is not None
        return tree_pack_key(self.pack)


def tree_pack_key(pack: bytes) -> str:
    """Return the object key of a tree pack."""
    name = pack.hex()
    return f"trees/{name[:2]}/{name}"


@dataclass(frozen=True, slots=True)
class Children:
    """The items of an inner node as columns: n children.

    `packs` are indices into `pack_ids`, or PENDING for staged children.
    """

    keys: KeyArray
    ids: Digests
    counts: U64
    packs: npt.NDArray[np.int32]
    offsets: U64
    lengths: npt.NDArray[np.uint32]
    pack_ids: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, items: Sequence[tuple[bytes, NodeRef]], width: int) -> Children:
        """Build from (last key, reference) pairs in key order."""
        index: dict[bytes, int] = {}
        refs = [ref for _, ref in items]
        return cls(
            np.array([key for key, _ in items], dtype=f"S{max(1, width)}"),
            np.frombuffer(b"".join(ref.id for ref in refs), np.uint8).reshape(-1, 20),
            np.array([ref.count for ref in refs], np.uint64),
            np.array([PENDING if r.pack is None else index.setdefault(r.pack, len(index)) for r in refs], np.int32),
            np.array([ref.offset for ref in refs], np.uint64),
            np.array([ref.length for ref in refs], np.uint32),
            tuple(index),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def ref(self, i: int, level: int) -> NodeRef:
        """Return the reference to child `i`, which is at `level`."""
        code = int(self.packs[i])
        pack = self.pack_ids[code] if code >= 0 else None
        return NodeRef(
            self.ids[i].tobytes(), level, int(self.counts[i]), pack, int(self.offsets[i]), int(self.lengths[i])
        )

    def refs(self, level: int, where: Sequence[int] | None = None) -> list[NodeRef]:
        """Return references to all children (or some)."""
        return [self.ref(i, level) for i in (range(len(self)) if where is None else where)]

    def take(self, where: npt.NDArray[Any] | slice) -> Children:
        return Children(
            self.keys[where],
            self.ids[where],
            self.counts[where],
            self.packs[where],
            self.offsets[where],
            self.lengths[where],
            self.pack_ids,
        )

    def compact(self) -> Children:
        """Drop packs that no child lies in."""
        used = np.unique(self.packs[self.packs >= 0])
        if len(used) == len(self.pack_ids):
            return self
        packs = np.where(self.packs >= 0, np.searchsorted(used, self.packs), self.packs).astype(np.int32)
        pack_ids = tuple(self.pack_ids[i] for i in used.tolist())
        return Children(self.keys, self.ids, self.counts, packs, self.offsets, self.lengths, pack_ids)

    @staticmethod
    def concat(parts: Sequence[Children]) -> Children:
        if len(parts) == 1:
            return parts[0]
        index: dict[bytes, int] = {}
        packs = []
        for part in parts:
            remap = np.array([index.setdefault(p, len(index)) for p in part.pack_ids] + [PENDING, SOLO], np.int32)
            packs.append(remap[part.packs])
        return Children(
            np.concatenate([p.keys for p in parts]),
            np.concatenate([p.ids for p in parts]),
            np.concatenate([p.counts for p in parts]),
            np.concatenate(packs),
            np.concatenate([p.offsets for p in parts]),
            np.concatenate([p.lengths for p in parts]),
            tuple(index),
        )

    def edited(self, upserts: Children, removes: KeyArray) -> tuple[Children, bool, bool]:
        """Apply edits by last key, as :meth:`Entries.edited` does by key. Children with equal ids count as unchanged."""
        n = len(self)
        drop_keys = np.isin(self.keys, np.concatenate([upserts.keys, removes])) if n else np.zeros(0, np.bool_)
        at = np.minimum(np.searchsorted(self.keys, upserts.keys), max(n - 1, 0))
        exists = (self.keys[at] == upserts.keys) if n else np.zeros(len(upserts), np.bool_)
        if bool(exists.all()) and int(drop_keys.sum()) == len(upserts):
            changed = bool((self.ids[at] != upserts.ids).any())
            if not changed:
                return self, False, False
        merged = Children.concat([self.take(~drop_keys), upserts])
        merged = merged.take(np.argsort(merged.keys, kind="stable")).compact()
        keys_changed = len(merged) != n or bool((merged.keys != self.keys).any())
        return merged, True, keys_changed
