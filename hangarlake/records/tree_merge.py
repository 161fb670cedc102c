"""Three-way merge of two trees by key.

Pure functions over nodes: the changes of the side that changed less are applied to the tree of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.records.catalog import CatalogNode
from hangarlake.records.conflicts import Arbiter, ConflictKind, RawConflict, RawSide, Resolution
from hangarlake.records.entries import Digests, Entries
from hangarlake.records.keys import KeyArray, decode_grid, decode_keys
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import Found, NodeSink, NodeSource, apply_edits, find
from hangarlake.records.tree_diff import Edits, digests_differ, edits_between, pick, same_root

__all__ = ["Labels", "TreePlan", "carry_out", "plan_merge"]


@dataclass(frozen=True, slots=True)
class Labels:
    """How conflicts of one tree are described: name, dimensions of an array, and the nodes it belongs to (with their names)."""

    name: str
    ndim: int | None = None
    sides: tuple[tuple[CatalogNode | None, str | None], ...] = ((None, None),) * 3


@dataclass(frozen=True, slots=True)
class _Side:
    """What one side has under some keys: the entries that it has, and which keys these are."""

    entries: Entries
    present: npt.NDArray[np.bool_]

    def each(self, node: CatalogNode | None, name: str | None) -> Iterator[RawSide | None]:
        """Describe this side of each key."""
        at = np.cumsum(self.present) - 1
        for i, present in zip(at.tolist(), self.present.tolist(), strict=True):
            yield RawSide(self.entries, i, node, name=name) if present else None

    def take(self, where: npt.NDArray[np.bool_]) -> _Side:
        return _Side(self.entries.take(where[self.present]).compact(), self.present[where])


@dataclass(frozen=True, slots=True)
class Contested:
    """Keys that both sides changed, to different outcomes."""

    keys: KeyArray
    base: _Side
    ours: _Side
    theirs: _Side


@dataclass(frozen=True, slots=True)
class TreePlan:
    """How trees are to be merged: edits of one side for the tree of the other (`flipped`: of ours for that of theirs)."""

    target: NodeRef | None
    flipped: bool = False
    upserts: Sequence[Entries] = ()
    removes: Sequence[KeyArray] = ()
    contested: Sequence[Contested] = ()


def plan_merge(base: NodeRef | None, ours: NodeRef | None, theirs: NodeRef | None, source: NodeSource) -> TreePlan:
    """Find out what a merge would do, without doing it."""
    if same_root(base, theirs) or same_root(ours, theirs):
        return TreePlan(ours)
    if same_root(base, ours):
        return TreePlan(theirs)
    flipped, blocks = _smaller(base, ours, theirs, source)
    target = theirs if flipped else ours
    upserts: list[Entries] = []
    removes: list[KeyArray] = []
    contested: list[Contested] = []
    for block in blocks:
        keys = block.keys
        edited = _Side(block.after, block.present)
        found = find(target, keys, source)
        other = _digests(found, len(keys))
        # Nothing hashes to zeros, which stand for an absent key.
        untouched = ~digests_differ(other, block.before)
        mine = edited.take(untouched)
        upserts.append(mine.entries)
        removes.append(keys[untouched][~mine.present])
        after = np.zeros_like(other)
        after[block.present] = block.after.digests
        fight = ~untouched & digests_differ(other, after)
        if fight.any():
            at = keys[fight]
            sides = [_found(find(target, at, source)), edited.take(fight)]
            contested.append(Contested(at, _found(find(base, at, source)), *(sides[::-1] if flipped else sides)))
    return TreePlan(target, flipped, upserts, removes, contested)


def _places(found: Found) -> npt.NDArray[np.int64]:
    """Return the places of the keys that were found, counted through all leaves."""
    starts = np.cumsum([0, *(leaf.count for leaf in found.leaves)], dtype=np.int64)
    places: npt.NDArray[np.int64] = (starts[found.leaf] + found.position)[found.present]
    return places


def _digests(found: Found, n: int) -> Digests:
    """Return the digests of n keys that were looked for; zeros where there is none."""
    digests = np.zeros((n, 20), np.uint8)
    if found.present.any():
        digests[found.present] = np.concatenate([leaf.entries.digests for leaf in found.leaves])[_places(found)]
    return digests


def _found(found: Found) -> _Side:
    places = _places(found)
    return _Side(pick(found.leaves, places) if len(places) else Entries.empty(0), found.present)


def _smaller(
    base: NodeRef | None, ours: NodeRef | None, theirs: NodeRef | None, source: NodeSource
) -> tuple[bool, list[Edits]]:
    """Return whether ours changed less than theirs, and the edits of the side that changed less.

    Theirs is taken if it fits in one block. Beyond that, blocks of both are drawn in turn until one side has no more, so that
    a huge import on either side costs no more than what happened on the other.
    """
    of_theirs, of_ours = edits_between(base, theirs, source), edits_between(base, ours, source)
    theirs_drawn, ours_drawn = list(islice(of_theirs, 2)), list[Edits]()
    if len(theirs_drawn) < 2:
        return False, theirs_drawn
    while True:
        for flipped, stream, drawn in ((True, of_ours, ours_drawn), (False, of_theirs, theirs_drawn)):
            block = next(stream, None)
            if block is None:
                return flipped, drawn
            drawn.append(block)


def carry_out(plan: TreePlan, labels: Labels, arbiter: Arbiter, source: NodeSource, sink: NodeSink) -> NodeRef | None:
    """Have conflicts decided, and apply what follows."""
    upserts, removes = list(plan.upserts), list(plan.removes)
    edits = Resolution.OURS if plan.flipped else Resolution.THEIRS  # which decision means an edit of the target
    for block in plan.contested:
        decisions = [arbiter.of_key(conflict) for conflict in _conflicts(block, labels)]
        chosen = np.array([decision is edits for decision in decisions])
        taken = (block.ours if plan.flipped else block.theirs).take(chosen)
        upserts.append(taken.entries)
        removes += [block.keys[chosen][~taken.present], block.keys[[d is Resolution.REMOVE for d in decisions]]]
    if not any(map(len, upserts)) and not any(map(len, removes)):
        return plan.target
    joined = Entries.empty(upserts[0].rank)  # empty parts may lack the rank, but the first comes from a diff
    filled = [part for part in upserts if len(part)]
    if filled:
        joined = Entries.concat(filled)
    if len(filled) > 1:
        joined = joined.take(np.argsort(joined.keys, kind="stable"))
    return apply_edits(plan.target, joined, np.sort(np.concatenate(removes)), source, sink)


def _conflicts(block: Contested, labels: Labels) -> Iterator[RawConflict]:
    sides = zip((block.base, block.ours, block.theirs), labels.sides, strict=True)
    rows = zip(*(side.each(*of) for side, of in sides), strict=True)
    for key, (base, ours, theirs) in zip(_decoded(block.keys, labels), rows, strict=True):
        kind: ConflictKind = "chunk" if labels.ndim is not None else _kind(base, ours, theirs)
        yield RawConflict(labels.name, key, kind, base, ours, theirs)


def _decoded(keys: KeyArray, labels: Labels) -> list[Any]:
    if labels.ndim is None:
        return decode_keys(keys)
    return [tuple(place) for place in decode_grid(keys, labels.ndim).tolist()]


def _kind(base: RawSide | None, ours: RawSide | None, theirs: RawSide | None) -> ConflictKind:
    if base is None:
        return "added-both"
    if ours is None:
        return "removed-changed"
    return "changed-removed" if theirs is None else "changed-both"
