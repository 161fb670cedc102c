"""Counting what a commit holds, and what its repository stores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hangarlake.namespace import is_hidden
from hangarlake.records.catalog import ArrayNode, ColumnNode
from hangarlake.records.tree import iter_leaves
from hangarlake.session import Session, Snapshot

__all__ = ["Stats", "gather_stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """How much there is.

    Attributes
    ----------
    commits : int
        In the history of the commit.
    nodes : int
        Columns, arrays and groups (without those of the format's own).
    samples : int
        In all columns.
    logical_bytes : int
        Raw bytes of all samples, and encoded bytes of all array chunks, of the commit.
    stored_bytes : int
        Bytes of all data packs in the bucket, of all commits.
    packs : int
        Objects that hold data.
    missing_samples, missing_bytes : int
        In a clone: samples (and array chunks) of the commit whose data is not here, and the bytes of chunks that these lack.
    """

    commits: int
    nodes: int
    samples: int
    logical_bytes: int
    stored_bytes: int
    packs: int
    missing_samples: int = 0
    missing_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{value:,}</td></tr>" for name, value in self.to_dict().items())
        return f"<table>{rows}</table>"


def gather_stats(session: Session, snapshot: Snapshot, *, partial: bool = False) -> Stats:
    """Count, from records and one listing alone; no data is read. What is missing is looked for where that may be: in a clone."""
    samples = logical = 0
    for name, node in snapshot.catalog.nodes.items():
        if isinstance(node, ColumnNode):
            samples += 0 if is_hidden(name) else node.count
            logical += _column_bytes(session, node)
        elif isinstance(node, ArrayNode):
            leaves = iter_leaves(node.root, session.nodes)
            logical += sum(int(leaf.entries.table.lengths[leaf.entries.rows].sum()) for leaf in leaves)
    packs = list(session.store.list("packs/"))
    missing = [0, 0]
    for node in snapshot.catalog.nodes.values() if partial else ():
        values, size = session.locality.count_missing(node.root, session.nodes)
        missing = [missing[0] + values, missing[1] + size]
    return Stats(
        commits=sum(1 for _ in session.graph.log(snapshot.commit.id)),
        nodes=sum(not is_hidden(name) for name in snapshot.catalog.nodes),
        samples=samples,
        logical_bytes=logical,
        stored_bytes=sum(info.size for info in packs),
        packs=len(packs),
        missing_samples=missing[0],
        missing_bytes=missing[1],
    )


def _column_bytes(session: Session, node: ColumnNode) -> int:
    itemsize = node.schema.np_dtype.itemsize
    if not node.schema.variable_shape:
        return node.count * int(np.prod([n or 0 for n in node.schema.shape], dtype=np.int64)) * itemsize
    leaves = iter_leaves(node.root, session.nodes)
    return sum(int(leaf.entries.shapes.prod(axis=1, dtype=np.uint64).sum()) for leaf in leaves) * itemsize
