"""Pushing: what a remote lacks goes there, then its branch moves, by the create-only log."""

from __future__ import annotations

from typing import Any

from hangarlake.errors import BranchExistsError, PushRejectedError, RepositoryNotFoundError, RevisionNotFoundError
from hangarlake.publish import stand_fields
from hangarlake.records.catalog import Catalog
from hangarlake.records.graph import Graph
from hangarlake.records.marker import MARKER_KEY
from hangarlake.records.movements import Movement, Tag, check_tag_name
from hangarlake.records.node import Inner
from hangarlake.records.refs import RefMovedError
from hangarlake.session import TRACKING, Session, Snapshot
from hangarlake.storage.probe import probe_create_if_absent
from hangarlake.transfer.clone import found_marker
from hangarlake.transfer.copying import Courier
from hangarlake.transfer.moving import move_commits
from hangarlake.transfer.negotiate import joint_graph, missing_commits
from hangarlake.transfer.remotes import Remotes, release
from hangarlake.transfer.results import Progress, PushResult
from hangarlake.transfer.survey import TreeReader

__all__ = ["push"]

_WARM_NODES = 64


def push(
    session: Session,
    remotes: Remotes,
    name: str,
    branch: str,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PushResult:
    """Send a branch (or a tag of that name) with everything that it needs and the remote lacks, then move it there.

    Where there is nothing at the remote's place yet, the first push makes it a clone.

    Parameters
    ----------
    force : bool
        Move the remote branch even if commits are left behind (its reflog keeps them), or if the remote is another repository.
    dry_run : bool
        Count what would travel (in `progress`), and change nothing.

    Raises
    ------
    PushRejectedError
        If the remote branch has commits that are not here, the tag stands elsewhere, or the remote is another repository.
        Nothing has moved.
    RevisionNotFoundError
        If there is no such branch or tag here.
    StorageError
        If a store failed. The remote is as it was; pushing again sends only what is missing.
    """
    stand = _stand(session, branch)
    progress = progress or Progress()
    fresh = False
    try:
        remote = remotes.open(name)
    except RepositoryNotFoundError:
        remote, fresh = session.sibling(remotes.store(name), session.marker), True
    try:
        _check_target(session, remote, fresh, force=force, dry_run=dry_run)
        tip = str(stand.commit)
        if isinstance(stand, Tag):
            return _push_tag(session, remote, stand, progress, fresh=fresh, dry_run=dry_run)
        head = remote.refs.head(branch)
        others = {} if head is not None and not head.deleted else remote.refs.heads()
        old = head.commit if head is not None else None
        if old == tip:
            _saw(session, name, head, dry_run)
            return PushResult(branch, old, tip, 0, 0)
        graph = joint_graph(session.store, remote.store, [stand, head, *others.values()])
        if old is not None and not force:
            _check_forward(session, old, tip, remote, branch)
        known = [commit for commit in (old, *(other.commit for other in others.values())) if commit is not None]
        final = _send(session, remote, graph, tip, known, progress, dry_run=dry_run)
        if dry_run:
            return PushResult(branch, old, tip, progress.objects, progress.bytes, created=fresh)
        if fresh:
            _make_marker(session, remote)
        fields = _fields(session, remote, tip, final)
        movement = _move(session, remote, branch, head, fields, force=force)
        _saw(session, name, movement, dry_run)
        remote.refs.flush_hints()
        return PushResult(branch, movement.previous, tip, progress.objects, progress.bytes, created=fresh)
    finally:
        release(remote)


def _stand(session: Session, branch: str) -> Movement | Tag:
    head = session.refs.head(branch)
    if head is not None and not head.deleted:
        return head
    tag = session.refs.read_tag(check_tag_name(branch))
    if tag is None:
        there = ", ".join(session.refs.branches()) or "none"
        raise RevisionNotFoundError(f"there is no branch or tag {branch!r} to push; branches are: {there}")
    return tag


def _check_target(session: Session, remote: Session, fresh: bool, *, force: bool, dry_run: bool) -> None:
    if remote.marker.id != session.marker.id and not force:
        raise PushRejectedError(
            f"{remote.url} is another repository, not a clone of this one; push elsewhere, or pass force=True"
        )
    remote.marker.check_writable()
    if dry_run:
        return
    if not fresh:
        remote.check_writable()
    elif not remote.allow_unsafe_store and not remote.store.creates_atomically:
        probe_create_if_absent(remote.store)
        remote.index.set("probed", True)


def _check_forward(session: Session, old: str, tip: str, remote: Session, branch: str) -> None:
    """Refuse to leave commits of the remote branch behind."""
    try:
        forward = session.graph.is_ancestor(old, tip)
    except RevisionNotFoundError:
        forward = False
    if not forward:
        raise PushRejectedError(
            f"branch {branch!r} of {remote.url} stands at {old[:12]}, which is not among the commits that you push; "
            "fetch and merge it first (repo.pull()), or pass force=True to leave it behind"
        )


def _send(
    session: Session, remote: Session, graph: Graph, tip: str, known: list[str], progress: Progress, *, dry_run: bool
) -> dict[str, Catalog]:
    courier = Courier(session.store, remote.store, progress, dry=dry_run, trusted=True)
    commits = missing_commits(graph, [tip], known)
    if not known and commits:
        courier.list_target("catalogs/", "commits/", "packs/", "trees/")
    chunks = session.reader(read_through=True)
    return move_commits(commits, graph, courier, TreeReader(session.store, remote.store), chunks)


def _make_marker(session: Session, remote: Session) -> None:
    if not remote.store.put_new(MARKER_KEY, session.marker.to_bytes()):
        present = found_marker(remote.store)
        if present is None or present.id != session.marker.id:
            raise PushRejectedError(f"somebody created another repository at {remote.url} just now; nothing was moved")


def _fields(session: Session, remote: Session, tip: str, final: dict[str, Catalog]) -> dict[str, Any]:
    """Return what the ref at the remote carries: copies that say where things lie there."""
    commit = session.graph.commit(tip)
    catalog = final.get(commit.catalog)
    own = session.catalog(commit.catalog)
    if catalog is None or catalog.physical() != own.physical():
        snapshot = Snapshot(commit, catalog or remote.catalog(commit.catalog))
        fields = stand_fields(session, snapshot)
        # Nodes in memory here may be copies that lead to places there are only here.
        return {**fields, "nodes": None}
    _warm(session, own)
    return stand_fields(session, Snapshot(commit, own))


def _warm(session: Session, catalog: Catalog) -> None:
    """Bring the tops of the trees into memory, for the ref to carry."""
    frontier = [node.root for node in catalog.nodes.values() if node.root is not None and node.root.pack is not None]
    left = _WARM_NODES
    while frontier and left > 0:
        nodes = session.nodes.get_nodes(frontier[:left])
        left -= len(nodes)
        frontier = [
            ref
            for node in nodes
            if isinstance(node, Inner) and node.level > 1
            for ref in node.children.refs(node.level - 1)
        ]


def _move(
    session: Session, remote: Session, branch: str, head: Movement | None, fields: dict[str, Any], *, force: bool
) -> Movement:
    message = f"pushed from {session.url}" + (", forced" if force else "")
    while True:
        try:
            return remote.refs.move(branch, head, operation="push", author=session.author, message=message, **fields)
        except RefMovedError as moved:
            if moved.movement.commit == fields["commit"]:
                return moved.movement  # somebody else pushed the very same commit
            if not force:
                raise PushRejectedError(
                    f"branch {branch!r} of {remote.url} was moved by {moved.movement.author} just now; "
                    "fetch and merge it (repo.pull()), then push again"
                ) from moved
            head = remote.refs.head(branch) or moved.movement


def _push_tag(
    session: Session, remote: Session, tag: Tag, progress: Progress, *, fresh: bool, dry_run: bool
) -> PushResult:
    present = remote.refs.read_tag(tag.tag)
    if present is not None:
        if present.commit != tag.commit:
            raise _tag_moved(tag, present, remote)
        return PushResult(tag.tag, present.commit, tag.commit, 0, 0)
    heads = remote.refs.heads()
    graph = joint_graph(session.store, remote.store, [tag, *heads.values()])
    known = [str(head.commit) for head in heads.values()]
    final = _send(session, remote, graph, tag.commit, known, progress, dry_run=dry_run)
    if not dry_run:
        if fresh:
            _make_marker(session, remote)
        fields = _fields(session, remote, tag.commit, final)
        try:
            remote.refs.create_tag(tag.tag, author=tag.author, message=tag.message, time=tag.time, **fields)
        except BranchExistsError as error:
            present = remote.refs.read_tag(tag.tag)
            if present is None or present.commit != tag.commit:
                raise _tag_moved(tag, present, remote) from error
    return PushResult(tag.tag, None, tag.commit, progress.objects, progress.bytes, created=fresh)


def _tag_moved(tag: Tag, present: Tag | None, remote: Session) -> PushRejectedError:
    where = f" at {present.commit[:12]}" if present is not None else ""
    return PushRejectedError(
        f"tag {tag.tag!r} stands{where} in {remote.url}, and tags never move; delete it there first, or choose another name"
    )


def _saw(session: Session, name: str, movement: Movement | None, dry_run: bool) -> None:
    if movement is not None and not dry_run:
        session.index.replace_refs(f"{TRACKING}{name}/", {movement.branch: (movement.seq, movement.commit)})
