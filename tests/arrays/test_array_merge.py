"""Differences and merges of arrays: by chunk, by element, appends, attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake import MergeConflictError, Repository

BASE = np.arange(64, dtype="f8").reshape(8, 8)


@pytest.fixture
def forked(repo: Repository) -> Repository:
    """A repository with one array of 8 × 8 in chunks of 4 × 4, and a second branch."""
    with repo.checkout(write=True) as w:
        w.create_array("x", shape=(8, 8), dtype="f8", chunks=(4, 4), attributes={"a": 1, "b": 1})[...] = BASE
        w.commit("base")
    repo.create_branch("other")
    return repo


def change(repo: Repository, branch: str, edit: Callable[[Any], None]) -> None:
    with repo.checkout(branch, write=True) as w:
        edit(w.arrays["x"])
        w.commit(f"change on {branch}")


def now(repo: Repository) -> np.ndarray:
    return repo.checkout().arrays["x"][...]


def assign(selection: Any, value: Any) -> Callable[[Any], None]:
    def edit(array: Any) -> None:
        array[selection] = value

    return edit


def test_a_diff_names_chunks_regions_and_how_much_changed(forked: Repository) -> None:
    def edit(array: Any) -> None:
        array[0, 0] = 100.0
        array[0, 5] = -5.0
        array.attrs["a"] = 2
        array.resize((12, 8))
        array[8:, :4] = 1.0

    change(forked, "main", edit)
    diff = forked.diff("main~1", "main").arrays["x"]
    assert list(diff.chunks.added) == [(2, 0)]
    assert list(diff.chunks.modified) == [(0, 0), (0, 1)]
    assert list(diff.chunks.removed) == []
    assert diff.attrs == {"a": (1, 2)}
    assert diff.metadata is not None
    assert diff.shapes == ((8, 8), (12, 8))
    assert diff.regions() == [(slice(0, 4), slice(0, 8)), (slice(8, 12), slice(0, 4))]
    stats = diff.stats()
    assert (stats.changed, stats.max_abs_difference) == (2, 100.0)
    back = forked.diff("main", "main~1").arrays["x"]
    assert list(back.chunks.removed) == [(2, 0)]
    assert back.stats().changed == 2


def test_what_is_staged_can_be_compared(forked: Repository) -> None:
    with forked.checkout(write=True) as w:
        w.arrays["x"][3, 3] += 0.5
        diff = w.status().arrays["x"]
        assert diff.regions() == [(slice(0, 4), slice(0, 4))]
        assert diff.stats().max_abs_difference == 0.5
        w.reset()
        assert not w.status()


def test_edits_of_different_chunks_merge(forked: Repository) -> None:
    change(forked, "main", assign((0, 0), 1.5))
    change(forked, "other", assign((7, 7), 2.5))
    forked.merge("other")
    expected = BASE.copy()
    expected[0, 0], expected[7, 7] = 1.5, 2.5
    np.testing.assert_array_equal(now(forked), expected)


def test_attributes_on_one_side_and_chunks_on_the_other_never_conflict(forked: Repository) -> None:
    def describe(array: Any) -> None:
        array.attrs["units"] = "K"
        array.attrs["a"] = 3

    change(forked, "main", describe)
    change(forked, "other", assign((0, 0), 9.0))
    forked.merge("other")
    array = forked.checkout().arrays["x"]
    assert array.attrs == {"a": 3, "b": 1, "units": "K"}
    assert array[0, 0] == 9.0


def test_attributes_merge_key_by_key(forked: Repository) -> None:
    change(forked, "main", lambda array: array.attrs.update(a=2))
    change(forked, "other", lambda array: array.attrs.update(b=2))
    forked.merge("other")
    assert forked.checkout().arrays["x"].attrs == {"a": 2, "b": 2}
    change(forked, "other", lambda array: array.attrs.update(a=5))
    with pytest.raises(MergeConflictError) as caught:
        forked.merge("other")
    (conflict,) = caught.value.conflicts
    assert (conflict.node, conflict.key, conflict.kind) == ("x", "a", "attribute")


def test_one_chunk_changed_on_both_sides_is_a_conflict_with_values(forked: Repository) -> None:
    change(forked, "main", assign((slice(0, 2), 0), 1.0))
    change(forked, "other", assign((slice(1, 3), 0), 2.0))
    with pytest.raises(MergeConflictError) as caught:
        forked.merge("other")
    (conflict,) = caught.value.conflicts
    assert (conflict.node, conflict.key, conflict.kind) == ("x", (0, 0), "chunk")
    assert conflict.elements == 1
    np.testing.assert_array_equal(conflict.base.value, BASE[:4, :4])
    assert conflict.theirs.value[1, 0] == 2.0
    assert now(forked)[2, 0] == BASE[2, 0]
    forked.merge("other", resolve="theirs")
    assert now(forked)[:3, 0].tolist() == [BASE[0, 0], 2.0, 2.0]


def test_a_chunk_may_be_resolved_by_values_or_removed(forked: Repository) -> None:
    change(forked, "main", assign((0, 0), 1.0))
    change(forked, "other", assign((0, 0), 2.0))
    forked.create_branch("third")
    forked.merge("other", resolve=lambda conflict: conflict.ours.value + conflict.theirs.value)
    np.testing.assert_array_equal(now(forked)[:4, :4], 2 * BASE[:4, :4] + np.pad([[3.0 - 0]], ((0, 3), (0, 3))))
    forked.merge("other", "third", resolve=lambda conflict: hl.REMOVE)
    assert (forked.checkout("third").arrays["x"][:4, :4] == 0).all()


def test_elements_merge_within_one_chunk(forked: Repository) -> None:
    change(forked, "main", assign((0, slice(0, 4)), 1.0))
    change(forked, "other", assign((3, slice(0, 8)), 2.0))
    with pytest.raises(
        MergeConflictError, match="granularity='element' merges changes of different elements"
    ) as caught:
        forked.merge("other")
    assert "concatenate" not in str(caught.value)
    with pytest.raises(MergeConflictError) as caught:
        forked.cherry_pick("other")
    assert "granularity" not in str(caught.value)  # which it does not take
    forked.merge("other", granularity="element")
    expected = BASE.copy()
    expected[0, :4], expected[3, :] = 1.0, 2.0
    np.testing.assert_array_equal(now(forked), expected)


def test_elements_that_both_changed_are_still_a_conflict(forked: Repository) -> None:
    change(forked, "main", assign((slice(0, 3), slice(0, 3)), np.nan))
    change(forked, "other", assign((slice(2, 8), slice(2, 8)), 7.0))
    with pytest.raises(MergeConflictError) as caught:
        forked.merge("other", granularity="element")
    assert "granularity" not in str(caught.value)
    assert [(c.key, c.elements) for c in caught.value.conflicts] == [((0, 0), 1)]
    forked.merge("other", granularity="element", resolve="ours")
    assert np.isnan(now(forked)[2, 2])
    assert now(forked)[6, 6] == 7.0


def test_equal_changes_are_no_conflict(forked: Repository) -> None:
    for branch in ("main", "other"):
        change(forked, branch, assign((0, 0), 42.0))
    forked.merge("other")
    assert now(forked)[0, 0] == 42.0


@pytest.mark.parametrize("ours, theirs", [(4, 4), (4, 8), (3, 5), (8, 1), (1, 1)])
def test_two_appends_are_a_conflict_and_can_be_concatenated(forked: Repository, ours: int, theirs: int) -> None:
    mine, other = np.full((ours, 8), 1.0), np.full((theirs, 8), 2.0) + np.arange(8)
    change(forked, "main", lambda array: array.append(mine))
    change(forked, "other", lambda array: array.append(other))
    with pytest.raises(MergeConflictError, match="or 'concatenate', which puts one append behind the other") as caught:
        forked.merge("other")
    assert [conflict.kind for conflict in caught.value.conflicts] == ["append"]
    forked.merge("other", resolve="concatenate")
    np.testing.assert_array_equal(now(forked), np.concatenate([BASE, mine, other]))


def test_appends_to_a_chunk_that_is_not_full_can_be_concatenated(repo: Repository) -> None:
    base = np.arange(10, dtype="i4")
    with repo.checkout(write=True) as w:
        w.create_array("x", shape=(10,), dtype="i4", chunks=(4,))[...] = base
        w.commit("base")
    repo.create_branch("other")
    change(repo, "main", lambda array: array.append([100, 101, 102]))
    change(repo, "other", lambda array: array.append([200]))
    change(repo, "other", assign(0, -1))
    repo.merge("other", resolve="concatenate")
    assert now(repo).tolist() == [-1, *range(1, 10), 100, 101, 102, 200]


def test_concatenating_still_reports_other_conflicts(forked: Repository) -> None:
    for branch, value in (("main", 1.0), ("other", 2.0)):
        change(forked, branch, lambda array, v=value: array.append(np.full((4, 8), v)))  # type: ignore[misc]
        change(forked, branch, assign((0, 0), value))
    with pytest.raises(MergeConflictError) as caught:
        forked.merge("other", resolve="concatenate")
    assert [(c.key, c.kind) for c in caught.value.conflicts] == [((0, 0), "chunk")]


def test_other_changes_of_shape_on_both_sides_are_a_conflict_of_metadata(forked: Repository) -> None:
    change(forked, "main", lambda array: array.resize((4, 8)))
    change(forked, "other", lambda array: array.resize((8, 12)))
    with pytest.raises(MergeConflictError) as caught:
        forked.merge("other")
    assert [conflict.kind for conflict in caught.value.conflicts] == ["array-metadata"]


def test_two_writers_of_different_chunks_both_commit(forked: Repository) -> None:
    first = forked.checkout(write=True, staging="memory")
    second = forked.checkout(write=True, staging="memory")
    first.arrays["x"][0, 0] = 1.0
    second.arrays["x"][7, 7] = 2.0
    second.create_group("g")
    first.commit("first")
    second.commit("second")
    assert (now(forked)[0, 0], now(forked)[7, 7]) == (1.0, 2.0)
    assert "g" in forked.checkout()
