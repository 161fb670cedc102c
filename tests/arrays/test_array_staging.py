"""Arrays in write checkouts: staging on disk, crashes, resets, renames, namespaces; chunks that nobody needs to store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

from hangarlake import (
    NodeExistsError,
    NodeNotFoundError,
    ReadOnlyError,
    Repository,
    SchemaError,
    UnsupportedFormatError,
    WriteCheckout,
)
from hangarlake.arrays.store import HangarlakeStore
from hangarlake.testing import CountingStore

BUFFER = default_buffer_prototype().buffer


def reopened(repo: Repository) -> Repository:
    return Repository.open(repo.url, cache_dir=Path(repo.url).parent / "cache")


def test_what_is_staged_survives_closing(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.create_array("g/x", shape=(6, 6), dtype="i4", chunks=(2, 2), attributes={"a": 1})[...] = np.arange(
            36
        ).reshape(6, 6)
        w.create_group("h", attributes={"b": 2})
    with reopened(repo).checkout(write=True) as w:
        np.testing.assert_array_equal(w.arrays["g/x"][...], np.arange(36).reshape(6, 6))
        w.arrays["g/x"][0, 0] = -1
        w.commit("staged by two sessions")
    array = repo.checkout().arrays["g/x"]
    assert (array[0, 0], array[5, 5], dict(array.attrs)) == (-1, 35, {"a": 1})
    assert dict(repo.checkout()["h"].attrs) == {"b": 2}


def test_a_crash_leaves_the_state_of_the_last_flush(repo: Repository) -> None:
    w = repo.checkout(write=True)
    w.create_array("x", shape=(4,), dtype="i4", chunks=(2,))[...] = 1
    w.flush()
    w.arrays["x"][0] = 99
    w._staging.close()  # what the end of a process does: the lock goes, and nothing is flushed
    w._closed = True
    with reopened(repo).checkout(write=True) as again:
        assert again.arrays["x"][...].tolist() == [1, 1, 1, 1]


def test_reset_brings_back_the_commit(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.create_array("x", shape=(4,), dtype="i4", chunks=(2,))[...] = 1
        w.create_array("y", shape=(4,), dtype="i4", chunks=(2,))[...] = 1
        w.commit("ones")
        w.arrays["x"][...] = 2
        w.arrays["y"][...] = 2
        w.arrays["x"].attrs["a"] = 1
        w.reset("x")
        assert (w.arrays["x"][0], dict(w.arrays["x"].attrs), w.arrays["y"][0]) == (1, {}, 2)
        w.reset()
        assert w.arrays["y"][0] == 1
        assert not w.status()


def test_subtrees_are_renamed_by_book_keeping_alone(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.create_array("a/b/x", shape=(4,), dtype="i4", chunks=(2,))[...] = [1, 2, 3, 4]
        w.add_str_column("a/notes")["k"] = "v"
        w.commit("before")
        w.arrays["a/b/x"][0] = 9
        w.rename("a/b", "c/d")
        assert w.arrays["c/d/x"][...].tolist() == [9, 2, 3, 4]
        assert zarr.open_group(w.store, mode="r")["c/d/x"][1] == 2
        assert "a/b/x" not in w.arrays
        w.commit("renamed")
    diff = repo.diff("main~1", "main").arrays["c/d/x"]
    assert (diff.state, list(diff.chunks.modified)) == ("renamed", [(0,)])
    assert repo.checkout()["a/notes", "k"] == "v"


def test_arrays_and_columns_share_one_namespace(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.add_str_column("notes")
        w.create_array("g/x", shape=(2,), dtype="i4")
        for path in ("notes", "notes/x", "g/x", "g/x/y", "g"):
            with pytest.raises(NodeExistsError):
                w.create_array(path, shape=(2,), dtype="i4")
        with pytest.raises(NodeExistsError):
            w.add_str_column("g/x")
        with pytest.raises(NodeExistsError, match="column"):
            w.store.set_sync("notes/zarr.json", BUFFER.from_bytes(b'{"zarr_format": 3, "node_type": "group"}'))
        with pytest.raises(NodeNotFoundError):
            w.arrays["notes"]
        with pytest.raises(SchemaError):
            w.create_array("zero", shape=(2,), dtype="i4", chunks=(0,))
        assert sorted(zarr.open_group(w.store, mode="r").array_keys()) == []
        assert list(w) == ["g", "g/x", "notes"]


def test_clearing_the_store_keeps_columns(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.add_str_column("notes")["a"] = "stays"
        w.create_array("x", shape=(2,), dtype="i4")
        zarr.create_group(w.store, overwrite=True)
        assert list(w.arrays) == []
        assert w["notes", "a"] == "stays"


def test_zarr_v2_is_refused(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        with pytest.raises(UnsupportedFormatError, match="v2"):
            zarr.create_group(w.store, zarr_format=2)
        with pytest.raises(UnsupportedFormatError, match="zarr_format=3"):
            w.store.set_sync("x/.zarray", BUFFER.from_bytes(b"{}"))
        assert not w.status()


def test_chunks_of_nothing_but_the_fill_value_are_not_stored(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        array = w.create_array("x", shape=(8,), dtype="f4", chunks=(2,), fill_value=np.nan)
        array[...] = np.nan
        assert array.nchunks_initialized == 0
        array[:4] = 1
        assert array.nchunks_initialized == 2
        array[0:2] = np.nan
        assert array.nchunks_initialized == 1
        zeros = w.create_array("zeros", shape=(4,), dtype="f4", chunks=(2,))
        zeros[...] = [0.0, 0.0, -0.0, 0.0]
        assert zeros.nchunks_initialized == 1  # minus zero is not zero
        w.commit("little")


def test_writing_back_equal_values_stages_nothing(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        array = w.create_array("x", shape=(8, 8), dtype="f4", chunks=(4, 4))
        array[...] = 3
        w.commit("threes")
        array[...] = 3
        array[2, 2] = 3
        assert not w.status()


def test_whole_chunks_are_written_without_reading(tmp_path: Path) -> None:
    from hangarlake.storage import LocalStore

    counting = CountingStore(LocalStore(tmp_path / "store"))
    repo = Repository.create(counting, author="Ada <a@example.org>", cache_dir=tmp_path / "cache")
    with repo.checkout(write=True, staging="memory") as w:
        w.create_array("x", shape=(10, 8), dtype="i4", chunks=(4, 4), compressors=None)[...] = 1
        w.commit("ones")
        w._session.chunks.cache = None
        counting.reset()
        w.arrays["x"][...] = 2
        w.arrays["x"][8:, :] = 3
        assert [request for request in counting.requests if request.op == "get_ranges"] == []
        assert w.arrays["x"][9, 7] == 3


def test_numbers_that_json_lacks_are_kept(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        array = w.create_array(
            "x", shape=(2,), dtype="f8", fill_value=np.inf, attributes={"valid": [float("nan"), -1.0]}
        )
        array.attrs["top"] = float("-inf")
        w.commit("odd numbers")
    view = repo.checkout()
    assert np.isnan(view.arrays["x"].attrs["valid"][0])
    assert view.arrays["x"].attrs["top"] == float("-inf")
    assert view.arrays["x"][0] == np.inf
    stored = zarr.open_array(view.store, path="x", mode="r")
    assert stored.attrs["top"] == float("-inf")


def test_read_only_views_refuse_to_change(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.create_array("x", shape=(2,), dtype="i4", chunks=(1,))[...] = 1
        w.commit("ones")
    view = repo.checkout()
    for change in (
        lambda: view.arrays["x"].__setitem__(0, 1),
        lambda: view.arrays["x"].append([1]),
        lambda: view.arrays["x"].resize((3,)),
        lambda: HangarlakeStore(view, read_only=False),
        lambda: view.arrays["x"].oindex.__setitem__(0, 1),
    ):
        with pytest.raises(ReadOnlyError):
            change()
    with pytest.raises(ValueError, match="read-only"):
        view.store.set_sync("x/c/0", BUFFER.from_bytes(b""))


def test_append_and_resize(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        array = w.create_array("x", shape=(3, 4), dtype="i4", chunks=(2, 3))
        array[...] = 1
        assert array.append(np.full((2, 4), 2)) == (5, 4)
        assert array.append(np.full((5, 1), 3), axis=1) == (5, 5)
        with pytest.raises(ValueError, match="append"):
            array.append(np.zeros((2, 3)))
        assert array[4].tolist() == [2, 2, 2, 2, 3]
        array.resize((2, 2))
        assert array.nchunks_initialized == 1
        array.resize((2, 6))
        assert array[...].tolist() == [[1, 1, 1, 0, 0, 0]] * 2  # the edge of the chunk comes back, as in zarr
        with pytest.raises(SchemaError):
            array.resize((1,))


def test_listing_and_deleting_below_a_path(repo: Repository) -> None:
    metadata = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()
    with repo.checkout(write=True) as w:
        for i in range(500):
            w.store.set_sync(f"g{i % 7}/n{i}/zarr.json", BUFFER.from_bytes(metadata))
        assert w.store._core.list_dir("g3") == sorted(f"n{i}" for i in range(3, 500, 7))
        w.store._core.delete_dir("g3")  # type: ignore[attr-defined]
        assert w.store._core.list_dir("g3") == []


def test_sharded_arrays_are_read_in_part(repo: Repository) -> None:
    data = np.arange(512 * 512, dtype="f8").reshape(512, 512)
    with repo.checkout(write=True) as w:
        options: dict[str, Any] = {"shape": data.shape, "dtype": "f8", "compressors": None}
        w.create_array("x", chunks=(64, 64), shards=(512, 512), **options)[...] = data
        w.commit("one large shard")
    view = repo.checkout().arrays["x"]
    assert view.shards == (512, 512)
    np.testing.assert_array_equal(view[100:110, 300:310], data[100:110, 300:310])
    np.testing.assert_array_equal(view[::-1], data[::-1])
    np.testing.assert_array_equal(view[...], data)


def test_chunks_written_in_any_order_take_no_more_room(repo: Repository) -> None:
    from hangarlake.records.node import encode_leaf
    from hangarlake.records.tree import iter_leaves

    sizes = []
    for order in (range(1000), np.random.default_rng(0).permutation(1000).tolist()):
        with repo.checkout(write=True, staging="memory") as w:
            array = w.create_array(
                f"x{len(sizes)}", shape=(1000, 4), dtype="i4", chunks=(1, 4), compressors=None, fill_value=-1
            )
            for number, row in enumerate(order):
                array[row] = row
                if number % 50 == 0:
                    w._working()  # folds what is staged into the tree
            w.commit("a thousand chunks")
            leaves = list(iter_leaves(w.array_tree(array.name), w.nodes))
            sizes.append(sum(len(encode_leaf(leaf)) for leaf in leaves))
            np.testing.assert_array_equal(array[:, 0], np.arange(1000))
    assert sizes[1] < 1.2 * sizes[0]
    assert sizes[0] < 35 * 1000


def test_an_array_is_replaced_where_that_is_asked_for(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.create_array("g/x", shape=(8,), dtype="i4", chunks=(2,), attributes={"unit": "m"})[...] = 7
        w.commit("two by two")
    with repo.checkout(write=True) as w:
        with pytest.raises(NodeExistsError, match=r"w\.remove\('g/x'\), or replace it with overwrite=True"):
            w.create_array("g/x", shape=(4,), dtype="f8")
        with pytest.raises(NodeExistsError, match="overwrite=True"):
            w.create_group("g")
        w["g/x"][0] = 9
        made = w.create_array("g/x", shape=(4,), dtype="f8", chunks=(4,), overwrite=True)
        assert (made.chunks, made.attrs, made[...].tolist()) == ((4,), {}, [0.0] * 4)
        made[1] = 2.5
        assert w["g/x"][...].tolist() == [0, 2.5, 0, 0]
        w.commit("one chunk")
    assert repo.checkout().arrays["g/x"][...].tolist() == [0, 2.5, 0, 0]
    assert repo.checkout("main~1").arrays["g/x"][...].tolist() == [7] * 8


def test_a_group_is_replaced_with_everything_in_it_but_columns(w: WriteCheckout) -> None:
    w.create_array("g/a/x", shape=(2,), dtype="i4")
    w.create_array("g/y", shape=(2,), dtype="i4")
    w.add_str_column("g/names")["k"] = "v"
    w.store.set_sync("g/notes.txt", BUFFER.from_bytes(b"beside"))
    group = w.create_group("g", attributes={"new": True}, overwrite=True)
    assert dict(group.attrs) == {"new": True}
    assert sorted(w) == ["g", "g/names"]
    assert w.store._core.get("g/notes.txt") is None
    assert w["g/names", "k"] == "v"
    w.create_array("free", shape=(2,), dtype="i4", overwrite=True)
    assert sorted(w) == ["free", "g", "g/names"]


def test_what_cannot_be_made_replaces_nothing(w: WriteCheckout) -> None:
    w.create_array("g/x", shape=(2,), dtype="i4", chunks=(2,))[...] = 7
    w.add_str_column("g/names")["k"] = "v"
    w.create_array("y", shape=(2,), dtype="i4", chunks=(2,))[...] = 8
    before = sorted(w)
    for refused, error in (
        (lambda: w.create_array("g/x", shape=(2,), dtype="i4", chunks=(0,), overwrite=True), SchemaError),
        (
            lambda: w.create_array("g/x", shape=(2,), dtype="i4", attributes={"a": object()}, overwrite=True),
            SchemaError,
        ),
        (lambda: w.create_group("g", attributes={"a": object()}, overwrite=True), SchemaError),
        (lambda: w.create_array("g", shape=(2,), dtype="i4", overwrite=True), NodeExistsError),  # the column is below
        (lambda: w.create_array("g/names", shape=(2,), dtype="i4", overwrite=True), NodeExistsError),
        (lambda: w.create_group("g/names", overwrite=True), NodeExistsError),
        (lambda: w.create_array("y/z", shape=(2,), dtype="i4", overwrite=True), NodeExistsError),
    ):
        with pytest.raises(error):
            refused()
        assert sorted(w) == before
        assert w["g/x"][...].tolist() == [7, 7]
        assert w["y"][...].tolist() == [8, 8]
        assert w["g/names", "k"] == "v"


def test_checkouts_offer_what_a_person_uses(repo: Repository, w: WriteCheckout) -> None:
    for view, used in (
        (repo.checkout(), {"columns", "commit", "diff"}),
        (w, {"columns", "commit", "fork", "create_array"}),
    ):
        offered = {name for name in dir(view) if not name.startswith("_")}
        assert used | {"arrays", "attrs", "store", "close", "branch"} <= offered
        about = {name: getattr(type(view), name).__doc__ or "" for name in offered}
        assert [name for name, text in about.items() if "(internal)" in text] == []
        assert not offered & {"guard", "hot", "nodes", "chunks", "place"}
        assert all(hasattr(view, name) for name in offered)
