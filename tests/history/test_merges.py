"""Merging as a person meets it: what moves, what conflicts, and how conflicts are resolved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake import Repository, WriteCheckout
from tests.history.worlds import commit, read, world_at

Edit = Callable[[WriteCheckout], None]


def fork(repo: Repository, base: dict[str, Any], ours: Edit, theirs: Edit) -> None:
    """Begin from a world, and change it on main and on a branch “side”."""
    commit(repo, "main", base, "base")
    repo.create_branch("side")
    for branch, edit in (("main", ours), ("side", theirs)):
        with repo.checkout(branch, write=True, staging="memory") as w:
            edit(w)
            w.commit(f"edit {branch}")


def conflicts_of(repo: Repository, **options: Any) -> list[tuple[str, Any, str]]:
    """Merge, and return what conflicts; nothing may have changed then."""
    before = {name: [entry.seq for entry in repo.reflog(name)] for name in repo.branches}
    with pytest.raises(hl.MergeConflictError) as caught:
        repo.merge("side", **options)
    assert {name: [entry.seq for entry in repo.reflog(name)] for name in repo.branches} == before
    return [(each.node, each.key, each.kind) for each in caught.value.conflicts]


# ---- what moves ----------------------------------------------------------------------------------------------------------


def test_a_branch_without_commits_of_its_own_moves_forward(repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}})
    repo.create_branch("side")
    tip = commit(repo, "side", {"a": {1: 2}})
    assert repo.merge("side") == tip
    assert repo.branches["main"] == tip.id
    entry = next(iter(repo.reflog("main")))
    assert (entry.operation, entry.commit) == ("merge", tip.id)


def test_with_a_message_there_is_a_merge_commit_all_the_same(repo: Repository) -> None:
    base = commit(repo, "main", {"a": {1: 1}})
    repo.create_branch("side")
    tip = commit(repo, "side", {"a": {1: 2}})
    made = repo.merge("side", message="On record")
    assert (made.parents, made.message, made.catalog) == ((base.id, tip.id), "On record", tip.catalog)


def test_what_is_merged_already_is_not_merged_again(repo: Repository) -> None:
    fork(repo, {"a": {1: 1}}, lambda w: w["a"].update({2: np.int64(2)}), lambda w: w["a"].update({3: np.int64(3)}))
    made = repo.merge("side")
    movements = [entry.seq for entry in repo.reflog("main")]
    for source in ("side", "main", made.id, "main~1", "side~1", made):
        assert repo.merge(source) == made
        assert repo.merge(source, message="again") == made
    assert [entry.seq for entry in repo.reflog("main")] == movements
    assert repo.merge("main", "side") == made


def test_a_merge_commit_has_both_parents_and_a_message(repo: Repository) -> None:
    fork(repo, {"a": {1: 1}}, lambda w: w["a"].update({2: np.int64(2)}), lambda w: w["a"].update({3: np.int64(3)}))
    repo.create_branch("topic")
    ours, theirs = repo.resolve("topic"), repo.resolve("side")
    made = repo.merge("side", "topic")
    assert made.parents == (ours.id, theirs.id)
    assert made.message == "Merge branch 'side' into topic"
    assert repo.branches["topic"] == made.id
    assert world_at(repo, "topic") == {"a": {1: 1, 2: 2, 3: 3}}
    repo.create_tag("v1", "side")
    assert repo.merge("v1").message == "Merge tag 'v1'"
    assert repo.resolve().catalog == made.catalog


def test_both_made_the_same_change(repo: Repository) -> None:
    def edit(w: WriteCheckout) -> None:
        w["a", 1] = np.int64(9)
        del w["a", 2]
        w.add_str_column("new")["k"] = "7"
        w.rename("s", "t")
        w.attrs["x"] = [1]

    fork(repo, {"a": {1: 1, 2: 2}, "s": {1: 1}}, edit, edit)
    assert world_at(repo, repo.merge("side")) == world_at(repo, "side") == world_at(repo, "main~1")


def test_several_sources_are_refused(repo: Repository) -> None:
    fork(repo, {"a": {1: 1}}, lambda w: w["a"].update({2: np.int64(2)}), lambda w: w["a"].update({3: np.int64(3)}))
    for sources in (["side", "main"], ("side",), {"side"}):
        with pytest.raises(TypeError, match="one revision at a time"):
            repo.merge(sources)  # type: ignore[arg-type]
    assert len(repo.resolve().parents) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"resolve": "mine"}, ValueError),
        ({"resolve": 1}, ValueError),
        ({"granularity": "byte"}, ValueError),
        ({"message": 1}, TypeError),
        ({"into": "nothing"}, hl.RevisionNotFoundError),
    ],
)
def test_options_that_make_no_sense_are_refused(
    repo: Repository, options: dict[str, Any], error: type[Exception]
) -> None:
    fork(repo, {"a": {1: 1}}, lambda w: w["a"].update({2: np.int64(2)}), lambda w: w["a"].update({3: np.int64(3)}))
    with pytest.raises(error):
        repo.merge("side", **options)
    with pytest.raises(hl.RevisionNotFoundError):
        repo.merge("nothing")
    assert len(repo.resolve().parents) == 1


def test_unrelated_histories_merge_from_nothing(repo: Repository) -> None:
    other = Repository.create("memory://unrelated-history")
    commit(repo, "main", {"a": {1: 1, 2: 2}})
    commit(other, "main", {"a": {1: 1, 3: 3}, "s": {1: 1}})
    for key in ("commits/", "catalogs/", "trees/", "packs/"):
        for info in other._session.store.list(key):
            repo._session.store.put(info.key, other._session.store.get(info.key))
    theirs = other.resolve()
    assert repo.merge_base("main", theirs.id) is None
    made = repo.merge(theirs.id)
    assert world_at(repo, made) == {"a": {1: 1, 2: 2, 3: 3}, "s": {1: 1}}


# ---- the defects that must not come back -----------------------------------------------------------------------------------


def test_a_value_that_was_deleted_merged_and_written_again_is_there(local_repo: Repository) -> None:
    repo = local_repo
    fork(repo, {"a": {1: 1, 2: 2}}, lambda w: w["a"].pop(1), lambda w: w["a"].update({3: np.int64(3)}))
    repo.merge("side")
    tip = commit(repo, "main", {"a": {1: 1, 2: 2, 3: 3}})
    repo.close()
    assert world_at(Repository.open(repo.url), tip.id) == {"a": {1: 1, 2: 2, 3: 3}}


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_sample_added_to_a_column_that_the_other_side_removed_is_a_conflict(repo: Repository, mirrored: bool) -> None:
    sides: list[Edit] = [lambda w: w.remove("a"), lambda w: w["a"].update({2: np.int64(2)})]
    fork(repo, {"a": {1: 1}, "s": {1: 1}}, *(sides[::-1] if mirrored else sides))
    assert conflicts_of(repo) == [("a", None, "node-removed")]
    kept = repo.merge("side", resolve="ours" if mirrored else "theirs", message="keep")
    assert world_at(repo, kept) == {"a": {1: 1, 2: 2}, "s": {1: 1}}
    repo.reset_branch("main", f"{kept.id}~1")
    gone = repo.merge("side", resolve="theirs" if mirrored else "ours")
    assert world_at(repo, gone) == {"s": {1: 1}}


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_sample_added_to_a_column_that_the_other_side_retyped_is_a_conflict(repo: Repository, mirrored: bool) -> None:
    def retype(w: WriteCheckout) -> None:
        w.remove("a")
        w.add_ndarray_column("a", (3,), "float32")[1] = np.zeros(3, "float32")

    sides: list[Edit] = [retype, lambda w: w["a"].update({2: np.int64(2)})]
    fork(repo, {"a": {1: 1}}, *(sides[::-1] if mirrored else sides))
    assert conflicts_of(repo) == [("a", None, "schema")]
    made = repo.merge("side", resolve="theirs")
    with repo.checkout(made) as view:
        column = view["a"]
        assert (column.shape, sorted(column)) == (((3,), [1]) if mirrored else ((), [1, 2]))
        assert all(column[key].shape == column.shape for key in column)
    repo.reset_branch("main", f"{made.id}~1")
    with pytest.raises(ValueError, match="whole node"):
        repo.merge("side", resolve=lambda conflict: 1)


def test_one_name_with_two_layouts_is_a_conflict(repo: Repository) -> None:
    def nested(w: WriteCheckout) -> None:
        w.add_ndarray_column("x", (), "int64", nested=True)[1, "sub"] = np.int64(1)

    def flat(w: WriteCheckout) -> None:
        w.add_ndarray_column("x", (), "int64")[1] = np.int64(1)

    fork(repo, {"a": {1: 1}}, nested, flat)
    assert conflicts_of(repo) == [("x", None, "layout")]
    for resolve, is_nested in (("ours", True), ("theirs", False)):
        made = repo.merge("side", resolve=resolve)  # type: ignore[arg-type]
        with repo.checkout(made) as view:
            assert view["x"].nested is is_nested
            assert len(view["x"]) == 1
        repo.reset_branch("main", f"{made.id}~1")


def test_a_column_that_both_renamed_differently_is_a_conflict(repo: Repository) -> None:
    fork(repo, {"a": {1: 1}}, lambda w: w.rename("a", "left"), lambda w: w.rename("a", "right"))
    assert [(node, kind) for node, _, kind in conflicts_of(repo)] == [("left", "rename")]
    for resolve, name in (("ours", "left"), ("theirs", "right")):
        made = repo.merge("side", resolve=resolve)  # type: ignore[arg-type]
        with repo.checkout(made) as view:
            assert list(view.columns) == [name]
            assert view[name][1] == 1
        assert repo.resolve(made.id).renames == (({}, {"right": "left"}) if name == "left" else ({"left": "right"}, {}))
        repo.reset_branch("main", f"{made.id}~1")


@pytest.mark.parametrize("mirrored", [False, True])
def test_edits_follow_a_rename_on_the_other_side(repo: Repository, mirrored: bool) -> None:
    def edit(w: WriteCheckout) -> None:
        w["a", 2] = np.int64(2)
        del w["a", 1]

    sides: list[Edit] = [lambda w: w.rename("a", "z"), edit]
    fork(repo, {"a": {1: 1, 5: 5}}, *(sides[::-1] if mirrored else sides))
    made = repo.merge("side")
    with repo.checkout(made) as view:
        assert {name: {key: int(v) for key, v in column.items()} for name, column in view.columns.items()} == {
            "z": {2: 2, 5: 5}
        }
    # Later merges follow it, too.
    with repo.checkout("side", write=True) as w:
        w["z" if mirrored else "a", 6] = np.int64(6)
        w.commit("later")
    with repo.checkout(repo.merge("side")) as view:
        assert sorted(view["z"]) == [2, 5, 6]


def test_attributes_merge_key_by_key(repo: Repository) -> None:
    base = {"": {"kept": 1, "ours": 1, "theirs": 1, "both": 1, "dropped": 1}}

    def ours(w: WriteCheckout) -> None:
        w.attrs.update({"ours": 2, "both": 2, "new": 1})

    def theirs(w: WriteCheckout) -> None:
        w.attrs.update({"theirs": 2, "both": 3, "newer": 1})
        del w.attrs["dropped"]

    fork(repo, base, ours, theirs)
    assert conflicts_of(repo) == [("", "both", "attribute")]
    seen: list[Any] = []

    def resolve(conflict: hl.Conflict) -> Any:
        seen.append([side and side.value for side in (conflict.base, conflict.ours, conflict.theirs)])
        return {"picked": True}

    made = repo.merge("side", resolve=resolve)
    assert seen == [[1, 2, 3]]
    with repo.checkout(made) as view:
        assert view.attrs == {"kept": 1, "ours": 2, "theirs": 2, "both": {"picked": True}, "new": 1, "newer": 1}
    repo.reset_branch("main", f"{made.id}~1")
    for answer in ({1, 2}, (1, 2), float("nan")):
        with pytest.raises(hl.SchemaError):
            repo.merge("side", resolve=lambda conflict, answer=answer: answer)  # type: ignore[misc]
    with repo.checkout(repo.merge("side", resolve=lambda conflict: hl.REMOVE)) as view:
        assert "both" not in view.attrs


def test_encodings_never_conflict_and_are_no_part_of_a_commit(repo: Repository) -> None:
    def encoded(level: int) -> Edit:
        def edit(w: WriteCheckout) -> None:
            column = w.add_ndarray_column("x", (64,), "int64", encoding={"compressor": "zstd", "level": level})
            column.extend(range(100), np.zeros((100, 64), "int64"))

        return edit

    fork(repo, {"a": {1: 1}}, encoded(1), encoded(9))
    assert repo.resolve("main").catalog == repo.resolve("side").catalog
    assert repo.diff("main", "side").is_empty
    made = repo.merge("side")
    assert made.catalog == repo.resolve("side").catalog


# ---- conflicts and how they are resolved -----------------------------------------------------------------------------------


@pytest.fixture
def contested(repo: Repository) -> Repository:
    """Every kind of conflict between samples."""

    def ours(w: WriteCheckout) -> None:
        w["a"].update({"changed": np.int64(10), "added": np.int64(11), "ours": np.int64(1)})
        del w["a", "gone ours"]
        w["a", "gone theirs"] = np.int64(12)

    def theirs(w: WriteCheckout) -> None:
        w["a"].update({"changed": np.int64(20), "added": np.int64(21), "theirs": np.int64(1)})
        del w["a", "gone theirs"]
        w["a", "gone ours"] = np.int64(22)

    fork(repo, {"a": {"changed": 1, "gone ours": 2, "gone theirs": 3, "kept": 4}}, ours, theirs)
    return repo


def test_conflicts_tell_what_each_side_has(contested: Repository) -> None:
    with pytest.raises(hl.MergeConflictError, match=r"4 conflicts.*nothing was changed.*resolve") as caught:
        contested.merge("side")
    found = {each.key: each for each in caught.value.conflicts}
    assert {key: each.kind for key, each in found.items()} == {
        "added": "added-both",
        "changed": "changed-both",
        "gone ours": "removed-changed",
        "gone theirs": "changed-removed",
    }
    values = {
        key: [None if side is None else int(side.value) for side in (each.base, each.ours, each.theirs)]
        for key, each in found.items()
    }
    assert values == {
        "added": [None, 11, 21],
        "changed": [1, 10, 20],
        "gone ours": [2, None, 22],
        "gone theirs": [3, 12, None],
    }
    changed = found["changed"]
    assert changed.ours is not None
    assert changed.ours.digest == contested.checkout("main")["a"].digest("changed")
    assert changed.ours.shape == ()
    assert changed.to_dict()["ours"] == {"digest": changed.ours.digest, "shape": []}
    assert str(changed) == "a['changed']: changed-both"


@pytest.mark.parametrize(
    ("resolve", "expected"),
    [
        ("ours", {"changed": 10, "added": 11, "gone theirs": 12}),
        ("theirs", {"changed": 20, "added": 21, "gone ours": 22}),
        (lambda c: hl.OURS, {"changed": 10, "added": 11, "gone theirs": 12}),
        (lambda c: hl.THEIRS, {"changed": 20, "added": 21, "gone ours": 22}),
        (lambda c: hl.REMOVE, {}),
        (lambda c: np.int64(7), dict.fromkeys(("changed", "added", "gone ours", "gone theirs"), 7)),
        (lambda c: c.ours or c.theirs, {"changed": 10, "added": 11, "gone ours": 22, "gone theirs": 12}),
        (lambda c: c.base or hl.THEIRS, {"changed": 1, "added": 21, "gone ours": 2, "gone theirs": 3}),
        (
            lambda c: max((s.value for s in (c.ours, c.theirs) if s), default=None),
            {"changed": 20, "added": 21, "gone ours": 22, "gone theirs": 12},
        ),
    ],
)
def test_conflicts_are_resolved(contested: Repository, resolve: Any, expected: dict[str, int]) -> None:
    made = contested.merge("side", resolve=resolve)
    assert world_at(contested, made) == {"a": {"kept": 4, "ours": 1, "theirs": 1, **expected}}
    assert len(made.parents) == 2


def test_a_resolver_may_leave_conflicts_open(contested: Repository) -> None:
    left = conflicts_of(contested, resolve=lambda c: None if c.kind == "added-both" else hl.OURS)
    assert left == [("a", "added", "added-both")]


@pytest.mark.parametrize("value", [1.5, np.zeros(3, "int64"), "text", np.float32(1)])
def test_a_resolution_has_to_fit_the_column(contested: Repository, value: Any) -> None:
    before = contested.branches
    with pytest.raises(hl.SchemaError):
        contested.merge("side", resolve=lambda conflict: value)
    assert contested.branches == before


def test_an_error_of_a_resolver_leaves_everything_as_it_was(contested: Repository) -> None:
    before = contested.branches

    def resolve(conflict: hl.Conflict) -> Any:
        raise RuntimeError("no idea")

    with pytest.raises(RuntimeError, match="no idea"):
        contested.merge("side", resolve=resolve)
    assert contested.branches == before


def test_values_are_set_in_columns_of_every_layout(repo: Repository) -> None:
    base = {"v": {1: 1}, "n": {(1, "x"): 1}, "s": {"k": 1}}

    def edit(number: int) -> Edit:
        def change(w: WriteCheckout) -> None:
            w["v", 1] = np.full(number, 1, np.int16)
            w["n", 1, "x"] = np.int64(number)
            w["s", "k"] = str(number)

        return change

    fork(repo, base, edit(2), edit(3))
    answers = {"v": np.arange(9, dtype=np.int16), "n": np.int64(9), "s": "nine"}
    with repo.checkout(repo.merge("side", resolve=lambda c: answers[c.node])) as view:
        assert view["v", 1].tolist() == list(range(9))
        assert (view["n", 1, "x"], view["s", "k"]) == (9, "nine")


# ---- several bases ---------------------------------------------------------------------------------------------------------


def cross(repo: Repository, left: dict[str, Any], right: dict[str, Any], **options: Any) -> None:
    """Part from a base, and merge each side into the other as it was."""
    repo.create_branch("side")
    a, b = commit(repo, "main", left), commit(repo, "side", right)
    repo.merge(b, "main", **options)
    repo.merge(a, "side", **options)
    assert set(repo._session.graph.merge_bases(repo.branches["main"], repo.branches["side"])) == {a.id, b.id}


@pytest.mark.parametrize("mirrored", [False, True])
def test_after_crossing_merges_a_change_back_is_kept(repo: Repository, mirrored: bool) -> None:
    # Measured against one of the two bases alone, the change back would be lost without a word.
    base, changed = {"a": {"x": 0, "y": 0}}, {"a": {"x": 1, "y": 0}}
    commit(repo, "main", base)
    cross(repo, *((base, changed) if mirrored else (changed, base)))
    commit(repo, "side", base)
    commit(repo, "main", {"a": {"x": 1, "y": 0, "z": 1}})
    assert repo.merge_base("main", "side") is not None
    assert world_at(repo, repo.merge("side")) == {"a": {"x": 0, "y": 0, "z": 1}}


def test_what_crossing_merges_resolved_differently_is_a_conflict(repo: Repository) -> None:
    commit(repo, "main", {"a": {"x": 0, "y": 0}})
    cross(repo, {"a": {"x": 1, "y": 0}}, {"a": {"x": 2, "y": 0}}, resolve="ours")
    with pytest.raises(hl.MergeConflictError) as caught:
        repo.merge("side")
    assert [(c.key, c.base) for c in caught.value.conflicts] == [("x", None)]
    seen: list[Any] = []
    made = repo.merge("side", resolve=lambda c: seen.append(c.base) or hl.THEIRS)
    assert (seen, world_at(repo, made)) == ([None], {"a": {"x": 2, "y": 0}})


def test_what_crossing_merges_resolved_alike_is_none(repo: Repository) -> None:
    commit(repo, "main", {"a": {"x": 0}, "": {"t": 0}})
    repo.create_branch("side")
    a, b = commit(repo, "main", {"a": {"x": 1}, "": {"t": 1}}), commit(repo, "side", {"a": {"x": 2}, "": {"t": 2}})
    repo.merge(b, "main", resolve="ours")
    repo.merge(a, "side", resolve="theirs")
    commit(repo, "side", {"a": {"x": 1, "y": 1}, "": {"t": 1}})
    assert world_at(repo, repo.merge("side")) == {"a": {"x": 1, "y": 1}, "": {"t": 1}}


def test_crossing_merges_keep_track_of_renames(repo: Repository) -> None:
    commit(repo, "main", {"a": {"x": 0}})
    repo.create_branch("side")
    with repo.checkout("main", write=True) as w:
        w.rename("a", "z")
        left = w.commit("rename")
    right = commit(repo, "side", {"a": {"x": 0, "y": 1}})
    repo.merge(right, "main")
    repo.merge(left, "side")
    with repo.checkout("main", write=True) as w:
        w.rename("z", "last")
        w.commit("again")
    with repo.checkout("side", write=True) as w:
        w["z", "w"] = np.int64(5)
        w.commit("edit")
    with repo.checkout(repo.merge("side")) as view:
        assert {name: {k: int(v) for k, v in column.items()} for name, column in view.columns.items()} == {
            "last": {"w": 5, "x": 0, "y": 1}
        }


def test_branches_may_cross_again_and_again(repo: Repository) -> None:
    world: dict[str, Any] = {"a": {0: 0}}
    commit(repo, "main", world)
    repo.create_branch("side")
    for step in range(1, 24):
        world["a"][step] = step
        left = repo.resolve("main") if step % 2 else commit(repo, "main", {**world})
        right = commit(repo, "side", {**world}) if step % 2 else repo.resolve("side")
        repo.merge(right, "main", message="cross")
        repo.merge(left, "side", message="cross")
    assert world_at(repo, "main") == world_at(repo, "side") == world
    assert world_at(repo, repo.merge("side", message="last")) == world


# ---- write checkouts -------------------------------------------------------------------------------------------------------


def test_a_write_checkout_goes_on_from_a_merge(repo: Repository) -> None:
    fork(repo, {"a": {1: 1}}, lambda w: w["a"].update({2: np.int64(2)}), lambda w: w["a"].update({3: np.int64(3)}))
    with repo.checkout("main", write=True) as w:
        made = w.merge("side")
        assert (w.commit_base, repo.branches["main"]) == (made, made.id)
        assert w.status().is_empty
        assert read(w) == {"a": {1: 1, 2: 2, 3: 3}}
        assert w.merge("side") == made
        w["a", 4] = np.int64(4)
        assert w.commit("go on").parents == (made.id,)


def test_a_write_checkout_with_staged_changes_refuses_to_merge(repo: Repository) -> None:
    fork(repo, {"a": {1: 1}}, lambda w: w["a"].update({2: np.int64(2)}), lambda w: w["a"].update({3: np.int64(3)}))
    with repo.checkout("main", write=True) as w:
        w["a", 9] = np.int64(9)
        with pytest.raises(hl.MergeConflictError, match="staged changes"):
            w.merge("side")
        w.reset()
        assert len(w.merge("side").parents) == 2


def test_what_is_staged_on_disk_is_kept_apart_from_a_merge(local_repo: Repository) -> None:
    repo = local_repo
    fork(repo, {"a": {1: 1}}, lambda w: w["a"].update({2: np.int64(2)}), lambda w: w["a"].update({3: np.int64(3)}))
    with repo.checkout("main", write=True) as w:
        w["a", 9] = np.int64(9)
    made = repo.merge("side")
    assert world_at(repo, made) == {"a": {1: 1, 2: 2, 3: 3}}
    with repo.checkout("main", write=True) as w:
        assert list(w.status().columns["a"].added) == [9]
        assert w.commit("staged before the merge").parents == (made.id,)
    assert world_at(repo, "main") == {"a": {1: 1, 2: 2, 3: 3, 9: 9}}
