from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import CorruptionError
from hangarlake.records.entries import Entries
from hangarlake.records.keys import as_key_array, decode_keys, encode_key, encode_keys
from hangarlake.records.node import Inner, Leaf, NodeRef, decode_node, encode_inner, encode_leaf, node_length
from hangarlake.records.tree import apply_edits, build, cut_points, find, iter_leaves, last_key, rank_of
from tests.records.trees import DictNodes, digest_of, entries_of, relocated

NO_KEYS = np.empty(0, "S1")


def edit(
    root: NodeRef | None, nodes: DictNodes, sets: Mapping[object, object], removes: list[object]
) -> NodeRef | None:
    gone = as_key_array(sorted(encode_key(k) for k in removes))
    return apply_edits(root, entries_of(sets), gone, nodes, nodes)


def items_of(root: NodeRef | None, nodes: DictNodes) -> dict[object, bytes]:
    out = {}
    for leaf in iter_leaves(root, nodes):
        for key, digest in zip(decode_keys(leaf.keys), leaf.entries.digests, strict=True):
            out[key] = digest.tobytes()
    return out


def check_equals(root: NodeRef | None, nodes: DictNodes, model: dict[object, object]) -> None:
    fresh = DictNodes()
    scratch = build(entries_of(model), fresh)
    assert (root and (root.id, root.level, root.count)) == (scratch and (scratch.id, scratch.level, scratch.count))
    assert items_of(root, nodes) == {k: digest_of(v) for k, v in model.items()}
    expected = sorted(model, key=encode_key)
    assert list(items_of(root, nodes)) == expected


# A key space in which runs of many entries arise from few drawn numbers, so that trees of several levels occur.
keys = st.one_of(st.integers(-50, 50), st.text("abc", min_size=1, max_size=3))
bulk = st.tuples(st.integers(-20_000, 20_000), st.integers(1, 3_000), st.integers(1, 7))
operation = st.one_of(
    st.tuples(st.just("set"), st.dictionaries(keys, st.integers(0, 5), max_size=20)),
    st.tuples(st.just("remove"), st.lists(keys, max_size=20)),
    st.tuples(st.just("set-range"), bulk),
    st.tuples(st.just("remove-range"), bulk),
    st.tuples(st.just("mixed"), bulk),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(operation, max_size=8))
def test_any_order_of_edits_gives_the_id_of_a_tree_built_from_scratch(operations: list[tuple[str, object]]) -> None:
    nodes = DictNodes()
    root = None
    model: dict[object, object] = {}
    for name, argument in operations:
        sets: dict[object, object] = {}
        removes: list[object] = []
        if name == "set":
            sets = dict(argument)  # type: ignore[call-overload]
        elif name == "remove":
            removes = list(set(argument))  # type: ignore[call-overload]
        else:
            start, count, step = argument  # type: ignore[misc]
            span = list(range(start, start + count * step, step))
            if name == "set-range":
                sets = {k: k % 11 for k in span}
            elif name == "remove-range":
                removes = list(span)
            else:
                sets = dict.fromkeys(span[::2], -1)
                removes = list(span[1::2])
        root = edit(root, nodes, sets, removes)
        model.update(sets)
        for key in removes:
            model.pop(key, None)
        check_equals(root, nodes, model)


def test_deleting_everything_in_pieces_keeps_the_canonical_form() -> None:
    nodes = DictNodes()
    model: dict[object, object] = {i: i for i in range(30_000)}
    root = build(entries_of(model), nodes)
    assert root is not None
    assert root.level == 2
    order = list(model)
    random.Random(5).shuffle(order)
    for start in range(0, len(order), 4_000):
        gone = order[start : start + 4_000]
        root = edit(root, nodes, {}, gone)
        for key in gone:
            del model[key]
        check_equals(root, nodes, model)
    assert root is None


@pytest.fixture(scope="module")
def million() -> tuple[DictNodes, NodeRef]:
    n = 1_000_000
    nodes = DictNodes()
    base = entries_of({0: 0})
    numbers = np.arange(n)
    digests = np.random.default_rng(0).integers(0, 256, (n, 20), np.uint8)
    entries = Entries(
        encode_keys(numbers),
        digests,
        np.empty((n, 0), np.uint64),
        np.zeros(n, np.uint32),
        numbers.astype(np.uint64),
        base.table,
    )
    root = build(entries, nodes)
    assert root is not None
    return nodes, root


def test_one_changed_key_in_a_million_writes_one_node_per_level(million: tuple[DictNodes, NodeRef]) -> None:
    nodes, root = million
    for key in (0, 1, 499_999, 999_999):
        nodes.made = nodes.read = 0
        changed = edit(root, nodes, {key: "new"}, [])
        assert changed is not None
        assert changed.id != root.id
        assert nodes.made == root.level + 1
        assert nodes.read <= 3 * (root.level + 1)


def test_one_key_inserted_or_removed_in_a_million_writes_a_few_nodes_per_level(
    million: tuple[DictNodes, NodeRef],
) -> None:
    nodes, root = million
    rng = random.Random(7)
    per_level = []
    for i in range(200):
        nodes.made = 0
        key = rng.randrange(1_000_000)
        edited = edit(root, nodes, {}, [key]) if i % 2 else edit(root, nodes, {f"key {key}": 1, -1 - key: 2}, [])
        assert edited is not None
        per_level.append(nodes.made / (root.level + 1))
    assert max(per_level) <= 8
    assert sum(per_level) / len(per_level) <= 3


def test_nodes_stay_within_their_bounds(million: tuple[DictNodes, NodeRef]) -> None:
    nodes, root = million
    sizes = [leaf.count for leaf in iter_leaves(root, nodes)]
    assert min(sizes[:-1]) >= 128
    assert max(sizes) <= 512
    assert 200 <= sum(sizes) / len(sizes) <= 300


def test_writing_equal_values_changes_nothing() -> None:
    nodes = DictNodes()
    model: dict[object, object] = {i: i for i in range(5_000)}
    root = build(entries_of(model), nodes)
    nodes.made = 0
    assert edit(root, nodes, {17: 17, 4_000: 4_000}, [99_999]) == root
    assert nodes.made == 0


@settings(max_examples=60, deadline=None)
@given(
    st.sets(
        st.one_of(st.integers(-3_000, 3_000), st.text(min_size=1, max_size=4).filter(str.isprintable)), max_size=600
    ),
    st.lists(st.one_of(st.integers(-3_100, 3_100), st.text("ab", min_size=1, max_size=2)), max_size=40),
)
def test_lookups_ranges_and_ranks_equal_those_of_a_sorted_dict(present: set[object], asked: list[object]) -> None:
    nodes = DictNodes()
    root = build(entries_of({k: repr(k) for k in present}), nodes)
    ordered = sorted(encode_key(k) for k in present)
    wanted = as_key_array(sorted({encode_key(k) for k in asked}))
    found = find(root, wanted, nodes)
    assert found.present.tolist() == [bytes(k) in set(ordered) for k in wanted.tolist()]
    assert found.entries().keys.tolist() == [k for k in wanted.tolist() if k in set(ordered)]
    for key in wanted.tolist():
        assert rank_of(root, key, nodes) == sum(k < key for k in ordered)
        below = [k for k in ordered if k < key]
        assert last_key(root, nodes, before=key) == (below[-1] if below else None)
        from_here = [k for leaf in iter_leaves(root, nodes, start=key) for k in leaf.keys.tolist() if k >= key]
        assert from_here == [k for k in ordered if k >= key]
    backwards = [k for leaf in iter_leaves(root, nodes, reverse=True) for k in leaf.keys.tolist()[::-1]]
    assert backwards == ordered[::-1]


def test_cuts_depend_on_keys_alone_and_find_each_other_again() -> None:
    keys_array = encode_keys(range(10_000))
    cuts = cut_points(keys_array, 0)
    again = cut_points(keys_array[cuts[3] :], 0)
    assert [c - cuts[3] for c in cuts[4:]] == again


# ---- bytes --------------------------------------------------------------------------------------------------------------

PACK = bytes(range(32))


def stored(leaf: Leaf) -> tuple[bytes, NodeRef]:
    data = encode_leaf(leaf)
    return data, NodeRef(leaf.id, 0, leaf.count, PACK, 8, len(data))


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_leaves_survive_storage(rank: int) -> None:
    values = {
        k: f"value {k}" for k in [*range(-5, 100), *(f"key-{i}" for i in range(40)), ("a", 1), ("a", "b"), (7, 0)]
    }
    leaf = Leaf.of(relocated(entries_of(values, rank), b"\1" * 32))
    data, ref = stored(leaf)
    assert node_length(data[:32]) == len(data)
    back = decode_node(data, ref)
    assert isinstance(back, Leaf)
    assert back.id == leaf.id
    assert decode_keys(back.keys) == decode_keys(leaf.keys)
    for name in ("digests", "shapes", "rows", "index"):
        assert np.array_equal(getattr(back.entries, name), getattr(leaf.entries, name))
    for name in ("digests", "packs", "offsets", "lengths", "items", "encoding", "pack_ids", "encodings"):
        assert np.array_equal(getattr(back.entries.table, name), getattr(leaf.entries.table, name))


def test_inner_nodes_survive_storage_and_resolve_their_own_pack() -> None:
    nodes = DictNodes()
    root = build(entries_of({i: i for i in range(2_000)}), nodes)
    assert root is not None
    inner = nodes.nodes[root.id]
    assert isinstance(inner, Inner)
    data = encode_inner(inner)
    back = decode_node(data, NodeRef(root.id, root.level, root.count, PACK, 8, len(data)))
    assert isinstance(back, Inner)
    assert back.count == 2_000
    assert {ref.pack for ref in back.children.refs(0)} == {PACK}
    assert np.array_equal(back.children.ids, inner.children.ids)


def test_a_flipped_bit_anywhere_in_a_node_is_a_corruption_error() -> None:
    leaf = Leaf.of(entries_of({i: i for i in range(20)}))
    data, ref = stored(leaf)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(CorruptionError, match="trees/00"):
            decode_node(bytes(damaged), ref)
    for length in (0, 5, 31, 32, len(data) - 1):
        with pytest.raises(CorruptionError):
            decode_node(data[:length], ref)
    with pytest.raises(CorruptionError, match="id"):
        decode_node(data, NodeRef(b"x" * 20, 0, 20, PACK, 8, len(data)))
