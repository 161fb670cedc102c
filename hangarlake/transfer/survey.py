"""What the trees of some commits need: tree packs and data packs, found by walking only what differs from known trees.

A subtree is passed over where a known tree holds the same node *at the same place*. Equal ids alone would not do: a node that two
clones wrote on their own lies in two packs, and each of its copies leads to packs of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from hangarlake.chunks.packs import pack_key
from hangarlake.errors import ObjectNotFoundError
from hangarlake.records.catalog import Catalog
from hangarlake.records.entries import SOLO
from hangarlake.records.node import Inner, Leaf, Node, NodeRef, decode_node
from hangarlake.storage.base import Buffer, ByteRange, ObjectStore

__all__ = ["Survey", "TreeReader", "data_keys", "survey"]

Place: TypeAlias = tuple[bytes, bytes, int]

_BATCH = 128  # nodes that are in memory at once
_GAP = 8 << 10
_RANGE = 4 << 20
_KEPT_BYTES = 96 << 20
# Known leaves are read only to learn which data packs are known; beyond so many that is not worth it.
_SPARE_LEAVES = 256


class TreeReader:
    """Reads nodes from exactly the places that references name. Not thread-safe.

    (The node cache of a session does not care which copy of a node it returns; here it matters.)

    Parameters
    ----------
    *stores : ObjectStore
        Looked at in this order.
    """

    def __init__(self, *stores: ObjectStore) -> None:
        self._stores = stores
        self._packs: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def keep(self, pack: bytes, data: bytes) -> None:
        """Remember a whole tree pack that has just been read, within bounds."""
        self._packs[pack] = data
        self._bytes += len(data)
        while self._bytes > _KEPT_BYTES and len(self._packs) > 1:
            self._bytes -= len(self._packs.popitem(last=False)[1])

    def read(self, refs: Sequence[NodeRef]) -> list[Node]:
        """Return nodes in the order of `refs`, verified by their ids.

        Raises
        ------
        CorruptionError, ObjectNotFoundError, StorageError
        """
        found: dict[Place, Node] = {}
        wanted = []
        for ref in refs:
            assert ref.pack is not None
            data = self._packs.get(ref.pack)
            if data is None:
                wanted.append(ref)
            else:
                found[place_of(ref)] = decode_node(memoryview(data)[ref.offset : ref.offset + ref.length], ref)
        if wanted:
            found.update(self._fetch(wanted))
        return [found[place_of(ref)] for ref in refs]

    def _fetch(self, refs: list[NodeRef]) -> dict[Place, Node]:
        refs.sort(key=lambda ref: (ref.pack or b"", ref.offset))
        runs: list[list[NodeRef]] = []
        for ref in refs:
            last = runs[-1] if runs else None
            if (
                last
                and last[-1].pack == ref.pack
                and ref.offset <= last[-1].offset + last[-1].length + _GAP
                and ref.offset + ref.length - last[0].offset <= _RANGE
            ):
                last.append(ref)
            else:
                runs.append([ref])
        ranges = []
        for run in runs:
            end = max(ref.offset + ref.length for ref in run)
            ranges.append(ByteRange(run[0].key, run[0].offset, end - run[0].offset))
        nodes: dict[Place, Node] = {}
        for run, data in zip(runs, self._ranges(ranges, self._stores), strict=True):
            view, first = memoryview(data), run[0].offset
            for ref in run:
                nodes[place_of(ref)] = decode_node(view[ref.offset - first : ref.offset - first + ref.length], ref)
        return nodes

    def _ranges(self, ranges: list[ByteRange], stores: Sequence[ObjectStore]) -> list[Buffer]:
        try:
            return stores[0].get_ranges(ranges)
        except ObjectNotFoundError:
            keys = list(dict.fromkeys(item.key for item in ranges))
            if len(keys) == 1:
                if len(stores) == 1:
                    raise
                return self._ranges(ranges, stores[1:])
        found: dict[ByteRange, Buffer] = {}
        for key in keys:
            mine = [item for item in ranges if item.key == key]
            found.update(zip(mine, self._ranges(mine, stores), strict=True))
        return [found[item] for item in ranges]


def place_of(ref: NodeRef) -> Place:
    """Return what tells one stored copy of a node from another."""
    return ref.id, ref.pack or b"", ref.offset


@dataclass(slots=True)
class Survey:
    """What was found.

    Attributes
    ----------
    trees : set of bytes
        Ids of the tree packs that hold nodes which known trees do not.
    data : set of str
        Keys of the objects that hold chunks of differing leaves, and of no leaf that was known in their place.
    lengths : dict of str to int
        How long those of them are that are one chunk by itself.
    nodes : int
        How many nodes were looked at.
    """

    trees: set[bytes] = field(default_factory=set)
    data: set[str] = field(default_factory=set)
    lengths: dict[str, int] = field(default_factory=dict)
    nodes: int = 0


def survey(
    new: Iterable[Catalog],
    known: Iterable[Catalog],
    reader: TreeReader,
    *,
    on_packs: Callable[[set[bytes]], None] = lambda _: None,
    on_leaf: Callable[[Leaf], None] = lambda _: None,
) -> Survey:
    """Walk the trees of new catalogs as far as they differ from those of known ones, level by level.

    Every node on the way is verified by its id, so that what is found complete is complete.

    Parameters
    ----------
    on_packs : callable
        Told the tree packs of the nodes that are about to be read.
    on_leaf : callable
        Shown every leaf that is new.

    Raises
    ------
    CorruptionError, ObjectNotFoundError, StorageError
    """
    result = Survey()
    known_data: set[str] = set()

    def see(leaf: Leaf) -> None:
        result.nodes += 1
        solo = _solo_lengths(leaf)
        result.data |= _pack_keys(leaf) | solo.keys()
        result.lengths |= solo
        on_leaf(leaf)

    fresh, old = _roots(new, see), _roots(known, lambda leaf: known_data.update(data_keys(leaf)))
    while fresh:
        level = max(fresh)
        for above in [each for each in old if each > level]:
            _expand(old, above, reader)
        here, there = fresh.pop(level), old.pop(level, {})
        for place in here.keys() & there.keys():
            del here[place], there[place]
        packs = {ref.pack for ref in here.values() if ref.pack is not None}
        result.trees |= packs
        on_packs(packs)
        for nodes in _read(reader, here.values()):
            for node in nodes:
                if isinstance(node, Leaf):
                    see(node)
                else:
                    result.nodes += 1
                    _add(fresh, node)
        if level == 0:
            if len(there) <= 4 * len(here) + _SPARE_LEAVES:
                for nodes in _read(reader, there.values()):
                    known_data.update(key for node in nodes if isinstance(node, Leaf) for key in data_keys(node))
        elif fresh:
            old[level] = there
            _expand(old, level, reader)
    result.data -= known_data
    return result


_Frontier: TypeAlias = dict[int, dict[Place, NodeRef]]


def _roots(catalogs: Iterable[Catalog], see: Callable[[Leaf], None]) -> _Frontier:
    frontier: _Frontier = {}
    for catalog in catalogs:
        for node in catalog.decode_inlined():
            if isinstance(node, Leaf):
                see(node)
        for entry in catalog.nodes.values():
            root = entry.root
            if root is not None and root.pack is not None:
                frontier.setdefault(root.level, {})[place_of(root)] = root
    return frontier


def _add(frontier: _Frontier, node: Inner) -> None:
    below = frontier.setdefault(node.level - 1, {})
    for ref in node.children.refs(node.level - 1):
        below[place_of(ref)] = ref


def _expand(frontier: _Frontier, level: int, reader: TreeReader) -> None:
    """Replace the nodes of one level by their children."""
    for nodes in _read(reader, frontier.pop(level).values()):
        for node in nodes:
            if isinstance(node, Inner):
                _add(frontier, node)


def _read(reader: TreeReader, refs: Iterable[NodeRef]) -> Iterator[list[Node]]:
    listed = sorted(refs, key=lambda ref: (ref.pack or b"", ref.offset))
    for start in range(0, len(listed), _BATCH):
        yield reader.read(listed[start : start + _BATCH])


def data_keys(leaf: Leaf) -> set[str]:
    """Return the keys of the objects in which the chunks of a leaf lie."""
    return _pack_keys(leaf) | _solo_lengths(leaf).keys()


def _pack_keys(leaf: Leaf) -> set[str]:
    table = leaf.entries.table
    return {pack_key(table.pack_ids[code]) for code in np.unique(table.packs).tolist() if code >= 0}


def _solo_lengths(leaf: Leaf) -> dict[str, int]:
    """Return the keys and lengths of the chunks of a leaf that are objects of their own."""
    table = leaf.entries.table
    rows = np.flatnonzero(table.packs == SOLO).tolist()
    return {pack_key(table.digests[row].tobytes()): int(table.lengths[row]) for row in rows}
