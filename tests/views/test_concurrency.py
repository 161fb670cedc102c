"""Many writers of one branch: no commit is lost, none is reported lost, and conflicts are those there are."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import Repository, WriterLockedError
from tests.columns.values import AUTHOR, exact, reopen
from tests.views.workers import commit_many, commit_same_key, read_samples, sample

WORKERS = 8


def processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def prepare(place: Any, cache: Path, options: dict[str, Any] | None = None) -> Repository:
    repo = Repository.create(place, storage_options=options, author=AUTHOR, cache_dir=cache)
    with repo.checkout(write=True) as w:
        w.add_ndarray_column("x", (5,), np.int32)
        w.commit("x")
    return repo


def check_all_there(repo: Repository, ids: list[list[str]], count: int) -> None:
    """Every commit that was reported is in the history, once, and so are its keys."""
    found = [commit.id for commit in repo.log()][:-2]
    assert len(found) == len(ids) * count
    assert sorted(found) == sorted(each for reported in ids for each in reported)
    column = repo.checkout()["x"]
    keys = [f"{rank}/{number}" for rank in range(len(ids)) for number in range(count)]
    assert sorted(column) == sorted(keys)
    for rank in range(len(ids)):
        for number in range(count):
            assert (column[f"{rank}/{number}"] == sample(100 * rank + number)).all()
    assert [entry.seq for entry in repo.reflog("main")] == list(range(len(found) + 2, 0, -1))


@pytest.mark.parametrize("staging", ["disk", "memory"])
def test_no_commit_of_eight_processes_is_lost_on_a_local_store(tmp_path: Path, staging: str) -> None:
    place = str(tmp_path / "repo")
    prepare(place, tmp_path / "cache")
    with processes(WORKERS) as pool:
        jobs = [
            pool.submit(commit_many, place, None, str(tmp_path / f"c{rank}"), staging, rank, 25)
            for rank in range(WORKERS)
        ]
        ids = [job.result() for job in jobs]
    check_all_there(reopen(place, tmp_path / "other"), ids, 25)


@pytest.mark.parametrize("staging", ["disk", "memory"])
def test_no_commit_of_eight_processes_is_lost_on_s3(
    tmp_path: Path, s3_url: str, s3_options: dict[str, Any], staging: str
) -> None:
    prepare(s3_url, tmp_path / "cache", s3_options)
    with processes(WORKERS) as pool:
        jobs = [
            pool.submit(commit_many, s3_url, s3_options, str(tmp_path / f"c{rank}"), staging, rank, 25)
            for rank in range(WORKERS)
        ]
        ids = [job.result() for job in jobs]
    check_all_there(reopen(s3_url, tmp_path / "other", storage_options=s3_options), ids, 25)


def test_of_those_who_write_one_key_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    place = str(tmp_path / "repo")
    repo = prepare(place, tmp_path / "cache")
    with processes(4) as pool:
        jobs = [pool.submit(commit_same_key, place, str(tmp_path / f"c{rank}"), rank) for rank in range(8)]
        results = [job.result() for job in jobs]
    winners = [rank for rank, (commit, _) in enumerate(results) if commit is not None]
    # A worker that opens after another one's commit just changes the key again.
    assert winners
    assert [commit.id for commit in repo.log()][:-2] == [
        commit for commit, _ in sorted(results, key=lambda r: order(repo, r[0])) if commit is not None
    ]
    for commit, conflicts in results:
        if commit is None:
            assert [(node, key) for node, key, _ in conflicts] == [("x", "shared")]
            assert {kind for _, _, kind in conflicts} <= {"added-both", "changed-both"}
    column = repo.checkout()["x"]
    assert {key for key in column if key != "shared"} == {f"own {rank}" for rank in winners}


def order(repo: Repository, commit: str | None) -> int:
    log = [each.id for each in repo.log()]
    return log.index(commit) if commit in log else -1


def test_threads_that_commit_to_one_branch_lose_nothing(tmp_path: Path) -> None:
    place = str(tmp_path / "repo")
    prepare(place, tmp_path / "cache")
    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(lambda rank: commit_many(place, None, str(tmp_path / "one"), "memory", rank, 6), range(6)))
    check_all_there(reopen(place, tmp_path / "other"), ids, 6)


# ---- threads ---------------------------------------------------------------------------------------------------------


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """Run jobs at once, each in a thread of its own."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_many_threads_read_one_checkout(tmp_path: Path) -> None:
    repo = prepare(str(tmp_path / "repo"), tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"].extend(range(3000), np.stack([sample(key) for key in range(3000)]))
        w.add_str_column("text", encoding={"chunk_bytes": 500}).extend(range(3000), map(str, range(3000)))
        w.commit("many")
    checkout = reopen(str(tmp_path / "repo"), tmp_path / "other").checkout()

    def read(rank: int) -> bool:
        keys = np.random.default_rng(rank).permutation(3000)[:300].tolist()
        return (
            all((checkout["x"][key] == sample(key)).all() for key in keys)
            and (checkout["x"].batch(keys)[:, 0] == keys).all()
            and checkout["text"].batch(keys) == [str(key) for key in keys]
            and [checkout["text"][key] for key in keys[:50]] == [str(key) for key in keys[:50]]
            and sum(len(keys) for keys, _ in checkout["text"].scan()) == 3000
        )

    assert all(together(*(lambda rank=rank: read(rank) for rank in range(8))))


def test_threads_write_read_flush_and_commit_one_column(tmp_path: Path) -> None:
    repo = prepare(str(tmp_path / "repo"), tmp_path / "cache")
    with repo.checkout(write=True) as w:
        column = w["x"]

        def write(rank: int) -> None:
            for number in range(60):
                column[f"{rank}/{number}"] = sample(number)
                assert (column[f"{rank}/{number}"] == sample(number)).all()
                if number % 20 == 7:
                    column.extend([f"{rank}/block {i}" for i in range(40)], np.stack([sample(i) for i in range(40)]))
                if number % 20 == 13:
                    present = [i for i in range(number) if i % 20 != 19]
                    assert column.batch([f"{rank}/{i}" for i in present])[:, 0].tolist() == present
                if number % 20 == 19:
                    del column[f"{rank}/{number}"]

        def look() -> None:
            for _ in range(10):
                assert len(column) >= 0
                for key, value in column.items():
                    assert value[0] == int(key.rpartition("/")[2].removeprefix("block "))

        def keep() -> None:
            for number in range(6):
                w.flush()
                w.commit(f"commit {number}", allow_empty=True)

        together(*(lambda rank=rank: write(rank) for rank in range(4)), look, keep)
        w.commit("the rest", allow_empty=True)
    column = reopen(str(tmp_path / "repo"), tmp_path / "other").checkout()["x"]
    assert len(column) == 4 * (60 - 3 + 40)
    for rank in range(4):
        assert all((column[f"{rank}/{n}"] == sample(n)).all() for n in range(60) if n % 20 != 19)
        assert all((column[f"{rank}/block {n}"] == sample(n)).all() for n in range(40))


def test_a_column_may_be_changed_flushed_and_committed_while_it_is_gone_through(tmp_path: Path) -> None:
    repo = prepare(str(tmp_path / "repo"), tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"].extend(range(5000), np.stack([sample(key) for key in range(5000)]))
        seen = []
        for key in w["x"]:
            seen.append(key)
            w["x"][key] = sample(key + 1)
            if key % 500 == 3:
                w.flush()
            if key % 1000 == 5:
                w.commit(f"up to {key}")
        assert seen == list(range(5000))
        seen = []
        for key, value in w["x"].items():
            assert (value == sample(key + 1)).all()
            seen.append(key)
            del w["x"][key]
            if key % 700 == 3:
                w.flush()
        assert seen == list(range(5000))
        assert len(w["x"]) == 0


@pytest.mark.parametrize("commit", [False, True], ids=["flush", "commit"])
def test_going_through_a_column_shows_it_as_it_was_when_that_began(tmp_path: Path, commit: bool) -> None:
    repo = prepare(str(tmp_path / "repo"), tmp_path / "cache")
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column("y", (), np.uint32)
        before = np.arange(40_000, dtype=np.uint32)
        column.extend(range(40_000), before)
        keys, pairs = iter(column), iter(column.items())
        assert (next(keys), next(pairs)[0]) == (0, 0)
        column.extend(range(40_000), before + 1)
        column["more"] = np.uint32(1)
        w.commit("changed") if commit else w.flush()
        assert len(column) == 40_001
        assert len(list(column)) == 40_001
        assert list(keys) == list(range(1, 40_000))
        assert [int(value) for _, value in pairs] == list(range(1, 40_000))


# ---- processes -------------------------------------------------------------------------------------------------------


def test_pickled_views_read_in_other_processes(tmp_path: Path) -> None:
    place = str(tmp_path / "repo")
    repo = prepare(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"].extend(range(1000), np.stack([sample(key) for key in range(1000)]))
        w.commit("many")
    checkout = repo.checkout()
    with processes(2) as pool:
        jobs = [
            pool.submit(read_samples, checkout, checkout["x"], repo, list(range(rank, 1000, 100))) for rank in range(4)
        ]
        assert all(all(job.result()) for job in jobs)


def test_a_pickle_is_of_the_commit_and_not_of_the_branch(tmp_path: Path) -> None:
    repo = prepare(str(tmp_path / "repo"), tmp_path / "cache")
    pickled = pickle.dumps(repo.checkout())
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
        w.commit("one")
    assert len(pickle.loads(pickled)["x"]) == 0
    assert len(pickle.loads(pickled).repository.checkout()["x"]) == 1


def test_writers_are_not_pickled(tmp_path: Path) -> None:
    repo = prepare(str(tmp_path / "repo"), tmp_path / "cache")
    with repo.checkout(write=True) as w:
        for thing in (w, w["x"]):
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(thing)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_reads_and_leaves_the_writers_lock_alone(tmp_path: Path) -> None:
    place = str(tmp_path / "repo")
    repo = prepare(place, tmp_path / "cache")
    w = repo.checkout(write=True)
    w["x"][1] = sample(1)
    w.commit("one")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if exact(repo.checkout()["x"][1]) == exact(sample(1)):
                w.__del__()
                w._staging.close()
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    with pytest.raises(WriterLockedError) as caught:
        reopen(place, tmp_path / "cache").checkout(write=True)
    assert caught.value.pid == os.getpid()
    w.close()
    reopen(place, tmp_path / "cache").checkout(write=True).close()
