"""Conflicts as a person meets them: what both sides changed, with the values of each side on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hangarlake.chunks.codecs import decode_chunk
from hangarlake.chunks.packs import ChunkRef
from hangarlake.chunks.reader import ChunkReader
from hangarlake.columns.owners import PendingChunks
from hangarlake.columns.reading import SampleReader
from hangarlake.records.catalog import ArrayNode, ColumnNode
from hangarlake.records.conflicts import RawConflict, RawSide
from hangarlake.records.diff import MISSING
from hangarlake.records.entries import Entries

__all__ = ["Conflict", "Side", "conflict_of", "describe_conflicts"]

_SHOWN = 3


class Side:
    """What one side of a conflict or of a change has: its digest and shape are at hand, its value is read on demand."""

    __slots__ = ("_chunks", "_pending", "_raw")

    def __init__(self, raw: RawSide, chunks: ChunkReader, pending: PendingChunks | None = None) -> None:
        self._raw = raw
        self._chunks = chunks
        self._pending = pending

    @property
    def digest(self) -> str | None:
        """Value digest, hex; ``None`` for attributes and whole nodes."""
        return self._raw.digest

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of a sample (for ``str``, ``bytes`` and ``json`` values its length in bytes); ``None`` where there is none."""
        return self._raw.shape

    @property
    def value(self) -> Any:
        """The value, read now: a sample, an attribute; for whole nodes what describes them.

        Raises
        ------
        CorruptionError, ObjectNotFoundError
            If the data is damaged or not there.
        """
        raw = self._raw
        if raw.value is not MISSING:
            return raw.value
        if raw.entry is not None and isinstance(raw.node, ColumnNode):
            name = raw.name or ""
            return SampleReader(name, raw.node.schema, self._chunks, self._pending).one(raw.entry, 0)
        if raw.entry is not None:
            return self._chunk(raw.entry)
        return raw.node.logical() if raw.node is not None else None

    def _chunk(self, entry: Entries) -> Any:
        """Return the elements of a chunk of an array, or its encoded bytes where only zarr can decode them."""
        from hangarlake.arrays.hierarchy import chunk_place
        from hangarlake.arrays.layout import ArrayLayout

        place = chunk_place(entry, 0, self._pending)
        data = self._chunks.read_raw([place])[0] if isinstance(place, ChunkRef) else place
        node = self._raw.node
        layout = ArrayLayout.of(node.metadata) if isinstance(node, ArrayNode) else None
        if layout is None or layout.encoding is None or layout.chunk_shape is None:
            return data
        chunk = decode_chunk(data, layout.encoding, layout.dtype, layout.chunk_shape, fill_value=layout.fill_of_shards)
        return chunk.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return digest and shape (of an attribute its value, of a whole node what describes it), JSON-ready."""
        raw = self._raw
        out: dict[str, Any] = {"digest": self.digest, "shape": list(self.shape) if self.shape is not None else None}
        if raw.value is not MISSING:
            out["value"] = raw.value
        elif raw.entries is None and raw.node is not None:
            out["node"] = raw.node.logical()
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Side) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.digest, self.shape))

    def _identity(self) -> tuple[Any, ...]:
        raw = self._raw
        whole = raw.node.logical() if raw.entries is None and raw.node is not None else None
        return raw.digest, raw.shape, raw.value, whole

    def __repr__(self) -> str:
        raw = self._raw
        if raw.value is not MISSING:
            return f"<Side {raw.value!r}>"
        if raw.digest is None:
            return f"<Side {raw.node.type if raw.node is not None else 'unknown'} {raw.name!r}>"
        return f"<Side {raw.digest[:12]} {raw.shape}>"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that both sides changed, each in its own way.

    Attributes
    ----------
    node : str
        The column, array or group; ``""`` for the repository's own attributes.
    key : str, int, tuple or None
        Sample key, (sample, sub) in nested columns, grid coordinates in arrays, the name of an attribute; ``None`` for whole nodes.
    kind : str
        ``added-both``, ``changed-both``, ``changed-removed``, ``removed-changed``, ``node-removed``, ``schema``, ``layout``, ``rename``,
        ``attribute``, ``array-metadata``, ``chunk`` or ``append``.
    base, ours, theirs : Side or None
        ``None``: absent there.
    """

    node: str
    key: Any
    kind: str
    base: Side | None
    ours: Side | None
    theirs: Side | None

    @property
    def elements(self) -> int | None:
        """How many elements of a chunk both sides changed, each in its own way; reads the chunk on all sides. ``None``
        for what is no chunk, and where one side removed it."""
        if self.kind != "chunk" or self.ours is None or self.theirs is None:
            return None
        from hangarlake.arrays.layout import ArrayLayout
        from hangarlake.arrays.merging import overlapping

        ours, theirs = self.ours.value, self.theirs.value
        if isinstance(ours, bytes) or isinstance(theirs, bytes):
            return None
        node = self.ours._raw.node
        assert isinstance(node, ArrayNode)
        fill = ArrayLayout.of(node.metadata).fill_value
        base = np.full_like(ours, fill) if self.base is None else self.base.value
        return int(overlapping(base, ours, theirs).sum())

    def __str__(self) -> str:
        place = self.node or "attributes"
        return f"{place}[{self.key!r}]: {self.kind}" if self.key is not None else f"{place}: {self.kind}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the values, JSON-ready."""
        key = list(self.key) if isinstance(self.key, tuple) else self.key
        sides = {
            name: side and side.to_dict()
            for name, side in (("base", self.base), ("ours", self.ours), ("theirs", self.theirs))
        }
        return {"node": self.node, "key": key, "kind": self.kind, **sides}


def describe_conflicts(conflicts: Sequence[Conflict]) -> str:
    """Return the first conflicts in one line, and how many there are."""
    shown = "; ".join(map(str, conflicts[:_SHOWN])) + (" …" if len(conflicts) > _SHOWN else "")
    return f"{len(conflicts):,} conflict{'s' if len(conflicts) != 1 else ''} ({shown})"


def conflict_of(raw: RawConflict, chunks: ChunkReader, pending: PendingChunks | None = None) -> Conflict:
    """Make the public conflict of a raw one."""

    def side(raw_side: RawSide | None) -> Side | None:
        return None if raw_side is None else Side(raw_side, chunks, pending)

    return Conflict(raw.node, raw.key, raw.kind, side(raw.base), side(raw.ours), side(raw.theirs))
