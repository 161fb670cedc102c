"""Fetching: what a remote has and this repository lacks comes here; only remote-tracking branches and new tags move."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hangarlake.chunks.reader import ChunkReader
from hangarlake.errors import BranchExistsError, HangarlakeError, RevisionNotFoundError
from hangarlake.publish import stand_fields
from hangarlake.records.commits import commit_key
from hangarlake.records.graph import Graph
from hangarlake.records.movements import Movement, Tag, check_branch_name
from hangarlake.records.treepacks import read_tops
from hangarlake.session import TRACKING, Session
from hangarlake.transfer.copying import Courier
from hangarlake.transfer.moving import move_commits
from hangarlake.transfer.negotiate import joint_graph, missing_commits
from hangarlake.transfer.remotes import Remotes, release
from hangarlake.transfer.results import Progress
from hangarlake.transfer.survey import TreeReader

__all__ = ["Seen", "fetch", "look", "receive", "take_tags"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Seen:
    """Where the refs of a remote stand.

    Attributes
    ----------
    heads : dict of str to Movement
    tags : list of Tag
    whole : bool
        Whether these are all its branches.
    """

    heads: dict[str, Movement] = field(default_factory=dict)
    tags: list[Tag] = field(default_factory=list)
    whole: bool = False


def look(remote: Session, branches: Sequence[str] | None, likely: Sequence[str] = ()) -> Seen:
    """Read the refs of a remote.

    Parameters
    ----------
    branches : sequence of str, optional
        All by default. Of a place without listings (plain HTTP) only names can be asked for: then it is the default branch,
        and those that are `likely`.

    Raises
    ------
    RevisionNotFoundError
        If the remote has no branch of a name that was asked for.
    """
    can_list = remote.store.can_list
    if branches is None and can_list:
        return Seen(remote.refs.heads(), remote.refs.read_tags(), True)
    names = list(branches) if branches is not None else sorted({remote.marker.default_branch, *likely})
    seen = Seen()
    for name in names:
        head = remote.refs.head(check_branch_name(name))
        if head is not None and not head.deleted:
            seen.heads[name] = head
        elif branches is not None:
            there = f"; there are: {', '.join(remote.refs.branches()) or 'none'}" if can_list else ""
            raise RevisionNotFoundError(f"{remote.url} has no branch {name!r}{there}")
    if can_list:
        seen.tags = remote.refs.read_tags()
    return seen


def receive(session: Session, remote: Session, seen: Seen, courier: Courier, chunks: ChunkReader | None) -> Graph:
    """Bring the history of a remote's refs here, with the tags that belong to it; move nothing.

    Parameters
    ----------
    chunks : ChunkReader or None
        Reads what the remote itself lacks; ``None`` leaves the data where it is.
    """
    heads = session.refs.heads()
    tags = session.refs.read_tags()
    graph = joint_graph(remote.store, session.store, [*heads.values(), *tags, *seen.heads.values(), *seen.tags])
    tracked = [commit for commit in set(session.tracking().values()) if session.store.exists(commit_key(commit))]
    known = [str(head.commit) for head in heads.values()] + [tag.commit for tag in tags] + tracked
    tips = [str(head.commit) for head in seen.heads.values()]
    if not seen.whole:
        # Of the tags, those that lie on the branches that were asked for.
        graph.commits(tips)
        seen.tags = [tag for tag in seen.tags if any(_reaches(graph, tip, tag.commit) for tip in tips)]
    tips += [tag.commit for tag in seen.tags]
    commits = missing_commits(graph, tips, known)
    move_commits(commits, graph, courier, TreeReader(courier.target, courier.source), chunks)
    return graph


def _reaches(graph: Graph, tip: str, commit: str) -> bool:
    try:
        return graph.is_ancestor(commit, tip)
    except RevisionNotFoundError:
        return False


def fetch(
    session: Session,
    remotes: Remotes,
    name: str = "origin",
    branches: Sequence[str] | None = None,
    *,
    force: bool = False,
    data: bool | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Bring what a remote has and this repository lacks; return where its branches stand (``origin/main`` → commit id).

    Parameters
    ----------
    branches : sequence of str, optional
        All by default.
    force : bool
        Also from a repository that is no clone of this one.
    data : bool, optional
        Whether data packs come too; by default as the clone was made.
    dry_run : bool
        Count what would travel (in `progress`), and change nothing.

    Raises
    ------
    HangarlakeError
        If the remote is another repository, and `force` is not given.
    BranchExistsError
        If all branches were asked for, and a tag of the remote stands elsewhere than here. Everything else has been fetched.
    CorruptionError
        If the remote is damaged. Nothing has moved.
    """
    session.check_writable()
    remote = remotes.open(name)
    try:
        if remote.marker.id != session.marker.id and not force:
            raise HangarlakeError(
                f"{remote.url} is another repository ({remote.marker.id[:8]}…, this one is {session.marker.id[:8]}…), "
                "not a clone of this one; pass force=True to fetch its history all the same"
            )
        prefix = f"{name}/"
        before = {ref[len(prefix) :]: at for ref, at in session.tracking().items() if ref.startswith(prefix)}
        seen = look(remote, branches, list(before))
        courier = Courier(remote.store, session.store, progress or Progress(), dry=dry_run)
        wants_data = remotes[name].data if data is None else data
        receive(session, remote, seen, courier, remotes.reader(name) if wants_data else None)
        result = {f"{prefix}{branch}": str(head.commit) for branch, head in seen.heads.items()}
        if not dry_run:
            stands = {branch: (head.seq, head.commit) for branch, head in seen.heads.items()}
            session.index.replace_refs(f"{TRACKING}{prefix}", stands, prune=seen.whole)
            take_tags(session, seen.tags, strict=seen.whole)
        return result
    finally:
        release(remote)


def take_tags(session: Session, tags: Sequence[Tag], *, strict: bool = True) -> None:
    """Create the tags that are not here.

    Parameters
    ----------
    strict : bool
        Whether a tag that stands elsewhere here is an error. (Where single branches were asked for, their tags only come along.)

    Raises
    ------
    BranchExistsError
        If one stands elsewhere here: a tag never moves. The others have been created.
    """
    moved = []
    for tag in tags:
        present = session.refs.read_tag(tag.tag)
        if present is None:
            fields = restand(session, tag)
            session.refs.create_tag(tag.tag, author=tag.author, message=tag.message, time=tag.time, **fields)
        elif present.commit != tag.commit:
            moved.append(f"{tag.tag!r} ({present.commit[:12]} here, {tag.commit[:12]} there)")
    if moved and strict:
        raise BranchExistsError(
            f"tags never move, and these stand elsewhere at the remote: {', '.join(moved)}; "
            "everything else was fetched. To take theirs, delete yours with delete_tag and fetch again"
        )


def restand(session: Session, stand: Movement | Tag) -> dict[str, Any]:
    """Return what a ref here carries that stands where one of a remote does."""
    snapshot = session.snapshot_of(str(stand.commit))
    if snapshot.catalog.physical() == stand.physical:
        session.nodes.add(read_tops(snapshot.catalog, stand.nodes))
    return stand_fields(session, snapshot)
