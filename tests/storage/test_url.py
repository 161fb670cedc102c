"""From what a person types to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hangarlake.errors import StorageError
from hangarlake.storage import FsspecStore, LocalStore, MemoryStore, ObstoreStore, cloud, open_store, redact_url
from hangarlake.storage.cloud import translate
from hangarlake.storage.redact import redact_text, secrets_of
from hangarlake.testing.servers import S3Stub


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


@pytest.mark.parametrize(
    "options",
    [{"client_kwargs": {"verify": "/etc/ca.pem"}}, {"config_kwargs": {"signature_version": "s3"}}],
)
def test_what_obstore_cannot_do_is_left_to_fsspec(options: dict[str, Any]) -> None:
    assert translate("s3://bucket", {"key": "k", "secret": "s", "region": "r", **options}) is None


def test_the_home_of_nobody_is_no_place() -> None:
    with pytest.raises(StorageError, match="~nobody-of-this-name/r is in the home folder of a user unknown"):
        open_store("~nobody-of-this-name/r")


class RegionStub(S3Stub):
    """Says where a bucket is, in an answer that sends elsewhere."""

    def _handle(self, seen: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 301, {"x-amz-bucket-region": "eu-west-1", "Location": "http://127.0.0.1:1/"}, b"elsewhere"


def test_the_region_of_a_bucket_is_found_and_only_an_answer_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"key": "k", "secret": "s"}
    with RegionStub() as stub:
        monkeypatch.setattr(cloud, "_AWS", stub.endpoint)
        stub.refuse.append(503)
        found = [translate("s3://bucket-somewhere", keys) for _ in range(3)]
        assert [target.config["region"] for target in found if target] == ["us-east-1", "eu-west-1", "eu-west-1"]
        assert [seen.path for seen in stub.seen] == ["bucket-somewhere"] * 2


def test_a_bucket_of_an_impossible_name_is_not_found_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    with RegionStub() as stub:
        monkeypatch.setattr(cloud, "_AWS", stub.endpoint)
        target = translate("s3://my bucket\n/x", {"key": "k", "secret": "s"})
        assert target is not None
        assert target.bucket == "my bucket\n"


def test_secrets_with_addresses_inside_are_hidden() -> None:
    secret = "AccountKey=abc;BlobEndpoint=https://host/"
    assert redact_text(f"cannot use {secret}", secrets_of({"connection_string": secret})) == "cannot use ***"


def test_a_class_that_was_registered_with_fsspec_is_a_protocol() -> None:
    from fsspec import register_implementation
    from fsspec.implementations.memory import MemoryFileSystem

    with pytest.raises(StorageError, match="unknown protocol 'ours'"):
        open_store("ours://place")
    register_implementation("ours", type("Ours", (MemoryFileSystem,), {"protocol": "ours"}), clobber=True)
    assert isinstance(open_store("ours://place"), FsspecStore)
