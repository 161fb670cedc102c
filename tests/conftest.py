"""Shared fixtures: stores of every kind, and the servers behind them."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from hangarlake.storage import LocalStore, MemoryStore, ObjectStore, open_store
from hangarlake.testing.servers import GcsEmulator, MotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CLOUD_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "STORAGE_EMULATOR_HOST",
)
# A folder of a bucket on some S3 server, to be used instead of moto; see CONTRIBUTING.md. Read before tests lose sight of the rest.
_REAL_S3 = os.environ.get("HANGARLAKE_TEST_S3_URL", "").rstrip("/")
_CLOUD = {name: os.environ.get(name) for name in _CLOUD_VARIABLES}
# What needs a bucket of its own cannot run in a folder.
_WHOLE_BUCKET = {"test_the_root_of_a_bucket_is_a_store_too"}


@pytest.fixture(autouse=True)
def _no_cloud_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test reach a real account by accident."""
    for name in _CLOUD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """S3 by moto, for the whole run."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[GcsEmulator]:
    """GCS by gcp-storage-emulator, for the whole run. It ignores conditions."""
    with GcsEmulator() as server:
        yield server


@pytest.fixture(scope="session")
def real_s3() -> Iterator[tuple[str, dict[str, Any]]]:
    """A folder for this run on the server that HANGARLAKE_TEST_S3_URL names, emptied in the end, and its `storage_options`."""
    region = _CLOUD["AWS_REGION"] or _CLOUD["AWS_DEFAULT_REGION"] or "us-east-1"
    options: dict[str, Any] = {
        "key": _CLOUD["AWS_ACCESS_KEY_ID"],
        "secret": _CLOUD["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": _CLOUD["AWS_ENDPOINT_URL_S3"]
        or _CLOUD["AWS_ENDPOINT_URL"]
        or f"https://s3.{region}.amazonaws.com",
        "region_name": region,
    }
    if not (_REAL_S3.startswith("s3://") and options["key"] and options["secret"]):
        pytest.exit(
            "HANGARLAKE_TEST_S3_URL needs s3://BUCKET/FOLDER, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
            "and AWS_ENDPOINT_URL unless it is AWS",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    if _CLOUD["AWS_SESSION_TOKEN"]:
        options["token"] = _CLOUD["AWS_SESSION_TOKEN"]
    url = f"{_REAL_S3}/run-{secrets.token_hex(8)}"
    yield url, options
    store = open_store(url, options)
    store.delete([info.key for info in store.list("")])


@pytest.fixture
def s3_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The `storage_options` of `s3_url`."""
    if _REAL_S3:
        options: dict[str, Any] = request.getfixturevalue("real_s3")[1]
        return dict(options)
    moto: MotoServer = request.getfixturevalue("moto_server")
    return moto.storage_options


@pytest.fixture
def s3_url(request: pytest.FixtureRequest) -> str:
    """A folder of a new bucket; on a real server, a new folder."""
    if _REAL_S3:
        if request.node.originalname in _WHOLE_BUCKET:
            pytest.skip("needs a bucket of its own, and HANGARLAKE_TEST_S3_URL gives a folder")
        return f"{request.getfixturevalue('real_s3')[0]}/{secrets.token_hex(8)}/some/folder"
    moto: MotoServer = request.getfixturevalue("moto_server")
    bucket = f"bucket-{secrets.token_hex(8)}"
    moto.create_bucket(bucket)
    return f"s3://{bucket}/some/folder"


@pytest.fixture
def gcs_options(gcs_emulator: GcsEmulator) -> dict[str, Any]:
    """The `storage_options` of `gcs_url`."""
    return gcs_emulator.storage_options


@pytest.fixture
def gcs_url(gcs_emulator: GcsEmulator) -> str:
    """A folder of a new bucket."""
    bucket = f"bucket-{secrets.token_hex(8)}"
    gcs_emulator.create_bucket(bucket)
    return f"gs://{bucket}/some/folder"


@pytest.fixture
def local_store(tmp_path: Path) -> LocalStore:
    """An empty store in a folder."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def memory_store() -> MemoryStore:
    """An empty store in memory."""
    return MemoryStore()


@pytest.fixture(params=["local", "memory", "s3"])
def any_store(request: pytest.FixtureRequest) -> ObjectStore:
    """An empty store: local, in memory, and S3 over HTTP, one after the other."""
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3_url"), request.getfixturevalue("s3_options"))
    store: ObjectStore = request.getfixturevalue(f"{request.param}_store")
    return store
