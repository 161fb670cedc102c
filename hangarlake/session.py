"""What an open repository shares: its store, caches, graph and refs. Views hold a session; nothing below knows it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs

from hangarlake.authors import default_author
from hangarlake.caching import disk_cache_of
from hangarlake.chunks.cache import ChunkCache, DiskCache
from hangarlake.chunks.reader import ChunkReader
from hangarlake.columns.lookup import HotNodes
from hangarlake.errors import CorruptionError, ObjectNotFoundError
from hangarlake.locality import Locality
from hangarlake.records.catalog import Catalog, catalog_key
from hangarlake.records.graph import Graph
from hangarlake.records.index import Index
from hangarlake.records.marker import Marker
from hangarlake.records.models import Author, Commit
from hangarlake.records.movements import Movement, Tag
from hangarlake.records.nodes import NodeStore
from hangarlake.records.refs import Refs
from hangarlake.records.revisions import Resolved, Resolver
from hangarlake.records.treepacks import read_tops
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.local import LocalStore
from hangarlake.storage.probe import probe_create_if_absent
from hangarlake.storage.redact import redact_url

__all__ = ["TRACKING", "Session", "Snapshot", "cache_folder"]

_log = logging.getLogger(__name__)
_CATALOGS = 64
# Before the names of remote branches in the index.
TRACKING = "remotes/"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit and what it holds."""

    commit: Commit
    catalog: Catalog


def cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    """Return the folder for local files: what was asked for, ``HANGARLAKE_CACHE_DIR``, or the user's cache directory."""
    chosen = cache_dir or os.environ.get("HANGARLAKE_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("hangarlake"))


class Session:
    """One open repository. Safe to use from several threads.

    Parameters
    ----------
    store : ObjectStore
    marker : Marker
    author : Author
    cache_dir : path-like, optional
        Where the working copy's local files are kept.
    disk_cache : int or str, optional
        How many bytes of encoded chunks are kept on this machine's disk; see :func:`~hangarlake.caching.disk_cache_of`.
    """

    def __init__(
        self,
        store: ObjectStore,
        marker: Marker,
        author: Author | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        disk_cache: int | str | None = None,
        allow_unsafe_store: bool = False,
        read_through: bool = True,
    ) -> None:
        self.store = store
        self.marker = marker
        self._author = author
        self.url = redact_url(store.url)
        self.allow_unsafe_store = allow_unsafe_store
        self._cache_dir = cache_dir
        self.refs = Refs(store)
        self.index = Index(self.working_copy / "index.sqlite")
        self.graph = Graph(store, self.index)
        self.nodes = NodeStore(store)
        self.hot = HotNodes(self.nodes)
        self.locality = Locality(store, self.working_copy / "locations")
        self.read_through = read_through
        self.disk_cache = disk_cache
        self.chunks = self._reader(disk_cache_of(disk_cache, store, cache_folder(cache_dir)), read_through)
        self.resolver = Resolver(self.refs, self.graph, store, lambda name: self.tracking().get(name))
        self._catalogs: OrderedDict[str, Catalog] = OrderedDict()
        self._lock = threading.Lock()
        # A hint that was fetched together with the marker: (branch, content). Used once.
        self.prefetched_hint: tuple[str, bytes | None] | None = None

    @cached_property
    def working_copy(self) -> Path:
        """The folder of this machine's files for this repository at this URL."""
        place = hashlib.sha256(self.place.encode()).hexdigest()[:16]
        return cache_folder(self._cache_dir) / f"{self.marker.id}-{place}"

    def sibling(self, store: ObjectStore, marker: Marker) -> Session:
        """Return a session of another place, with the settings of this one."""
        return Session(
            store,
            marker,
            self._author,
            cache_dir=self._cache_dir,
            disk_cache=0,  # what is read from there is for this place, which keeps it
            allow_unsafe_store=self.allow_unsafe_store,
        )

    @cached_property
    def place(self) -> str:
        """The URL without credentials; of a folder its absolute path, however it was typed."""
        return self.store.path if isinstance(self.store, LocalStore) else self.url

    @cached_property
    def author(self) -> Author:
        """Who commits: what was given, or what the environment says."""
        return self._author or default_author()

    # ---- clones -----------------------------------------------------------------------------------------------------

    def tracking(self) -> dict[str, str]:
        """Return where the branches of remotes stood when they were last seen: ``origin/main`` → commit id."""
        found = self.index.refs().items()
        return {name[len(TRACKING) :]: commit for name, (_, commit) in found if commit and name.startswith(TRACKING)}

    def reader(self, read_through: bool | None = None) -> ChunkReader:
        """Return what reads chunks; one that reads through from a remote otherwise than usual has a cache of its own."""
        if read_through is None or read_through == self.read_through:
            return self.chunks
        return self._reader(None, read_through)

    def _reader(self, disk_cache: DiskCache | None, read_through: bool) -> ChunkReader:
        hook = self.locality.reader_hook(read_through=read_through)
        return ChunkReader(self.store, ChunkCache(), disk_cache, missing=hook)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def locate(self, rev: str | Commit | None) -> Resolved:
        """Find what a revision means."""
        default = self.marker.default_branch
        hint, self.prefetched_hint = self.prefetched_hint, None
        if hint is not None and hint[0] == default and rev in (None, default, "HEAD", "@"):
            # One round trip fewer: `open` has fetched the hint of the default branch together with the marker.
            head = self.refs.head(default, hint=hint[1])
            if head is not None and head.commit is not None and head.record is not None:
                self.graph.add(head.commit, head.record)
                return Resolved(head.commit, default, head)
        return self.resolver.locate(rev, default)

    def snapshot(self, rev: str | Commit | None) -> tuple[Snapshot, Resolved]:
        """Return the commit of a revision and its catalog, using the copies that a ref carries."""
        resolved = self.locate(rev)
        return self.snapshot_of(resolved.commit, resolved.source), resolved

    def snapshot_of(self, commit_id: str, source: Movement | Tag | None = None) -> Snapshot:
        """Return a commit and its catalog; `source` is a ref that stands on it and may carry copies."""
        if source is not None and source.record is not None:
            commit = self.graph.add(commit_id, source.record)
        else:
            commit = self.graph.commit(commit_id)
        return Snapshot(commit, self.catalog(commit.catalog, source))

    def catalog(self, catalog_id: str, source: Movement | Tag | None = None) -> Catalog:
        """Return a catalog, from memory, from the copy in a ref, or from its object."""
        with self._lock:
            known = self._catalogs.get(catalog_id)
            if known is not None:
                self._catalogs.move_to_end(catalog_id)
                return known
        if source is not None and source.catalog is not None and source.physical is not None:
            catalog = Catalog.parse(catalog_id, source.catalog, source.physical)
            self.nodes.add(read_tops(catalog, source.nodes))
        else:
            try:
                data = self.store.get(catalog_key(catalog_id))
            except ObjectNotFoundError as error:
                raise CorruptionError(
                    f"catalog {catalog_key(catalog_id)} is missing from {self.url}; fetch it from a clone that has it"
                ) from error
            catalog = Catalog.decode(catalog_id, data)
        self.keep_catalog(catalog)
        return catalog

    def keep_catalog(self, catalog: Catalog) -> None:
        """Keep a catalog in memory, and the small trees that lie in it."""
        self.nodes.add_inlined(catalog.decode_inlined())
        with self._lock:
            self._catalogs[catalog.id] = catalog
            while len(self._catalogs) > _CATALOGS:
                self._catalogs.popitem(last=False)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Refuse a store that ignores “create if absent”, once per working copy.

        Raises
        ------
        UnsafeStoreError
            Unless `allow_unsafe_store` was given.
        UnsupportedFormatError
            If writing needs features that this version lacks.
        """
        self.marker.check_writable()
        if self.allow_unsafe_store or self.store.creates_atomically or self.index.get("probed"):
            return
        probe_create_if_absent(self.store)
        self.index.set("probed", True)

    def close(self) -> None:
        """Write pending hints, and release connections; a part that fails does not keep the others open."""
        try:
            self.refs.close()
            self.graph.close()
        finally:
            with contextlib.suppress(Exception):
                self.index.close()
            self.store.close()
