"""What differs between two trees and between two catalogs; cost follows what changed, not what exists.

Pure functions over nodes: trees are descended side by side, and subtrees with one id on both sides are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.records.canonical import canonical_json
from hangarlake.records.catalog import Catalog, CatalogNode, ColumnNode, ColumnSchema
from hangarlake.records.entries import Digests, Entries
from hangarlake.records.keys import KeyArray
from hangarlake.records.node import Children, Inner, Leaf, NodeRef
from hangarlake.records.renames import continuations
from hangarlake.records.tree import NodeSource

__all__ = [
    "MISSING",
    "AttributeChanges",
    "CatalogDiff",
    "Missing",
    "NodeDiff",
    "TreeChange",
    "count_changes",
    "diff_catalogs",
    "diff_trees",
    "same_json",
    "same_node",
    "same_root",
]

Positions: TypeAlias = npt.NDArray[np.int64]

# Nodes of one level, of both sides, that are read together. Bounds what a diff holds in memory: about 256 × 256 entries.
_WINDOW = 256
# Greater than every key (tags are at most 0x30): stands for the last key of a root, which only reading it would tell.
_BEYOND = b"\xff"


# ---- trees ---------------------------------------------------------------------------------------------------------------


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
    for before, after, common_before, common_after in _differences(old, new, source):
        rank = before.rank if after.rank is None else after.rank
        yield TreeChange(
            after.take(_others(common_after, len(after)), rank),
            before.take(_others(common_before, len(before)), rank),
            *_modified(before, after, common_before, common_after, rank),
        )


def count_changes(old: NodeRef | None, new: NodeRef | None, source: NodeSource) -> tuple[int, int, int]:
    """Return how many keys were (added, removed, modified), without keeping entries."""
    if old is None or new is None:
        return (new.count if new else 0), (old.count if old else 0), 0
    added = removed = modified = 0
    for before, after, common_before, common_after in _differences(old, new, source):
        added += len(after) - len(common_after)
        removed += len(before) - len(common_before)
        modified += int(np.count_nonzero(_rows_differ(before.digests, after.digests, common_before, common_after)))
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
    def rank(self) -> int | None:
        return self.leaves[0].entries.rank if self.leaves else None

    def take(self, where: Positions, rank: int | None) -> Entries:
        """Return the entries at ascending positions."""
        return pick(self.leaves, where + self.start) if len(where) else Entries.empty(rank or 0)


def pick(leaves: Sequence[Leaf], where: Positions) -> Entries:
    """Return entries at ascending positions (at least one), counted through all leaves."""
    ends = np.cumsum([leaf.count for leaf in leaves])
    owner = np.searchsorted(ends, where, "right")
    hit, first = np.unique(owner, return_index=True)
    shift = np.zeros(len(leaves), np.int64)  # how many entries of leaves that are left out lie before each leaf
    counts = np.diff(ends, prepend=0)
    skipped = counts.copy()
    skipped[hit] = 0
    shift = np.cumsum(skipped) - skipped
    if len(hit) > 1 and len(where) == len(hit):
        # One entry of each leaf, the usual case of scattered changes: join the few rather than all that lies beside them.
        local = where - (ends - counts)[owner]
        parts = [_one(leaves[i].entries, j) for i, j in zip(owner.tolist(), local.tolist(), strict=True)]
        return Entries.concat(parts).compact(dedupe=True)
    del first
    return Entries.concat([leaves[i].entries for i in hit.tolist()]).take(where - shift[owner]).compact()


def _one(entries: Entries, at: int) -> Entries:
    return entries.take(slice(at, at + 1)).compact()


def _joined(parts: Sequence[npt.NDArray[Any]], empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else empty


_Difference: TypeAlias = tuple[_Run, _Run, Positions, Positions]


def _differences(old: NodeRef | None, new: NodeRef | None, source: NodeSource) -> Iterator[_Difference]:
    """Yield runs of leaves that differ, with the positions in both of the keys that they share."""
    if same_root(old, new):
        return
    for before, after in _descend(_Frontier.of_root(old), _Frontier.of_root(new), source, None, None):
        if len(before) or len(after):
            yield before, after, *_align(before.keys, after.keys)


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


def _modified(
    before: _Run, after: _Run, in_before: Positions, in_after: Positions, rank: int | None
) -> tuple[Entries, Entries]:
    differ = _rows_differ(before.digests, after.digests, in_before, in_after)
    return before.take(in_before[differ], rank), after.take(in_after[differ], rank)


# ---- catalogs ------------------------------------------------------------------------------------------------------------


class Missing(Enum):
    """Says that an attribute is absent (``None`` is a value that it may have)."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING

AttributeChanges: TypeAlias = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class NodeDiff:
    """What became of one column, array or group.

    Attributes
    ----------
    name : str
        In the new catalog; of a removed node, in the old one.
    old_name : str or None
        In the old catalog; ``None`` if it was added.
    state : "added", "removed", "modified" or "renamed"
        A node that was renamed *and* modified is "renamed", and `modified` is true.
    old, new : CatalogNode or None
        Both sides; their trees are compared by :func:`diff_trees` when somebody asks.
    schema : (ColumnSchema, ColumnSchema) or None
        Old and new, if it changed.
    metadata : (mapping, mapping) or None
        Old and new ``zarr.json`` without attributes, if it changed.
    attrs : mapping of str to (old, new)
        Changed attributes, `MISSING` where there is none. Empty for nodes that were added or removed.
    """

    name: str
    old_name: str | None
    state: Literal["added", "removed", "modified", "renamed"]
    old: CatalogNode | None = None
    new: CatalogNode | None = None
    schema: tuple[ColumnSchema, ColumnSchema] | None = None
    metadata: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    attrs: AttributeChanges = field(default_factory=dict)

    @property
    def type(self) -> str:
        """column, array or group; the same on both sides."""
        node = self.new or self.old
        assert node is not None
        return node.type

    @property
    def old_root(self) -> NodeRef | None:
        return self.old.root if self.old else None

    @property
    def new_root(self) -> NodeRef | None:
        return self.new.root if self.new else None

    @property
    def renamed(self) -> bool:
        return self.state == "renamed"

    @property
    def data_changed(self) -> bool:
        """Whether some key was added, removed or changed."""
        return not same_root(self.old_root, self.new_root)

    @property
    def modified(self) -> bool:
        """Whether a node that both sides have differs in more than its name."""
        if self.old is None or self.new is None:
            return False
        return self.data_changed or self.schema is not None or self.metadata is not None or bool(self.attrs)


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """What differs between two catalogs.

    Attributes
    ----------
    nodes : tuple of NodeDiff
        Sorted by name. A name that changed from one type to another occurs twice: removed, then added.
    attrs : mapping of str to (old, new)
        Changed attributes of the catalog itself.
    """

    nodes: tuple[NodeDiff, ...] = ()
    attrs: AttributeChanges = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.nodes and not self.attrs


def diff_catalogs(old: Catalog, new: Catalog, renames: Mapping[str, str]) -> CatalogDiff:
    """Compare two catalogs without reading a tree; always read as from `old` to `new`.

    Parameters
    ----------
    old, new : Catalog
    renames : mapping of str to str
        Old name → new name. What does not fit the catalogs is ignored.

    Returns
    -------
    CatalogDiff
        Empty exactly if the catalogs have one id.
    """
    if old is new or (renames and old.id == new.id):
        return CatalogDiff()
    goes_to = continuations(old.nodes, new.nodes, renames)
    goes_to = {a: b for a, b in goes_to.items() if old.nodes[a].type == new.nodes[b].type}
    kept = set(goes_to.values())
    found = [NodeDiff(n, n, "removed", old=node) for n, node in old.nodes.items() if n not in goes_to]
    found += [NodeDiff(n, None, "added", new=node) for n, node in new.nodes.items() if n not in kept]
    for old_name, name in goes_to.items():
        a, b = old.nodes[old_name], new.nodes[name]
        if old_name != name or not same_node(a, b):
            found.append(_node_diff(old_name, name, a, b))
    found.sort(key=lambda d: (d.name, d.state != "removed"))
    return CatalogDiff(tuple(found), diff_attributes(old.attrs, new.attrs))


def _node_diff(old_name: str, name: str, old: CatalogNode, new: CatalogNode) -> NodeDiff:
    schema = metadata = None
    if isinstance(old, ColumnNode) and isinstance(new, ColumnNode):
        schema = None if old.schema == new.schema else (old.schema, new.schema)
        attrs = diff_attributes(old.attrs, new.attrs)
    else:
        assert not isinstance(old, ColumnNode)
        assert not isinstance(new, ColumnNode)
        (old_core, old_attrs), (new_core, new_attrs) = split_metadata(old.metadata), split_metadata(new.metadata)
        attrs = diff_attributes(old_attrs or {}, new_attrs or {})
        # «No attributes» may be written as {} or not at all; ids tell these apart, so a diff must not be empty.
        respelled = not attrs and (old_attrs is None) != (new_attrs is None)
        if respelled or not same_json(old_core, new_core):
            metadata = (old_core, new_core)
    state: Literal["renamed", "modified"] = "modified" if old_name == name else "renamed"
    return NodeDiff(name, old_name, state, old, new, schema, metadata, attrs)


def diff_attributes(old: Mapping[str, Any], new: Mapping[str, Any]) -> AttributeChanges:
    """Return the attributes that differ: key → (old, new), `MISSING` where there is none."""
    keys = sorted({*old, *new})
    pairs = {key: (old.get(key, MISSING), new.get(key, MISSING)) for key in keys}
    return {key: pair for key, pair in pairs.items() if not same_json(*pair)}


def split_metadata(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Split a ``zarr.json`` into what is no attribute, and the attributes (``None`` if it does not mention any)."""
    attrs = metadata.get("attributes")
    if not isinstance(attrs, Mapping):
        return dict(metadata), None
    return {key: value for key, value in metadata.items() if key != "attributes"}, attrs


def same_json(a: object, b: object) -> bool:
    """Tell whether two values are one value in canonical JSON. Unlike ``==`` this tells ``1``, ``1.0`` and ``True`` apart, as ids do."""
    if a is b:
        return True
    if a is MISSING or b is MISSING:
        return False
    # Equal texts mean equal values; only the order of members may hide equality, which is rare enough to sort for.
    return repr(a) == repr(b) or canonical_json(_plain(a)) == canonical_json(_plain(b))


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def same_node(a: CatalogNode, b: CatalogNode) -> bool:
    """Tell whether two nodes hold the same content, as ids do."""
    if a is b:
        return True
    if not same_root(a.root, b.root):
        return False
    if isinstance(a, ColumnNode):
        return isinstance(b, ColumnNode) and a.schema == b.schema and same_json(a.attrs, b.attrs)
    return not isinstance(b, ColumnNode) and a.type == b.type and same_json(a.metadata, b.metadata)
