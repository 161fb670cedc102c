"""Stores on whatever fsspec opens."""

from __future__ import annotations

import pickle
import secrets
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from hangarlake.errors import ObjectNotFoundError, StorageError, UnsafeStoreError
from hangarlake.storage import (
    ByteRange,
    FsspecStore,
    LocalStore,
    ObjectStore,
    RetryPolicy,
    open_store,
    probe_create_if_absent,
)
from hangarlake.testing import StoreConformance
from hangarlake.testing.servers import StaticServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestMemoryFileSystem(StoreConformance):
    """A file system object, of which a folder is the store."""

    spans_processes = False

    @pytest.fixture
    def store(self) -> ObjectStore:
        return open_store(DirFileSystem(path=f"/{secrets.token_hex(8)}", fs=MemoryFileSystem()))


class DictFileSystem(fsspec.AbstractFileSystem):
    """A file system as somebody may write one: just enough, with conditional creation of its own."""

    protocol = "dict"
    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.files: dict[str, bytes] = {}
        self.failures: list[Exception] = []
        self.calls = 0

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self._request()
        if mode == "create":
            if self.files.setdefault(path, value) is not value:
                raise FileExistsError(path)
        else:
            self.files[path] = value

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        self._request()
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][start:end]

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = path.strip("/")
        below = path + "/" if path else ""
        found: dict[str, dict[str, Any]] = {}
        for name, data in self.files.items():
            if name.startswith(below):
                part, slash, _rest = name[len(below) :].partition("/")
                found[below + part] = (
                    {"name": below + part, "type": "directory", "size": 0}
                    if slash
                    else {"name": name, "type": "file", "size": len(data)}
                )
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def rm_file(self, path: str) -> None:
        if self.files.pop(path, None) is None:
            raise FileNotFoundError(path)

    def _request(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)


class LookingFileSystem(DictFileSystem):
    """Creates as fsspec does by default: looks first, writes then."""

    protocol = "looking"

    def pipe_file(self, path: str, value: bytes) -> None:  # type: ignore[override]  # older file systems know no mode
        self.files[path] = value


class DeafFileSystem(DictFileSystem):
    """Takes the mode and ignores it."""

    protocol = "deaf"

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:  # type: ignore[override]  # as simplecache does
        self.files[path] = value


def _quick(filesystem: fsspec.AbstractFileSystem) -> FsspecStore:
    return FsspecStore(filesystem, path="repo", retry=RetryPolicy(sleep=lambda _: None))


@pytest.fixture
def filesystem() -> DictFileSystem:
    return DictFileSystem()


def test_a_file_system_of_ones_own(filesystem: DictFileSystem) -> None:
    for store in (open_store(filesystem), open_store((filesystem, "some/folder"))):
        probe_create_if_absent(store)
        assert store.put_new("a/b", b"123")
        assert not store.put_new("a/b", b"4")
        assert store.get_ranges([ByteRange("a/b", 1, 2), ByteRange("a/b", 0, 1)]) == [b"23", b"1"]
        assert [(info.key, info.size) for info in store.list("a")] == [("a/b", 3)]
        with pytest.raises(StorageError, match="ends early"):
            store.get_range("a/b", 1, 9)
        with pytest.raises(ObjectNotFoundError):
            store.get("absent")
        store.delete(["a/b", "absent"])
        assert list(store.list("")) == []
    assert filesystem.files == {}


def test_a_mapping_is_a_place(tmp_path: Path) -> None:
    store = open_store(fsspec.get_mapper(f"file://{tmp_path}/repo"))
    assert isinstance(store, LocalStore)
    store.put("a", b"1")
    assert (tmp_path / "repo/a").read_bytes() == b"1"


def test_faults_that_pass_are_tried_again(filesystem: DictFileSystem) -> None:
    store = _quick(filesystem)
    filesystem.failures = [TimeoutError(), ConnectionResetError(), OSError(110, "Connection timed out")]
    store.put("a", b"123")
    assert filesystem.calls == 4
    filesystem.failures = [BrokenPipeError()]
    assert store.get("a") == b"123"
    filesystem.failures = [TimeoutError()]
    assert store.get_ranges([ByteRange("a", 0, 1), ByteRange("a", 1, 1)]) == [b"1", b"2"]


def test_faults_that_last_are_reported(filesystem: DictFileSystem) -> None:
    store = _quick(filesystem)
    filesystem.failures = [TimeoutError("took too long")] * 9
    with pytest.raises(StorageError, match="Cannot write a in dict://repo: TimeoutError: took too long") as caught:
        store.put("a", b"")
    assert filesystem.calls == 5
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize("error", [PermissionError("no"), ValueError("no"), NotImplementedError(), OSError(22, "no")])
def test_faults_that_do_not_pass_are_not_tried_again(filesystem: DictFileSystem, error: Exception) -> None:
    filesystem.failures = [error]
    with pytest.raises(StorageError):
        _quick(filesystem).get("a")
    assert filesystem.calls == 1


def test_a_failed_condition_is_known_by_its_code(filesystem: DictFileSystem) -> None:
    cause = Exception("a client's")
    cause.response = {"Error": {"Code": "PreconditionFailed"}}  # type: ignore[attr-defined]  # as botocore has it
    error = OSError(22, "Invalid argument")
    error.__cause__ = cause
    filesystem.failures = [error]
    assert _quick(filesystem).put_new("a", b"1") is False
    filesystem.failures = [OSError(22, "Invalid argument")]
    with pytest.raises(StorageError):
        _quick(filesystem).put_new("a", b"1")


def test_an_undecided_condition_is_tried_again(filesystem: DictFileSystem) -> None:
    error = OSError(16, "busy")
    error.code = "ConditionalRequestConflict"  # type: ignore[attr-defined]  # S3's 409
    filesystem.failures = [error]
    assert _quick(filesystem).put_new("a", b"1") is True
    assert filesystem.files == {"repo/a": b"1"}


def test_a_file_system_that_looks_first_is_refused_but_serves_a_single_writer() -> None:
    store = _quick(LookingFileSystem())
    assert store.creates_unsafely
    with pytest.raises(UnsafeStoreError, match=r"looking://repo has no operation.*allow_unsafe_store=True"):
        probe_create_if_absent(store)
    assert store.put_new("a", b"1")
    assert not store.put_new("a", b"2")
    assert store.get("a") == b"1"


def test_a_file_system_that_ignores_the_mode_is_refused() -> None:
    filesystem = DeafFileSystem()
    with pytest.raises(UnsafeStoreError, match="ignores the condition"):
        probe_create_if_absent(_quick(filesystem))
    assert filesystem.files == {}


def test_a_file_systems_local_folder_is_a_local_store(tmp_path: Path) -> None:
    local = fsspec.filesystem("file")
    for place in ((local, str(tmp_path)), DirFileSystem(path=str(tmp_path), fs=local)):
        store = open_store(place)
        assert isinstance(store, LocalStore)
        assert store.creates_atomically


def test_chained_urls(s3_url: str, s3_options: dict[str, Any], tmp_path: Path) -> None:
    origin = open_store(s3_url, s3_options)
    origin.put("packs/a", b"0123456789")
    options = {
        "s3": {
            "key": s3_options["key"],
            "secret": s3_options["secret"],
            "endpoint_url": s3_options["endpoint_url"],
        },
        "simplecache": {"cache_storage": str(tmp_path)},
    }
    store = open_store(f"simplecache::{s3_url}", options)
    assert store.get("packs/a") == b"0123456789"
    assert bytes(store.get_range("packs/a", 2, 3)) == b"234"
    assert list(tmp_path.iterdir()) != []
    with pytest.raises(UnsafeStoreError):
        probe_create_if_absent(store)
    assert pickle.loads(pickle.dumps(store)).get("packs/a") == b"0123456789"


def test_folders_are_made_where_there_are_folders(tmp_path: Path) -> None:
    store = FsspecStore(fsspec.filesystem("file"), path=str(tmp_path))
    store.put("a/b/c", b"1")
    assert (tmp_path / "a/b/c").read_bytes() == b"1"
    (tmp_path / "a/empty").mkdir()
    assert store.list_prefixes("a/") == ["b"]


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    store = LocalStore(tmp_path / "site/repo")
    store.put("packs/ab", bytes(range(256)))
    store.put("refs/tags/a%2Fb.json", b"tag")
    with StaticServer(tmp_path / "site") as server:
        yield server.url + "/repo"


def test_a_website_can_be_read(website: str) -> None:
    store = open_store(website)
    assert store.get("packs/ab") == bytes(range(256))
    assert store.get("refs/tags/a%2Fb.json") == b"tag"
    assert bytes(store.get_range("packs/ab", 7, 3)) == b"\x07\x08\x09"
    found = store.get_ranges([ByteRange("packs/ab", 250, 6), ByteRange("packs/ab", 0, 2)])
    assert [bytes(data) for data in found] == [bytes(range(250, 256)), b"\0\1"]
    assert store.exists("packs/ab")
    assert not store.exists("packs/absent")
    with pytest.raises(ObjectNotFoundError):
        store.get("packs/absent")
    with pytest.raises(ObjectNotFoundError):
        store.get_range("packs/absent", 0, 1)
    with pytest.raises(StorageError, match="ends early"):
        store.get_range("packs/ab", 250, 7)


def test_a_website_cannot_be_listed_or_written(website: str) -> None:
    store = open_store(website)
    with pytest.raises(StorageError, match="HTTP has no listing"):
        list(store.list("refs/"))
    with pytest.raises(StorageError, match="HTTP has no listing"):
        store.list_prefixes("refs/")
    with pytest.raises(StorageError, match="Cannot write"):
        store.put("a", b"1")
    with pytest.raises(StorageError):
        probe_create_if_absent(store)
