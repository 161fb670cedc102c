"""History needs neither clocks nor data, and survives races and failing stores."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake import Repository, ref_methods
from hangarlake import publish as publishing
from hangarlake.records import refs
from hangarlake.storage import MemoryStore, ObjectStore
from hangarlake.testing import CountingStore, Fault, FaultyStore
from tests.history.worlds import commit, world_at

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def clocks() -> dict[str, Callable[[], Callable[[], datetime]]]:
    def ticking(step: timedelta) -> Callable[[], Callable[[], datetime]]:
        def start() -> Callable[[], datetime]:
            now = [T0]

            def tick() -> datetime:
                now[0] += step
                return now[0]

            return tick

        return start

    return {
        "forwards": ticking(timedelta(hours=1)),
        "backwards": ticking(timedelta(hours=-1)),
        "stopped": ticking(timedelta()),
    }


@pytest.fixture(params=list(clocks()))
def any_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes forwards, backwards, or not at all."""
    tick = clocks()[request.param]()
    monkeypatch.setattr(publishing, "utc_now", tick)
    monkeypatch.setattr(refs, "utc_now", tick)


def tell(repo: Repository) -> list[Any]:
    """Make a history with every operation; return what it is, apart from ids."""
    commit(repo, "main", {"a": {1: 1, 2: 2}}, "base")
    repo.create_branch("side")
    commit(repo, "main", {"a": {1: 1, 2: 2, 3: 3}}, "ours")
    commit(repo, "side", {"a": {1: 4, 2: 2}}, "theirs")
    base = repo.merge_base("main", "side")
    ours, theirs = repo.resolve("main"), repo.resolve("side")
    repo.merge(theirs, "main")
    repo.merge(ours, "side")
    commit(repo, "side", {"a": {1: 5, 2: 2, 3: 3}}, "more")
    diff = repo.diff("main", "side").to_dict(keys=True)
    repo.merge("side", message="again")
    repo.revert("main", mainline=1)
    log = list(repo.log())
    places = {each.id: place for place, each in enumerate(log)}
    assert len(places) == len(log)
    assert all(places[parent] > places[each.id] for each in log for parent in each.parents)
    return [
        base and base.message,
        diff,
        sorted(each.message.partition("\n")[0] for each in log),
        sorted(each.message for each in repo.log(node="a", key=1) if "Revert" not in each.message),
        world_at(repo, "main"),
    ]


def test_clocks_never_matter(repo: Repository, any_clock: None) -> None:
    base, diff, log, of_one, world = tell(repo)
    assert base == "base"
    assert diff["columns"]["a"]["keys"] == {"added": [], "removed": [], "modified": [1]}
    told = [subject for subject in log if not subject.startswith("Merge commit")]
    assert told == sorted(["base", "ours", "theirs", "more", "again", 'Revert "again"', "Create the repository"])
    assert len(log) == len(told) + 2
    assert of_one == ["base", "more", "theirs"]
    assert world == {"a": {1: 4, 2: 2, 3: 3}}


def test_all_of_it_works_without_a_single_pack(tmp_path: Path) -> None:
    repo = Repository.create(tmp_path / "repo")
    commit(repo, "main", {"a": dict.fromkeys(range(3000), 1), "s": {1: 1}, "n": {(1, "x"): 1}})
    repo.create_branch("side")
    commit(repo, "main", {"a": {**dict.fromkeys(range(3000), 1), 5: 2, 7: 5}, "s": {1: 1}, "n": {(1, "x"): 1}})
    commit(repo, "side", {"a": {**dict.fromkeys(range(3000), 1), 6: 3, 7: 6}, "s": {1: 2}, "n": {(1, "y"): 1}})
    repo.close()
    shutil.rmtree(tmp_path / "repo" / "packs")
    store = CountingStore(Repository.open(tmp_path / "repo")._session.store)
    repo = Repository.open(store)
    diff = repo.diff("main", "side")
    assert (list(diff.columns["a"].modified), diff.columns["n"].counts) == ([5, 6, 7], (1, 1, 0))
    assert [entry.to_dict()["state"] for entry in diff.columns["a"].entries()] == ["modified"] * 3
    with pytest.raises(hl.MergeConflictError) as caught:
        repo.merge("side")
    assert [(c.node, c.key, c.ours and c.ours.shape) for c in caught.value.conflicts] == [("a", 7, ())]
    made = repo.merge("side", resolve="theirs")
    assert repo.diff("side", made).columns["a"].counts == (0, 0, 1)
    repo.create_branch("copy")
    repo.cherry_pick("main~1", branch="side", resolve="theirs")
    repo.revert(made, mainline=1)
    assert repo.diff(f"{made.id}~1", "main").is_empty
    assert len(list(repo.log())) == 6
    assert [each.id for each in repo.log("copy", node="a", key=6)]
    repo.merge("copy", "side", resolve="ours")
    repo.reset_branch("main", "copy")
    assert repo.merge("main").id == made.id
    with repo.checkout("main", write=True) as w:
        w.rename("s", "z")
        assert w.status().columns["z"].state == "renamed"
        w.commit("no data is needed for that")
    assert not [request for request in store.requests if request.key.startswith("packs/")]


# ---- races ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def racing(
    store: ObjectStore, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Callable[[], object]]]:
    """What others do just before the first repository moves a branch."""
    commit(repo, "main", {"a": {1: 1, 2: 2}})
    repo.create_branch("side")
    commit(repo, "main", {"a": {1: 1, 2: 2, 3: 3}})
    commit(repo, "side", {"a": {1: 1, 2: 5}})
    others: list[Callable[[], object]] = []
    move = repo._session.refs.move

    def late(*args: Any, **options: Any) -> Any:
        while others:
            others.pop(0)()
        return move(*args, **options)

    monkeypatch.setattr(repo._session.refs, "move", late)
    yield others
    assert not others


def test_a_merge_that_races_a_commit_takes_it_in(store: ObjectStore, repo: Repository, racing: list[Any]) -> None:
    other = Repository.open(store)
    racing.append(lambda: commit(other, "main", {"a": {1: 9, 2: 2, 3: 3}}, "faster"))
    made = repo.merge("side")
    assert repo.resolve(made.parents[0]).message == "faster"
    assert world_at(repo, "main") == {"a": {1: 9, 2: 5, 3: 3}}


def test_a_merge_that_races_a_commit_may_turn_out_to_conflict(
    store: ObjectStore, repo: Repository, racing: list[Any]
) -> None:
    other = Repository.open(store)
    racing.append(lambda: commit(other, "main", {"a": {1: 1, 2: 7, 3: 3}}, "faster"))
    with pytest.raises(hl.MergeConflictError):
        repo.merge("side")
    assert world_at(repo, "main") == {"a": {1: 1, 2: 7, 3: 3}}


def test_a_merge_that_somebody_else_made_first_is_not_made_again(
    store: ObjectStore, repo: Repository, racing: list[Any]
) -> None:
    other = Repository.open(store)
    racing.append(lambda: other.merge("side"))
    made = repo.merge("side")
    assert repo.branches["main"] == made.id
    assert len(list(repo.log())) == 5


def test_a_fast_forward_that_races_a_commit_becomes_a_merge(
    store: ObjectStore, repo: Repository, racing: list[Any]
) -> None:
    repo._session.refs.head("main")
    other = Repository.open(store)
    before = other.create_branch("behind", "main~1")
    racing.append(lambda: commit(other, "behind", {"a": {1: 1, 2: 2, 4: 4}}, "faster"))
    made = repo.merge("side", "behind")
    assert len(made.parents) == 2
    assert before not in made.parents
    assert world_at(repo, "behind") == {"a": {1: 1, 2: 5, 4: 4}}


def test_a_branch_that_is_deleted_meanwhile_is_a_conflict(
    store: ObjectStore, repo: Repository, racing: list[Any]
) -> None:
    other = Repository.open(store)
    racing.append(lambda: other.delete_branch("main", force=True))
    with pytest.raises(hl.CommitConflictError, match="deleted"):
        repo.merge("side")
    assert "main" not in repo.branches


def test_reverts_and_cherry_picks_race_as_well(store: ObjectStore, repo: Repository, racing: list[Any]) -> None:
    other = Repository.open(store)
    racing.append(lambda: commit(other, "main", {"a": {1: 1, 2: 2, 3: 3, 4: 4}}, "faster"))
    repo.revert("main")
    assert world_at(repo, "main") == {"a": {1: 1, 2: 2, 4: 4}}
    racing.append(lambda: commit(other, "main", {"a": {1: 1, 2: 2, 6: 6}}, "faster"))
    repo.cherry_pick("side")
    assert world_at(repo, "main") == {"a": {1: 1, 2: 5, 6: 6}}


def test_a_reset_and_a_deletion_that_race_try_again(store: ObjectStore, repo: Repository, racing: list[Any]) -> None:
    other = Repository.open(store)
    target = repo.resolve("side").id
    racing.append(lambda: commit(other, "main", {"a": {1: 7}}, "faster"))
    assert repo.reset_branch("main", target) == target == repo.resolve("main").id
    assert repo.resolve("main@{1}").message == "faster"
    racing.append(lambda: commit(other, "side", {"a": {1: 8}}, "faster"))
    repo.delete_branch("side", force=True)
    assert list(repo.branches) == ["main"]


@pytest.mark.parametrize("change", ["reset", "delete"])
def test_who_loses_every_race_gives_way_each_time_and_says_so_in_the_end(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    repo.create_branch("side")
    moved = commit(repo, "main", {"a": {1: 1}})
    waited: list[int] = []
    monkeypatch.setattr(ref_methods, "ATTEMPTS", 3)
    monkeypatch.setattr(ref_methods, "give_way", lambda attempt, took: waited.append(attempt))
    move = repo._session.refs.move

    def late(name: str, head: Any, **options: Any) -> Any:
        if options["operation"] == change:
            move(name, head, **{**options, "operation": "commit", **publishing.stand_fields(repo._session, here)})
        return move(name, head, **options)

    here, _ = repo._session.snapshot("main")
    monkeypatch.setattr(repo._session.refs, "move", late)
    calls = {
        "reset": lambda: repo.reset_branch("main", "main~1"),
        "delete": lambda: repo.delete_branch("main", force=True),
    }
    with pytest.raises(hl.CommitConflictError, match="3 times in a row; nothing was changed"):
        calls[change]()
    assert waited == [0, 1, 2]
    assert repo.branches["main"] == moved.id


def test_merges_and_commits_of_many_threads_all_take_part(store: ObjectStore, repo: Repository) -> None:
    commit(repo, "main", {"a": {0: 0}})
    for n in range(1, 5):
        repo.create_branch(f"side{n}")
        commit(repo, f"side{n}", {"a": {0: 0, n: n}})
    failures: list[BaseException] = []

    def run(n: int) -> None:
        try:
            mine = Repository.open(store)
            mine.merge(f"side{n}")
            with mine.checkout("main", write=True, staging="memory") as w:
                w["a", 100 + n] = np.int64(n)
                w.commit("beside")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert world_at(repo, "main") == {"a": {0: 0} | {n: n for n in range(1, 5)} | {100 + n: n for n in range(1, 5)}}


# ---- failing stores ------------------------------------------------------------------------------------------------------


def test_a_merge_happens_as_a_whole_or_not_at_all() -> None:
    inner = MemoryStore()
    repo = Repository.create(inner)
    commit(repo, "main", {"a": dict.fromkeys(range(500), 1), "s": {1: 1}})
    repo.create_branch("side")
    commit(repo, "main", {"a": {**dict.fromkeys(range(500), 1), 5: 2}, "s": {1: 3}})
    commit(repo, "side", {"a": {**dict.fromkeys(range(500), 1), 6: 2}, "s": {1: 4}})
    repo.close()
    before = world_at(repo, "main")
    expected = {"a": {**dict.fromkeys(range(500), 1), 5: 2, 6: 2}, "s": {1: 7}}
    failed = 0
    for after in range(40):
        copy = MemoryStore()
        for info in list(inner.list("")):
            copy.put(info.key, inner.get(info.key))
        faulty = FaultyStore(copy)
        merging = Repository.open(faulty)
        merging.resolve("main")
        faulty.plan.append(Fault("crash", after=after))
        try:
            merging.merge("side", resolve=lambda c: str(int(c.ours.value) + int(c.theirs.value)))
        except OSError:
            failed += 1
        else:
            assert world_at(Repository.open(copy), "main") == expected
            break
        seen = world_at(Repository.open(copy), "main")
        assert seen in (before, expected)
        # Whoever tries again gets there.
        again = Repository.open(copy)
        again.merge("side", resolve=lambda c: str(int(c.ours.value) + int(c.theirs.value)))
        assert world_at(again, "main") == expected
    else:
        raise AssertionError("it never got through")
    assert failed >= 4


def test_a_lost_answer_is_no_conflict(store: ObjectStore, repo: Repository) -> None:
    commit(repo, "main", {"a": {1: 1}})
    repo.create_branch("side")
    commit(repo, "main", {"a": {1: 1, 2: 2}})
    commit(repo, "side", {"a": {1: 1, 3: 3}})
    faulty = FaultyStore(store, [Fault("lost-answer", op="put_new", key="refs/*")])
    made = Repository.open(faulty).merge("side")
    assert repo.branches["main"] == made.id
    assert [entry.operation for entry in repo.reflog("main")][:2] == ["merge", "commit"]
