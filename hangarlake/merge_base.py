"""What a merge is measured against: the merge base, or where there are several, what a merge of these gives.

Criss-cross histories have several best common ancestors. One of them alone is a wrong base: what only another one brought in would look
like a change of whichever side kept it. So they are merged first, one after the other, as git's recursive strategy does; what
conflicts between them is given a value that no side can have, so that both sides count as having changed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hangarlake.chunks.digests import blake3_160
from hangarlake.records.catalog import Catalog, CatalogNode, GroupNode
from hangarlake.records.conflicts import Assign, Decision, RawConflict, Resolution
from hangarlake.records.entries import Entries
from hangarlake.records.graph import Graph
from hangarlake.records.merge import merge_catalogs
from hangarlake.records.models import Commit
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.renames import compose, inverse
from hangarlake.records.tree import apply_edits
from hangarlake.session import Session

__all__ = ["MergeBase", "merge_base_of"]

# Bases of bases that are merged; further down one of them stands for all. Histories that cross this often in a row are rare.
_DEEPEST = 16

# The digest and the attribute that stand for “the bases do not agree”. Nothing hashes to the one, nobody sets the other.
_DISPUTED = blake3_160(b"hangarlake: the merge bases do not agree")
_DISPUTED_ATTRIBUTE = f"disputed {_DISPUTED.hex()}"


@dataclass(frozen=True, slots=True)
class MergeBase:
    """A base of a merge.

    Attributes
    ----------
    catalog : Catalog
        Empty for unrelated histories.
    renames_ours, renames_theirs : mapping of str to str
        Name in the base → name on each side.
    nodes : StagedNodes or None
        Nodes of a base that is no commit.
    """

    catalog: Catalog
    renames_ours: Mapping[str, str] = field(default_factory=dict)
    renames_theirs: Mapping[str, str] = field(default_factory=dict)
    nodes: StagedNodes | None = None

    def shown(self, conflict: RawConflict) -> RawConflict:
        """Return a conflict as a person is to see it: a base that the bases do not agree on is none."""
        base = conflict.base
        if base is not None and (base.digest == _DISPUTED.hex() or base.value == _DISPUTED_ATTRIBUTE):
            return replace(conflict, base=None)
        return conflict


def merge_base_of(session: Session, ours: Commit, theirs: Commit) -> MergeBase:
    """Return what a merge of two commits is measured against. Clocks have no say."""
    return _base(session, ours, theirs, StagedNodes(session.nodes), 0)


def _base(session: Session, ours: Commit, theirs: Commit, staged: StagedNodes, depth: int) -> MergeBase:
    graph = session.graph
    bases = graph.merge_bases(ours.id, theirs.id)
    if not bases:
        return MergeBase(Catalog())
    # Of several, the same order for everybody: everybody gets the same base.
    first, *others = sorted(bases, key=lambda base: (-graph.commit(base).generation, base))
    if not others or depth == _DEEPEST:
        catalog = session.catalog(graph.commit(first).catalog)
        return MergeBase(catalog, graph.renames_between(first, ours.id), graph.renames_between(first, theirs.id))
    catalog = session.catalog(graph.commit(first).catalog)
    virtual = _Virtual(catalog, {name: [(first, name)] for name in catalog.nodes})
    earlier = first
    for base in others:
        below = _base(session, graph.commit(earlier), graph.commit(base), staged, depth + 1)
        virtual = _join(session, virtual, earlier, base, below, staged)
        earlier = base
    return MergeBase(virtual.catalog, _names(graph, virtual, ours.id), _names(graph, virtual, theirs.id), staged)


@dataclass(frozen=True, slots=True)
class _Virtual:
    """A merge of several commits: its catalog, and for each of its nodes the commits that have it, and under which names."""

    catalog: Catalog
    origins: dict[str, list[tuple[str, str]]]


def _join(
    session: Session, virtual: _Virtual, earlier: str, base: str, below: MergeBase, staged: StagedNodes
) -> _Virtual:
    """Merge one more base into what others gave; `below` is the base of `earlier` (one of these) and `base`."""
    catalog = session.catalog(session.graph.commit(base).catalog)
    now = {at: name for name, origins in virtual.origins.items() for commit, at in origins if commit == earlier}
    to_virtual = compose(below.renames_ours, {at: name for at, name in now.items() if at != name})
    disputed: dict[str, list[tuple[bytes, Entries]]] = {}

    def decide(conflict: RawConflict) -> Decision:
        side = conflict.ours or conflict.theirs
        if conflict.kind == "attribute":
            return Assign(_DISPUTED_ATTRIBUTE)
        entry = side.entry if side is not None and conflict.key is not None else None
        if entry is not None:
            disputed.setdefault(conflict.node, []).append((bytes(entry.keys[0]), entry))
        return Resolution.REMOVE

    result = merge_catalogs(
        below.catalog,
        virtual.catalog,
        catalog,
        renames_ours=to_virtual,
        renames_theirs=below.renames_theirs,
        source=staged,
        sink=staged,
        decide=decide,
    )
    nodes: dict[str, CatalogNode] = dict(result.catalog.nodes)
    for name, found in disputed.items():
        node = nodes.get(name)
        if node is not None and not isinstance(node, GroupNode):
            nodes[name] = replace(node, root=apply_edits(node.root, _marked(found), _NO_KEYS, staged, staged))
    before_virtual, before_base = (inverse(renames) for renames in result.renames)
    origins: dict[str, list[tuple[str, str]]] = {}
    for name in nodes:
        origins[name] = list(virtual.origins.get(before_virtual.get(name, name), []))
        at = before_base.get(name, name)
        if at in catalog.nodes:
            origins[name].append((base, at))
    return _Virtual(result.catalog.with_nodes(nodes), origins)


_NO_KEYS = np.empty(0, "S1")


def _marked(found: list[tuple[bytes, Entries]]) -> Entries:
    """Return entries whose values nobody can have."""
    entries = Entries.concat([entry for _, entry in sorted(found, key=lambda pair: pair[0])]).compact()
    return replace(entries, digests=np.tile(np.frombuffer(_DISPUTED, np.uint8), (len(entries), 1)))


def _names(graph: Graph, virtual: _Virtual, side: str) -> dict[str, str]:
    """Return the names that the nodes of a merged base have on one side, where they differ."""
    renames: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for name, origins in virtual.origins.items():
        for commit, at in origins:
            if commit not in renames:
                renames[commit] = graph.renames_between(commit, side)
            now = renames[commit].get(at, at)
            if now != name:
                names[name] = now
            break
    return names
