"""Stores in S3, through both engines."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hangarlake.errors import ObjectNotFoundError, ObjectTruncatedError, StorageError, UnsafeStoreError
from hangarlake.storage import (
    ByteRange,
    FsspecStore,
    ObjectStore,
    ObstoreStore,
    open_store,
    probe_create_if_absent,
    put_all,
)
from hangarlake.testing import StoreConformance
from hangarlake.testing.servers import S3Stub

ENGINES = ["fsspec", "obstore"]


class TestS3fs(StoreConformance):
    @pytest.fixture
    def store(self, s3_url: str, s3_options: dict[str, Any]) -> ObjectStore:
        return open_store(s3_url, {**s3_options, "engine": "fsspec"})

    @pytest.fixture(autouse=True)
    def _options(self, s3_url: str, s3_options: dict[str, Any]) -> None:
        self.fast = (s3_url, s3_options)

    def fill(self, store: ObjectStore, keys: list[str]) -> None:
        put_all(open_store(*self.fast), [(key, b"x") for key in keys])


class TestObstore(StoreConformance):
    @pytest.fixture
    def store(self, s3_url: str, s3_options: dict[str, Any]) -> ObjectStore:
        return open_store(s3_url, {**s3_options, "engine": "obstore"})


@pytest.fixture
def stub() -> Any:
    with S3Stub() as server:
        yield server


def _open(stub: S3Stub, engine: str) -> ObjectStore:
    return open_store("s3://bucket/repo", {**stub.storage_options, "engine": engine})


def _writes(stub: S3Stub) -> int:
    return sum(seen.method == "PUT" for seen in stub.seen)


def test_both_engines_see_the_same_objects(s3_url: str, s3_options: dict[str, Any]) -> None:
    through_fsspec = open_store(s3_url, {**s3_options, "engine": "fsspec"})
    through_obstore = open_store(s3_url, s3_options)
    assert isinstance(through_fsspec, FsspecStore)
    assert isinstance(through_obstore, ObstoreStore)
    keys = ["refs/tags/a%2Fb%20%C3%BC.json", "packs/ab/cd"]
    through_fsspec.put(keys[0], b"1")
    through_obstore.put(keys[1], b"2")
    for store in (through_fsspec, through_obstore):
        assert [store.get(key) for key in keys] == [b"1", b"2"]
        assert sorted(keys) == [info.key for info in store.list("")]
        assert not store.put_new(keys[0], b"3")
        assert not store.put_new(keys[1], b"3")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_root_of_a_bucket_is_a_store_too(s3_url: str, s3_options: dict[str, Any], engine: str) -> None:
    store = open_store("s3://" + s3_url.split("/")[2], {**s3_options, "engine": engine})
    store.put("a/b", b"x")
    assert [info.key for info in store.list("")] == ["a/b"]
    assert store.list_prefixes("") == ["a"]


@pytest.mark.parametrize("engine", ENGINES)
def test_creation_is_conditional_in_the_server(stub: S3Stub, engine: str) -> None:
    store = _open(stub, engine)
    assert store.put_new("a", b"1")
    assert stub.seen[-1].headers["if-none-match"] == "*"
    store.put("a", b"2")
    assert "if-none-match" not in stub.seen[-1].headers


def test_s3fs_reports_a_failed_condition_as_an_invalid_argument_and_it_is_understood(stub: S3Stub) -> None:
    import errno

    store = _open(stub, "fsspec")
    assert isinstance(store, FsspecStore)
    assert store.put_new("a", b"1")
    with pytest.raises(OSError) as caught:
        store._fs.pipe_file("bucket/repo/a", b"2", mode="create")
    assert caught.value.errno == errno.EINVAL
    assert store.put_new("a", b"2") is False
    assert store.get("a") == b"1"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_ignores_the_condition_is_refused(engine: str) -> None:
    with S3Stub(ignore_conditions=True) as stub:
        with pytest.raises(UnsafeStoreError, match=r"s3://bucket/repo ignores.*allow_unsafe_store=True"):
            probe_create_if_absent(_open(stub, engine))
        assert stub.seen[0].path.startswith("bucket/repo/probe/")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_obeys_the_condition_passes_the_probe(stub: S3Stub, engine: str) -> None:
    probe_create_if_absent(_open(stub, engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_reading_an_object_is_one_request(stub: S3Stub, engine: str) -> None:
    store = _open(stub, engine)
    stub.objects["bucket/repo/a"] = b"0123456789" * 100
    assert len(store.get("a")) == 1_000
    assert bytes(store.get_range("a", 5, 5)) == b"56789"
    assert [seen.method for seen in stub.seen] == ["GET", "GET"]
    store.get_ranges([ByteRange("a", start, 3) for start in range(4)])
    assert [seen.method for seen in stub.seen] == ["GET"] * 6


@pytest.mark.parametrize("engine", ENGINES)
def test_faults_that_pass_are_not_noticed(stub: S3Stub, engine: str) -> None:
    store = _open(stub, engine)
    stub.refuse.extend([503])
    store.put("a", b"1")
    stub.refuse.extend([500])
    assert store.get("a") == b"1"
    stub.refuse.extend([503])
    assert store.put_new("b", b"2")


@pytest.mark.parametrize("engine", ENGINES)
def test_denied_access_is_not_tried_again(stub: S3Stub, engine: str) -> None:
    store = _open(stub, engine)
    for call in (lambda: store.put("a", b"1"), lambda: store.get("a"), lambda: store.put_new("a", b"1")):
        stub.seen.clear()
        stub.refuse.extend([403])
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, ObjectNotFoundError)
        assert len(stub.seen) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_lost_answer_may_look_like_another_winner_but_the_content_is_ours(stub: S3Stub, engine: str) -> None:
    store = _open(stub, engine)
    stub.lose.extend([500])
    assert store.put_new("a", b"mine") in (True, False)
    assert store.get("a") == b"mine"
    assert _writes(stub) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_bucket_is_not_a_missing_object(s3_options: dict[str, Any], engine: str) -> None:
    store = open_store("s3://no-such-bucket-here/repo", {**s3_options, "engine": engine})
    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: store.put_new("a", b""),
        lambda: list(store.list("")),
    ):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket-here/repo.*no such bucket") as caught:
            call()
        assert not isinstance(caught.value, ObjectNotFoundError)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_ignores_ranges(engine: str) -> None:
    with S3Stub(ignore_ranges=True) as stub:
        store = _open(stub, engine)
        stub.objects["bucket/repo/a"] = b"0123456789"
        assert bytes(store.get_range("a", 2, 3)) == b"234"
        ranges = [ByteRange("a", 2, 3), ByteRange("a", 9, 1)]
        assert [bytes(data) for data in store.get_ranges(ranges)] == [b"234", b"9"]
        with pytest.raises(StorageError, match="ends early"):
            store.get_range("a", 8, 5)


def test_of_a_server_that_ignores_ranges_no_more_is_kept_than_was_asked_for() -> None:
    data = os.urandom(25 << 20)  # several parts of the stream
    with S3Stub(ignore_ranges=True) as stub:
        store = _open(stub, "obstore")
        stub.objects["bucket/repo/a"] = data
        for start, length in (
            (0, 1),
            (10 << 20, 1),
            ((10 << 20) - 5, 10),
            (5, 21 << 20),
            (len(data) - 3, 3),
            (0, len(data)),
        ):
            found = store.get_range("a", start, length)
            assert found == data[start : start + length]
        for start, length in ((len(data) - 3, 4), (len(data), 1), (99 << 20, 5)):
            with pytest.raises(ObjectTruncatedError):
                store.get_range("a", start, length)
        with pytest.raises(ObjectNotFoundError):
            store.get_range("absent", 0, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_cannot_be_written_because_there_is_no_bucket_is_not_a_missing_object(stub: S3Stub, engine: str) -> None:
    store = _open(stub, engine)
    for call in (lambda: store.put("a", b"1"), lambda: store.put_new("a", b"1")):
        stub.refuse.append(404)
        with pytest.raises(StorageError, match=r"s3://bucket/repo: there is no such bucket\. Create it") as caught:
            call()
        assert not isinstance(caught.value, ObjectNotFoundError)


@pytest.mark.parametrize("engine", ENGINES)
def test_credentials_are_never_shown(stub: S3Stub, engine: str) -> None:
    url = "s3://AKIAKEYID:very%2Fsecret@bucket/repo"
    options = {**stub.storage_options, "engine": engine, "token": "sessiontoken"}
    del options["key"], options["secret"]
    store = open_store(url, options)
    shown = [repr(store), str(store), store.url]
    stub.refuse.extend([403, 400])
    for call in (lambda: store.get("a"), lambda: store.put("a", b"1")):
        with pytest.raises(StorageError) as caught:
            call()
        shown.append(str(caught.value))
    assert "AKIAKEYID" in stub.seen[-1].headers["authorization"]
    for text in shown:
        for secret in ("AKIAKEYID", "very", "secret", "sessiontoken"):
            assert secret not in text
