"""What differs between two trees; cost follows what changed, not what exists.

Pure functions over nodes: trees are descended side by side, and subtrees with one id on both sides are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.records.entries import Digests, Entries
from hangarlake.records.keys import KeyArray
from hangarlake.records.node import Children, Inner, Leaf, NodeRef
from hangarlake.records.tree import NodeSource

__all__ = ["Edits", "TreeChange", "count_changes", "diff_trees", "digests_differ", "edits_between", "pick", "same_root"]

Positions: TypeAlias = npt.NDArray[np.int64]

# Nodes of one level, of both sides, that are read together. Bounds what a diff holds in memory: about 256 × 256 entries.
_WINDOW = 256
# Greater than every key (tags are at most 0x30): stands for the last key of a root, which only reading it would tell.
_BEYOND = b"\xff"


@dataclass(frozen=True, slots=True)
class TreeChange:
    """A block of differences, each part sorted by key.

    Attributes
    ----------
    added : Entries
        Present in the new tree only.
    removed : Entries
        Present in the old tree only.
    old, new : Entries
        Present in both with other values, aligned with each other.
    """

    added: Entries
    removed: Entries
    old: Entries
    new: Entries

    def __len__(self) -> int:
        return len(self.added) + len(self.removed) + len(self.new)


def diff_trees(old: NodeRef | None, new: NodeRef | None, source: NodeSource) -> Iterator[TreeChange]:
    """Yield what differs between two trees, in blocks in key order; always read as from `old` to `new`.

    Parameters
    ----------
    old, new : NodeRef or None
        Roots; ``None`` for an empty tree.
    source : NodeSource

    Notes
    -----
    k scattered changes read about k nodes per level and side. Ranges of keys that differ throughout are worked through in
    windows, so memory is bounded whatever the size of the trees.
    """
    for block in _differences(old, new, source):
        before, after = block.before, block.after
        rank = after.rank if after.leaves else before.rank
        yield TreeChange(
            after.take(block.added, rank),
            before.take(block.removed, rank),
            before.take(block.old, rank),
            after.take(block.new, rank),
        )


@dataclass(frozen=True, slots=True)
class Edits:
    """A block of differences as what is to be done: n keys, sorted.

    Attributes
    ----------
    keys : S array (n,)
    before : uint8 (n, 20)
        Digests in the old tree; zeros where the key was absent.
    after : Entries
        Of the keys that are present in the new tree.
    present : bool (n,)
        Which keys these are.
    """

    keys: KeyArray
    before: Digests
    after: Entries
    present: npt.NDArray[np.bool_]


def edits_between(old: NodeRef | None, new: NodeRef | None, source: NodeSource) -> Iterator[Edits]:
    """Yield the edits that lead from one tree to another, in blocks in key order: what a merge needs of a diff, and no more."""
    for block in _differences(old, new, source):
        before, after = block.before, block.after
        upserted = np.sort(np.concatenate([block.added, block.new]))
        removed = before.keys[block.removed]
        keys = np.concatenate([after.keys[upserted], removed])
        digests = np.zeros((len(after.keys), 20), np.uint8)
        digests[block.new] = before.digests[block.old]
        digests = np.concatenate([digests[upserted], before.digests[block.removed]])
        present = np.arange(len(keys)) < len(upserted)
        order = np.argsort(keys, kind="stable")
        rank = after.rank if after.leaves else before.rank
        yield Edits(keys[order], digests[order], after.take(upserted, rank), present[order])


def count_changes(old: NodeRef | None, new: NodeRef | None, source: NodeSource) -> tuple[int, int, int]:
    """Return how many keys were (added, removed, modified), without keeping entries."""
    if old is None or new is None:
        return (new.count if new else 0), (old.count if old else 0), 0
    added = removed = modified = 0
    for block in _differences(old, new, source):
        added += len(block.added)
        removed += len(block.removed)
        modified += len(block.new)
    return added, removed, modified


def same_root(a: NodeRef | None, b: NodeRef | None) -> bool:
    """Tell whether two trees hold the same (wherever their nodes lie)."""
    return a is b or (a is not None and b is not None and a.id == b.id)


@dataclass(frozen=True, slots=True)
class _Frontier:
    """Nodes of one level of one tree, in key order, below which there may be differences."""

    level: int
    children: Children

    @classmethod
    def of_root(cls, root: NodeRef | None) -> _Frontier:
        if root is None:
            return cls(0, Children.of([], 1))
        return cls(root.level, Children.of([(_BEYOND, root)], 1))

    def __len__(self) -> int:
        return len(self.children)

    def refs(self) -> list[NodeRef]:
        return self.children.refs(self.level)

    def within(self, low: bytes | None, high: bytes | None) -> _Frontier:
        """Return the nodes that may hold keys in (low, high]."""
        keys = self.children.keys
        start = 0 if low is None else int(np.searchsorted(keys, np.bytes_(low), "right"))
        stop = len(keys) if high is None else int(np.searchsorted(keys, np.bytes_(high), "left")) + 1
        return (
            self if start == 0 and stop >= len(keys) else _Frontier(self.level, self.children.take(slice(start, stop)))
        )


class _Run:
    """The entries of some neighbouring leaves of one tree with keys in (low, high]."""

    def __init__(self, leaves: Sequence[Leaf], low: bytes | None, high: bytes | None) -> None:
        self.leaves = leaves
        keys = _joined([leaf.keys for leaf in leaves], np.empty(0, "S1"))
        digests = _joined([leaf.entries.digests for leaf in leaves], np.empty((0, 20), np.uint8))
        self.start = 0 if low is None else int(np.searchsorted(keys, np.bytes_(low), "right"))
        stop = len(keys) if high is None else int(np.searchsorted(keys, np.bytes_(high), "right"))
        self.keys: KeyArray = keys[self.start : stop]
        self.digests: Digests = digests[self.start : stop]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def rank(self) -> int:
        return self.leaves[0].entries.rank if self.leaves else 0

    def take(self, where: Positions, rank: int) -> Entries:
        """Return the entries at ascending positions; `rank` is that of none."""
        return pick(self.leaves, where + self.start) if len(where) else Entries.empty(rank)


def pick(leaves: Sequence[Leaf], where: Positions) -> Entries:
    """Return entries at ascending positions (at least one), counted through all leaves."""
    counts = np.array([leaf.count for leaf in leaves])
    ends = np.cumsum(counts)
    hit = np.unique(np.searchsorted(ends, where, "right"))
    # Joining whole leaves and picking once is faster than picking from each, but leaves without a pick are left out.
    kept = np.zeros_like(counts)
    kept[hit] = counts[hit]
    skipped = np.cumsum(counts - kept)[hit]
    per_leaf = np.diff(np.searchsorted(where, ends[hit]), prepend=0)
    return (
        Entries.concat([leaves[i].entries for i in hit.tolist()]).take(where - np.repeat(skipped, per_leaf)).compact()
    )


def _joined(parts: Sequence[npt.NDArray[Any]], empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else empty


@dataclass(frozen=True, slots=True)
class _Block:
    """Runs of leaves that differ, and where: positions in each, `old` and `new` aligned."""

    before: _Run
    after: _Run
    added: Positions
    removed: Positions
    old: Positions
    new: Positions


def _differences(old: NodeRef | None, new: NodeRef | None, source: NodeSource) -> Iterator[_Block]:
    if same_root(old, new):
        return
    for before, after in _descend(_Frontier.of_root(old), _Frontier.of_root(new), source, None, None):
        in_before, in_after = _align(before.keys, after.keys)
        differ = _rows_differ(before.digests, after.digests, in_before, in_after)
        block = _Block(
            before,
            after,
            _others(in_after, len(after)),
            _others(in_before, len(before)),
            in_before[differ],
            in_after[differ],
        )
        if len(block.added) or len(block.removed) or len(block.new):
            yield block


def _descend(
    old: _Frontier, new: _Frontier, source: NodeSource, low: bytes | None, high: bytes | None
) -> Iterator[tuple[_Run, _Run]]:
    if old.level == new.level:
        old, new = _without_common(old, new)
    size = len(old) + len(new)
    if size > _WINDOW:
        # A node that straddles a bound is looked at on both sides of it, each time as far as the window goes.
        keys = np.sort(np.concatenate([old.children.keys, new.children.keys]))
        inside = keys[_WINDOW // 2 : -1 : _WINDOW // 2].tolist()
        bounds = [low, *(key for key in inside if high is None or key < high), high]
        for start, stop in pairwise(bounds):
            yield from _descend(old.within(start, stop), new.within(start, stop), source, start, stop)
        return
    if not size:
        return
    top = max(side.level for side in (old, new) if len(side))
    refs_old = old.refs() if old.level == top else []
    refs_new = new.refs() if new.level == top else []
    nodes = source.get_nodes([*refs_old, *refs_new])
    if top == 0:
        leaves = [node for node in nodes if isinstance(node, Leaf)]
        yield _Run(leaves[: len(refs_old)], low, high), _Run(leaves[len(refs_old) :], low, high)
        return
    inner = [node for node in nodes if isinstance(node, Inner)]
    old = _expanded(old, inner[: len(refs_old)], top, low, high)
    new = _expanded(new, inner[len(refs_old) :], top, low, high)
    yield from _descend(old, new, source, low, high)


def _expanded(side: _Frontier, nodes: Sequence[Inner], level: int, low: bytes | None, high: bytes | None) -> _Frontier:
    """Return the frontier one level further down, if it stood at `level`."""
    if not len(side):
        return _Frontier(level - 1, side.children)
    if side.level < level:
        return side
    return _Frontier(level - 1, Children.concat([node.children for node in nodes])).within(low, high)


def _without_common(old: _Frontier, new: _Frontier) -> tuple[_Frontier, _Frontier]:
    """Drop nodes that both sides have. Equal nodes end with the same key, so they are found as equal entries are."""
    a, b = old.children, new.children
    in_old, in_new = _align(a.keys, b.keys)
    same = ~_rows_differ(a.ids, b.ids, in_old, in_new)
    if not same.any():
        return old, new
    return (
        _Frontier(old.level, a.take(_others(in_old[same], len(a)))),
        _Frontier(new.level, b.take(_others(in_new[same], len(b)))),
    )


def _align(a: KeyArray, b: KeyArray) -> tuple[Positions, Positions]:
    """Return the positions, ascending, of the keys that two sorted arrays share."""
    if not len(a) or not len(b):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if len(a) == len(b) and bool((a == b).all()):  # only values changed: by far the most frequent case
        everything = np.arange(len(a))
        return everything, everything
    at = np.minimum(np.searchsorted(a, b), len(a) - 1)
    hit = a[at] == b
    return at[hit], np.flatnonzero(hit)


def _rows_differ(a: Digests, b: Digests, in_a: Positions, in_b: Positions) -> npt.NDArray[np.bool_]:
    if len(in_a) == len(a) and len(in_b) == len(b):
        return digests_differ(a, b)
    return digests_differ(a[in_a], b[in_b])


def digests_differ(a: Digests, b: Digests) -> npt.NDArray[np.bool_]:
    """Compare digests row by row, shape (n,)."""
    # Rows have one width, so comparing them as padded byte strings is exact, and much faster than reducing over an axis.
    left = np.ascontiguousarray(a).view("S20").reshape(-1)
    right = np.ascontiguousarray(b).view("S20").reshape(-1)
    differ: npt.NDArray[np.bool_] = left != right
    return differ


def _others(where: Positions, size: int) -> Positions:
    """Return the positions among `size` that are not in `where`."""
    if len(where) == size:
        return np.empty(0, np.int64)
    mask = np.ones(size, np.bool_)
    mask[where] = False
    return np.flatnonzero(mask)
