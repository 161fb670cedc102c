"""Shared fixtures: stores of every kind, and the servers behind them."""

from __future__ import annotations

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


@pytest.fixture
def s3_options(moto_server: MotoServer) -> dict[str, Any]:
    """The `storage_options` of `s3_url`."""
    return moto_server.storage_options


@pytest.fixture
def s3_url(moto_server: MotoServer) -> str:
    """A folder of a new bucket."""
    bucket = f"bucket-{secrets.token_hex(8)}"
    moto_server.create_bucket(bucket)
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
