from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode, ColumnSchema, GroupNode
from hangarlake.records.conflicts import Assign, Decide, RawConflict, RawSide, Resolution
from hangarlake.records.entries import Entries
from hangarlake.records.keys import encode_grid, encode_keys
from hangarlake.records.merge import MergeResult, merge_catalogs
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import apply_edits, build, find, iter_leaves
from tests.records.trees import DictNodes, digest_of, entries_of

Model = Mapping[object, object]
OURS, THEIRS, REMOVE = Resolution.OURS, Resolution.THEIRS, Resolution.REMOVE

FLOATS = ColumnSchema("ndarray", "<f4", (3,))
INTS = ColumnSchema("ndarray", "<i8", (3,))
NESTED = ColumnSchema("ndarray", "<f4", (3,), nested=True)
TEXT = ColumnSchema.scalar_run("str")
NO_KEYS = np.empty(0, "S1")


class Bench:
    """Catalogs over one store of nodes, and merges of them."""

    def __init__(self) -> None:
        self.nodes = DictNodes()

    def tree(self, values: Model, rank: int = 0) -> NodeRef | None:
        return build(entries_of(values, rank), self.nodes)

    def column(self, values: Model, schema: ColumnSchema = FLOATS, **attrs: Any) -> ColumnNode:
        return ColumnNode(schema, self.tree(values, schema.rank), attrs)

    def chunks(self, values: Mapping[tuple[int, ...], object]) -> NodeRef | None:
        places = sorted(values)
        plain = entries_of({i: values[place] for i, place in enumerate(places)})
        keys = encode_grid(np.array(places, np.uint32)) if places else NO_KEYS
        return build(replace(plain, keys=keys), self.nodes)

    def array(
        self, values: Mapping[tuple[int, ...], object], shape: tuple[int, ...] = (20, 10), **more: Any
    ) -> ArrayNode:
        grid = {"name": "regular", "configuration": {"chunk_shape": [10] * len(shape)}}
        metadata = {"zarr_format": 3, "node_type": "array", "shape": list(shape), "chunk_grid": grid, **more}
        return ArrayNode(metadata, self.chunks(values))

    def merge(
        self,
        base: Catalog,
        ours: Catalog,
        theirs: Catalog,
        decide: Decide | Resolution | None = None,
        *,
        renamed: Mapping[str, str] | None = None,
        renamed_theirs: Mapping[str, str] | None = None,
        **more: Any,
    ) -> MergeResult:
        answer = (lambda conflict: decide) if isinstance(decide, Resolution) else decide
        return merge_catalogs(
            base,
            ours,
            theirs,
            renames_ours=renamed or {},
            renames_theirs=renamed_theirs or {},
            source=self.nodes,
            sink=self.nodes,
            decide=answer,
            **more,
        )

    def digests(self, root: NodeRef | None) -> set[bytes]:
        return {d.tobytes() for leaf in iter_leaves(root, self.nodes) for d in leaf.entries.digests}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def told(result: MergeResult) -> list[tuple[str, object, str]]:
    return [(c.node, c.key, c.kind) for c in result.conflicts]


def of(**nodes: CatalogNode) -> Catalog:
    return Catalog(nodes)


# ---- what went wrong elsewhere ------------------------------------------------------------------------------------------


def test_a_column_removed_on_one_side_and_filled_on_the_other_is_a_conflict_in_both_directions(bench: Bench) -> None:
    base = of(c=bench.column({1: 1}), d=bench.column({}))
    filled = of(c=bench.column({1: 1, 2: 2}), d=base.nodes["d"])
    gone = of(d=base.nodes["d"])
    for ours, theirs, keep in ((filled, gone, OURS), (gone, filled, THEIRS)):
        result = bench.merge(base, ours, theirs)
        assert told(result) == [("c", None, "node-removed")]
        (conflict,) = result.conflicts
        assert (conflict.ours is None) == (ours is gone)
        assert (conflict.theirs is None) == (theirs is gone)
        assert conflict.base is not None
        assert result.catalog.id == ours.id
        assert bench.merge(base, ours, theirs, keep).catalog.id == filled.id
        drop = THEIRS if keep is OURS else OURS
        for decision in (drop, REMOVE):
            assert bench.merge(base, ours, theirs, decision).catalog.id == gone.id


def test_a_column_removed_on_one_side_and_left_alone_on_the_other_is_removed(bench: Bench) -> None:
    base = of(c=bench.column({1: 1}))
    recompressed = of(c=replace(base.nodes["c"], encoding={"compressor": "gzip"}))
    assert bench.merge(base, recompressed, Catalog()).catalog.id == Catalog().id
    assert bench.merge(base, Catalog(), recompressed).catalog.id == Catalog().id


def test_a_column_retyped_on_one_side_never_takes_samples_of_the_old_type(bench: Bench) -> None:
    base = of(c=bench.column({1: 1}))
    filled = of(c=bench.column({1: 1, 2: 2}))
    for schema, kind in ((INTS, "schema"), (TEXT, "layout"), (NESTED, "layout")):
        retyped = of(c=bench.column({1: "new"}, schema))
        for ours, theirs in ((filled, retyped), (retyped, filled)):
            result = bench.merge(base, ours, theirs)
            assert told(result) == [("c", None, kind)]
            assert bench.merge(base, ours, theirs, OURS).catalog.id == ours.id
            assert bench.merge(base, ours, theirs, THEIRS).catalog.id == theirs.id
            assert bench.merge(base, ours, theirs, REMOVE).catalog.id == Catalog().id
        described = result.conflicts[0]
        assert described.ours is not None
        assert described.ours.schema == schema
        # Nobody else touched the data: the new type is taken, and attributes still merge.
        noted = of(c=replace(base.nodes["c"], attrs={"note": "n"}))
        for ours, theirs in ((noted, retyped), (retyped, noted)):
            merged = bench.merge(base, ours, theirs)
            assert not merged.conflicts
            assert merged.catalog.id == of(c=replace(retyped.nodes["c"], attrs={"note": "n"})).id


def test_both_sides_retyping_alike_merge_by_key_and_differently_conflict(bench: Bench) -> None:
    base = of(c=bench.column({1: 1, 9: 9}))
    a, b = of(c=bench.column({1: "i", 2: 2}, INTS)), of(c=bench.column({1: "i", 3: 3}, INTS))
    assert bench.merge(base, a, b).catalog.id == of(c=bench.column({1: "i", 2: 2, 3: 3}, INTS)).id
    without = of(c=bench.column({3: 3}, INTS))  # what the old type had under 1 is no base for the new one
    assert not bench.merge(base, a, without).conflicts
    assert bench.merge(base, a, without).catalog.id == of(c=bench.column({1: "i", 2: 2, 3: 3}, INTS)).id
    assert told(bench.merge(base, a, of(c=bench.column({1: 1}, TEXT)))) == [("c", None, "layout")]
    assert told(bench.merge(base, a, of(c=bench.column({}, replace(INTS, dtype="<i2"))))) == [("c", None, "schema")]


def test_one_name_added_with_two_layouts_is_a_conflict_and_with_one_merges_by_key(bench: Bench) -> None:
    mine = of(c=bench.column({1: 1, 2: 2}, FLOATS, unit="m"))
    cases: list[tuple[CatalogNode, str]] = [
        (bench.column({1: 1}, NESTED), "layout"),
        (bench.column({1: 1}, TEXT), "layout"),
        (bench.column({1: 1}, INTS), "schema"),
        (bench.array({}), "layout"),
        (GroupNode({}), "layout"),
    ]
    for node, kind in cases:
        assert told(bench.merge(Catalog(), mine, of(c=node))) == [("c", None, kind)]
        assert bench.merge(Catalog(), mine, of(c=node), THEIRS).catalog.id == of(c=node).id
    same = of(c=bench.column({2: 0, 3: 3}, FLOATS, unit="m", by="them"))
    result = bench.merge(Catalog(), mine, same)
    assert told(result) == [("c", 2, "added-both")]
    assert result.conflicts[0].base is None
    assert result.catalog.id == of(c=bench.column({1: 1, 2: 2, 3: 3}, FLOATS, unit="m", by="them")).id


def test_a_value_written_deleted_merged_and_written_again_has_its_bytes(bench: Bench) -> None:
    base = of(c=bench.column({1: 1}))
    theirs = of(c=bench.column({1: 1, 5: 5}))
    merged = bench.merge(base, base, theirs).catalog
    merged = bench.merge(
        base, of(c=bench.column({1: 1, 7: 7})), merged
    ).catalog  # 7 was written and deleted, and comes again
    root = apply_edits(merged.nodes["c"].root, Entries.empty(0), encode_keys([7]), bench.nodes, bench.nodes)
    root = apply_edits(root, entries_of({7: 7}), NO_KEYS, bench.nodes, bench.nodes)
    entry = find(root, encode_keys([7]), bench.nodes).entries()
    assert entry.digests.tobytes() == digest_of(7)
    assert entry.table.digests[entry.rows].tobytes() == digest_of(7)


def test_encodings_never_conflict_and_ours_wins(bench: Bench) -> None:
    plain = bench.column({1: 1})
    zstd, gzip = replace(plain, encoding={"compressor": "zstd"}), replace(plain, encoding={"compressor": "gzip"})
    changed = bench.column({1: 1, 2: 2})
    for ours, theirs, expected in (
        (zstd, gzip, zstd),
        (plain, gzip, gzip),
        (zstd, plain, zstd),
        (replace(changed, encoding=zstd.encoding), gzip, zstd),
        (zstd, replace(changed, encoding=gzip.encoding), zstd),
        (plain, replace(changed, encoding=gzip.encoding), gzip),
    ):
        result = bench.merge(of(c=plain), of(c=ours), of(c=theirs))
        assert not result.conflicts
        node = result.catalog.nodes["c"]
        assert isinstance(node, ColumnNode)
        assert node.encoding == expected.encoding


# ---- names ---------------------------------------------------------------------------------------------------------------


def test_edits_follow_a_rename_and_renames_are_reported_for_both_parents(bench: Bench) -> None:
    base = of(a=bench.column({1: 1}))
    renamed, edited = of(b=base.nodes["a"]), of(a=bench.column({1: 1, 2: 2}))
    wanted = of(b=edited.nodes["a"])
    result = bench.merge(base, renamed, edited, renamed={"a": "b"})
    assert (result.catalog.id, result.conflicts, result.renames) == (wanted.id, (), ({}, {"a": "b"}))
    result = bench.merge(base, edited, renamed, renamed_theirs={"a": "b"})
    assert (result.catalog.id, result.conflicts, result.renames) == (wanted.id, (), ({"a": "b"}, {}))
    both = bench.merge(base, renamed, of(b=edited.nodes["a"]), renamed={"a": "b"}, renamed_theirs={"a": "b"})
    assert (both.catalog.id, both.conflicts, both.renames) == (wanted.id, (), ({}, {}))


def test_a_node_renamed_to_two_names_is_a_conflict_of_names_only(bench: Bench) -> None:
    base = of(a=bench.column({1: 1, 2: 2}))
    ours, theirs = of(b=bench.column({1: 5, 2: 2})), of(c=bench.column({1: 1, 2: 6}))
    names: dict[str, Any] = {"renamed": {"a": "b"}, "renamed_theirs": {"a": "c"}}
    both = bench.column({1: 5, 2: 6})
    result = bench.merge(base, ours, theirs, **names)
    (conflict,) = result.conflicts
    assert (conflict.node, conflict.kind) == ("b", "rename")
    assert [side and side.name for side in (conflict.base, conflict.ours, conflict.theirs)] == ["a", "b", "c"]
    mine = bench.merge(base, ours, theirs, OURS, **names)
    assert (mine.catalog.id, mine.renames) == (of(b=both).id, ({}, {"c": "b"}))
    other = bench.merge(base, ours, theirs, THEIRS, **names)
    assert (other.catalog.id, other.renames) == (of(c=both).id, ({"b": "c"}, {}))
    assert bench.merge(base, ours, theirs, REMOVE, **names).catalog.id == Catalog().id


def test_removed_on_one_side_and_renamed_on_the_other_is_a_conflict(bench: Bench) -> None:
    base = of(a=bench.column({1: 1}))
    renamed = of(b=base.nodes["a"])
    assert told(bench.merge(base, renamed, Catalog(), renamed={"a": "b"})) == [("b", None, "node-removed")]
    assert told(bench.merge(base, Catalog(), renamed, renamed_theirs={"a": "b"})) == [("b", None, "node-removed")]


def test_two_nodes_that_end_under_one_name_are_a_conflict(bench: Bench) -> None:
    base = of(a=bench.column({1: 1}), b=bench.column({2: 2}))
    a, b = base.nodes["a"], base.nodes["b"]
    # A rename against an addition.
    moved, added = of(x=a, b=b), of(a=a, b=b, x=bench.column({3: 3}))
    assert told(bench.merge(base, moved, added, renamed={"a": "x"})) == [("x", None, "rename")]
    assert bench.merge(base, moved, added, OURS, renamed={"a": "x"}).catalog.id == moved.id
    # Theirs takes the name; ours' node goes back to the name that it has there.
    assert bench.merge(base, moved, added, THEIRS, renamed={"a": "x"}).catalog.id == added.id
    assert bench.merge(base, moved, added, REMOVE, renamed={"a": "x"}).catalog.id == of(b=b).id
    # A rename against a rename.
    other = of(a=a, x=b)
    names: dict[str, Any] = {"renamed": {"a": "x"}, "renamed_theirs": {"b": "x"}}
    assert told(bench.merge(base, moved, other, **names)) == [("x", None, "rename")]
    assert bench.merge(base, moved, other, OURS, **names).catalog.id == moved.id
    assert bench.merge(base, moved, other, THEIRS, **names).catalog.id == other.id


def test_swapped_names_merge_with_edits_of_both_nodes(bench: Bench) -> None:
    base = of(a=bench.column({1: 1}), b=bench.column({2: 2}))
    swapped = of(a=base.nodes["b"], b=base.nodes["a"])
    edited = of(a=bench.column({1: 10}), b=bench.column({2: 20}))
    result = bench.merge(base, swapped, edited, renamed={"a": "b", "b": "a"})
    assert not result.conflicts
    assert result.catalog.id == of(a=edited.nodes["b"], b=edited.nodes["a"]).id
    assert result.renames == ({}, {"a": "b", "b": "a"})


# ---- keys and attributes ---------------------------------------------------------------------------------------------------


def test_each_kind_of_key_conflict_tells_all_three_sides(bench: Bench) -> None:
    schema = ColumnSchema("ndarray", "<f4", (None,), variable_shape=True)
    base = of(c=bench.column({"x": 1, "y": 1, "z": 1, "k": 0}, schema))
    ours = of(c=bench.column({"x": 22, "y": 2, "k": 0, "n": 1}, schema))
    theirs = of(c=bench.column({"x": 333, "z": 3, "k": 0, "n": 2}, schema))
    result = bench.merge(base, ours, theirs)
    assert told(result) == [
        ("c", "n", "added-both"),
        ("c", "x", "changed-both"),
        ("c", "y", "changed-removed"),
        ("c", "z", "removed-changed"),
    ]
    assert result.catalog.id == ours.id
    by_key = {c.key: c for c in result.conflicts}

    def facts(side: RawSide | None) -> object:
        if side is None:
            return None
        assert side.entry is not None
        assert side.schema == schema
        return bytes.fromhex(side.digest or ""), side.shape, side.entry.digests.tobytes()

    for key, values in {"n": (None, 1, 2), "x": (1, 22, 333), "y": (1, 2, None), "z": (1, None, 3)}.items():
        conflict = by_key[key]
        expected = [v and (digest_of(v), (len(repr(v)),), digest_of(v)) for v in values]
        assert [facts(side) for side in (conflict.base, conflict.ours, conflict.theirs)] == expected
    assert bench.merge(base, ours, theirs, THEIRS).catalog.id == theirs.id
    assert bench.merge(base, ours, theirs, REMOVE).catalog.id == of(c=bench.column({"k": 0}, schema)).id


def test_a_value_of_its_own_is_put_on_record_and_ours_stands_meanwhile(bench: Bench) -> None:
    base, ours, theirs = (of(c=bench.column({("s", 1): v, 5: 5}, NESTED)) for v in (1, 2, 3))
    result = bench.merge(base, ours, theirs, lambda conflict: Assign("mean"))
    assert result.assignments == (("c", ("s", 1), "mean"),)
    assert (result.conflicts, result.catalog.id) == ((), ours.id)
    gone = bench.merge(of(c=bench.column({1: 1})), Catalog(), of(c=bench.column({1: 2})))
    with pytest.raises(ValueError, match=r"'c' \(node-removed\)"):
        bench.merge(of(c=bench.column({1: 1})), Catalog(), of(c=bench.column({1: 2})), lambda conflict: Assign(1))
    assert str(gone.conflicts[0]) == "'c' (node-removed)"
    with pytest.raises(TypeError, match="answer with"):
        bench.merge(base, ours, theirs, lambda conflict: "ours")


def test_attributes_merge_key_by_key_wherever_they_are(bench: Bench) -> None:
    def everywhere(attrs: dict[str, Any]) -> Catalog:
        nodes: dict[str, CatalogNode] = {
            "c": replace(bench.column({}), attrs=attrs),
            "x": bench.array({}, attributes=attrs),
            "g": GroupNode({"attributes": attrs}),
        }
        return Catalog(nodes, attrs)

    base = everywhere({"kept": 1, "gone": 1, "edit": 1, "type": 1})
    ours = everywhere({"kept": 1, "edit": 2, "mine": None, "type": 1.0})
    theirs = everywhere({"kept": 1, "gone": 1, "edit": 3, "new": [1], "type": True})
    result = bench.merge(base, ours, theirs)
    assert told(result) == [(n, k, "attribute") for n in ("", "c", "g", "x") for k in ("edit", "type")]
    conflict = result.conflicts[0]
    assert [s and s.value for s in (conflict.base, conflict.ours, conflict.theirs)] == [1, 2, 3]
    expected = {"kept": 1, "mine": None, "new": [1]}
    for decide, more in (
        (lambda c: OURS, {"edit": 2, "type": 1.0}),
        (lambda c: THEIRS, {"edit": 3, "type": True}),
        (lambda c: REMOVE, {}),
        (lambda c: Assign({"of": "mine"}), {"edit": {"of": "mine"}, "type": {"of": "mine"}}),
    ):
        merged = bench.merge(base, ours, theirs, decide)
        assert merged.catalog.id == everywhere({**expected, **more}).id
        assert not merged.assignments
    removed = bench.merge(base, everywhere({}), everywhere({"kept": 2}), lambda c: None)
    assert removed.conflicts[0].ours is None
    assert removed.conflicts[0].theirs is not None
    assert removed.conflicts[0].theirs.value == 2


# ---- arrays and groups -----------------------------------------------------------------------------------------------------


def test_arrays_merge_by_chunk(bench: Bench) -> None:
    base = of(x=bench.array({(0, 0): 0, (1, 0): 0}))
    ours = of(x=bench.array({(0, 0): 1, (1, 0): 0}))
    theirs = of(x=bench.array({(0, 0): 0, (1, 0): 2}))
    assert bench.merge(base, ours, theirs).catalog.id == of(x=bench.array({(0, 0): 1, (1, 0): 2})).id
    clash = of(x=bench.array({(0, 0): 3}))
    result = bench.merge(base, ours, clash)
    assert told(result) == [("x", (0, 0), "chunk")]
    assert bench.merge(base, ours, clash, REMOVE).catalog.id == of(x=bench.array({})).id
    scalar = [of(s=bench.array({(): v}, ())) for v in (0, 1, 2)]
    assert told(bench.merge(*scalar)) == [("s", (), "chunk")]


def test_two_appends_are_one_conflict_whether_equally_long_or_not(bench: Bench) -> None:
    old = {(0, 0): 0, (1, 0): 0}
    base = of(x=bench.array(old))
    ours = of(x=bench.array({**old, (2, 0): "a"}, (30, 10)))
    for theirs in (
        of(x=bench.array({**old, (2, 0): "b"}, (30, 10))),
        of(x=bench.array({**old, (2, 0): "b", (3, 0): "c"}, (40, 10))),
    ):
        result = bench.merge(base, ours, theirs)
        assert told(result) == [("x", None, "append")]
        assert bench.merge(base, ours, theirs, THEIRS).catalog.id == theirs.id
    # Both enlarged it alike and filled different places: no conflict. The same place below the old end: one of chunks.
    beside = of(x=bench.array({**old, (3, 0): "b"}, (30, 10)))
    assert not bench.merge(base, ours, beside).conflicts
    inside = [of(x=bench.array({**old, (0, 0): v}, (30, 10))) for v in (1, 2)]
    assert told(bench.merge(base, *inside)) == [("x", (0, 0), "chunk")]
    assert told(bench.merge(base, ours, of(x=bench.array(old, (20, 30))))) == [("x", None, "array-metadata")]


def test_chunks_never_end_up_below_metadata_that_they_were_not_written_for(bench: Bench) -> None:
    base = of(x=bench.array({(0, 0): 0}))
    written = of(x=bench.array({(0, 0): 1}))
    for metadata in ({"codecs": ["other"]}, {"data_type": "int8"}):
        changed = of(x=bench.array({(0, 0): 0}, **metadata))
        for ours, theirs in ((changed, written), (written, changed)):
            assert told(bench.merge(base, ours, theirs)) == [("x", None, "array-metadata")]
    shrunk = of(x=bench.array({(0, 0): 0}, (10, 10)))
    assert told(bench.merge(base, shrunk, of(x=bench.array({(0, 0): 0, (1, 0): 5})))) == [("x", None, "array-metadata")]
    grown = of(x=bench.array({(0, 0): 0}, (50, 10), dimension_names=["t", "x"]))
    merged = bench.merge(base, grown, written)
    assert merged.catalog.id == of(x=bench.array({(0, 0): 1}, (50, 10), dimension_names=["t", "x"])).id
    assert not bench.merge(base, shrunk, of(x=bench.array({(0, 0): 0}, attributes={"a": 1}))).conflicts


def test_the_hook_for_arrays_is_asked_first_and_only_where_both_sides_changed(bench: Bench) -> None:
    base, ours, theirs = (of(x=bench.array({(0, 0): v})) for v in (0, 1, 2))
    both = bench.array({(0, 0): "both"})
    asked: list[str] = []

    def hook(answer: Any) -> Callable[..., Any]:
        def merger(name: str, *sides: ArrayNode) -> Any:
            asked.append(name)
            assert [side.root for side in sides] == [c.nodes["x"].root for c in (base, ours, theirs)]
            return answer

        return merger

    assert bench.merge(base, ours, theirs, array_merger=hook(both)).catalog.id == of(x=both).id
    own = RawConflict("x", (0, 0), "chunk", None, None, None)
    assert bench.merge(base, ours, theirs, array_merger=hook([own])).conflicts == (own,)
    assert told(bench.merge(base, ours, theirs, array_merger=hook(None))) == [("x", (0, 0), "chunk")]
    assert asked == ["x"] * 3
    bench.merge(base, base, theirs, array_merger=hook(both))
    assert asked == ["x"] * 3


def test_nothing_ends_up_below_what_cannot_hold_it(bench: Bench) -> None:
    base = Catalog({"g": GroupNode({})})
    below = Catalog({"g": GroupNode({}), "g/new": bench.array({(0, 0): 1})})
    others = {
        "removed": Catalog(),
        "array": Catalog({"g": bench.array({})}),
        "column": Catalog({"g": bench.column({1: 1})}),
    }
    for other in others.values():
        for ours, theirs, keep, drop in ((below, other, OURS, THEIRS), (other, below, THEIRS, OURS)):
            assert told(bench.merge(base, ours, theirs)) == [("g/new", None, "layout")]
            assert bench.merge(base, ours, theirs, keep).catalog.id == below.id
            assert bench.merge(base, ours, theirs, drop).catalog.id == other.id
            assert bench.merge(base, ours, theirs, REMOVE).catalog.id == other.id
    # An array that was moved to where the group was goes back, if the group is wanted.
    stands = Catalog({"g": GroupNode({}), "x": bench.array({(0, 0): 5})})
    moved = Catalog({"g": stands.nodes["x"]})
    filled = Catalog({**stands.nodes, "g/new": below.nodes["g/new"]})
    taken = bench.merge(stands, moved, filled, THEIRS, renamed={"x": "g"})
    assert (taken.catalog.id, taken.renames) == (filled.id, ({"g": "x"}, {}))
    assert bench.merge(stands, moved, filled, OURS, renamed={"x": "g"}).catalog.id == moved.id
    # Columns need no groups; a column and another below its name are nothing new either.
    beside = Catalog({"g": GroupNode({}), "g/c": bench.column({1: 1})})
    assert told(bench.merge(base, Catalog(), beside)) == []
    assert told(bench.merge(Catalog(), of(a=bench.column({})), Catalog({"a/b": bench.column({})}))) == []


def test_small_trees_inlined_in_any_of_the_catalogs_stay_resolvable(bench: Bench) -> None:
    def inlined(catalog: Catalog) -> Catalog:
        return replace(catalog, inlined={n.root.id: n.root.id * 2 for n in catalog.nodes.values() if n.root})

    base = inlined(of(a=bench.column({1: 1}), b=bench.column({2: 2})))
    ours = inlined(of(a=bench.column({1: 3}), b=base.nodes["b"], c=bench.column({4: 4})))
    theirs = inlined(of(a=base.nodes["a"], b=bench.column({2: 5})))
    merged = bench.merge(base, ours, theirs).catalog
    assert dict(merged.inlined) == {n.root.id: n.root.id * 2 for n in merged.nodes.values() if n.root}
    staged = bench.merge(base, ours, of(a=bench.column({1: 1, 9: 9}), b=base.nodes["b"]))
    root = staged.catalog.nodes["a"].root
    assert root is not None
    assert root.id not in staged.catalog.inlined  # staged: its sink holds it
    assert root.id in bench.nodes.nodes
