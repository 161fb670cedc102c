"""What tests of columns share: repositories on any store, and comparing values to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hangarlake import Repository
from hangarlake.storage import ObjectStore

AUTHOR = "Ada Lovelace <ada@example.org>"


def create(place: Any, cache: Path, **kwargs: Any) -> Repository:
    """Create a repository with a cache directory of its own."""
    return Repository.create(place, author=AUTHOR, cache_dir=cache, **kwargs)


def reopen(place: Any, cache: Path, **kwargs: Any) -> Repository:
    """Open a repository that shares no memory with what wrote it."""
    return Repository.open(place, author=AUTHOR, cache_dir=cache, **kwargs)


def exact(value: Any) -> Any:
    """Return what tells any two values apart that differ in a bit, in type, dtype or shape."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes()
    if isinstance(value, list | tuple):
        return type(value).__name__, [exact(each) for each in value]
    if isinstance(value, dict):
        return {key: exact(each) for key, each in value.items()}
    return type(value).__name__, repr(value)


def stored_bytes(store: ObjectStore, prefix: str = "") -> int:
    """Return how many bytes the objects below a prefix have together."""
    return sum(info.size for info in store.list(prefix))


def key_order(key: Any) -> Any:
    """Sort integers as numbers, before strings by their UTF-8."""
    return (0, key, b"") if isinstance(key, int) else (1, 0, key.encode())
