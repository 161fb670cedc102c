"""Merging one line of history into another, and putting single changes on top of a branch.

Everything is decided and uploaded before the branch moves, and the branch moves by one create: a merge happens as a whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

from hangarlake.attributes import exact_json
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.columns.layout import ColumnLayout
from hangarlake.columns.stage import ColumnStage
from hangarlake.conflicts import Conflict, Side, conflict_of, describe_conflicts
from hangarlake.diffs import renames_across
from hangarlake.errors import (
    CommitConflictError,
    MergeConflictError,
    NothingToCommitError,
    RevisionNotFoundError,
    SchemaError,
)
from hangarlake.merge_base import MergeBase, merge_base_of
from hangarlake.publish import Draft, Published, publish, stand_fields
from hangarlake.racing import ATTEMPTS, give_way
from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode
from hangarlake.records.conflicts import Assign, Decide, Decision, RawConflict, Resolution
from hangarlake.records.keys import encode_key
from hangarlake.records.merge import ArrayMerger, MergeResult, merge_catalogs
from hangarlake.records.models import Author, Commit
from hangarlake.records.movements import Movement, Tag
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.refs import RefMovedError
from hangarlake.session import Session, Snapshot

__all__ = [
    "ArrayMerging",
    "Change",
    "Granularity",
    "Resolve",
    "ThreeWay",
    "apply_change",
    "branch_head",
    "merge_into",
    "set_array_merging",
]

Granularity: TypeAlias = Literal["chunk", "element"]
Resolve: TypeAlias = Literal["ours", "theirs", "concatenate"] | Callable[[Conflict], Any]


# ---- arrays -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ThreeWay:
    """What a merge works on: where it reads from, and where it puts what is new."""

    session: Session
    staged: StagedNodes
    uploader: ChunkUploader


class ArrayMerging(Protocol):
    """How arrays are merged beyond whole chunks."""

    def merger(self, work: ThreeWay, granularity: Granularity, *, concatenate: bool) -> ArrayMerger | None:
        """Return what is asked first about arrays that both sides changed; ``None`` to merge by chunk."""

    def assign(self, work: ThreeWay, name: str, node: ArrayNode, key: Any, value: Any) -> ArrayNode:
        """Return an array with the value of one chunk replaced."""


_array_merging: ArrayMerging | None = None


def set_array_merging(merging: ArrayMerging) -> None:
    """Tell how arrays are merged (called once, by the package that knows arrays)."""
    global _array_merging
    _array_merging = merging


# ---- moving a branch ----------------------------------------------------------------------------------------------------

Attempt: TypeAlias = Callable[[Movement], Published]


def branch_head(session: Session, branch: str) -> Movement:
    """Return where a branch stands.

    Raises
    ------
    RevisionNotFoundError
        If there is none of that name.
    """
    head = session.refs.head(branch)
    if head is None or head.commit is None:
        raise RevisionNotFoundError(
            f"there is no branch {branch!r}; the branches are: {', '.join(session.refs.branches()) or 'none'}"
        )
    return head


def move_branch(session: Session, branch: str, attempt: Attempt) -> Published:
    """Try to move a branch on until nobody else is faster.

    Parameters
    ----------
    attempt : callable
        Is given the head and moves the branch on from it, or leaves it.

    Raises
    ------
    RevisionNotFoundError
        If there is no such branch.
    CommitConflictError
        If it was deleted meanwhile, or others moved it every time.
    """
    head = branch_head(session, branch)
    for number in range(ATTEMPTS):
        began = time.monotonic()
        try:
            return attempt(head)
        except RefMovedError as moved:
            give_way(number, time.monotonic() - began)
            head = session.refs.head(branch) or moved.movement
            if head.commit is None:
                raise CommitConflictError(
                    f"branch {branch!r} was deleted by {head.author} meanwhile; create it anew and try again"
                ) from moved
    raise CommitConflictError(
        f"branch {branch!r} was moved by others {ATTEMPTS} times in a row; nothing was changed: try again"
    )


# ---- three-way ----------------------------------------------------------------------------------------------------------


@dataclass
class Merge:
    """One three-way merge onto a commit, decided and ready to be published.

    Attributes
    ----------
    ours : Snapshot
        What is merged onto.
    catalog : Catalog
    renames : (dict, dict)
        Old name → new name, relative to ours and relative to theirs.
    """

    ours: Snapshot
    catalog: Catalog
    renames: tuple[dict[str, str], dict[str, str]]
    work: ThreeWay = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether ours stays as it is."""
        return self.catalog.id == self.ours.catalog.id and not self.renames[0]

    def publish(self, branch: str, head: Movement, draft: Draft) -> Published:
        """Make it a commit and move the branch."""
        return publish(self.work.session, branch, head, draft, self.work.staged, self.work.uploader)


def three_way(
    session: Session,
    ours: Snapshot,
    theirs: Catalog,
    base: MergeBase,
    *,
    resolve: Resolve | None,
    granularity: Granularity | None = None,
    what: str,
) -> Merge:
    """Merge what two sides did to a base; nothing is made visible.

    Parameters
    ----------
    granularity : "chunk", "element" or None
        ``None`` is by chunk, where the caller has no choice.
    what : str
        What is merged onto what, for messages.

    Raises
    ------
    MergeConflictError
        With every conflict that `resolve` left open.
    SchemaError
        If a value that `resolve` gave does not fit its column.
    """
    if granularity not in ("chunk", "element", None):
        raise ValueError(f"granularity is 'chunk' or 'element', not {granularity!r}")
    decide = _decider(session, resolve, base)
    staged = base.nodes if base.nodes is not None else StagedNodes(session.nodes)
    work = ThreeWay(session, staged, ChunkUploader(session.store))
    arrays = _array_merging
    by = granularity or "chunk"
    merger = arrays.merger(work, by, concatenate=resolve == "concatenate") if arrays is not None else None
    result = merge_catalogs(
        base.catalog,
        ours.catalog,
        theirs,
        renames_ours=base.renames_ours,
        renames_theirs=base.renames_theirs,
        source=staged,
        sink=staged,
        decide=decide,
        array_merger=merger,
    )
    if result.conflicts:
        conflicts = [conflict_of(base.shown(raw), session.chunks, work.uploader) for raw in result.conflicts]
        raise MergeConflictError(
            f"{what}: {describe_conflicts(conflicts)}; nothing was changed, {_ways_out(conflicts, granularity)}",
            conflicts,
        )
    return Merge(ours, _assigned(work, result), result.renames, work)


def _ways_out(conflicts: Sequence[Conflict], granularity: Granularity | None) -> str:
    """Say how conflicts can be resolved."""
    kinds = {conflict.kind for conflict in conflicts}
    text = "resolve them with resolve='ours', 'theirs' or a function of each conflict"
    if "append" in kinds:
        text += ", or 'concatenate', which puts one append behind the other"
    if "chunk" in kinds and granularity == "chunk":
        text += "; granularity='element' merges changes of different elements of one chunk"
    return text


def _assigned(work: ThreeWay, result: MergeResult) -> Catalog:
    """Set the values that conflicts were resolved by; the stage of a column sees to it that they fit."""
    if not result.assignments:
        return result.catalog
    nodes: dict[str, CatalogNode] = dict(result.catalog.nodes)
    stages: dict[str, ColumnStage] = {}
    for name, key, value in result.assignments:
        node = nodes[name]
        if isinstance(node, ColumnNode):
            stage = stages.get(name)
            if stage is None:
                layout = ColumnLayout.of(name, node.schema, node.encoding)
                stage = ColumnStage(name, node.schema, layout, node.root, work.staged, work.uploader)
                stages[name] = stage
            stage.set(key, encode_key(key), value)
        elif isinstance(node, ArrayNode) and _array_merging is not None:
            nodes[name] = _array_merging.assign(work, name, node, key, value)
        else:
            raise SchemaError(
                f"{name!r}, {key!r}: a chunk of an array is resolved by OURS, THEIRS or REMOVE, not by a value"
            )
    for name, stage in stages.items():
        node = nodes[name]
        assert isinstance(node, ColumnNode)
        nodes[name] = replace(node, root=stage.fold())
    return result.catalog.with_nodes(nodes)


# ---- resolving ----------------------------------------------------------------------------------------------------------


def _decider(session: Session, resolve: Resolve | None, base: MergeBase | None = None) -> Decide | None:
    """Turn what a person gave as `resolve` into a function of raw conflicts."""
    if resolve is None or resolve == "concatenate":
        return None
    if resolve in ("ours", "theirs"):
        side = Resolution(resolve)
        return lambda _: side
    if not callable(resolve):
        raise ValueError(f"resolve is 'ours', 'theirs', 'concatenate' or a function of a Conflict, not {resolve!r}")
    ask = resolve

    def decide(raw: RawConflict) -> Decision | None:
        conflict = conflict_of(raw if base is None else base.shown(raw), session.chunks)
        return _decision(conflict, ask(conflict))

    return decide


def _decision(conflict: Conflict, answer: Any) -> Decision | None:
    if answer is None or isinstance(answer, Resolution):
        return answer
    if isinstance(answer, Side):
        if answer is conflict.ours or answer is conflict.theirs:
            return Resolution.OURS if answer is conflict.ours else Resolution.THEIRS
        answer = answer.value
    if conflict.kind == "attribute":
        exact_json(answer, f"the resolution of {conflict}")
    return Assign(answer)


# ---- merging branches ---------------------------------------------------------------------------------------------------


def merge_into(
    session: Session,
    branch: str,
    source: Any,
    *,
    message: str | None = None,
    resolve: Resolve | None = None,
    granularity: Granularity = "chunk",
) -> Published:
    """Merge a revision into a branch; see :meth:`hangarlake.Repository.merge`.

    Returns
    -------
    Published
        Where the branch stands now, whether it moved or not.
    """
    if isinstance(source, list | tuple | set | frozenset):
        raise TypeError("a merge takes one revision at a time; merge several one after the other")
    if message is not None and not isinstance(message, str):
        raise TypeError(f"a commit message is a str, not {type(message).__name__}")
    _decider(session, resolve)  # refuses what makes no sense, whether there are conflicts or not
    session.check_writable()
    found = session.locate(source)
    theirs = session.snapshot_of(found.commit, found.source)
    label = _label(source, found.branch, found.source, theirs.commit)
    graph = session.graph

    def attempt(head: Movement) -> Published:
        ours = session.snapshot_of(str(head.commit), head)
        if graph.is_ancestor(theirs.commit.id, ours.commit.id):
            return Published(ours, head)
        if message is None and graph.is_ancestor(ours.commit.id, theirs.commit.id):
            text = f"merge {label}: fast-forward"
            fields = stand_fields(session, theirs)
            moved = session.refs.move(branch, head, operation="merge", author=session.author, message=text, **fields)
            return Published(theirs, moved)
        base = merge_base_of(session, ours.commit, theirs.commit)
        what = f"merging {label} into {branch!r}"
        merge = three_way(session, ours, theirs.catalog, base, resolve=resolve, granularity=granularity, what=what)
        into = "" if branch == session.marker.default_branch else f" into {branch}"
        text = f"Merge {label}{into}" if message is None else message
        parents = [ours.commit, theirs.commit]
        return merge.publish(branch, head, Draft(parents, merge.catalog, merge.renames, text, session.author, "merge"))

    return move_branch(session, branch, attempt)


def _label(source: Any, branch: str | None, ref: Movement | Tag | None, commit: Commit) -> str:
    if branch is not None:
        return f"branch '{branch}'"
    if isinstance(ref, Tag) and str(source) == ref.tag:
        return f"tag '{ref.tag}'"
    if isinstance(source, str) and not commit.id.startswith(source.lower()):
        return f"commit '{source}'"
    return f"commit {commit.id[:12]}"


# ---- single changes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A change to be put on top of a branch: what leads from one state to another.

    Attributes
    ----------
    before : Catalog
    after : Catalog
    anchor : str or None
        The commit whose state `before` is; ``None`` for the empty state before a first commit.
    renames : mapping of str to str
        From `before` to `after`.
    message : str
    operation : str
        ``revert`` or ``cherry-pick``.
    what : str
        For messages.
    author : Author or None
        Of the commit to be; by default the session's.
    """

    before: Catalog
    after: Catalog
    anchor: str | None
    renames: Mapping[str, str]
    message: str
    operation: str
    what: str
    author: Author | None = None


def apply_change(session: Session, branch: str, change: Change, resolve: Resolve | None) -> Published:
    """Put a change on top of a branch as a commit of its own.

    Raises
    ------
    MergeConflictError
    NothingToCommitError
        If the branch has it already.
    """

    def attempt(head: Movement) -> Published:
        ours = session.snapshot_of(str(head.commit), head)
        renamed = renames_across(session.graph, change.anchor, ours.commit.id) if change.anchor is not None else {}
        base = MergeBase(change.before, renamed, change.renames)
        merge = three_way(session, ours, change.after, base, resolve=resolve, what=f"{change.what} onto {branch!r}")
        if merge.is_empty:
            raise NothingToCommitError(f"{change.what} changes nothing on {branch!r}, which holds the outcome already")
        draft = Draft(
            [ours.commit],
            merge.catalog,
            [merge.renames[0]],
            change.message,
            change.author or session.author,
            change.operation,
            session.author,
        )
        return merge.publish(branch, head, draft)

    return move_branch(session, branch, attempt)
