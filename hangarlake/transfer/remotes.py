"""Remotes: other places of the repository, by name, and how they are opened."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hangarlake.chunks.packs import ChunkRef
from hangarlake.chunks.reader import ChunkReader
from hangarlake.errors import (
    CorruptionError,
    DataNotLocalError,
    ObjectNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StorageError,
)
from hangarlake.records.marker import MARKER_KEY, Marker
from hangarlake.records.movements import check_branch_name
from hangarlake.session import TRACKING, Session
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.local import LocalStore
from hangarlake.storage.redact import redact_url
from hangarlake.storage.url import StoreLike, open_store
from hangarlake.transfer.config import RemoteRecord, UserConfig, harmless_options, options_of_environment

__all__ = ["Remote", "Remotes", "release"]


@dataclass(frozen=True, slots=True)
class Remote:
    """Another place of the repository.

    Attributes
    ----------
    name : str
    url : str
        Without credentials.
    profile : str or None
        Of the user's configuration, which has its storage options.
    data : bool
        Whether a fetch brings data as well (the clone was made with ``data=True``).
    """

    name: str
    url: str
    profile: str | None = None
    data: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)


class Remotes(Mapping[str, Remote]):
    """The remotes of one working copy: a mapping from names, with `add` and `remove`. May be used from several threads.

    They are kept in the user's configuration, keyed by the repository's id and the place of the working copy. Credentials
    are not kept: they come from the environment, from a profile, or with the call, for as long as the repository is open.
    """

    def __init__(self, session: Session, passed: frozenset[str] = frozenset()) -> None:
        self._session = session
        # Places on the way here, where remotes have remotes: none is asked twice.
        self._passed = passed | {session.place}
        self._config = UserConfig()
        self._key = f"{session.marker.id} {session.place}"
        self._lock = threading.RLock()
        # What is not written to any file: options of calls, and stores that were handed in.
        self._options: dict[str, dict[str, Any]] = {}
        self._places: dict[str, StoreLike] = {}
        self._stores: dict[str, ObjectStore] = {}
        self._readers: dict[str, ChunkReader] = {}

    # ---- which there are --------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Remote:
        record = self._config.remotes(self._key).get(name)
        if record is None:
            raise KeyError(name)
        return Remote(name, record.url, record.profile, record.data)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._config.remotes(self._key)))

    def __len__(self) -> int:
        return len(self._config.remotes(self._key))

    def __repr__(self) -> str:
        return f"<remotes: {', '.join(f'{remote.name} {remote.url}' for remote in self.values()) or 'none'}>"

    def add(
        self,
        name: str,
        url: StoreLike,
        *,
        storage_options: Mapping[str, Any] | None = None,
        profile: str | None = None,
        data: bool = False,
    ) -> Remote:
        """Give a place a name; one that has it already is replaced. Nothing is asked of the place itself.

        Parameters
        ----------
        name : str
            ``origin``, for instance.
        url : str, path, fsspec filesystem or ObjectStore
        storage_options : mapping, optional
            As fsspec takes them. Addresses and switches are remembered; credentials only while this repository is open.
        profile : str, optional
            Name of storage options under ``profiles`` in the user's configuration.
        data : bool
            Whether :meth:`Repository.fetch` brings data as well.

        Raises
        ------
        ValueError
            If no remote can have that name, or the place is the repository itself.
        StorageError
            If the URL makes no sense.
        """
        try:
            check_branch_name(name)
        except ValueError as error:
            raise ValueError(str(error).replace("the name of a branch", "the name of a remote")) from None
        if "/" in name:
            raise ValueError(f"{name!r} cannot be the name of a remote: it contains '/'")
        if profile is not None:
            self._config.profile(profile)
        options = dict(storage_options or {})
        store = open_store(url, {**self._base_options(profile), **options})
        place = store.path if isinstance(store, LocalStore) else redact_url(store.url)
        if place == self._session.place:
            raise ValueError(f"{place} is the repository itself; a remote is another place")
        with self._lock:
            known = self._config.remotes(self._key).get(name)
            if known is not None and known.url != place:
                self._session.index.replace_refs(f"{TRACKING}{name}/", {}, prune=True)
            record = RemoteRecord(url=place, options=harmless_options(options), profile=profile, data=data)
            self._config.set_remote(self._key, name, record)
            self._forget(name)
            self._stores[name] = store
            self._options[name] = options
            if not isinstance(store, LocalStore):
                self._places[name] = url
        return self[name]

    def remove(self, name: str) -> None:
        """Forget a remote and what was last seen of its branches. What was fetched stays.

        Raises
        ------
        RevisionNotFoundError
            If there is none of that name.
        """
        self._record(name)
        with self._lock:
            self._config.remove_remote(self._key, name)
            self._session.index.replace_refs(f"{TRACKING}{name}/", {}, prune=True)
            self._forget(name)

    def _forget(self, name: str) -> None:
        for held in (self._options, self._places, self._stores, self._readers):
            held.pop(name, None)

    def _record(self, name: str) -> RemoteRecord:
        known = self._config.remotes(self._key)
        if name not in known:
            there = f" (there are: {', '.join(sorted(known))})" if known else ""
            raise RevisionNotFoundError(
                f"there is no remote {name!r}{there}; add it with repo.remotes.add({name!r}, url)"
            )
        return known[name]

    # ---- opening them -----------------------------------------------------------------------------------------------

    def _base_options(self, profile: str | None) -> dict[str, Any]:
        return self._config.profile(profile) if profile is not None else {}

    def use_options(self, name: str, storage_options: Mapping[str, Any] | None) -> None:
        """Use these storage options for a remote, for as long as the repository is open (``None``: as before)."""
        if storage_options is None:
            return
        with self._lock:
            if self._options.get(name) != dict(storage_options):
                self._options[name] = dict(storage_options)
                self._stores.pop(name, None)
                self._readers.pop(name, None)

    def handed_in(self) -> dict[str, tuple[StoreLike | None, dict[str, Any]]]:
        """Return what no file keeps, for a pickle: places and options by name."""
        return {name: (self._places.get(name), options) for name, options in self._options.items()}

    def take_over(self, held: Mapping[str, tuple[StoreLike | None, dict[str, Any]]]) -> None:
        """Take what :meth:`handed_in` returned in another process."""
        for name, (place, options) in held.items():
            self._options[name] = options
            if place is not None:
                self._places[name] = place

    def store(self, name: str) -> ObjectStore:
        """Return the store of a remote.

        Raises
        ------
        RevisionNotFoundError
            If there is no such remote.
        StorageError
        """
        with self._lock:
            known = self._stores.get(name)
            if known is None:
                record = self._record(name)
                options = {**self._base_options(record.profile), **record.options}
                options |= options_of_environment(_variable(name)) | self._options.get(name, {})
                known = open_store(self._places.get(name, record.url), options or None)
                self._stores[name] = known
            return known

    def open(self, name: str) -> Session:
        """Open a remote.

        Raises
        ------
        RepositoryNotFoundError
            If there is no repository at its place.
        """
        return open_session(self.store(name), self._session, f"remote {name!r}")

    def close(self) -> None:
        """Release connections."""
        with self._lock:
            for store in self._stores.values():
                store.close()
            self._readers.clear()

    # ---- reading through --------------------------------------------------------------------------------------------

    def reader(self, name: str) -> ChunkReader:
        """Return what reads the chunks that a remote has, wherever it keeps them.

        A remote that is a partial clone itself, made by this user, is followed to its own remotes.
        """
        with self._lock:
            known = self._readers.get(name)
            if known is None:
                known = self._readers[name] = self._reader(name)
            return known

    def _reader(self, name: str, *, exact: bool = False) -> ChunkReader:
        store = self.store(name)
        place = self._session.sibling(store, self._session.marker)
        place.locality.remote = Remotes(place, self._passed).read_chunks
        hook = place.locality.reader_hook(read_through=True)
        return ChunkReader(store, missing=hook, local=True if exact else None)

    def exact_reader(self, name: str) -> ChunkReader:
        """Return a reader that fetches what is asked for and next to nothing besides: near ranges are hardly merged."""
        with self._lock:
            return self._reader(name, exact=True)

    def read_chunks(self, refs: Sequence[ChunkRef]) -> list[bytes | None]:
        """Return chunks from the first remote that has them: ``origin`` first, then the others by name.

        Raises
        ------
        DataNotLocalError
            If there are remotes, and none of them has a chunk.
        """
        known = {name: remote.url for name, remote in self.items() if remote.url not in self._passed}
        names = sorted(known, key=lambda name: (name != "origin", name))
        found: list[bytes | None] = [None] * len(refs)
        rest = list(range(len(refs)))
        failure: Exception | None = None
        for name in names:
            try:
                for i, data in zip(rest, read_present(self.reader(name), [refs[i] for i in rest]), strict=True):
                    found[i] = data
            except (StorageError, CorruptionError) as error:
                failure = error  # another remote may have them
            rest = [i for i in rest if found[i] is None]
            if not rest:
                return found
        if failure is not None:
            raise failure
        if names:
            raise DataNotLocalError(
                f"{refs[rest[0]].key} is neither in {self._session.url} nor at its remotes ({', '.join(names)}); "
                "add a remote that has it, then read again or call repo.fetch_data"
            )
        return found


def read_present(reader: ChunkReader, refs: Sequence[ChunkRef]) -> list[bytes | None]:
    """Return the bytes of chunks, ``None`` for those that the reader's store does not have."""
    try:
        return list(reader.read_raw(refs))
    except (ObjectNotFoundError, DataNotLocalError):
        if len(refs) == 1:
            return [None]
    # Which ones are missing? By object: the chunks of one pack are there together.
    by_key: dict[str, list[int]] = {}
    for i, ref in enumerate(refs):
        by_key.setdefault(ref.key, []).append(i)
    groups = list(by_key.values()) if len(by_key) > 1 else [[i] for i in range(len(refs))]
    found: list[bytes | None] = [None] * len(refs)
    for group in groups:
        for i, data in zip(group, read_present(reader, [refs[i] for i in group]), strict=True):
            found[i] = data
    return found


def open_session(store: ObjectStore, beside: Session, what: str) -> Session:
    """Open the repository in a store as a session of its own, with the settings of another one.

    Raises
    ------
    RepositoryNotFoundError
        If there is none.
    """
    try:
        marker = Marker.parse(store.get(MARKER_KEY))
    except ObjectNotFoundError as error:
        raise RepositoryNotFoundError(f"there is no repository at {redact_url(store.place)} ({what})") from error
    return beside.sibling(store, marker)


def release(remote: Session) -> None:
    """Finish what a session of a remote has in the background. Its store stays open: others use it."""
    remote.refs.close()
    remote.graph.close()
    remote.index.close()


def _variable(name: str) -> str:
    """Return the name of the environment variable that holds the storage options of a remote."""
    return "HANGARLAKE_OPTIONS_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()
