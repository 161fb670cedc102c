"""Copying objects from one store to another: concurrently, in bounded memory, and verified before they are written."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from types import MappingProxyType
from typing import TypeVar

from hangarlake.chunks.digests import blake3_160, blake3_256
from hangarlake.errors import CorruptionError, ObjectNotFoundError
from hangarlake.records.catalog import Catalog
from hangarlake.records.commits import parse_commit
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.executors import io_pool, map_io
from hangarlake.transfer.results import Progress

__all__ = ["Courier", "condemned", "in_parallel", "read_catalog", "read_object", "verify_object"]

T = TypeVar("T")
R = TypeVar("R")

# Objects on their way at once. Packs have 16 to 32 MiB, so this bounds memory.
PACKS_AT_ONCE = 6
SMALL_AT_ONCE = 32
_LIST_FROM = 64
# The most bytes that an object of each kind may have; what is longer is not read, for the source is not trusted.
_LIMITS = {"commits": 4 << 20, "history": 64 << 20, "trees": 64 << 20, "catalogs": 512 << 20, "packs": 512 << 20}
_CONDEMNED_KEY = "gc/condemned.json"
_NAMED = re.compile(rb"(?:packs|trees|catalogs|commits)/[0-9a-f]{2}/[0-9a-f]{40,64}(?:\.json)?")


def in_parallel(function: Callable[[T], R], items: Iterable[T], width: int) -> list[R]:
    """Apply a function on the I/O threads, to so many items at once; results in order.

    After an error (or Ctrl-C) nothing new is begun, and what is under way ends before the first error is raised.
    """
    results: list[R] = []
    flying: deque[Future[R]] = deque()
    try:
        for item in items:
            if len(flying) >= width:
                results.append(flying.popleft().result())
            flying.append(io_pool().submit(function, item))
        while flying:
            results.append(flying.popleft().result())
    finally:
        for each in flying:
            each.cancel()
        wait(flying)
    return results


def read_object(store: ObjectStore, key: str, limit: int | None = None) -> bytes:
    """Read an object of a place that is not trusted.

    Parameters
    ----------
    limit : int, optional
        The most bytes that it may have; by default what its kind may have.

    Raises
    ------
    CorruptionError
        If it is longer; it was not read.
    ObjectNotFoundError, StorageError
    """
    return store.get_bounded(key, _LIMITS[key.partition("/")[0]] if limit is None else limit)


def verify_object(key: str, data: bytes) -> None:
    """Check that an object is what its key says.

    Raises
    ------
    CorruptionError
        If not; nothing of it may be stored.
    """
    kind, _, name = key.partition("/")
    name = name.partition("/")[2]
    if kind == "commits":
        parse_commit(name.removesuffix(".json"), data)
    elif kind == "catalogs":
        read_catalog(name, data)
    else:
        found = blake3_160(data).hex() if len(name) == 40 else blake3_256(data).hex()
        if found != name or (kind == "trees" and data[:8] != b"HLTREE01"):
            raise CorruptionError(f"{key} is damaged: its bytes do not hash to its name; nothing was moved")


def read_catalog(catalog_id: str, data: bytes) -> Catalog:
    """Read a catalog that comes from elsewhere, and the small trees in it.

    Raises
    ------
    CorruptionError
    """
    catalog = Catalog.decode(catalog_id, data)
    catalog.decode_inlined()
    return catalog


class Courier:
    """Carries objects from a source to a target, each only if the target lacks it.

    Parameters
    ----------
    source, target : ObjectStore
    progress : Progress
    dry : bool
        Count what would travel, and write nothing.
    trusted : bool
        Whether the source is one's own: then a server that both stores share may copy data packs by itself.
    """

    def __init__(
        self,
        source: ObjectStore,
        target: ObjectStore,
        progress: Progress,
        *,
        dry: bool = False,
        trusted: bool = False,
    ) -> None:
        self.trusted = trusted
        self.source = source
        self.target = target
        self.progress = progress
        self.dry = dry
        self._condemned: frozenset[str] | None = None
        self._listed: dict[str, set[str]] = {}
        self._written: set[str] = set()
        # Whether the target had anything of what was asked for: if not, this is no second attempt.
        self.met = False

    # ---- what the target has ----------------------------------------------------------------------------------------

    def list_target(self, *prefixes: str) -> None:
        """Learn all that the target has, where that takes fewer requests than asking for each object."""
        for prefix, infos in zip(prefixes, map_io(lambda each: list(self.target.list(each)), prefixes), strict=True):
            self._listed[prefix] = {info.key for info in infos}

    def absent(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that the target lacks, in order. What its garbage collector has condemned counts as absent."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._written]
        by_prefix: dict[str, list[str]] = {}
        for key in wanted:
            by_prefix.setdefault(key.partition("/")[0] + "/", []).append(key)
        there: set[str] = set()
        for prefix, mine in by_prefix.items():
            if len(mine) >= _LIST_FROM and prefix not in self._listed and self.target.can_list:
                self.list_target(prefix)
            listed = self._listed.get(prefix)
            if listed is not None:
                there.update(key for key in mine if key in listed)
            else:
                found = map_io(self.target.exists, mine)
                there.update(key for key, present in zip(mine, found, strict=True) if present)
        if there:
            self.met = True
            if self._condemned is None:
                self._condemned = condemned(self.target)
            there -= self._condemned
        return [key for key in wanted if key not in there]

    # ---- carrying ---------------------------------------------------------------------------------------------------

    def carry(
        self,
        keys: Sequence[str],
        width: int,
        keep: Callable[[str, bytes], None] = lambda *_: None,
        lengths: Mapping[str, int] = MappingProxyType({}),
    ) -> list[str]:
        """Copy content-named objects; return the keys that the source does not have.

        Parameters
        ----------
        lengths : mapping of str to int
            How long objects are, where that is known.
        keep : callable
            Shown every object that was verified and written. Called on several threads.

        Raises
        ------
        CorruptionError
            If an object is not what its name says, or longer than it can be; it is not written.
        """

        def move(key: str) -> bool:
            if self.dry and key.startswith("packs/") and self.source.can_list:
                size = next((info.size for info in self.source.list(key) if info.key == key), None)
                if size is not None:
                    self.progress.sent(size)
                return size is not None
            try:
                if self.trusted and not self.dry and key.startswith("packs/"):
                    copied = self.target.copy_from(self.source, key)
                    if copied is not None:
                        self._written.add(key)
                        self.progress.sent(copied)
                        return True
                data = read_object(self.source, key, lengths.get(key))
            except ObjectNotFoundError:
                return False
            verify_object(key, data)
            self.write(key, data)
            keep(key, data)
            return True

        return [key for key, moved in zip(keys, in_parallel(move, keys, width), strict=True) if not moved]

    def write(self, key: str, data: bytes, *, overwrite: bool = False) -> bool:
        """Write one verified object; return ``False`` for a catalog that was there already, and stays."""
        if not self.dry:
            if overwrite or not key.startswith("catalogs/"):
                self.target.put(key, data)  # same name, same bytes: replacing one that came meanwhile changes nothing
            elif not self.target.put_new(key, data):
                return False
        self._written.add(key)
        self.progress.sent(len(data))
        return True


def condemned(store: ObjectStore) -> frozenset[str]:
    """Return the keys that a garbage collector is about to delete: what is there must be written again to stay."""
    try:
        data = store.get(_CONDEMNED_KEY)
    except ObjectNotFoundError:
        return frozenset()
    # Any mention counts: to write an object once more than needed does no harm.
    return frozenset(match.decode() for match in _NAMED.findall(data))
