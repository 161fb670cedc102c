"""Conflicts as a person meets them: what both sides changed, with the values of each side on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hangarlake.chunks.reader import ChunkReader
from hangarlake.columns.reading import PendingChunks, SampleReader
from hangarlake.records.catalog import ColumnNode
from hangarlake.records.conflicts import RawConflict, RawSide
from hangarlake.records.diff import MISSING

__all__ = ["Conflict", "Side", "conflict_of"]


@dataclass(frozen=True, slots=True)
class Side:
    """What one side of a conflict has.

    Attributes
    ----------
    digest : str or None
        Value digest, hex; ``None`` for attributes and whole nodes.
    shape : tuple of int or None
    """

    digest: str | None
    shape: tuple[int, ...] | None
    _raw: RawSide = field(repr=False, compare=False)
    _chunks: ChunkReader = field(repr=False, compare=False)
    _pending: PendingChunks | None = field(repr=False, compare=False, default=None)

    @property
    def value(self) -> Any:
        """The value, read now: a sample, an attribute; for whole nodes what describes them."""
        raw = self._raw
        if raw.value is not MISSING:
            return raw.value
        if raw.entry is not None and isinstance(raw.node, ColumnNode):
            name = raw.name or ""
            return SampleReader(name, raw.node.schema, self._chunks, self._pending).one(raw.entry, 0)
        if raw.entry is not None:
            return self._chunks.read_raw([raw.entry.table.ref(int(raw.entry.rows[0]))])[0]
        return raw.node.logical() if raw.node is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return digest and shape (and an attribute's value), JSON-ready."""
        out: dict[str, Any] = {"digest": self.digest, "shape": list(self.shape) if self.shape is not None else None}
        if self._raw.value is not MISSING:
            out["value"] = self._raw.value
        return out


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


def conflict_of(raw: RawConflict, chunks: ChunkReader, pending: PendingChunks | None = None) -> Conflict:
    """Make the public conflict of a raw one."""

    def side(raw_side: RawSide | None) -> Side | None:
        if raw_side is None:
            return None
        return Side(raw_side.digest, raw_side.shape, raw_side, chunks, pending)

    return Conflict(raw.node, raw.key, raw.kind, side(raw.base), side(raw.ours), side(raw.theirs))
