"""Many workers, one commit: forks of a write checkout that travel to other processes, and the change sets they hand back."""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hangarlake.conflicts import Conflict, conflict_of, describe_conflicts
from hangarlake.errors import MergeConflictError, ReadOnlyError
from hangarlake.namespace import NodeTable, is_hidden
from hangarlake.publish import located
from hangarlake.records.canonical import canonical_json
from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode, GroupNode
from hangarlake.records.conflicts import ConflictKind, RawConflict, RawSide
from hangarlake.records.diff import same_json
from hangarlake.records.entries import Digests, Entries
from hangarlake.records.keys import KeyArray, decode_grid, decode_keys
from hangarlake.records.models import Commit
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import find
from hangarlake.records.tree_diff import Edits, edits_between
from hangarlake.records.treepacks import TreePacker, place_chunks
from hangarlake.session import Snapshot
from hangarlake.write_checkout import WriteCheckout

if TYPE_CHECKING:
    from hangarlake.repository import Repository

__all__ = ["ChangeSet", "ForkedWriter", "NodeChanges", "fork", "join"]

# Conflicts that are described; there may be millions.
_DESCRIBED = 100


@dataclass(frozen=True, slots=True)
class NodeChanges:
    """What a fork changed in one column, array or group.

    Attributes
    ----------
    name : str
    before, after : CatalogNode or None
        Without their trees; ``None`` where there was none, or is none any more.
    keys : S array (n,)
        What was set or removed, sorted.
    held : uint8 (n, 20)
        Digests before; zeros where the key was absent.
    entries : Entries
        Of the keys that were set, with the places of their chunks in the bucket.
    present : bool (n,)
        Which keys these are.
    appends : mapping of int to str
        The axes along which elements were appended, and what tells these appends from those of other forks.
    """

    name: str
    before: CatalogNode | None
    after: CatalogNode | None
    keys: KeyArray
    held: Digests
    entries: Entries
    present: np.ndarray[Any, np.dtype[np.bool_]]
    appends: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ChangeSet:
    """What one worker wrote: keys, digests and where the chunks lie, but no data. Small, and picklable.

    Attributes
    ----------
    repository : str
        Id of the repository.
    nodes : tuple of NodeChanges
    attrs : mapping of str to (before, after)
        Changed attributes of the repository, as JSON texts; ``None`` for an absent one.
    """

    repository: str
    nodes: tuple[NodeChanges, ...]
    attrs: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(change.keys) for change in self.nodes)

    def __bool__(self) -> bool:
        return bool(self.nodes) or bool(self.attrs)

    def __repr__(self) -> str:
        names = ", ".join(change.name for change in self.nodes[:8]) + (" …" if len(self.nodes) > 8 else "")
        return f"<ChangeSet of {len(self):,} samples and chunks in {names or 'nothing'}>"


class ForkedWriter(WriteCheckout):
    """A part of a write checkout for one worker: columns, arrays and store as there, with what was staged when it was forked.

    It pickles as long as nothing was changed in it. :meth:`changes` uploads what is pending and says what was written; the
    write checkout takes that with ``w.join(…)``. A fork does not commit.
    """

    def __init__(self, repository: Repository, branch: str, commit_id: str, catalog_id: str, catalog: bytes) -> None:
        self._seed = (repository, branch, commit_id, catalog_id, catalog)
        self._token = secrets.token_hex(8)
        self._appended: dict[str, set[int]] = {}
        session = repository._session
        held = Catalog.decode(catalog_id, zlib.decompress(catalog))
        session.keep_catalog(held)
        commit = session.graph.commit(commit_id)
        super().__init__(
            repository,
            branch,
            None,  # type: ignore[arg-type]  # a fork moves no branch, so it need not know where that stands
            Snapshot(commit, held),
            None,
        )

    def _where(self) -> str:
        return f"the fork of the write checkout of {self._branch!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._working().id != self._base.catalog.id:
            raise TypeError(f"{self._where()} has changes, which would be lost; hand over its changes() instead")
        return ForkedWriter, self._seed

    def fresh(self) -> ForkedWriter:
        """Return another fork with nothing changed, for another worker of this process."""
        return ForkedWriter(*self._seed)

    def changes(self) -> ChangeSet:
        """Upload what is pending, and return what was written.

        Raises
        ------
        StorageError
            If an upload failed; nothing is lost, call it again.
        """
        with self._lock:
            self._check_open()
            working = self._working()
            self._uploader.flush()
            base = self._base.catalog
            names = sorted({*base.nodes, *working.nodes})
            found = [self._changes_of(name, base.nodes.get(name), working.nodes.get(name)) for name in names]
            attrs = {
                name: pair
                for name in sorted({*base.attrs, *working.attrs})
                if (pair := (_text(base.attrs, name), _text(working.attrs, name)))[0] != pair[1]
            }
            return ChangeSet(self._session.marker.id, tuple(change for change in found if change is not None), attrs)

    def _changes_of(self, name: str, before: CatalogNode | None, after: CatalogNode | None) -> NodeChanges | None:
        old = before.root if before is not None else None
        new = after.root if after is not None else None
        blocks = list(edits_between(old, new, self._staged)) if after is not None else []
        if not blocks and before is not None and after is not None and _same_core(before, after):
            return None
        rank = after.schema.rank if isinstance(after, ColumnNode) else 0
        joined = _joined(blocks, rank)
        entries = replace(joined.after, table=place_chunks(joined.after.table, self._uploader.places))
        appends = {axis: self._token for axis in self._appended.get(name, ()) if _grew(axis, before, after)}
        return NodeChanges(
            name, _bare(before), _bare(after), joined.keys, joined.before, entries, joined.present, appends
        )

    def note_append(self, name: str, axis: int) -> None:
        """Take note that elements were appended to an array (internal)."""
        with self._lock:
            self._appended.setdefault(name, set()).add(axis)

    def reset(self, nodes: Iterable[str] | str | None = None) -> None:
        """Drop what this fork wrote: everything, or the changes of some columns and arrays. Raises as :meth:`WriteCheckout.reset`."""
        with self._lock:
            self._check_open()
            if nodes is None:
                self._forget()
                self._adopt(self._base)
                self._appended = {}
            else:
                super().reset(nodes)

    def _refuse(self, what: str) -> ReadOnlyError:
        return ReadOnlyError(f"{self._where()} does not {what}; hand over its changes(), and do it where it was forked")

    def commit(self, *_: Any, **__: Any) -> Commit:
        """Refuse: the write checkout commits what its forks wrote."""
        raise self._refuse("commit")

    def merge(self, *_: Any, **__: Any) -> Commit:
        """Refuse: the write checkout merges."""
        raise self._refuse("merge")

    def rename(self, old: str, new: str) -> None:
        """Refuse: other forks would not know."""
        raise self._refuse(f"rename {old!r} to {new!r}")


def _text(attrs: Mapping[str, Any], name: str) -> str | None:
    return canonical_json(attrs[name]).decode() if name in attrs else None


def _bare(node: CatalogNode | None) -> CatalogNode | None:
    """Return a node without its tree."""
    return node if node is None or isinstance(node, GroupNode) else replace(node, root=None)


def _same_core(a: CatalogNode, b: CatalogNode) -> bool:
    if isinstance(a, ColumnNode) and isinstance(b, ColumnNode):
        return a.schema == b.schema and same_json(a.attrs, b.attrs)
    if isinstance(a, ColumnNode) or isinstance(b, ColumnNode):
        return False
    return a.type == b.type and same_json(a.metadata, b.metadata)


def _grew(axis: int, before: CatalogNode | None, after: CatalogNode | None) -> bool:
    """Tell whether an array has become longer along an axis."""
    if not (isinstance(before, ArrayNode) and isinstance(after, ArrayNode)):
        return False
    short, long = before.metadata["shape"], after.metadata["shape"]
    return bool(axis < len(short) == len(long) and short[axis] < long[axis])


def _joined(blocks: Sequence[Edits], rank: int) -> Edits:
    if not blocks:
        empty = np.empty(0, "S1")
        return Edits(empty, np.empty((0, 20), np.uint8), Entries.empty(rank), np.empty(0, np.bool_))
    filled = [block.after for block in blocks if len(block.after)]
    return Edits(
        np.concatenate([block.keys for block in blocks]),
        np.concatenate([block.before for block in blocks]),
        Entries.concat(filled).compact(dedupe=True) if filled else Entries.empty(rank),
        np.concatenate([block.present for block in blocks]),
    )


# ---- forking ------------------------------------------------------------------------------------------------------------


def fork(writer: WriteCheckout) -> ForkedWriter:
    """Make a fork: what is staged is uploaded, so that any process can read it."""
    with writer._lock:
        writer._check_open()
        session = writer._session
        working = writer._working()
        writer._uploader.flush()
        packer = TreePacker(
            writer._staged, writer._uploader.places, lambda pack: session.store.put(pack.key, pack.data)
        )
        for node in working.nodes.values():
            if node.root is not None:
                packer.add(node.root)
        session.nodes.add(packer.finish())
        catalog = located(working, packer)
        data = zlib.compress(catalog.encode(), 1)
        return ForkedWriter(writer._repository, writer._branch, writer._base.commit.id, catalog.id, data)


# ---- joining ------------------------------------------------------------------------------------------------------------


def join(writer: WriteCheckout, change_sets: Iterable[ChangeSet]) -> None:
    """Stage what forks wrote: all of it or nothing.

    Raises
    ------
    MergeConflictError
        If two of them, or one of them and what was staged here since, have different values for one key, or made one array
        longer of which one appended to it. Names the keys.
    ValueError
        For change sets of another repository.
    """
    sets = list(change_sets)
    with writer._lock:
        writer._check_open()
        for each in sets:
            if not isinstance(each, ChangeSet):
                raise TypeError(f"join takes change sets of forks (fork.changes()), not {type(each).__name__}")
            if each.repository != writer._session.marker.id:
                raise ValueError("a change set comes from a fork of another repository; join it there")
        working = writer._working()
        planned = _Plan(writer, working)
        for each in sets:
            planned.add(each)
        planned.check()
        nodes, attrs, renames = NodeTable(writer._nodes), dict(writer._attrs), dict(writer._renames)
        try:
            planned.carry_out()
        except BaseException:
            # Everything staged is in the trees of these nodes, so beginning anew from them loses nothing.
            writer._nodes, writer._attrs, writer._renames, writer._stages, writer._views = nodes, attrs, renames, {}, {}
            raise
        writer._joined_appends |= planned.appends
        for name, changes in planned.changes.items():
            for axis in {axis for change in changes for axis in change.appends}:
                writer.note_append(name, axis)  # a fork that forks of its own were joined to tells of it


class _Plan:
    """What change sets come to, before anything is done."""

    def __init__(self, writer: WriteCheckout, working: Catalog) -> None:
        self.writer = writer
        self.working = working
        self.conflicts: list[RawConflict] = []
        self.cores: dict[str, tuple[CatalogNode | None, CatalogNode | None]] = {}
        self.attrs: dict[str, str | None] = {}
        self.changes: dict[str, list[NodeChanges]] = {}
        self.appends: set[str] = set()

    def add(self, change_set: ChangeSet) -> None:
        for change in change_set.nodes:
            if self._add_append(change):
                continue
            self._add_core(change)
            self.changes.setdefault(change.name, []).append(change)
        for name, (before, after) in change_set.attrs.items():
            now = self.attrs.get(name, _text(self.working.attrs, name))
            if now not in (before, after):
                self.conflicts.append(RawConflict("", name, "attribute", None, None, None))
            self.attrs[name] = after

    def _add_append(self, change: NodeChanges) -> bool:
        """Tell whether a change contradicts an append, and record it: of two appends one has to come behind the other."""
        self.appends |= set(change.appends.values())
        others = [other for other in self.changes.get(change.name, ()) if other.appends != change.appends]
        now = self.working.nodes.get(change.name)
        for axis, token in change.appends.items():
            if token in self.writer._joined_appends:
                continue
            if _grew(axis, change.before, now) or any(_grew(axis, other.before, other.after) for other in others):
                self.conflicts.append(_of_node(change, now, "append"))
                return True
        if any(_grew(axis, change.before, change.after) for other in others for axis in other.appends):
            self.conflicts.append(_of_node(change, now, "append"))
            return True
        return False

    def _add_core(self, change: NodeChanges) -> None:
        name, after = change.name, change.after
        now = self.cores[name][1] if name in self.cores else _bare(self.working.nodes.get(name))
        if _equal(now, after):
            return
        if not _equal(now, change.before):
            if not _equal(change.before, after):
                self.conflicts.append(_of_node(change, now))
            return
        self.cores[name] = (change.before, after)

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises
        ------
        MergeConflictError
        """
        self.edits = {name: self._merged(name, changes) for name, changes in self.changes.items()}
        if not self.conflicts:
            return
        session = self.writer._session
        shown: list[Conflict] = [conflict_of(raw, session.chunks) for raw in self.conflicts[:_DESCRIBED]]
        if all(conflict.kind == "append" for conflict in shown):
            what, remedy = (
                "appended to an array that was made longer elsewhere",
                "resize first, and let each worker write its region",
            )
        else:
            what, remedy = "wrote different values for one thing", "let each worker write keys and chunks of its own"
        raise MergeConflictError(f"forks {what}: {describe_conflicts(shown)}; nothing was joined, {remedy}", shown)

    def _merged(self, name: str, changes: list[NodeChanges]) -> tuple[Entries, KeyArray]:
        """Return the edits that all change sets together come to, recording contradictions."""
        changes = [change for change in changes if len(change.keys)]
        if not changes:
            return Entries.empty(0), np.empty(0, "S1")
        keys = np.concatenate([change.keys for change in changes])
        order = np.argsort(keys, kind="stable")
        held = np.concatenate([change.held for change in changes])[order]
        after = np.zeros((len(keys), 20), np.uint8)
        given = np.concatenate([change.present for change in changes])
        filled = [change.entries for change in changes if len(change.entries)]
        entries = Entries.concat(filled) if filled else Entries.empty(changes[0].entries.rank)
        after[given] = entries.digests
        after = after[order]
        position = np.cumsum(given) - 1
        keys = keys[order]
        first = np.concatenate([[True], keys[1:] != keys[:-1]])
        group = np.cumsum(first) - 1
        leaders = np.flatnonzero(first)
        differs = (after != after[leaders][group]).any(axis=1)
        node = self.working.nodes.get(name)
        root: NodeRef | None = node.root if node is not None else None
        found = find(root, keys[leaders], self.writer._staged)
        now = np.zeros((len(leaders), 20), np.uint8)
        if found.present.any():
            now[found.present] = found.entries().digests
        moved = (now != held[leaders]).any(axis=1) & (now != after[leaders]).any(axis=1)
        contested = np.unique(np.concatenate([group[differs], np.flatnonzero(moved)]))
        for number in contested[:_DESCRIBED].tolist():
            self.conflicts.append(self._of_key(name, changes[0], bytes(keys[leaders[number]])))
        chosen = order[leaders]
        kept = given[chosen]
        upserts = replace(entries.take(position[chosen][kept]), keys=keys[leaders][kept]).compact(dedupe=True)
        return upserts, keys[leaders][~kept]

    def _of_key(self, name: str, change: NodeChanges, key: bytes) -> RawConflict:
        array = np.array([key])
        node = change.after or change.before
        if isinstance(node, ArrayNode):
            shown: Any = tuple(decode_grid(array, len(node.metadata["shape"]))[0].tolist())
            kind = "chunk"
        else:
            shown, kind = decode_keys(array)[0], "changed-both"
        sides: list[RawSide | None] = []
        for other in self.changes[name]:
            at = np.flatnonzero(other.keys[other.present] == key)
            if len(at):
                sides.append(RawSide(other.entries, int(at[0]), node, name=name))
        sides += [None, None]
        return RawConflict(name, shown, kind, None, sides[0], sides[1])  # type: ignore[arg-type]  # both kinds exist

    def carry_out(self) -> None:
        """Do it."""
        writer = self.writer
        gone = [name for name, (_, after) in self.cores.items() if after is None]
        for name in gone:
            writer.drop_node(name)
        made = sorted(name for name, (_, after) in self.cores.items() if after is not None)
        for name in made:
            after = self.cores[name][1]
            assert after is not None
            present = writer._nodes.get(name)
            if present is not None and present.type == after.type and not isinstance(after, GroupNode):
                after = replace(after, root=present.root)
            if isinstance(after, ColumnNode):
                if present is None and not is_hidden(name):
                    writer._check_free(name)
                writer._nodes[name] = after
            else:
                writer.put_node(name, after)
        for name, (upserts, removes) in self.edits.items():
            node = writer._nodes.get(name)
            if node is None or isinstance(node, GroupNode) or not (len(upserts) or len(removes)):
                continue
            stage = writer.array_stage(name) if isinstance(node, ArrayNode) else writer._stage(name)
            stage.adopt(upserts, removes)
        for name, text in self.attrs.items():
            if text is None:
                writer._attrs.pop(name, None)
            else:
                writer._attrs[name] = json.loads(text)


def _equal(a: CatalogNode | None, b: CatalogNode | None) -> bool:
    if a is None or b is None:
        return a is b
    return _same_core(a, b)


def _of_node(change: NodeChanges, now: CatalogNode | None, kind: ConflictKind | None = None) -> RawConflict:
    node = change.after or change.before
    kind = kind or ("schema" if isinstance(node, ColumnNode) else "array-metadata")
    sides = [
        None if each is None else RawSide(node=each, name=change.name) for each in (change.before, now, change.after)
    ]
    return RawConflict(change.name, None, kind, *sides)
