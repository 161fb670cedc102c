"""Laws of history, checked on random worlds against nested dicts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hangarlake as hl
from hangarlake import Diff, Repository
from hangarlake.columns.writable import WritableColumn
from hangarlake.storage import MemoryStore
from tests.history.worlds import World, add_column, commit, merged, read, stage, world_at

flat = st.one_of(st.integers(-3, 3), st.sampled_from(["k", "l"]))
samples = st.dictionaries(flat, st.integers(1, 4), max_size=5)
nested = st.dictionaries(st.tuples(flat, flat), st.integers(1, 4), max_size=4)
#: Sample 0 of “v” is empty, so its numbers start at 1.
worlds = st.fixed_dictionaries(
    {},
    optional={
        "a": samples,
        "b": samples,
        "v": samples,
        "s": samples,
        "n": nested,
        "": st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2), min_size=1),
    },
)
law = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

_numbers = itertools.count()


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One repository for all examples: each works on branches of its own."""
    return Repository.create(MemoryStore(), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def root(repo: Repository) -> str:
    return repo.resolve("main").id


def plant(repo: Repository, at: str, world: World) -> tuple[str, hl.Commit]:
    """Make a branch at a commit and commit a world to it."""
    name = f"branch{next(_numbers)}"
    repo.create_branch(name, at)
    return name, commit(repo, name, world)


def grow(repo: Repository, root: str, base: World, ours: World, theirs: World) -> tuple[str, str]:
    """Make two branches that part from a base."""
    _, at = plant(repo, root, base)
    return plant(repo, at.id, ours)[0], plant(repo, at.id, theirs)[0]


@law
@given(worlds, worlds, worlds)
def test_a_merge_is_that_of_dicts(repo: Repository, root: str, base: World, ours: World, theirs: World) -> None:
    left, right = grow(repo, root, base, ours, theirs)
    expected, conflicts = merged(base, ours, theirs)
    if conflicts:
        with pytest.raises(hl.MergeConflictError) as caught:
            repo.merge(right, left)
        assert {(c.node, c.key) for c in caught.value.conflicts} == conflicts
    else:
        assert world_at(repo, repo.merge(right, left, message="m")) == expected
        return
    picked, _ = merged(base, ours, theirs, lambda name, key: "theirs" if hash((name, key)) % 2 else "ours")
    at = repo.resolve(left).id
    for resolve, world in (
        ("ours", expected),
        (lambda c: hl.THEIRS if hash((c.node, c.key)) % 2 else hl.OURS, picked),
    ):
        repo.reset_branch(left, at)
        assert world_at(repo, repo.merge(right, left, resolve=resolve)) == world  # type: ignore[arg-type]


@law
@given(worlds, worlds)
def test_merging_equals_gives_the_same(repo: Repository, root: str, base: World, world: World) -> None:
    left, right = grow(repo, root, base, world, world)
    catalog = repo.resolve(left).catalog
    made = repo.merge(right, left, message="m")
    assert made.catalog == catalog
    assert repo.merge(left, left) == made
    assert repo.merge(right, left, message="again") == made


@law
@given(worlds, worlds)
def test_merging_with_the_base_gives_the_other_side(repo: Repository, root: str, base: World, world: World) -> None:
    changed, still = grow(repo, root, base, world, base)
    catalog = repo.resolve(changed).catalog
    assert repo.merge(still, changed, message="m").catalog == catalog
    changed, still = grow(repo, root, base, world, base)
    assert repo.merge(changed, still, message="m").catalog == catalog


@law
@given(worlds, worlds, worlds)
def test_merging_is_symmetric_up_to_ours_and_theirs(
    repo: Repository, root: str, base: World, ours: World, theirs: World
) -> None:
    left, right = grow(repo, root, base, ours, theirs)
    at = repo.resolve(left).id, repo.resolve(right).id
    for one, two in (("ours", "theirs"), ("theirs", "ours")):
        repo.reset_branch(left, at[0])
        a = repo.merge(at[1], left, resolve=one, message="m")  # type: ignore[arg-type]
        repo.reset_branch(right, at[1])
        b = repo.merge(at[0], right, resolve=two, message="m")  # type: ignore[arg-type]
        assert a.catalog == b.catalog


def apply(repo: Repository, branch: str, diff: Diff) -> hl.Commit:
    """Do to a branch what a diff says, and commit it."""
    with repo.checkout(branch, write=True, staging="memory") as w:
        for name, change in diff.columns.items():
            if change.state == "removed":
                w.remove(name)
                continue
            if change.state == "added":
                add_column(w, name)
            column: Any = w[name]
            assert isinstance(column, WritableColumn)
            for key in change.removed:
                del column[key]
            for key in itertools.chain(change.added, change.modified):
                column[key] = change.values(key).new
        for name, (_, new) in diff.attrs.items():
            if isinstance(new, int):
                w.attrs[name] = new
            else:
                del w.attrs[name]
        return w.commit("apply", allow_empty=True)


@law
@given(worlds, worlds)
def test_a_diff_applied_to_one_gives_the_other(repo: Repository, root: str, one: World, two: World) -> None:
    a, b = plant(repo, root, one), plant(repo, root, two)
    assert apply(repo, a[0], repo.diff(a[0], b[0])).catalog == b[1].catalog
    assert repo.diff(a[0], b[0]).is_empty


@law
@given(worlds, worlds)
def test_a_diff_is_that_of_dicts_and_empty_where_ids_are_equal(
    repo: Repository, root: str, one: World, two: World
) -> None:
    a, b = plant(repo, root, one)[1], plant(repo, root, two)[1]
    diff, back = repo.diff(a, b), repo.diff(b, a)
    assert diff.is_empty == (a.catalog == b.catalog) == (one == two)
    for name in {*one, *two} - {""}:
        old, new = one.get(name, {}), two.get(name, {})
        change, reverse = diff.columns.get(name), back.columns.get(name)
        if change is None or reverse is None:
            assert name in one
            assert name in two
            assert old == new
            continue
        assert set(change.added) == set(reverse.removed) == set(new) - set(old)
        assert set(change.removed) == set(reverse.added) == set(old) - set(new)
        assert set(change.modified) == set(reverse.modified) == {k for k in {*old} & {*new} if old[k] != new[k]}
        assert change.counts == (len(list(change.added)), len(list(change.removed)), len(list(change.modified)))
        assert {entry.key: entry.state for entry in change.entries()} == {
            **dict.fromkeys(change.added, "added"),
            **dict.fromkeys(change.removed, "removed"),
            **dict.fromkeys(change.modified, "modified"),
        }


@law
@given(worlds, worlds)
def test_revert_undoes_a_diff(repo: Repository, root: str, before: World, after: World) -> None:
    branch, first = plant(repo, root, before)
    second = commit(repo, branch, after)
    if first.catalog == second.catalog:
        with pytest.raises(hl.NothingToCommitError):
            repo.revert(second, branch=branch)
        return
    assert repo.revert(second, branch=branch).catalog == first.catalog
    assert repo.cherry_pick(second, branch=branch).catalog == second.catalog


@law
@given(worlds, worlds, st.sampled_from(["ours", "theirs"]))
def test_status_is_the_diff_that_a_commit_makes(
    repo: Repository, root: str, before: World, after: World, resolve: str
) -> None:
    branch, first = plant(repo, root, before)
    with repo.checkout(branch, write=True, staging="memory") as w:
        stage(w, after)
        status = w.status()
        told = status.to_dict(keys=True)
        assert read(w) == after
        made = w.commit("x", allow_empty=True)
        assert told == repo.diff(first, made).to_dict(keys=True) == status.to_dict(keys=True)


@settings(law, max_examples=15)
@given(st.data())
def test_logs_never_repeat_and_never_omit(repo: Repository, root: str, data: st.DataObject) -> None:
    parents: dict[str, tuple[str, ...]] = {each.id: each.parents for each in repo.log(root)}
    changed: dict[str, bool] = {}
    tips = [plant(repo, root, {"a": {0: 0}})[0] for _ in range(3)]
    for name in tips:
        parents[repo.resolve(name).id] = (root,)
        changed[repo.resolve(name).id] = True
    for step in range(data.draw(st.integers(1, 12))):
        branch, other = data.draw(st.permutations(tips))[:2]
        before = repo.resolve(branch).id
        if data.draw(st.booleans()):
            made = repo.merge(other, branch, resolve="ours", message=f"merge {step}")
        else:
            with repo.checkout(branch, write=True, staging="memory") as w:
                w["a", 0] = np.int64(step + 1)
                made = w.commit(f"change {step}")
            changed[made.id] = True
        if made.id != before:
            parents[made.id] = made.parents
    for branch in tips:
        expected: set[str] = set()
        todo = [repo.resolve(branch).id]
        while todo:
            each = todo.pop()
            if each not in expected:
                expected.add(each)
                todo += parents[each]
        log = [each.id for each in repo.log(branch)]
        assert len(log) == len(set(log))
        assert set(log) == expected
        for options in ({"node": "a"}, {"node": "a", "key": 0}):
            of_node = [each.id for each in repo.log(branch, **options)]  # type: ignore[arg-type]
            assert of_node == [each for each in log if each in set(of_node)]
            assert {each for each in expected if each in changed} <= set(of_node)
