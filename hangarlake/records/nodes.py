"""Reading tree nodes from a bucket: batched, coalesced, verified, cached."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from hangarlake.errors import CorruptionError, ObjectNotFoundError, ObjectTruncatedError
from hangarlake.records.node import MAX_NODE_BYTES, Inner, Node, NodeRef, decode_node
from hangarlake.storage.base import ByteRange, ObjectStore

__all__ = ["HeldNodes", "NodeStore", "StagedNodes"]

# Nodes of one commit lie side by side, so a scan fetches runs of them in one range.
_MAX_GAP = 8 << 10
_MAX_RANGE = 4 << 20
# A place beyond this is not asked of the store.
_MAX_OFFSET = 1 << 62


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
            If a node's bytes are not what its id says, or a tree pack is gone.
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
        odd = next((ref for ref in refs if ref.offset > _MAX_OFFSET or ref.length > MAX_NODE_BYTES), None)
        if odd is not None:
            raise CorruptionError(
                f"tree node {odd.id.hex()} is said to have {odd.length:,} bytes at offset {odd.offset:,} of {odd.key}, which cannot "
                "be; restore what leads to it from a clone, or run verify"
            )
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
        try:
            fetched = self._store.get_ranges(ranges)
        except (ObjectNotFoundError, ObjectTruncatedError) as error:
            raise CorruptionError(f"a tree pack is damaged: {error}; restore it from a clone, or run verify") from error
        for group, data in zip(groups, fetched, strict=True):
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

    Attributes
    ----------
    new : dict of bytes to Node
        Nodes in memory.
    spilled : set of bytes
        Ids of nodes that `fetch` finds (in the staging file).
    """

    def __init__(self, base: NodeStore, fetch: Callable[[Sequence[NodeRef]], list[Node]] | None = None) -> None:
        self._base = base
        self._fetch = fetch
        self.new: dict[bytes, Node] = {}
        self.spilled: set[bytes] = set()
        self.nbytes = 0

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        new, spilled = self.new, self.spilled
        if not new and not spilled:
            return self._base.get_nodes(refs)
        out = [new.get(ref.id) for ref in refs]
        for wanted, fetch in (
            ([ref for ref, node in zip(refs, out, strict=True) if node is None and ref.id in spilled], self._fetch),
            (
                [ref for ref, node in zip(refs, out, strict=True) if node is None and ref.id not in spilled],
                self._base.get_nodes,
            ),
        ):
            if wanted and fetch is not None:
                fetched = dict(zip((ref.id for ref in wanted), fetch(wanted), strict=True))
                out = [fetched.get(ref.id) if node is None else node for ref, node in zip(refs, out, strict=True)]
        return [node for node in out if node is not None]

    def held(self) -> HeldNodes:
        """Return a source for going through a tree of now, whatever is staged meanwhile."""
        return HeldNodes(self)

    def add_node(self, node: Node) -> NodeRef:
        if node.id not in self.new:
            self.new[node.id] = node
            self.nbytes += node.nbytes
        return NodeRef(node.id, node.level, node.count)

    def is_new(self, ref: NodeRef) -> bool:
        """Whether a reference leads to a staged node."""
        return ref.pack is None and (ref.id in self.new or ref.id in self.spilled)

    def frozen(self, base: NodeStore | None = None) -> StagedNodes:
        """Return a copy that sees what is staged now, whatever is staged later; on top of `base` if given.

        Nodes that were spilled are kept until what is staged is committed or dropped; asking for them then is a RuntimeError.
        """
        below = base or self._base

        def fetch(refs: Sequence[NodeRef]) -> list[Node]:
            if self._fetch is not None and all(ref.id in self.spilled for ref in refs):
                try:
                    return self._fetch(refs)
                except CorruptionError:
                    if all(ref.id in self.spilled for ref in refs):
                        raise
            try:
                return below.get_nodes(refs)  # a commit leaves what it wrote in memory, as far as there is room
            except CorruptionError as error:
                raise RuntimeError(
                    "what was staged when this was compared has been committed or dropped meanwhile; compare again"
                ) from error

        copy = StagedNodes(below, fetch)
        copy.new, copy.spilled, copy.nbytes = dict(self.new), set(self.spilled), self.nbytes
        return copy

    def reachable(self, roots: Iterable[NodeRef]) -> list[Node]:
        """Return the nodes in memory that the trees of `roots` use, and forget the others: edits leave them behind."""
        kept: dict[bytes, Node] = {}
        frontier = [ref for ref in roots if self.is_new(ref)]
        while frontier:
            ref = frontier.pop()
            node = self.new.get(ref.id)
            if ref.id in kept or (node is None and ref.id not in self.spilled):
                continue
            if node is None:
                continue  # a spilled node has nothing but spilled nodes below it
            kept[ref.id] = node
            if isinstance(node, Inner):
                frontier += [ref for ref in node.children.refs(node.level - 1) if self.is_new(ref)]
        self.new = kept
        self.nbytes = sum(node.nbytes for node in kept.values())
        return list(kept.values())

    def spill(self, ids: Iterable[bytes]) -> None:
        """Drop nodes from memory that `fetch` finds from now on."""
        self.spilled.update(ids)
        self.new = {}
        self.nbytes = 0

    def clear(self) -> None:
        """Forget everything that was staged."""
        self.new = {}
        self.spilled = set()
        self.nbytes = 0


class HeldNodes:
    """The staged nodes of one moment, kept for as long as somebody goes through a tree of that moment.

    Those in the staging file are kept until what is staged is committed or dropped.
    """

    def __init__(self, staged: StagedNodes) -> None:
        self._staged = staged
        # What is forgotten is left out of a new dict (and set), so these stay as they are.
        self._held = staged.new
        self._spilled = staged.spilled

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        held = [self._held.get(ref.id) for ref in refs]
        missing = [ref for ref, node in zip(refs, held, strict=True) if node is None]
        try:
            others = iter(self._staged.get_nodes(missing))
        except CorruptionError as error:
            if any(ref.id in self._spilled and ref.id not in self._staged.spilled for ref in missing):
                raise RuntimeError(
                    "what was staged when this reading began has been committed or dropped meanwhile; begin it again"
                ) from error
            raise
        return [next(others) if node is None else node for node in held]
