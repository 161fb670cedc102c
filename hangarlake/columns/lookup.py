"""Looking single keys up quickly: nodes unpacked into Python lists, on which bisection costs a fraction of a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

from hangarlake.chunks.reader import ChunkRequest
from hangarlake.records.entries import Entries
from hangarlake.records.node import Leaf, NodeRef
from hangarlake.records.tree import NodeSource

__all__ = ["HotLeaf", "HotNodes", "Place"]

# Unpacked nodes that are kept; a leaf of 256 entries takes about 40 kB.
_KEPT = 2048


class HotLeaf:
    """A leaf unpacked for lookups, with the chunk requests that were made of it."""

    __slots__ = ("entries", "index", "keys", "requests", "rows")

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.keys: list[bytes] = entries.keys.tolist()
        self.rows: list[int] = entries.rows.tolist()
        self.index: list[int] = entries.index.tolist()
        # Row of the chunk table → (request, its cache key, layout).
        self.requests: dict[int, tuple[ChunkRequest, tuple[Any, ...], str]] = {}


class _HotInner:
    __slots__ = ("ids", "keys", "refs")

    def __init__(self, keys: list[bytes], ids: list[bytes], refs: Any) -> None:
        self.keys = keys
        self.ids = ids
        self.refs = refs


class Place(NamedTuple):
    """Where a key was found."""

    leaf: HotLeaf
    position: int


class HotNodes:
    """Finds keys in trees, keeping the nodes it has passed. Safe to use from several threads."""

    def __init__(self, source: NodeSource) -> None:
        self._source = source
        self._hot: dict[bytes, HotLeaf | _HotInner] = {}

    def find(self, root: NodeRef | None, key: bytes) -> Place | None:
        """Return where `key` is, or ``None``."""
        if root is None:
            return None
        hot = self._hot
        node = hot.get(root.id) or self._load(root)
        while type(node) is _HotInner:
            keys = node.keys
            i = bisect_left(keys, key)
            if i == len(keys):
                return None
            node = hot.get(node.ids[i]) or self._load(node.refs(i))
        assert type(node) is HotLeaf
        keys = node.keys
        i = bisect_left(keys, key)
        return Place(node, i) if i < len(keys) and keys[i] == key else None

    def warm(self, root: NodeRef | None, keys: Sequence[bytes]) -> None:
        """Load the nodes on the way to many keys: one batch of reads per level instead of one read per node."""
        if root is None:
            return
        pending: dict[bytes, NodeRef] = {} if root.id in self._hot else {root.id: root}
        frontier: list[tuple[bytes, Sequence[bytes]]] = [(root.id, keys)]
        while frontier:
            if pending:
                nodes = self._source.get_nodes(list(pending.values()))
                for node in nodes:
                    self._unpack(node)
                pending = {}
            following: list[tuple[bytes, Sequence[bytes]]] = []
            for node_id, wanted in frontier:
                inner = self._hot.get(node_id)
                if type(inner) is not _HotInner:
                    continue
                by_child: dict[int, list[bytes]] = {}
                for key in wanted:
                    by_child.setdefault(bisect_left(inner.keys, key), []).append(key)
                for i, below in by_child.items():
                    if i < len(inner.ids):
                        if inner.ids[i] not in self._hot:
                            pending[inner.ids[i]] = inner.refs(i)
                        following.append((inner.ids[i], below))
            frontier = following

    def _load(self, ref: NodeRef) -> HotLeaf | _HotInner:
        return self._unpack(self._source.get_nodes([ref])[0])

    def _unpack(self, node: Any) -> HotLeaf | _HotInner:
        hot: HotLeaf | _HotInner
        if isinstance(node, Leaf):
            hot = HotLeaf(node.entries)
        else:
            children, below = node.children, node.level - 1
            digests = children.ids.tobytes()
            ids = [digests[i : i + 20] for i in range(0, len(digests), 20)]
            hot = _HotInner(children.keys.tolist(), ids, lambda i: children.ref(i, below))
        if len(self._hot) >= _KEPT:
            self._hot = {}  # a fresh dict: other threads go on with the one they have
        self._hot[node.id] = hot
        return hot
