"""Repositories: what a person holds."""

from __future__ import annotations

import html
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, overload

from hangarlake.authors import parse_author
from hangarlake.checkout import Checkout
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.errors import (
    ObjectNotFoundError,
    RepositoryExistsError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from hangarlake.history_methods import HistoryMethods
from hangarlake.publish import Draft, publish
from hangarlake.records.canonical import quote_name
from hangarlake.records.catalog import Catalog
from hangarlake.records.marker import MARKER_KEY, Marker
from hangarlake.records.models import Author, Commit
from hangarlake.records.movements import Movement, check_branch_name, hint_key
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.refs import RefMovedError
from hangarlake.ref_methods import RefMethods
from hangarlake.session import Session
from hangarlake.staged import StagedCheckout
from hangarlake.staging import Staging, StagingSnapshot
from hangarlake.statistics import Stats, gather_stats
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.executors import map_io
from hangarlake.storage.probe import probe_create_if_absent
from hangarlake.storage.redact import redact_url
from hangarlake.storage.url import StoreLike, open_store
from hangarlake.transfer.operations import TransferOperations
from hangarlake.upkeep.operations import UpkeepOperations
from hangarlake.write_checkout import WriteCheckout

__all__ = ["Repository"]

StagingKind: TypeAlias = Literal["disk", "memory"]


class Repository(RefMethods, HistoryMethods, TransferOperations, UpkeepOperations):
    """A versioned repository of arrays under one bucket URL.

    Open one with :meth:`open` or make one with :meth:`create`. Thread-safe. It pickles to its URL and
    ``storage_options`` (so treat a pickle as you treat these); its ``repr`` never shows them.
    """

    def __new__(cls, *args: Any, **_: Any) -> Self:
        if not (args and isinstance(args[0], Session)):
            raise TypeError("use hl.Repository.open(url) or hl.Repository.create(url)")
        return super().__new__(cls)

    def __init__(self, session: Session, reopen: tuple[Any, ...]) -> None:
        super().__init__(session, reopen)

    # ---- creating and opening ---------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        url: StoreLike,
        *,
        storage_options: Mapping[str, Any] | None = None,
        author: str | Author | None = None,
        default_branch: str = "main",
        allow_unsafe_store: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        disk_cache: int | str | None = None,
    ) -> Repository:
        """Create a repository with an initial empty commit.

        Parameters
        ----------
        url : str, path, fsspec filesystem or ObjectStore
            ``s3://bucket/path``, ``gs://…``, ``az://…``, ``memory://…``, a path, or any URL that fsspec opens.
        storage_options : mapping, optional
            As fsspec takes them. Never written to the repository.
        author : str, optional
            ``"Name <mail>"``; else ``HANGARLAKE_AUTHOR``, else git's settings, else user@host.
        default_branch : str
        allow_unsafe_store : bool
            Write to a store that ignores “create if absent”. Right for a single writer only.
        cache_dir : path-like, optional
            Where this machine's working copy is kept; by default ``HANGARLAKE_CACHE_DIR``, else the user's cache directory.
        disk_cache : int or str, optional
            How many bytes of chunks (``"20 GB"``, ``"512 MiB"``, or a number) are kept on this machine's disk, below
            `cache_dir`, when they have been read once; 0 for none. All repositories and processes share these files. By default
            ``HANGARLAKE_DISK_CACHE``, which leaves out repositories in local folders; else none.

        Raises
        ------
        RepositoryExistsError
            If there is one already.
        UnsafeStoreError
            If the store ignores “create if absent”.
        """
        check_branch_name(default_branch)
        store = open_store(url, _options(storage_options), create=True)
        present = _read(store, MARKER_KEY)
        marker = Marker.parse(present) if present is not None else Marker.new(default_branch=default_branch)
        session = Session(
            store,
            marker,
            parse_author(author),
            cache_dir=cache_dir,
            disk_cache=disk_cache,
            allow_unsafe_store=allow_unsafe_store,
        )
        repository = cls(session, (url, _options(storage_options), author, cache_dir, allow_unsafe_store))
        if present is not None:
            if session.refs.names():
                raise _exists(session.url)
        elif not allow_unsafe_store and not store.creates_atomically:
            probe_create_if_absent(store)
        if present is None and not store.put_new(MARKER_KEY, marker.to_bytes()):
            stored = store.get(MARKER_KEY)
            if stored != marker.to_bytes():
                raise _exists(session.url)
        # A marker without any branch is what a creator that died leaves; another one completes it.
        draft = Draft([], Catalog(), [], "Create the repository", session.author, "create")
        try:
            publish(session, marker.default_branch, None, draft, StagedNodes(session.nodes), ChunkUploader(store))
        except RefMovedError as error:
            raise _exists(session.url) from error
        if not allow_unsafe_store:
            session.index.set("probed", True)
        return repository

    @classmethod
    def open(
        cls,
        url: StoreLike,
        *,
        storage_options: Mapping[str, Any] | None = None,
        author: str | Author | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        disk_cache: int | str | None = None,
        allow_unsafe_store: bool = False,
        read_through: bool = True,
    ) -> Repository:
        """Open a repository; nothing is read beyond its marker.

        Parameters
        ----------
        read_through : bool
            In a partial clone, read what is not here from the remote that has it; ``False`` raises ``DataNotLocalError``
            instead. A checkout may decide otherwise. The other parameters are those of :meth:`create`.

        Raises
        ------
        RepositoryNotFoundError
            If there is none.
        UnsupportedFormatError
            If it needs a newer Hangarlake.
        """
        store = open_store(url, _options(storage_options))
        # The hint of the likely default branch comes along in the same round trip.
        marker_data, hint = map_io(lambda key: _read(store, key), [MARKER_KEY, hint_key("main")])
        if marker_data is None:
            raise RepositoryNotFoundError(
                f"there is no repository at {redact_url(store.place)}; check the URL, or create one with "
                "Repository.create(url) or `hangarlake init`"
            )
        marker = Marker.parse(marker_data)
        session = Session(
            store,
            marker,
            parse_author(author),
            cache_dir=cache_dir,
            disk_cache=disk_cache,
            allow_unsafe_store=allow_unsafe_store,
            read_through=read_through,
        )
        session.prefetched_hint = ("main", hint)
        return cls(session, (url, _options(storage_options), author, cache_dir, allow_unsafe_store))

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers read through and cache as this repository does, with the same options.
        remotes = self._remotes.handed_in() if self._remotes is not None else {}
        return _reopen, (*self._reopen, self._session.read_through, remotes, self._session.disk_cache)

    def close(self) -> None:
        """Finish what runs in the background and release connections. The repository may be used again."""
        self._session.close()
        if self._remotes is not None:
            self._remotes.close()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it lies, without credentials."""
        return self._session.url

    @property
    def id(self) -> str:
        """32 hex digits, shared by all clones."""
        return self._session.marker.id

    @property
    def default_branch(self) -> str:
        """The branch that is meant when none is named."""
        return self._session.marker.default_branch

    @property
    def author(self) -> str:
        """Who commits, ``"Name <mail>"``."""
        return str(self._session.author)

    def __repr__(self) -> str:
        return f"<Repository {self.url}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{commit[:12]}</td></tr>" for name, commit in self.branches.items()
        )
        return f"<p><b>Repository</b> {html.escape(self.url)}</p><table><tr><th>branch</th><th>commit</th></tr>{rows}</table>"

    # ---- views ------------------------------------------------------------------------------------------------------

    @overload
    def checkout(
        self,
        rev: str | Commit | None = None,
        *,
        write: Literal[False] = False,
        staging: StagingKind = "disk",
        read_through: bool | None = None,
    ) -> Checkout: ...

    @overload
    def checkout(
        self,
        rev: str | Commit | None = None,
        *,
        write: Literal[True],
        staging: StagingKind = "disk",
        read_through: bool | None = None,
    ) -> WriteCheckout: ...

    @overload
    def checkout(
        self,
        rev: str | Commit | None = None,
        *,
        write: bool,
        staging: StagingKind = "disk",
        read_through: bool | None = None,
    ) -> Checkout | WriteCheckout: ...

    def checkout(
        self,
        rev: str | Commit | None = None,
        *,
        write: bool = False,
        staging: StagingKind = "disk",
        read_through: bool | None = None,
    ) -> Checkout | WriteCheckout:
        """Open a view of a commit, or the writer of a branch.

        Parameters
        ----------
        rev : revision, optional
            By default the default branch; with `write` it must be a branch.
        write : bool
        staging : "disk" or "memory"
            ``"memory"`` keeps nothing on close and takes no lock: for short-lived and parallel jobs.
        read_through : bool, optional
            Whether data that is not here is read from a remote; by default as the repository was opened.

        Returns
        -------
        Checkout or WriteCheckout

        Raises
        ------
        RevisionNotFoundError, AmbiguousRevisionError
        WriterLockedError
            If this working copy of the branch has a writer.
        UnsafeStoreError
            On the first write, if the store ignores “create if absent”.
        """
        if staging not in ("disk", "memory"):
            raise ValueError(f"staging is 'disk' or 'memory', not {staging!r}")
        if not write:
            snapshot, resolved = self._session.snapshot(rev)
            return Checkout(self, snapshot, resolved.branch, read_through)
        head = self._head_of(rev)
        self._session.check_writable()
        branch = head.branch
        place = None if staging == "memory" else Staging(self._staging_file(branch), self._staging_name(branch))
        try:
            base = self._session.snapshot_of(str(head.commit), head)
            writer = WriteCheckout(self, branch, head, base, place)
            writer._chunks = self._session.reader(read_through)
            return writer
        except BaseException:
            if place is not None:
                place.close()
            raise

    def staged(self, branch: str | None = None) -> StagedCheckout:
        """Look at what is staged on a branch in this working copy, as it was last flushed; a writer may go on meanwhile.

        Parameters
        ----------
        branch : str, optional
            By default the default branch.

        Returns
        -------
        StagedCheckout
            Read-only. Its ``writer`` says who is writing, its ``status()`` what is staged.

        Raises
        ------
        RevisionNotFoundError
            If it is no branch.
        """
        head = self._head_of(branch)
        place = StagingSnapshot(self._staging_file(head.branch), self._staging_name(head.branch))
        try:
            return StagedCheckout(self, head, place)
        except BaseException:
            place.close()
            raise

    def staged_branches(self) -> list[str]:
        """Return the branches on which something is staged in this working copy, as it was last flushed."""
        found = []
        for name in self._session.refs.branches():
            if self._staging_file(name).exists():
                with self.staged(name) as view:
                    if view.status():
                        found.append(name)
        return found

    def _head_of(self, rev: str | Commit | None) -> Movement:
        """Return where a branch stands that is to be written to."""
        resolved = self._session.locate(rev)
        if resolved.branch is None or not isinstance(resolved.source, Movement):
            raise RevisionNotFoundError(
                f"{str(rev)!r} is not a branch, and only branches are written to; make one with create_branch(name, at={str(rev)!r})"
            )
        return resolved.source

    def _staging_file(self, branch: str) -> Path:
        return self._session.working_copy / "staging" / f"{quote_name(branch)}.sqlite"

    def _staging_name(self, branch: str) -> str:
        return f"branch {branch!r} of {self.url} on this machine"

    def stats(self, rev: str | Commit | None = None) -> Stats:
        """Return how much a commit holds and how much the repository stores."""
        snapshot, _ = self._session.snapshot(rev)
        return gather_stats(self._session, snapshot, partial=bool(self.remotes))


def _options(storage_options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return dict(storage_options) if storage_options is not None else None


def _read(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectNotFoundError:
        return None


def _exists(url: str) -> RepositoryExistsError:
    return RepositoryExistsError(f"there is a repository at {url} already; open it with Repository.open(url)")


# ---- pickling -----------------------------------------------------------------------------------------------------------

_open_repositories: weakref.WeakValueDictionary[str, Repository] = weakref.WeakValueDictionary()
_open_lock = threading.Lock()


def _reopen(
    url: Any,
    options: dict[str, Any] | None,
    author: Any,
    cache_dir: Any,
    allow_unsafe_store: bool,
    read_through: bool = True,
    remotes: Mapping[str, Any] | None = None,
    disk_cache: int | str | None = None,
) -> Repository:
    """Open a pickled repository; a process that unpickles many views of one shares its connections and caches."""

    def fresh() -> Repository:
        repository = Repository.open(
            url,
            storage_options=options,
            author=author,
            cache_dir=cache_dir,
            disk_cache=disk_cache,
            allow_unsafe_store=allow_unsafe_store,
            read_through=read_through,
        )
        if remotes:
            repository.remotes.take_over(remotes)
        return repository

    if not isinstance(url, str):
        return fresh()
    settings = (
        sorted((options or {}).items(), key=lambda kv: kv[0]),
        author,
        cache_dir,
        disk_cache,
        read_through,
        remotes,
    )
    return _shared(repr((os.getpid(), url, settings)), fresh)


def _shared(key: str, fresh: Callable[[], Repository]) -> Repository:
    with _open_lock:
        known = _open_repositories.get(key)
    if known is not None:
        return known
    made = fresh()
    with _open_lock:
        return _open_repositories.setdefault(key, made)
