"""The Zarr hierarchy of a checkout as keys and values: ``zarr.json`` from the catalog, chunks from the trees of arrays.

This is the synchronous core below the Zarr store. Keys that belong to no array or group (bytes that somebody puts beside
them) are kept in one hidden column, so that whatever Zarr or its users store is there again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from hangarlake.arrays.chunkkeys import ChunkKeys, chunk_keys_of
from hangarlake.arrays.layout import check_grid
from hangarlake.arrays.metadata import check_key, metadata_bytes, parse_metadata
from hangarlake.arrays.stage import REMOVED, ArrayStage, StagedChunk
from hangarlake.chunks.packs import ChunkRef
from hangarlake.columns.column import Column
from hangarlake.columns.owners import PendingChunks, ReadingOwner
from hangarlake.errors import NodeExistsError, ObjectNotFoundError
from hangarlake.namespace import LOOSE, ROOT, NodeTable, path_of
from hangarlake.records.catalog import ArrayNode, CatalogNode, ColumnNode, GroupNode
from hangarlake.records.diff import same_json
from hangarlake.records.entries import PENDING, Entries
from hangarlake.records.node import Leaf, NodeRef
from hangarlake.records.tree import iter_leaves

__all__ = ["ArrayOwner", "Hierarchy", "WritableHierarchy", "WritingOwner", "chunk_place"]

_METADATA = "zarr.json"
# Encoded chunks up to this size are read and verified as a whole, whatever part of them is asked for.
_WHOLE_BYTES = 1 << 20


class ArrayOwner(ReadingOwner, Protocol):
    """What arrays need of their checkout."""

    @property
    def node_table(self) -> NodeTable: ...

    @property
    def guard(self) -> AbstractContextManager[Any]:
        """What is held while nodes or staged chunks are looked at."""

    def array_state(self, name: str) -> tuple[NodeRef | None, Mapping[bytes, StagedChunk]]:
        """Return the tree of an array, and what is staged on top of it."""

    def array_tree(self, name: str) -> NodeRef | None:
        """Return the tree of an array with everything that is staged in it."""

    def loose_keys(self) -> Column | None:
        """Return the column of keys that belong to no node."""


class WritingOwner(ArrayOwner, Protocol):
    """What changing a hierarchy needs of a write checkout."""

    def array_stage(self, name: str) -> ArrayStage:
        """Return what stages the chunks of an array."""

    def put_node(self, name: str, node: CatalogNode) -> None:
        """Add an array or group, or give it other metadata."""

    def drop_node(self, name: str) -> None:
        """Remove one node, not what is below it."""

    def add_loose_keys(self) -> Column:
        """Return the column of keys that belong to no node, made if need be."""


def chunk_place(entries: Entries, i: int, pending: PendingChunks | None) -> bytes | ChunkRef:
    """Return the bytes of a chunk that a writer still has, or where it lies."""
    table, row = entries.table, int(entries.rows[i])
    if pending is not None:
        digest = table.digests[row].tobytes()
        held = pending.pending(digest)
        if held is not None:
            return held.data
        if int(table.packs[row]) == PENDING:
            return pending.places[digest]
    return table.ref(row)


class Hierarchy:
    """Reads the keys of a Zarr hierarchy. May be used from several threads.

    Parameters
    ----------
    owner : ArrayOwner
        The checkout.
    """

    def __init__(self, owner: ArrayOwner) -> None:
        self.owner = owner

    # ---- finding ----------------------------------------------------------------------------------------------------

    def _chunk_of(self, key: str) -> tuple[str, bytes] | None:
        """Return the array that a key is a chunk of, and the chunk's tree key."""
        table = self.owner.node_table
        at = key.rfind("/")
        while at > 0:
            name = key[:at]
            node = table.get(name)
            if isinstance(node, ArrayNode):
                return _parsed(node, name, key[at + 1 :])
            at = key.rfind("/", 0, at)
        node = table.get(ROOT)
        return _parsed(node, ROOT, key) if isinstance(node, ArrayNode) else None

    def locate(self, key: str) -> bytes | ChunkRef | None:
        """Return the value of a key if it needs no read, where its chunk lies, or ``None`` if there is no such key."""
        owner = self.owner
        with owner.guard:
            name = _node_of(key)
            if name is not None:
                node = owner.node_table.get(name)
                if isinstance(node, ArrayNode | GroupNode):
                    return metadata_bytes(node.metadata)
            else:
                chunk = self._chunk_of(key)
                if chunk is not None:
                    return self._find(*chunk)
            loose = owner.loose_keys()
            if loose is not None and _can_be_loose(key):
                value: bytes | None = loose.get(key)
                return value
            return None

    def _find(self, name: str, tree_key: bytes) -> bytes | ChunkRef | None:
        owner = self.owner
        root, staged = owner.array_state(name)
        chunk = staged.get(tree_key)
        if chunk is REMOVED:
            return None
        pending = owner.pending
        if chunk is not None and pending is not None:
            held = pending.pending(chunk[0])
            return pending.places[chunk[0]] if held is None else held.data
        place = owner.hot.find(root, tree_key)
        return None if place is None else chunk_place(place.leaf.entries, place.position, pending)

    def get(self, key: str) -> bytes | None:
        """Return the value of a key."""
        found = self.locate(key)
        return self.read(found) if isinstance(found, ChunkRef) else found

    def read(self, ref: ChunkRef) -> bytes:
        """Return the encoded bytes of a chunk, verified."""
        return self.owner.chunks.read_raw([ref])[0]

    def read_part(self, ref: ChunkRef, start: int, length: int) -> bytes:
        """Return a part of the encoded bytes of a chunk.

        Parts of large chunks (shards) are read by themselves; a digest can only be checked of the whole, so what protects
        them is the checksum that Zarr keeps in the index of a shard.
        """
        chunks = self.owner.chunks
        if ref.length <= _WHOLE_BYTES or 2 * length >= ref.length or chunks.disk is not None:
            return self.read(ref)[start : start + length]
        try:
            return bytes(chunks.store.get_range(ref.key, ref.offset + start, length))
        except ObjectNotFoundError:
            return self.read(ref)[start : start + length]

    def size(self, key: str) -> int | None:
        """Return the bytes of a value, without reading a chunk."""
        found = self.locate(key)
        return found.length if isinstance(found, ChunkRef) else None if found is None else len(found)

    # ---- listing ----------------------------------------------------------------------------------------------------

    def _reachable(self, prefix: str) -> list[tuple[str, CatalogNode]]:
        """Return the arrays and groups that may have keys starting with `prefix`, sorted."""
        table = self.owner.node_table
        found = []
        for name, node in table.items():
            if isinstance(node, ColumnNode):
                continue
            base = _base(name)
            if base.startswith(prefix) or prefix.startswith(base):
                found.append((name, node))
        return sorted(found, key=lambda item: item[0])

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Yield all keys that start with `prefix` (a plain string prefix), those there are when the listing begins."""
        return (key for key, _ in self._sized(prefix))

    def size_prefix(self, prefix: str) -> int:
        """Return the bytes of all values whose keys start with `prefix`."""
        return sum(size for _, size in self._sized(prefix))

    def _sized(self, prefix: str) -> Iterator[tuple[str, int]]:
        owner = self.owner
        with owner.guard:
            nodes = self._reachable(prefix)
            trees = {name: self._leaves(name) for name, node in nodes if isinstance(node, ArrayNode)}
            loose = owner.loose_keys()
            column = [(key, loose.shape_of(key)[0]) for key in loose if key.startswith(prefix)] if loose else []
        for name, node in nodes:
            assert isinstance(node, ArrayNode | GroupNode)
            base = _base(name)
            if (base + _METADATA).startswith(prefix):
                yield base + _METADATA, len(metadata_bytes(node.metadata))
            if isinstance(node, ArrayNode):
                yield from self._chunk_keys(node, base, trees[name], prefix)
        yield from column

    def _leaves(self, name: str) -> Iterator[Leaf]:
        """Return the leaves of an array's tree as it is now: the tree and its nodes are of one moment under the guard."""
        return iter_leaves(self.owner.array_tree(name), self.owner.nodes)

    def _chunk_keys(self, node: ArrayNode, base: str, leaves: Iterator[Leaf], prefix: str) -> Iterator[tuple[str, int]]:
        keys = chunk_keys_of(node.metadata)
        if keys is None:
            return
        everything = base.startswith(prefix)
        if not everything and not _may_start(keys, prefix[len(base) :]):
            return
        for leaf in leaves:
            lengths = leaf.entries.table.lengths[leaf.entries.rows].tolist()
            for name, length in zip(keys.names(leaf.keys), lengths, strict=True):
                key = base + name
                if everything or key.startswith(prefix):
                    yield key, length

    def list_dir(self, path: str) -> list[str]:
        """Return the next parts of all keys below a path (without slashes around it), sorted."""
        owner = self.owner
        base = f"{path}/" if path else ""
        with owner.guard:
            table = owner.node_table
            found = set(table.children.get(path, ()))
            node = table.get(path or ROOT)
            if isinstance(node, ArrayNode | GroupNode):
                found.add(_METADATA)
            loose = owner.loose_keys()
            if loose is not None:
                found.update(key[len(base) :].partition("/")[0] for key in loose if key.startswith(base))
            array, inner = self._array_above(path)
            above = table[array] if array is not None else None
            root = owner.array_tree(array) if array is not None else None
            nodes = owner.nodes
        if isinstance(above, ArrayNode) and root is not None:
            found.update(_parts_below(above, iter_leaves(root, nodes), inner))
        return sorted(found)

    def _array_above(self, path: str) -> tuple[str | None, str]:
        """Return the array at a path or above it, and the path within it."""
        table = self.owner.node_table
        name = path
        while name:
            if isinstance(table.get(name), ArrayNode):
                return name, path[len(name) + 1 :]
            name = name.rpartition("/")[0]
        return (ROOT, path) if isinstance(table.get(ROOT), ArrayNode) else (None, "")


class WritableHierarchy(Hierarchy):
    """Reads and changes the keys of a Zarr hierarchy. Calls from several threads are serialised.

    Parameters
    ----------
    owner : WritingOwner
        The write checkout.
    """

    owner: WritingOwner

    def __init__(self, owner: WritingOwner) -> None:
        super().__init__(owner)

    def set(self, key: str, data: bytes) -> None:
        """Set the value of a key.

        Raises
        ------
        NodeExistsError
            If there is a column at the path, or an array above it.
        UnsupportedFormatError
            For metadata of Zarr v2.
        SchemaError
            If no node can have that path, or metadata cannot be kept.
        """
        check_key(key)
        with self.owner.guard:
            name = _node_of(key)
            if name is not None:
                node = parse_metadata(data)
                if node is not None:
                    self._set_node(name, node)
                    return
                if isinstance(self.owner.node_table.get(name), ArrayNode | GroupNode):
                    self._drop(name)
            else:
                chunk = self._chunk_of(key)
                if chunk is not None:
                    self.owner.array_stage(chunk[0]).set(chunk[1], data)
                    return
            self.owner.add_loose_keys()[key] = data

    def set_if_absent(self, key: str, data: bytes) -> None:
        """Set the value of a key unless it has one."""
        with self.owner.guard:
            if self.locate(key) is None:
                self.set(key, data)

    def _set_node(self, name: str, node: ArrayNode | GroupNode) -> None:
        owner = self.owner
        present = owner.node_table.get(name)
        if isinstance(present, ColumnNode):
            raise NodeExistsError(f"there is a column {name!r}; choose another path, or remove the column")
        if isinstance(node, ArrayNode):
            check_grid(name, node.metadata)
        if isinstance(present, ArrayNode) and isinstance(node, ArrayNode) and _same_chunk_keys(present, node):
            if not same_json(present.metadata, node.metadata):
                owner.put_node(name, replace(present, metadata=node.metadata))
            return
        if isinstance(present, ArrayNode):
            self._loosen(name)
        if present is None or not same_json(present.metadata, node.metadata):
            owner.put_node(name, node)
        self._settle_loose(name)

    def _settle_loose(self, name: str) -> None:
        """Give loose keys that belong to a node its own from now on."""
        loose = self.owner.loose_keys()
        if loose is None:
            return
        base = _base(name)
        for key in [key for key in loose if key.startswith(base)]:
            if key == base + _METADATA:
                self._delete_loose(key)
            else:
                chunk = self._chunk_of(key)
                if chunk is not None:
                    self.owner.array_stage(chunk[0]).set(chunk[1], loose[key])
                    self._delete_loose(key)

    def _delete_loose(self, key: str) -> None:
        loose = self.owner.loose_keys()
        if loose is not None and _can_be_loose(key) and key in loose:
            del loose[key]
            if not len(loose):
                self.owner.drop_node(LOOSE)

    def _loosen(self, name: str) -> None:
        """Turn the chunks of an array into keys that belong to no node."""
        node = self.owner.node_table[name]
        assert isinstance(node, ArrayNode)
        if self.owner.array_tree(name) is None:
            return
        held = {key: self.get(key) for key, _ in self._chunk_keys(node, _base(name), self._leaves(name), "")}
        self.owner.drop_node(name)
        loose = self.owner.add_loose_keys()
        for key, value in held.items():
            loose[key] = value

    def _drop(self, name: str) -> None:
        if isinstance(self.owner.node_table[name], ArrayNode):
            self._loosen(name)
        if name in self.owner.node_table:
            self.owner.drop_node(name)

    def delete(self, key: str) -> None:
        """Remove a key; one that is absent is no error."""
        with self.owner.guard:
            name = _node_of(key)
            if name is not None:
                if isinstance(self.owner.node_table.get(name), ArrayNode | GroupNode):
                    self._drop(name)
                    return
            else:
                chunk = self._chunk_of(key)
                if chunk is not None:
                    if self._find(*chunk) is not None:
                        self.owner.array_stage(chunk[0]).remove(chunk[1])
                    return
            self._delete_loose(key)

    def delete_dir(self, path: str) -> None:
        """Remove all keys below a path (without slashes around it): nodes by book-keeping alone. Columns stay."""
        base = f"{path}/" if path else ""
        owner = self.owner
        with owner.guard:
            table = owner.node_table
            array, inner = self._array_above(path)
            if array is not None and inner:
                node = table[array]
                assert isinstance(node, ArrayNode)
                leaves = self._leaves(array)
                self._delete_chunks(array, (key for key, _ in self._chunk_keys(node, _base(array), leaves, base)))
            gone = [name for name in table.below(path) if not isinstance(table[name], ColumnNode)]
            for name in [path or ROOT, *gone]:
                if isinstance(table.get(name), ArrayNode | GroupNode):
                    owner.drop_node(name)
            loose = owner.loose_keys()
            if loose is not None:
                for key in [key for key in loose if key.startswith(base)]:
                    self._delete_loose(key)

    def _delete_chunks(self, array: str, keys: Iterable[str]) -> None:
        base = len(_base(array))
        node = self.owner.node_table[array]
        assert isinstance(node, ArrayNode)
        codec = chunk_keys_of(node.metadata)
        stage = self.owner.array_stage(array)
        for key in list(keys):
            tree_key = codec.parse(key[base:]) if codec is not None else None
            if tree_key is not None:
                stage.remove(tree_key)


def _parts_below(node: ArrayNode, leaves: Iterator[Leaf], inner: str) -> set[str]:
    keys = chunk_keys_of(node.metadata)
    if keys is None:
        return set()
    if not inner and keys.name == "default" and keys.separator == "/":
        return {"c"}
    base = f"{inner}/" if inner else ""
    parts: set[str] = set()
    if _may_start(keys, base):
        for leaf in leaves:
            parts.update(n[len(base) :].partition("/")[0] for n in keys.names(leaf.keys) if n.startswith(base))
    return parts


def _parsed(node: ArrayNode, name: str, rest: str) -> tuple[str, bytes] | None:
    keys = chunk_keys_of(node.metadata)
    tree_key = keys.parse(rest) if keys is not None else None
    return None if tree_key is None else (name, tree_key)


def _same_chunk_keys(a: ArrayNode, b: ArrayNode) -> bool:
    return chunk_keys_of(a.metadata) is chunk_keys_of(b.metadata)


def _node_of(key: str) -> str | None:
    """Return the name of the node whose metadata a key is."""
    if key == _METADATA:
        return ROOT
    return key[: -len(_METADATA) - 1] if key.endswith("/" + _METADATA) else None


def _base(name: str) -> str:
    path = path_of(name)
    return f"{path}/" if path else ""


def _can_be_loose(key: str) -> bool:
    return 0 < len(key.encode(errors="replace")) <= 1024 and key.isprintable()


def _may_start(keys: ChunkKeys, text: str) -> bool:
    """Tell whether the name of a chunk may start with `text`."""
    return keys.prefix.startswith(text) or text.startswith(keys.prefix)
