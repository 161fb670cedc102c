"""Merkle search trees (prolly trees): ordered maps whose id is a function of their content.

Pure functions over nodes; I/O happens behind a :class:`NodeSource`, new nodes go to a :class:`NodeSink`. The cutting of nodes at
content-defined boundaries follows the idea of Auvolat & Taïani's Merkle search trees (2019) and of Noms' prolly trees, with
boundaries chosen by keys alone (``docs/format.md`` §6), so changing values never moves a boundary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from hangarlake.records.children import Children, NodeRef
from hangarlake.records.entries import Entries
from hangarlake.records.keys import KeyArray, hash_keys
from hangarlake.records.node import Inner, Leaf, Node

__all__ = [
    "Found",
    "NodeSink",
    "NodeSource",
    "apply_edits",
    "build",
    "find",
    "iter_leaves",
    "last_key",
    "rank_of",
]

# (MIN, T, MAX) of format §6.
_LEAF_RULE = (128, 128, 512)
_INNER_RULE = (32, 32, 128)


class NodeSource(Protocol):
    """Where nodes come from: staged ones, a cache, a bucket."""

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        """Return nodes in the order of `refs`, fetched together."""


class NodeSink(Protocol):
    """Where new nodes go."""

    def add_node(self, node: Node) -> NodeRef:
        """Keep a node; return the reference by which it is found again."""


# ---- cutting ------------------------------------------------------------------------------------------------------------


def cut_points(keys: KeyArray, level: int) -> list[int]:
    """Return the ends (exclusive) of the nodes into which a run of items is cut, not counting what is left at the end."""
    least, modulus, most = _INNER_RULE if level else _LEAF_RULE
    n = len(keys)
    if n < least:
        return []
    ends = (np.flatnonzero(hash_keys(keys, level) % np.uint64(modulus) == 0) + 1).tolist()
    cuts: list[int] = []
    start = 0
    while True:
        at = bisect_left(ends, start + least)
        end = min(ends[at] if at < len(ends) else n + most, start + most)
        if end > n:
            return cuts
        cuts.append(end)
        start = end


# ---- building -----------------------------------------------------------------------------------------------------------

_Items = TypeVar("_Items", Entries, Children)


def _emit(items: Entries | Children, level: int, sink: NodeSink, *, compact: bool = True) -> tuple[bytes, NodeRef]:
    if compact:
        items = items.compact()
    node: Node = Leaf.of(items) if isinstance(items, Entries) else Inner.of(level, items)
    return bytes(items.keys[-1]), sink.add_node(node)


def _emit_all(
    items: Entries | Children, cuts: Sequence[int], level: int, sink: NodeSink
) -> list[tuple[bytes, NodeRef]]:
    out = []
    start = 0
    for end in cuts:
        out.append(_emit(items.take(slice(start, end)), level, sink))
        start = end
    return out


def build(entries: Entries, sink: NodeSink) -> NodeRef | None:
    """Build a tree from sorted, unique entries; return its root (``None`` if there are none)."""
    if not len(entries):
        return None
    return _build_up(_emit_all(entries, _all_cuts(entries.keys, 0), 0, sink), 0, sink)


def _all_cuts(keys: KeyArray, level: int) -> list[int]:
    """Return the ends of all nodes of a complete level."""
    cuts = cut_points(keys, level)
    return cuts if cuts and cuts[-1] == len(keys) else [*cuts, len(keys)]


def _build_up(items: list[tuple[bytes, NodeRef]], level: int, sink: NodeSink) -> NodeRef:
    """Build inner levels over the complete list of nodes of `level` until one is left."""
    while len(items) > 1:
        level += 1
        children = Children.of(items, max(len(key) for key, _ in items))
        items = _emit_all(children, _all_cuts(children.keys, level), level, sink)
    return items[0][1]


# ---- editing ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Touched:
    """A node that edits fall into: its upserts and removes."""

    node: Node
    upserts: Entries | Children
    removes: KeyArray


def apply_edits(
    root: NodeRef | None, upserts: Entries, removes: KeyArray, source: NodeSource, sink: NodeSink
) -> NodeRef | None:
    """Apply edits to a tree and return the new root; the result equals a tree built from scratch.

    Parameters
    ----------
    root : NodeRef or None
    upserts : Entries
        Sorted and unique. An entry whose value and shape are unchanged keeps its place.
    removes : S array
        Sorted, unique, disjoint from the keys of `upserts`. Absent keys are ignored.

    Notes
    -----
    Works level by level from the leaves: the nodes touched are re-cut until a boundary falls on an old one, and the nodes that were
    replaced are the edits of the level above.
    """
    if root is None:
        return build(upserts.compact(), sink)
    if not len(upserts) and not len(removes):
        return root
    paths = _Paths(root, source)
    items_up: Entries | Children = upserts
    for level in range(root.level + 1):
        touched = paths.touched(level, items_up, removes)
        replaced, made, whole = _edit_level(level, touched, paths, sink)
        if level == root.level:
            return _finish(made, whole, level, root, source, sink)
        if not replaced and not made:
            return root
        new_keys = {key for key, _ in made}
        removed = sorted(replaced - new_keys)
        removes = np.array(removed, dtype=f"S{max(map(len, removed))}") if removed else np.empty(0, "S1")
        items_up = Children.of(made, max((len(k) for k, _ in made), default=1))
    raise AssertionError("unreachable: the loop ends at the root's level")


def _finish(
    made: list[tuple[bytes, NodeRef]], unchanged: bool, level: int, root: NodeRef, source: NodeSource, sink: NodeSink
) -> NodeRef | None:
    if unchanged:
        return root
    if not made:
        return None
    top = _build_up(made, level, sink)
    # Canonical form: the root is the lowest level that has a single node.
    while top.level > 0:
        node = source.get_nodes([top])[0]
        assert isinstance(node, Inner)
        if len(node.children) > 1:
            break
        top = node.children.ref(0, top.level - 1)
    return top


class _Paths:
    """The old tree, as far as edits need it: which nodes keys fall into, level by level, and which node follows one."""

    def __init__(self, root: NodeRef, source: NodeSource) -> None:
        self.root = root
        self.source = source

    def touched(self, level: int, upserts: Entries | Children, removes: KeyArray) -> list[_Touched]:
        """Return the nodes of `level` that edits fall into, in key order, each with its edits."""
        nodes = [self.source.get_nodes([self.root])[0]]
        up_bounds, rm_bounds = [0, len(upserts.keys)], [0, len(removes)]
        for _ in range(self.root.level - level):
            refs: list[NodeRef] = []
            ups, rms = [0], [0]
            for i, node in enumerate(nodes):
                assert isinstance(node, Inner)
                last = len(node.children) - 1
                lasts = node.keys[:last]  # what is beyond the last key belongs to the last child
                up = np.searchsorted(lasts, upserts.keys[up_bounds[i] : up_bounds[i + 1]], "left")
                rm = np.searchsorted(lasts, removes[rm_bounds[i] : rm_bounds[i + 1]], "left")
                for child in np.unique(np.concatenate([up, rm])).tolist():
                    refs.append(node.children.ref(child, node.level - 1))
                    ups.append(up_bounds[i] + int(np.searchsorted(up, child, "right")))
                    rms.append(rm_bounds[i] + int(np.searchsorted(rm, child, "right")))
            nodes = self.source.get_nodes(refs)
            up_bounds, rm_bounds = ups, rms
        return [
            _Touched(node, _part(upserts, up_bounds[i], up_bounds[i + 1]), removes[rm_bounds[i] : rm_bounds[i + 1]])
            for i, node in enumerate(nodes)
        ]

    def after(self, level: int, key: bytes) -> Node | None:
        """Return the node of `level` that follows the one whose last key is `key`."""
        ref = self.root
        while True:
            node = self.source.get_nodes([ref])[0]
            if node.level == level:
                return node if bytes(node.keys[-1]) > key else None
            assert isinstance(node, Inner)
            child = int(np.searchsorted(node.keys, np.bytes_(key), "right"))
            if child == len(node.children):
                return None
            ref = node.children.ref(child, node.level - 1)


def _part(items: Entries | Children, start: int, end: int) -> Entries | Children:
    """Return some of the items; entries without the chunks of all the others."""
    part = items.take(slice(start, end))
    return part.compact() if isinstance(part, Entries) else part


def _edit_level(
    level: int, touched: list[_Touched], paths: _Paths, sink: NodeSink
) -> tuple[set[bytes], list[tuple[bytes, NodeRef]], bool]:
    """Re-cut the touched nodes of one level.

    Returns
    -------
    replaced : set of bytes
        Last keys of old nodes that are no more.
    made : list of (last key, reference)
        New nodes in key order.
    unchanged : bool
        Whether no edit had any effect.
    """
    replaced: set[bytes] = set()
    made: list[tuple[bytes, NodeRef]] = []
    any_change = False
    at = 0
    while at < len(touched):
        node = touched[at].node
        items, changed, keys_changed = _edit_items(touched[at])
        at += 1
        if not changed:
            continue
        any_change = True
        replaced.add(bytes(node.keys[-1]))
        if not keys_changed:
            made.append(_emit(items, level, sink, compact=False))
            continue
        edited = True  # what comes from an edit is compact
        while len(items):
            cuts = cut_points(items.keys, level)
            if cuts == [len(items)]:
                made.append(_emit(items, level, sink, compact=not edited))
                break
            edited = False
            made += _emit_all(items, cuts, level, sink)
            done = cuts[-1] if cuts else 0
            if done == len(items):
                break
            rest = items.take(slice(done, None))
            if at < len(touched) and _follows(touched[at].node, node, paths, level):
                node = touched[at].node
                more, _, _ = _edit_items(touched[at])
                at += 1
            else:
                following = paths.after(level, bytes(node.keys[-1]))
                if following is None:
                    made.append(_emit(rest, level, sink))
                    break
                node = following
                more = _items_of(node)
            replaced.add(bytes(node.keys[-1]))
            items = _concat(rest, more)
    return replaced, made, not any_change


def _follows(candidate: Node, node: Node, paths: _Paths, level: int) -> bool:
    following = paths.after(level, bytes(node.keys[-1]))
    return following is not None and following.id == candidate.id


def _items_of(node: Node) -> Entries | Children:
    return node.entries if isinstance(node, Leaf) else node.children


def _edit_items(touched: _Touched) -> tuple[Entries | Children, bool, bool]:
    items = _items_of(touched.node)
    if isinstance(items, Entries):
        assert isinstance(touched.upserts, Entries)
        return items.edited(touched.upserts, touched.removes)
    assert isinstance(touched.upserts, Children)
    return items.edited(touched.upserts, touched.removes)


def _concat(left: Entries | Children, right: Entries | Children) -> Entries | Children:
    if isinstance(left, Entries):
        assert isinstance(right, Entries)
        return Entries.concat([left, right]) if len(right) else left
    assert isinstance(right, Children)
    return Children.concat([left, right]) if len(right) else left


# ---- reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Where keys were found.

    Attributes
    ----------
    leaves : list of Leaf
    leaf, position : int64 (n,)
        For each key the leaf (index into `leaves`) and the place in it; −1 where the key is absent.
    """

    leaves: list[Leaf]
    leaf: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        return self.position >= 0

    def entries(self) -> Entries:
        """Return the entries of all keys that are present, in their order."""
        present = np.flatnonzero(self.present)
        if not len(present):
            return Entries.empty(self.leaves[0].entries.rank if self.leaves else 0)
        # Keys are sorted, so those of one leaf stand together.
        leaf, position = self.leaf[present], self.position[present]
        bounds = [0, *(np.flatnonzero(leaf[1:] != leaf[:-1]) + 1).tolist(), len(leaf)]
        return Entries.concat(
            [self.leaves[int(leaf[a])].entries.take(position[a:b]).compact() for a, b in pairwise(bounds)]
        )


def find(root: NodeRef | None, keys: KeyArray, source: NodeSource) -> Found:
    """Look many sorted keys up at once: one batch of node reads per level."""
    n = len(keys)
    absent = np.full(n, -1, np.int64)
    if root is None or not n:
        return Found([], absent, absent)
    nodes = source.get_nodes([root])
    bounds = [(0, n)]
    for _ in range(root.level):
        refs: list[NodeRef] = []
        next_bounds: list[tuple[int, int]] = []
        for node, (low, high) in zip(nodes, bounds, strict=True):
            assert isinstance(node, Inner)
            child = np.searchsorted(node.keys, keys[low:high], "left")
            starts = np.flatnonzero(np.diff(child, prepend=-1))
            ends = [*starts[1:].tolist(), high - low]
            for start, end in zip(starts.tolist(), ends, strict=True):
                c = int(child[start])
                if c < len(node.children):
                    refs.append(node.children.ref(c, node.level - 1))
                    next_bounds.append((low + start, low + end))
        nodes = source.get_nodes(refs) if refs else []
        bounds = next_bounds
    leaf = absent.copy()
    position = absent
    leaves: list[Leaf] = []
    for node, (low, high) in zip(nodes, bounds, strict=True):
        assert isinstance(node, Leaf)
        at = np.searchsorted(node.keys, keys[low:high], "left")
        clipped = np.minimum(at, node.count - 1)
        hit = node.keys[clipped] == keys[low:high]
        leaf[low:high] = len(leaves)
        position[low:high] = np.where(hit, clipped, -1)
        leaves.append(node)
    return Found(leaves, leaf, position)


def iter_leaves(
    root: NodeRef | None,
    source: NodeSource,
    *,
    start: bytes | None = None,
    stop: bytes | None = None,
    reverse: bool = False,
    ahead: int = 64,
) -> Iterator[Leaf]:
    """Yield the leaves that may hold keys in ``[start, stop)``, in key order, reading up to `ahead` of them at a time."""
    if root is None:
        return
    yield from _iter_under([root], source, start, stop, reverse, ahead)


def _iter_under(
    refs: Sequence[NodeRef], source: NodeSource, start: bytes | None, stop: bytes | None, reverse: bool, ahead: int
) -> Iterator[Leaf]:
    for batch in (refs[i : i + ahead] for i in range(0, len(refs), ahead)):
        for node in source.get_nodes(batch):
            if isinstance(node, Leaf):
                yield node
                continue
            low, high = 0, len(node.children)
            if start is not None:
                low = int(np.searchsorted(node.keys, np.bytes_(start), "left"))
            if stop is not None:
                high = min(high, int(np.searchsorted(node.keys, np.bytes_(stop), "left")) + 1)
            children = node.children.refs(node.level - 1, range(low, high))
            yield from _iter_under(children[::-1] if reverse else children, source, start, stop, reverse, ahead)


def last_key(root: NodeRef | None, source: NodeSource, *, before: bytes | None = None) -> bytes | None:
    """Return the greatest key (less than `before`)."""
    for leaf in iter_leaves(root, source, stop=before, reverse=True, ahead=1):
        keys = leaf.keys if before is None else leaf.keys[: int(np.searchsorted(leaf.keys, np.bytes_(before), "left"))]
        if len(keys):
            return bytes(keys[-1])
    return None


def rank_of(root: NodeRef | None, key: bytes, source: NodeSource) -> int:
    """Return how many keys are less than `key`: a walk of one node per level."""
    if root is None:
        return 0
    rank = 0
    ref = root
    while True:
        node = source.get_nodes([ref])[0]
        at = int(np.searchsorted(node.keys, np.bytes_(key), "left"))
        if isinstance(node, Leaf):
            return rank + at
        rank += int(node.children.counts[:at].sum())
        if at == len(node.children):
            return rank
        ref = node.children.ref(at, node.level - 1)
