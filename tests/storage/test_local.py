"""The store in a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hangarlake.errors import ObjectNotFoundError, StorageError, UnsafeStoreError
from hangarlake.storage import LocalStore
from hangarlake.storage._rename import RenameUnsupportedError
from hangarlake.testing import StoreConformance


class TestConformance(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "store")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_nothing_but_the_objects_remains(local_store: LocalStore, tmp_path: Path) -> None:
    local_store.put("a/b", b"1")
    local_store.put("a/b", b"2")
    assert local_store.put_new("a/c", b"1")
    assert not local_store.put_new("a/c", b"2")
    assert _files(tmp_path / "store") == ["a/b", "a/c"]


def test_unfinished_writes_are_not_listed(local_store: LocalStore, tmp_path: Path) -> None:
    local_store.put("a", b"1")
    (tmp_path / "store/.tmp/left-behind").write_bytes(b"half an obj")
    assert [info.key for info in local_store.list("")] == ["a"]
    assert list(local_store.list(".tmp/")) == []
    assert local_store.list_prefixes("") == ["a"]
    with pytest.raises(StorageError, match="unfinished"):
        local_store.put(".tmp/x", b"")


def test_old_unfinished_writes_are_swept(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a", b"1")
    old, new = tmp_path / ".tmp/old", tmp_path / ".tmp/new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    LocalStore(tmp_path).put("b", b"1")
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_object(
    local_store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    local_store.put("a", b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=r"Cannot write a in .*: No space left on device"):
            local_store.put("a", b"new")
    assert local_store.get("a") == b"old"
    assert _files(tmp_path / "store") == ["a"]


def test_without_hard_links_a_rename_that_refuses_to_replace_is_used(
    local_store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    try:
        assert local_store.put_new("a", b"1")
    except UnsafeStoreError:
        pytest.skip("this file system has no such rename")
    assert not local_store.put_new("a", b"2")
    assert local_store.get("a") == b"1"
    assert _files(tmp_path / "store") == ["a"]


def test_with_neither_the_store_is_unsafe(
    local_store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def no_rename(*_: object) -> bool:
        raise RenameUnsupportedError

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr("hangarlake.storage.local.rename_new", no_rename)
    with pytest.raises(UnsafeStoreError, match="another file system"):
        local_store.put_new("a", b"1")
    assert _files(tmp_path / "store") == []


def test_a_link_whose_answer_was_lost_is_ours(local_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def lose(source: str, target: str) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lose)
    assert local_store.put_new("a", b"1") is True


def test_the_kernel_may_write_and_read_less_than_it_was_asked_to(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pread = os.write, os.pread
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    monkeypatch.setattr(os, "pread", lambda fd, length, start: pread(fd, min(length, 5), start))
    monkeypatch.setattr("hangarlake.storage.local._read_at", os.pread)
    data = os.urandom(50)
    local_store.put("a", data)
    assert local_store.get("a") == data
    assert local_store.get_range("a", 3, 40) == data[3:43]
    assert local_store.get_range("a", 3, 40) == data[3:43]


def test_objects_replaced_by_another_process_are_seen(tmp_path: Path) -> None:
    mine, theirs = LocalStore(tmp_path), LocalStore(tmp_path)
    theirs.put("a", b"old")
    assert mine.get_range("a", 0, 3) == b"old"
    theirs.put("a", b"new")
    assert mine.get_range("a", 0, 3) == b"new"
    theirs.delete(["a"])
    with pytest.raises(ObjectNotFoundError):
        mine.get_range("a", 0, 3)
    theirs.put("a", b"3rd")
    assert mine.get_range("a", 0, 3) == b"3rd"


def test_folders_removed_by_another_process_are_made_again(tmp_path: Path) -> None:
    mine, theirs = LocalStore(tmp_path), LocalStore(tmp_path)
    mine.put("a/b/c", b"1")
    theirs.delete(["a/b/c"])
    assert not (tmp_path / "a").exists()
    mine.put("a/b/c", b"2")
    assert theirs.get("a/b/c") == b"2"


def test_folders_above_removed_by_another_process_are_made_again(tmp_path: Path) -> None:
    mine, theirs = LocalStore(tmp_path), LocalStore(tmp_path)
    mine.put("a/b/c", b"1")
    theirs.delete(["a/b/c"])
    assert mine.put_new("a/d/e", b"2")
    assert theirs.get("a/d/e") == b"2"


def test_an_object_deleted_as_soon_as_it_is_there_was_written(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_and_lose(source: str, target: str) -> None:
        link(source, target)
        local_store.delete(["a/b"])

    monkeypatch.setattr(os, "link", link_and_lose)
    assert local_store.put_new("a/b", b"1") is True
    assert not local_store.exists("a/b")


def test_a_file_that_cannot_be_looked_at_ends_a_listing(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked:
        name = "a"

        def stat(self) -> os.stat_result:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(local_store, "_entries", lambda *_: [("a", Locked())])
    with pytest.raises(StorageError, match=r"Cannot list a in .*: Permission denied"):
        list(local_store.list(""))


def test_open_files_are_bounded_and_closed(local_store: LocalStore) -> None:
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("the platform does not show open files")
    keys = [f"packs/{number}" for number in range(300)]
    for key in keys:
        local_store.put(key, b"x" * 10)
    before = len(list(fds.iterdir()))
    for key in keys * 2:
        local_store.get_range(key, 1, 5)
    assert len(list(fds.iterdir())) <= before + 128
    local_store.close()
    assert len(list(fds.iterdir())) <= before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "file" / "store")
    with pytest.raises(StorageError, match="Cannot write a"):
        store.put("a", b"1")
    with pytest.raises(ObjectNotFoundError):
        store.get("a")
