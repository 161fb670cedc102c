"""Pushing: only what is missing, and never over somebody else's commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.storage import MemoryStore, ObstoreStore
from hangarlake.testing import CountingStore, Fault, FaultyStore
from tests.transfer.places import check_place, contents, copy_of, image, new_repository, put


@pytest.fixture
def origin() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
def clone(origin: CountingStore) -> hl.Repository:
    new_repository(origin)
    clone = hl.Repository.clone(origin, MemoryStore())
    origin.reset()
    return clone


def test_a_small_push_takes_few_requests_and_moves_what_changed(clone: hl.Repository, origin: CountingStore) -> None:
    with clone.checkout("main", write=True) as w:
        for key in range(0, 600, 60):
            w["images", key] = image(9000 + key)
        commit = w.commit("Ten changes")
    result = clone.push()
    assert (result.branch, result.new) == ("main", commit.id)
    assert len(origin.requests) <= 15
    assert origin.bytes_written < 60_000
    assert result.bytes <= origin.bytes_written
    assert hl.Repository.open(origin).resolve().id == commit.id
    check_place(origin, data=True)
    origin.reset()
    assert clone.push().objects == 0
    assert origin.bytes_written == 0


def test_a_push_that_would_leave_commits_behind_is_rejected(clone: hl.Repository, origin: CountingStore) -> None:
    theirs = put(hl.Repository.open(origin), 1, 1)
    put(clone, 2, 2)
    before = dict(origin.inner._bucket.objects)  # type: ignore[attr-defined]
    with pytest.raises(hl.PushRejectedError):
        clone.push()
    assert origin.inner._bucket.objects == before  # type: ignore[attr-defined]
    # After a fetch the answer is the same, with the other commit at hand.
    assert clone.fetch() == {"origin/main": theirs.id}
    with pytest.raises(hl.PushRejectedError):
        clone.push()
    assert len(clone.pull().parents) == 2
    clone.push()
    repo = hl.Repository.open(origin)
    assert repo.resolve().id == clone.resolve().id
    assert repo.checkout()["images", 1].tobytes() == image(1).tobytes()
    assert repo.checkout()["images", 2].tobytes() == image(2).tobytes()


def test_a_forced_push_keeps_the_old_tip_in_the_reflog(clone: hl.Repository, origin: CountingStore) -> None:
    repo = hl.Repository.open(origin)
    theirs = put(repo, 1, 1)
    mine = put(clone, 2, 2)
    assert clone.push(force=True).old == theirs.id
    assert repo.resolve().id == mine.id
    entries = list(repo.reflog("main"))
    assert (entries[0].operation, entries[0].previous) == ("push", theirs.id)
    assert repo.resolve("main@{1}").id == theirs.id


def test_of_two_pushes_at_once_one_is_rejected(clone: hl.Repository, origin: CountingStore) -> None:
    other = hl.Repository.clone(origin, MemoryStore())
    put(clone, 1, 1)
    first = put(other, 2, 2)
    race = FaultyStore(origin, [Fault("lost-answer", op="put_new", key="refs/*", times=0, action=lambda _: None)])
    race.plan = [
        Fault("error", op="get", key="gc/none"),
        Fault("lost-answer", op="put", key="trees/*", action=lambda _: other.push(), error=_no_error),
    ]
    clone.remotes.add("origin", race)
    with pytest.raises((hl.PushRejectedError, hl.StorageError)):
        clone.push()
    assert hl.Repository.open(origin).resolve().id == first.id
    with pytest.raises(hl.PushRejectedError):
        clone.push()
    clone.pull()
    clone.push()
    assert check_place(origin, data=True) >= {first.id, clone.resolve().id}


def _no_error() -> Exception:
    return hl.StorageError("the answer was lost")


def test_somebody_who_moves_the_branch_just_before_wins(clone: hl.Repository, origin: CountingStore) -> None:
    other = hl.Repository.clone(origin, MemoryStore())
    put(clone, 1, 1)
    put(other, 2, 2)
    moved: list[str] = []

    class Racing(FaultyStore):
        def put_new(self, key: str, data: bytes) -> bool:  # type: ignore[override]
            if key.startswith("refs/") and not moved:
                moved.append(other.push().new)
            return self.inner.put_new(key, data)

    clone.remotes.add("origin", Racing(origin))
    with pytest.raises(hl.PushRejectedError, match="just now"):
        clone.push()
    assert hl.Repository.open(origin).resolve().id == moved[0]
    moved.clear()
    put(other, 3, 3)
    assert clone.push(force=True).old == moved[0]


def test_new_branches_cost_what_is_new_in_them(clone: hl.Repository, origin: CountingStore) -> None:
    clone.create_branch("side")
    assert clone.push(branch="side").bytes == 0
    put(clone, 1, 1, "side")
    clone.create_branch("third", "side")
    assert clone.push(branch="third").old is None
    origin.reset()
    result = clone.push(branch="side")
    assert result.bytes < 20_000
    written = [request.key for request in origin.requests if request.op == "put" and request.key.startswith("packs/")]
    assert written == []
    assert set(hl.Repository.open(origin).branches) == {"main", "side", "third"}


def test_a_deleted_branch_can_be_pushed_again(clone: hl.Repository, origin: CountingStore) -> None:
    clone.create_branch("side")
    clone.push(branch="side")
    repo = hl.Repository.open(origin)
    repo.delete_branch("side")
    assert "origin/side" in clone.branches
    clone.fetch()
    assert "origin/side" not in clone.branches
    assert clone.push(branch="side").old is None
    assert "side" in repo.branches


def test_tags_are_pushed_by_name_and_never_move(clone: hl.Repository, origin: CountingStore) -> None:
    put(clone, 1, 1)
    clone.create_tag("v1", message="One")
    result = clone.push(branch="v1")
    repo = hl.Repository.open(origin)
    assert repo.tags == {"v1": result.new}
    assert clone.push(branch="v1").objects == 0
    clone.delete_tag("v1")
    clone.create_tag("v1", "main~1")
    with pytest.raises(hl.PushRejectedError, match="v1"):
        clone.push(branch="v1")
    assert repo.tags == {"v1": result.new}


def test_another_repository_is_refused_without_force(clone: hl.Repository) -> None:
    stranger = MemoryStore()
    theirs = new_repository(stranger, 5)
    clone.remotes.add("stranger", stranger)
    with pytest.raises(hl.PushRejectedError, match="another repository"):
        clone.push("stranger")
    with pytest.raises(hl.HangarlakeError, match="another repository"):
        clone.fetch("stranger")
    old = theirs.resolve()
    assert clone.fetch("stranger", force=True) == {"stranger/main": old.id}
    clone.push("stranger", force=True)
    assert theirs.resolve().id == clone.resolve().id
    assert theirs.resolve("main@{1}").id == old.id
    check_place(stranger, data=True)


def test_to_an_empty_place_a_push_makes_a_clone(clone: hl.Repository, tmp_path: Path) -> None:
    put(clone, 1, 1)
    clone.remotes.add("backup", tmp_path / "backup")
    clone.push("backup")
    backup = hl.Repository.open(tmp_path / "backup", read_through=False)
    assert backup.id == clone.id
    # The clone has hardly any data itself; all that the commit needs went from where it was.
    assert contents(backup) == contents(clone)
    check_place(backup._session.store)


def test_a_chain_of_clones_passes_changes_on_in_both_directions(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    new_repository(origin)
    clone = hl.Repository.clone(origin, tmp_path / "near")
    # The one in the middle has no data itself; its own origin is asked.
    far = hl.Repository.clone(tmp_path / "near", tmp_path / "far")
    assert contents(far) == contents(clone)
    commit = put(far, 1, 1)
    far.push()
    clone.push()
    assert hl.Repository.open(origin).resolve().id == commit.id
    check_place(hl.Repository.open(origin)._session.store, data=True)
    back = put(hl.Repository.open(origin), 2, 2)
    clone.pull()
    assert far.pull().id == back.id
    assert contents(far) == contents(clone)


def test_merges_renames_and_forks_travel(clone: hl.Repository, origin: CountingStore) -> None:
    clone.create_branch("side")
    with clone.checkout("side", write=True) as w:
        w.rename("names", "titles")
        w.commit("Rename")
    put(clone, 1, 1)
    clone.merge("side", "main")
    with clone.checkout("main", write=True) as w:
        del w["images"]
        w.commit("Remove images")
    clone.push()
    repo = hl.Repository.open(origin)
    assert [c.id for c in repo.log()] == [c.id for c in clone.log()]
    assert sorted(repo.checkout().columns) == ["titles"]
    assert repo.resolve("main~1").renames == clone.resolve("main~1").renames
    check_place(origin, data=True)


def test_a_dry_run_says_what_would_travel_and_changes_nothing(clone: hl.Repository, origin: CountingStore) -> None:
    put(clone, 1, 1)
    before = dict(origin.inner._bucket.objects)  # type: ignore[attr-defined]
    planned = clone.push(dry_run=True)
    assert origin.inner._bucket.objects == before  # type: ignore[attr-defined]
    done = clone.push()
    assert (planned.objects, planned.bytes) == (done.objects, done.bytes)


def test_two_clones_that_wrote_the_same_share_what_they_can(clone: hl.Repository, origin: CountingStore) -> None:
    """Equal nodes lie in different packs then, and each copy leads to packs of its own."""
    other = hl.Repository.clone(origin, MemoryStore())
    for key in range(0, 600, 7):
        put_many(clone, key)
        put_many(other, key)
        break
    put(other, 599, 77)
    other.push()
    merged = clone.pull()
    clone.push()
    assert hl.Repository.open(origin).resolve().id == merged.id
    check_place(origin, data=True)
    check_place(clone._session.store)
    assert contents(clone) == contents(other, "main")


def put_many(repo: hl.Repository, start: int) -> None:
    with repo.checkout("main", write=True) as w:
        w["images"].extend(range(start, 600, 7), [image(5000 + i) for i in range(start, 600, 7)])
        w.commit("The same changes")


def test_what_the_targets_garbage_collector_condemned_is_sent_again(
    clone: hl.Repository, origin: CountingStore
) -> None:
    put(clone, 1, 1)
    half = copy_of(origin.inner)  # type: ignore[arg-type]
    clone.push()
    new = {info.key for info in origin.inner.list("packs/")} | {info.key for info in origin.inner.list("trees/")}
    new -= {info.key for info in half.list("packs/")} | {info.key for info in half.list("trees/")}
    for key in new:
        half.put(key, origin.inner.get(key))
    half.put("gc/condemned.json", ("[" + ",".join(f'"{key}"' for key in new) + "]").encode())
    counted = CountingStore(half)
    clone.remotes.add("half", counted)
    clone.push("half")
    assert {request.key for request in counted.requests if request.op == "put"} >= new


def test_arrays_of_every_kind_arrive_as_they_are(tmp_path: Path) -> None:
    origin = hl.Repository.create(tmp_path / "origin")
    rng = np.random.default_rng(0)
    large = rng.integers(0, 255, (3, 1200, 1000), dtype=np.uint8)
    with origin.checkout("main", write=True) as w:
        w.add_ndarray_column("large", shape=(1200, 1000), dtype="u1").extend(range(3), large)
        w.add_ndarray_column("ragged", shape=(None,), dtype="f4", variable_shape=True)["a"] = np.arange(7, dtype="f4")
        w.add_json_column("meta")["a"] = {"x": [1, 2]}
        w.add_str_column("nested", nested=True)["s", "t"] = "deep"
        w.commit("All kinds")
    clone = hl.Repository.clone(tmp_path / "origin", tmp_path / "clone")
    clone.remotes.add("backup", tmp_path / "backup")
    clone.push("backup")
    backup = hl.Repository.open(tmp_path / "backup", read_through=False)
    with backup.checkout() as co:
        assert (co["large"].batch([0, 1, 2]) == large).all()
        assert co["ragged", "a"].tolist() == list(range(7))
        assert co["meta", "a"] == {"x": [1, 2]}
        assert co["nested", "s", "t"] == "deep"
        assert co.missing() == {}


def test_within_one_bucket_the_server_copies_the_data(
    s3_url: str, s3_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = new_repository(f"{s3_url}/a", 50, storage_options=s3_options)
    origin.remotes.add("copy", f"{s3_url}/b", storage_options=s3_options)
    read: list[str] = []
    get = ObstoreStore.get
    monkeypatch.setattr(ObstoreStore, "get", lambda self, key: (read.append(key), get(self, key))[1])
    result = origin.push("copy")
    assert not any(key.startswith("packs/") for key in read)
    copy = hl.Repository.open(f"{s3_url}/b", storage_options=s3_options, read_through=False)
    check_place(copy._session.store, data=True)
    assert contents(copy) == contents(origin)
    assert result.bytes > copy.stats().stored_bytes
    # Another endpoint is another server: the bytes go through here.
    other = FaultyStore(MemoryStore())
    origin.remotes.add("other", other)
    origin.push("other")
    assert any(key.startswith("packs/") for key in read)
