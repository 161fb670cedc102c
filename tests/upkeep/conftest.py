"""Every test has a configuration, a cache and an identity of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGARLAKE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HANGARLAKE_AUTHOR", "Ada Lovelace <ada@example.org>")
