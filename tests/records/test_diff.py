from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.records import tree_diff
from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode, ColumnSchema, GroupNode
from hangarlake.records.diff import MISSING, TreeChange, count_changes, diff_catalogs, diff_trees
from hangarlake.records.entries import Entries
from hangarlake.records.keys import as_key_array, decode_keys, encode_key, encode_keys
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import apply_edits, build
from tests.records.trees import DictNodes, digest_of, entries_of

Model = Mapping[object, object]


def grow(nodes: DictNodes, values: Model) -> NodeRef | None:
    return build(entries_of(values), nodes)


def edit(root: NodeRef | None, nodes: DictNodes, sets: Model, removes: list[Any] = []) -> NodeRef | None:  # noqa: B006 (read only)
    gone = as_key_array(sorted(encode_key(k) for k in removes))
    return apply_edits(root, entries_of(sets), gone, nodes, nodes)


def digests(entries: Entries) -> dict[object, bytes]:
    rows = zip(decode_keys(entries.keys), entries.digests, entries.table.digests[entries.rows], strict=True)
    found = {}
    for key, digest, chunk in rows:
        assert digest.tobytes() == chunk.tobytes()  # in these trees each value is a chunk of its own
        found[key] = digest.tobytes()
    return found


def check_blocks(blocks: list[TreeChange], old: Model, new: Model) -> None:
    added: dict[object, bytes] = {}
    removed: dict[object, bytes] = {}
    modified: dict[object, tuple[bytes, bytes]] = {}
    last = b""
    for block in blocks:
        assert len(block)
        before, after = digests(block.old), digests(block.new)
        assert list(before) == list(after)
        modified.update({key: (before[key], after[key]) for key in before})
        added.update(digests(block.added))
        removed.update(digests(block.removed))
        keys = [part.keys.tolist() for part in (block.added, block.removed, block.old)]
        assert all(part == sorted(part) for part in keys)
        assert last < min(min(part) for part in keys if part)
        last = max(max(part) for part in keys if part)
    assert added == {key: digest_of(new[key]) for key in new if key not in old}
    assert removed == {key: digest_of(old[key]) for key in old if key not in new}
    assert modified == {
        key: (digest_of(old[key]), digest_of(new[key])) for key in old if key in new and old[key] != new[key]
    }


# ---- trees ---------------------------------------------------------------------------------------------------------------

keys = st.one_of(
    st.integers(-50, 50), st.text("abc", min_size=1, max_size=3), st.tuples(st.just("s"), st.integers(0, 9))
)
small = st.dictionaries(keys, st.integers(0, 3), max_size=30)
spans = st.lists(st.tuples(st.integers(-3_000, 60_000), st.integers(1, 20_000), st.integers(1, 3)), max_size=3)


def spread(values: Model, runs: list[tuple[int, int, int]]) -> dict[object, object]:
    out: dict[object, object] = {}
    for start, count, value in runs:
        out.update(dict.fromkeys(range(start, start + count), value))
    return {**out, **values}


@settings(max_examples=60, deadline=None)
@given(small, spans, small, spans)
def test_a_diff_says_what_a_comparison_of_dicts_says(
    a: Model, runs_a: list[tuple[int, int, int]], b: Model, runs_b: list[tuple[int, int, int]]
) -> None:
    nodes = DictNodes()
    old, new = spread(a, runs_a), spread(b, runs_b)
    before, after = grow(nodes, old), grow(nodes, new)
    blocks = list(diff_trees(before, after, nodes))
    check_blocks(blocks, old, new)
    counts = tuple(
        sum(map(len, part))
        for part in ([b.added for b in blocks], [b.removed for b in blocks], [b.new for b in blocks])
    )
    assert count_changes(before, after, nodes) == counts
    mirrored = count_changes(after, before, nodes)
    assert mirrored == (counts[1], counts[0], counts[2])


@settings(max_examples=60, deadline=None)
@given(small, spans, small, spans)
def test_a_diff_applied_to_the_old_tree_gives_the_new_one(
    a: Model, runs_a: list[tuple[int, int, int]], b: Model, runs_b: list[tuple[int, int, int]]
) -> None:
    nodes = DictNodes()
    before, after = grow(nodes, spread(a, runs_a)), grow(nodes, spread(b, runs_b))
    root = before
    for block in diff_trees(before, after, nodes):
        for part in (block.added, block.new):
            root = apply_edits(root, part, block.removed.keys, nodes, nodes)
    assert (root and root.id) == (after and after.id)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 5, 60, 900]), st.sampled_from([300, 9_000, 60_000]))
def test_a_diff_after_random_edits_lists_exactly_these(seed: int, count: int, size: int) -> None:
    rng = random.Random(seed)
    nodes = DictNodes()
    old: dict[object, object] = {2 * i: i % 7 for i in range(size)}
    new = dict(old)
    for _ in range(count):
        key = rng.randrange(2 * size)
        if key % 2:
            new[key] = 1
        elif rng.random() < 0.5:
            new.pop(key, None)
        else:
            new[key] = "changed"
    before, after = grow(nodes, old), grow(nodes, new)
    check_blocks(list(diff_trees(before, after, nodes)), old, new)
    check_blocks(list(diff_trees(after, before, nodes)), new, old)


@pytest.mark.parametrize("window", [8, 64])
def test_windows_neither_repeat_nor_omit_keys_at_their_bounds(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_diff, "_WINDOW", window)
    nodes = DictNodes()
    # Different keys, so leaves and inner nodes of the two trees end at different places.
    old = dict.fromkeys(range(0, 240_000, 2), 1)
    new = dict.fromkeys(range(0, 240_000, 3), 2)
    before, after = grow(nodes, old), grow(nodes, new)
    blocks = list(diff_trees(before, after, nodes))
    check_blocks(blocks, old, new)
    assert len({key for block in blocks for key in block.added.keys.tolist()}) == sum(len(b.added) for b in blocks)
    assert count_changes(before, after, nodes) == (40_000, 80_000, 40_000)
    few = {k: v for k, v in new.items() if k % 1000}
    check_blocks(list(diff_trees(after, grow(nodes, few), nodes)), new, few)


def test_equal_trees_are_not_read() -> None:
    nodes = DictNodes()
    root = grow(nodes, {i: i for i in range(10_000)})
    assert root is not None
    moved = replace(root, pack=b"p" * 32, offset=8, length=100)
    assert list(diff_trees(root, moved, nodes)) == []
    assert count_changes(root, moved, nodes) == (0, 0, 0)
    assert count_changes(None, root, nodes) == (10_000, 0, 0)
    assert count_changes(root, None, nodes) == (0, 10_000, 0)
    assert nodes.read == 0


def test_a_tree_that_grew_by_a_level_is_compared_below_its_root() -> None:
    nodes = DictNodes()
    old = {i: i for i in range(9_000)}
    new = {i: i for i in range(60_000)}
    before, after = grow(nodes, old), grow(nodes, new)
    assert before is not None
    assert after is not None
    assert after.level > before.level
    check_blocks(list(diff_trees(before, after, nodes)), old, new)
    nodes.read = 0
    leaves = sum(node.level == 0 for node in nodes.nodes.values())
    assert sum(len(block) for block in diff_trees(after, before, nodes)) == 51_000
    assert nodes.read <= 1.05 * leaves


class Flow(DictNodes):
    """Tells how many nodes were asked for at once."""

    most = 0

    def get_nodes(self, refs: Any) -> Any:
        self.most = max(self.most, len(refs))
        return super().get_nodes(refs)


def test_wholly_different_trees_stream_in_bounded_batches() -> None:
    nodes = Flow()
    n = 300_000
    before = grow(nodes, dict.fromkeys(range(n), 1))
    after = grow(nodes, dict.fromkeys(range(n), 2))
    blocks = 0
    modified = 0
    for block in diff_trees(before, after, nodes):
        blocks += 1
        modified += len(block.new)
        assert len(block.new) < 70_000
        assert len(block.new.table) <= len(block.new)
    assert modified == n
    assert blocks >= 5
    assert nodes.most <= 256


@pytest.fixture(scope="module")
def million() -> tuple[DictNodes, NodeRef]:
    n = 1_000_000
    nodes = DictNodes()
    numbers = np.arange(n)
    entries = Entries(
        encode_keys(numbers),
        np.random.default_rng(0).integers(0, 256, (n, 20), np.uint8),
        np.empty((n, 0), np.uint64),
        np.zeros(n, np.uint32),
        numbers.astype(np.uint64),
        entries_of({0: 0}).table,
    )
    root = build(entries, nodes)
    assert root is not None
    return nodes, root


@pytest.mark.parametrize("kind", ["modified", "added", "removed"])
def test_node_reads_grow_with_changes_and_height_only(million: tuple[DictNodes, NodeRef], kind: str) -> None:
    nodes, root = million
    picked = random.Random(3).sample(range(1_000_000), 100)
    if kind == "removed":
        changed = edit(root, nodes, {}, picked)
    else:
        changed = edit(root, nodes, {(f"{k}" if kind == "added" else k): "x" for k in picked})
    nodes.read = 0
    (block,) = diff_trees(root, changed, nodes)
    assert len(getattr(block, "new" if kind == "modified" else kind)) == 100
    assert len(block) == 100
    # Both sides; where keys come and go, a boundary may move and touch a neighbour.
    assert nodes.read <= 2 * 100 * (root.level + 1) * (1 if kind == "modified" else 1.5)
    nodes.read = 0
    one = edit(root, nodes, {500_000: "y"})
    nodes.read = 0
    assert count_changes(root, one, nodes) == (0, 0, 1)
    assert nodes.read == 2 * (root.level + 1)


# ---- catalogs ------------------------------------------------------------------------------------------------------------

FLOATS = ColumnSchema("ndarray", "<f4", (3,))
INTS = ColumnSchema("ndarray", "<i8", (3,))
ZARR: dict[str, Any] = {"zarr_format": 3, "node_type": "array", "shape": [10], "attributes": {"unit": "m"}}


def column(nodes: DictNodes, values: Model, schema: ColumnSchema = FLOATS, **attrs: Any) -> ColumnNode:
    return ColumnNode(schema, grow(nodes, values), attrs)


def test_a_node_that_is_renamed_and_modified_keeps_both_facts() -> None:
    nodes = DictNodes()
    old = Catalog({"a": column(nodes, {1: 1}, unit="m"), "same": column(nodes, {5: 5})})
    new = Catalog({"b": column(nodes, {1: 2}, unit="km", note=None), "same": column(nodes, {5: 5})})
    (found,) = diff_catalogs(old, new, {"a": "b"}).nodes
    assert (found.name, found.old_name, found.state) == ("b", "a", "renamed")
    assert found.modified
    assert found.data_changed
    assert found.attrs == {"unit": ("m", "km"), "note": (MISSING, None)}
    assert found.old_root == old.nodes["a"].root
    assert found.new_root == new.nodes["b"].root
    (plain,) = diff_catalogs(old, Catalog({"b": old.nodes["a"], "same": old.nodes["same"]}), {"a": "b"}).nodes
    assert plain.state == "renamed"
    assert not plain.modified
    assert [(d.name, d.state) for d in diff_catalogs(old, new, {}).nodes] == [("a", "removed"), ("b", "added")]


def test_swapped_names_are_two_renames_and_a_rename_over_a_node_removes_that() -> None:
    nodes = DictNodes()
    a, b = column(nodes, {1: 1}), column(nodes, {2: 2})
    old = Catalog({"a": a, "b": b})
    swap = diff_catalogs(old, Catalog({"a": b, "b": a}), {"a": "b", "b": "a"})
    assert [(d.old_name, d.name, d.state, d.modified) for d in swap.nodes] == [
        ("b", "a", "renamed", False),
        ("a", "b", "renamed", False),
    ]
    over = diff_catalogs(old, Catalog({"b": a}), {"a": "b"})
    assert [(d.old_name, d.name, d.state) for d in over.nodes] == [("b", "b", "removed"), ("a", "b", "renamed")]
    stale = diff_catalogs(old, Catalog({"a": a}), {"b": "gone", "never": "a"})
    assert [(d.name, d.state) for d in stale.nodes] == [("b", "removed")]


def test_schemas_metadata_attributes_and_types_are_told_apart() -> None:
    nodes = DictNodes()
    old = Catalog(
        {"c": column(nodes, {}), "x": ArrayNode(ZARR), "g": GroupNode({"attributes": {}}), "t": column(nodes, {})}
    )
    larger = {**ZARR, "shape": [20], "attributes": {"unit": "cm"}}
    new = Catalog(
        {"c": column(nodes, {}, INTS), "x": ArrayNode(larger), "g": GroupNode({}), "t": GroupNode({})}, {"title": "T"}
    )
    diff = diff_catalogs(old, new, {})
    found = {(d.name, d.state): d for d in diff.nodes}
    assert list(found) == [("c", "modified"), ("g", "modified"), ("t", "removed"), ("t", "added"), ("x", "modified")]
    assert found["c", "modified"].schema == (FLOATS, INTS)
    x = found["x", "modified"]
    assert x.metadata is not None
    assert [m["shape"] for m in x.metadata] == [[10], [20]]
    assert all("attributes" not in m for m in x.metadata)
    assert x.attrs == {"unit": ("m", "cm")}
    assert found["g", "modified"].metadata is not None
    assert (found["t", "removed"].type, found["t", "added"].type) == ("column", "group")
    assert diff.attrs == {"title": (MISSING, "T")}
    assert not diff.is_empty


def test_direction_is_always_from_old_to_new() -> None:
    nodes = DictNodes()
    a = Catalog({"only a": column(nodes, {1: 1}), "c": column(nodes, {1: 1})})
    b = Catalog({"only b": column(nodes, {1: 1}), "c": column(nodes, {1: 1, 2: 2})})
    forth, back = diff_catalogs(a, b, {}), diff_catalogs(b, a, {})
    assert {d.name: d.state for d in forth.nodes} == {"only a": "removed", "only b": "added", "c": "modified"}
    assert {d.name: d.state for d in back.nodes} == {"only a": "added", "only b": "removed", "c": "modified"}
    c = next(d for d in forth.nodes if d.name == "c")
    assert count_changes(c.old_root, c.new_root, nodes) == (1, 0, 0)


json_values = st.sampled_from([0, 0.0, -0.0, 1, 1.0, True, False, None, "1", [1], [1.0], {"a": 1}, {"a": True}, {}])
attributes = st.dictionaries(st.sampled_from("xy"), json_values, max_size=2)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    nodes = DictNodes()
    listed: dict[str, CatalogNode] = {}
    for name in draw(st.sets(st.sampled_from(["a", "b", "c/d"]), max_size=3)):
        kind = draw(st.sampled_from(["column", "array", "group"]))
        attrs = draw(attributes)
        root = grow(nodes, draw(st.dictionaries(st.integers(0, 2), st.integers(0, 1), max_size=2)))
        if kind == "column":
            listed[name] = ColumnNode(draw(st.sampled_from([FLOATS, INTS])), root, attrs)
        else:
            metadata = {"attributes": attrs} if draw(st.booleans()) else {}
            listed[name] = ArrayNode({**metadata, "shape": [3]}, root) if kind == "array" else GroupNode(metadata)
    return Catalog(listed, draw(attributes))


@settings(max_examples=400, deadline=None)
@given(catalogs(), catalogs(), st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.sampled_from(["a", "b", "c/d"])))
def test_a_diff_is_empty_exactly_if_the_ids_are_equal(a: Catalog, b: Catalog, renames: dict[str, str]) -> None:
    assert diff_catalogs(a, b, renames).is_empty == (a.id == b.id)
    assert diff_catalogs(a, Catalog(dict(a.nodes), dict(a.attrs)), {}).is_empty


@settings(max_examples=200, deadline=None)
@given(catalogs(), catalogs(), st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.sampled_from(["a", "b", "c/d"])))
def test_a_catalog_diff_applied_to_the_old_catalog_gives_the_new_one(
    a: Catalog, b: Catalog, renames: dict[str, str]
) -> None:
    diff = diff_catalogs(a, b, renames)
    listed = dict(a.nodes)
    for found in diff.nodes:
        if found.old_name is not None:
            listed.pop(found.old_name, None)
    for found in diff.nodes:
        if found.new is not None:
            listed[found.name] = found.new
    attrs = dict(a.attrs)
    for key, (_, value) in diff.attrs.items():
        attrs.pop(key, None)
        if value is not MISSING:
            attrs[key] = value
    assert Catalog(listed, attrs).id == b.id
