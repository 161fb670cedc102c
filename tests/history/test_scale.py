"""Cost follows what changed: node reads of diff and merge grow with changes × height, not with what exists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hangarlake import Repository
from hangarlake.records.node import Node, NodeRef
from hangarlake.records.nodes import NodeStore
from hangarlake.storage import MemoryStore, ObjectStore

SIZE = 1_000_000
HEIGHT = 4


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """A million samples of 16 bytes, and two branches."""
    store = MemoryStore()
    repo = Repository.create(store, author="A <a@example.org>", cache_dir=tmp_path_factory.mktemp("cache"))
    with repo.checkout("main", write=True, staging="memory") as w:
        column = w.add_ndarray_column("x", (2,), "int64", encoding={"chunk_bytes": 1 << 20})
        column.extend(range(SIZE), np.arange(2 * SIZE, dtype="int64").reshape(SIZE, 2))
        w.commit("a million")
    root = repo.checkout()._snapshot.catalog.nodes["x"].root
    assert root is not None
    assert root.level + 1 == HEIGHT
    return store


class Reads:
    """Counts the nodes that are asked for, whether they are cached or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        plain = NodeStore.get_nodes

        def counted(nodes: NodeStore, refs: Sequence[NodeRef]) -> list[Node]:
            self.count += len(refs)
            return plain(nodes, refs)

        monkeypatch.setattr(NodeStore, "get_nodes", counted)


@pytest.mark.parametrize("changes", [1, 10, 100])
def test_node_reads_grow_with_changes_and_height_only(
    million: ObjectStore, changes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo = Repository.open(million, author="A <a@example.org>", cache_dir=tmp_path)
    rng = np.random.default_rng(changes)
    names = [f"left{changes}", f"right{changes}"]
    picked = rng.permutation(SIZE)[: 2 * changes].reshape(2, changes)
    for name, keys in zip(names, picked, strict=True):
        repo.create_branch(name)
        with repo.checkout(name, write=True, staging="memory") as w:
            w["x"].extend(keys, np.full((changes, 2), -1, "int64"))
            w.commit("change")
    reads = Reads(monkeypatch)
    diff = repo.diff("main", names[0]).columns["x"]
    assert diff.counts == (0, 0, changes)
    assert sorted(diff.modified) == sorted(picked[0].tolist())
    # Both sides, each level once for each change.
    assert reads.count <= 2 * changes * HEIGHT
    reads.count = 0
    made = repo.merge(names[1], names[0])
    # The base and what comes in are compared; ours is looked up, and edited.
    assert reads.count <= 6 * (changes + 1) * HEIGHT
    assert repo.diff("main", made).columns["x"].counts == (0, 0, 2 * changes)
