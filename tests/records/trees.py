"""Aids for tests of trees: a node store in a dict, and entries from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from blake3 import blake3

from hangarlake.records.conflicts import Arbiter, Decide, RawConflict
from hangarlake.records.entries import SOLO, ChunkTable, Entries
from hangarlake.records.keys import as_key_array, encode_key
from hangarlake.records.node import Node, NodeRef
from hangarlake.records.tree import NodeSink, NodeSource
from hangarlake.records.tree_merge import Labels, carry_out, plan_merge


class DictNodes:
    """A node source and sink in a dict, counting what is read and made."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, Node] = {}
        self.read = 0
        self.made = 0

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        self.read += len(refs)
        return [self.nodes[ref.id] for ref in refs]

    def add_node(self, node: Node) -> NodeRef:
        if node.id not in self.nodes:
            self.made += 1
        self.nodes[node.id] = node
        return NodeRef(node.id, node.level, node.count)


def digest_of(value: object) -> bytes:
    return blake3(repr(value).encode()).digest(20)


def entries_of(values: Mapping[object, object], rank: int = 0) -> Entries:
    """Entries for a dict of key → value; each value is a chunk of its own, its shape (if rank) is its length."""
    pairs = sorted((encode_key(k), v) for k, v in values.items())
    n = len(pairs)
    if not n:
        return Entries.empty(rank)
    digests = np.frombuffer(b"".join(digest_of(v) for _, v in pairs), np.uint8).reshape(n, 20)
    table = ChunkTable(
        digests,
        np.full(n, SOLO, np.int32),
        np.zeros(n, np.uint64),
        np.full(n, 10, np.uint64),
        np.ones(n, np.uint64),
        np.zeros(n, np.uint8),
        (),
        ('{"codecs":[{"name":"bytes"}],"layout":"rows"}',),
    )
    shapes = np.array([[len(repr(v))] * rank for _, v in pairs], np.uint64).reshape(n, rank)
    keys = as_key_array([k for k, _ in pairs])
    return Entries(keys, digests, shapes, np.arange(n, dtype=np.uint32), np.zeros(n, np.uint64), table)


def relocated(entries: Entries, pack: bytes) -> Entries:
    """The same entries, their chunks in one pack."""
    table = entries.table
    return replace(entries, table=replace(table, packs=np.zeros(len(table), np.int32), pack_ids=(pack,)))


class TreeMerge(NamedTuple):
    """A merged tree, and the conflicts that nobody resolved (ours stands there)."""

    root: NodeRef | None
    conflicts: list[RawConflict]


def merge_trees(
    base: NodeRef | None,
    ours: NodeRef | None,
    theirs: NodeRef | None,
    source: NodeSource,
    sink: NodeSink,
    decide: Decide | None = None,
) -> TreeMerge:
    """Merge two trees by key, as a merge of catalogs does with each pair of them."""
    arbiter = Arbiter(decide)
    root = carry_out(plan_merge(base, ours, theirs, source), Labels(""), arbiter, source, sink)
    return TreeMerge(root, arbiter.unresolved)
