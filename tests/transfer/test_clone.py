"""Cloning: same id, same commits, bytes in proportion to the records."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.records.marker import MARKER_KEY, Marker
from hangarlake.storage import MemoryStore, ObjectStore
from hangarlake.testing import CountingStore, Fault, FaultyStore
from hangarlake.testing.servers import StaticServer
from hangarlake.transfer import copying
from hangarlake.transfer.config import UserConfig
from tests.transfer.places import check_place, contents, image, new_repository, put


def test_a_clone_has_the_same_id_commits_branches_and_tags(any_store: ObjectStore, tmp_path: Path) -> None:
    origin = new_repository(any_store)
    origin.create_branch("side")
    put(origin, 3, 1000, "side")
    origin.create_tag("v1", "main", message="First")
    clone = hl.Repository.clone(any_store, tmp_path / "clone")
    assert clone.id == origin.id
    assert clone.tags == origin.tags
    assert clone.branches == {
        **origin.branches,
        **{f"origin/{name}": commit for name, commit in origin.branches.items()},
    }
    assert [c.id for c in clone.log("side")] == [c.id for c in origin.log("side")]
    assert [entry.operation for entry in clone.reflog("side")] == ["create"]
    assert contents(clone, "side") == contents(origin, "side")
    assert check_place(clone._session.store) == check_place(any_store)


def test_a_clone_of_books_alone_moves_no_data_and_works_without_any(tmp_path: Path) -> None:
    store = CountingStore(MemoryStore())
    origin = new_repository(store)
    store.reset()
    clone = hl.Repository.clone(store, tmp_path / "clone")
    assert not any(request.key.startswith("packs/") for request in store.requests)
    assert list(clone._session.store.list("packs/")) == []
    # Nobody can be asked any more, and everything but retrieval goes on.
    clone.remotes.remove("origin")
    put(clone, 5, 7000)
    clone.create_branch("side", "main~1")
    put(clone, 6, 7001, "side")
    merged = clone.merge("side", "main")
    assert len(merged.parents) == 2
    assert len(list(clone.log())) == 5
    with clone.checkout() as co:
        assert len(co["images"]) == 600
        assert co["images", 5].tobytes() == image(7000).tobytes()
        with pytest.raises(OSError):
            co["names", "k0100"]
    assert clone.id == origin.id


def test_a_clone_with_data_needs_nobody(tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin")
    clone = hl.Repository.clone(tmp_path / "origin", tmp_path / "clone", data=True)
    check_place(clone._session.store, data=True)
    with clone.checkout(read_through=False) as co:
        assert co.missing() == {}
        assert co["images"].is_local(5)
    put(origin, 1, 1)
    clone.pull()
    assert contents(hl.Repository.open(tmp_path / "clone", read_through=False)) == contents(origin)


def test_some_branches_only(tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin")
    origin.create_branch("side")
    put(origin, 1, 1, "side")
    origin.create_tag("on-side", "side")
    origin.create_tag("on-main", "main")
    clone = hl.Repository.clone(tmp_path / "origin", tmp_path / "clone", branches=["main"])
    assert set(clone.branches) == {"main", "origin/main"}
    assert set(clone.tags) == {"on-main"}
    with pytest.raises(hl.RevisionNotFoundError):
        hl.Repository.clone(tmp_path / "origin", tmp_path / "other", branches=["none"])


def test_cloning_again_brings_what_is_missing_and_changes_nothing_else(tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin")
    clone = hl.Repository.clone(tmp_path / "origin", tmp_path / "clone")
    mine = put(clone, 1, 1)
    origin.create_branch("side")
    again = hl.Repository.clone(tmp_path / "origin", tmp_path / "clone")
    assert again.resolve("main").id == mine.id
    assert "side" in again.branches


def test_a_clone_goes_nowhere_where_something_else_is(tmp_path: Path) -> None:
    new_repository(tmp_path / "origin", 3)
    new_repository(tmp_path / "other", 3)
    with pytest.raises(hl.RepositoryExistsError):
        hl.Repository.clone(tmp_path / "origin", tmp_path / "other")
    with pytest.raises(hl.RepositoryExistsError):
        hl.Repository.clone(tmp_path / "origin", tmp_path / "origin")
    with pytest.raises(hl.RepositoryNotFoundError):
        hl.Repository.clone(tmp_path / "nothing", tmp_path / "clone")
    assert not (tmp_path / "clone" / MARKER_KEY).exists()


def test_an_empty_repository_and_one_without_branches_can_be_cloned(tmp_path: Path) -> None:
    hl.Repository.create(tmp_path / "empty")
    clone = hl.Repository.clone(tmp_path / "empty", tmp_path / "clone")
    assert clone.resolve().message == "Create the repository"
    bare = MemoryStore()
    bare.put_new(MARKER_KEY, Marker.new().to_bytes())
    assert hl.Repository.clone(bare, tmp_path / "bare").branches == {}


def test_an_interrupted_clone_is_no_repository_and_is_continued(tmp_path: Path) -> None:
    origin = MemoryStore()
    repo = new_repository(origin)
    total = CountingStore(MemoryStore())
    hl.Repository.clone(origin, total, cache_dir=tmp_path / "0")
    for after in range(0, len(total.requests), 3):
        target = MemoryStore()
        broken = FaultyStore(target, [Fault("crash", after=after)])
        with pytest.raises(OSError):
            hl.Repository.clone(origin, broken, cache_dir=tmp_path / f"{after}a")
        if not target.exists(MARKER_KEY):
            with pytest.raises(hl.RepositoryNotFoundError):
                hl.Repository.open(target)
        counted = CountingStore(target)
        clone = hl.Repository.clone(origin, counted, cache_dir=tmp_path / f"{after}b")
        assert clone.resolve().id == repo.resolve().id
        assert check_place(target) == check_place(origin)
        written = [request.key for request in counted.requests if request.op.startswith("put")]
        assert len(written) == len(set(written))


def test_a_folder_behind_a_plain_web_server_can_be_cloned(tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin")
    origin.create_branch("side")
    put(origin, 1, 1000, "side")
    with StaticServer(tmp_path / "origin") as server:
        clone = hl.Repository.clone(server.url, tmp_path / "clone", branches=["side"])
        assert clone.resolve("side").id == origin.resolve("side").id
        assert clone.resolve("origin/side").id == origin.resolve("side").id
        with clone.checkout("side") as co:
            assert co["images", 1].tobytes() == image(1000).tobytes()
        # Without a list of branches the default one is meant.
        other = hl.Repository.clone(server.url, tmp_path / "other")
        assert set(other.branches) == {"main", "origin/main"}
        head = put(origin, 2, 2000)
        assert other.fetch() == {"origin/main": head.id}
        assert other.fetch_data("origin/main", nodes=["images"], keys=[2]).values == 1
        with pytest.raises(OSError):
            other.push()


def damage(store: MemoryStore, prefix: str) -> str:
    """Change one byte of the last object below a prefix."""
    key = [info.key for info in store.list(prefix)][-1]
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))
    return key


@pytest.mark.parametrize("prefix", ["trees/", "catalogs/"])
def test_a_damaged_source_is_refused_and_nothing_of_it_is_stored(prefix: str, tmp_path: Path) -> None:
    origin, target = MemoryStore(), MemoryStore()
    new_repository(origin)
    key = damage(origin, prefix)
    with pytest.raises(hl.CorruptionError):
        hl.Repository.clone(origin, target)
    assert not target.exists(key)
    assert not target.exists(MARKER_KEY)
    assert list(target.list("refs/")) == []


def test_a_damaged_pack_is_refused(tmp_path: Path) -> None:
    origin, target = MemoryStore(), MemoryStore()
    new_repository(origin)
    key = damage(origin, "packs/")
    with pytest.raises(hl.CorruptionError):
        hl.Repository.clone(origin, target, data=True)
    assert not target.exists(key)
    assert list(target.list("refs/")) == []


def test_between_s3_memory_and_a_folder(s3_url: str, s3_options: dict[str, Any], tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin", 50)
    in_s3 = hl.Repository.clone(tmp_path / "origin", s3_url, storage_options=s3_options, data=True)
    in_memory = hl.Repository.clone(s3_url, MemoryStore(), source_options=s3_options)
    put(in_memory, 1, 1000)
    in_memory.push()
    in_s3.push()
    assert origin.resolve().id == in_memory.resolve().id
    assert contents(origin) == contents(in_memory) == contents(in_s3)
    # Another process knows the remote's address, and takes the credentials from its own call.
    config = (tmp_path / "config" / "config.json").read_text()
    assert s3_options["endpoint_url"] in config
    assert s3_options["secret"] not in config


def test_through_a_chained_url(tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin", 50)
    clone = hl.Repository.clone(f"simplecache::file://{tmp_path / 'origin'}", tmp_path / "clone")
    assert contents(clone) == contents(origin)


def test_a_catalog_that_claims_to_unpack_to_more_than_memory_is_refused(tmp_path: Path) -> None:
    origin = MemoryStore()
    repo = new_repository(origin, 5)
    catalog = repo.resolve().catalog
    frame = b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + (1 << 50).to_bytes(8, "little") + b"\x01\x00\x00"
    origin.put(f"catalogs/{catalog[:2]}/{catalog}", frame)
    with pytest.raises(hl.CorruptionError):
        hl.Repository.clone(origin, MemoryStore())


def test_between_gcs_and_a_folder(gcs_url: str, gcs_options: dict[str, Any], tmp_path: Path) -> None:
    origin = new_repository(tmp_path / "origin", 30)
    # The emulator ignores conditions, as a single writer may accept. It also drops a carriage return at the end of an object,
    # which clones find out; the values here make objects that end otherwise.
    away = hl.Repository.clone(
        tmp_path / "origin", gcs_url, storage_options=gcs_options, data=True, allow_unsafe_store=True
    )
    assert contents(away) == contents(origin)
    back = hl.Repository.clone(gcs_url, tmp_path / "back", source_options=gcs_options)
    put(away, 2, 2000)
    back.pull()
    assert contents(back) == contents(away)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["nothing there", "another repository there"])
def test_a_clone_that_fails_is_not_remembered(elsewhere: bool, tmp_path: Path) -> None:
    origin, place = MemoryStore(), MemoryStore()
    new_repository(origin, 1)
    if elsewhere:
        new_repository(place, 1)
    error = hl.RepositoryExistsError if elsewhere else hl.RevisionNotFoundError
    with pytest.raises(error):
        hl.Repository.clone(origin, place, branches=None if elsewhere else ["nosuch"])
    assert UserConfig()._read().repositories == {}


@pytest.mark.parametrize("prefix", ["trees/", "catalogs/", "commits/"])
def test_an_object_of_a_remote_that_is_too_long_is_refused_unread(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = MemoryStore()
    repo = new_repository(origin)
    put(repo, 3, 1000)
    # Of the commits the newest comes with the branch; the others are asked for.
    key = next(info.key for info in origin.list(prefix) if repo.branches["main"] not in info.key)
    origin.put(key, origin.get(key) + b"x" * (1 << 20))
    monkeypatch.setitem(copying._LIMITS, prefix.rstrip("/"), 1 << 19)
    counting = CountingStore(origin)
    with pytest.raises(hl.CorruptionError, match=key):
        hl.Repository.clone(counting, tmp_path / "clone")
    assert sum(request.bytes for request in counting.requests if request.key == key) == 0
    assert not (tmp_path / "clone" / MARKER_KEY).exists()


def test_a_chunk_of_a_remote_that_is_longer_than_the_tree_says_is_refused_unread(tmp_path: Path) -> None:
    origin = MemoryStore()
    repo = hl.Repository.create(origin)
    with repo.checkout(write=True) as w:
        values = np.random.default_rng(0).integers(0, 256, (1, 1 << 21), dtype=np.uint8)
        w.add_ndarray_column("x", shape=values.shape[1:], dtype="u1").extend(["large"], values)
        w.commit("One large sample")
    key = next(info.key for info in origin.list("packs/") if len(info.key.rpartition("/")[2]) == 40)
    origin.put(key, origin.get(key) + b"x")
    counting = CountingStore(origin)
    with pytest.raises(hl.CorruptionError, match=key):
        hl.Repository.clone(counting, tmp_path / "clone", data=True)
    assert sum(request.bytes for request in counting.requests if request.key == key) == 0


def test_the_first_error_of_work_in_parallel_is_raised_when_all_has_ended() -> None:
    started, ended = [], []
    release = threading.Event()

    def work(number: int) -> int:
        started.append(number)
        if number == 0:
            raise KeyError("first")
        release.wait(30)
        ended.append(number)
        raise ValueError("later")

    def numbers() -> Iterator[int]:
        yield from (0, 1)
        release.set()
        yield from range(2, 100)

    with pytest.raises(KeyError, match="first"):
        copying.in_parallel(work, numbers(), 2)
    assert sorted(started) == [0, *sorted(ended)]
    assert len(started) < 10
