"""What a diff tells, and what it reads to tell it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hangarlake as hl
import hangarlake.working_set as working_set
from hangarlake import Repository
from hangarlake.storage import ObjectStore
from hangarlake.testing import CountingStore
from tests.history.worlds import commit


@pytest.fixture
def two(repo: Repository) -> tuple[str, str]:
    """Two commits that differ in every way."""
    with repo.checkout("main", write=True) as w:
        w.add_ndarray_column("images", (2, 2), "uint8").extend(range(5), np.zeros((5, 2, 2), "uint8"))
        w.add_ndarray_column("runs", (None,), "int16", variable_shape=True)["x"] = np.arange(3, dtype="int16")
        w.add_str_column("old name").update({"k": "v", "l": "w"})
        w.add_str_column("gone")["z"] = "z"
        w.add_ndarray_column("typed", (), "int64")[0] = np.int64(0)
        w.attrs.update({"kept": 1, "changed": 1, "dropped": None})
        first = w.commit("first")
        w["images"].update({1: np.ones((2, 2), "uint8"), 7: np.ones((2, 2), "uint8"), "s": np.ones((2, 2), "uint8")})
        del w["images", 3]
        w["runs", "x"] = np.arange(8, dtype="int16")
        w.rename("old name", "new name")
        w["new name", "k"] = "V"
        w.remove("gone")
        w.remove("typed")
        w.add_ndarray_column("typed", (), "float32")[0] = np.float32(0)
        w.add_json_column("fresh")["j"] = {"a": 1}
        w.attrs["changed"] = 2
        w.attrs["new"] = [1]
        del w.attrs["dropped"]
        return first.id, w.commit("second").id


def test_a_diff_tells_which_columns_changed_and_how(repo: Repository, two: tuple[str, str]) -> None:
    diff = repo.diff(*two)
    assert {name: change.state for name, change in diff.columns.items()} == {
        "fresh": "added",
        "gone": "removed",
        "images": "modified",
        "new name": "renamed",
        "runs": "modified",
        "typed": "modified",
    }
    assert list(diff.columns) == sorted(diff.columns)
    assert diff.columns["new name"].old_name == "old name"
    assert diff.columns["new name"].is_modified
    schema = diff.columns["typed"].schema
    assert schema is not None
    assert [each.dtype for each in schema] == ["<i8", "<f4"]
    assert diff.columns["images"].schema is None
    missing = diff.attrs["new"][0]
    assert diff.attrs == {"changed": (1, 2), "dropped": (None, missing), "new": (missing, [1])}
    assert diff
    assert not diff.is_empty


def test_keys_are_sorted_counted_and_found(repo: Repository, two: tuple[str, str]) -> None:
    images = repo.diff(*two).columns["images"]
    assert (len(images.added), len(images.removed), len(images.modified)) == images.counts == (2, 1, 1)
    assert (list(images.added), list(images.removed), list(images.modified)) == ([7, "s"], [3], [1])
    assert 7 in images.added
    assert 7 not in images.modified
    assert True not in images.added
    assert "no" not in images.removed
    assert [entry.key for entry in images.entries()] == [1, 3, 7, "s"]
    assert repr(images.added) == "<2 keys: 7, 's'>"
    fresh, gone = (repo.diff(*two).columns[name] for name in ("fresh", "gone"))
    assert (list(fresh.added), list(gone.removed), list(gone.added)) == (["j"], ["z"], [])


def test_entries_give_digests_and_shapes_without_data(repo: Repository, two: tuple[str, str]) -> None:
    diff = repo.diff(*two)
    before, after = repo.checkout(two[0]), repo.checkout(two[1])
    entry = diff.columns["runs"]["x"]
    assert entry.old is not None
    assert entry.new is not None
    assert (entry.state, entry.old.shape, entry.new.shape) == ("modified", (3,), (8,))
    assert (entry.old.digest, entry.new.digest) == (before["runs"].digest("x"), after["runs"].digest("x"))
    assert diff.columns["images"][3].new is None
    assert diff.columns["images"][7].old is None
    assert diff.columns["images"][0].state == "unchanged"
    with pytest.raises(hl.SampleNotFoundError):
        diff.columns["images"]["nothing"]


def test_values_are_read_on_demand(repo: Repository, two: tuple[str, str]) -> None:
    diff = repo.diff(*two)
    old, new = diff.columns["runs"].values("x")
    assert (old.tolist(), new.tolist()) == ([0, 1, 2], list(range(8)))
    assert diff.columns["new name"].values("k") == ("v", "V")
    assert diff.columns["gone"].values("z") == ("z", None)
    assert diff.columns["fresh"].values("j").new == {"a": 1}
    typed = diff.columns["typed"].values(0)
    assert (typed.old.dtype, typed.new.dtype) == (np.int64, np.float32)


def test_the_direction_is_from_base_to_other_even_where_histories_diverged(repo: Repository) -> None:
    base = commit(repo, "main", {"a": {1: 1, 2: 2}})
    repo.create_branch("side")
    commit(repo, "main", {"a": {1: 1, 2: 2, 3: 3}})
    commit(repo, "side", {"a": {1: 1}})
    there, back = repo.diff("main", "side").columns["a"], repo.diff("side", "main").columns["a"]
    assert (list(there.added), list(there.removed)) == ([], [2, 3])
    assert (list(back.added), list(back.removed)) == ([2, 3], [])
    with repo.checkout("main") as view:
        assert list(view.diff("side").columns["a"].removed) == [2, 3]
        assert list(view.diff(base).columns["a"].removed) == [3]
        assert list(view.diff(repo.checkout("side")).columns["a"].removed) == [2, 3]


def test_renames_are_known_across_diverged_histories(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}, "b": {1: 1}})
    repo.create_branch("side")
    for branch, name in (("main", "left"), ("side", "right")):
        with repo.checkout(branch, write=True) as w:
            w.rename("a", name)
            w.commit("rename")
    diff = repo.diff("main", "side")
    assert [(c.old_name, c.name, c.state, c.is_modified) for c in diff.columns.values()] == [
        ("left", "right", "renamed", False)
    ]


def test_a_name_given_to_another_column_shows_what_it_replaced(repo: Repository) -> None:
    first = commit(repo, "main", {"a": {1: 1}, "s": {1: 1, 2: 2}})
    with repo.checkout("main", write=True) as w:
        w.remove("a")
        w.rename("s", "a")
        second = w.commit("take the name")
    change = repo.diff(first, second).columns["a"]
    assert (change.state, change.old_name, change.counts) == ("renamed", "s", (0, 0, 0))
    assert change.replaced is not None
    assert (change.replaced.state, list(change.replaced.removed)) == ("removed", [1])
    assert "replaced" in change.to_dict()
    assert "1 sample removed" in repo.diff(first, second).summary()


def test_columns_that_swap_names_are_renamed(repo: Repository) -> None:
    first = commit(repo, "main", {"a": {1: 1}, "s": {1: 1, 2: 2}})
    with repo.checkout("main", write=True) as w:
        w.rename("a", "x")
        w.rename("s", "a")
        w.rename("x", "s")
        second = w.commit("swap")
    diff = repo.diff(first, second)
    assert {name: (c.state, c.old_name, c.is_modified) for name, c in diff.columns.items()} == {
        "a": ("renamed", "s", False),
        "s": ("renamed", "a", False),
    }


def test_status_is_the_diff_of_what_is_staged(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1, 2: 2}})
    with repo.checkout("main", write=True) as w:
        assert w.status().is_empty
        w["a", 1] = np.int64(9)
        del w["a", 2]
        w.attrs["x"] = 1
        status = w.status()
        assert (list(status.columns["a"].modified), list(status.columns["a"].removed)) == ([1], [2])
        assert status.columns["a"].values(1) == (1, 9)
        assert status.to_dict()["attrs"] == {"x": {"new": 1}}
        # It keeps showing what was staged then.
        w["a", 1] = np.int64(10)
        w.commit("done")
        w["a", 3] = np.int64(3)
        assert status.columns["a"].values(1) == (1, 9)
        assert w.status().columns["a"].counts == (1, 0, 0)
        w.rename("a", "z")
        assert w.status().columns["z"].state == "renamed"


def test_what_was_spilled_is_shown_after_its_commit_and_missed_with_the_remedy_after_it_was_dropped(
    local_repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_set, "_SPILL_BYTES", 1)
    with local_repo.checkout("main", write=True) as w:
        for name, end in (("committed", lambda: w.commit("big")), ("dropped", w.reset)):
            w.add_ndarray_column(name, (), "int64").extend(range(40_000), np.arange(40_000) + len(name))
            diffs = [w.status(), local_repo.diff("main", w), Repository.open(local_repo.url).diff("main", w)]
            w.flush()
            assert w._staged.spilled
            end()
            for diff in diffs:
                change = diff.columns[name]
                if name == "committed" and diff is not diffs[2]:
                    assert list(change.added) == list(range(40_000))
                else:
                    with pytest.raises(RuntimeError, match="has been committed or dropped meanwhile; compare again"):
                        list(change.added)
        # Nothing of this is left in the way of the next one.
        assert w.status().is_empty


def test_write_checkouts_are_compared_as_they_are_staged(repo: Repository, store: ObjectStore) -> None:
    commit(repo, "main", {"a": dict.fromkeys(range(600), 1)})
    repo.create_branch("side")
    with repo.checkout("main", write=True) as w, Repository.open(store).checkout("side", write=True) as v:
        w["a", 5] = np.int64(5)
        v["a", 6] = np.int64(6)
        v.rename("a", "z")
        found = w.diff(v).columns["z"]
        assert (found.state, list(found.modified)) == ("renamed", [5, 6])
        assert (found.values(5), found.values(6)) == ((5, 1), (1, 6))
        assert list(w.diff("main").columns["a"].modified) == [5]
        assert list(repo.diff("main", v).columns["z"].modified) == [6]
        assert v.diff(w).columns["a"].values(6) == (6, 1)


def test_an_empty_diff_says_so(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}})
    diff = repo.diff("main", "main")
    assert not diff
    assert (diff.is_empty, str(diff), diff.summary(), dict(diff.columns)) == (
        True,
        "no differences",
        "no differences",
        {},
    )
    again = commit(repo, "main", {"a": {1: 1}})
    assert repo.diff(f"{again.id}~1", again).is_empty


def test_a_diff_prints_like_git(repo: Repository, two: tuple[str, str]) -> None:
    assert str(repo.diff(*two)).splitlines() == [
        " fresh      | 1, added                 +",
        " gone       | 1, removed               -",
        " images     | 4                        ++~-",
        " new name   | 1, renamed from old name ~",
        " runs       | 1                        ~",
        " typed      | 1, () int64 → () float32 ~",
        " attributes | changed, dropped, new",
        " 6 columns changed, 3 samples added, 2 samples removed, 4 samples modified, 3 attributes changed",
    ]
    html = repo.diff(*two)._repr_html_()
    assert "<td>new name</td>" in html
    assert "renamed from old name" in html


def test_a_diff_is_json_ready(repo: Repository, two: tuple[str, str]) -> None:
    plain = json.loads(json.dumps(repo.diff(*two).to_dict(keys=True)))
    assert plain["columns"]["images"] == {
        "state": "modified",
        "added": 2,
        "removed": 1,
        "modified": 1,
        "keys": {"added": [7, "s"], "removed": [3], "modified": [1]},
    }
    assert plain["columns"]["typed"]["schema"]["new"]["dtype"] == "<f4"
    assert plain["columns"]["new name"]["old_name"] == "old name"
    assert plain["attrs"]["dropped"] == {"old": None}
    assert "keys" not in repo.diff(*two).to_dict()["columns"]["images"]
    assert json.dumps([entry.to_dict() for entry in repo.diff(*two).columns["images"].entries()])


def test_nested_keys_are_pairs(repo: Repository) -> None:
    first = commit(repo, "main", {"n": {(1, "x"): 1, (1, "y"): 2, ("s", 3): 3}})
    second = commit(repo, "main", {"n": {(1, "x"): 9, ("s", 3): 3, ("s", 4): 4}})
    change = repo.diff(first, second).columns["n"]
    assert (list(change.added), list(change.removed), list(change.modified)) == ([("s", 4)], [(1, "y")], [(1, "x")])
    assert change.values((1, "x")) == (1, 9)
    assert change.to_dict(keys=True)["keys"]["added"] == [["s", 4]]


def test_a_diff_reads_no_data(store: ObjectStore, two: tuple[str, str]) -> None:
    counting = CountingStore(store)
    repo = Repository.open(counting)
    diff = repo.diff(*two)
    assert str(diff)
    for change in diff.columns.values():
        assert [entry.to_dict() for entry in change.entries()]
    assert not [request for request in counting.requests if request.key.startswith("packs/")]
    assert diff.columns["new name"].values("k").new == "V"
    assert [request for request in counting.requests if request.key.startswith("packs/")]


def test_large_diffs_are_gone_through_without_being_kept(repo: Repository) -> None:
    with repo.checkout("main", write=True) as w:
        w.add_ndarray_column("x", (), "int32").extend(range(70_000), np.arange(70_000, dtype="int32"))
        first = w.commit("first")
        w["x"].extend(range(70_000), np.arange(1, 70_001, dtype="int32"))
        second = w.commit("second")
    change = repo.diff(first, second).columns["x"]
    assert change.counts == (0, 0, 70_000)
    assert list(change.modified) == list(range(70_000))
    assert sum(1 for _ in change.blocks()) > 1
    assert "_blocks" not in vars(change)


def test_a_revision_that_does_not_exist_is_refused(repo: Repository) -> None:
    with pytest.raises(hl.RevisionNotFoundError):
        repo.diff("main", "nothing")
    view = repo.checkout()
    view.close()
    with pytest.raises(ValueError, match="closed"):
        view.diff("main")
    with pytest.raises(ValueError, match="closed"):
        repo.diff(view, "main")


def test_chunks_are_found_by_grid_coordinates_and_by_nothing_else(repo: Repository) -> None:
    with repo.checkout("main", write=True) as w:
        w.create_array("a", shape=(8,), dtype="i4", chunks=(2,))[2:4] = 1
        w.create_array("scalar", shape=(), dtype="i4")[...] = 3
        w.commit("arrays")
    diff = repo.diff("main~1", "main").arrays["a"]
    assert list(diff.added) == [(1,)]
    for place in ((1,), 1, (np.int64(1),)):
        assert place in diff.added
        assert diff[place].state == "added"
        assert [commit.message for commit in repo.log(node="a", key=place)] == ["arrays"]
    for nowhere in ((-1,), (1 << 32,), (1, 0), (), (True,), ("1",), (1.0,), None):
        assert nowhere not in diff.added
        with pytest.raises(hl.SchemaError, match=r"array 'a': a chunk is named by 1 grid coordinate, not"):
            diff[nowhere]
    assert list(repo.diff("main~1", "main").arrays["scalar"].added) == [()]
    assert () in repo.diff("main~1", "main").arrays["scalar"].added
