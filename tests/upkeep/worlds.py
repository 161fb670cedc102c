"""A repository with something of every kind in it, and copies of it to be damaged."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import hangarlake as hl
from hangarlake.records.graph import segment_due, write_segment
from hangarlake.storage import MemoryStore

COMMITS = 20


def noise(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    """Return bytes that cannot be compressed."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fill(repo: hl.Repository) -> None:
    """Commit something of every kind, on several lines of history."""
    with repo.checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("images", (6, 6), "u1").extend(range(700), noise(1, 700, 6, 6))
        w.add_ndarray_column("labels", (), "i8").extend([f"{i:04d}" for i in range(700)], np.arange(700) % 10)
        w.add_ndarray_column("ragged", (None, 3), "<f4", variable_shape=True).extend(
            range(40), [noise(i, i % 5, 3).astype("f4") for i in range(40)]
        )
        w.add_str_column("names").extend([f"k{i}" for i in range(300)], [f"näme {i}" * (i % 7) for i in range(300)])
        w.add_bytes_column("raw")["one"] = b"\x00\xff" * 9
        w.add_json_column("meta")["one"] = {"b": [1, None], "a": "ü"}
        nested = w.add_str_column("notes", nested=True)
        for i in range(200):
            nested[f"s{i}"] = {"a": f"{i} a", 3: f"{i} b"}
        w.add_ndarray_column("large", (40, 50), "<i2", encoding={"chunk_shape": (16, 20)}).extend(
            range(5), noise(2, 5, 40, 50).astype("i2")
        )
        w.add_ndarray_column("solo", (1100, 1000), "u1")["x"] = noise(3, 1100, 1000)
        w.add_ndarray_column("none", (0, 3), "f8")["empty"] = np.empty((0, 3))
        w.add_ndarray_column("dates", (), "M8[s]")[-5] = np.datetime64("2026-11-01", "s")
        w.add_str_column("untouched")
        w.create_array(
            "weather/t", shape=(30, 30), dtype="f4", chunks=(5, 5), shards=(10, 10), dimension_names=("y", "x")
        )
        w.arrays["weather/t"][...] = noise(4, 30, 30)
        w.create_array("weather/count", shape=(), dtype="i4")[...] = 3
        w.create_array("line", shape=(600,), dtype="u2", chunks=(1,))[...] = np.arange(600) + 1
        w.commit("Add everything")
    repo.create_branch("side")
    repo.create_branch("gone")
    for i in range(COMMITS):
        with repo.checkout("main", write=True, staging="memory") as w:
            w["images"].extend([i, 300 + i, 1000 + i], noise(100 + i, 3, 6, 6))
            w.commit(f"Change {i}")
        if i == 10:
            repo.create_tag("v1", message="Half-way")
            with repo.checkout("side", write=True, staging="memory") as w:
                w["labels", "0699"] = np.int64(1)
                w.rename("meta", "about")
                w.arrays["weather/t"][0, 0] = 77
                w.commit("Elsewhere")
            repo.merge("side")
    repo.delete_branch("gone", force=True)
    repo.reset_branch("side", "main~2")
    repo._session.refs.flush_hints()
    # Segments are written in the background; here they have to be there.
    for commit in repo.log("main"):
        if segment_due(commit):
            write_segment(repo._session.store, repo._session.graph, commit)


@cache
def everything() -> MemoryStore:
    """Return the store of a repository that nobody may write to."""
    store = MemoryStore()
    fill(hl.Repository.create(store))
    return store


def copy_of(store: MemoryStore) -> MemoryStore:
    """Return another store with the same objects."""
    other = MemoryStore()
    other._bucket.objects.update(store._bucket.objects)
    return other
