"""Revert, cherry-pick, reset and reflog."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake import Repository
from tests.history.worlds import commit, world_at

BASE: dict[str, Any] = {"a": {1: 1, 2: 2}, "s": {"k": 1}, "": {"t": 1}}


def test_revert_undoes_the_head(repo: Repository) -> None:
    first = commit(repo, "main", BASE)
    second = commit(repo, "main", {"a": {1: 9, 3: 3}, "": {"t": 2, "u": 1}}, "Everything else\n\nBecause.")
    made = repo.revert("main")
    assert (made.catalog, made.parents) == (first.catalog, (second.id,))
    assert made.message == f'Revert "Everything else"\n\nThis reverts commit {second.id}.'
    assert next(iter(repo.reflog("main"))).operation == "revert"
    assert repo.revert("main", message="No, it was right").catalog == second.catalog


def test_revert_of_an_earlier_commit_keeps_what_came_later(repo: Repository) -> None:
    commit(repo, "main", BASE)
    second = commit(repo, "main", {**BASE, "a": {1: 9, 2: 2, 3: 3}})
    commit(repo, "main", {**BASE, "a": {1: 9, 2: 2, 3: 3, 4: 4}, "b": {1: 1}})
    repo.revert(second)
    assert world_at(repo, "main") == {**BASE, "a": {1: 1, 2: 2, 4: 4}, "b": {1: 1}}


def test_revert_of_what_later_commits_changed_conflicts(repo: Repository) -> None:
    commit(repo, "main", BASE)
    second = commit(repo, "main", {**BASE, "a": {1: 9, 2: 2}})
    head = commit(repo, "main", {**BASE, "a": {1: 10, 2: 2}})
    with pytest.raises(hl.MergeConflictError) as caught:
        repo.revert(second)
    (conflict,) = caught.value.conflicts
    sides = [int(side.value) for side in (conflict.base, conflict.ours, conflict.theirs) if side is not None]
    assert (conflict.key, sides) == (1, [9, 10, 1])
    assert repo.branches["main"] == head.id
    assert world_at(repo, repo.revert(second, resolve="theirs"))["a"] == {1: 1, 2: 2}


def test_revert_undoes_a_rename_and_keeps_later_edits(repo: Repository) -> None:
    commit(repo, "main", BASE)
    with repo.checkout("main", write=True) as w:
        w.rename("s", "z")
        renamed = w.commit("rename")
        w["z", "l"] = "5"
        w.commit("edit")
    made = repo.revert(renamed)
    assert world_at(repo, made) == {**BASE, "s": {"k": 1, "l": 5}}
    assert made.renames == ({"z": "s"},)


def test_revert_of_a_merge_needs_the_number_of_a_parent(repo: Repository) -> None:
    commit(repo, "main", BASE)
    repo.create_branch("side")
    ours = commit(repo, "main", {**BASE, "a": {1: 1, 2: 2, 3: 3}})
    theirs = commit(repo, "side", {**BASE, "a": {1: 1, 2: 2, 4: 4}})
    merge = repo.merge("side")
    with pytest.raises(ValueError, match="mainline"):
        repo.revert(merge)
    for wrong in (0, 3, -1):
        with pytest.raises(ValueError, match="no parent"):
            repo.revert(merge, mainline=wrong)
    with pytest.raises(TypeError, match="mainline"):
        repo.revert(merge, mainline=True)
    made = repo.revert(merge, mainline=1)
    assert made.catalog == ours.catalog
    assert ours.id in made.message
    repo.reset_branch("main", merge)
    assert repo.revert(merge, mainline=2).catalog == theirs.catalog
    with pytest.raises(ValueError, match="no parent"):
        repo.revert(ours, mainline=2)


def test_revert_of_the_first_commit_leaves_nothing(repo: Repository) -> None:
    root = repo.resolve()
    with pytest.raises(hl.NothingToCommitError):
        repo.revert(root)
    commit(repo, "main", BASE)
    with pytest.raises(ValueError, match="no parent"):
        repo.revert(root, mainline=1)


def test_what_is_undone_already_is_nothing_to_revert(repo: Repository) -> None:
    commit(repo, "main", BASE)
    second = commit(repo, "main", {**BASE, "b": {1: 1}})
    head = repo.revert(second)
    with pytest.raises(hl.NothingToCommitError):
        repo.revert(second)
    assert repo.branches["main"] == head.id


def test_revert_on_another_branch(repo: Repository) -> None:
    commit(repo, "main", BASE)
    second = commit(repo, "main", {**BASE, "b": {1: 1}})
    repo.create_branch("side")
    repo.revert("side", branch="side")
    assert world_at(repo, "side") == BASE
    assert repo.branches["main"] == second.id
    with pytest.raises(hl.RevisionNotFoundError):
        repo.revert(second, branch="nothing")
    with pytest.raises(TypeError):
        repo.revert([second])  # type: ignore[arg-type]


def test_cherry_pick_repeats_a_change_with_its_author_and_message(repo: Repository) -> None:
    commit(repo, "main", BASE)
    repo.create_branch("side")
    commit(repo, "side", {**BASE, "b": {1: 1}})
    with repo.checkout("side", write=True) as w:
        w["a", 7] = np.int64(7)
        w.rename("s", "z")
        picked = w.commit("Pick me\n\nPlease.", author="Bob <bob@example.org>")
    made = repo.cherry_pick(picked)
    assert (made.message, str(made.author), len(made.parents)) == (picked.message, "Bob <bob@example.org>", 1)
    assert world_at(repo, made) == {"a": {1: 1, 2: 2, 7: 7}, "z": {"k": 1}, "": {"t": 1}}
    assert made.renames == ({"s": "z"},)
    entry = next(iter(repo.reflog("main")))
    assert (entry.operation, str(entry.author)) == ("cherry-pick", "Ada Lovelace <ada@example.org>")
    with pytest.raises(hl.NothingToCommitError):
        repo.cherry_pick(picked)


def test_cherry_pick_follows_renames_on_the_branch(repo: Repository) -> None:
    commit(repo, "main", BASE)
    repo.create_branch("side")
    with repo.checkout("main", write=True) as w:
        w.rename("a", "x")
        w.commit("rename")
    picked = commit(repo, "side", {**BASE, "a": {1: 1, 2: 2, 3: 3}})
    with repo.checkout(repo.cherry_pick(picked)) as view:
        assert list(view["x"]) == [1, 2, 3]
        assert "a" not in view


def test_cherry_pick_conflicts_and_is_resolved(repo: Repository) -> None:
    commit(repo, "main", BASE)
    repo.create_branch("side")
    commit(repo, "main", {**BASE, "a": {1: 5, 2: 2}})
    picked = commit(repo, "side", {**BASE, "a": {1: 6, 2: 2}})
    with pytest.raises(hl.MergeConflictError):
        repo.cherry_pick(picked)
    made = repo.cherry_pick(picked, resolve=lambda c: c.ours.value + c.theirs.value, message="Sum")
    assert (world_at(repo, made)["a"][1], made.message) == (11, "Sum")


def test_cherry_pick_of_a_merge_needs_the_number_of_a_parent(repo: Repository) -> None:
    commit(repo, "main", BASE)
    for name in ("side", "third"):
        repo.create_branch(name)
    commit(repo, "main", {**BASE, "a": {1: 1, 2: 2, 3: 3}})
    commit(repo, "side", {**BASE, "a": {1: 1, 2: 2, 4: 4}})
    merge = repo.merge("side")
    with pytest.raises(ValueError, match="mainline"):
        repo.cherry_pick(merge, branch="third")
    repo.cherry_pick(merge, branch="third", mainline=1)
    assert world_at(repo, "third")["a"] == {1: 1, 2: 2, 4: 4}


def test_cherry_pick_of_a_first_commit_brings_all_of_it(repo: Repository) -> None:
    with pytest.raises(hl.NothingToCommitError):
        repo.cherry_pick("main")


def test_a_branch_reset_by_mistake_is_recovered_from_its_reflog(repo: Repository) -> None:
    first = commit(repo, "main", BASE)
    second = commit(repo, "main", {**BASE, "a": {1: 9}})
    repo.reset_branch("main", "main~2")
    assert world_at(repo, "main") == {}
    lost = next(entry for entry in repo.reflog("main") if entry.operation == "reset")
    assert (lost.previous, lost.commit) == (second.id, f"{repo.resolve(first.id + '~1').id}")
    assert repo.resolve("main@{1}").id == second.id
    repo.reset_branch("main", str(lost.previous))
    assert world_at(repo, "main") == {**BASE, "a": {1: 9}}
    assert [entry.operation for entry in repo.reflog("main")] == ["reset", "reset", "commit", "commit", "create"]
    assert [commit.id for commit in repo.log()][:2] == [second.id, first.id]


def test_the_reflog_tells_merges_and_fast_forwards(repo: Repository) -> None:
    commit(repo, "main", BASE)
    repo.create_branch("side")
    tip = commit(repo, "side", {**BASE, "b": {1: 1}})
    repo.merge("side")
    commit(repo, "main", {**BASE, "a": {1: 2}, "b": {1: 1}})
    commit(repo, "side", {**BASE, "b": {1: 2}})
    made = repo.merge("side")
    entries = list(repo.reflog("main"))
    assert [entry.operation for entry in entries] == ["merge", "commit", "merge", "commit", "create"]
    assert (entries[0].commit, entries[0].message) == (made.id, "Merge branch 'side'")
    assert (entries[2].commit, entries[2].message) == (tip.id, "merge branch 'side': fast-forward")
