"""The store in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hangarlake.storage import LocalStore
from hangarlake.testing import StoreConformance

if TYPE_CHECKING:
    from pathlib import Path


class TestConformance(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "store")
