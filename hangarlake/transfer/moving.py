"""Moving commits with everything that they need: data packs and tree packs first, catalogs and commits when those are there.

Refs are moved by the callers, last of all. So whatever happens on the way, the target holds what it held before, and some
objects more that a second attempt finds and does not send again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.packs import ChunkRef, pack_key
from hangarlake.chunks.reader import ChunkReader
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.errors import CorruptionError, DataNotLocalError, ObjectNotFoundError, StorageError
from hangarlake.locality import Locality
from hangarlake.records.catalog import Catalog, catalog_key
from hangarlake.records.commits import commit_key
from hangarlake.records.entries import SOLO
from hangarlake.records.graph import Graph, segment_due, write_segment
from hangarlake.records.models import Commit
from hangarlake.records.node import Leaf, tree_pack_key
from hangarlake.transfer.copying import PACKS_AT_ONCE, SMALL_AT_ONCE, Courier, in_parallel, read_catalog, read_object
from hangarlake.transfer.negotiate import boundary, groups
from hangarlake.transfer.survey import Survey, TreeReader, survey

__all__ = ["Repacker", "move_commits"]

# Commits whose trees are walked together, and known ones that they are compared with.
_GROUP = 32
_MOST_KNOWN = 8
_REPACK_BYTES = 16 << 20


def move_commits(
    commits: Sequence[Commit], graph: Graph, courier: Courier, reader: TreeReader, chunks: ChunkReader | None
) -> dict[str, Catalog]:
    """Copy commits, parents first, and everything that they need and the target lacks.

    Parameters
    ----------
    commits : sequence of Commit
        Their parents are among them, or complete at the target.
    graph : Graph
        Knows the commits of both sides.
    courier : Courier
    reader : TreeReader
        Of both sides, the nearer one first.
    chunks : ChunkReader or None
        Reads chunks whose packs the source itself does not have; ``None`` leaves the data where it is.

    Returns
    -------
    dict of str to Catalog
        The catalogs as they now lie at the target, of the last commits.

    Raises
    ------
    CorruptionError
        If something is not what its name says. It has not been written.
    ObjectNotFoundError
        If the source lacks something that its own commits need.
    """
    final: dict[str, Catalog] = {}
    for group in groups(commits, _GROUP):
        final = _Group(group, graph, courier, reader, chunks).move()
    return final


@dataclass(slots=True)
class _Group:
    commits: Sequence[Commit]
    graph: Graph
    courier: Courier
    reader: TreeReader
    chunks: ChunkReader | None

    def move(self) -> dict[str, Catalog]:
        ids = list(dict.fromkeys(commit.catalog for commit in self.commits))
        encoded = dict(zip(ids, in_parallel(self._source_catalog, ids, SMALL_AT_ONCE), strict=True))
        catalogs = {catalog_id: read_catalog(catalog_id, data) for catalog_id, data in encoded.items()}
        known = self._known()
        found = survey(catalogs.values(), known, self.reader, on_packs=self._bring_trees)
        self._bring_data(found, catalogs.values(), known)
        keys = [catalog_key(catalog_id) for catalog_id in ids]
        records = {commit_key(key): data for key, data in self.graph.records(c.id for c in self.commits).items()}
        # Catalogs and commits are written when everything else is there: where nothing of that was, these are absent too.
        again = self.courier.met or not (found.trees or found.data)
        absent = set(self.courier.absent([*keys, *records])) if again else {*keys, *records}
        small = [(catalog_key(i), encoded[i]) for i in ids if catalog_key(i) in absent]
        small += [(key, data) for key, data in records.items() if key in absent]
        created = in_parallel(lambda item: self.courier.write(*item), small, SMALL_AT_ONCE)
        ours = {key for (key, _), made in zip(small, created, strict=True) if made}
        for catalog_id in ids:
            if catalog_key(catalog_id) not in ours:
                catalogs[catalog_id] = self._settle(catalog_id, encoded[catalog_id], catalogs[catalog_id], known)
        if not self.courier.dry:
            for commit in self.commits:
                if segment_due(commit):
                    with contextlib.suppress(OSError):  # a segment saves requests; nothing needs it
                        write_segment(self.courier.target, self.graph, commit)
        return catalogs

    def _source_catalog(self, catalog_id: str) -> bytes:
        return read_object(self.courier.source, catalog_key(catalog_id))

    def _known(self) -> list[Catalog]:
        """Return what the target holds next to these commits: its own catalogs, for they say where things lie there."""
        known = []
        for commit in self.graph.commits(boundary(self.commits, _MOST_KNOWN)):
            key = catalog_key(commit.catalog)
            for store in (self.courier.target, *([self.courier.source] if self.courier.dry else [])):
                with contextlib.suppress(ObjectNotFoundError):
                    known.append(read_catalog(commit.catalog, read_object(store, key)))
                    break
        return known

    def _bring_trees(self, packs: set[bytes]) -> None:
        def keep(key: str, data: bytes) -> None:
            self.reader.keep(bytes.fromhex(key.rpartition("/")[2]), data)

        wanted = self.courier.absent(sorted(tree_pack_key(pack) for pack in packs))
        lost = self.courier.carry(wanted, PACKS_AT_ONCE, keep)
        if lost:
            raise ObjectNotFoundError(
                f"{lost[0]} is missing from {self.courier.source.url}; run verify there. Nothing was moved"
            )

    def _bring_data(self, found: Survey, catalogs: Iterable[Catalog], known: list[Catalog]) -> None:
        if self.chunks is None:
            return
        wanted = self.courier.absent(sorted(found.data))
        lost = set(self.courier.carry(wanted, PACKS_AT_ONCE, lengths=found.lengths))
        if not lost:
            return
        # The source is a partial clone: what it lacks is taken chunk by chunk from where it is.
        with Repacker(self.chunks, self.courier) as repacker:
            survey(catalogs, known, self.reader, on_leaf=lambda leaf: repacker.add_leaf(leaf, lost))

    def _settle(self, catalog_id: str, data: bytes, catalog: Catalog, known: list[Catalog]) -> Catalog:
        """Decide between two physical parts of one catalog: the target's own stays if it is complete (format §8)."""
        key = catalog_key(catalog_id)
        present = read_object(self.courier.target, key)
        if present == data:
            return catalog
        try:
            theirs = read_catalog(catalog_id, present)
            survey([theirs], known, TreeReader(self.courier.target))
        except (CorruptionError, StorageError):
            self.courier.write(key, data, overwrite=True)
            return catalog
        return theirs


class Repacker:
    """Takes chunks from wherever they are, packs them for a target, and writes down there where they lie."""

    def __init__(self, chunks: ChunkReader, courier: Courier) -> None:
        self._chunks = chunks
        self._courier = courier
        self._uploader = ChunkUploader(courier.target)
        self._waiting: dict[bytes, tuple[ChunkRef, int, str]] = {}
        self._bytes = 0
        self._done: dict[bytes, ChunkRef] = {}
        self.chunks = 0
        self.bytes = 0

    def knows(self, ref: ChunkRef) -> bool:
        """Tell whether a chunk was taken already."""
        return ref.digest in self._done or ref.digest in self._waiting

    def add(self, ref: ChunkRef, items: int, encoding: str) -> None:
        """Take one chunk; equal ones are taken once."""
        if self.knows(ref):
            return
        self._waiting[ref.digest] = (ref, items, encoding)
        self._bytes += ref.length
        self.chunks += 1
        self.bytes += ref.length
        if self._bytes >= _REPACK_BYTES:
            self._read()

    def add_leaf(self, leaf: Leaf, keys: set[str]) -> None:
        """Take the chunks of a leaf that lie in any of some objects."""
        table = leaf.entries.table
        for row in rows_in(leaf, keys):
            self.add(table.ref(row), int(table.items[row]), table.encodings[int(table.encoding[row])])

    def _read(self) -> None:
        waiting, self._waiting, self._bytes = list(self._waiting.values()), {}, 0
        if self._courier.dry:
            for ref, _, _ in waiting:
                self._done[ref.digest] = ref
                self._courier.progress.sent(ref.length, 0)
            return
        try:
            data = self._chunks.read_raw([ref for ref, _, _ in waiting])
        except ObjectNotFoundError as error:
            raise DataNotLocalError(
                f"{error}; that place is a partial clone itself: bring the data there first (fetch_data), or take it from where it is"
            ) from error
        for (ref, items, encoding), raw in zip(waiting, data, strict=True):
            self._uploader.add(ref.digest, raw, items, Encoding.from_json(encoding))
            self._done[ref.digest] = ref
            self._courier.progress.sent(len(raw), 0)

    def finish(self, locality: Locality | None = None) -> None:
        """Make everything durable: first the packs, then the record of where they lie."""
        self._read()
        if self._courier.dry or not self._done:
            return
        self._uploader.flush()
        places = self._uploader.places
        self._courier.progress.sent(0, len({place.key for place in places.values()}))
        moved = [places[digest] for digest, ref in self._done.items() if places[digest] != ref]
        if moved:
            (locality or Locality(self._courier.target)).record(moved)

    def __enter__(self) -> Repacker:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()


def rows_in(leaf: Leaf, keys: set[str]) -> list[int]:
    """Return the rows of a leaf's chunk table that lie in any of some objects."""
    table = leaf.entries.table
    codes = [code for code, pack in enumerate(table.pack_ids) if pack_key(pack) in keys]
    rows: list[int] = np.flatnonzero(np.isin(table.packs, codes)).tolist()
    solo = np.flatnonzero(table.packs == SOLO).tolist()
    return rows + [row for row in solo if pack_key(table.digests[row].tobytes()) in keys]
