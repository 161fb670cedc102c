"""Requests that are refused for want of a right: final, and told with the right that is lacking."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hangarlake as hl
from hangarlake.errors import AccessDeniedError, StorageError
from hangarlake.storage import LocalStore, ObjectStore, open_store
from hangarlake.storage.credentials import describe_denial
from hangarlake.testing.servers import GcsStub, S3Stub
from tests.deploy.guarded import GuardedServer

ENGINES = ["fsspec", "obstore"]
AUTHOR = "Ada <ada@example.org>"


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def s3() -> Iterator[S3Stub]:
    with S3Stub() as server:
        yield server


def _calls(store: ObjectStore) -> dict[str, Callable[[], Any]]:
    return {
        "read a": lambda: store.get("a"),
        "look up a": lambda: store.exists("a"),
        "write a": lambda: store.put("a", b"1"),
        "create a": lambda: store.put_new("a", b"1"),
        "list refs/": lambda: list(store.list("refs/")),
        "delete a": lambda: store.delete(["a"]),
    }


def test_what_s3_refuses_is_told_with_the_right_that_is_lacking(s3: S3Stub, engine: str) -> None:
    rights = {
        "read a": "Reading needs s3:GetObject and s3:ListBucket",
        "look up a": "Reading needs s3:GetObject and s3:ListBucket",
        "write a": "These credentials do not allow writing; writing needs s3:PutObject",
        "create a": "These credentials do not allow writing; writing needs s3:PutObject",
        "list refs/": r"Reading needs the right to list the bucket \(s3:ListBucket\), too",
        "delete a": "These credentials do not allow deleting; deleting needs s3:DeleteObject",
    }
    store = open_store("s3://lab/wx", {**s3.storage_options, "engine": engine})
    for what, call in _calls(store).items():
        s3.seen.clear()
        s3.refuse.append(403)
        with pytest.raises(AccessDeniedError, match=rf"^Cannot {what} in s3://lab/wx: access denied\. {rights[what]}$"):
            call()
        assert len(s3.seen) == 1


def test_other_clouds_have_their_own_words(engine: str) -> None:
    with GcsStub() as gcs:
        store = open_store("gs://lab/wx", {"endpoint_url": gcs.endpoint, "token": "anon", "engine": engine})
        for what, right in (("create a", "storage.objects.create"), ("list refs/", "storage.objects.list")):
            gcs.refuse.append(403)
            with pytest.raises(AccessDeniedError, match=rf"^Cannot {what} in gs://lab/wx: access denied\. .*{right}"):
                _calls(store)[what]()
    assert "Storage Blob Data Contributor" in describe_denial("az", "create", [])
    assert describe_denial(None, "create", []) == "access denied. Check the credentials and their rights"


class Strict(S3Stub):
    """Knows nobody."""

    code = "SignatureDoesNotMatch"

    def _error(self, status: int) -> bytes:
        return f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()


@pytest.mark.parametrize(
    "code, told",
    [
        ("SignatureDoesNotMatch", r"does not accept the credentials \(SignatureDoesNotMatch\)\. Set AWS_ACCESS_KEY_ID"),
        ("InvalidAccessKeyId", r"does not accept the credentials \(InvalidAccessKeyId\)\. Set AWS_ACCESS_KEY_ID"),
        ("RequestTimeTooSkewed", "clock of this machine"),
    ],
)
def test_wrong_credentials_are_told_from_a_lack_of_rights(engine: str, code: str, told: str) -> None:
    with Strict() as server:
        server.code = code
        server.refuse.append(403)
        with pytest.raises(AccessDeniedError, match=told):
            open_store("s3://lab/wx", {**server.storage_options, "engine": engine}).get("a")


def test_an_error_of_access_is_a_builtin_one_too() -> None:
    assert issubclass(AccessDeniedError, StorageError)
    assert issubclass(AccessDeniedError, PermissionError)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_folders_that_may_not_be_written_to(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    opened = os.open

    def refuse(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    assert store.get("a") == b"1"
    for call in (store.put, store.put_new):
        with pytest.raises(AccessDeniedError, match=f"in {tmp_path}: {os.strerror(code)}"):
            call("b", b"2")


def test_a_reader_who_makes_a_branch_is_told_at_once(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    with GuardedServer() as server:
        hl.Repository.create(server.url, storage_options=server.options("owner", "obstore"), author=AUTHOR).close()
        repo = hl.Repository.open(server.url, storage_options=server.options("reader", engine), author=AUTHOR)
        server.asked.clear()
        expected = (
            r"^Cannot create (refs/branches/foo/|probe/)\S* in s3://\S*: access denied\. .* writing needs s3:PutObject$"
        )
        with caplog.at_level(logging.INFO, logger="hangarlake"), pytest.raises(AccessDeniedError, match=expected):
            repo.create_branch("foo")
        assert [each.action for each in server.asked if not each.granted] == ["s3:PutObject"]
        assert caplog.records == []


def test_a_reader_who_may_not_list_is_told_which_right_that_is(engine: str) -> None:
    with GuardedServer(lacking={"reader": "s3:ListBucket"}) as server:
        hl.Repository.create(server.url, storage_options=server.options("owner", "obstore"), author=AUTHOR).close()
        store = open_store(server.url, server.options("reader", engine))
        assert b'"format"' in store.get("hangarlake.json")
        with pytest.raises(
            AccessDeniedError, match=r"^Cannot list refs/branches/ in s3://.*: access denied\. .*\(s3:ListBucket\)"
        ):
            store.list_prefixes("refs/branches/")
        with pytest.raises(AccessDeniedError, match="needs s3:GetObject and s3:ListBucket"):
            store.get("absent")


def test_a_writer_who_may_not_delete_is_told_so(engine: str) -> None:
    with GuardedServer() as server:
        open_store(server.url, server.options("owner", "obstore")).put("refs/tags/v1.json", b"1")
        expected = "^Cannot delete refs/tags/v1.json in .*: access denied.*deleting needs s3:DeleteObject$"
        with pytest.raises(AccessDeniedError, match=expected):
            open_store(server.url, server.options("writer", engine)).delete(["refs/tags/v1.json"])


def test_a_bucket_that_is_not_there_is_told_alike_by_all_clouds(
    s3_options: dict[str, Any], gcs_options: dict[str, Any], engine: str
) -> None:
    places = [("s3://no-such-bucket-here/digits", {**s3_options, "engine": engine})]
    if engine == "fsspec":
        places.append(("gs://no-such-bucket-here/digits", gcs_options))
    for url, options in places:
        with pytest.raises(StorageError, match=rf"in {url}: there is no such bucket\. Create it first\.$"):
            hl.Repository.create(url, storage_options=options, author=AUTHOR)
