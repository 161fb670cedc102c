"""The store in memory."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys

import pytest

from hangarlake.errors import ObjectNotFoundError
from hangarlake.storage import MemoryStore, open_store
from hangarlake.testing import StoreConformance


class TestConformance(StoreConformance):
    spans_processes = False

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_stores_of_one_name_share_their_objects() -> None:
    open_store("memory://shared/here").put("a", b"1")
    assert open_store("memory://shared/here/").get("a") == b"1"
    with pytest.raises(ObjectNotFoundError):
        open_store("memory://shared/there").get("a")


def test_named_objects_outlive_their_stores() -> None:
    MemoryStore("outlives").put("a", b"1")
    gc.collect()
    assert MemoryStore("outlives").get("a") == b"1"


def test_anonymous_stores_share_nothing() -> None:
    one, two = MemoryStore(), MemoryStore()
    one.put("a", b"1")
    assert not two.exists("a")
    assert pickle.loads(pickle.dumps(one)).exists("a")


def test_another_process_is_told_that_it_cannot_open_the_store() -> None:
    store = MemoryStore("of-this-process")
    code = f"import pickle; pickle.loads({pickle.dumps(store)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "StorageError: memory://of-this-process lives in the process that made it" in done.stderr
