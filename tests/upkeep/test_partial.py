"""Clones: what they need not have is counted and no problem, what they must have is missing, what they fetched is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

import hangarlake as hl
from hangarlake.records.locations import LOCATIONS
from hangarlake.storage import MemoryStore
from tests.upkeep.worlds import COMMITS, copy_of, everything, noise


def clone_of(store: MemoryStore, **options: object) -> hl.Repository:
    return hl.Repository.clone(store, MemoryStore(), **options)  # type: ignore[arg-type]


def objects(repo: hl.Repository, prefix: str) -> list[str]:
    return [info.key for info in repo._session.store.list(prefix)]


def test_a_clone_without_data_is_sound_and_counts_what_is_absent() -> None:
    clone = clone_of(everything())
    whole = hl.Repository.open(everything()).verify("main")
    report = clone.verify()
    assert report.problems == ()
    assert report.checked["chunks"] == 0
    # Every chunk that the branches reach, each once; chunks of large samples are counted by themselves there.
    assert report.absent > COMMITS
    assert "chunks are not in this clone" in report.summary
    assert clone.verify(level="records").absent == 0
    assert whole.absent == 0


def test_a_clone_with_data_lacks_nothing() -> None:
    clone = clone_of(everything(), data=True)
    report = clone.verify()
    assert (report.problems, report.absent) == ((), 0)
    # The origin checks the commit that a reset left behind as well.
    assert report.checked["samples"] == clone.verify("main").checked["samples"]


def test_what_was_fetched_into_a_clone_is_checked_where_it_lies() -> None:
    clone = clone_of(everything())
    before = clone.verify().absent
    fetched = clone.fetch_data(nodes=["images", "large", "line"])
    report = clone.verify()
    assert report.problems == ()
    assert report.absent == before - fetched.chunks
    assert report.checked["samples"] >= 700 + 5 + 600
    assert report.checked["segments"] == 2  # of history, and of locations
    # Damage of what was fetched is damage, in the pack that it lies in now.
    store = clone._session.store
    key = max((info for info in store.list("packs/")), key=lambda info: info.size).key
    data = bytearray(store.get(key))
    data[len(data) // 3] ^= 1
    store.put(key, bytes(data))
    (problem,) = clone.verify().problems
    assert (problem.object, problem.kind) == (key, "damaged")
    assert problem.affects
    assert {line.split("[")[0] for line in problem.affects} <= {"images", "large", "line"}


def test_a_damaged_location_segment_is_found_whatever_this_machine_has_kept() -> None:
    clone = clone_of(everything())
    clone.fetch_data(nodes=["images"])
    (key,) = objects(clone, LOCATIONS)
    store = clone._session.store
    data = bytearray(store.get(key))
    data[-1] ^= 1
    store.put(key, bytes(data))
    assert not clone.verify("main", level="records").problems
    (problem,) = clone.verify(level="records").problems
    assert (problem.object, problem.kind) == (key, "damaged")
    assert "fetched" in problem.affects[0]


def test_what_was_committed_in_a_clone_has_to_be_there() -> None:
    clone = clone_of(everything())
    there = set(objects(clone, "packs/"))
    with clone.checkout("main", write=True, staging="memory") as w:
        w["images", 5] = noise(77, 6, 6)
        w.commit("Here")
    (mine,) = set(objects(clone, "packs/")) - there
    absent = clone.verify().absent
    clone._session.store.delete([mine])
    report = clone.verify()
    (problem,) = report.problems
    assert (problem.object, problem.kind) == (mine, "missing")
    assert problem.affects == (f"images[5] in commit {clone.resolve('main').id[:12]}",)
    assert report.absent == absent


def test_an_origin_with_a_backup_has_to_have_its_data_all_the_same() -> None:
    store = copy_of(everything())
    origin = hl.Repository.open(store)
    origin.remotes.add("backup", MemoryStore())
    origin.push("backup")
    assert origin.verify().ok
    keys = objects(origin, "packs/")
    store.delete(keys)
    report = origin.verify("main")
    assert {problem.object for problem in report.problems} <= set(keys)
    assert {problem.kind for problem in report.problems} == {"missing"}
    assert report.absent == 0


def test_a_place_that_was_made_by_a_push_has_all_data() -> None:
    origin = hl.Repository.open(copy_of(everything()))
    there = MemoryStore()
    origin.remotes.add("there", there)
    origin.push("there")
    pushed = hl.Repository.open(there)
    report = pushed.verify()
    assert (report.problems, report.absent) == ((), 0)
    there.delete([objects(pushed, "packs/")[0]])
    assert not pushed.verify()


def test_what_is_pulled_without_its_data_is_absent(tmp_path: Path) -> None:
    origin = hl.Repository.open(copy_of(everything()))
    other = clone_of(origin._session.store)
    with other.checkout("main", write=True, staging="memory") as w:
        w["images", 5] = noise(77, 6, 6)
        w.commit("There")
    origin.remotes.add("other", other._session.store)
    origin.pull("other", "main")
    report = origin.verify()
    assert report.problems == ()
    assert report.absent == 1
    with pytest.raises(hl.DataNotLocalError):
        origin.checkout(read_through=False)["images", 5]
