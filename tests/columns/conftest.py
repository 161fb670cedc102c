"""Repositories for tests of columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hangarlake import Repository
from hangarlake.storage import LocalStore
from tests.columns.values import create


@pytest.fixture
def repo(local_store: LocalStore, tmp_path: Path) -> Repository:
    """An empty repository in a folder."""
    return create(local_store, tmp_path / "cache")


@pytest.fixture
def w(repo: Repository) -> Iterator[Any]:
    """The writer of its default branch."""
    with repo.checkout(write=True) as writer:
        yield writer
