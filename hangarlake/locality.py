"""What is here and what is not: where a clone keeps its chunks, and where it gets those that it lacks."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.packs import ChunkRef
from hangarlake.chunks.reader import ChunkReader
from hangarlake.errors import CorruptionError, DataNotLocalError, ObjectNotFoundError
from hangarlake.records.canonical import is_id
from hangarlake.records.entries import PENDING, Entries
from hangarlake.records.locations import (
    LOCATIONS,
    SEGMENT_ROWS,
    Locations,
    decode_locations,
    encode_locations,
    location_key,
)
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import NodeSource, iter_leaves
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.executors import map_io

__all__ = ["Locality", "RemoteChunks"]

_log = logging.getLogger(__name__)

# Given references, returns the encoded bytes of each from a remote, or None where none has it.
RemoteChunks: TypeAlias = Callable[[Sequence[ChunkRef]], Sequence[bytes | None]]

# From this many objects on, one listing is asked instead of the objects one by one.
_LIST_FROM = 64


class Locality:
    """Knows which chunks a bucket holds, whatever its trees say. Safe to use from several threads.

    Nothing is read before a chunk turned out not to be where its tree says.

    Parameters
    ----------
    store : ObjectStore
    folder : Path, optional
        Where segments are kept on this machine: they never change, so each is fetched once.

    Attributes
    ----------
    remote : callable or None
        Brings chunks from elsewhere: what reads them through from a remote.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self.remote: RemoteChunks | None = None
        self._store = store
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[bytes, Locations] = {}
        self._table: Locations | None = None
        self._present: set[str] = set()

    # ---- segments ---------------------------------------------------------------------------------------------------

    def _load(self, *, again: bool = False) -> Locations:
        with self._lock:
            if self._table is not None and not again:
                return self._table
        listed = list(self._store.list(LOCATIONS)) if self._store.can_list else []
        names = [info.key.rpartition("/")[2] for info in listed]
        ids = [bytes.fromhex(name) for name in names if is_id(name)]
        with self._lock:
            todo = [segment_id for segment_id in ids if segment_id not in self._known]
        found = dict(zip(todo, map_io(self._segment, todo), strict=True))
        with self._lock:
            self._known.update({segment_id: each for segment_id, each in found.items() if each is not None})
            self._table = Locations.concat(list(self._known.values()))
            return self._table

    def _segment(self, segment_id: bytes) -> Locations | None:
        kept = self._folder / segment_id.hex() if self._folder is not None else None
        if kept is not None:
            with contextlib.suppress(OSError, CorruptionError):
                return decode_locations(segment_id, kept.read_bytes())
        try:
            data = self._store.get(location_key(segment_id))
            segment = decode_locations(segment_id, data)
        except (ObjectNotFoundError, CorruptionError) as error:
            # Without it chunks are fetched once more; that is all.
            _log.warning("location segment not used: %s", error)
            return None
        self._keep(kept, data)
        return segment

    def _keep(self, path: Path | None, data: bytes) -> None:
        if path is None:
            return
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def find(self, digests: Sequence[bytes]) -> list[ChunkRef | None]:
        """Return where the segments say that chunks lie; ``None`` for those that they do not name."""
        return self._load().find(digests)

    def record(self, refs: Iterable[ChunkRef]) -> None:
        """Write down where chunks lie: durable when it returns.

        Raises
        ------
        StorageError
        """
        rows = list(refs)
        for start in range(0, len(rows), SEGMENT_ROWS):
            locations = Locations.of(rows[start : start + SEGMENT_ROWS])
            segment_id, data = encode_locations(locations)
            self._store.put_new(location_key(segment_id), data)
            self._keep(self._folder / segment_id.hex() if self._folder is not None else None, data)
            with self._lock:
                self._known[segment_id] = locations
                if self._table is not None:
                    self._table = Locations.concat([self._table, locations])
        self._present.update(ref.key for ref in rows)

    # ---- what is here -----------------------------------------------------------------------------------------------

    def holds(self, refs: Sequence[ChunkRef]) -> list[bool]:
        """Tell of each chunk whether its bytes are in this bucket: where its tree says, or where a segment says."""
        self._look({ref.key for ref in refs})
        answers = [ref.key in self._present for ref in refs]
        rest = [i for i, here in enumerate(answers) if not here]
        if rest:
            places = self.find([refs[i].digest for i in rest])
            self._look({place.key for place in places if place is not None})
            for i, place in zip(rest, places, strict=True):
                answers[i] = place is not None and place.key in self._present
        return answers

    def _look(self, keys: set[str]) -> None:
        unknown = sorted(keys - self._present)
        if len(unknown) >= _LIST_FROM and self._store.can_list:
            self._present.update(info.key for info in self._store.list("packs/"))
        elif unknown:
            there = map_io(self._store.exists, unknown)
            self._present.update(key for key, present in zip(unknown, there, strict=True) if present)

    def lacks(self, entries: Entries) -> npt.NDArray[np.bool_]:
        """Tell of each entry of a tree whether a part of its data is not in this bucket, shape (n,). No data is read."""
        table = entries.table
        committed = np.flatnonzero(table.packs != PENDING).tolist()
        absent = np.zeros(len(table), np.bool_)
        absent[committed] = np.logical_not(self.holds([table.ref(row) for row in committed]))
        before = np.concatenate([[0], np.cumsum(absent)])
        first = entries.rows.astype(np.int64)
        lacking: npt.NDArray[np.bool_] = before[first + entries.spans()] > before[first]
        return lacking

    def count_missing(self, root: NodeRef | None, source: NodeSource) -> tuple[int, int]:
        """Return how many values of a tree have data that is not in this bucket, and how many bytes of chunks these lack."""
        values = size = 0
        seen: set[bytes] = set()
        for leaf in iter_leaves(root, source):
            lacking = self.lacks(leaf.entries)
            if not lacking.any():
                continue
            values += int(lacking.sum())
            wanted = leaf.entries.take(lacking).compact()
            refs = [ref for ref in wanted.table.refs() if ref.digest not in seen]
            size += sum(ref.length for ref, here in zip(refs, self.holds(refs), strict=True) if not here)
            seen.update(ref.digest for ref in refs)
        return values, size

    # ---- reading what is not where its tree says --------------------------------------------------------------------

    def reader_hook(self, *, read_through: bool) -> RemoteChunks:
        """Return what a :class:`ChunkReader` asks for chunks whose object is not in the bucket."""
        return lambda refs: self._read(refs, read_through)

    def _read(self, refs: Sequence[ChunkRef], read_through: bool) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(refs)
        self._read_located(refs, found)
        rest = [i for i, data in enumerate(found) if data is None]
        if rest and not read_through:
            # Another process may have fetched them meanwhile; nobody is asked twice for what costs a round trip only here.
            self._load(again=True)
            self._read_located(refs, found)
            rest = [i for i, data in enumerate(found) if data is None]
            if rest:
                raise DataNotLocalError(
                    f"{refs[rest[0]].key} is not in this clone ({self._store.url}), and read_through is off; "
                    "bring the data here with repo.fetch_data(rev, nodes=[…], keys=[…]) or `hangarlake fetch-data`"
                )
        if rest and self.remote is not None:
            for i, data in zip(rest, self.remote([refs[i] for i in rest]), strict=True):
                found[i] = data
        return found

    def _read_located(self, refs: Sequence[ChunkRef], found: list[bytes | None]) -> None:
        places = self.find([ref.digest for ref in refs])
        # A segment may come from anybody: a chunk of one digest has one length, so another one is not believed.
        located = [
            (i, place)
            for i, place in enumerate(places)
            if place is not None and found[i] is None and place.length == refs[i].length
        ]
        if not located:
            return
        reader = ChunkReader(self._store)
        try:
            data = reader.read_raw([place for _, place in located])
        except ObjectNotFoundError:
            for i, place in located:
                with contextlib.suppress(ObjectNotFoundError):
                    found[i] = reader.read_raw([place])[0]
            return
        for (i, _), each in zip(located, data, strict=True):
            found[i] = each
