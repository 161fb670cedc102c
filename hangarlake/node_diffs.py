"""What changed in one column, array or group; trees are read when somebody asks, values when somebody wants to see them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hangarlake.chunks.reader import ChunkReader
from hangarlake.columns.owners import PendingChunks
from hangarlake.columns.samples import describe
from hangarlake.conflicts import Side
from hangarlake.errors import SampleNotFoundError, SchemaError
from hangarlake.records.catalog import ArrayNode, CatalogNode, ColumnSchema
from hangarlake.records.conflicts import RawSide
from hangarlake.records.diff import MISSING, AttributeChanges, NodeDiff
from hangarlake.records.entries import Entries
from hangarlake.records.keys import KeyArray, as_key_array, decode_grid, decode_keys, encode_key, grid_key
from hangarlake.records.tree import NodeSource, find
from hangarlake.records.tree_diff import TreeChange, count_changes, diff_trees

if TYPE_CHECKING:
    from hangarlake.arrays.comparing import ArrayChangeStats
    from hangarlake.arrays.sides import ArraySide

__all__ = [
    "ArrayChunks",
    "ArrayDiff",
    "ChangedKeys",
    "ColumnDiff",
    "DiffSources",
    "EntryDiff",
    "NodeChange",
    "Values",
    "attributes_to_dict",
]

# Differences of one node that are kept once they were found; more are looked for anew each time, so memory is bounded.
_KEPT = 1 << 16


@dataclass(frozen=True, slots=True)
class DiffSources:
    """Where both sides of a comparison read from.

    Attributes
    ----------
    nodes : NodeSource
        Finds the tree nodes of both sides.
    chunks : ChunkReader
    pending_old, pending_new : PendingChunks or None
        Staged chunks of a side that is a write checkout.
    """

    nodes: NodeSource
    chunks: ChunkReader
    pending_old: PendingChunks | None = None
    pending_new: PendingChunks | None = None


class Values(NamedTuple):
    """Both values under a key; ``None`` where there is none."""

    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class EntryDiff:
    """What changed under one key.

    Attributes
    ----------
    key : str, int or tuple
    old, new : Side or None
        ``.digest`` and ``.shape`` without reading data, ``.value`` on demand; ``None`` where the key is absent.
    """

    key: Any
    old: Side | None
    new: Side | None

    @property
    def state(self) -> str:
        """``added``, ``removed``, ``modified``, or ``unchanged``."""
        if self.old is None or self.new is None:
            return "added" if self.old is None else "removed"
        return "unchanged" if self.old.digest == self.new.digest else "modified"

    def to_dict(self) -> dict[str, Any]:
        """Return digests and shapes, JSON-ready."""
        key = list(self.key) if isinstance(self.key, tuple) else self.key
        sides = {"old": self.old and self.old.to_dict(), "new": self.new and self.new.to_dict()}
        return {"key": key, "state": self.state, **sides}


class ChangedKeys(Collection[Any]):
    """Keys that changed in one way, sorted; found while they are iterated over."""

    def __init__(self, change: NodeChange, place: int) -> None:
        self._change = change
        self._place = place

    def __len__(self) -> int:
        return self._change.counts[self._place]

    def __iter__(self) -> Iterator[Any]:
        if not len(self):
            return
        for block in self._change.blocks():
            entries = (block.added, block.removed, block.new)[self._place]
            yield from self._change.decode(entries.keys, old=self._place == 1)

    def __contains__(self, key: object) -> bool:
        try:
            entry = self._change.find(key)
        except SchemaError:
            return False
        return entry is not None and entry.state == ("added", "removed", "modified")[self._place]

    def __repr__(self) -> str:
        shown = [repr(key) for key, _ in zip(self, range(4), strict=False)]
        more = " …" if len(self) > len(shown) else ""
        return f"<{len(self):,} keys: {', '.join(shown)}{more}>" if shown else "<no keys>"


class NodeChange:
    """What became of one column, array or group.

    Attributes
    ----------
    name : str
        On the new side; of a removed one, on the old side.
    old_name : str or None
        On the old side; ``None`` if it was added.
    state : str
        ``added``, ``removed``, ``modified`` or ``renamed``.
    replaced : NodeChange or None
        What else had this name and was removed: the name was given to another.
    """

    def __init__(self, node: NodeDiff, sources: DiffSources) -> None:
        self._node = node
        self._sources = sources
        self.name = node.name
        self.old_name = node.old_name
        self.state: str = node.state
        self.replaced: NodeChange | None = None

    @property
    def type(self) -> str:
        """``column``, ``array`` or ``group``."""
        return self._node.type

    @property
    def is_modified(self) -> bool:
        """Whether more differs than the name: it was changed, or renamed *and* changed."""
        return self._node.modified

    @property
    def attrs(self) -> AttributeChanges:
        """Changed attributes: name → (old, new), `MISSING` where there is none."""
        return self._node.attrs

    @property
    def schema(self) -> tuple[ColumnSchema, ColumnSchema] | None:
        """Old and new schema of a column, if it changed; else ``None``."""
        return self._node.schema

    @property
    def metadata(self) -> tuple[Any, Any] | None:
        """Old and new metadata of an array or group (without attributes), if these changed; else ``None``."""
        return self._node.metadata

    # ---- keys -------------------------------------------------------------------------------------------------------

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """How many keys were added, removed and modified."""
        old, new = self._node.old_root, self._node.new_root
        if old is None or new is None:
            return count_changes(old, new, self._sources.nodes)
        totals = [0, 0, 0]
        for block in self.blocks():
            for place, part in enumerate((block.added, block.removed, block.new)):
                totals[place] += len(part)
        return totals[0], totals[1], totals[2]

    def blocks(self) -> Iterator[TreeChange]:
        """Yield the differences, block by block in key order."""
        kept = self.__dict__.get("_blocks")
        if kept is not None:
            yield from kept
            return
        found: list[TreeChange] | None = []
        size = 0
        for block in diff_trees(self._node.old_root, self._node.new_root, self._sources.nodes):
            size += len(block)
            if found is not None:
                found = [*found, block] if size <= _KEPT else None
            yield block
        if found is not None:
            self.__dict__["_blocks"] = found

    @property
    def added(self) -> ChangedKeys:
        """Keys that only the new side has."""
        return ChangedKeys(self, 0)

    @property
    def removed(self) -> ChangedKeys:
        """Keys that only the old side has."""
        return ChangedKeys(self, 1)

    @property
    def modified(self) -> ChangedKeys:
        """Keys whose values differ."""
        return ChangedKeys(self, 2)

    def decode(self, keys: KeyArray, *, old: bool = False) -> list[Any]:  # noqa: ARG002 - arrays may have changed in rank
        """Turn keys of one side's tree into those of a person (internal)."""
        return decode_keys(keys)

    def encode(self, key: object, *, old: bool = False) -> bytes:  # noqa: ARG002 - arrays may have changed in rank
        """Turn the key of a person into that of one side's tree (internal)."""
        return encode_key(key)

    # ---- entries ----------------------------------------------------------------------------------------------------

    def find(self, key: object) -> EntryDiff | None:
        """Return what is known of a key on both sides, or ``None`` if neither has it.

        Raises
        ------
        SchemaError
            If it is no key.
        """
        sides: list[Side | None] = []
        for place, (node, name, pending) in enumerate(self._sides()):
            encoded = as_key_array([self.encode(key, old=place == 0)])
            found = find(node.root if node is not None else None, encoded, self._sources.nodes)
            entries = found.entries() if found.present.any() else None
            sides.append(self._side(entries, 0, node, name, pending))
        return None if sides == [None, None] else EntryDiff(key, *sides)

    def __getitem__(self, key: object) -> EntryDiff:
        """Return the entry of a key: digests and shapes of both sides, without reading data.

        Raises
        ------
        SampleNotFoundError
            If neither side has the key.
        """
        entry = self.find(key)
        if entry is None:
            raise SampleNotFoundError(f"{self.type} {self.name!r} has no {key!r} on either side")
        return entry

    def values(self, key: object) -> Values:
        """Read both values of a key; ``None`` on a side that lacks it.

        Raises
        ------
        SampleNotFoundError
            If neither side has the key.
        """
        entry = self[key]
        return Values(entry.old and entry.old.value, entry.new and entry.new.value)

    def entries(self) -> Iterator[EntryDiff]:
        """Yield every key that changed, block by block in key order, with digests and shapes of both sides."""
        (old, old_name, old_pending), (new, new_name, new_pending) = self._sides()

        def before(entries: Entries, i: int) -> Side | None:
            return self._side(entries, i, old, old_name, old_pending)

        def after(entries: Entries, i: int) -> Side | None:
            return self._side(entries, i, new, new_name, new_pending)

        for block in self.blocks():
            keys = np.concatenate([block.added.keys, block.removed.keys, block.new.keys])
            made = [EntryDiff(key, None, after(block.added, i)) for i, key in enumerate(self.decode(block.added.keys))]
            made += [
                EntryDiff(key, before(block.removed, i), None)
                for i, key in enumerate(self.decode(block.removed.keys, old=True))
            ]
            made += [
                EntryDiff(key, before(block.old, i), after(block.new, i))
                for i, key in enumerate(self.decode(block.new.keys))
            ]
            for i in np.argsort(keys, kind="stable").tolist():
                yield made[i]

    def _sides(self) -> list[tuple[CatalogNode | None, str | None, PendingChunks | None]]:
        node, sources = self._node, self._sources
        return [(node.old, node.old_name, sources.pending_old), (node.new, node.name, sources.pending_new)]

    def _side(
        self, entries: Entries | None, i: int, node: CatalogNode | None, name: str | None, pending: PendingChunks | None
    ) -> Side | None:
        if entries is None:
            return None
        return Side(RawSide(entries, i, node, name=name), self._sources.chunks, pending)

    # ---- showing ----------------------------------------------------------------------------------------------------

    def notes(self) -> list[str]:
        """Return what changed besides values, in words."""
        notes = []
        if self.old_name not in (None, self.name):
            notes.append(f"renamed from {self.old_name}")
        if self.schema is not None:
            notes.append(" → ".join(describe(schema) for schema in self.schema))
        if self.metadata is not None:
            notes.append("metadata")
        if self.attrs:
            notes.append(f"attributes {', '.join(self.attrs)}")
        return notes

    def to_dict(self, *, keys: bool = False) -> dict[str, Any]:
        """Return state and counts, JSON-ready; with `keys` also the keys."""
        added, removed, modified = self.counts
        out: dict[str, Any] = {"state": self.state, "added": added, "removed": removed, "modified": modified}
        if self.old_name not in (None, self.name):
            out["old_name"] = self.old_name
        if self.schema is not None:
            out["schema"] = {"old": self.schema[0].to_dict(), "new": self.schema[1].to_dict()}
        if self.metadata is not None:
            out["metadata"] = {"old": dict(self.metadata[0]), "new": dict(self.metadata[1])}
        if self.attrs:
            out["attrs"] = attributes_to_dict(self.attrs)
        if self.replaced is not None:
            out["replaced"] = self.replaced.to_dict(keys=keys)
        if keys:
            parts = {"added": self.added, "removed": self.removed, "modified": self.modified}
            out["keys"] = {
                part: [list(key) if isinstance(key, tuple) else key for key in found] for part, found in parts.items()
            }
        return out

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.state}>"


class ColumnDiff(NodeChange):
    """What changed in one column.

    ``added``, ``removed`` and ``modified`` are sorted keys, found while they are iterated over; ``diff[key]`` gives digests and shapes of
    both sides without reading data, ``values(key)`` reads both values.
    """


class ArrayChunks(NamedTuple):
    """Grid coordinates of chunks that changed, each sorted and found while it is iterated over."""

    added: ChangedKeys
    removed: ChangedKeys
    modified: ChangedKeys


class ArrayDiff(NodeChange):
    """What changed in one Zarr array: its keys are the grid coordinates of chunks, its values their encoded bytes."""

    @property
    def shapes(self) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """Old and new shape; ``None`` where there is no array."""
        old, new = (
            None if node is None else tuple(node.logical()["metadata"].get("shape", ()))
            for node in (self._node.old, self._node.new)
        )
        return old, new

    def _ndim(self, old: bool) -> int:
        shape = self.shapes[0 if old else 1]
        return len(shape if shape is not None else self.shapes[old] or ())

    def decode(self, keys: KeyArray, *, old: bool = False) -> list[Any]:
        """Turn keys of one side's tree into grid coordinates (internal)."""
        return [tuple(place) for place in decode_grid(keys, self._ndim(old)).tolist()]

    def encode(self, key: object, *, old: bool = False) -> bytes:
        """Turn grid coordinates into the key of one side's tree (internal)."""
        try:
            return grid_key(key, self._ndim(old))
        except SchemaError as error:
            raise SchemaError(f"array {self.name!r}: {error}") from error

    @property
    def chunks(self) -> ArrayChunks:
        """Grid coordinates of the chunks that were added, removed and modified."""
        return ArrayChunks(self.added, self.removed, self.modified)

    def _array_sides(self) -> list[ArraySide | None]:
        from hangarlake.arrays.sides import ArraySide

        made: list[ArraySide | None] = []
        for node, name, pending in self._sides():
            side = None
            if isinstance(node, ArrayNode):
                side = ArraySide(name or self.name, node, self._sources.nodes, self._sources.chunks, pending)
            made.append(side)
        return made

    def regions(self) -> list[tuple[slice, ...]]:
        """Return the regions that changed, as slices of the new array (of the old one, if it was removed).

        They are whole chunks, neighbours joined, clipped to the shape. An array whose metadata but for the shape changed, or
        whose chunks are no regular grid, changed as a whole.
        """
        from hangarlake.arrays.comparing import regions_of

        old, new = self._array_sides()
        side = new or old
        assert side is not None
        shape, chunk_shape = side.layout.shape, side.layout.chunk_shape
        if chunk_shape is None or not self._is_comparable(old, new):
            return [tuple(slice(0, n) for n in shape)]
        grid = [-(-n // c) for n, c in zip(shape, chunk_shape, strict=True)]
        changed = (place for keys in self.chunks for place in keys)
        inside = (p for p in changed if all(k < n for k, n in zip(p, grid, strict=True)))
        return regions_of(inside, chunk_shape, shape)

    @staticmethod
    def _is_comparable(old: ArraySide | None, new: ArraySide | None) -> bool:
        if old is None or new is None:
            return True
        a, b = old.layout, new.layout
        return a.ndim == b.ndim and a.chunk_shape == b.chunk_shape and a.dtype == b.dtype

    def to_dict(self, *, keys: bool = False) -> dict[str, Any]:
        """Return state, counts and regions (start and stop along each axis), JSON-ready; with `keys` also the chunks."""
        regions = [[[part.start, part.stop] for part in region] for region in self.regions()]
        return {**super().to_dict(keys=keys), "regions": regions}

    def stats(self) -> ArrayChangeStats:
        """Read the changed chunks of both sides and compare their elements.

        Raises
        ------
        SchemaError
            If the sides cannot be compared: one is missing, or rank, chunks or data type differ.
        """
        from hangarlake.arrays.comparing import compare_chunks

        old, new = self._array_sides()
        if (
            old is None
            or new is None
            or not self._is_comparable(old, new)
            or old.layout.encoding is None
            or new.layout.encoding is None
        ):
            raise SchemaError(
                f"array {self.name!r}: its two states cannot be compared element by element (it was {self.state}, or "
                "its rank, chunks, data type or codecs are others)"
            )
        places = sorted({place for keys in self.chunks for place in keys})
        return compare_chunks(old, new, np.array(places, np.int64).reshape(len(places), new.layout.ndim))


def attributes_to_dict(changes: AttributeChanges) -> dict[str, Any]:
    """Return changed attributes, JSON-ready; a side that lacks one is left out."""
    return {
        name: {side: value for side, value in zip(("old", "new"), pair, strict=True) if value is not MISSING}
        for name, pair in changes.items()
    }
