"""Tree packs, and the copies of nodes that refs carry."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.chunks.packs import ChunkRef
from hangarlake.records.catalog import Catalog, ColumnNode, ColumnSchema
from hangarlake.records.children import Children
from hangarlake.records.entries import PENDING, Entries
from hangarlake.records.node import Inner, Leaf, Node, NodeRef, encode_inner, encode_leaf
from hangarlake.records.nodes import NodeStore, StagedNodes
from hangarlake.records.tree import build, iter_leaves
from hangarlake.records.treepacks import TreePack, TreePacker, copy_tops, read_tops
from hangarlake.storage import MemoryStore
from tests.records.trees import entries_of

SCHEMA = ColumnSchema("ndarray", "|u1", (3,))


def pending(entries: Entries) -> tuple[Entries, dict[bytes, ChunkRef]]:
    """The same entries as a writer stages them, and where their chunks turn out to lie."""
    table = entries.table
    places = {ref.digest: replace(ref, pack=b"\7" * 32, offset=11 * i) for i, ref in enumerate(table.refs())}
    return replace(entries, table=replace(table, packs=np.full(len(table), PENDING, np.int32))), places


def packed(count: int, pack_bytes: int, monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryStore, Catalog, Entries]:
    """A column of `count` samples in tree packs of at most `pack_bytes`."""
    monkeypatch.setattr("hangarlake.records.treepacks._MAX_PACK", pack_bytes)
    store = MemoryStore()
    staged = StagedNodes(NodeStore(store))
    entries, places = pending(entries_of({i: i for i in range(count)}))
    root = build(entries, staged)
    assert root is not None
    packs: list[TreePack] = []
    packer = TreePacker(staged, places, packs.append)
    packer.add(root)
    packer.finish()
    for pack in packs:
        store.put(pack.key, pack.data)
    return store, Catalog({"x": ColumnNode(SCHEMA, packer.root(root))}), replace(entries, table=entries.table)


@pytest.mark.parametrize("pack_bytes", [1, 20_000, 1 << 25])
def test_a_tree_is_read_back_from_however_many_packs_it_takes(monkeypatch, pack_bytes):
    store, catalog, entries = packed(5_000, pack_bytes, monkeypatch)
    root = catalog.nodes["x"].root
    leaves = list(iter_leaves(root, NodeStore(store)))
    assert np.array_equal(np.concatenate([leaf.keys for leaf in leaves]), entries.keys)
    assert {ref.pack for leaf in leaves for ref in leaf.entries.table.refs()} == {b"\7" * 32}
    assert (len(list(store.list("trees/"))) > 1) == (pack_bytes < 1 << 25)


def test_the_tops_of_trees_come_back_from_their_copies(monkeypatch):
    store, catalog, _ = packed(5_000, 1 << 25, monkeypatch)
    nodes = NodeStore(store)
    assert copy_tops(catalog, nodes) is None
    root = catalog.nodes["x"].root
    assert root is not None
    nodes.get_nodes([root])
    copies = copy_tops(catalog, nodes)
    assert [node.id for node in read_tops(catalog, copies)] == [root.id]
    twice = catalog.with_nodes({"x": catalog.nodes["x"], "y": catalog.nodes["x"]})
    assert copy_tops(twice, nodes) == copies
    assert len(read_tops(twice, copies)) == 1


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_copies_are_left_out(source):
    leaf = Leaf.of(entries_of({i: i for i in range(3)}))
    data = encode_leaf(leaf)
    catalog = Catalog({"x": ColumnNode(SCHEMA, NodeRef(leaf.id, 0, 3, b"p" * 32, 8, len(data)))})
    at = source.draw(st.integers(0, len(data) - 1))
    damaged = data[:at] + source.draw(st.binary(max_size=3)) + data[at + source.draw(st.integers(0, 3)) :]
    copies = {"packs": ["70" * 32], "index": [[0, 8, len(damaged)]], "data": base64.b64encode(damaged).decode()}
    assert [node.id for node in read_tops(catalog, copies)] == ([leaf.id] if damaged == data else [])


@pytest.mark.parametrize(
    "copies",
    [
        {},
        {"packs": [], "index": [[0, 8, 5]], "data": ""},
        {"packs": ["x"], "index": [], "data": ""},
        {"packs": [], "index": [], "data": "§"},
        {"packs": [], "index": [[1]], "data": ""},
    ],
)
def test_copies_that_are_none_are_left_out(copies):
    catalog = Catalog({"x": ColumnNode(SCHEMA, NodeRef(b"r" * 20, 0, 3, b"p" * 32, 8, 5))})
    assert read_tops(catalog, copies) == []


def test_a_forged_tree_that_leads_to_one_node_in_many_ways_is_read_once():
    node: Node = Leaf.of(entries_of({i: i for i in range(3)}))
    stored, index = [encode_leaf(node)], []
    pack = b"p" * 32
    for level in range(1, 6):
        at = sum(map(len, stored[:-1]))
        index.append([0, at, len(stored[-1])])
        below = NodeRef(node.id, node.level, node.count, pack, at, len(stored[-1]))
        node = Inner.of(level, Children.of([(b"\x20" + bytes([65 + i]), below) for i in range(8)], 2))
        stored.append(encode_inner(node))
    at = sum(map(len, stored[:-1]))
    index.append([0, at, len(stored[-1])])
    catalog = Catalog({"x": ColumnNode(SCHEMA, NodeRef(node.id, 5, node.count, pack, at, len(stored[-1])))})
    copies = {"packs": [pack.hex()], "index": index, "data": base64.b64encode(b"".join(stored)).decode()}
    assert len(read_tops(catalog, copies)) == 6
