"""Laws of merging, checked against plain dicts on random trees and catalogs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.records import tree_diff
from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode, ColumnSchema, GroupNode
from hangarlake.records.conflicts import RawConflict, Resolution
from hangarlake.records.diff import diff_catalogs
from hangarlake.records.entries import Entries
from hangarlake.records.keys import encode_keys
from hangarlake.records.merge import MergeResult, merge_catalogs
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import apply_edits, build, iter_leaves
from tests.records.trees import DictNodes, digest_of, entries_of, merge_trees

Model = dict[Any, Any]
NO_KEYS = np.empty(0, "S1")
MIRRORED = {"changed-removed": "removed-changed", "removed-changed": "changed-removed"}
OTHER = {Resolution.OURS: Resolution.THEIRS, Resolution.THEIRS: Resolution.OURS, Resolution.REMOVE: Resolution.REMOVE}


# ---- trees ---------------------------------------------------------------------------------------------------------------


def outcome(base: Model, ours: Model, theirs: Model) -> tuple[Model, dict[Any, str]]:
    """What a three-way merge of dicts gives, ours where there is a conflict; and the conflicts."""
    merged, conflicts = dict(ours), {}
    for key in {*base, *ours, *theirs}:
        b, o, t = (side.get(key) for side in (base, ours, theirs))
        if t in (o, b):
            continue
        if o == b:
            merged[key] = t
            if t is None:
                del merged[key]
        elif b is None:
            conflicts[key] = "added-both"
        else:
            conflicts[key] = "removed-changed" if o is None else "changed-removed" if t is None else "changed-both"
    return merged, conflicts


key = st.one_of(st.integers(0, 12), st.sampled_from(["a", "b"]))
sparse = st.dictionaries(key, st.integers(1, 3), max_size=12)


@settings(max_examples=150, deadline=None)
@given(sparse, sparse, sparse, st.sampled_from([0, 400, 3_000]), st.sampled_from([0, 2]))
def test_a_merge_of_trees_is_that_of_dicts(base: Model, ours: Model, theirs: Model, bulk: int, rank: int) -> None:
    nodes = DictNodes()
    beside = {i: i for i in range(100, 100 + bulk)}
    base, ours, theirs = ({**beside, **side} for side in (base, ours, theirs))
    roots = [build(entries_of(side, rank), nodes) for side in (base, ours, theirs)]
    merged, conflicts = outcome(base, ours, theirs)
    result = merge_trees(*roots, nodes, nodes)
    assert _id(result.root) == _id(build(entries_of(merged, rank), nodes))
    assert {c.key: c.kind for c in result.conflicts} == conflicts
    swapped = merge_trees(roots[0], roots[2], roots[1], nodes, nodes)
    assert {c.key: MIRRORED.get(c.kind, c.kind) for c in swapped.conflicts} == conflicts
    for decision in Resolution:
        one = merge_trees(*roots, nodes, nodes, lambda c, d=decision: d)
        two = merge_trees(roots[0], roots[2], roots[1], nodes, nodes, lambda c, d=OTHER[decision]: d)
        assert _id(one.root) == _id(two.root)
        resolved = dict(merged)
        for k in conflicts:
            value = {Resolution.OURS: ours, Resolution.THEIRS: theirs, Resolution.REMOVE: {}}[decision].get(k)
            resolved.pop(k, None)
            if value is not None:
                resolved[k] = value
        assert _id(one.root) == _id(build(entries_of(resolved, rank), nodes))


def _id(root: NodeRef | None) -> bytes | None:
    return root.id if root else None


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sizes", [(40, 15_000), (15_000, 40), (9_000, 9_000)])
def test_huge_and_small_changes_meet_in_any_order(
    seed: int, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_diff, "_WINDOW", 16)  # huge: more than one block
    rng = random.Random(seed)
    nodes = DictNodes()
    base = dict.fromkeys(range(0, 20000, 2), 1)
    sides = []
    for value, size in zip((2, 3), sizes, strict=True):
        start = rng.randrange(20_000)
        side = {**base, **dict.fromkeys(range(start, start + size), value)}
        for gone in rng.sample(range(0, 20_000, 2), 20):
            side.pop(gone, None)
        sides.append(side)
    merged, conflicts = outcome(base, *sides)
    roots = [build(entries_of(side), nodes) for side in (base, *sides)]
    ours = merge_trees(*roots, nodes, nodes, lambda c: Resolution.OURS)
    assert _id(ours.root) == _id(build(entries_of(merged), nodes))
    found = []
    merge_trees(*roots, nodes, nodes, lambda c: found.append((c.key, c.kind)))
    assert dict(found) == conflicts
    assert len(found) == len(conflicts)


@pytest.fixture(scope="module")
def million() -> tuple[DictNodes, NodeRef]:
    n = 1_000_000
    nodes = DictNodes()
    numbers = np.arange(n)
    digests = np.random.default_rng(0).integers(0, 256, (n, 20), np.uint8)
    table = entries_of({0: 0}).table
    shapes, rows = np.empty((n, 0), np.uint64), np.zeros(n, np.uint32)
    root = build(Entries(encode_keys(numbers), digests, shapes, rows, numbers.astype(np.uint64), table), nodes)
    assert root is not None
    return nodes, root


def test_node_reads_of_a_merge_grow_with_changes_and_height_only(million: tuple[DictNodes, NodeRef]) -> None:
    nodes, root = million
    rng = random.Random(3)
    sides = [
        apply_edits(root, entries_of(dict.fromkeys(rng.sample(range(1000000), 100), name)), NO_KEYS, nodes, nodes)
        for name in ("ours", "theirs")
    ]
    nodes.read = 0
    result = merge_trees(root, *sides, nodes, nodes)
    assert result.conflicts == []
    # Theirs' changes: a diff (both sides), a look-up in ours, and the edit of ours.
    assert nodes.read <= 5 * 100 * (root.level + 1)


def test_a_small_change_merges_with_a_huge_one_at_the_cost_of_the_small_one(million: tuple[DictNodes, NodeRef]) -> None:
    nodes, root = million
    small = apply_edits(root, entries_of({5: "x", 700_000: "y"}), NO_KEYS, nodes, nodes)
    other = DictNodes()
    whole = build(entries_of(dict.fromkeys(range(0, 2_000_000, 7), "new")), other)
    nodes.nodes.update(other.nodes)
    for sides in ((small, whole), (whole, small)):
        nodes.read = nodes.made = 0
        result = merge_trees(root, *sides, nodes, nodes, lambda c: Resolution.OURS)
        assert result.root is not None
        assert nodes.made <= 4 * (root.level + 1)
        assert nodes.read <= 1_000  # a few windows of each side; the huge one alone has thousands of leaves


# ---- catalogs ------------------------------------------------------------------------------------------------------------

SCHEMAS = [
    ColumnSchema("ndarray", "<f4", (3,)),
    ColumnSchema("ndarray", "<i8", (3,)),
    ColumnSchema("ndarray", "<f4", (3,), nested=True),
]
NAMES = ["a", "b", "g", "g/x", "g/y"]
Tree = dict[str, dict[str, Any]]  # name → what a node is; "origin" is its name in the base


def column_of(schema: int, data: Model | None = None) -> dict[str, Any]:
    return {"type": "column", "schema": schema, "data": data or {}, "attrs": {}, "origin": None}


fill = st.tuples(st.just("set"), st.sampled_from(["a", "b", "b", "g/x"]), st.integers(0, 3), st.integers(1, 3))
drop = st.tuples(st.just("delete"), st.sampled_from(["a", "b", "g/x"]), st.integers(0, 3), st.just(0))
step = st.one_of(
    fill,
    fill,
    fill,
    drop,
    drop,
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0), st.just(0)),
    st.tuples(st.just("column"), st.sampled_from(NAMES[:2] + NAMES[3:]), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("array"), st.sampled_from(NAMES), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("group"), st.just("g"), st.just(0), st.just(0)),
    st.tuples(st.just("rename"), st.sampled_from(NAMES[:2]), st.sampled_from([*NAMES[:2], "c", "d"]), st.just(0)),
    st.tuples(st.just("attr"), st.sampled_from(NAMES), st.sampled_from("uv"), st.integers(0, 2)),
    st.tuples(st.just("title"), st.just(""), st.sampled_from("uv"), st.integers(0, 2)),
)
few = st.lists(step, max_size=4)
many = st.lists(step, min_size=3, max_size=10)


def perform(tree: Tree, attrs: Model, steps: list[Any]) -> None:
    """Edit as a checkout would: groups are removed with what is below, and made for what needs them."""
    for verb, name, what, value in steps:
        node = tree.get(name)
        if verb == "set" and node and node["type"] != "group":
            node["data"][what] = value
        elif verb == "delete" and node and node["type"] != "group":
            node["data"].pop(what, None)
        elif verb == "remove" and node:
            for gone in [n for n in tree if n == name or n.startswith(name + "/")]:
                del tree[gone]
        elif verb in ("column", "array", "group"):
            above = tree.get(name.partition("/")[0]) if "/" in name else None
            if (above and above["type"] != "group") or (
                verb != "group" and any(n.startswith(name + "/") for n in tree)
            ):
                continue
            if verb == "column":
                tree[name] = column_of(what)
            elif verb == "array" and node is not None and node["type"] == "array":
                node["shape"] = what  # resized
            elif verb == "array":
                tree[name] = {"type": "array", "shape": what, "data": {}, "attrs": {}, "origin": None}
            elif node is None:
                tree[name] = {"type": "group", "data": {}, "attrs": {}, "origin": None}
            if verb == "array" and "/" in name and "g" not in tree:
                tree["g"] = {"type": "group", "data": {}, "attrs": {}, "origin": None}
        elif verb == "rename" and node and what not in tree:
            tree[what] = tree.pop(name)
        elif verb == "attr" and node:
            node["attrs"][what] = value
        elif verb == "title":
            attrs[what] = value


def copied(tree: Tree) -> Tree:
    return {
        n: {**node, "data": dict(node["data"]), "attrs": dict(node["attrs"]), "origin": n} for n, node in tree.items()
    }


def renames_of(tree: Tree) -> dict[str, str]:
    return {node["origin"]: name for name, node in tree.items() if node["origin"] not in (None, name)}


class World:
    def __init__(self) -> None:
        self.nodes = DictNodes()
        self.made_for: dict[bytes, Any] = {}  # value digest → what kind of node it was written for

    def catalog(self, tree: Tree, attrs: Model) -> Catalog:
        return Catalog({name: self.node(node) for name, node in tree.items()}, dict(attrs))

    def node(self, node: dict[str, Any]) -> CatalogNode:
        if node["type"] == "group":
            return GroupNode({"attributes": node["attrs"]} if node["attrs"] else {})
        mark = node["schema"] if node["type"] == "column" else "array"
        values = {k: (mark, v) for k, v in node["data"].items()}
        self.made_for.update({digest_of(v): mark for v in values.values()})
        entries = entries_of(values)
        if node["type"] == "column":
            return ColumnNode(SCHEMAS[mark], build(entries, self.nodes), node["attrs"])
        places = np.array(sorted(values), ">u4").reshape(-1, 1)
        keys = np.concatenate([np.full((len(places), 1), 0x30, np.uint8), places.view(np.uint8).reshape(-1, 4)], axis=1)
        grid = Entries(
            keys.view("S5").reshape(-1), *(getattr(entries, f) for f in ("digests", "shapes", "rows", "index", "table"))
        )
        attrs = {"attributes": node["attrs"]} if node["attrs"] else {}
        return ArrayNode({"shape": [node["shape"]], **attrs}, build(grid, self.nodes))

    def merge(self, base: Catalog, ours: Any, theirs: Any, decide: Any = None) -> MergeResult:
        return merge_catalogs(
            base,
            ours[0],
            theirs[0],
            renames_ours=ours[1],
            renames_theirs=theirs[1],
            source=self.nodes,
            sink=self.nodes,
            decide=decide,
        )

    def check_valid(self, catalog: Catalog, sides: tuple[Catalog, Catalog]) -> None:
        for name, node in catalog.nodes.items():
            expected = SCHEMAS.index(node.schema) if isinstance(node, ColumnNode) else "array"
            for leaf in iter_leaves(node.root, self.nodes):
                assert {self.made_for[d.tobytes()] for d in leaf.entries.digests} == {expected}
            above = catalog.nodes.get(name.partition("/")[0]) if "/" in name else None
            if above is not None and not isinstance(above, GroupNode):
                assert any(name in side.nodes for side in sides)
                assert isinstance(above, ColumnNode)
                assert isinstance(node, ColumnNode)


def told(result: MergeResult, *, mirrored: bool = False) -> list[Any]:
    def side(s: Any) -> Any:
        return s and (s.digest, s.node and s.node.logical(), s.name, repr(s.value))

    def line(c: RawConflict) -> Any:
        sides = [side(c.theirs), side(c.ours)] if mirrored else [side(c.ours), side(c.theirs)]
        return repr((MIRRORED.get(c.kind, c.kind) if mirrored else c.kind, c.key, side(c.base), *sides))

    return sorted(map(line, result.conflicts))


@st.composite
def histories(draw: st.DrawFn) -> tuple[World, Catalog, tuple[Catalog, dict[str, str]], tuple[Catalog, dict[str, str]]]:
    world = World()
    tree: Tree = {"a": column_of(0, {0: 1, 1: 1}), "b": column_of(1, {0: 1})}
    perform(tree, {}, [("array", "g/x", 2, 0), ("set", "g/x", 0, 1), ("set", "g/x", 1, 1)])
    attrs: Model = {}
    perform(tree, attrs, draw(few))
    base = world.catalog(tree, attrs)
    sides = []
    for _ in range(2):
        edited, noted = copied(tree), dict(attrs)
        perform(edited, noted, draw(many))
        sides.append((world.catalog(edited, noted), renames_of(edited)))
    return world, base, sides[0], sides[1]


@settings(max_examples=400, deadline=None)
@given(histories())
def test_laws_of_merging_catalogs(history: Any) -> None:
    world, base, ours, theirs = history
    unchanged: tuple[Catalog, dict[str, str]] = (base, {})
    for side in (ours, theirs):
        for result in (
            world.merge(base, side, unchanged),
            world.merge(base, unchanged, side),
            world.merge(base, side, side),
        ):
            assert not result.conflicts
            assert result.catalog.id == side[0].id
    one, two = world.merge(base, ours, theirs), world.merge(base, theirs, ours)
    world.check_valid(one.catalog, (ours[0], theirs[0]))
    assert bool(one.conflicts) == bool(two.conflicts)
    if not one.conflicts:
        assert one.catalog.id == two.catalog.id
        assert one.renames == two.renames[::-1]
        # Merging again changes nothing: everything of theirs is in it.
        again = world.merge(theirs[0], (one.catalog, one.renames[1]), (theirs[0], {}))
        assert again.catalog.id == one.catalog.id
        # What is reported as renamed is there under both names.
        for side, renames in zip((ours, theirs), one.renames, strict=True):
            assert all(old in side[0].nodes and new in one.catalog.nodes for old, new in renames.items())
            assert all(
                d.state != "removed" or d.name not in renames
                for d in diff_catalogs(side[0], one.catalog, renames).nodes
            )


@settings(max_examples=400, deadline=None)
@given(histories(), st.sampled_from(list(Resolution)))
def test_resolving_everything_by_one_rule_leaves_no_conflict_and_mirrors(history: Any, rule: Resolution) -> None:
    world, base, ours, theirs = history
    one = world.merge(base, ours, theirs, lambda conflict: rule)
    two = world.merge(base, theirs, ours, lambda conflict: OTHER[rule])
    assert not one.conflicts
    assert one.catalog.id == two.catalog.id
    world.check_valid(one.catalog, (ours[0], theirs[0]))


@settings(max_examples=200, deadline=None)
@given(histories())
def test_conflicts_mirror_when_sides_are_swapped(history: Any) -> None:
    world, base, ours, theirs = history
    one, two = world.merge(base, ours, theirs), world.merge(base, theirs, ours)
    if not any(c.kind in ("rename", "layout") for c in (*one.conflicts, *two.conflicts)):
        assert told(one) == told(two, mirrored=True)


@settings(max_examples=200, deadline=None)
@given(sparse, sparse, sparse)
def test_unrelated_histories_merge_as_additions(base: Model, ours: Model, theirs: Model) -> None:
    world = World()
    sides = [(world.catalog({"c": column_of(0, {str(k): v for k, v in s.items()})}, {}), {}) for s in (ours, theirs)]
    result = world.merge(Catalog(), *sides)
    text: list[Mapping[str, Any]] = [{str(k): v for k, v in s.items()} for s in (ours, theirs)]
    merged, conflicts = outcome({}, dict(text[0]), dict(text[1]))
    assert {c.key: c.kind for c in result.conflicts} == conflicts
    assert result.catalog.id == world.catalog({"c": column_of(0, merged)}, {}).id
