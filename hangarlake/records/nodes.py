"""Reading tree nodes from a bucket: batched, coalesced, verified, cached."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from hangarlake.errors import CorruptionError
from hangarlake.records.node import Node, NodeRef, decode_node
from hangarlake.storage.base import ByteRange, ObjectStore

__all__ = ["NodeStore", "StagedNodes"]

# Nodes of one commit lie side by side, so a scan fetches runs of them in one range.
_MAX_GAP = 8 << 10
_MAX_RANGE = 4 << 20


class NodeStore:
    """Nodes in the tree packs of one bucket, with a bounded cache of decoded ones. Safe to use from several threads.

    Parameters
    ----------
    store : ObjectStore
    max_bytes : int
        Bound of the cache, in bytes of decoded nodes.
    """

    def __init__(self, store: ObjectStore, max_bytes: int = 64 << 20) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._cache: OrderedDict[bytes, Node] = OrderedDict()
        self._bytes = 0
        self._inlined: dict[bytes, Node] = {}
        self._lock = threading.Lock()

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        """Return nodes in the order of `refs`; what is not cached is fetched together.

        Raises
        ------
        CorruptionError
            If a node's bytes are not what its id says.
        ObjectNotFoundError
            If a tree pack is gone.
        """
        out: list[Node | None] = [None] * len(refs)
        missing: dict[bytes, NodeRef] = {}
        with self._lock:
            for i, ref in enumerate(refs):
                node = self._cache.get(ref.id)
                if node is not None:
                    self._cache.move_to_end(ref.id)
                else:
                    node = self._inlined.get(ref.id)
                if node is None:
                    missing[ref.id] = ref
                out[i] = node
        if missing:
            fetched = self._fetch(list(missing.values()))
            self.add(fetched.values())
            out = [fetched[ref.id] if node is None else node for ref, node in zip(refs, out, strict=True)]
        return [node for node in out if node is not None]

    def cached(self, node_id: bytes) -> Node | None:
        """Return a node if it is in memory."""
        return self._cache.get(node_id) or self._inlined.get(node_id)

    def _fetch(self, refs: list[NodeRef]) -> dict[bytes, Node]:
        lost = next((ref for ref in refs if ref.pack is None), None)
        if lost is not None:
            raise CorruptionError(f"tree node {lost.id.hex()} should be inlined in its catalog and is not")
        refs.sort(key=lambda ref: (ref.pack or b"", ref.offset))
        groups: list[list[NodeRef]] = []
        start = end = 0
        for ref in refs:
            stop = ref.offset + ref.length
            if (
                groups
                and groups[-1][0].pack == ref.pack
                and ref.offset <= end + _MAX_GAP
                and stop - start <= _MAX_RANGE
            ):
                groups[-1].append(ref)
                end = max(end, stop)
            else:
                groups.append([ref])
                start, end = ref.offset, stop
        ranges = []
        for group in groups:
            first = group[0].offset
            ranges.append(ByteRange(group[0].key, first, max(r.offset + r.length for r in group) - first))
        nodes: dict[bytes, Node] = {}
        for group, data in zip(groups, self._store.get_ranges(ranges), strict=True):
            view = memoryview(data)
            first = group[0].offset
            for ref in group:
                nodes[ref.id] = decode_node(view[ref.offset - first : ref.offset - first + ref.length], ref)
        return nodes

    def add(self, nodes: Iterable[Node]) -> None:
        """Put nodes that are known to be right into the cache."""
        with self._lock:
            for node in nodes:
                if node.id not in self._cache:
                    self._cache[node.id] = node
                    self._bytes += node.nbytes
            while self._bytes > self._max_bytes and len(self._cache) > 1:
                _, dropped = self._cache.popitem(last=False)
                self._bytes -= dropped.nbytes

    def add_inlined(self, nodes: Iterable[Node]) -> None:
        """Keep nodes that have no place of their own in the bucket (small trees, inlined in a catalog)."""
        with self._lock:
            for node in nodes:
                self._inlined.setdefault(node.id, node)


class StagedNodes:
    """New nodes of a write checkout on top of the nodes of a bucket: a node source and sink.

    Not thread-safe: it belongs to one writer.
    """

    def __init__(self, base: NodeStore) -> None:
        self._base = base
        self.new: dict[bytes, Node] = {}

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        new = self.new
        if not new:
            return self._base.get_nodes(refs)
        out = [new.get(ref.id) for ref in refs]
        wanted = [ref for ref, node in zip(refs, out, strict=True) if node is None]
        if wanted:
            fetched = iter(self._base.get_nodes(wanted))
            out = [next(fetched) if node is None else node for node in out]
        return [node for node in out if node is not None]

    def add_node(self, node: Node) -> NodeRef:
        self.new[node.id] = node
        return NodeRef(node.id, node.level, node.count)
