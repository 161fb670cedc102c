"""What a repository does with other places of itself: the methods that :class:`Repository` takes from here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from hangarlake.authors import parse_author
from hangarlake.errors import RepositoryExistsError
from hangarlake.records.models import Author, Commit
from hangarlake.records.movements import Movement
from hangarlake.records.refs import RefMovedError
from hangarlake.session import Session
from hangarlake.storage.url import StoreLike, open_store
from hangarlake.transfer.remotes import Remotes
from hangarlake.transfer.results import FetchResult, Progress, PushResult

if TYPE_CHECKING:
    pass

__all__ = ["TransferOperations"]

_ORIGIN = "origin"
_lock = threading.Lock()


class _Mergeable(Protocol):
    def merge(self, source: str, into: str | None = None) -> Commit: ...


class TransferOperations:
    """Remotes, clone, fetch, pull, push, and partial data."""

    _session: Session

    def __init__(self, session: Session, reopen: tuple[Any, ...]) -> None:
        self._session = session
        self._reopen = reopen
        self._remotes: Remotes | None = None
        session.locality.remote = lambda refs: self.remotes.read_chunks(refs)

    @property
    def remotes(self) -> Remotes:
        """The other places that this working copy knows: a mapping by name, with ``add`` and ``remove``."""
        if self._remotes is None:
            with _lock:
                self._remotes = self._remotes or Remotes(self._session)
        return self._remotes

    @classmethod
    def clone(
        cls,
        source_url: StoreLike,
        url: StoreLike,
        *,
        source_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        branches: Sequence[str] | None = None,
        data: bool = False,
        author: str | Author | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        disk_cache: int | str | None = None,
        allow_unsafe_store: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Make a second place of a repository: same id, same commits, with the first as the remote ``origin``.

        Only the book-keeping comes (bytes in proportion to the records): log, diff, merge, branch and commit all work, and
        samples are read through from the origin until :meth:`fetch_data` brings them. An attempt that was interrupted is
        continued by calling it again.

        Parameters
        ----------
        source_url : str, path, fsspec filesystem or ObjectStore
            Of an existing repository; plain HTTP will do (then only branches that are named come, else the default branch).
        url : str, path, fsspec filesystem or ObjectStore
            Where the clone is to be.
        source_options, storage_options : mapping, optional
            As fsspec takes them, of either place.
        branches : sequence of str, optional
            All by default.
        data : bool
            Bring all data as well, now and with every fetch.
        author, cache_dir, disk_cache, allow_unsafe_store
            Of the clone, as :meth:`Repository.open` takes them.

        Raises
        ------
        RepositoryNotFoundError
            If there is none at `source_url`.
        RepositoryExistsError
            If there is another one at `url`.
        CorruptionError
            If the source is damaged; the clone has not come to be.
        """
        from hangarlake.transfer.clone import clone_into, found_marker, source_marker
        from hangarlake.transfer.remotes import release

        source = open_store(source_url, dict(source_options or {}))
        marker = source_marker(source)
        store = open_store(url, dict(storage_options or {}), create=True)
        session = Session(
            store,
            marker,
            parse_author(author),
            cache_dir=cache_dir,
            disk_cache=disk_cache,
            allow_unsafe_store=allow_unsafe_store,
        )
        options = dict(storage_options) if storage_options is not None else None
        repository = cls(session, (url, options, author, cache_dir, allow_unsafe_store))
        try:
            try:
                repository.remotes.add(_ORIGIN, source_url, storage_options=source_options, data=data)
            except ValueError as error:
                raise RepositoryExistsError(f"{session.url} is the source itself; clone to another place") from error
            remote = session.sibling(source, marker)
            try:
                clone_into(session, repository.remotes, _ORIGIN, remote, branches, data=data, progress=progress)
            finally:
                release(remote)
        except BaseException:
            # What has not become a repository has no remotes; another attempt gives it one again.
            with suppress(Exception):
                present = found_marker(store)
                if present is None or present.id != marker.id:
                    repository.remotes.remove(_ORIGIN)
            repository.remotes.close()
            session.close()
            raise
        return repository

    def fetch(
        self,
        remote: str = _ORIGIN,
        branches: Sequence[str] | None = None,
        *,
        force: bool = False,
        data: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, str]:
        """Bring what a remote has and this place lacks. No branch of this repository moves.

        Parameters
        ----------
        remote : str
        branches : sequence of str, optional
            All by default.
        force : bool
            Also from a repository that is no clone of this one.
        data : bool, optional
            Whether data packs come too; by default as the clone was made.
        storage_options : mapping, optional
            Of the remote, for as long as this repository is open.
        dry_run : bool
            Only count (in `progress`) what would travel.

        Returns
        -------
        dict of str to str
            Where the branches of the remote stand: ``"origin/main"`` → commit id. They are revisions from here on.

        Raises
        ------
        RevisionNotFoundError
            If there is no such remote, or it has no such branch.
        BranchExistsError
            If a tag stands elsewhere here; everything else was fetched.
        CorruptionError
            If the remote is damaged; nothing has moved.
        """
        from hangarlake.transfer.fetch import fetch

        self.remotes.use_options(remote, storage_options)
        names = [branches] if isinstance(branches, str) else branches
        return fetch(
            self._session, self.remotes, remote, names, force=force, data=data, dry_run=dry_run, progress=progress
        )

    def pull(
        self,
        remote: str = _ORIGIN,
        branch: str | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Commit:
        """Fetch a branch, and merge it into the branch of the same name here (fast-forward where possible).

        Returns
        -------
        Commit
            Where the branch stands.

        Raises
        ------
        MergeConflictError
            If both sides changed the same thing; nothing is merged, and ``origin/<branch>`` has what was fetched.
        RevisionNotFoundError, BranchExistsError, CorruptionError
            As :meth:`fetch` does.
        """
        name = branch or self._session.marker.default_branch
        fetched = self.fetch(remote, [name], storage_options=storage_options, progress=progress)
        tracking = f"{remote}/{name}"
        theirs = fetched[tracking]
        session = self._session
        while True:
            head = session.refs.head(name)
            ours = head.commit if head is not None else None
            if ours is not None and session.graph.is_ancestor(theirs, ours):
                return session.graph.commit(ours)
            if ours is not None and not session.graph.is_ancestor(ours, theirs):
                return cast("_Mergeable", self).merge(tracking, into=name)
            try:
                self._stand_at(name, head, theirs, remote)
            except RefMovedError:
                continue  # somebody commits here just now
            return session.graph.commit(theirs)

    def _stand_at(self, branch: str, head: Movement | None, commit: str, remote: str) -> None:
        from hangarlake.publish import stand_fields

        session = self._session
        fields = stand_fields(session, session.snapshot_of(commit))
        session.refs.move(
            branch,
            head,
            operation="fetch",
            author=session.author,
            message=f"fast-forward to {remote}/{branch}",
            **fields,
        )

    def push(
        self,
        remote: str = _ORIGIN,
        branch: str | None = None,
        *,
        force: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PushResult:
        """Send a branch (or a tag) to a remote, with all that it needs there and no more; then move it there.

        A push that was interrupted is continued by calling it again. To an empty place it makes a clone there.

        Parameters
        ----------
        branch : str, optional
            The default branch by default.
        force : bool
            Move the remote branch even if it has commits that are not here (its reflog keeps where it stood), or the
            remote is another repository.
        storage_options : mapping, optional
            Of the remote, for as long as this repository is open.
        dry_run : bool
            Only count what would travel.

        Raises
        ------
        PushRejectedError
            If the remote branch has moved on, a tag stands elsewhere there, or the remote is another repository.
        RevisionNotFoundError
            If there is no such remote, branch or tag.
        """
        from hangarlake.transfer.push import push

        self.remotes.use_options(remote, storage_options)
        name = branch or self._session.marker.default_branch
        return push(self._session, self.remotes, remote, name, force=force, dry_run=dry_run, progress=progress)

    def fetch_data(
        self,
        rev: str | Commit | None = None,
        *,
        remote: str = _ORIGIN,
        nodes: Sequence[str] | str | None = None,
        keys: Iterable[Any] | None = None,
        max_bytes: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> FetchResult:
        """Bring the data of a part of a commit here: exactly the chunks that it touches. No id changes.

        Parameters
        ----------
        rev : revision, optional
            The default branch by default.
        nodes : sequence of str, optional
            Columns, arrays and groups; all by default.
        keys : iterable, optional
            Of samples (tuples of grid coordinates for arrays); all by default.
        max_bytes : int, optional
            Stop before more bytes than this have come.
        dry_run : bool
            Only count.

        Raises
        ------
        NodeNotFoundError, SampleNotFoundError, RevisionNotFoundError
        DataNotLocalError
            If the remote lacks the data as well.
        """
        from hangarlake.transfer.data import fetch_data

        self.remotes.use_options(remote, storage_options)
        snapshot, _ = self._session.snapshot(rev)
        return fetch_data(
            self._session,
            self.remotes,
            snapshot,
            remote=remote,
            nodes=nodes,
            keys=keys,
            max_bytes=max_bytes,
            dry_run=dry_run,
            progress=progress,
        )
