"""Differences as a person meets them: which columns changed, and which samples in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hangarlake.records.catalog import Catalog, GroupNode
from hangarlake.records.diff import CatalogDiff, NodeDiff, count_changes, diff_catalogs
from hangarlake.records.tree import NodeSource

__all__ = ["ColumnDiff", "Diff"]


@dataclass(frozen=True)
class ColumnDiff:
    """What changed in one column (or array).

    Attributes
    ----------
    name : str
    state : str
        ``added``, ``removed``, ``modified`` or ``renamed``.
    """

    name: str
    state: str
    _node: NodeDiff
    _source: NodeSource

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """How many samples were added, removed and modified."""
        return count_changes(self._node.old_root, self._node.new_root, self._source)

    def to_dict(self) -> dict[str, Any]:
        """Return state and counts, JSON-ready."""
        added, removed, modified = self.counts
        return {"state": self.state, "added": added, "removed": removed, "modified": modified}


@dataclass(frozen=True)
class Diff:
    """What differs between two states, always read from the first to the second."""

    columns: Mapping[str, ColumnDiff]
    attrs: Mapping[str, Any]
    _catalogs: CatalogDiff

    @classmethod
    def of(cls, old: Catalog, new: Catalog, renames: Mapping[str, str], source: NodeSource) -> Diff:
        """Compare two catalogs; trees are compared when somebody asks."""
        found = diff_catalogs(old, new, renames)
        columns = {
            node.name: ColumnDiff(node.name, node.state, node, source)
            for node in found.nodes
            if not isinstance(node.new or node.old, GroupNode)
        }
        return cls(columns, found.attrs, found)

    @property
    def is_empty(self) -> bool:
        """Whether there is no difference."""
        return self._catalogs.is_empty

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return {
            "columns": {name: column.to_dict() for name, column in self.columns.items()},
            "attrs": sorted(self.attrs),
        }

    def __bool__(self) -> bool:
        return not self.is_empty
