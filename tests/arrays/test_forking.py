"""Forks: many writers, one commit."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hangarlake import MergeConflictError, NodeExistsError, ReadOnlyError, Repository, WriteCheckout
from hangarlake.forking import ChangeSet, ForkedWriter


def travel(fork: ForkedWriter) -> ForkedWriter:
    """Send a fork to another process and back, as far as pickling goes."""
    arrived = pickle.loads(pickle.dumps(fork))
    assert isinstance(arrived, ForkedWriter)
    return arrived


def returned(fork: ForkedWriter) -> ChangeSet:
    changes: ChangeSet = pickle.loads(pickle.dumps(fork.changes()))
    return changes


def test_forks_write_samples_and_regions_for_one_commit(repo: Repository, w: WriteCheckout) -> None:
    w.add_ndarray_column("images", (4,), "f4")
    w["images", 0] = np.zeros(4, "f4")
    w.create_array("x", shape=(8, 8), dtype="i4", chunks=(4, 4))[0, 0] = -1
    sets = []
    for i in range(2):
        fork = travel(w.fork())
        assert fork.arrays["x"][0, 0] == -1
        assert fork["images", 0].tolist() == [0, 0, 0, 0]
        fork["images", i + 1] = np.full(4, i, "f4")
        fork.columns["images"].extend([f"{i}-{k}" for k in range(300)], np.full((300, 4), i, "f4"))
        fork.arrays["x"][4 * i : 4 * i + 4, 4:] = i + 1
        sets.append(returned(fork))
    w.join(*sets)
    commit = w.commit("both")
    view = repo.checkout(commit)
    assert len(view.columns["images"]) == 603
    assert view["images", "1-7"].tolist() == [1, 1, 1, 1]
    expected = np.zeros((8, 8), "i4")
    expected[0, 0], expected[:4, 4:], expected[4:, 4:] = -1, 1, 2
    np.testing.assert_array_equal(view.arrays["x"][...], expected)
    assert len(list(repo.log("main"))) == 2


def test_different_values_for_one_chunk_name_it_and_join_nothing(w: WriteCheckout) -> None:
    w.create_array("x", shape=(8,), dtype="i4", chunks=(4,))
    first, second = w.fork(), w.fork()
    first.arrays["x"][:4], second.arrays["x"][2:8] = 1, 2
    with pytest.raises(MergeConflictError, match=r"x\[\(0,\)\]: chunk") as caught:
        w.join(first.changes(), second.changes())
    assert [(c.node, c.key) for c in caught.value.conflicts] == [("x", (0,))]
    assert (w.arrays["x"][...] == 0).all()
    w.join(second.changes())
    assert w.arrays["x"][...].tolist() == [0, 0, 2, 2, 2, 2, 2, 2]


def test_different_values_for_one_sample_name_it(w: WriteCheckout) -> None:
    w.add_str_column("notes")
    first, second = w.fork(), w.fork()
    first["notes", "a"], second["notes", "a"] = "one", "two"
    second["notes", "b"] = "fine"
    with pytest.raises(MergeConflictError, match="'a'"):
        w.join(first.changes(), second.changes())
    assert len(w.columns["notes"]) == 0


def test_equal_values_are_no_conflict_and_joining_twice_changes_nothing(w: WriteCheckout) -> None:
    w.create_array("x", shape=(4,), dtype="i4", chunks=(4,))
    first, second = w.fork(), w.fork()
    first.arrays["x"][...] = 5
    second.arrays["x"][...] = 5
    changes = first.changes()
    w.join(changes, second.changes())
    w.join(changes)
    assert w.arrays["x"][...].tolist() == [5, 5, 5, 5]


def test_what_was_staged_since_the_fork_is_not_lost(w: WriteCheckout) -> None:
    w.create_array("x", shape=(8,), dtype="i4", chunks=(4,))
    fork = w.fork()
    fork.arrays["x"][:4] = 1
    w.arrays["x"][0] = 9
    with pytest.raises(MergeConflictError):
        w.join(fork.changes())
    w.arrays["x"][0] = 0
    w.arrays["x"][4:] = 7
    w.join(fork.changes())
    assert w.arrays["x"][...].tolist() == [1] * 4 + [7] * 4


def test_forks_may_add_and_remove(w: WriteCheckout) -> None:
    w.add_str_column("notes")
    w["notes", "old"] = "x"
    w.create_array("gone", shape=(2,), dtype="i4", chunks=(2,))
    fork = travel(w.fork())
    del fork["notes", "old"]
    fork["notes", "new"] = "y"
    fork.create_array("g/made", shape=(2,), dtype="i4", chunks=(2,))[...] = [1, 2]
    fork.add_bytes_column("raw")["k"] = b"v"
    fork.attrs["title"] = "forked"
    fork.arrays["g/made"].attrs["units"] = "m"
    del fork.arrays["gone"]
    w.join(returned(fork))
    assert dict(w.columns["notes"]) == {"new": "y"}
    assert w.arrays["g/made"][...].tolist() == [1, 2]
    assert w.arrays["g/made"].attrs == {"units": "m"}
    assert w["raw", "k"] == b"v"
    assert w.attrs == {"title": "forked"}
    assert "gone" not in w


def test_a_used_fork_does_not_pickle_and_no_fork_commits(w: WriteCheckout) -> None:
    w.create_array("x", shape=(4,), dtype="i4", chunks=(4,))
    fork = w.fork()
    fork.arrays["x"][0] = 1
    with pytest.raises(TypeError, match="changes"):
        pickle.dumps(fork)
    with pytest.raises(ReadOnlyError):
        fork.commit("no")
    with pytest.raises(ReadOnlyError):
        fork.rename("x", "y")


def test_threads_of_one_process_take_fresh_forks(w: WriteCheckout) -> None:
    w.create_array("x", shape=(64, 4), dtype="i4", chunks=(4, 4))
    fork = w.fork()

    def work(i: int) -> ChangeSet:
        mine = fork.fresh()
        mine.arrays["x"][4 * i : 4 * i + 4] = i
        return mine.changes()

    with ThreadPoolExecutor(4) as pool:
        w.join(*pool.map(work, range(16)))
    np.testing.assert_array_equal(w.arrays["x"][...], np.repeat(np.arange(16), 4)[:, None] * np.ones(4, "i4"))


def test_change_sets_hold_no_data(w: WriteCheckout) -> None:
    w.create_array("x", shape=(1 << 20,), dtype="i4", chunks=(1 << 18,), compressors=None)
    fork = w.fork()
    fork.arrays["x"][...] = np.arange(1 << 20)
    changes = fork.changes()
    assert len(changes) == 4
    assert len(pickle.dumps(changes)) < 5000


def test_a_join_that_fails_keeps_renames(w: WriteCheckout) -> None:
    w.add_str_column("x")["a"] = "b"
    w.commit("x")
    w.rename("x", "y")
    fork = w.fork()
    fork.remove("y")
    fork.add_str_column("z/w")
    w.create_array("z", shape=(2,), dtype="i4")
    with pytest.raises(NodeExistsError, match="z"):
        w.join(fork.changes())
    assert w.status().columns["y"].old_name == "x"


def test_a_fork_that_is_reset_is_as_it_was_made(repo: Repository, w: WriteCheckout) -> None:
    w.add_str_column("x")["a"] = "staged"
    fork = w.fork()
    fork["x", "b"] = "of the fork"
    fork.add_str_column("y")
    with repo.checkout("main", write=True, staging="memory") as other:
        other.add_str_column("z")
        other.commit("meanwhile")
    fork.reset("y")
    assert sorted(fork) == ["x"]
    assert dict(fork["x"].items()) == {"a": "staged", "b": "of the fork"}
    fork.reset()
    assert dict(fork["x"].items()) == {"a": "staged"}
    assert not fork.changes()
    fork["x", "c"] = "again"
    w.join(fork.changes())
    assert dict(w["x"].items()) == {"a": "staged", "c": "again"}


def growing(w: WriteCheckout, *, shape: tuple[int, ...] = (4, 3)) -> None:
    w.create_array("x", shape=shape, dtype="i4", chunks=(2, 3))[...] = 1
    w.commit("four rows")


def test_two_appends_are_a_conflict_whatever_their_values(w: WriteCheckout) -> None:
    growing(w)
    first, second, longer = w.fork(), w.fork(), w.fork()
    rows = np.full((2, 3), 7, "i4")
    for fork in (first, second):
        fork.arrays["x"].append(rows)
    longer.arrays["x"].append(np.full((4, 3), 8, "i4"))
    for others in ((second,), (longer,), (second, longer)):
        with pytest.raises(MergeConflictError, match="resize first, and let each worker write its region") as caught:
            w.join(returned(first), *map(returned, others))
        assert {(c.node, c.key, c.kind) for c in caught.value.conflicts} == {("x", None, "append")}
        assert w.arrays["x"].shape == (4, 3)
    w.join(returned(first))
    with pytest.raises(MergeConflictError, match="append"):
        w.join(returned(second))
    assert w.arrays["x"][4:].tolist() == rows.tolist()
    assert w.arrays["x"].shape == (6, 3)


def test_an_append_in_a_fork_is_no_match_for_one_outside(w: WriteCheckout) -> None:
    growing(w)
    fork = w.fork()
    rows = np.full((2, 3), 7, "i4")
    fork.arrays["x"].append(rows)
    w.arrays["x"].append(rows)
    with pytest.raises(MergeConflictError, match="append"):
        w.join(returned(fork))
    w.reset()
    w.join(returned(fork))
    assert w.arrays["x"].shape == (6, 3)


def test_joining_one_append_twice_changes_nothing(w: WriteCheckout) -> None:
    growing(w)
    fork = w.fork()
    fork.arrays["x"].append(np.full((2, 3), 7, "i4"))
    changes = returned(fork)
    w.join(changes, changes)
    w.join(returned(fork))
    assert w.arrays["x"].shape == (6, 3)


def test_equal_resizes_are_no_conflict_unless_one_is_an_append(w: WriteCheckout) -> None:
    growing(w)
    forks = [w.fork() for _ in range(2)]
    for i, fork in enumerate(forks):
        fork.arrays["x"].resize((8, 3))
        fork.arrays["x"][4 + 2 * i : 6 + 2 * i] = i
    appending = w.fork()
    appending.arrays["x"].append(np.zeros((4, 3), "i4"))
    resized = [returned(fork) for fork in forks]
    for order in ([resized[0], returned(appending)], [returned(appending), resized[0]]):
        with pytest.raises(MergeConflictError, match="append"):
            w.join(*order)
    w.join(*resized)
    assert w.arrays["x"][4:, 0].tolist() == [0, 0, 1, 1]


def test_an_append_that_was_taken_back_is_none(w: WriteCheckout) -> None:
    growing(w)
    first, second = w.fork(), w.fork()
    first.arrays["x"].append(np.zeros((2, 3), "i4"))
    first.arrays["x"].resize((4, 3))
    second.arrays["x"].append(np.zeros((2, 3), "i4"))
    second.reset()
    second.arrays["x"].resize((6, 3))
    third = w.fork()
    third.arrays["x"].append(np.zeros((0, 3), "i4"))
    w.join(*map(returned, (first, second, third)))
    assert w.arrays["x"].shape == (6, 3)


def test_a_fork_tells_of_the_appends_of_its_own_forks(w: WriteCheckout) -> None:
    growing(w)
    first, second = w.fork(), w.fork()
    below = first.fork()
    below.arrays["x"].append(np.full((2, 3), 7, "i4"))
    second.arrays["x"].resize((6, 3))
    second.arrays["x"][4:] = 7
    first.join(returned(below))
    with pytest.raises(MergeConflictError, match="append"):
        w.join(returned(first), returned(second))
