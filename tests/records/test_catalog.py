"""Catalogs: what is written is read, and whatever is damaged, forged or too large is a named error."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.chunks import zstd
from hangarlake.errors import CorruptionError, SchemaError
from hangarlake.records import catalog as catalog_module
from hangarlake.records.canonical import canonical_json, digest
from hangarlake.records.catalog import ArrayNode, Catalog, ColumnNode, ColumnSchema, GroupNode, catalog_key
from hangarlake.records.node import Leaf, NodeRef, encode_leaf
from tests.records.trees import entries_of

LEAF = Leaf.of(entries_of({i: i for i in range(3)}))
INLINED = {LEAF.id: encode_leaf(LEAF)}
ROOT = NodeRef(b"r" * 20, 2, 70_000, b"p" * 32, 8, 900)


def catalog() -> Catalog:
    nodes = {
        "images": ColumnNode(ColumnSchema("ndarray", "|u1", (28, None), True), ROOT, {"a": 1}, {"level": 3}),
        "labels": ColumnNode(ColumnSchema("ndarray", "<M8[ns]", ()), NodeRef(LEAF.id, 0, 3)),
        "text": ColumnNode(ColumnSchema.scalar_run("str", nested=True)),
        "/": GroupNode({"node_type": "group"}),
        "/field": ArrayNode({"node_type": "array", "shape": [3]}, ROOT),
    }
    return Catalog(nodes, {"made": "here"}, INLINED)


def forged(node: dict[str, Any] | None = None, root: object = None, **physical: object) -> Catalog:
    """Parse a catalog of one column ``a`` with other members, whose id is right."""
    column = {
        "type": "column", "kind": "ndarray", "dtype": "<f4", "shape": [3], "variable_shape": False, "nested": False,
        "attrs": {}, "root": None, "level": 0, "count": 0,
    }  # fmt: skip
    logical = canonical_json({"attrs": {}, "nodes": {"a": column | (node or {})}})
    places = {"roots": {} if root is None else {"a": root}, "encodings": {}}
    return Catalog.parse(digest(logical), logical, places | physical)


def test_a_catalog_comes_back_from_its_bytes():
    there = catalog()
    back = Catalog.decode(there.id, there.encode())
    assert dict(back.nodes) == dict(there.nodes)
    assert (back.attrs, back.inlined, back.id) == (there.attrs, there.inlined, there.id)
    assert [node.id for node in back.decode_inlined()] == [LEAF.id]
    assert back.encode() == there.encode()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_of_a_catalog_is_a_corruption_error_that_names_it(source):
    there = catalog()
    data = there.encode()
    at = source.draw(st.integers(0, len(data) - 1))
    damaged = source.draw(
        st.sampled_from(
            [
                data[:at],
                data[:at] + data[at + 1 :],
                data[:at] + b"\0" + data[at:],
                data[:at] + bytes([data[at] ^ source.draw(st.integers(1, 255))]) + data[at + 1 :],
            ]
        )
    )
    try:
        back = Catalog.decode(there.id, damaged)
    except CorruptionError as error:
        assert catalog_key(there.id) in error.args[0]  # noqa: PT017 - some bits of a zstd header mean nothing
    else:
        assert (dict(back.nodes), back.physical()) == (dict(there.nodes), there.physical())


@pytest.mark.parametrize(
    "dtype",
    [
        "foo",
        "(2,",
        "<M8",
        "<f16",
        "|S0",
        "|O",
        ">f4",
        "f4",
        "i4,i4",
        "<M8[99999999999s]",
        "",
        "\0",
        "é",
        "|V4",
        "1f4",
        "{",
    ],
)
def test_a_dtype_that_no_column_has_is_corruption(dtype):
    with pytest.raises(CorruptionError, match="catalogs/"):
        forged({"dtype": dtype})


@pytest.mark.parametrize(
    "members",
    [
        {"shape": [-1]},
        {"shape": [1 << 70]},
        {"shape": [1] * 33},
        {"shape": "3"},
        {"kind": "picture"},
        {"root": "xyz"},
        {"root": "0" * 40},
        {"level": 65},
        {"level": -1},
        {"count": -1},
        {"type": "table"},
        {"more": 1},
    ],
)
def test_malformed_nodes_are_corruption(members):
    with pytest.raises(CorruptionError, match="catalogs/"):
        forged(members)


@pytest.mark.parametrize(
    "place",
    [
        None,
        {},
        {"pack": "x" * 64},
        {"pack": "0" * 63},
        {"pack": "0" * 64, "offset": -1},
        {"pack": "0" * 64, "offset": 1 << 62},
        {"pack": "0" * 64, "length": 1 << 32},
        {"inline": "§"},
        {"inline": "AAA"},
        {"inline": "", "pack": "0" * 64},
        [],
    ],
)
def test_impossible_places_of_roots_are_corruption(place):
    with pytest.raises(CorruptionError, match="catalogs/"):
        forged({"root": "0" * 40, "count": 5}, place)


def test_an_inlined_root_that_is_no_node_is_corruption():
    forged_root = forged({"root": "0" * 40, "count": 5}, {"inline": base64.b64encode(b"nonsense").decode()})
    with pytest.raises(CorruptionError, match="small tree in a catalog"):
        forged_root.decode_inlined()


@pytest.mark.parametrize(
    "physical", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b"\xff", b"5", b"", b"{}\n{}", b"null"]
)
def test_a_physical_part_that_is_none_is_corruption(physical):
    there = catalog()
    lines = there.logical_text.encode() + b"\n" + physical + b"\n"
    with pytest.raises(CorruptionError, match=there.id):
        Catalog.decode(there.id, zstd.compress(lines))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_member_may_be_anything_and_is_read_or_a_corruption_error(source):
    there = catalog()
    parts = [json.loads(there.logical_text), there.physical()]
    target: Any = parts
    while True:
        key = source.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        if not isinstance(target[key], dict | list) or not target[key] or source.draw(st.booleans()):
            break
        target = target[key]
    if target is not parts:
        target[key] = source.draw(_json)
    logical = json.dumps(parts[0], ensure_ascii=True).encode()
    data = zstd.compress(logical + b"\n" + json.dumps(parts[1]).encode() + b"\n")
    try:
        back = Catalog.decode(digest(logical), data)
        back.decode_inlined()
    except CorruptionError:
        return
    assert back.id == digest(logical)


def test_a_catalog_that_no_reader_would_unpack_is_not_written(monkeypatch):
    data = catalog().encode()
    monkeypatch.setattr(catalog_module, "_MAX_BYTES", 1_000)
    with pytest.raises(SchemaError, match=r"1,000 at most.*shorten"):
        catalog().encode()
    with pytest.raises(CorruptionError, match="does not fit"):
        Catalog.decode(catalog().id, data)


def test_only_ids_become_keys():
    with pytest.raises(ValueError, match="catalogs"):
        catalog_key("../" + "0" * 61)
