"""Finding out what suffers: which commits, columns and keys reach what was found wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.errors import CorruptionError, SchemaError
from hangarlake.records.catalog import Catalog, GroupNode
from hangarlake.records.entries import SOLO
from hangarlake.records.models import Commit
from hangarlake.records.node import Inner, Leaf, Node, NodeRef, decode_node
from hangarlake.storage.base import ObjectStore
from hangarlake.upkeep.entries import TreeKind, key_text, kind_of
from hangarlake.upkeep.findings import Finding, Findings, Place, place_of, value_spot
from hangarlake.upkeep.histories import History
from hangarlake.upkeep.treepacks import TreePacks
from hangarlake.upkeep.trees import read_catalogs

__all__ = ["affected"]

# How many keys, and how many lines, are spelt out.
_KEYS = 3
_LINES = 16
_CATALOGS = 64
_SHORT = 12

#: Finding → how many entries of a subtree suffer, and some of them as text.
Hits: TypeAlias = dict[Finding, tuple[int, tuple[str, ...]]]


@dataclass(slots=True)
class _Suffering:
    commits: int = 0
    oldest: str = ""
    entries: int = 0
    keys: dict[str, None] = field(default_factory=dict)


def affected(
    store: ObjectStore, findings: Findings, packs: TreePacks, history: History, names: dict[str, list[str]]
) -> dict[Finding, tuple[str, ...]]:
    """Return what suffers from each finding, as text.

    Trees are gone through once more: this is done only where something was found.

    Parameters
    ----------
    packs : TreePacks
        What has read the trees.
    names : dict of str to list of str
        The refs that stand on a commit.
    """
    lines = {found: dict(found.affects) for found in findings.list()}
    for found in lines:
        if found.commits:
            _name_commits(lines[found], found, history, names)
        if found.catalogs:
            whole = [commit for commit in history.commits if commit.catalog in found.catalogs]
            if whole:
                lines[found][f"everything in {_since(len(whole), whole[0].id)}"] = None
    if findings.has_places:
        for found, texts in _Search(store, findings, packs).run(history.commits).items():
            lines[found].update(dict.fromkeys(texts))
    return {found: _bounded(list(texts)) for found, texts in lines.items()}


def _name_commits(lines: dict[str, None], found: Finding, history: History, names: dict[str, list[str]]) -> None:
    commits = history.with_descendants(found.commits)
    ids = {commit.id for commit in commits} | found.commits
    for tip, refs in names.items():
        if tip in ids:
            lines.update((f"{ref}: its history", None) for ref in refs)
    after = len(ids) - len(found.commits)
    if after:
        lines[f"{after:,} commit{'s' if after > 1 else ''} that descend{'' if after > 1 else 's'} from it"] = None


def _since(count: int, oldest: str) -> str:
    return f"commit {oldest[:_SHORT]}" if count == 1 else f"{count:,} commits since {oldest[:_SHORT]}"


def _bounded(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= _LINES:
        return tuple(lines)
    return (*lines[: _LINES - 1], f"… and {len(lines) - _LINES + 1:,} more")


class _Search:
    """Goes through the trees of commits, each stored copy of a node once."""

    def __init__(self, store: ObjectStore, findings: Findings, packs: TreePacks) -> None:
        self._store = store
        self._findings = findings
        self._packs = packs
        self._hits: dict[Place, Hits] = {}
        self._clean: set[int] = set()
        self._chunks = set(findings.chunks)

    def run(self, commits: Sequence[Commit]) -> dict[Finding, list[str]]:
        """Return the lines of each finding; `commits` parents first."""
        suffering: dict[tuple[Finding, str], _Suffering] = {}
        for start in range(0, len(commits), _CATALOGS):
            part = commits[start : start + _CATALOGS]
            ids = list(dict.fromkeys(commit.catalog for commit in part))
            catalogs = read_catalogs(self._store, ids, lambda *_: None, lambda _: None)
            per_catalog = {each: self._of_catalog(each, catalog) for each, catalog in catalogs.items()}
            for commit in part:
                for name, hits in per_catalog.get(commit.catalog, {}).items():
                    for found, (count, keys) in hits.items():
                        known = suffering.setdefault((found, name), _Suffering(oldest=commit.id))
                        known.commits += 1
                        known.entries = max(known.entries, count)
                        if len(known.keys) < _KEYS:
                            known.keys.update(dict.fromkeys(keys))
        lines: dict[Finding, list[str]] = {}
        for (found, name), known in suffering.items():
            named = list(known.keys)[:_KEYS]
            text = ", ".join(f"{name}{key}" for key in named)
            more = known.entries - len(named)
            if more > 0:
                text += f" and {more:,} more"
            lines.setdefault(found, []).append(f"{text} in {_since(known.commits, known.oldest)}")
        return lines

    def _of_catalog(self, catalog_id: str, catalog: Catalog) -> dict[str, Hits]:
        out: dict[str, Hits] = {}
        for name, node in catalog.nodes.items():
            if isinstance(node, GroupNode) or node.root is None:
                continue
            try:
                kind = kind_of(node)
            except SchemaError:
                continue
            if node.root.pack is None:
                hits = self._of_inlined(node.root, catalog_id, catalog, kind)
            else:
                hits = self._of_refs([(node.root, b"")], kind)[0]
            if hits:
                out[name] = hits
        return out

    def _of_inlined(self, root: NodeRef, catalog_id: str, catalog: Catalog, kind: TreeKind) -> Hits:
        place = place_of(root, bytes.fromhex(catalog_id))
        try:
            node: Node | None = decode_node(catalog.inlined[root.id], root)
        except CorruptionError:
            node = None
        hits = self._of_node_itself(place, root, b"", kind)
        return _merged([hits, self._of_leaf(node, kind)]) if isinstance(node, Leaf) else hits

    def _of_refs(self, refs: Sequence[tuple[NodeRef, bytes]], kind: TreeKind) -> list[Hits]:
        """Return the hits below some nodes; with each its last key."""
        places = [place_of(ref) for ref, _ in refs]
        todo = [i for i, place in enumerate(places) if place not in self._hits and hash(place) not in self._clean]
        nodes = self._packs.read([refs[i][0] for i in todo], [""] * len(todo), quiet=True)
        for i, node in zip(todo, nodes, strict=True):
            ref, last = refs[i]
            parts = [self._of_node_itself(places[i], ref, last, kind)]
            if isinstance(node, Leaf):
                parts.append(self._of_leaf(node, kind))
            elif isinstance(node, Inner):
                keys = node.keys.tolist()
                below = [each for each in zip(node.children.refs(node.level - 1), keys, strict=True) if each[0].pack]
                parts += self._of_refs(below, kind)
            hits = _merged(parts)
            if hits:
                self._hits[places[i]] = hits
            else:
                self._clean.add(hash(places[i]))
        return [self._hits.get(place, {}) for place in places]

    def _of_node_itself(self, place: Place, ref: NodeRef, last: bytes, kind: TreeKind) -> Hits:
        found = self._findings.nodes.get(place, [])
        text = f"[… {key_text(kind, last)[1:]}" if last else "[…]"
        return dict.fromkeys(found, (ref.count, (text,)))

    def _of_leaf(self, leaf: Leaf, kind: TreeKind) -> Hits:
        findings, entries = self._findings, leaf.entries
        table = entries.table
        rows: dict[Finding, npt.NDArray[np.bool_]] = {}

        def mark(found: list[Finding], where: npt.NDArray[np.bool_]) -> None:
            for each in found:
                rows[each] = rows[each] | where if each in rows else where

        if findings.packs:
            for code, pack in enumerate(table.pack_ids):
                if pack in findings.packs:
                    mark(findings.packs[pack], table.packs == code)
        if findings.packs or self._chunks:
            for row, digest in enumerate(_digests(table.digests)):
                here = np.arange(len(table)) == row
                if digest in self._chunks:
                    mark(findings.chunks[digest], here)
                if table.packs[row] == SOLO and digest in findings.packs:
                    mark(findings.packs[digest], here)
        first, spans = entries.rows.astype(np.int64), entries.spans()
        out: dict[Finding, list[int]] = {}
        for found, bad in rows.items():
            before = np.concatenate([[0], np.cumsum(bad)])
            suffering = np.flatnonzero(before[first + spans] > before[first]).tolist()
            if suffering:
                out[found] = suffering
        if findings.values:
            chunks = _digests(table.digests)
            for i, value in enumerate(_digests(entries.digests)):
                if first[i] < len(chunks):
                    spot = value_spot(value, chunks[int(first[i])], int(entries.index[i]))
                    for found in findings.values.get(spot, []):
                        out.setdefault(found, []).append(i)
        return {
            found: (len(which), tuple(key_text(kind, bytes(entries.keys[i])) for i in which[:_KEYS]))
            for found, which in out.items()
        }


def _digests(array: npt.NDArray[np.uint8]) -> list[bytes]:
    data = array.tobytes()
    return [data[i : i + 20] for i in range(0, len(data), 20)]


def _merged(parts: Sequence[Hits]) -> Hits:
    out: Hits = {}
    for hits in parts:
        for found, (count, keys) in hits.items():
            known, some = out.get(found, (0, ()))
            out[found] = known + count, (*some, *keys)[:_KEYS]
    return out
