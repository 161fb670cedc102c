"""Three-way merge of two trees by key.

Pure functions over nodes: the changes of the side that changed less are applied to the tree of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hangarlake.records.catalog import CatalogNode
from hangarlake.records.conflicts import Arbiter, ConflictKind, Decide, RawConflict, RawSide, Resolution
from hangarlake.records.diff import TreeChange, diff_trees, digests_differ, pick, same_root
from hangarlake.records.entries import Digests, Entries
from hangarlake.records.keys import KeyArray, decode_grid, decode_keys
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import NodeSink, NodeSource, apply_edits, find

__all__ = ["Labels", "TreeMerge", "TreePlan", "carry_out", "coordinates", "merge_trees", "plan_merge"]


class TreeMerge(NamedTuple):
    """A merged tree, the conflicts that nobody resolved (ours stands there), and the values to be set in it."""

    root: NodeRef | None
    conflicts: list[RawConflict]
    assignments: list[tuple[str, Any, Any]]


def merge_trees(
    base: NodeRef | None,
    ours: NodeRef | None,
    theirs: NodeRef | None,
    source: NodeSource,
    sink: NodeSink,
    decide: Decide | None = None,
    *,
    name: str = "",
    ndim: int | None = None,
) -> TreeMerge:
    """Merge two trees by key.

    Parameters
    ----------
    base, ours, theirs : NodeRef or None
    source, sink : NodeSource, NodeSink
    decide : callable, optional
        Asked once for each conflict.
    name : str
        What conflicts call the node.
    ndim : int, optional
        Of a Zarr array: keys are grid coordinates, and conflicts are of kind "chunk".

    Notes
    -----
    The changes of the side that changed less are applied to the tree of the other, so cost follows the smaller of the two.
    """
    arbiter = Arbiter(decide)
    plan = plan_merge(base, ours, theirs, source)
    root = carry_out(plan, Labels(name, ndim), arbiter, source, sink)
    return TreeMerge(root, arbiter.unresolved, arbiter.assignments)


@dataclass(frozen=True, slots=True)
class Labels:
    """How conflicts of one tree are described: name, dimensions of an array, and the nodes it belongs to (with their names)."""

    name: str
    ndim: int | None = None
    sides: tuple[tuple[CatalogNode | None, str | None], ...] = ((None, None),) * 3


class _Lookup:
    """Which of some sorted keys have an entry: digests (n, 20), zero where absent, and the entries that are present."""

    def __init__(self, keys: KeyArray, entries: Entries) -> None:
        n = len(keys)
        self.entries = entries
        self.at = np.full(n, -1, np.int64)
        if len(entries):
            at = np.minimum(np.searchsorted(entries.keys, keys), len(entries) - 1)
            self.at = np.where(entries.keys[at] == keys, at, -1)
        self.digests: Digests = np.zeros((n, 20), np.uint8)
        here = self.at >= 0
        self.digests[here] = entries.digests[self.at[here]]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        return self.at >= 0

    def differs(self, other: _Lookup) -> npt.NDArray[np.bool_]:
        presence: npt.NDArray[np.bool_] = self.present != other.present
        return presence | digests_differ(self.digests, other.digests)

    def entry(self, i: int) -> Entries | None:
        at = int(self.at[i])
        return self.entries.take(slice(at, at + 1)).compact() if at >= 0 else None

    def take(self, where: npt.NDArray[Any]) -> tuple[Entries, npt.NDArray[np.bool_]]:
        """Return the entries of some keys, and which of them are present."""
        at = self.at[where]
        return self.entries.take(at[at >= 0]).compact(), at >= 0


@dataclass(frozen=True, slots=True)
class _Contested:
    """Keys that both sides changed to different outcomes, in one block."""

    keys: KeyArray
    base: _Lookup
    ours: _Lookup
    theirs: _Lookup


@dataclass(frozen=True, slots=True)
class TreePlan:
    """How trees are to be merged: edits of one side for the tree of the other (`flipped`: of ours for that of theirs)."""

    target: NodeRef | None
    flipped: bool = False
    upserts: Sequence[Entries] = ()
    removes: Sequence[KeyArray] = ()
    contested: Sequence[_Contested] = ()


def plan_merge(base: NodeRef | None, ours: NodeRef | None, theirs: NodeRef | None, source: NodeSource) -> TreePlan:
    if same_root(base, theirs) or same_root(ours, theirs):
        return TreePlan(ours)
    if same_root(base, ours):
        return TreePlan(theirs)
    flipped, changes = _smaller(base, ours, theirs, source)
    target = theirs if flipped else ours
    upserts: list[Entries] = []
    removes: list[KeyArray] = []
    contested: list[_Contested] = []
    for change in changes:
        was = _interleaved(change.removed, change.old)
        becomes = _interleaved(change.added, change.new)
        keys = np.union1d(was.keys, becomes.keys)
        found = find(target, keys, source)
        before, after = _Lookup(keys, was), _Lookup(keys, becomes)
        starts = np.concatenate([[0], np.cumsum([leaf.count for leaf in found.leaves], dtype=np.int64)])
        there = (starts[found.leaf] + found.position)[found.present]
        other = _Lookup(keys, pick(found.leaves, there) if len(there) else Entries.empty(becomes.rank))
        untouched = ~other.differs(before)
        mine, has = after.take(np.flatnonzero(untouched))
        upserts.append(mine)
        removes.append(keys[untouched][~has])
        fight = np.flatnonzero(~untouched & other.differs(after))
        if len(fight):
            sides = [_Lookup(keys[fight], side.take(fight)[0]) for side in (before, other, after)]
            if flipped:
                sides[1:] = sides[:0:-1]
            contested.append(_Contested(keys[fight], *sides))
    return TreePlan(target, flipped, upserts, removes, contested)


def _smaller(
    base: NodeRef | None, ours: NodeRef | None, theirs: NodeRef | None, source: NodeSource
) -> tuple[bool, list[TreeChange]]:
    """Return whether ours changed less than theirs, and the changes of the side that changed less.

    Theirs is taken if it fits in one block. Beyond that, blocks of both are drawn in turn until one side has no more, so that
    a huge import on either side costs no more than what happened on the other.
    """
    of_theirs, of_ours = diff_trees(base, theirs, source), diff_trees(base, ours, source)
    theirs_drawn, ours_drawn = list(islice(of_theirs, 2)), list[TreeChange]()
    if len(theirs_drawn) < 2:
        return False, theirs_drawn
    while True:
        for flipped, stream, drawn in ((True, of_ours, ours_drawn), (False, of_theirs, theirs_drawn)):
            block = next(stream, None)
            if block is None:
                return flipped, drawn
            drawn.append(block)


def _interleaved(a: Entries, b: Entries) -> Entries:
    """Join two sorted runs of entries into one."""
    if not len(a) or not len(b):
        return a if len(a) else b
    joined = Entries.concat([a, b])
    return joined.take(np.argsort(joined.keys, kind="stable"))


def carry_out(plan: TreePlan, labels: Labels, arbiter: Arbiter, source: NodeSource, sink: NodeSink) -> NodeRef | None:
    """Have conflicts decided, and apply what follows."""
    upserts, removes = list(plan.upserts), list(plan.removes)
    edits = Resolution.OURS if plan.flipped else Resolution.THEIRS  # which decision means an edit of the target
    for block in plan.contested:
        decisions = [arbiter.of_key(conflict) for conflict in _conflicts(block, labels)]
        chosen = np.flatnonzero([d is edits for d in decisions])
        taken, present = (block.ours if plan.flipped else block.theirs).take(chosen)
        upserts.append(taken)
        removes += [block.keys[chosen[~present]], block.keys[[d is Resolution.REMOVE for d in decisions]]]
    upserts = [part for part in upserts if len(part)]
    removes = [part for part in removes if len(part)]
    if not upserts and not removes:
        return plan.target
    joined = Entries.empty(0)
    if upserts:
        joined = Entries.concat(upserts)
        joined = joined.take(np.argsort(joined.keys, kind="stable")) if len(upserts) > 1 else joined
    gone = np.sort(np.concatenate(removes)) if removes else np.empty(0, "S1")
    return apply_edits(plan.target, joined, gone, source, sink)


def _conflicts(block: _Contested, labels: Labels) -> Iterator[RawConflict]:
    for i, key in enumerate(_decoded(block.keys, labels)):
        entries = [side.entry(i) for side in (block.base, block.ours, block.theirs)]
        sides = [
            None if entry is None else RawSide.of_entry(entry, *of)
            for entry, of in zip(entries, labels.sides, strict=True)
        ]
        kind: ConflictKind = "chunk" if labels.ndim is not None else _kind(*entries)
        yield RawConflict(labels.name, key, kind, *sides)


def _decoded(keys: KeyArray, labels: Labels) -> list[Any]:
    if labels.ndim is None:
        return decode_keys(keys)
    return [tuple(place) for place in coordinates(keys, labels.ndim).tolist()]


def _kind(base: Entries | None, ours: Entries | None, theirs: Entries | None) -> ConflictKind:
    if base is None:
        return "added-both"
    if ours is None:
        return "removed-changed"
    return "changed-removed" if theirs is None else "changed-both"


def coordinates(keys: KeyArray, ndim: int) -> npt.NDArray[np.uint32]:
    return decode_grid(keys, ndim) if ndim else np.empty((len(keys), 0), np.uint32)
