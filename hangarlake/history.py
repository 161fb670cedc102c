"""Looking at history through one column, array or sample, and undoing or repeating single commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from hangarlake.errors import CorruptionError, NodeNotFoundError, ObjectNotFoundError, SchemaError
from hangarlake.merging import Change, Resolve, apply_change
from hangarlake.publish import Published
from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode, catalog_key
from hangarlake.records.diff import same_node
from hangarlake.records.keys import as_key_array, encode_key, grid_key, next_prefix, sample_prefix
from hangarlake.records.models import Commit
from hangarlake.records.node import Node, NodeRef, decode_node
from hangarlake.records.nodes import NodeStore
from hangarlake.records.renames import inverse
from hangarlake.records.tree import NodeSource, find, iter_leaves
from hangarlake.records.tree_diff import same_root
from hangarlake.session import Session
from hangarlake.storage.executors import map_io

__all__ = ["cherry_pick", "log_of_node", "revert"]

# Commits whose catalogs are read together.
_WINDOW = 64


# ---- logs of one node ---------------------------------------------------------------------------------------------------


def log_of_node(
    session: Session, tip: str, node: str, key: Any = None, *, exclude: Sequence[str] = ()
) -> Iterator[Commit]:
    """Yield the commits that changed a column, array or group (or one key of it), children before parents.

    A commit changed it if it holds something else than each of its parents; a merge that takes over what one of its parents
    has is not among them. Renames are followed backwards. No commit is left out: the walk goes down every parent, as far as it
    does not come to what can be reached from the commits `exclude`.

    Raises
    ------
    NodeNotFoundError
        At the end, if no commit that was walked ever held it.
    """
    follower = _Follower(session, key)
    names: dict[str, set[str]] = {tip: {node}}
    seen, count = False, 0
    walk = session.graph.walk([tip], exclude=exclude)
    while window := list(islice(walk, _WINDOW)):
        count += len(window)
        follower.read(window)
        for commit in window:
            changed = False
            for name in sorted(names.pop(commit.id, ())):
                below = [_name_in_parent(renames, name) for renames in commit.renames]
                for parent, before in zip(commit.parents, below, strict=True):
                    if before is not None:
                        names.setdefault(parent, set()).add(before)
                seen = seen or follower.holds(commit, name)
                changed = changed or follower.changed(commit, name, below)
            if changed:
                yield commit
    if count and not seen:
        which = f"none of {count:,} commits up to {tip[:12]}" if exclude else f"no commit up to {tip[:12]} ever"
        raise NodeNotFoundError(f"{which} held a column, array or group {node!r}")


def _name_in_parent(renames: dict[str, str], name: str) -> str | None:
    """Return what a parent called a node; ``None`` if its node of that name is another one, which was renamed."""
    before = inverse(renames).get(name)
    if before is not None:
        return before
    return None if name in renames else name


class _Follower:
    """Compares a node (or a key of it) between commits and their parents, keeping the catalogs of a window of the walk."""

    def __init__(self, session: Session, key: Any) -> None:
        self._session = session
        self._key = key
        self._catalogs: dict[str, Catalog] = {}

    def read(self, commits: Sequence[Commit]) -> None:
        """Read the catalogs of commits and their parents in one round trip."""
        graph = self._session.graph
        ids = {commit.catalog for commit in commits}
        ids |= {parent.catalog for commit in commits for parent in graph.commits(commit.parents)}
        missing = sorted(ids - set(self._catalogs))
        kept = {catalog_id: self._catalogs[catalog_id] for catalog_id in ids if catalog_id in self._catalogs}
        self._catalogs = kept | dict(zip(missing, map_io(self._catalog, missing), strict=True))

    def _catalog(self, catalog_id: str) -> Catalog:
        # Past the cache of the session: a long walk would push out what is in use.
        key = catalog_key(catalog_id)
        try:
            return Catalog.decode(catalog_id, self._session.store.get(key))
        except ObjectNotFoundError as error:
            raise CorruptionError(
                f"catalog {key} is missing from {self._session.url}; fetch it from a clone that has it"
            ) from error

    def holds(self, commit: Commit, name: str) -> bool:
        return name in self._catalogs[commit.catalog].nodes

    def changed(self, commit: Commit, name: str, below: Sequence[str | None]) -> bool:
        """Tell whether a commit holds something else than each of its parents."""
        now = self._catalogs[commit.catalog]
        if not commit.parents:
            return self._differs((None, None), (now, name))
        parents = self._session.graph.commits(commit.parents)
        olds = ((self._catalogs[parent.catalog], before) for parent, before in zip(parents, below, strict=True))
        return all(self._differs(old, (now, name)) for old in olds)

    def _differs(self, old: tuple[Catalog | None, str | None], new: tuple[Catalog | None, str | None]) -> bool:
        before, after = (
            None if catalog is None or name is None else catalog.nodes.get(name) for catalog, name in (old, new)
        )
        if before is None or after is None:
            present = after or before
            return present is not None and (
                self._key is None or self._has(present, old[0] if after is None else new[0])
            )
        if self._key is None:
            return old[1] != new[1] or not same_node(before, after)
        if same_root(before.root, after.root):
            return False
        return self._digests(before, old[0]) != self._digests(after, new[0])

    def _has(self, node: CatalogNode, catalog: Catalog | None) -> bool:
        return bool(self._digests(node, catalog))

    def _digests(self, node: CatalogNode, catalog: Catalog | None) -> bytes:
        """Return the digests under the key, one behind the other (with the sub-keys of a nested sample)."""
        nodes: NodeSource = _CatalogNodes(self._session.nodes, catalog)
        try:
            if isinstance(node, ColumnNode) and node.schema.nested and not isinstance(self._key, tuple):
                return _below(node.root, sample_prefix(self._key), nodes)
            key = grid_key(self._key, _ndim(node)) if isinstance(node, ArrayNode) else encode_key(self._key)
        except SchemaError:
            return b""  # no key of a node that is otherwise laid out at this commit
        found = find(node.root, as_key_array([key]), nodes)
        return found.entries().digests.tobytes() if found.present.any() else b""


def _below(root: NodeRef | None, prefix: bytes, nodes: NodeSource) -> bytes:
    stop = next_prefix(prefix)
    parts = []
    for leaf in iter_leaves(root, nodes, start=prefix.rstrip(b"\0"), stop=stop):
        low = int(np.searchsorted(leaf.keys, np.bytes_(prefix.rstrip(b"\0")), "left"))
        high = int(np.searchsorted(leaf.keys, np.bytes_(stop), "left"))
        parts += [b"\0".join(leaf.keys[low:high].tolist()), leaf.entries.digests[low:high].tobytes()]
    return b"".join(parts)


def _ndim(node: ArrayNode) -> int:
    return len(node.metadata.get("shape", ()))


class _CatalogNodes:
    """Finds the nodes of one commit's trees: small ones in its catalog, the others in the bucket."""

    def __init__(self, nodes: NodeStore, catalog: Catalog | None) -> None:
        self._nodes = nodes
        self._inlined = catalog.inlined if catalog is not None else {}

    def get_nodes(self, refs: Sequence[NodeRef]) -> list[Node]:
        if len(refs) == 1 and refs[0].pack is None and refs[0].id in self._inlined:
            return [decode_node(self._inlined[refs[0].id], refs[0], "a small tree in a catalog")]
        return self._nodes.get_nodes(refs)


# ---- revert and cherry-pick ---------------------------------------------------------------------------------------------


def revert(
    session: Session, branch: str, rev: Any, *, message: str | None, mainline: int | None, resolve: Resolve | None
) -> Published:
    """Undo what a commit changed; see :meth:`hangarlake.Repository.revert`."""
    session.check_writable()
    commit, place = _single(session, rev, mainline, "reverting")
    parent = session.graph.commit(commit.parents[place]) if place is not None else None
    text = f'Revert "{_subject(commit)}"\n\nThis reverts commit {commit.id}.'
    if parent is not None and len(commit.parents) > 1:
        text = f"{text[:-1]}, reversing\nchanges made to {parent.id}."
    change = Change(
        before=session.catalog(commit.catalog),
        after=session.catalog(parent.catalog) if parent is not None else Catalog(),
        anchor=commit.id,
        renames=inverse(commit.renames[place]) if place is not None else {},
        message=text if message is None else message,
        operation="revert",
        what=f"reverting {commit.id[:12]}",
    )
    return apply_change(session, branch, change, resolve)


def cherry_pick(
    session: Session, branch: str, rev: Any, *, message: str | None, mainline: int | None, resolve: Resolve | None
) -> Published:
    """Repeat what a commit changed; see :meth:`hangarlake.Repository.cherry_pick`."""
    session.check_writable()
    commit, place = _single(session, rev, mainline, "cherry-picking")
    parent = session.graph.commit(commit.parents[place]) if place is not None else None
    change = Change(
        before=session.catalog(parent.catalog) if parent is not None else Catalog(),
        after=session.catalog(commit.catalog),
        anchor=parent.id if parent is not None else None,
        renames=commit.renames[place] if place is not None else {},
        message=commit.message if message is None else message,
        operation="cherry-pick",
        what=f"cherry-picking {commit.id[:12]}",
        author=commit.author,
    )
    return apply_change(session, branch, change, resolve)


def _single(session: Session, rev: Any, mainline: int | None, doing: str) -> tuple[Commit, int | None]:
    """Return a commit and the place of the parent that its change is relative to (``None``: it has none)."""
    if isinstance(rev, list | tuple | set | frozenset):
        raise TypeError(f"{doing} takes one revision at a time")
    if mainline is not None and (isinstance(mainline, bool) or not isinstance(mainline, int)):
        raise TypeError(f"mainline is the number of a parent, from 1, not {mainline!r}")
    commit = session.graph.commit(session.locate(rev).commit)
    count = len(commit.parents)
    if mainline is None:
        if count > 1:
            raise ValueError(
                f"commit {commit.id[:12]} is a merge of {count} parents; say with mainline=1 … {count} "
                "(--mainline) which of them its change is measured against"
            )
        return commit, 0 if count else None
    if not 1 <= mainline <= count:
        raise ValueError(f"commit {commit.id[:12]} has no parent {mainline} (it has {count})")
    return commit, mainline - 1


def _subject(commit: Commit) -> str:
    return commit.message.strip().partition("\n")[0]
