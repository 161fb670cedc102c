"""From what a person types to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hangarlake.errors import StorageError
from hangarlake.storage import FsspecStore, LocalStore, MemoryStore, ObstoreStore, open_store, redact_url
from hangarlake.storage.cloud import translate


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for place in (
        tmp_path / "r",
        str(tmp_path / "r"),
        f"file://{tmp_path}/r",
        f"local://{tmp_path}/r",
        "~/r",
        "r",
        "./r",
    ):
        store = open_store(place)
        assert isinstance(store, LocalStore)
        assert repr(store) == f"LocalStore('{tmp_path}/r')"
    assert open_store("~/r").url == "~/r"


def test_a_folder_is_made_if_asked_for(tmp_path: Path) -> None:
    open_store(tmp_path / "a/b")
    assert not (tmp_path / "a").exists()
    open_store(tmp_path / "a/b", create=True)
    assert (tmp_path / "a/b").is_dir()


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("r")
    monkeypatch.chdir("/")
    store.put("a", b"1")
    assert (tmp_path / "r/a").exists()


def test_a_store_is_a_place() -> None:
    store = MemoryStore()
    assert open_store(store) is store


@pytest.mark.parametrize(
    "url, options, kind",
    [
        ("s3://bucket/path", {"region_name": "eu-west-1"}, ObstoreStore),
        (
            "s3://bucket",
            {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": "http://x", "region_name": "r"}},
            ObstoreStore,
        ),
        ("s3://bucket", {"anon": True, "region": "eu-west-1"}, ObstoreStore),
        ("s3://bucket", {"s3_additional_kwargs": {"ACL": "private"}}, FsspecStore),
        ("s3://bucket", {"engine": "fsspec"}, FsspecStore),
        ("gs://bucket/path", {"token": "anon"}, ObstoreStore),
        ("gcs://bucket/path", {"token": "anon"}, ObstoreStore),
        ("gs://bucket/path", {"token": "anon", "endpoint_url": "http://127.0.0.1:1"}, FsspecStore),
        ("az://container/path", {"account_name": "a", "account_key": "a2V5"}, ObstoreStore),
        ("abfs://container@account.dfs.core.windows.net/path", {"sas_token": "sv=1&sig=secret"}, ObstoreStore),
        ("memory://name", {}, MemoryStore),
    ],
)
def test_engines(url: str, options: dict[str, Any], kind: type) -> None:
    assert type(open_store(url, options)) is kind


@pytest.mark.parametrize(
    "url, options, message",
    [
        ("", {}, "empty"),
        ("s3://", {}, "names no bucket"),
        ("gs:///path", {}, "names no bucket"),
        ("memory://", {}, "memory://NAME"),
        ("file://", {}, "file:///PATH"),
        ("nosuch://a/b", {}, "protocol 'nosuch'.*installed"),
        ("s3://bucket", {"engine": "rust"}, "no engine 'rust'.*'fsspec' or 'obstore'"),
        ("s3://bucket", {"engine": "obstore", "s3_additional_kwargs": {}}, "engine='fsspec'"),
        ("http://example.invalid/", {"asynchronous": True}, "asynchronous"),
    ],
)
def test_bad_urls(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_store(url, options)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(StorageError, match="paramiko"):
        open_store("sftp://host/path")


def test_a_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="is a file"):
        open_store(tmp_path / "file")


@pytest.mark.parametrize("place", [None, 1, b"bytes", ("a", "b"), object()])
def test_other_things_are_no_places(place: Any) -> None:
    with pytest.raises(TypeError):
        open_store(place)


@pytest.mark.parametrize(
    "url, shown",
    [
        ("s3://bucket/path", "s3://bucket/path"),
        ("s3://KEY:sec/ret@bucket/a@b", "s3://KEY:sec/ret@bucket/a@b"),
        ("s3://KEY:secret@bucket/a@b", "s3://bucket/a@b"),
        ("https://user@host/x?token=secret#part", "https://host/x"),
        ("simplecache::https://user:pw@host/x?sig=1", "simplecache::https://host/x"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("az://user:pw@host/x", "az://host/x"),
        ("/a/path?with=query", "/a/path?with=query"),
        ("C:\\folder", "C:\\folder"),
    ],
)
def test_redaction(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_the_environment_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    target = translate("s3://bucket/a/b", {"key": "k", "secret": "s"})
    assert target is not None
    assert target.config["endpoint"] == "http://127.0.0.1:9000"
    assert target.client == {"allow_http": True}
    assert (target.bucket, target.prefix) == ("bucket", "a/b")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://other")
    target = translate("s3://bucket", {"key": "k", "secret": "s"})
    assert target is not None
    assert target.config["endpoint"] == "https://other"


def test_profiles_of_configuration_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "credentials"
    config.write_text("[lake]\naws_access_key_id = FROMFILE\naws_secret_access_key = hidden\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(config))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    target = translate("s3://bucket", {"profile": "lake", "region": "eu-west-1"})
    assert target is not None
    assert target.profile == "lake"
    target = translate("s3://bucket", {"region": "eu-west-1"})
    assert target is not None
    assert target.profile == ""
    target = translate("s3://bucket", {"region": "eu-west-1", "key": "k", "secret": "s"})
    assert target is not None
    assert target.profile is None


def test_credentials_are_not_part_of_what_is_shown() -> None:
    store = open_store("s3://bucket/x", {"key": "AKIA", "secret": "hidden", "region": "r", "endpoint_url": "http://x"})
    assert isinstance(store, ObstoreStore)
    assert "hidden" not in repr(store) + str(store) + repr(store._target)
