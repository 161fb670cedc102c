"""What a writer has staged: kept through crashes, failures of the store and of the disk, and other people's commits."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hangarlake.working_set as working_set
from hangarlake import (
    CommitConflictError,
    NodeExistsError,
    NodeNotFoundError,
    NothingToCommitError,
    Repository,
    SchemaError,
    StorageError,
    WriterLockedError,
)
from hangarlake.columns import stage
from hangarlake.staging import Staging
from hangarlake.storage import LocalStore, MemoryStore
from hangarlake.testing import Fault, FaultyStore
from tests.columns.values import create, exact, reopen
from tests.views.workers import sample


@contextmanager
def worker(*args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a worker; whatever happens, it is gone afterwards."""
    command = [sys.executable, "-m", "tests.views.workers", *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A repository with one empty column, in a folder."""
    with create(tmp_path / "repo", tmp_path / "cache").checkout(write=True) as w:
        w.add_ndarray_column("x", (5,), np.int32, encoding={"chunk_bytes": 100})
        w.commit("x")
    return str(tmp_path / "repo")


def held(column: Any) -> dict[Any, Any]:
    return {key: exact(value) for key, value in column.items()}


def right(keys: Any) -> dict[Any, Any]:
    return {key: exact(sample(key)) for key in keys}


# ---- crashes ---------------------------------------------------------------------------------------------------------


def test_a_writer_that_is_killed_loses_what_was_not_flushed_and_nothing_else(place: str, tmp_path: Path) -> None:
    rng = random.Random(4)
    flushed = 0
    for turn in range(4):
        with worker("ingest", place, tmp_path / "cache", 40) as process:
            assert process.stdout is not None
            lines = rng.randrange(2, 12)
            for line in (next(process.stdout) for _ in range(lines)):
                word, _, number = line.partition(" ")
                if word == "begin":
                    assert int(number) == flushed
                if word.strip() == "flushed":
                    flushed = int(number)
        process.wait()
        with reopen(place, tmp_path / "cache").checkout(write=True) as w:
            count = len(w["x"])
            assert count >= flushed
            assert count % 40 == 0
            assert held(w["x"]) == right(range(count))
            flushed = count
            if turn == 2:
                w.commit("so far")
                assert not w.status()
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        w.commit("the rest")
    column = reopen(place, tmp_path / "other").checkout()["x"]
    assert held(column) == right(range(flushed))


def test_nodes_that_a_crash_left_in_the_staging_file_are_not_taken_for_others(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A node's id says which values it has and not where they lie: the crashed writer's chunks never reached the bucket.
    monkeypatch.setattr(working_set, "_SPILL_BYTES", 1)
    monkeypatch.setattr(stage, "_FOLD_AT", 10)
    crashed = reopen(place, tmp_path / "cache").checkout(write=True)
    for key in range(10):
        crashed["x"][key] = sample(key)
    crashed._staging.close()
    crashed._closed = True
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert len(w["x"]) == 0
        w["x"][99] = sample(99)
        for key in range(9, -1, -1):
            w["x"][key] = sample(key)
        del w["x"][99]
        assert held(w["x"]) == right(range(10))
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert held(w["x"]) == right(range(10))
        w.commit("again")
    assert held(reopen(place, tmp_path / "other").checkout()["x"]) == right(range(10))


def test_a_writer_that_dies_right_after_its_commit_has_nothing_left_to_commit(place: str, tmp_path: Path) -> None:
    with worker("die_after_publishing", place, tmp_path / "cache") as process:
        assert process.wait() == 9
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert not w.status()
        with pytest.raises(NothingToCommitError):
            w.commit("again")
        assert [commit.message for commit in w.repository.log(limit=2)] == ["published", "x"]
        w["x"][2] = sample(2)
        w.commit("next")
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert not w.status()


def test_a_commit_that_dies_leaves_nothing_to_commit_even_if_others_went_on(place: str, tmp_path: Path) -> None:
    with worker("die_after_publishing", place, tmp_path / "cache") as process:
        process.wait()
    with reopen(place, tmp_path / "elsewhere").checkout(write=True) as w:
        w["x"][7] = sample(7)
        w.commit("elsewhere")
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        with pytest.raises(NothingToCommitError):
            w.commit("again")
        assert held(w["x"]) == right([1, 7])
        assert not w.status()
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert not w.status()


def test_after_a_commit_nothing_is_staged(place: str, tmp_path: Path) -> None:
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        w["x"].extend(range(50), np.stack([sample(key) for key in range(50)]))
        w.flush()
        w.commit("fifty")
        assert not w.status()
        assert w._staging.load() is None
        assert w._staging.node_ids() == set()
        assert w._staging.load_chunks() == ([], {})
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert not w.status()
        assert w.commit_base.message == "fifty"


def test_leaving_without_a_commit_keeps_columns_renames_attributes_and_samples(place: str, tmp_path: Path) -> None:
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        w.rename("x", "folder/y")
        w["folder/y"][1] = sample(1)
        w.add_str_column("text")["a"] = "b"
        w.attrs["title"] = ["t"]
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert sorted(w) == ["folder/y", "text"]
        w.flush()
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        commit = w.commit("all")
    checkout = reopen(place, tmp_path / "other").checkout()
    assert held(checkout["folder/y"]) == right([1])
    assert dict(checkout["text"].items()) == {"a": "b"}
    assert checkout.attrs == {"title": ["t"]}
    assert checkout.commit.id == commit.id


def test_a_script_that_failed_half_way_is_told_what_it_left_when_it_runs_again(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = reopen(place, tmp_path / "cache")

    def script() -> None:
        with repo.checkout(write=True) as w:
            w.attrs["title"] = "t"
            w.create_array("waves/height", shape=(4,), dtype="i4")
            w.rename("x", "y")
            w.add_ndarray_column("labels", (), np.int64)["a"] = "one"

    with pytest.raises(SchemaError):
        script()
    assert not caplog.records
    with repo.checkout(write=True) as w:
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("hangarlake.staged", logging.WARNING)
        assert record.getMessage() == (
            "'main' has staged changes from before: 2 columns changed ('labels', 'y'), 1 array changed ('waves/height'), "
            "2 groups changed ('/', 'waves'), attributes changed; w.reset() drops them"
        )
        for name, call, note, remedy in (
            ("labels", lambda: w.add_str_column("labels"), "", "drop it"),
            ("y", lambda: w.add_str_column("y"), r" \(renamed from 'x'\)", "undo that"),
            ("waves", lambda: w.create_group("waves"), "", "drop it"),
        ):
            said = rf"'{name}' is staged already on 'main'{note} and not committed yet: use w\['{name}'\], or {remedy} with w\.reset"
            with pytest.raises(NodeExistsError, match=said):
                call()
        w.commit("after all")
        for call, text in (
            (lambda: w.add_str_column("labels"), "there is a column 'labels' on 'main' already"),
            (lambda: w.create_array("labels", shape=(1,), dtype="i4"), "there is a column 'labels' on 'main' already"),
            (
                lambda: w.create_array("waves/height", shape=(1,), dtype="i4"),
                "there is an array 'waves/height' on 'main' already",
            ),
        ):
            with pytest.raises(NodeExistsError, match=text + r": use w\['.*'\], or remove it with w\.remove\('"):
                call()
    caplog.clear()
    with repo.checkout(write=True):
        assert not caplog.records


def test_renames_of_equal_columns_are_kept_though_the_content_is_the_same(place: str, tmp_path: Path) -> None:
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        for name in ("a", "b"):
            w.add_str_column(name)["key"] = "value"
        w.commit("equal columns")
        for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
            w.rename(old, new)
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        commit = w.commit("swapped")
    assert commit.renames == ({"a": "b", "b": "a"},)


def test_memory_staging_keeps_nothing_and_takes_no_lock(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as locked, repo.checkout(write=True, staging="memory") as w:
        w["x"][1] = sample(1)
        w.flush()
        assert 1 not in locked["x"]
    with repo.checkout(write=True, staging="memory") as w:
        assert len(w["x"]) == 0
        w["x"][1] = sample(1)
        w.commit("one")
    assert held(repo.checkout()["x"]) == right([1])


# ---- one writer ------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_has_the_lock_until_the_holder_dies(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with worker("hold", place, tmp_path / "cache") as process:
        assert process.stdout is not None
        assert next(process.stdout) == "open\n"
        for _ in range(2):
            with pytest.raises(WriterLockedError, match=f"process {process.pid}") as caught:
                repo.checkout(write=True)
            assert caught.value.pid == process.pid
        reopen(place, tmp_path / "another").checkout(write=True).close()
        process.kill()
        process.wait()
        with repo.checkout(write=True) as w:
            assert held(w["x"]) == right([1])


def test_a_second_writer_in_one_process_is_refused_too(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    repo.create_branch("other")
    w = repo.checkout(write=True)
    with pytest.raises(
        WriterLockedError, match=r"by this process \(another open write checkout\); close that one"
    ) as caught:
        repo.checkout(write=True)
    assert caught.value.pid == os.getpid()
    with repo.checkout("other", write=True) as other:
        other["x"][1] = sample(1)
    w.close()
    repo.checkout(write=True).close()


def test_a_writer_that_is_forgotten_gives_the_lock_back(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    w = repo.checkout(write=True)
    w["x"][1] = sample(1)
    del w
    with repo.checkout(write=True) as again:
        assert len(again["x"]) == 0


# ---- the branch moved ------------------------------------------------------------------------------------------------


def test_what_was_staged_before_the_branch_moved_is_replayed_on_it(place: str, tmp_path: Path) -> None:
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        w["x"][1] = sample(1)
    with reopen(place, tmp_path / "elsewhere").checkout(write=True) as w:
        w["x"][2] = sample(2)
        elsewhere = w.commit("elsewhere")
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        assert held(w["x"]) == right([1])
        commit = w.commit("here")
        assert held(w["x"]) == right([1, 2])
        assert commit.parents == (elsewhere.id,)
    assert held(reopen(place, tmp_path / "other").checkout()["x"]) == right([1, 2])


@pytest.mark.parametrize("resumed", [True, False])
def test_the_same_keys_are_a_conflict_and_nothing_is_lost(place: str, tmp_path: Path, resumed: bool) -> None:
    repo = reopen(place, tmp_path / "cache")
    w = repo.checkout(write=True)
    w["x"].extend(range(6), np.stack([sample(key) for key in range(6)]))
    if resumed:
        w.close()
    with reopen(place, tmp_path / "elsewhere").checkout(write=True) as other:
        other["x"][1], other["x"][4], other["x"][5] = sample(11), sample(4), sample(15)
        elsewhere = other.commit("elsewhere")
    if resumed:
        w = repo.checkout(write=True)
    for _ in range(2):
        with pytest.raises(CommitConflictError, match="2 conflicts") as caught:
            w.commit("here")
        assert [(c.node, c.key, c.kind) for c in caught.value.conflicts] == [
            ("x", 1, "added-both"),
            ("x", 5, "added-both"),
        ]
        (first, _) = caught.value.conflicts
        assert (first.base, first.ours.value.tolist(), first.theirs.value.tolist()) == (None, [11] * 5, [1] * 5)
        assert held(w["x"]) == right(range(6))
    with pytest.raises(CommitConflictError, match="rebase"):
        w.commit("here", rebase=False)
    assert repo.resolve("main").id == elsewhere.id
    w.reset()
    assert not w.status()
    w["x"][1] = sample(100)
    assert w.commit("after the reset").parents == (elsewhere.id,)
    assert w["x"][4].tolist() == [4] * 5
    w.close()


def test_changes_to_a_branch_that_was_deleted_are_kept(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    repo.create_branch("side")
    with repo.checkout("side", write=True) as w:
        w["x"][1] = sample(1)
        repo.delete_branch("side")
        with pytest.raises(CommitConflictError, match="deleted"):
            w.commit("one")
        repo.create_branch("side", "main")
        w.commit("one")
    assert held(repo.checkout("side")["x"]) == right([1])


def test_changes_are_replayed_after_the_branch_was_reset(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
        w.commit("one")
        w["x"][2] = sample(2)
        repo.reset_branch("main", "main~1")
        w.commit("two")
    assert held(repo.checkout()["x"]) == right([2])


def test_resetting_one_column_keeps_the_others(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w.add_str_column("text")["a"] = "b"
        w["x"][1] = sample(1)
        w.reset("x")
        assert len(w["x"]) == 0
        assert w["text"]["a"] == "b"
        w.rename("x", "y")
        w.reset(["y"])
        assert sorted(w) == ["text", "x"]
    with repo.checkout(write=True) as w:
        assert sorted(w) == ["text", "x"]
        assert w.status().to_dict()["columns"].keys() == {"text"}


def test_a_reset_drops_no_node_that_took_the_name_of_another(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
        w.add_str_column("text")["a"] = "b"
        w.commit("two columns")
        w.rename("x", "y")
        w.rename("text", "x")
        w["x"]["c"] = "d"
        with pytest.raises(NodeExistsError, match="'y' was renamed from 'x'"):
            w.reset("y")
        assert held(w["y"]) == right([1])
        assert dict(w["x"].items()) == {"a": "b", "c": "d"}
        assert w.status().columns["x"].old_name == "text"
        w.reset(["y", "x"])
        assert not w.status()
        assert held(w["x"]) == right([1])
        assert dict(w["text"].items()) == {"a": "b"}


def test_a_reset_puts_nothing_where_there_is_no_room_and_drops_all_or_nothing(place: str, tmp_path: Path) -> None:
    with reopen(place, tmp_path / "cache").checkout(write=True) as w:
        w.remove("x")
        w.create_array("x/a", shape=(2,), dtype="i4")
        with pytest.raises(NodeExistsError, match="'x' cannot go back"):
            w.reset("x")
        assert "x/a" in w.arrays
        with pytest.raises(NodeNotFoundError, match="nothing"):
            w.reset(["x/a", "nothing"])
        assert "x/a" in w.arrays
        w.remove("x/a")
        w.reset(["x"])
        assert list(w.columns) == ["x"]


def test_a_commit_whose_staging_file_cannot_be_cleared_has_been_made(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Staging) -> None:
        raise StorageError("no space left")

    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
        w.flush()
        with monkeypatch.context() as patch:
            patch.setattr(Staging, "clear", full)
            commit = w.commit("one")
        assert repo.resolve().id == commit.id
        assert "no space left" in caplog.text
        w._staging.close()
        w._closed = True
    with repo.checkout(write=True) as again:
        assert not again.status()


def test_equal_values_after_a_reset_are_written_anew(place: str, tmp_path: Path) -> None:
    # Nodes have the ids they had before the reset, and their values lie elsewhere.
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"].extend(range(8), np.stack([sample(key) for key in range(8)]))
        assert held(w["x"]) == right(range(8))
        assert w["x"][3].tolist() == [3] * 5
        w.reset()
        w["x"][99] = sample(99)
        for key in range(7, -1, -1):
            w["x"][key] = sample(key)
        del w["x"][99]
        assert list(w["x"]) == list(range(8))
        assert [w["x"][key].tolist() for key in range(8)] == [[key] * 5 for key in range(8)]
        w.commit("again")
    assert held(reopen(place, tmp_path / "other").checkout()["x"]) == right(range(8))


# ---- failing stores and disks ----------------------------------------------------------------------------------------


def faulty(tmp_path: Path, local: bool = False) -> FaultyStore:
    store = FaultyStore(LocalStore(tmp_path / "store") if local else MemoryStore())
    with create(store, tmp_path / "cache").checkout(write=True) as w:
        w.add_ndarray_column("x", (5,), np.int32, encoding={"chunk_bytes": 100})
        w.add_bytes_column("raw", encoding={"chunk_bytes": 100})
        w.commit("columns")
    return store


@pytest.mark.parametrize("staging", ["disk", "memory"])
@pytest.mark.parametrize("kind", ["error", "lost-answer"])
def test_whatever_request_of_a_commit_fails_it_can_be_made_again(tmp_path: Path, kind: Any, staging: str) -> None:
    failed = 0
    for after in range(12):
        folder = tmp_path / str(after)
        store = faulty(folder)
        repo = reopen(store, folder / "cache")
        with repo.checkout(write=True, staging=staging) as w:
            w["x"].extend(range(40), np.stack([sample(key) for key in range(40)]))
            w["raw"]["large"] = np.random.default_rng(0).bytes(1 << 20)
            store.plan.append(Fault(kind, after=after))
            try:
                commit = w.commit("forty")
            except StorageError:
                failed += 1
                assert held(w["x"]) == right(range(40))
                assert w.status()
                commit = w.commit("forty")
            assert not w.status()
        store.plan.clear()
        assert [each.message for each in repo.log()] == ["forty", "columns", "Create the repository"]
        fresh = reopen(store.inner, folder / "other")
        assert fresh.resolve("main").id == commit.id
        assert held(fresh.checkout()["x"]) == right(range(40))
        assert fresh.checkout()["raw"]["large"] == np.random.default_rng(0).bytes(1 << 20)
    assert failed >= 3


def test_a_store_that_dies_within_a_commit_holds_all_of_it_or_nothing(tmp_path: Path) -> None:
    outcomes = set()
    for after in range(12):
        folder = tmp_path / str(after)
        store = faulty(folder)
        w = reopen(store, folder / "cache").checkout(write=True)
        w["x"].extend(range(40), np.stack([sample(key) for key in range(40)]))
        w.flush()
        store.plan.append(Fault("crash", after=after))
        try:
            w.commit("forty")
        except StorageError:
            outcomes.add("refused")
        w._staging.close()
        w._closed = True
        fresh = reopen(store.inner, folder / "cache")
        messages = [each.message for each in fresh.log()]
        done = messages[0] == "forty"
        outcomes.add(str(done))
        assert held(fresh.checkout()["x"]) == right(range(40) if done else [])
        with fresh.checkout(write=True) as again:
            assert held(again["x"]) == right(range(40))
            if not done:
                again.commit("forty")
        assert [each.message for each in fresh.log()] == ["forty", "columns", "Create the repository"]
    assert outcomes == {"refused", "True", "False"}


@pytest.mark.parametrize("kind", ["error", "lost-answer"])
def test_uploads_that_fail_during_ingest_lose_nothing(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hangarlake.chunks import packs, uploader

    monkeypatch.setattr(packs, "PACK_BYTES", 2000)
    monkeypatch.setattr(uploader, "_IN_FLIGHT_BYTES", 5000)
    store = faulty(tmp_path)
    repo = reopen(store, tmp_path / "cache")
    values = np.random.default_rng(0).integers(0, 1 << 30, (600, 5), dtype=np.int32)
    rng = random.Random(0)
    with repo.checkout(write=True) as w:
        store.plan += [Fault(kind, op="put", key="packs/*", after=rng.randrange(3)) for _ in range(12)]
        expected = {}
        failures = 0
        for start in range(0, 600, 20):
            rows = values[start : start + 20]
            while True:
                try:
                    w["x"].extend(range(start, start + 20), rows)
                    w["raw"][start] = rows.tobytes() * 20
                except StorageError:
                    failures += 1
                    continue
                break
            expected |= {start + i: exact(row) for i, row in enumerate(rows)}
            if start % 100 == 0:
                with_failures(w.flush)
        assert failures
        with_failures(lambda: held(w["x"]))
        assert held(w["x"]) == expected
        with_failures(lambda: w.commit("all"))
    checkout = reopen(store.inner, tmp_path / "other").checkout()
    assert held(checkout["x"]) == expected
    assert dict(checkout["raw"].items()) == {
        start: values[start : start + 20].tobytes() * 20 for start in range(0, 600, 20)
    }


def with_failures(call: Any) -> None:
    """Repeat until the injected failures are used up."""
    for _ in range(30):
        try:
            call()
        except StorageError:
            continue
        return
    raise AssertionError("it never succeeds")


def test_a_large_sample_whose_upload_failed_is_whole_when_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hangarlake.chunks import uploader

    monkeypatch.setattr(uploader, "_IN_FLIGHT_BYTES", 1)
    store = faulty(tmp_path)
    value = np.random.default_rng(0).integers(0, 256, (7, 1 << 20), dtype=np.uint8)
    repo = reopen(store, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column(
            "large", (None, 1 << 20), np.uint8, variable_shape=True, encoding={"compressor": None}
        )
        store.plan.append(Fault("error", op="put", key="packs/*", after=1, times=2))
        with pytest.raises(StorageError):
            column["a"] = value
        assert "a" not in column
        with_failures(lambda: column.__setitem__("b", value[:1]))
        with_failures(lambda: column.__setitem__("a", value))
        assert (column["a"] == value).all()
        with_failures(lambda: w.commit("large"))
    assert (reopen(store.inner, tmp_path / "other").checkout()["large"]["a"] == value).all()


def test_a_full_disk_fails_the_flush_and_what_is_staged_stays(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][0] = sample(0)
        w.flush()
        pages = w._staging._db.execute("pragma page_count").fetchone()[0]
        w._staging._db.execute(f"pragma max_page_count={pages + 1}")
        noise = np.random.default_rng(0).integers(0, 1 << 30, (5000, 5), dtype=np.int32)
        w["x"].extend(range(1, 5001), noise)
        with pytest.raises(StorageError, match="full"):
            w.flush()
        assert len(w["x"]) == 5001
        w._staging._db.execute("pragma max_page_count=1000000")
        w.flush()
    with repo.checkout(write=True) as w:
        assert exact(w["x"].batch(range(1, 5001))) == exact(noise)
        w.commit("much")


def test_a_staging_file_that_is_no_database_is_named(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][0] = sample(0)
        path = w._staging.path
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match=r"main\.sqlite"):
        repo.checkout(write=True)
    path.unlink()
    repo.checkout(write=True).close()


def test_a_store_that_fails_on_closing_does_not_keep_the_lock(tmp_path: Path) -> None:
    store = faulty(tmp_path)
    repo = reopen(store, tmp_path / "cache")
    w = repo.checkout(write=True)
    w["raw"]["a"] = np.random.default_rng(0).bytes(2 << 20)
    store.plan.append(Fault("error", op="put", times=None))
    with pytest.raises(StorageError):
        w.close()
    store.plan.clear()
    repo.checkout(write=True).close()


def test_repositories_are_created_whole_whatever_request_fails(tmp_path: Path) -> None:
    for kind in ("error", "lost-answer", "crash"):
        for after in range(10):
            store = FaultyStore(MemoryStore(), [Fault(kind, after=after)])  # type: ignore[arg-type]
            try:
                create(store, tmp_path / "a")
            except StorageError:
                # Who died on the way is succeeded by the next one.
                try:
                    Repository.open(store.inner, cache_dir=tmp_path / "b").resolve()
                except (OSError, KeyError):
                    create(store.inner, tmp_path / "c")
            repo = Repository.open(store.inner, cache_dir=tmp_path / "d")
            assert [commit.message for commit in repo.log()] == ["Create the repository"]
