"""Cloning: a second place of a repository, with the same id and the same commits; its marker comes last."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from hangarlake.chunks.reader import ChunkReader
from hangarlake.errors import ObjectNotFoundError, RepositoryExistsError, RepositoryNotFoundError
from hangarlake.records.marker import MARKER_KEY, Marker
from hangarlake.records.movements import Movement
from hangarlake.records.refs import RefMovedError
from hangarlake.session import TRACKING, Session
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.memory import MemoryStore
from hangarlake.storage.probe import probe_create_if_absent
from hangarlake.storage.redact import redact_url
from hangarlake.storage.url import StoreLike, open_store
from hangarlake.transfer.copying import Courier
from hangarlake.transfer.fetch import Seen, look, receive, restand, take_tags
from hangarlake.transfer.remotes import Remotes
from hangarlake.transfer.results import Progress

__all__ = ["clone_into", "found_marker", "plan_clone", "source_marker"]


def found_marker(store: ObjectStore) -> Marker | None:
    """Return the marker in a store, if there is one."""
    try:
        return Marker.parse(store.get(MARKER_KEY))
    except ObjectNotFoundError:
        return None


def source_marker(source: ObjectStore) -> Marker:
    """Return the marker of the repository that is to be cloned.

    Raises
    ------
    RepositoryNotFoundError
        If there is none.
    """
    marker = found_marker(source)
    if marker is None:
        raise RepositoryNotFoundError(
            f"there is no repository at {redact_url(source.place)} to be cloned; check the URL"
        )
    return marker


def clone_into(
    session: Session,
    remotes: Remotes,
    name: str,
    remote: Session,
    branches: Sequence[str] | None = None,
    *,
    data: bool = False,
    progress: Progress | None = None,
) -> None:
    """Make the place of a session a clone of a remote. Done again, it brings what is missing and changes nothing else.

    Parameters
    ----------
    session : Session
        Of the new place, with the remote's marker; there may be nothing at it yet.
    branches : sequence of str, optional
        All by default.
    data : bool
        Whether data packs come too.

    Raises
    ------
    RepositoryExistsError
        If there is another repository, or a branch that has gone another way.
    CorruptionError
        If the remote is damaged. No branch has been made.
    """
    present = found_marker(session.store)
    if present is not None and present.id != remote.marker.id:
        raise RepositoryExistsError(f"there is another repository at {session.url}; clone to another place")
    if present is None and not session.allow_unsafe_store and not session.store.creates_atomically:
        probe_create_if_absent(session.store)
    session.marker.check_writable()
    seen = look(remote, branches)
    courier = Courier(remote.store, session.store, progress or Progress())
    courier.list_target("catalogs/", "commits/", "packs/", "trees/")
    receive(session, remote, seen, courier, remotes.reader(name) if data else None)
    _make_branches(session, remote, seen)
    take_tags(session, seen.tags)
    session.refs.flush_hints()
    if present is None and not session.store.put_new(MARKER_KEY, session.marker.to_bytes()):
        present = found_marker(session.store)
        if present is None or present.id != remote.marker.id:
            raise RepositoryExistsError(f"somebody created another repository at {session.url} just now")
    if not session.allow_unsafe_store:
        session.index.set("probed", True)
    stands = {branch: (head.seq, head.commit) for branch, head in seen.heads.items()}
    session.index.replace_refs(f"{TRACKING}{name}/", stands, prune=seen.whole)


def plan_clone(
    source_url: StoreLike,
    *,
    source_options: Mapping[str, Any] | None = None,
    branches: Sequence[str] | None = None,
    data: bool = False,
) -> Progress:
    """Count what a clone to a new place would bring, and write nothing."""
    source = open_store(source_url, dict(source_options or {}))
    marker = source_marker(source)
    with tempfile.TemporaryDirectory(prefix="hangarlake-") as folder:
        nowhere = Session(MemoryStore(), marker, cache_dir=folder)
        remote = nowhere.sibling(source, marker)
        try:
            courier = Courier(source, nowhere.store, Progress(), dry=True)
            receive(nowhere, remote, look(remote, branches), courier, ChunkReader(source) if data else None)
        finally:
            remote.close()
            nowhere.close()
    return courier.progress


def _make_branches(session: Session, remote: Session, seen: Seen) -> None:
    # The default branch comes last: with it the clone is one.
    for branch in sorted(seen.heads, key=lambda each: (each == remote.marker.default_branch, each)):
        head = seen.heads[branch]
        present = session.refs.head(branch)
        if present is not None:
            continue  # an earlier attempt got as far, or people work here already
        _create(session, remote, branch, head)


def _create(session: Session, remote: Session, branch: str, head: Movement) -> None:
    try:
        session.refs.move(
            branch,
            None,
            operation="create",
            author=session.author,
            message=f"cloned from {remote.url}",
            **restand(session, head),
        )
    except RefMovedError as moved:
        if moved.movement.commit != head.commit:
            raise RepositoryExistsError(
                f"{session.url} has a branch {branch!r} that somebody else made just now; clone to another place"
            ) from moved
