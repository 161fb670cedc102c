"""Where credentials come from, and what is said where there are none."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hangarlake.errors import ObjectNotFoundError, StorageError
from hangarlake.storage import ObjectStore, credentials, open_store
from hangarlake.storage.cloud import translate
from hangarlake.storage.credentials import check_metadata_service
from hangarlake.testing.servers import GcsStub, S3Stub

AWS = r"Set AWS_ACCESS_KEY_ID.*AWS_PROFILE.*'key'.*\{'anon': True\}"
GOOGLE = r"gcloud auth application-default login.*GOOGLE_APPLICATION_CREDENTIALS.*'token'.*\{'anon': True\}"
AZURE = r"AZURE_STORAGE_ACCOUNT_NAME.*AZURE_STORAGE_ACCOUNT_KEY.*'account_key'.*'anon': True\}"


@pytest.fixture(autouse=True)
def _a_machine_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "APPDATA", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(credentials, "_METADATA_ADDRESS", closed.getsockname())
    monkeypatch.setattr(credentials, "_METADATA_PAUSE", 0)


@pytest.fixture
def stub() -> Iterator[S3Stub]:
    with S3Stub() as server:
        yield server


def _calls(store: ObjectStore) -> list[Any]:
    return [
        lambda: store.get("a"),
        lambda: store.get_range("a", 0, 1),
        lambda: store.put("a", b""),
        lambda: store.put_new("a", b""),
        lambda: list(store.list("")),
    ]


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_without_aws_credentials_the_url_and_the_remedy_are_named(stub: S3Stub, engine: str) -> None:
    options = {"endpoint_url": stub.endpoint, "region_name": "us-east-1", "engine": engine}
    for call in _calls(open_store("s3://bucket/repo", options)):
        with pytest.raises(StorageError, match=r"s3://bucket/repo.*credentials.*" + AWS) as caught:
            call()
        assert not isinstance(caught.value, ObjectNotFoundError)
    assert stub.seen == []


@pytest.mark.parametrize(
    "url, options, remedy", [("gs://bucket/repo", {}, GOOGLE), ("az://c/repo", {"account_name": "x"}, AZURE)]
)
def test_without_a_metadata_service_the_url_and_the_remedy_are_named(
    url: str, options: dict[str, Any], remedy: str
) -> None:
    for call in _calls(open_store(url, options)):
        with pytest.raises(StorageError, match=rf"Cannot open {url}: no credentials were found\. .*{remedy}"):
            call()


def test_a_metadata_service_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    target = translate("gs://bucket", {})
    assert target is not None
    with pytest.raises(StorageError):
        check_metadata_service(target, "gs://bucket")
    with socket.create_server(("127.0.0.1", 0)) as service:
        monkeypatch.setattr(credentials, "_METADATA_ADDRESS", service.getsockname())
        check_metadata_service(target, "gs://bucket")


@pytest.mark.parametrize(
    "url, options, environment",
    [
        ("gs://bucket", {"token": "anon"}, {}),
        ("gs://bucket", {"anon": True}, {}),
        ("gs://bucket", {"token": "/key.json"}, {}),
        ("gs://bucket", {}, {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}),
        ("gs://bucket", {}, {"GCE_METADATA_HOST": "127.0.0.1:1"}),
        ("az://c", {"account_name": "x", "account_key": "k"}, {}),
        ("az://c", {"account_name": "x", "sas_token": "k"}, {}),
        ("az://c", {"account_name": "x", "anon": True}, {}),
        ("az://c", {"account_name": "x"}, {"AZURE_STORAGE_ACCOUNT_KEY": "k"}),
        ("az://c", {"account_name": "x"}, {"IDENTITY_ENDPOINT": "http://127.0.0.1:1"}),
        ("s3://bucket", {"region": "r"}, {}),
    ],
)
def test_the_metadata_service_is_looked_for_only_where_nothing_else_has_credentials(
    url: str, options: dict[str, Any], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    target = translate(url, options)
    assert target is not None
    check_metadata_service(target, url)


def test_a_google_login_is_a_source(tmp_path: Path) -> None:
    target = translate("gs://bucket", {})
    assert target is not None
    for folder in (tmp_path / "gcloud", tmp_path / ".config/gcloud"):
        folder.mkdir(parents=True)
        (folder / "application_default_credentials.json").write_text("{}")
    check_metadata_service(target, "gs://bucket")


def test_a_metadata_service_that_has_nothing_is_no_riddle(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", stub.endpoint.removeprefix("http://"))
    with pytest.raises(StorageError, match=r"gs://bucket/repo: no credentials were found\. .*" + GOOGLE) as caught:
        open_store("gs://bucket/repo").get("a")
    assert not isinstance(caught.value, ObjectNotFoundError)
    assert stub.seen[0].path.startswith("computeMetadata/")


class InstanceMetadata(S3Stub):
    """AWS's metadata service, and the bucket."""

    def _handle(self, seen: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        role = "latest/meta-data/iam/security-credentials/"
        answers = {
            "latest/api/token": "session",
            role: "lake",
            role + "lake": json.dumps(
                {
                    "Code": "Success",
                    "AccessKeyId": "FROMROLE",
                    "SecretAccessKey": "s",
                    "Token": "t",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
            ),
        }
        if seen.path in answers:
            return 200, {}, answers[seen.path].encode()
        return super()._handle(seen, body)


def test_a_role_of_the_machine_gives_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    with InstanceMetadata() as server:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.endpoint)
        server.objects["bucket/a"] = b"1"
        store = open_store("s3://bucket", {"endpoint_url": server.endpoint, "region_name": "us-east-1"})
        assert store.get("a") == b"1"
        assert "Credential=FROMROLE/" in server.seen[-1].headers["authorization"]


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_what_a_server_does_not_accept_has_a_remedy(stub: S3Stub, engine: str) -> None:
    store = open_store("s3://bucket/repo", {**stub.storage_options, "engine": engine})
    stub.refuse.append(401)
    with pytest.raises(StorageError, match=r"Cannot read a in s3://bucket/repo: .*" + AWS):
        store.get("a")
    assert len(stub.seen) == 1


def test_a_profile_that_is_not_there_is_named(stub: S3Stub) -> None:
    options = {"profile": "elsewhere", "endpoint_url": stub.endpoint, "region_name": "us-east-1", "engine": "obstore"}
    with pytest.raises(StorageError, match=r"s3://bucket: .*profile \(elsewhere\) could not be found\. " + AWS):
        open_store("s3://bucket", options).get("a")


def test_half_a_pair_of_keys_has_a_remedy() -> None:
    with pytest.raises(StorageError, match=r"Cannot open s3://bucket: .*Missing.*" + AWS):
        open_store("s3://bucket", {"key": "k", "region": "r", "engine": "obstore"}).get("a")
    with pytest.raises(StorageError, match=r"Cannot open az://c: .*Account must be specified.*" + AZURE):
        open_store("az://c").get("a")


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_anonymous_access_is_asked_for_alike(engine: str) -> None:
    with S3Stub() as s3, GcsStub() as gcs:
        for server, url in ((s3, "s3://bucket"), (gcs, "gs://bucket")):
            store = open_store(url, {"anon": True, "endpoint_url": server.endpoint, "engine": engine})
            store.put("a", b"public")
            assert store.get("a") == b"public"
            assert "authorization" not in server.seen[-1].headers


def test_keys_of_the_environment_come_before_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "lake")
    target = translate("s3://bucket", {"region": "r"})
    assert target is not None
    assert target.profile == ""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    target = translate("s3://bucket", {"region": "r"})
    assert target is not None
    assert target.profile is None
    target = translate("s3://bucket", {"region": "r", "profile": "mine"})
    assert target is not None
    assert target.profile == "mine"
    target = translate("s3://bucket", {"region": "r", "anon": True})
    assert target is not None
    assert target.profile is None
