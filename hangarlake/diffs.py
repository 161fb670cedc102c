"""Differences as a person meets them: which columns and arrays changed, and which samples and chunks in them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from hangarlake.columns.owners import PendingChunks
from hangarlake.node_diffs import (
    ArrayDiff,
    ChangedKeys,
    ColumnDiff,
    DiffSources,
    EntryDiff,
    NodeChange,
    Values,
    attributes_to_dict,
)
from hangarlake.records.catalog import Catalog
from hangarlake.records.diff import AttributeChanges, CatalogDiff, diff_catalogs
from hangarlake.records.graph import Graph
from hangarlake.records.node import Node, NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.renames import compose, inverse
from hangarlake.records.tree import NodeSource
from hangarlake.session import Session

__all__ = [
    "ArrayDiff",
    "ChangedKeys",
    "ColumnDiff",
    "Diff",
    "DiffSide",
    "EntryDiff",
    "NodeChange",
    "Values",
    "diff_sides",
    "renames_across",
]

_BAR = 40

ChangeT = TypeVar("ChangeT", bound=NodeChange)


@dataclass(frozen=True, slots=True)
class DiffSide:
    """One side of a comparison.

    Attributes
    ----------
    catalog : Catalog
    commit : str
        Id of the commit that it is, or that its changes are relative to.
    renames : mapping of str to str
        What was renamed since that commit.
    staged : StagedNodes or None
        The nodes of a write checkout.
    pending : PendingChunks or None
        The chunks of a write checkout.
    """

    catalog: Catalog
    commit: str
    renames: Mapping[str, str] = field(default_factory=dict)
    staged: StagedNodes | None = None
    pending: PendingChunks | None = None


def renames_across(graph: Graph, a: str, b: str) -> dict[str, str]:
    """Return what `b` knows under another name than `a`, by what happened on both sides since their merge base.

    Empty for unrelated histories.
    """
    base = None if a == b else graph.merge_base(a, b)
    if base is None:
        return {}
    there = inverse(graph.renames_between(base, a)) if base != a else {}
    return compose(there, graph.renames_between(base, b) if base != b else {})


def diff_sides(session: Session, old: DiffSide, new: DiffSide) -> Diff:
    """Compare two sides; book-keeping alone is read, and trees not before somebody asks."""
    renames = compose(compose(inverse(old.renames), renames_across(session.graph, old.commit, new.commit)), new.renames)
    layers = [side.staged.frozen() for side in (old, new) if side.staged is not None]
    nodes: NodeSource = session.nodes
    if layers:
        nodes = layers[0] if len(layers) == 1 else _Layers(*layers)
    found = diff_catalogs(old.catalog, new.catalog, renames)
    return Diff(found, DiffSources(nodes, session.chunks, old.pending, new.pending))


class _Layers:
    """Finds the nodes of two write checkouts of one repository."""

    def __init__(self, first: StagedNodes, second: StagedNodes) -> None:
        self._first = first
        self._second = second

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        own = [ref for ref in refs if self._first.is_new(ref)]
        rest = [ref for ref in refs if not self._first.is_new(ref)]
        found = dict(zip([ref.id for ref in own], self._first.get_nodes(own), strict=True))
        found |= zip([ref.id for ref in rest], self._second.get_nodes(rest), strict=True)
        return [found[ref.id] for ref in refs]


class Diff:
    """What differs between two states, always read from the first to the second. True if anything does.

    Which columns and arrays differ is known at once, from two catalogs; which samples differ in them is found when it is asked for,
    and costs what changed, not what exists. No data is read unless a value is asked for. The difference of a write checkout shows
    what was staged when it was made.
    """

    def __init__(self, catalogs: CatalogDiff, sources: DiffSources) -> None:
        self._catalogs = catalogs
        self._sources = sources

    # ---- what changed -----------------------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> Mapping[str, ColumnDiff]:
        """Columns that changed, by their new names (removed ones by their old names), sorted."""
        return self._changes("column", ColumnDiff)

    @cached_property
    def arrays(self) -> Mapping[str, ArrayDiff]:
        """Zarr arrays that changed, by their new paths (removed ones by their old paths), sorted."""
        return self._changes("array", ArrayDiff)

    @cached_property
    def groups(self) -> Mapping[str, NodeChange]:
        """Zarr groups that were added, removed, renamed, or changed in their attributes."""
        return self._changes("group", NodeChange)

    def _changes(self, kind: str, make: type[ChangeT]) -> Mapping[str, ChangeT]:
        found: dict[str, ChangeT] = {}
        for node in self._catalogs.nodes:
            if node.type == kind:
                change = make(node, self._sources)
                # Removed comes first: what has the name now is what a person looks for.
                change.replaced = found.get(node.name)
                found[node.name] = change
        return MappingProxyType(found)

    @property
    def attrs(self) -> AttributeChanges:
        """Changed attributes of the repository: name → (old, new), `MISSING` where there is none."""
        return self._catalogs.attrs

    @property
    def is_empty(self) -> bool:
        """Whether there is no difference."""
        return self._catalogs.is_empty

    def __bool__(self) -> bool:
        return not self.is_empty

    def _nodes(self) -> Iterator[NodeChange]:
        """Yield all changes, those that were replaced included."""
        for change in (*self.columns.values(), *self.arrays.values(), *self.groups.values()):
            if change.replaced is not None:
                yield change.replaced
            yield change

    # ---- showing ----------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """Return one line: how many columns, arrays, samples and chunks changed."""
        if self.is_empty:
            return "no differences"
        parts = []
        totals = {"column": [0, 0, 0], "array": [0, 0, 0], "group": [0, 0, 0]}
        numbers = dict.fromkeys(totals, 0)
        for change in self._nodes():
            numbers[change.type] += 1
            totals[change.type] = [a + b for a, b in zip(totals[change.type], change.counts, strict=True)]
        parts += [f"{_text_of(n, kind)} changed" for kind, n in numbers.items() if n]
        for kind, unit in (("column", "sample"), ("array", "chunk")):
            for count, what in zip(totals[kind], ("added", "removed", "modified"), strict=True):
                if count:
                    parts.append(f"{_text_of(count, unit)} {what}")
        if self.attrs:
            parts.append(f"{_text_of(len(self.attrs), 'attribute')} changed")
        return ", ".join(parts)

    def stat(self) -> list[tuple[str, str, str]]:
        """Return a row for each thing that changed, like ``git diff --stat``: name, what happened, and a bar of ``+``, ``-`` and ``~``."""
        changes = list(self._nodes())
        most = max((sum(change.counts) for change in changes), default=0)
        rows = []
        for change in changes:
            words = [] if change.state == "modified" else [change.state]
            words = [word for word in words if word != "renamed"] + change.notes()
            total = sum(change.counts)
            what = ", ".join([*([f"{total:,}"] if total else []), *words])
            rows.append((change.name, what or "0", _bar(change.counts, most)))
        if self.attrs:
            rows.append(("attributes", ", ".join(self.attrs), ""))
        return rows

    def __str__(self) -> str:
        rows = self.stat()
        if not rows:
            return self.summary()
        name_width = max(len(name) for name, _, _ in rows)
        what_width = max((len(what) for _, what, bar in rows if bar), default=0)
        lines = [f" {name:<{name_width}} | {what:<{what_width}} {bar}".rstrip() for name, what, bar in rows]
        return "\n".join([*lines, f" {self.summary()}"])

    def __repr__(self) -> str:
        names = [change.name for change in self._nodes()]
        return f"<Diff: {', '.join(names) or ('attributes' if self.attrs else 'no differences')}>"

    def _repr_html_(self) -> str:
        head = (
            "<tr><th>name</th><th>type</th><th>state</th><th>added</th><th>removed</th><th>modified</th><th></th></tr>"
        )
        rows = ""
        for change in self._nodes():
            cells = [
                change.name,
                change.type,
                change.state,
                *(f"{n:,}" for n in change.counts),
                "; ".join(change.notes()),
            ]
            rows += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        return f"<p><b>Diff</b> {html.escape(self.summary())}</p><table>{head}{rows}</table>"

    def to_dict(self, *, keys: bool = False) -> dict[str, Any]:
        """Return everything, JSON-ready; with `keys` also which keys changed."""
        return {
            "columns": {name: change.to_dict(keys=keys) for name, change in self.columns.items()},
            "arrays": {name: change.to_dict(keys=keys) for name, change in self.arrays.items()},
            "groups": {name: change.to_dict(keys=keys) for name, change in self.groups.items()},
            "attrs": attributes_to_dict(self.attrs),
            "is_empty": self.is_empty,
            "summary": self.summary(),
        }


def _bar(counts: tuple[int, int, int], most: int) -> str:
    added, removed, modified = counts
    scale = min(1.0, _BAR / most) if most else 0.0
    # What there is shows, however little it is beside the rest.
    return "".join(
        mark * max(1, round(count * scale)) for mark, count in (("+", added), ("~", modified), ("-", removed)) if count
    )


def _text_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"
