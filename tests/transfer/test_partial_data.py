"""Parts of the data: what is here, what is read through, and what fetch_data brings."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import hangarlake as hl
from hangarlake.storage import MemoryStore
from hangarlake.testing import CountingStore
from tests.transfer.places import check_place, contents, image, new_repository, put

BIG = (64, 1024)  # a chunk of its own


@pytest.fixture
def origin() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
def clone(origin: CountingStore) -> hl.Repository:
    repo = new_repository(origin)
    rng = np.random.default_rng(1)
    with repo.checkout("main", write=True) as w:
        w.add_ndarray_column("big", shape=BIG, dtype="u1").extend(range(40), rng.integers(0, 256, (40, *BIG), "u1"))
        nested = w.add_str_column("notes", nested=True)
        for i in range(5):
            nested[f"s{i}"] = {"a": f"{i} a", "b": f"{i} b"}
        w.commit("Add big samples and notes")
    clone = hl.Repository.clone(origin, MemoryStore())
    origin.reset()
    return clone


def strict(clone: hl.Repository) -> Any:
    return clone.checkout(read_through=False)


def test_a_sample_that_is_not_here_is_read_through(clone: hl.Repository, origin: CountingStore) -> None:
    with clone.checkout() as co, hl.Repository.open(origin).checkout() as expected:
        assert not co["big"].is_local(3)
        origin.reset()
        value = co["big", 3]
        assert [request.key[:6] for request in origin.requests] == ["packs/"]
        assert (value == expected["big", 3]).all()
        assert (co["big"].batch([1, 5, 7]) == expected["big"].batch([1, 5, 7])).all()
        assert co["names", "k0007"] == "name 7"
        assert co["notes", "s1", "b"] == "1 b"
        assert not co["big"].is_local(3)  # reading through leaves nothing behind


def test_without_read_through_the_error_names_what_is_needed_and_what_to_do(clone: hl.Repository) -> None:
    with strict(clone) as co:
        for read in (lambda: co["big", 3], lambda: co["big"].batch([3, 4]), lambda: list(co["names"].values())):
            with pytest.raises(hl.DataNotLocalError, match=r"fetch_data.*(big|names)"):
                read()
    assert hl.Repository.open(clone._session.store, read_through=False).checkout()["images"].is_local(1) is False
    with hl.Repository.open(clone._session.store, read_through=False).checkout("main", write=True) as w:
        with pytest.raises(hl.DataNotLocalError):
            w["big", 3]
        w["big", 3] = np.zeros(BIG, "u1")
        assert w["big", 3].sum() == 0
        w.commit("Overwritten without having been here")


def test_fetch_data_brings_exactly_what_the_selection_touches(clone: hl.Repository, origin: CountingStore) -> None:
    ids = (clone.resolve().id, clone.resolve().catalog)
    result = clone.fetch_data(nodes=["big"], keys=[3, 30, 31])
    assert result.values == result.chunks == 3
    assert result.bytes <= origin.bytes_read <= 1.01 * 3 * 64 * 1024 + 500
    assert origin.bytes_read <= 2 * 3 * 64 * 1024
    with strict(clone) as co:
        assert [key for key in co["big"] if co["big"].is_local(key)] == [3, 30, 31]
        assert co["big"].batch([30, 3]).shape == (2, *BIG)
        assert co.missing() == {"big": 37, "images": 600, "names": 600, "notes": 10}
    assert (clone.resolve().id, clone.resolve().catalog) == ids
    check_place(clone._session.store)
    # Once more it has nothing to do.
    origin.reset()
    assert clone.fetch_data(nodes=["big"], keys=[3, 30, 31]) == hl.FetchResult(0, 0, 0)
    assert origin.requests == []


def test_what_was_fetched_is_found_by_a_process_that_starts_later(clone: hl.Repository, tmp_path: Path) -> None:
    clone.fetch_data(nodes=["images", "notes"])
    for cache in ("same", "fresh", "fresh"):
        folder = tmp_path / "cache" if cache == "same" else tmp_path / cache
        later = hl.Repository.open(clone._session.store, read_through=False, cache_dir=folder)
        assert later.checkout().missing() == {"big": 40, "names": 600}
        assert contents(later) == contents(clone)
        assert later.checkout()["notes"]["s3"]["a"] == "3 a"


def test_a_reader_that_is_open_finds_what_another_one_fetched(clone: hl.Repository) -> None:
    other = hl.Repository.open(clone._session.store, read_through=False)
    co = other.checkout()
    with pytest.raises(hl.DataNotLocalError):
        co["big", 3]
    clone.fetch_data(nodes="big", keys=[3])
    assert co["big", 3].shape == BIG


def test_selections(clone: hl.Repository) -> None:
    assert clone.fetch_data(nodes=["notes"], keys=["s1", ("s2", "b")]).values == 3
    assert clone.fetch_data("main", keys=["k0001", 1]).values > 0
    everything = clone.fetch_data()
    assert everything.values > 0
    assert clone.checkout().missing() == {}
    assert clone.stats().missing_samples == 0
    with pytest.raises(hl.NodeNotFoundError, match="none"):
        clone.fetch_data(nodes=["none"])
    with pytest.raises(hl.SampleNotFoundError, match="9999"):
        clone.fetch_data(nodes=["big"], keys=[1, 9999])
    with pytest.raises(hl.RevisionNotFoundError):
        clone.fetch_data("no-such-branch")
    with pytest.raises(ValueError):
        clone.fetch_data(max_bytes=-1)


def test_no_more_bytes_than_allowed_come(clone: hl.Repository, origin: CountingStore) -> None:
    one = 64 * 1024
    result = clone.fetch_data(nodes=["big"], max_bytes=5 * one + one // 2)
    assert result.values == 5
    assert result.bytes <= 5 * one + one // 2
    assert clone.fetch_data(nodes=["big"], max_bytes=0) == hl.FetchResult(0, 0, 0)
    assert clone.fetch_data(nodes=["big"]).values == 35


def test_a_dry_run_only_counts(clone: hl.Repository, origin: CountingStore) -> None:
    before = {info.key for info in clone._session.store.list("")}
    planned = clone.fetch_data(nodes=["big"], dry_run=True)
    assert not any(request.key.startswith("packs/") and request.bytes for request in origin.requests)
    assert {info.key for info in clone._session.store.list("")} == before
    assert clone.fetch_data(nodes=["big"]) == planned


def test_stats_tell_what_is_missing(clone: hl.Repository) -> None:
    before = clone.stats()
    assert before.missing_samples == 600 + 600 + 40 + 10
    assert before.missing_bytes > 40 * 64 * 1024
    clone.fetch_data(nodes=["big"])
    assert clone.stats().missing_samples == 600 + 600 + 10
    assert clone.stats().missing_bytes < before.missing_bytes - 39 * 64 * 1024


def test_a_push_from_a_partial_clone_sends_only_what_the_target_lacks(
    clone: hl.Repository, origin: CountingStore
) -> None:
    clone.fetch_data(nodes=["big"], keys=[3])
    with clone.checkout("main", write=True) as w:
        w["big", 4] = w["big", 3]
        w["images", 1] = image(1)
        commit = w.commit("Two changes")
    origin.reset()
    clone.push()
    assert origin.bytes_written < 40_000  # none of the 64 KiB of a big sample travels: the origin has it
    assert hl.Repository.open(origin).resolve().id == commit.id
    check_place(origin, data=True)


def test_to_a_third_place_chunks_are_taken_from_wherever_they_are(clone: hl.Repository, origin: CountingStore) -> None:
    clone.fetch_data(nodes=["big"], keys=range(20))
    put(clone, 1, 1)
    third = MemoryStore()
    clone.remotes.add("third", third)
    origin.reset()
    clone.push("third")
    read = sum(request.bytes for request in origin.requests if request.key.startswith("packs/"))
    assert read < 25 * 64 * 1024  # half of the big ones are here
    strictly = hl.Repository.open(third, read_through=False)
    assert strictly.checkout().missing() == {}
    assert contents(strictly) == contents(clone)
    check_place(third)


def test_a_remote_that_cannot_be_reached_is_passed_over(clone: hl.Repository, origin: CountingStore) -> None:
    copy = MemoryStore()
    copy._bucket.objects.update(origin.inner._bucket.objects)  # type: ignore[attr-defined]
    clone.remotes.add("copy", copy)
    origin.inner._bucket.objects.clear()  # type: ignore[attr-defined]
    assert clone.checkout()["big", 3].shape == BIG
    clone.remotes.remove("copy")
    with pytest.raises(hl.DataNotLocalError, match="origin"):
        clone.checkout()["big", 4]


def test_a_remote_that_lies_is_found_out(clone: hl.Repository, origin: CountingStore) -> None:
    for info in list(origin.list("packs/")):
        data = bytearray(origin.get(info.key))
        data[: len(data)] = bytes(len(data))
        origin.put(info.key, bytes(data))
    with pytest.raises(hl.CorruptionError):
        clone.fetch_data(nodes=["big"], keys=[1])
    with pytest.raises(hl.CorruptionError):
        clone.checkout()["big", 1]
    assert list(clone._session.store.list("packs/")) == []
    assert list(clone._session.store.list("locations/")) == []


def test_a_pickled_checkout_reads_through_as_its_repository_does(tmp_path: Path) -> None:
    new_repository(tmp_path / "origin", 20)
    hl.Repository.clone(tmp_path / "origin", tmp_path / "clone")
    for through in (True, False):
        repo = hl.Repository.open(tmp_path / "clone", read_through=through)
        co = pickle.loads(pickle.dumps(repo.checkout()))
        other = pickle.loads(pickle.dumps(repo.checkout(read_through=not through)))
        for view, allowed in ((co, through), (other, not through)):
            if allowed:
                assert view["images", 3].shape == (8, 8)
            else:
                with pytest.raises(hl.DataNotLocalError):
                    view["images", 3]


def test_many_threads_read_through_at_once(clone: hl.Repository) -> None:
    from concurrent.futures import ThreadPoolExecutor

    co = clone.checkout()
    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(lambda key: co["big", key].shape, list(range(40)) * 2))
    assert set(shapes) == {BIG}


def test_chunks_of_arrays_are_fetched_by_their_coordinates(tmp_path: Path) -> None:
    origin = hl.Repository.create(tmp_path / "origin")
    grid = np.arange(20_000, dtype="f4").reshape(100, 200)
    with origin.checkout("main", write=True) as w:
        w.create_array("field/temp", shape=grid.shape, dtype="f4", chunks=(50, 50))[...] = grid
        w.commit("A grid")
    clone = hl.Repository.clone(tmp_path / "origin", tmp_path / "clone")
    assert clone.checkout().missing() == {"field/temp": 8}
    assert (clone.checkout()["field/temp"][40:60, 40:60] == grid[40:60, 40:60]).all()
    with strict(clone) as co:
        for view in (co["field/temp"], zarr.open_group(co.store, mode="r")["field/temp"]):
            with pytest.raises(hl.DataNotLocalError):
                view[0:10]
    assert clone.fetch_data(nodes=["field"], keys=[(0, 1), (1, 3)]).values == 2
    with strict(clone) as co:
        assert (co["field/temp"][0:50, 50:100] == grid[0:50, 50:100]).all()
        assert co.missing() == {"field/temp": 6}
    with clone.checkout("main", write=True) as w:
        w["field/temp"][0:50, 0:50] = 1
        w.commit("One chunk, unseen")
    clone.push()
    assert float(origin.checkout()["field/temp"][0, 0]) == 1.0
    check_place(origin._session.store, data=True)
