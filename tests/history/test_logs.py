"""Logs of everything, of one column, of one sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake import Repository
from hangarlake.storage import ObjectStore
from hangarlake.testing import CountingStore
from tests.history.worlds import commit


def subjects(repo: Repository, rev: str | None = None, **options: Any) -> list[str]:
    return [each.message for each in repo.log(rev, **options)]


@pytest.fixture
def told(repo: Repository) -> Repository:
    """A history of two columns, one of which is renamed, removed and added again."""
    commit(repo, "main", {"a": {1: 1, 2: 2}}, "add")
    commit(repo, "main", {"a": {1: 1, 2: 2}, "s": {1: 1}}, "other")
    commit(repo, "main", {"a": {1: 5, 2: 2}, "s": {1: 1}}, "change 1")
    with repo.checkout("main", write=True) as w:
        w.rename("a", "z")
        w.commit("rename")
        w["z", 2] = np.int64(6)
        w.commit("change 2")
        del w["z", 1]
        w["z", 3] = np.int64(3)
        w.commit("remove 1, add 3")
        w.remove("z")
        w.commit("remove")
        w["s", 1] = "2"
        w.commit("change other")
        w.add_ndarray_column("z", (), "int64")[1] = np.int64(1)
        w.commit("add again")
    return repo


def test_the_log_of_a_column_follows_renames_and_goes_past_removals(told: Repository) -> None:
    assert subjects(told, node="z") == [
        "add again",
        "remove",
        "remove 1, add 3",
        "change 2",
        "rename",
        "change 1",
        "add",
    ]
    assert subjects(told, node="s") == ["change other", "other"]
    assert subjects(told, node="z", limit=2) == ["add again", "remove"]
    assert subjects(told, node="z", limit=0) == []
    assert subjects(told, "main~4", node="z") == ["change 2", "rename", "change 1", "add"]


def test_the_log_of_a_sample_tells_its_changes_alone(told: Repository) -> None:
    assert subjects(told, node="z", key=1) == ["add again", "remove 1, add 3", "change 1", "add"]
    assert subjects(told, node="z", key=2) == ["remove", "change 2", "add"]
    assert subjects(told, node="z", key=3) == ["remove", "remove 1, add 3"]
    assert subjects(told, node="z", key="1") == []
    with pytest.raises(ValueError, match="node"):
        told.log(key=1)


def test_a_range_is_what_one_revision_has_and_another_lacks(told: Repository) -> None:
    told.create_branch("side", "main~5")
    made = commit(told, "side", {"s": {1: 9}}, "on the side")
    below = ["change other", "remove", "remove 1, add 3", "change 2", "rename"]
    assert subjects(told, "side..main") == ["add again", *below[:4]]
    assert subjects(told, "side..") == subjects(told, f"{made.id}..HEAD") == ["add again", *below[:4]]
    assert subjects(told, "..side") == ["on the side"]
    assert subjects(told, "main..main~1") == subjects(told, "main..main") == []
    assert subjects(told, "main~3..main~1", limit=1) == ["change other"]
    told.merge("side", message="merge", resolve="ours")
    assert subjects(told, "main~1..main") == ["merge", "on the side"]
    assert subjects(told, "main~2..main~1", node="z") == ["add again"]
    assert subjects(told, "main~4..main~1", node="z") == ["add again", "remove"]
    assert subjects(told, "main..main~1", node="never") == []
    with pytest.raises(hl.NodeNotFoundError, match="none of 2 commits up to"):
        subjects(told, "main~1..main", node="never")
    for wrong in ("main...side", "nothing..main", "main..nothing", "main..side..main"):
        with pytest.raises(hl.RevisionNotFoundError):
            told.log(wrong)


def test_a_column_that_never_was_is_refused(told: Repository) -> None:
    with pytest.raises(hl.NodeNotFoundError, match="ever held"):
        subjects(told, node="nothing")
    with pytest.raises(hl.NodeNotFoundError):
        subjects(told, node="a")  # its present name is meant
    assert subjects(told, "main~7", node="a") == ["add"]
    with pytest.raises(hl.RevisionNotFoundError):
        told.log("nothing", node="z")


def test_a_name_that_was_another_columns_is_not_followed_into_it(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}}, "add a")
    with repo.checkout("main", write=True) as w:
        w.rename("a", "z")
        w.add_ndarray_column("a", (), "int64")[5] = np.int64(5)
        w.commit("new a")
    assert subjects(repo, node="a") == ["new a"]
    assert subjects(repo, node="z") == ["new a", "add a"]


def test_logs_of_nested_samples(repo: Repository) -> None:
    commit(repo, "main", {"n": {(1, "x"): 1, ("s", 1): 1}}, "add")
    commit(repo, "main", {"n": {(1, "x"): 1, (1, "y"): 2, ("s", 1): 1}}, "more")
    commit(repo, "main", {"n": {(1, "x"): 3, (1, "y"): 2, ("s", 1): 1, ("s2", 1): 1}}, "change")
    assert subjects(repo, node="n", key=1) == ["change", "more", "add"]
    assert subjects(repo, node="n", key=(1, "y")) == ["more"]
    assert subjects(repo, node="n", key="s") == ["add"]
    assert subjects(repo, node="n", key=("s", 1)) == ["add"]


def test_no_parent_of_a_merge_is_dropped(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}}, "add")
    repo.create_branch("side")
    commit(repo, "main", {"a": {1: 2}}, "ours")
    commit(repo, "side", {"a": {1: 3}}, "theirs")
    repo.merge("side", resolve="ours", message="merge")
    assert sorted(subjects(repo)) == sorted(["merge", "ours", "theirs", "add", "Create the repository"])
    # The merge took what one side had: it changed nothing itself. What it left behind is history all the same.
    assert sorted(subjects(repo, node="a")) == ["add", "ours", "theirs"]
    repo.reset_branch("main", "main~1")
    repo.merge("side", resolve=lambda c: np.int64(9), message="both")
    assert subjects(repo, node="a")[0] == "both"
    assert subjects(repo, node="a", key=1)[0] == "both"


def test_a_rename_on_one_side_of_a_merge_is_followed_down_both(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}}, "add")
    repo.create_branch("side")
    with repo.checkout("main", write=True) as w:
        w.rename("a", "z")
        w.commit("rename")
    commit(repo, "side", {"a": {1: 1, 2: 2}}, "theirs")
    repo.merge("side", message="merge")
    assert sorted(subjects(repo, node="z")) == ["add", "merge", "rename", "theirs"]
    assert sorted(subjects(repo, node="z", key=2)) == ["theirs"]


def test_a_log_of_one_sample_reads_catalogs_and_few_nodes(store: ObjectStore) -> None:
    repo = Repository.create(store)
    world = {"a": dict.fromkeys(range(2000), 1), "s": {1: 0}}
    commit(repo, "main", world, "add")
    with repo.checkout("main", write=True) as w:
        for i in range(40):
            w["s", 1] = str(i + 1)
            w.commit("other")
        w["a", 1000] = np.int64(7)
        w.commit("change")
    counting = CountingStore(store)
    assert subjects(Repository.open(counting), node="a", key=1000) == ["change", "add"]
    keys = [request.key for request in counting.requests]
    assert not [key for key in keys if key.startswith("packs/")]
    assert len([key for key in keys if key.startswith("trees/")]) <= 6
    catalogs = [key for key in keys if key.startswith("catalogs/")]
    assert len(catalogs) == len(set(catalogs))
