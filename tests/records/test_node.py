"""Stored nodes: what is written is read, whatever is damaged or forged is a named error, and sizes are bounded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.chunks import zstd
from hangarlake.errors import CorruptionError, SchemaError, UnsupportedFormatError
from hangarlake.records import node as node_module
from hangarlake.records.entries import PENDING, SOLO, ChunkTable, Entries
from hangarlake.records.keys import decode_keys, encode_keys
from hangarlake.records.node import (
    MAX_NODE_BYTES,
    MAX_VALUE_CHUNKS,
    Inner,
    Leaf,
    Node,
    NodeRef,
    decode_node,
    encode_inner,
    encode_leaf,
)
from hangarlake.records.nodes import NodeStore
from hangarlake.records.tree import build
from hangarlake.storage import MemoryStore
from tests.records.trees import DictNodes, entries_of, relocated

PACK = bytes(range(32))
GRID = '{"chunk_shape":[1],"codecs":[{"name":"bytes"}],"layout":"grid"}'


def ref_to(node: Node, data: bytes, **changes: object) -> NodeRef:
    return replace(NodeRef(node.id, node.level, node.count, PACK, 8, len(data)), **changes)


def cut_leaf(chunks: int, packs: int = 0) -> Leaf:
    """A leaf of one sample in many chunks, spread over packs (none: each chunk an object of its own)."""
    digests = np.random.default_rng(7).integers(0, 256, (chunks, 20), np.uint8)
    table = ChunkTable(
        digests,
        np.arange(chunks, dtype=np.int32) % packs if packs else np.full(chunks, SOLO, np.int32),
        np.arange(chunks, dtype=np.uint64),
        np.full(chunks, 10, np.uint64),
        np.ones(chunks, np.uint64),
        np.zeros(chunks, np.uint8),
        tuple(i.to_bytes(32, "big") for i in range(packs)),
        (GRID,),
    )
    value, none = np.zeros((1, 20), np.uint8), np.empty((1, 0), np.uint64)
    entries = Entries(encode_keys(["s"]), value, none, np.zeros(1, np.uint32), np.array([chunks], np.uint64), table)
    return Leaf.of(entries)


def inner_node() -> Inner:
    nodes = DictNodes()
    root = build(entries_of({i: i for i in range(2_000)}), nodes)
    assert root is not None
    top = nodes.nodes[root.id]
    assert isinstance(top, Inner)
    return top


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packs", [1, 1 << 15, (1 << 15) + 1, 65_534])
@pytest.mark.parametrize("staged", [False, True])
def test_a_leaf_may_lie_in_as_many_packs_as_the_format_can_count(packs, staged):
    leaf = cut_leaf(65_534, packs)
    data = encode_leaf(leaf, staged=staged)
    back = decode_node(data, ref_to(leaf, data), staged=staged)
    assert isinstance(back, Leaf)
    assert back.entries.table.refs() == leaf.entries.table.refs()


def test_one_pack_more_is_refused_by_name_before_it_is_written():
    leaf = cut_leaf(65_535, 65_535)
    with pytest.raises(SchemaError, match=r"'s'.* 65,535 packs.*chunk_shape"):
        encode_leaf(leaf)


def test_a_leaf_of_a_million_and_a_half_chunks_is_read_back():
    leaf = cut_leaf(1_500_000)
    data = encode_leaf(leaf)
    back = decode_node(data, ref_to(leaf, data))
    assert isinstance(back, Leaf)
    np.testing.assert_array_equal(back.entries.table.digests, leaf.entries.table.digests)


def test_what_no_reader_would_take_is_not_written(monkeypatch):
    leaf = cut_leaf(1_000)
    data = encode_leaf(leaf)
    monkeypatch.setattr(node_module, "_MAX_PHYSICAL", 30_000)
    with pytest.raises(SchemaError, match=r"'s'.*1,000 chunks.*30,000.*chunk_shape"):
        encode_leaf(leaf)
    with pytest.raises(CorruptionError, match="trees/00"):
        decode_node(data, ref_to(leaf, data))


def test_a_leaf_full_of_values_of_the_most_chunks_is_within_the_bound():
    # 48 bytes for each row of the chunk table, and a pack's id for sixteen of them.
    assert 512 * MAX_VALUE_CHUNKS * 50 + (1 << 20) < node_module._MAX_PHYSICAL < MAX_NODE_BYTES


@pytest.mark.parametrize(("offset", "length"), [(1 << 63, 100), ((1 << 64) - 1, 100), (8, MAX_NODE_BYTES + 1)])
def test_impossible_places_of_nodes_are_refused_without_a_request(offset, length):
    class Unasked(MemoryStore):
        def get_ranges(self, ranges):
            raise AssertionError("the store was asked")

    with pytest.raises(CorruptionError, match=r"trees/00.*cannot be"):
        NodeStore(Unasked()).get_nodes([NodeRef(b"x" * 20, 0, 1, PACK, offset, length)])


# ---- damage ----------------------------------------------------------------------------------------------------------


def mutated(data: bytes, source: st.DataObject) -> bytes:
    """Flip a byte, cut some out, put some in, or cut the end off."""
    at = source.draw(st.integers(0, max(0, len(data) - 1)))
    how = source.draw(st.sampled_from(["flip", "delete", "insert", "cut"]))
    if how == "flip" and data:
        return data[:at] + bytes([data[at] ^ source.draw(st.integers(1, 255))]) + data[at + 1 :]
    if how == "delete":
        return data[:at] + data[at + source.draw(st.integers(1, 40)) :]
    if how == "insert":
        return data[:at] + source.draw(st.binary(min_size=1, max_size=40)) + data[at:]
    return data[:at]


def nodes_to_damage() -> list[Node]:
    top = inner_node()
    children = replace(top.children, packs=np.zeros(len(top.children), np.int32), pack_ids=(PACK,))
    values = {k: f"value {k}" for k in [*range(-5, 60), *(f"key-{i}" for i in range(40)), ("a", 1), (7, 0)]}
    shared = entries_of({i: i for i in range(20)})
    table = shared.table.take(np.array([0, 1, 2, 3]))
    run = replace(shared, table=table, rows=shared.rows % 4, index=np.arange(20, dtype=np.uint64))
    return [
        top,
        replace(top, children=children),
        Leaf.of(entries_of(values, 2)),
        Leaf.of(relocated(entries_of(values), b"\1" * 32)),
        Leaf.of(run),
        cut_leaf(30, 3),
    ]


NODES = nodes_to_damage()


def encoded(node: Node) -> bytes:
    return encode_leaf(node) if isinstance(node, Leaf) else encode_inner(node)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NODES), st.data())
def test_any_damage_of_a_node_is_a_corruption_error(node, source):
    data = encoded(node)
    damaged = mutated(data, source)
    if damaged != data:
        with pytest.raises(CorruptionError, match=r"what it is.* \(trees/00.*offset 8\).*restore"):
            decode_node(damaged, ref_to(node, data), "what it is")


def use(node: Node) -> None:
    """Do with a node what readers do: it works, or raises an error of ours."""
    if isinstance(node, Inner):
        assert len(node.children.refs(node.level - 1)) == len(node.children.compact())
        encode_inner(node)
        return
    entries = node.entries
    assert len(entries.table.refs()) == len(entries.table)
    compacted = entries.compact(dedupe=True)
    assert len(compacted.spans()) == len(entries)
    encode_leaf(node)
    decode_keys(entries.keys)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NODES), st.integers(0, 3), st.data())
def test_a_forged_node_whose_checksum_and_id_are_right_is_read_or_is_a_named_error(node, where, source):
    data = encoded(node)
    n, width = int.from_bytes(data[8:12], "little"), int.from_bytes(data[6:8], "little")
    sizes = [int.from_bytes(data[i : i + 4], "little") for i in (12, 16, 20)]
    at = 32 + sizes[0]
    k, d = zstd.decompress(data[32:at], width * n), data[at : at + 20 * n]
    at += 20 * n
    s = zstd.decompress(data[at : at + sizes[1]], limit=1 << 20) if sizes[1] else b""
    p = zstd.decompress(data[at + sizes[1] :], limit=1 << 20)
    head, sections = data[4:12], [k, d, s, p]
    if where == 0:
        head = bytes([data[4], data[5], *mutated(head[2:], source)[:6].ljust(6, b"\0")])
    else:
        sections[where] = mutated(sections[where], source)
    k, d, s, p = sections
    stored = [zstd.compress(k), zstd.compress(s) if s else b"", zstd.compress(p)]
    start = b"HLN1" + head + b"".join(len(x).to_bytes(4, "little") for x in stored)
    body = stored[0] + d + stored[1] + stored[2]
    forged = start + blake3(start + body).digest(8) + body
    identity = blake3(head + k + d + s).digest(20)
    try:
        back = decode_node(forged, ref_to(node, forged, id=identity))
        use(back)
    except (CorruptionError, SchemaError, UnsupportedFormatError):
        pass


@pytest.mark.parametrize("text", [b"[" * 50_000, b"[" * 50_000 + b"]" * 50_000, b'["\\ud800"]', b"{}", b"\xff\xfe"])
def test_a_list_of_encodings_that_is_none_is_corruption(text):
    leaf = Leaf.of(entries_of({i: i for i in range(3)}))
    listed = json.dumps([json.loads(e) for e in leaf.entries.table.encodings], separators=(",", ":")).encode()
    data = encode_leaf(leaf)
    sizes = [int.from_bytes(data[i : i + 4], "little") for i in (12, 16, 20)]
    physical = zstd.decompress(data[-sizes[2] :], limit=1 << 20)
    assert physical.endswith(listed)
    forged = physical[:8] + len(text).to_bytes(4, "little") + physical[12 : -len(listed)] + text
    stored = zstd.compress(forged)
    start = data[:20] + len(stored).to_bytes(4, "little")
    body = data[32 : -sizes[2]] + stored
    with pytest.raises(CorruptionError, match="trees/00"):
        decode_node(start + blake3(start + body).digest(8) + body, ref_to(leaf, data))


def test_what_leads_to_a_node_must_count_its_entries_right():
    for node in (inner_node(), Leaf.of(entries_of({i: i for i in range(20)}))):
        data = encoded(node)
        decode_node(data, ref_to(node, data))
        with pytest.raises(CorruptionError, match=f"{node.count:,} entries"):
            decode_node(data, ref_to(node, data, count=node.count + 1))


def test_only_a_staged_leaf_may_wait_for_its_places():
    leaf = cut_leaf(4)
    pending = replace(leaf.entries, table=replace(leaf.entries.table, packs=np.full(4, PENDING, np.int32)))
    waiting = Leaf(pending, leaf.id)
    with pytest.raises(ValueError, match="pending"):
        encode_leaf(waiting)
    data = encode_leaf(waiting, staged=True)
    back = decode_node(data, ref_to(leaf, data), staged=True)
    assert isinstance(back, Leaf)
    assert back.entries.table.packs.tolist() == [PENDING] * 4
    with pytest.raises(CorruptionError):
        decode_node(data, ref_to(leaf, data))
