"""Stores in GCS, through both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hangarlake.errors import UnsafeStoreError
from hangarlake.storage import FsspecStore, ObjectStore, ObstoreStore, open_store, probe_create_if_absent
from hangarlake.testing import StoreConformance
from hangarlake.testing.servers import GcsStub

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestGcsfs(StoreConformance):
    refuses_existing = False  # the emulator ignores conditions,
    many = 120  # and takes a time for each object that grows with their number

    @pytest.fixture
    def store(self, gcs_url: str, gcs_options: dict[str, Any]) -> ObjectStore:
        return open_store(gcs_url, gcs_options)


class TestGcsfsOnStub(StoreConformance):
    """With conditions that are obeyed."""

    @pytest.fixture
    def store(self, stub: GcsStub) -> ObjectStore:
        return _open(stub, "fsspec")


class TestObstoreOnStub(StoreConformance):
    """The emulator understands neither obstore's addresses nor its listings."""

    @pytest.fixture
    def store(self, stub: GcsStub) -> ObjectStore:
        return _open(stub, "obstore")


@pytest.fixture
def stub() -> Iterator[GcsStub]:
    with GcsStub() as server:
        yield server


def _open(stub: GcsStub, engine: str) -> ObjectStore:
    return open_store("gs://bucket/repo", {"endpoint_url": stub.endpoint, "token": "anon", "engine": engine})


def test_an_emulator_is_reached_through_gcsfs(gcs_url: str, gcs_options: dict[str, Any]) -> None:
    assert isinstance(open_store(gcs_url, gcs_options), FsspecStore)
    assert isinstance(open_store(gcs_url, {**gcs_options, "engine": "obstore"}), ObstoreStore)


def test_the_emulator_is_found_by_its_variable(
    gcs_url: str, gcs_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_options["endpoint_url"])
    store = open_store(gcs_url)
    store.put("a", b"x")
    assert store.get("a") == b"x"


def test_the_emulator_is_refused(gcs_url: str, gcs_options: dict[str, Any]) -> None:
    with pytest.raises(UnsafeStoreError, match="ignores the condition"):
        probe_create_if_absent(open_store(gcs_url, gcs_options))


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_creation_is_conditional_in_the_server(stub: GcsStub, engine: str) -> None:
    store = _open(stub, engine)
    assert store.put_new("a", b"1") is True
    assert store.put_new("a", b"2") is False
    assert store.get("a") == b"1"
    assert stub.conditions == ["0", "0"]
    store.put("a", b"3")
    assert stub.conditions == ["0", "0", None]
    assert store.get("a") == b"3"
    probe_create_if_absent(store)


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_a_zonal_bucket_that_ignores_the_condition_is_refused(engine: str) -> None:
    with GcsStub(ignore_conditions=True) as stub, pytest.raises(UnsafeStoreError):
        probe_create_if_absent(_open(stub, engine))
