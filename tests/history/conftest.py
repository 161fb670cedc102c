"""Repositories for the tests of history."""

from __future__ import annotations

from pathlib import Path

import pytest

from hangarlake import Repository
from hangarlake.storage import LocalStore, MemoryStore, ObjectStore


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HANGARLAKE_AUTHOR", "Ada Lovelace <ada@example.org>")


@pytest.fixture
def store() -> ObjectStore:
    """An empty store."""
    return MemoryStore()


@pytest.fixture
def repo(store: ObjectStore) -> Repository:
    """A repository in memory."""
    return Repository.create(store)


@pytest.fixture
def local_repo(tmp_path: Path) -> Repository:
    """A repository in a folder."""
    return Repository.create(LocalStore(tmp_path / "repo"))
