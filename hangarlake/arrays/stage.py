"""What a writer has changed in one array: an overlay of staged chunks, and the working tree it is folded into."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hangarlake.chunks.digests import blake3_160
from hangarlake.chunks.encodings import RAW
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.records.catalog import ArrayNode, CatalogNode
from hangarlake.records.entries import PENDING, ChunkTable, Entries
from hangarlake.records.keys import KeyArray, as_key_array
from hangarlake.records.node import NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import apply_edits
from hangarlake.working_tree import WorkingTree

__all__ = ["REMOVED", "ArrayStage", "StagedChunk", "raw_entries"]

StagedChunk = tuple[bytes, int]
"""Digest and length of a staged chunk."""

#: What the overlay has for a key whose chunk is removed.
REMOVED: StagedChunk = (b"", -1)
# An overlay is folded into the working tree at this many keys.
_FOLD_AT = 1 << 17


class ArrayStage(WorkingTree):
    """The staged state of one array.

    Parameters
    ----------
    name, root, nodes, uploader, folded
        As :class:`WorkingTree` takes them.
    """

    def __init__(
        self,
        name: str,
        root: NodeRef | None,
        nodes: StagedNodes,
        uploader: ChunkUploader,
        folded: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name, root, nodes, uploader, folded)
        self.overlay: dict[bytes, StagedChunk] = {}

    def matches(self, node: CatalogNode) -> bool:
        """Tell whether this can go on as the stage of a node."""
        return isinstance(node, ArrayNode)

    def set(self, key: bytes, data: bytes, digest: bytes | None = None) -> None:
        """Stage the encoded bytes of a chunk under a tree key; `digest` is their BLAKE3-160, if it is known."""
        known = digest if digest is not None else blake3_160(data)
        # First the overlay: if an earlier upload fails now, this chunk has been taken all the same.
        self.overlay[key] = (known, len(data))
        self._uploader.add(known, data, 1, RAW)
        if len(self.overlay) >= _FOLD_AT:
            self.fold()

    def remove(self, key: bytes) -> None:
        """Stage that there is no chunk under a tree key."""
        self.overlay[key] = REMOVED
        if len(self.overlay) >= _FOLD_AT:
            self.fold()

    def may_have(self, key: bytes) -> bool:
        """Tell whether there may be a chunk under a tree key; ``False`` is certain."""
        return self.root is not None or self.overlay.get(key, REMOVED) is not REMOVED

    def fold(self) -> NodeRef | None:
        """Apply what is staged to the working tree; return its root."""
        if not self.overlay:
            return self.root
        ordered = sorted(self.overlay.items())
        kept = [(key, chunk) for key, chunk in ordered if chunk is not REMOVED]
        upserts = raw_entries(
            as_key_array([key for key, _ in kept]), [chunk[0] for _, chunk in kept], [chunk[1] for _, chunk in kept]
        )
        removes = as_key_array([key for key, chunk in ordered if chunk is REMOVED])
        self.root = apply_edits(self.root, upserts, removes, self._nodes, self._nodes)
        self.overlay = {}
        self._folded()
        return self.root


def raw_entries(keys: KeyArray, digests: list[bytes], lengths: list[int]) -> Entries:
    """Return the entries of chunks whose bytes an uploader has."""
    n = len(keys)
    if not n:
        return Entries.empty(0)
    table = np.frombuffer(b"".join(digests), np.uint8).reshape(n, 20)
    zeros = np.zeros(n, np.uint64)
    return Entries(
        keys,
        table,
        np.empty((n, 0), np.uint64),
        np.arange(n, dtype=np.uint32),
        zeros,
        ChunkTable(
            table,
            np.full(n, PENDING, np.int32),
            zeros,
            np.array(lengths, np.uint64),
            np.ones(n, np.uint64),
            np.zeros(n, np.uint8),
            (),
            (RAW.to_json(),),
        ),
    )
