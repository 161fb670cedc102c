"""What reading and committing cost, in requests that wait for each other and in bytes: counts, not times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import Repository
from hangarlake.storage import MemoryStore
from hangarlake.testing import CountingStore
from tests.columns.values import create, reopen

COUNT = 100_000
# Long against the time a busy machine takes to start a thread: requests made at once must look so.
LATENCY = 0.05


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryStore, Path]:
    """A column of 100,000 small samples, committed in three steps, and a small column beside it."""
    cache = tmp_path_factory.mktemp("cache")
    store = MemoryStore()
    values = np.random.default_rng(0).integers(0, 256, (COUNT, 8), dtype=np.uint8)
    with create(store, cache).checkout(write=True) as w:
        w.add_ndarray_column("x", (8,), np.uint8).extend(range(COUNT - 10), values[10:])
        w.add_str_column("text")["a"] = "b"
        w.commit("most")
        w["x"].extend(range(COUNT - 10, COUNT), values[:10])
        w.commit("the rest")
    w.repository.close()
    return store, cache


def slow(store: MemoryStore) -> CountingStore:
    return CountingStore(store, LATENCY)


def test_a_cold_open_finds_the_first_sample_in_four_round_trips(big: tuple[MemoryStore, Path], tmp_path: Path) -> None:
    store = slow(big[0])
    value = reopen(store, tmp_path).checkout()["x"][54_321]
    assert value.shape == (8,)
    assert store.round_trips() <= 4
    assert store.bytes_read < 200_000


def test_a_cold_batch_costs_no_more_round_trips_than_a_sample(big: tuple[MemoryStore, Path], tmp_path: Path) -> None:
    store = slow(big[0])
    keys = np.random.default_rng(1).integers(0, COUNT, 64).tolist()
    assert reopen(store, tmp_path).checkout()["x"].batch(keys).shape == (64, 8)
    assert store.round_trips() <= 5


def test_opening_reads_no_data_and_no_trees(big: tuple[MemoryStore, Path], tmp_path: Path) -> None:
    store = slow(big[0])
    with reopen(store, tmp_path).checkout() as checkout:
        assert len(checkout["x"]) == COUNT
        assert checkout.commit.message == "the rest"
        assert checkout["x"].nbytes == COUNT * 8
    assert store.round_trips() <= 2
    assert {request.op for request in store.requests} == {"get"}
    assert not any(request.key.startswith(("packs/", "trees/")) for request in store.requests)


def repository(big: tuple[MemoryStore, Path], tmp_path: Path) -> tuple[CountingStore, Repository]:
    """A copy of the repository to write to."""
    copy = MemoryStore()
    for info in big[0].list(""):
        copy.put(info.key, big[0].get(info.key))
    store = slow(copy)
    return store, reopen(store, tmp_path / "cache")


@pytest.mark.parametrize("staging", ["disk", "memory"])
@pytest.mark.parametrize("changed", [1, 100])
def test_a_small_commit_takes_two_round_trips(
    big: tuple[MemoryStore, Path], tmp_path: Path, staging: str, changed: int
) -> None:
    store, repo = repository(big, tmp_path)
    keys = np.random.default_rng(2).permutation(COUNT)[:changed].tolist()
    with repo.checkout(write=True, staging=staging) as w:
        chains = []
        for turn in range(6):
            for key in keys:
                w["x"][key] = np.full(8, 7 + turn + key % 13, np.uint8)
            repo._session.refs.flush_hints()
            store.reset()
            w.commit("a few")
            repo._session.refs.flush_hints()
            requests = [request for request in store.requests if not request.key.startswith("hints/")]
            chains.append(longest_chain(requests))
            assert len(requests) <= 6
            assert requests[-1].key.startswith("refs/branches/main/")
            if turn and min(chains) == 2:
                break
        # Requests that wait for one another never overlap, so each commit shows their chain; a busy machine may show more.
        assert min(chains) == 2
    repo.close()


def longest_chain(requests: list[Any]) -> int:
    length, last = 0, float("-inf")
    for end, start in sorted((request.end, request.start) for request in requests):
        if start >= last:
            length, last = length + 1, end
    return length


@pytest.mark.parametrize("changed, most", [(1, 40_000), (100, 1_000_000)])
def test_a_commit_writes_records_of_what_changed_and_not_of_what_exists(
    big: tuple[MemoryStore, Path], tmp_path: Path, changed: int, most: int
) -> None:
    store, repo = repository(big, tmp_path)
    keys = np.random.default_rng(3).permutation(COUNT)[:changed].tolist()
    with repo.checkout(write=True) as w:
        for key in keys:
            w["x"][key] = np.full(8, 255 - key % 17, np.uint8)
        store.reset()
        w.commit("a few")
        repo.close()
        written = [request for request in store.requests if request.op in ("put", "put_new")]
        assert sum(request.bytes for request in written if not request.key.startswith("packs/")) <= most
    assert reopen(store.inner, tmp_path / "other").checkout()["x"][keys[0]][0] == 255 - keys[0] % 17


def test_nothing_is_listed_to_read_or_to_commit(big: tuple[MemoryStore, Path], tmp_path: Path) -> None:
    store, repo = repository(big, tmp_path)
    with repo.checkout(write=True) as w:
        w["x"][5] = np.zeros(8, np.uint8)
        w.commit("five")
    assert repo.checkout()["x"][5].tolist() == [0] * 8
    repo.close()
    assert {request.op for request in store.requests} <= {"get", "get_ranges", "put", "put_new"}
