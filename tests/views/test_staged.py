"""Looking at what is staged without being its writer: no lock, one moment, and who is at work."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import Column, Repository, RevisionNotFoundError, StorageError, WriterLockedError
from hangarlake.records.canonical import quote_name
from hangarlake.staging import Staging
from tests.columns.values import exact, reopen
from tests.views.test_staging import held, place, right, worker
from tests.views.workers import sample

__all__ = ["place"]  # the fixture


def staging_file(repo: Repository, branch: str = "main") -> Path:
    return repo._session.working_copy / "staging" / f"{quote_name(branch)}.sqlite"


def test_looking_while_another_process_writes_sees_whole_flushes_and_says_who_writes(
    place: str, tmp_path: Path
) -> None:
    repo = reopen(place, tmp_path / "cache")
    counts = []
    with worker("ingest", place, tmp_path / "cache", 40) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith("flushed"):
                continue
            with repo.staged() as staged:
                assert staged.writer == process.pid
                count = len(staged["x"])
                assert count % 40 == 0
                assert count >= int(line.split()[1])
                assert list(staged.status().columns["x"].added) == list(range(count))
                # The writer goes on all the while, and what is seen here stays as it is.
                assert held(staged["x"]) == right(range(count))
            counts.append(count)
            if len(counts) == 5:
                break
        with pytest.raises(WriterLockedError):
            repo.checkout(write=True)
        process.kill()
        process.wait()
    assert counts == sorted(counts)
    with repo.staged() as staged:
        assert staged.writer is None
        assert len(staged["x"]) >= counts[-1]
    with repo.checkout(write=True) as w:
        assert len(w["x"]) >= counts[-1]


def test_a_view_stays_as_it_is_and_bars_no_writer(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
    with repo.staged() as staged:
        assert staged.writer is None
        with repo.checkout(write=True) as w:
            w["x"][2] = sample(2)
            w.flush()
            with repo.staged() as later:
                assert later.writer == os.getpid()
                assert held(later["x"]) == right([1, 2])
            w.commit("both")
            with repo.staged() as after:
                assert not after.status()
                assert held(after["x"]) == right([1, 2])
        assert held(staged["x"]) == right([1])
        assert staged.status().summary() == "1 column changed, 1 sample added"
        assert list(repo.diff("main", staged).columns["x"].removed) == [2]
        assert list(staged.diff("main").columns["x"].added) == [2]


def test_what_is_seen_is_what_the_writer_sees(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"].extend(range(300), np.stack([sample(key) for key in range(300)]))
        w.rename("x", "folder/y")
        w.add_str_column("text")["a"] = "b"
        w.attrs["title"] = ["t"]
        w.create_array("group/a", shape=(4, 4), dtype="i4", chunks=(2, 2))[:2, :2] = 7
        w.flush()
        expected = w.status().to_dict(keys=True)
        against = repo.diff("main~1", w).to_dict(keys=True)
        with repo.staged("main") as staged:
            assert staged.status().to_dict(keys=True) == expected
            assert repo.diff("main~1", staged).to_dict(keys=True) == against
            assert sorted(staged) == sorted(w)
            assert staged.attrs == {"title": ["t"]}
            assert staged.commit_base == w.commit_base
            assert (staged.branch, staged.repository) == ("main", repo)
            assert held(staged["folder/y"]) == right(range(300))
            assert staged["folder/y", 3].tolist() == [3] * 5
            assert staged["text", "a"] == "b"
            assert staged.arrays["group/a"][...].tolist() == w.arrays["group/a"][...].tolist()
            assert exact(staged.status().columns["folder/y"].values(3).new) == exact(sample(3))
            with pytest.raises(PermissionError, match="read-only"):
                staged["text"]["a"] = "c"


def test_without_anything_staged_the_head_is_seen_and_nothing_is_made(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "fresh")
    with repo.staged() as staged:
        assert isinstance(staged.columns["x"], Column)
        assert not staged.status()
        assert staged.writer is None
    assert not staging_file(repo).parent.exists()
    with pytest.raises(RevisionNotFoundError, match="not a branch"):
        repo.staged("main~1")


def test_what_was_published_by_a_writer_that_died_is_not_staged(place: str, tmp_path: Path) -> None:
    with worker("die_after_publishing", place, tmp_path / "cache") as process:
        process.wait()
    with reopen(place, tmp_path / "cache").staged() as staged:
        assert not staged.status()
        assert held(staged["x"]) == right([1])


def test_a_closed_view_says_so_and_none_pickles(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
    with repo.staged() as staged:
        with pytest.raises(TypeError, match="staged on 'main' cannot be pickled"):
            pickle.dumps(staged)
        column = staged["x"]
    with pytest.raises(ValueError, match="staged on 'main' is closed"):
        staged["x"]
    with pytest.raises(ValueError, match="closed"):
        len(column)
    assert "closed" in repr(staged)


def test_a_process_id_that_a_dead_writer_left_is_not_believed(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
    left = staging_file(repo).with_suffix(".pid")
    left.write_text(str(os.getpid()))  # alive, and no writer
    with repo.staged() as staged:
        assert staged.writer is None
    assert not left.exists()


def test_files_that_cannot_be_read_are_named(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w["x"][1] = sample(1)
    path = staging_file(repo)
    kept = path.read_bytes()
    for damage, message in (
        ("pragma user_version = 99", "another version"),
        ("update state set value = '{'", "cannot be used"),
        ("update state set value = '{}'", "damaged"),
        ("update state set value = json_set(value, '$.catalog', 3)", "names no catalog"),
    ):
        db = sqlite3.connect(path)
        with db:
            db.execute(damage)
        db.close()
        for look in (repo.staged, lambda: repo.checkout(write=True)):
            with pytest.raises(StorageError, match=message) as caught:
                look()
            assert str(path) in str(caught.value)
        # Nobody has the file open any more: its log has been folded in.
        assert sorted(each.suffix for each in path.parent.iterdir()) == [".lock", ".sqlite"]
        path.write_bytes(kept)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="cannot be used"):
        repo.staged()


# ---- the lock --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_childs_copy_of_a_writer_does_not_give_the_lock_back(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    writers: list[Any] = [repo.checkout(write=True)]
    child = os.fork()
    if child == 0:
        writers.clear()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(WriterLockedError):
        reopen(place, tmp_path / "cache").checkout(write=True)
    writers.pop().close()


def test_closing_twice_leaves_the_next_writer_alone(tmp_path: Path) -> None:
    path = tmp_path / "main.sqlite"
    first = Staging(path, "a branch")
    first.close()
    second = Staging(path, "a branch")
    first.close()
    with pytest.raises(WriterLockedError) as caught:
        Staging(path, "a branch")
    assert caught.value.pid == os.getpid()
    second.close()


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(place: str, tmp_path: Path) -> None:
    repo = reopen(place, tmp_path / "cache")
    folder = staging_file(repo).parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in its place")
    with pytest.raises(StorageError, match="HANGARLAKE_CACHE_DIR") as caught:
        repo.checkout(write=True)
    assert str(folder) in str(caught.value)
    with repo.checkout(write=True, staging="memory") as w:
        w["x"][1] = sample(1)
        w.commit("in memory")
