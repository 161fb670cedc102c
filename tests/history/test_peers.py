"""What went wrong in systems like this one, and must not here; merges and diffs of the kind have tests of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hangarlake as hl
from hangarlake import Repository
from hangarlake.storage import ObjectStore
from hangarlake.testing import CountingStore
from tests.history.worlds import commit, world_at


@pytest.mark.parametrize("key", [True, False, np.True_, None, 1.0, b"k", "", "a\nb", (1, 2)])
def test_a_key_that_is_none_is_refused_and_the_branch_goes_on(repo: Repository, key: object) -> None:
    commit(repo, "main", {"a": {1: 1}})
    with repo.checkout("main", write=True) as w:
        with pytest.raises(hl.SchemaError):
            w["a"][key] = np.int64(1)
        w["a"][2] = np.int64(2)
        w.commit("go on")
    assert world_at(repo, "main") == {"a": {1: 1, 2: 2}}


def test_short_ids_mean_what_they_begin_or_nothing(repo: Repository) -> None:
    ids = [commit(repo, "main", {"a": {1: n}}).id for n in range(6)]
    for commit_id in ids:
        assert repo.resolve(commit_id[:12]).id == commit_id
        other = f"{(int(commit_id[:8], 16) + 1) % 16**8:08x}"
        if not any(each.startswith(other) for each in ids):
            for use in (repo.resolve, repo.merge, repo.revert, lambda rev: repo.diff(rev, "main")):
                with pytest.raises(hl.RevisionNotFoundError):
                    use(other)
    with pytest.raises(hl.RevisionNotFoundError):
        repo.resolve(ids[0][:3])


def test_a_writer_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    repo = Repository.create(tmp_path / "repo")
    commit(repo, "main", {"a": {1: 1}})
    script = (
        "import os, sys, numpy as np, hangarlake as hl\n"
        "w = hl.Repository.open(sys.argv[1]).checkout('main', write=True)\n"
        "w['a', 2] = np.int64(2)\nw.flush()\nos._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "repo")], check=False)
    assert done.returncode == 9
    with repo.checkout("main", write=True) as w:
        assert list(w.status().columns["a"].added) == [2]
        w.commit("what was flushed is here")
    assert world_at(repo, "main") == {"a": {1: 1, 2: 2}}


def test_an_import_whose_source_fails_ends_with_that_error(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}})

    def source() -> Iterator[np.ndarray]:
        yield from (np.asarray(n) for n in range(50))
        raise RuntimeError("the source is broken")

    with repo.checkout("main", write=True) as w:
        with pytest.raises(RuntimeError, match="broken"):
            w["a"].extend(range(100), source())
        assert w.status().is_empty
        w["a"][2] = np.int64(2)
        w.commit("go on")
    assert world_at(repo, "main") == {"a": {1: 1, 2: 2}}


def test_a_commit_stores_what_changed_and_not_everything(store: ObjectStore) -> None:
    counting = CountingStore(store)
    repo = Repository.create(counting)
    with repo.checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("x", (), "int64").extend(range(100_000), np.arange(100_000))
        w.commit("many")
    repo.create_branch("side")
    for branch, key in (("main", 5), ("side", 77_777)):
        with repo.checkout(branch, write=True, staging="memory") as w:
            w["x"][key] = np.int64(-1)
            repo.close()
            counting.reset()
            w.commit("one")
            repo.close()
            assert counting.bytes_written < 80_000
    counting.reset()
    repo.merge("side")
    repo.close()
    assert counting.bytes_written < 80_000
