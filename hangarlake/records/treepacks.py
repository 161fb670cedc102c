"""Tree packs: laying the new nodes of a commit side by side, and the copies that refs carry of the tops of trees."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hangarlake.chunks.digests import DIGEST_SIZE, blake3_256
from hangarlake.chunks.packs import ChunkRef
from hangarlake.errors import CorruptionError
from hangarlake.records.catalog import Catalog
from hangarlake.records.entries import PENDING, SOLO, ChunkTable
from hangarlake.records.node import Inner, Leaf, Node, NodeRef, decode_node, encode_inner, encode_leaf, tree_pack_key
from hangarlake.records.nodes import NodeStore, StagedNodes

__all__ = ["TreePack", "TreePacker", "copy_tops", "place_chunks", "read_tops"]

MAGIC = b"HLTREE01"
_MAX_PACK = 32 << 20
_KEPT_BYTES = 16 << 20
# A tree that is one leaf of no more than this is kept in its catalog.
_INLINE_BYTES = 2 << 10
# How much of the tops of trees a movement carries, so that readers save round trips.
_TOPS_BYTES = 16 << 10
_TOP_LEAF_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class TreePack:
    """A finished tree pack."""

    id: bytes
    data: bytes

    @property
    def key(self) -> str:
        return tree_pack_key(self.id)


def place_chunks(table: ChunkTable, places: Mapping[bytes, ChunkRef]) -> ChunkTable:
    """Give the pending rows of a chunk table their places."""
    waiting = np.flatnonzero(table.packs == PENDING).tolist()
    if not waiting:
        return table
    packs, offsets = table.packs.copy(), table.offsets.copy()
    index = {pack: i for i, pack in enumerate(table.pack_ids)}
    for i in waiting:
        ref = places[table.digests[i].tobytes()]
        packs[i] = SOLO if ref.pack is None else index.setdefault(ref.pack, len(index))
        offsets[i] = ref.offset
    return replace(table, packs=packs, offsets=offsets, pack_ids=tuple(index))


@dataclass
class TreePacker:
    """Lays staged nodes into tree packs, children before parents.

    Parameters
    ----------
    staged : StagedNodes
    places : mapping of bytes to ChunkRef
        Where the chunks of this session lie.
    emit : callable
        Takes each tree pack as it is closed, so that large commits need not hold them all.

    Attributes
    ----------
    pack_ids : list of bytes
        Of the packs that are closed.
    inlined : dict of bytes to bytes
        Small roots, to be kept in the catalog.
    """

    staged: StagedNodes
    places: Mapping[bytes, ChunkRef]
    emit: Callable[[TreePack], None]
    pack_ids: list[bytes] = field(default_factory=list)
    inlined: dict[bytes, bytes] = field(default_factory=dict)
    _buffer: bytearray = field(default_factory=lambda: bytearray(MAGIC))
    # Nodes that were laid: id → (number of the pack, offset, length).
    _laid: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    _nodes: list[Node] = field(default_factory=list)
    _nodes_bytes: int = 0

    def add(self, root: NodeRef) -> None:
        """Lay what is new of a tree."""
        if self.staged.is_new(root):
            self._lay(root, is_root=True)

    def _lay(self, ref: NodeRef, *, is_root: bool = False) -> None:
        if ref.id in self._laid or (is_root and ref.id in self.inlined):
            return
        node = self.staged.get_nodes([ref])[0]
        if isinstance(node, Leaf):
            entries = node.entries
            node = Leaf(replace(entries, table=place_chunks(entries.table, self.places)), node.id)
            data = encode_leaf(node)
            if is_root and len(data) <= _INLINE_BYTES:
                self.inlined[node.id] = data
                self._keep(node)
                return
        else:
            children = node.children
            for i in np.flatnonzero(children.packs == PENDING).tolist():
                self._lay(children.ref(i, node.level - 1))
            node = self._placed(node)
            data = encode_inner(node)
        if len(self._buffer) + len(data) > _MAX_PACK and len(self._buffer) > len(MAGIC):
            self._close()
            if isinstance(node, Inner):
                node = self._placed(node)
                data = encode_inner(node)
        self._laid[node.id] = (len(self.pack_ids), len(self._buffer), len(data))
        self._buffer += data
        self._keep(node)

    def _keep(self, node: Node) -> None:
        """Remember a node for readers on this machine, but not all leaves of a large commit."""
        if isinstance(node, Inner) or self._nodes_bytes < _KEPT_BYTES:
            self._nodes.append(node)
            self._nodes_bytes += node.nbytes

    def _placed(self, node: Inner) -> Inner:
        """Point an inner node at its children: those in the pack being laid stay pending, at their offsets."""
        children = node.children
        packs, offsets, lengths = children.packs.copy(), children.offsets.copy(), children.lengths.copy()
        index = {pack: i for i, pack in enumerate(children.pack_ids)}
        for i in np.flatnonzero(packs == PENDING).tolist():
            number, offset, length = self._laid[children.ids[i].tobytes()]
            if number < len(self.pack_ids):
                packs[i] = index.setdefault(self.pack_ids[number], len(index))
            offsets[i], lengths[i] = offset, length
        placed = replace(children, packs=packs, offsets=offsets, lengths=lengths, pack_ids=tuple(index))
        return replace(node, children=placed)

    def _close(self) -> None:
        data = bytes(self._buffer)
        self._buffer = bytearray(MAGIC)
        pack = TreePack(blake3_256(data), data)
        self.pack_ids.append(pack.id)
        self.emit(pack)

    def finish(self) -> list[Node]:
        """Close the last pack; return nodes that were laid, as they will be read back."""
        if len(self._buffer) > len(MAGIC):
            self._close()
        return [self._placed(node) if isinstance(node, Inner) else node for node in self._nodes]

    def root(self, ref: NodeRef) -> NodeRef:
        """Return where a root lies now: in a pack, or (``pack`` is ``None``) in the catalog."""
        if not self.staged.is_new(ref):
            return ref
        if ref.id in self._laid:
            number, offset, length = self._laid[ref.id]
            return replace(ref, pack=self.pack_ids[number], offset=offset, length=length)
        return replace(ref, pack=None, offset=0, length=0)


# ---- the tops of trees --------------------------------------------------------------------------------------------------


def copy_tops(catalog: Catalog, nodes: NodeStore) -> dict[str, Any] | None:
    """Return copies of the upper nodes of all trees (those in memory) for a ref to carry: roots first, level by level."""
    packs: dict[bytes, int] = {}
    index: list[list[int]] = []
    data = bytearray()
    seen: set[bytes] = set()
    frontier = [node.root for node in catalog.nodes.values() if node.root is not None and node.root.pack is not None]
    while frontier:
        following: list[NodeRef] = []
        for ref in frontier:
            node = nodes.cached(ref.id)
            if node is None or ref.pack is None or ref.id in seen:
                continue
            seen.add(ref.id)
            if isinstance(node, Leaf) and len(node.entries.table) * DIGEST_SIZE > _TOPS_BYTES:
                continue  # not worth encoding to find out
            encoded = encode_leaf(node) if isinstance(node, Leaf) else encode_inner(node)
            if (isinstance(node, Leaf) and len(encoded) > _TOP_LEAF_BYTES) or len(data) + len(encoded) > _TOPS_BYTES:
                continue
            index.append([packs.setdefault(ref.pack, len(packs)), ref.offset, len(encoded)])
            data += encoded
            if isinstance(node, Inner) and node.level > 1:
                following += node.children.refs(node.level - 1)
        frontier = following
    if not index:
        return None
    return {"packs": [p.hex() for p in packs], "index": index, "data": base64.b64encode(bytes(data)).decode()}


def read_tops(catalog: Catalog, copies: Mapping[str, Any] | None) -> list[Node]:
    """Return the nodes that a ref carries copies of, verified by the ids that lead to them. Damaged copies are left out."""
    if not copies:
        return []
    try:
        data = base64.b64decode(copies["data"], validate=True)
        packs = [bytes.fromhex(pack) for pack in copies["packs"]]
        known: dict[tuple[bytes, int], bytes] = {}
        at = 0
        for pack, offset, length in copies["index"]:
            known[packs[pack], offset] = data[at : at + length]
            at += length
    except (KeyError, ValueError, IndexError, TypeError):
        return []
    found: list[Node] = []
    # A forged tree may lead to one node by any number of ways.
    seen: set[bytes] = set()
    frontier = [node.root for node in catalog.nodes.values() if node.root is not None]
    while frontier:
        ref = frontier.pop()
        stored = known.get((ref.pack, ref.offset)) if ref.pack is not None else None
        if stored is None or ref.id in seen:
            continue
        try:
            node = decode_node(stored, ref)
        except CorruptionError:
            continue  # a copy saves a request; without it the node itself is read
        found.append(node)
        seen.add(node.id)
        if isinstance(node, Inner):
            frontier += node.children.refs(node.level - 1)
    return found
