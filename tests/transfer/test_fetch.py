"""Fetching and pulling: remote-tracking branches move, local ones only by a pull."""

from __future__ import annotations

from pathlib import Path

import pytest

import hangarlake as hl
from hangarlake.records.canonical import seal, unseal
from hangarlake.records.commits import encode_commit
from hangarlake.records.movements import movement_key
from hangarlake.storage import MemoryStore
from hangarlake.testing import CountingStore
from tests.transfer.places import check_place, contents, image, new_repository, put


@pytest.fixture
def origin() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
def clone(origin: CountingStore) -> hl.Repository:
    new_repository(origin)
    clone = hl.Repository.clone(origin, MemoryStore())
    origin.reset()
    return clone


def test_a_fetch_moves_tracking_branches_only(clone: hl.Repository, origin: CountingStore) -> None:
    repo = hl.Repository.open(origin)
    before = clone.resolve().id
    new = put(repo, 1, 1)
    repo.create_branch("side")
    assert clone.fetch() == {"origin/main": new.id, "origin/side": new.id}
    assert clone.resolve("main").id == before
    assert clone.branches == {"main": before, "origin/main": new.id, "origin/side": new.id}
    # A remote branch is a revision wherever one is read.
    assert clone.resolve("origin/main").id == new.id
    assert clone.resolve("origin/main~1").id == before
    assert clone.checkout("origin/main")["images", 1].tobytes() == image(1).tobytes()
    assert [c.id for c in clone.log("origin/side", limit=1)] == [new.id]
    with pytest.raises(hl.RevisionNotFoundError):
        clone.checkout("origin/main", write=True)
    # They are facts of this working copy, not of the bucket.
    assert not any("origin" in info.key for info in clone._session.store.list("refs/"))
    check_place(clone._session.store)


def test_a_fetch_brings_what_is_new_and_nothing_twice(clone: hl.Repository, origin: CountingStore) -> None:
    put(hl.Repository.open(origin), 1, 1)
    origin.reset()
    clone.fetch()
    assert origin.bytes_read < 20_000
    assert not any(request.key.startswith("packs/") for request in origin.requests)
    origin.reset()
    clone.fetch()
    assert not any(request.key.startswith(("trees/", "catalogs/", "commits/")) for request in origin.requests)


def test_a_pull_fast_forwards_or_merges(clone: hl.Repository, origin: CountingStore) -> None:
    repo = hl.Repository.open(origin)
    theirs = put(repo, 1, 1)
    assert clone.pull().id == theirs.id
    assert next(iter(clone.reflog("main"))).operation == "fetch"
    assert clone.pull().id == theirs.id
    put(repo, 2, 2)
    put(clone, 3, 3)
    merged = clone.pull()
    assert len(merged.parents) == 2
    assert {1, 2, 3} <= {key for key, value in contents(clone).items() if value == image(key).tobytes()}


def test_a_pull_with_conflicts_changes_nothing(clone: hl.Repository, origin: CountingStore) -> None:
    theirs = put(hl.Repository.open(origin), 1, 1)
    mine = put(clone, 1, 2)
    with pytest.raises(hl.MergeConflictError):
        clone.pull()
    assert clone.resolve().id == mine.id
    assert clone.resolve("origin/main").id == theirs.id


def test_a_branch_that_is_only_at_the_remote_is_pulled_into_being(clone: hl.Repository, origin: CountingStore) -> None:
    hl.Repository.open(origin).create_branch("side")
    clone.pull(branch="side")
    assert "side" in clone.branches
    with pytest.raises(hl.RevisionNotFoundError):
        clone.pull(branch="none")


def test_a_tag_that_moved_is_refused_and_the_rest_is_fetched(clone: hl.Repository, origin: CountingStore) -> None:
    repo = hl.Repository.open(origin)
    repo.create_tag("v1")
    clone.fetch()
    first = clone.tags["v1"]
    repo.delete_tag("v1")
    new = put(repo, 1, 1)
    repo.create_tag("v1")
    repo.create_tag("v2")
    with pytest.raises(hl.BranchExistsError, match="v1"):
        clone.fetch()
    assert clone.tags == {"v1": first, "v2": new.id}
    # It keeps nobody from pulling a branch.
    assert clone.pull().id == new.id
    assert clone.tags["v1"] == first
    assert clone.resolve("origin/main").id == new.id
    clone.delete_tag("v1")
    clone.fetch()
    assert clone.tags["v1"] == new.id


def test_a_tag_keeps_its_author_message_and_time(clone: hl.Repository, origin: CountingStore) -> None:
    repo = hl.Repository.open(origin, author="Grace <grace@example.org>")
    repo.create_tag("v1", message="First")
    clone.fetch()
    here, there = clone._session.refs.read_tag("v1"), repo._session.refs.read_tag("v1")
    assert here is not None
    assert there is not None
    assert (here.author, here.message, here.time) == (there.author, there.message, there.time)


def test_a_dry_run_counts_and_writes_nothing(clone: hl.Repository, origin: CountingStore) -> None:
    put(hl.Repository.open(origin), 1, 1)
    store = clone._session.store
    before = {info.key for info in store.list("")}
    progress = hl.Progress()
    clone.fetch(dry_run=True, progress=progress)
    assert {info.key for info in store.list("")} == before
    done = hl.Progress()
    clone.fetch(progress=done)
    assert (progress.objects, progress.bytes) == (done.objects, done.bytes)
    assert progress.objects > 0


def test_a_long_history_takes_few_round_trips(tmp_path: Path) -> None:
    store = MemoryStore()
    repo = hl.Repository.create(store)
    for i in range(70):
        with repo.checkout("main", write=True, staging="memory") as w:
            w.attrs["i"] = i
            w.commit(f"{i}")
    repo.close()
    counted = CountingStore(store, latency=0.002)
    clone = hl.Repository.clone(counted, MemoryStore())
    assert [c.id for c in clone.log()] == [c.id for c in repo.log()]
    assert counted.round_trips() < 40
    assert any(info.key for info in clone._session.store.list("history/"))


def test_a_remote_that_was_damaged_is_refused_and_nothing_moves(clone: hl.Repository, origin: CountingStore) -> None:
    before, objects = clone.branches, {info.key for info in clone._session.store.list("")}
    trees = {info.key for info in origin.list("trees/")}
    repo = hl.Repository.open(origin)
    put(repo, 1, 1)
    new = next(info.key for info in origin.list("trees/") if info.key not in trees)
    good = origin.get(new)
    for bad in (good[:-1], good[:40] + b"x" + good[41:], b""):
        origin.put(new, bad)
        with pytest.raises(OSError):
            clone.fetch()
        assert clone.branches == before
        assert {info.key for info in clone._session.store.list("")} == objects
    origin.delete([new])
    with pytest.raises(FileNotFoundError):
        clone.fetch()
    origin.put(new, good)
    clone.fetch()
    check_place(clone._session.store)


def test_a_remote_that_lies_about_generations_is_refused(clone: hl.Repository, origin: CountingStore) -> None:
    """A commit whose id is right and whose content is a lie: seals and hashes cannot tell, its parents do."""
    head = clone.resolve()
    commit_id, record = encode_commit(
        catalog=head.catalog,
        parents=[head.id],
        generation=head.generation + 5,
        author=head.author,
        message="lie",
        time=head.time,
    )
    key = movement_key("main", 2)
    movement = unseal(origin.get(key), key) | {
        "commit": commit_id,
        "record": record.decode(),
        "seq": 3,
        "previous": head.id,
    }
    origin.put(movement_key("main", 3), seal(movement))
    origin.put(f"commits/{commit_id[:2]}/{commit_id}.json", record)
    before = clone.branches
    with pytest.raises(hl.CorruptionError):
        clone.fetch()
    assert clone.branches == before


def test_a_remote_whose_catalog_is_another_is_refused(clone: hl.Repository, origin: CountingStore) -> None:
    new = put(hl.Repository.open(origin), 1, 1)
    old = clone.resolve()
    right = f"catalogs/{new.catalog[:2]}/{new.catalog}"
    origin.put(right, origin.get(f"catalogs/{old.catalog[:2]}/{old.catalog}"))
    with pytest.raises(hl.CorruptionError):
        clone.fetch()
    assert clone.resolve("origin/main").id == old.id


def test_the_clones_own_data_stays_where_it_is_when_the_same_content_comes_back(
    clone: hl.Repository, origin: CountingStore
) -> None:
    """Both wrote the same: one catalog, two physical parts. The one here leads to data that is here."""
    put(clone, 1, 1)
    put(hl.Repository.open(origin), 1, 1)
    clone.fetch()
    with hl.Repository.open(clone._session.store, read_through=False).checkout("main") as co:
        assert co["images", 1].tobytes() == image(1).tobytes()
        assert co["images"].is_local(1)
    check_place(clone._session.store)
