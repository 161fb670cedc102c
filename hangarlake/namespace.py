"""The names of a working catalog: nodes by name, and what lies below each path, kept up to date as nodes come and go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hangarlake.records.catalog import CatalogNode, ColumnNode

__all__ = ["LOOSE", "ROOT", "NodeTable", "is_hidden", "path_of"]

#: The name of the Zarr hierarchy's root, be it a group or an array.
ROOT = "/"
#: The column that keeps keys of the Zarr store which belong to no node (``docs/format.md`` §8).
LOOSE = "__store__"


def is_hidden(name: str) -> bool:
    """Tell whether a name is one of the format's own, which no view shows."""
    return name.startswith("__")


def path_of(name: str) -> str:
    """Return the path of a node's name: its name, and nothing for the root."""
    return "" if name == ROOT else name


class NodeTable(dict[str, CatalogNode]):
    """Nodes by name, with an index of paths.

    Attributes
    ----------
    children : dict of str to dict of str to int
        For each path that arrays or groups lie below: the next parts of their paths, and how many nodes each leads to.
    """

    def __init__(self, nodes: Mapping[str, CatalogNode] | Iterable[tuple[str, CatalogNode]] = ()) -> None:
        super().__init__()
        self.children: dict[str, dict[str, int]] = {}
        # Columns are no part of the hierarchy, but their names bar the paths above them as well.
        self._columns: dict[str, dict[str, int]] = {}
        self.update(nodes)

    def _count(self, name: str, node: CatalogNode, change: int) -> None:
        if name == ROOT or is_hidden(name):
            return
        index = self._columns if isinstance(node, ColumnNode) else self.children
        parts = name.split("/")
        above = ""
        for part in parts:
            below = index.setdefault(above, {})
            count = below.get(part, 0) + change
            if count:
                below[part] = count
            else:
                del below[part]
                if not below:
                    del index[above]
            above = f"{above}/{part}" if above else part

    def __setitem__(self, name: str, node: CatalogNode) -> None:
        old = self.get(name)
        if old is None or isinstance(old, ColumnNode) != isinstance(node, ColumnNode):
            if old is not None:
                self._count(name, old, -1)
            self._count(name, node, 1)
        super().__setitem__(name, node)

    def __delitem__(self, name: str) -> None:
        self._count(name, self[name], -1)
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a node and return it; `default` (if given) where there is none."""
        if name in self:
            self._count(name, self[name], -1)
        return super().pop(name, *default)

    def update(self, nodes: Any = (), /, **_: Any) -> None:
        """Add nodes."""
        for name, node in nodes.items() if isinstance(nodes, Mapping) else nodes:
            self[name] = node

    def __ior__(self, nodes: Any) -> NodeTable:  # type: ignore[override,misc]  # dict's own type allows other mappings
        self.update(nodes)
        return self

    def has_below(self, path: str) -> bool:
        """Tell whether some node lies below a path."""
        return path in self.children or path in self._columns

    def below(self, path: str) -> Iterator[str]:
        """Yield the names of all nodes below a path (not at it), in no particular order."""
        for index in (self.children, self._columns):
            frontier = [path]
            while frontier:
                above = frontier.pop()
                for part in index.get(above, ()):
                    name = f"{above}/{part}" if above else part
                    node = self.get(name)
                    if node is not None and isinstance(node, ColumnNode) == (index is self._columns):
                        yield name
                    if name in index:
                        frontier.append(name)

    def first_below(self, path: str) -> str | None:
        """Return the name of some node below a path."""
        return next(self.below(path), None)
