"""Repositories to move, and a check of everything that a place holds."""

from __future__ import annotations

from typing import Any

import numpy as np

import hangarlake as hl
from hangarlake.records.catalog import catalog_key
from hangarlake.records.graph import Graph
from hangarlake.records.locations import decode_locations
from hangarlake.records.refs import Refs
from hangarlake.storage import MemoryStore, ObjectStore
from hangarlake.transfer.copying import read_catalog, verify_object
from hangarlake.transfer.survey import TreeReader, survey

SHAPE = (8, 8)
CONTENT = ("commits/", "catalogs/", "trees/", "packs/", "locations/")


def image(value: int) -> np.ndarray[Any, Any]:
    """Return an image that cannot be compressed to nothing, the same for equal values."""
    return np.random.default_rng(value).integers(0, 256, SHAPE, dtype=np.uint8)


def new_repository(store: Any, samples: int = 600, **options: Any) -> hl.Repository:
    """Create a repository with images under integers and names under strings."""
    repo = hl.Repository.create(store, **options)
    with repo.checkout("main", write=True) as w:
        w.add_ndarray_column("images", shape=SHAPE, dtype="u1").extend(
            range(samples), [image(50_000 + i) for i in range(samples)]
        )
        w.add_str_column("names").extend([f"k{i:04d}" for i in range(samples)], [f"name {i}" for i in range(samples)])
        w.commit("Add images and names")
    return repo


def put(repo: hl.Repository, key: int, value: int, branch: str = "main") -> hl.Commit:
    """Commit one image."""
    with repo.checkout(branch, write=True, staging="memory") as w:
        w["images", key] = image(value)
        commit: hl.Commit = w.commit(f"images[{key}] = {value}")
    return commit


def copy_of(store: MemoryStore) -> MemoryStore:
    """Return another store with the same objects."""
    other = MemoryStore()
    other._bucket.objects.update(store._bucket.objects)
    return other


def check_place(store: ObjectStore, *, data: bool = False) -> set[str]:
    """Check that every object is what its name says, and that all that refs reach is there; return the commits."""
    for prefix in CONTENT:
        for info in store.list(prefix):
            content = store.get(info.key)
            if prefix == "locations/":
                for ref in decode_locations(bytes.fromhex(info.key.rpartition("/")[2]), content).refs():
                    assert store.exists(ref.key), f"{info.key} names {ref.key}, which is not there"
            else:
                verify_object(info.key, content)
    refs, graph = Refs(store), Graph(store)
    tips = {*refs.branches().values(), *refs.tags().values()}
    reached = [] if not tips else list(graph.walk(tips))
    catalogs = [read_catalog(c.catalog, store.get(catalog_key(c.catalog))) for c in reached]
    found = survey(catalogs, [], TreeReader(store))
    if data:
        assert [key for key in found.data if not store.exists(key)] == []
    return {commit.id for commit in reached}


def contents(repo: hl.Repository, rev: str = "main") -> dict[int, bytes]:
    """Return the images of a commit."""
    with repo.checkout(rev) as co:
        return {key: value.tobytes() for key, value in co["images"].items()}
