"""Three-way merge of catalogs, with typed conflicts.

Pure functions over nodes. What a merge gives always satisfies the schemas of its columns: trees are merged only where both sides agree on
what the values are; anything else is a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode, GroupNode
from hangarlake.records.conflicts import Arbiter, ConflictKind, Decide, RawConflict, RawSide, Resolution
from hangarlake.records.diff import same_json, same_node, split_metadata
from hangarlake.records.keys import decode_grid
from hangarlake.records.renames import Thread, threads
from hangarlake.records.tree import NodeSink, NodeSource
from hangarlake.records.tree_diff import same_root
from hangarlake.records.tree_merge import Labels, TreePlan, carry_out, plan_merge

__all__ = ["ArrayMerger", "MergeResult", "common_axis", "merge_catalogs"]

ArrayMerger: TypeAlias = Callable[
    [str, ArrayNode, ArrayNode, ArrayNode], ArrayNode | list[RawConflict] | tuple[ArrayNode, ArrayNode] | None
]


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge of catalogs gives.

    Attributes
    ----------
    catalog : Catalog
        Valid as it is; where there are unresolved conflicts, ours stands.
    conflicts : tuple of RawConflict
        Unresolved.
    assignments : tuple of (node name, key, value)
        Keys that were resolved by a value of their own: to be set in the merged catalog.
    renames : (dict, dict)
        Old name → new name, relative to ours and relative to theirs.
    """

    catalog: Catalog
    conflicts: tuple[RawConflict, ...]
    assignments: tuple[tuple[str, Any, Any], ...]
    renames: tuple[dict[str, str], dict[str, str]]


def merge_catalogs(
    base: Catalog,
    ours: Catalog,
    theirs: Catalog,
    *,
    renames_ours: Mapping[str, str],
    renames_theirs: Mapping[str, str],
    source: NodeSource,
    sink: NodeSink,
    decide: Decide | None = None,
    array_merger: ArrayMerger | None = None,
) -> MergeResult:
    """Merge what two sides did to a base.

    Parameters
    ----------
    base : Catalog
        An empty one merges unrelated histories.
    ours, theirs : Catalog
        To replay staged changes on a new head: the head, and the staged catalog.
    renames_ours, renames_theirs : mapping of str to str
        Name in the base → name on that side, for all that was renamed since.
    source, sink : NodeSource, NodeSink
    decide : callable, optional
        Asked once for each conflict; ``None`` for an answer leaves it unresolved.
    array_merger : callable, optional
        Asked first for arrays that both sides changed: a merged node, conflicts that stay unresolved, ours and theirs to merge by
        chunk in their place, or ``None`` to merge by chunk.

    Raises
    ------
    ValueError
        If a conflict of a whole node is answered with a value.
    """
    merge = _CatalogMerge((base, ours, theirs), source, sink, Arbiter(decide), array_merger)
    return merge.run(threads(base.nodes, ours.nodes, theirs.nodes, renames_ours, renames_theirs))


_Present: TypeAlias = tuple[CatalogNode | None, CatalogNode | None, CatalogNode | None]


class _CatalogMerge:
    def __init__(
        self,
        sides: tuple[Catalog, Catalog, Catalog],
        source: NodeSource,
        sink: NodeSink,
        arbiter: Arbiter,
        array_merger: ArrayMerger | None,
    ) -> None:
        self.sides = sides
        self.source = source
        self.sink = sink
        self.arbiter = arbiter
        self.array_merger = array_merger

    def run(self, traced: Sequence[Thread]) -> MergeResult:
        attrs = self.arbiter.merge_attributes("", *(side.attrs for side in self.sides))
        placed = self._settle_names([t for t in map(self._settle_presence, traced) if t is not None])
        nodes: dict[str, CatalogNode] = {}
        for name in sorted(placed):
            node = self._merge_node(name, placed[name])
            if node is not None:
                nodes[name] = node
        self._keep_hierarchy(nodes, placed)
        kept = {name: thread for name, thread in placed.items() if name in nodes}
        inlined: dict[bytes, bytes] = {}
        for node in nodes.values():
            if node.root is not None and node.root.pack is None:
                stored = next((s.inlined[node.root.id] for s in self.sides if node.root.id in s.inlined), None)
                if stored is not None:
                    inlined[node.root.id] = stored
        return MergeResult(
            Catalog(MappingProxyType(nodes), MappingProxyType(attrs), inlined),
            tuple(self.arbiter.unresolved),
            tuple(a for a in self.arbiter.assignments if a[0] in nodes),
            (
                {t.ours: name for name, t in kept.items() if t.ours not in (None, name)},
                {t.theirs: name for name, t in kept.items() if t.theirs not in (None, name)},
            ),
        )

    # ---- which nodes there are, and their names

    def _present(self, thread: Thread) -> _Present:
        base, ours, theirs = self.sides
        return (
            None if thread.base is None else base.nodes[thread.base],
            None if thread.ours is None else ours.nodes[thread.ours],
            None if thread.theirs is None else theirs.nodes[thread.theirs],
        )

    def _conflict(self, name: str, kind: ConflictKind, thread: Thread) -> RawConflict:
        names = (thread.base, thread.ours, thread.theirs)
        pairs = zip(self._present(thread), names, strict=True)
        return RawConflict(name, None, kind, *(None if n is None else RawSide(node=n, name=at) for n, at in pairs))

    def _settle_presence(self, thread: Thread) -> Thread | None:
        """Return the thread if its node goes on: removed against changed or renamed is a conflict."""
        if not thread.names:
            return None
        base, ours, theirs = self._present(thread)
        if base is None or (ours is not None and theirs is not None):
            return thread
        left = ours or theirs
        name = thread.ours or thread.theirs
        assert left is not None
        assert name is not None
        if name == thread.base and same_node(base, left):
            return None
        decision = self.arbiter.of_node(self._conflict(name, "node-removed", thread))
        keeps = Resolution.THEIRS if ours is None else Resolution.OURS
        return thread if decision is keeps else None

    def _settle_names(self, traced: Sequence[Thread]) -> dict[str, Thread]:
        """Give every node one name. Who loses a name to another node falls back on its name on the other side, or is dropped."""
        placed: dict[str, Thread] = {}
        waiting = [(thread, self._wanted_names(thread)) for thread in reversed(traced)]
        fallback: dict[Thread, list[str]] = {}
        while waiting:
            thread, names = waiting.pop()
            if not names:
                continue
            name = names[0]
            fallback[thread] = names[1:]
            rival = placed.get(name)
            if rival is None:
                placed[name] = thread
                continue
            # Each side has one node of that name, so one of the two has it from ours and the other from theirs.
            mine, other = (thread, rival) if thread.ours == name else (rival, thread)
            sides = (self._present(mine)[1], self._present(other)[2])
            described = [None if node is None else RawSide(node=node, name=name) for node in sides]
            decision = self.arbiter.of_node(RawConflict(name, None, "rename", None, *described))
            if decision is Resolution.REMOVE:
                del placed[name]
                continue
            winner, loser = (mine, other) if decision is Resolution.OURS else (other, mine)
            placed[name] = winner
            waiting.append((loser, fallback[loser]))
        return placed

    def _wanted_names(self, thread: Thread) -> list[str]:
        names = list(thread.names)
        if thread.renamed_twice:
            decision = self.arbiter.of_node(self._conflict(names[0], "rename", thread))
            if decision is Resolution.REMOVE:
                return []
            if decision is Resolution.THEIRS:
                names.reverse()
        return names

    # ---- what nodes hold

    def _merge_node(self, name: str, thread: Thread) -> CatalogNode | None:
        base, ours, theirs = self._present(thread)
        if ours is None or theirs is None:
            return ours or theirs
        if same_node(ours, theirs) or (base is not None and same_node(base, theirs)):
            merged: CatalogNode | None = ours
        elif base is not None and same_node(base, ours):
            merged = theirs
        elif isinstance(ours, ColumnNode) and isinstance(theirs, ColumnNode):
            merged = self._merge_columns(name, thread, base if isinstance(base, ColumnNode) else None, ours, theirs)
        elif isinstance(ours, ArrayNode) and isinstance(theirs, ArrayNode):
            merged = self._merge_arrays(name, thread, base if isinstance(base, ArrayNode) else None, ours, theirs)
        elif isinstance(ours, GroupNode) and isinstance(theirs, GroupNode):
            merged = self._merge_groups(name, thread, base if isinstance(base, GroupNode) else None, ours, theirs)
        else:
            merged = self._choose(name, "layout", thread)
        return None if merged is None else _with_encoding(merged, base, ours, theirs)

    def _choose(self, name: str, kind: ConflictKind, thread: Thread) -> CatalogNode | None:
        """Have a whole node chosen."""
        _, ours, theirs = self._present(thread)
        decision = self.arbiter.of_node(self._conflict(name, kind, thread))
        return {Resolution.OURS: ours, Resolution.THEIRS: theirs, Resolution.REMOVE: None}[decision]

    def _labels(self, name: str, thread: Thread, ndim: int | None = None) -> Labels:
        names = (thread.base, thread.ours, thread.theirs)
        return Labels(name, ndim, tuple(zip(self._present(thread), names, strict=True)))

    def _merge_columns(
        self, name: str, thread: Thread, base: ColumnNode | None, ours: ColumnNode, theirs: ColumnNode
    ) -> CatalogNode | None:
        schema = ours.schema
        if ours.schema == theirs.schema:
            # Values of another schema than both sides have now are no base for anything.
            before = base.root if base is not None and base.schema == schema else None
            plan = plan_merge(before, ours.root, theirs.root, self.source)
            root = carry_out(plan, self._labels(name, thread), self.arbiter, self.source, self.sink)
        elif base is not None and base.schema == theirs.schema and same_root(base.root, theirs.root):
            root = ours.root
        elif base is not None and base.schema == ours.schema and same_root(base.root, ours.root):
            schema, root = theirs.schema, theirs.root
        else:
            layouts = {(side.schema.kind, side.schema.nested) for side in (ours, theirs)}
            return self._choose(name, "schema" if len(layouts) == 1 else "layout", thread)
        attrs = self.arbiter.merge_attributes(name, base.attrs if base is not None else {}, ours.attrs, theirs.attrs)
        return ColumnNode(schema, root, attrs, ours.encoding)

    def _merge_arrays(
        self, name: str, thread: Thread, base: ArrayNode | None, ours: ArrayNode, theirs: ArrayNode
    ) -> CatalogNode | None:
        if base is not None and self.array_merger is not None:
            answer = self.array_merger(name, base, ours, theirs)
            if isinstance(answer, ArrayNode):
                return answer
            if isinstance(answer, tuple):
                ours, theirs = answer
            elif answer is not None:
                self.arbiter.unresolved.extend(answer)
                return ours
        core = _merged_core(base, ours, theirs)
        axis = None if base is None else common_axis(base, ours, theirs)
        if core is None:
            return self._choose(name, "array-metadata" if axis is None else "append", thread)
        plan = plan_merge(base.root if base is not None else None, ours.root, theirs.root, self.source)
        if base is not None and axis is not None and _collide_beyond(base, axis, plan):
            return self._choose(name, "append", thread)
        labels = self._labels(name, thread, len(_shape(core)))
        root = carry_out(plan, labels, self.arbiter, self.source, self.sink)
        return ArrayNode(self._with_attributes(name, core, base, ours, theirs), root, ours.encoding)

    def _merge_groups(
        self, name: str, thread: Thread, base: GroupNode | None, ours: GroupNode, theirs: GroupNode
    ) -> CatalogNode | None:
        core = _merged_core(base, ours, theirs)
        if core is None:
            return self._choose(name, "array-metadata", thread)
        return GroupNode(self._with_attributes(name, core, base, ours, theirs))

    def _with_attributes(
        self,
        name: str,
        core: Mapping[str, Any],
        base: ArrayNode | GroupNode | None,
        ours: ArrayNode | GroupNode,
        theirs: ArrayNode | GroupNode,
    ) -> dict[str, Any]:
        b, o, t = (None if side is None else split_metadata(side.metadata)[1] for side in (base, ours, theirs))
        attrs = self.arbiter.merge_attributes(name, b or {}, o or {}, t or {})
        mentioned = o is not None if (o is None) != (b is None) else t is not None
        return {**core, "attributes": attrs} if attrs or mentioned else dict(core)

    # ---- paths

    def _keep_hierarchy(self, nodes: dict[str, CatalogNode], placed: dict[str, Thread]) -> None:
        """Have nodes decided that cannot be where they are with what the other side did to the path above them."""
        base, ours, theirs = self.sides
        for name in sorted(nodes):
            parts = name.split("/")
            for above in ("/".join(parts[:n]) for n in range(1, len(parts))):
                if name not in nodes or not _is_displaced(above, name, nodes, (ours, theirs)):
                    continue
                sides = [
                    RawSide(node=side.nodes[name], name=name) if name in side.nodes else None
                    for side in (base, ours, theirs)
                ]
                decision = self.arbiter.of_node(RawConflict(name, None, "layout", *sides))
                if decision is Resolution.REMOVE:
                    del nodes[name]
                    continue
                chosen = ours if decision is Resolution.OURS else theirs
                if name not in chosen.nodes:
                    del nodes[name]
                    continue
                # The path above is taken back from that side; what was moved there goes back to where that side has it.
                displaced, thread = nodes.pop(above, None), placed.pop(above, None)
                if above in chosen.nodes:
                    nodes[above] = chosen.nodes[above]
                back = None if thread is None else thread.ours if chosen is ours else thread.theirs
                if displaced is not None and thread is not None and back is not None and back not in nodes:
                    nodes[back], placed[back] = displaced, thread


def _is_displaced(above: str, name: str, nodes: Mapping[str, CatalogNode], sides: Sequence[Catalog]) -> bool:
    """Tell whether what is at the path `above` has no room for the node `name`, and neither side had them so."""
    top = nodes.get(above)
    if isinstance(top, GroupNode):
        return False
    if top is not None:
        if not _bars(top, nodes[name]):
            return False
        return not any(name in s.nodes and above in s.nodes and _bars(s.nodes[above], s.nodes[name]) for s in sides)
    if isinstance(nodes[name], ColumnNode):
        return False
    holders = [s.nodes.get(above) for s in sides if name in s.nodes]
    return bool(holders) and all(isinstance(holder, GroupNode) for holder in holders)


def _bars(top: CatalogNode, below: CatalogNode) -> bool:
    return isinstance(top, ArrayNode) or (isinstance(top, ColumnNode) and not isinstance(below, ColumnNode))


def _with_encoding(node: CatalogNode, base: CatalogNode | None, ours: CatalogNode, theirs: CatalogNode) -> CatalogNode:
    """Give a merged node the encoding that was changed last; ours, if both changed it."""
    if isinstance(node, GroupNode) or isinstance(ours, GroupNode) or isinstance(theirs, GroupNode):
        return node
    before = None if base is None or isinstance(base, GroupNode) else base.encoding
    encoding = theirs.encoding if before is not None and same_json(before, ours.encoding) else ours.encoding
    return node if node.encoding is encoding else replace(node, encoding=encoding)


# ---- metadata of arrays and groups ----------------------------------------------------------------------------------------

# Changing these leaves every chunk valid (a shape as long as it only grows).
_HARMLESS = {"shape", "dimension_names"}


def _core(node: ArrayNode | GroupNode) -> dict[str, Any]:
    return split_metadata(node.metadata)[0]


def _shape(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    shape = metadata.get("shape")
    return tuple(shape) if isinstance(shape, list | tuple) else ()


def _merged_core(
    base: ArrayNode | GroupNode | None, ours: ArrayNode | GroupNode, theirs: ArrayNode | GroupNode
) -> dict[str, Any] | None:
    """Merge ``zarr.json`` without attributes; ``None`` if that cannot be, or chunks of one side would not fit what the other made of it."""
    o, t = _core(ours), _core(theirs)
    if same_json(o, t):
        return o
    if base is None:
        return None
    b = _core(base)
    if same_json(b, o) and (same_root(base.root, ours.root) or _keeps_chunks(b, t)):
        return t
    if same_json(b, t) and (same_root(base.root, theirs.root) or _keeps_chunks(b, o)):
        return o
    return None


def _keeps_chunks(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if not same_json(*({k: v for k, v in m.items() if k not in _HARMLESS} for m in (old, new))):
        return False
    a, b = _shape(old), _shape(new)
    return len(a) == len(b) and all(x <= y for x, y in zip(a, b, strict=True))


def _grown_axis(old: ArrayNode, new: ArrayNode) -> int | None:
    """Return the axis along which an array grew, if that is all that happened to its metadata."""
    before, after = _core(old), _core(new)
    if not same_json({**before, "shape": None}, {**after, "shape": None}):
        return None
    a, b = _shape(before), _shape(after)
    axes = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    return axes[0] if len(a) == len(b) and len(axes) == 1 and a[axes[0]] < b[axes[0]] else None


def common_axis(base: ArrayNode, ours: ArrayNode, theirs: ArrayNode) -> int | None:
    """Return the axis along which both sides grew an array, if that is all that they did to its metadata."""
    axis = _grown_axis(base, ours)
    return axis if axis == _grown_axis(base, theirs) else None


def _collide_beyond(base: ArrayNode, axis: int, plan: TreePlan) -> bool:
    """Tell whether both sides wrote different values beyond the old end of an array: then these are two appends."""
    shape = _shape(base.metadata)
    grid = base.metadata.get("chunk_grid", {})
    chunk_shape = grid.get("configuration", {}).get("chunk_shape") if grid.get("name") == "regular" else None
    first = shape[axis] // chunk_shape[axis] if chunk_shape and chunk_shape[axis] else 0
    return any(bool((decode_grid(c.keys, len(shape))[:, axis] >= first).any()) for c in plan.contested)
