"""Checking catalogs and trees: every node that commits reach, each stored copy once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from blake3 import blake3

from hangarlake.errors import CorruptionError, ObjectNotFoundError, SchemaError
from hangarlake.records.canonical import digest
from hangarlake.records.catalog import Catalog, GroupNode, catalog_key
from hangarlake.records.models import Commit
from hangarlake.records.node import Inner, Leaf, Node, NodeRef, decode_node
from hangarlake.records.tree import cut_points
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.executors import map_io
from hangarlake.upkeep.entries import TreeKind, entry_faults, kind_of
from hangarlake.upkeep.findings import Findings, place_of
from hangarlake.upkeep.treepacks import TreePacks

__all__ = ["LeafTaker", "TreeChecker", "read_catalogs"]

_RESTORE = "restore it from a clone or a backup"
_FAULT = "whoever wrote it has a fault"
_CATALOGS = 64  # that are in memory at once
_NODES = 128  # likewise


class LeafTaker(Protocol):
    """Takes the leaves whose data is to be checked."""

    def take(self, leaf: Leaf, kind: TreeKind, holder: str, commit: Commit) -> None:
        """Take a sound leaf; `holder` is the key of the object that it lies in, `commit` the first one that reaches it."""


@dataclass(frozen=True, slots=True)
class _Visit:
    """A node to look at, and what its neighbours say of it: its keys are greater than `low`, and the last one is `high`."""

    ref: NodeRef
    source: str
    kind: TreeKind
    low: bytes
    high: bytes | None
    last: bool


def read_catalogs(
    store: ObjectStore, ids: Sequence[str], failed: Callable[[str, str, str], None], read: Callable[[int], None]
) -> dict[str, Catalog]:
    """Read catalogs; `failed` is told the id, the kind and the words for those that are not right."""

    def get(catalog_id: str) -> bytes | None:
        try:
            return store.get(catalog_key(catalog_id))
        except ObjectNotFoundError:
            return None

    found = {}
    for catalog_id, data in zip(ids, map_io(get, ids), strict=True):
        if data is None:
            failed(catalog_id, "missing", f"the catalog is not there; {_RESTORE}")
            continue
        read(len(data))
        try:
            found[catalog_id] = Catalog.decode(catalog_id, data)
        except CorruptionError as error:
            failed(catalog_id, "damaged", str(error))
    return found


class TreeChecker:
    """Walks the trees of commits, parents first, so that a subtree is met by the commit that wrote it.

    It remembers 16 bytes (about 100 in memory) for each stored node, and reads shared subtrees once: those at the same place,
    between the same keys.

    Parameters
    ----------
    taker : LeafTaker, optional
        Given every leaf that is read.
    """

    def __init__(self, store: ObjectStore, findings: Findings, taker: LeafTaker | None = None) -> None:
        self.packs = TreePacks(store, findings)
        self._store = store
        self._findings = findings
        self._taker = taker
        self._seen: set[bytes] = set()
        # Nobody can write nodes that are taken for others.
        self._hash = blake3(key=secrets.token_bytes(32))
        self._kinds: dict[TreeKind, int] = {}

    def check(self, commits: Sequence[Commit]) -> None:
        """Check the catalogs and trees of commits."""
        first: dict[str, Commit] = {}
        for commit in commits:
            first.setdefault(commit.catalog, commit)
        ids = list(first)
        for start in range(0, len(ids), _CATALOGS):
            part = ids[start : start + _CATALOGS]
            catalogs = read_catalogs(
                self._store,
                part,
                lambda each, kind, what: self._findings.add(catalog_key(each), kind, what, catalog=each),
                lambda size: self._findings.read("trees", size),
            )
            self._findings.count(catalogs=len(catalogs))
            self.packs.load(
                node.root.pack
                for each in part
                if each in catalogs
                for node in catalogs[each].nodes.values()
                if node.root is not None and node.root.pack is not None and self._is_new_root(node.root)
            )
            for each in part:
                if each in catalogs:
                    self._check_catalog(each, catalogs[each], first[each])

    def _is_new_root(self, root: NodeRef) -> bool:
        return not any(
            self._identity(_Visit(root, "", kind, b"", None, True), code) in self._seen
            for kind, code in self._kinds.items()
        )

    def _check_catalog(self, catalog_id: str, catalog: Catalog, commit: Commit) -> None:
        key = catalog_key(catalog_id)
        if digest(catalog.logical_text.encode()) != catalog_id:
            return  # decode has said so
        visits = []
        for name, node in catalog.nodes.items():
            if isinstance(node, GroupNode):
                continue
            try:
                kind = kind_of(node)
            except SchemaError as error:
                self._findings.add(key, "mismatch", f"{name!r}: {error}; {_FAULT}", catalog=catalog_id)
                continue
            root = node.root
            if root is None:
                continue
            visit = _Visit(root, key, kind, b"", None, True)
            if root.pack is None:
                self._check_inlined(visit, catalog_id, catalog.inlined[root.id], commit)
            else:
                visits.append(visit)
        self._descend(visits, commit)

    def _check_inlined(self, visit: _Visit, catalog_id: str, data: bytes, commit: Commit) -> None:
        place = place_of(visit.ref, bytes.fromhex(catalog_id))
        try:
            node = decode_node(data, visit.ref)
        except CorruptionError as error:
            what = f"a small tree in it cannot be read: {error.__cause__ or error}; {_RESTORE}"
            self._findings.add(visit.source, "mismatch", what, node=place)
            return
        self._look(visit, node, visit.source, place, commit)

    # ---- nodes -------------------------------------------------------------------------------------------------------

    def _descend(self, visits: Iterable[_Visit], commit: Commit) -> None:
        fresh = [visit for visit in visits if self._meet(visit)]
        for start in range(0, len(fresh), _NODES):
            batch = fresh[start : start + _NODES]
            nodes = self.packs.read([visit.ref for visit in batch], [visit.source for visit in batch])
            for visit, node in zip(batch, nodes, strict=True):
                if node is not None:
                    self._look(visit, node, visit.ref.key, place_of(visit.ref), commit)

    def _identity(self, visit: _Visit, code: int) -> bytes:
        ref = visit.ref
        numbers = (ref.level, ref.count, ref.offset, ref.length, code, len(visit.low), visit.last)
        hasher = self._hash.copy()
        hasher.update(b"%b%b%b%b%b" % (ref.id, ref.pack or b"", repr(numbers).encode(), visit.low, visit.high or b""))
        found: bytes = hasher.digest(16)
        return found

    def _meet(self, visit: _Visit) -> bool:
        """Tell whether a node has not been looked at in the same light."""
        code = self._kinds.setdefault(visit.kind, len(self._kinds))
        identity = self._identity(visit, code)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def _look(self, visit: _Visit, node: Node, holder: str, place: tuple[bytes, bytes, int], commit: Commit) -> None:
        self._findings.count(nodes=1)
        faults = list(_node_faults(visit, node))
        if isinstance(node, Leaf):
            faults += [what for what, _ in entry_faults(visit.kind, node.entries)]
        for what in faults:
            kind = "unsupported" if what.startswith("unsupported") else "mismatch"
            self._findings.add(holder, kind, f"a tree node in it is not as it should be: {what}; {_FAULT}", node=place)
        if isinstance(node, Inner):
            self._descend(_children(visit, node), commit)
        elif self._taker is not None and not faults:
            self._taker.take(node, visit.kind, holder, commit)


def _children(visit: _Visit, node: Inner) -> list[_Visit]:
    keys = node.keys.tolist()
    refs = node.children.refs(node.level - 1)
    end = len(refs) - 1
    return [
        _Visit(ref, visit.ref.key, visit.kind, keys[i - 1] if i else visit.low, keys[i], visit.last and i == end)
        for i, ref in enumerate(refs)
        if ref.pack is not None
    ]


def _node_faults(visit: _Visit, node: Node) -> list[str]:
    faults = []
    keys = node.keys
    if visit.high is not None and keys[-1] != visit.high:
        faults.append("its last key is not the one under which it is listed")
    if isinstance(node, Inner) and bool((keys[1:] <= keys[:-1]).any()):
        faults.append("its keys are not in order")
    if keys[0] <= visit.low:
        faults.append("it begins with a key that belongs to its neighbour")
    cuts = cut_points(keys, node.level)
    if cuts != [len(keys)] and not (visit.last and not cuts):
        faults.append("it does not end where the rule of boundaries says, so equal content would get another id")
    if visit.high is None and isinstance(node, Inner) and len(keys) == 1:
        faults.append("it is a root with one child, so equal content would get another id")
    return faults
